"""From options to a run that is ready to start: checks, resolved sizes, `run.json`, plan."""

import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import PurePath
from typing import Any

import segmodel
from pipelines import plan, storage
from pipelines.formats.interface import Estimate, Work
from pipelines.inputs import Inputs, estimate, find_inputs, units_of
from pipelines.options import SegmentOptions
from pipelines.reconcile import reconcile
from pipelines.run_directory import MARK, RunDirectory, check_unchanged, digest
from segmodel.contract import Contract
from segmodel.errors import ConfigurationError
from segmodel.model_folder import fingerprint, read_contract
from segmodel.windows import Layout

# What prediction may take of a worker's memory when --window is left to us.
MODEL_MEMORY_BYTES = 2 << 30
ASSUMED_BYTES_PER_PIXEL = 1024
WINDOWS_PX = (2048, 1024, 512, 256)
VERSIONED = ("apache-beam", "numpy", "pillow", "pyproj", "rasterio", "tensorflow")


@dataclass(frozen=True)
class Launch:
    """A run that is ready to start.

    Args:
        work: What all units have in common.
        parts: Names of the plan parts with work units.
        units: Number of units with work.
        estimate: Of the work.
        left_aside: Number of files that no format claims.
    """

    work: Work
    parts: tuple[str, ...]
    units: int
    estimate: Estimate
    left_aside: int


def resolve_layout(options: SegmentOptions, contract: Contract) -> Layout:
    """Sizes of windows: as asked for, else as large as memory allows.

    Raises:
        ConfigurationError: If the sizes cannot be carried out.
    """
    batch = options.batch or 1
    if options.window is not None:
        layout = contract.layout(options.window, options.halo, batch)
        if layout.window_px != options.window:
            raise ConfigurationError(
                f"--window {options.window}: the model's window is fixed at "
                f"{contract.fixed_window} pixels, of which {layout.window_px} are kept: leave "
                f"--window out"
            )
        return layout
    per_pixel = contract.bytes_per_pixel or ASSUMED_BYTES_PER_PIXEL
    for side in WINDOWS_PX:
        core = max(side // contract.stride, 1) * contract.stride
        layout = contract.layout(core, options.halo, batch)
        if layout.read_px**2 * batch * per_pixel <= MODEL_MEMORY_BYTES:
            break
    return layout


def model_memory_bytes(layout: Layout, contract: Contract) -> int:
    """What prediction of one full batch takes, by the contract's measurement."""
    per_pixel = contract.bytes_per_pixel or ASSUMED_BYTES_PER_PIXEL
    return layout.read_px**2 * layout.batch * per_pixel


@dataclass(frozen=True)
class Checked:
    """A run that can be carried out, before anything is written.

    Args:
        options: Of the user.
        run: The run directory.
        earlier: Its `run.json`, if it is continued.
        contract: Of the model.
        layout: Sizes of windows.
        inputs: Input files by format.
        folders: Folders of input roots.
        fingerprint: Of the SavedModel.
    """

    options: SegmentOptions
    run: RunDirectory
    earlier: dict[str, Any] | None
    contract: Contract
    layout: Layout
    inputs: Inputs
    folders: dict[str, str]
    fingerprint: str

    @property
    def labels(self) -> dict[str, Any]:
        """What shapes labels."""
        return {
            "model_fingerprint": self.fingerprint,
            "window_px": self.layout.window_px,
            "halo_px": self.layout.halo_px,
            "batch": self.layout.batch,
            "confidence": self.options.confidence,
        }

    @property
    def statistics(self) -> dict[str, Any]:
        """What shapes statistics and not labels."""
        return {"pixel_size_m": self.options.pixel_size}


def check(options: SegmentOptions) -> Checked:
    """Check everything that can be checked before anything is written or loaded.

    Raises:
        ConfigurationError: If options, inputs or the run directory do not allow the run.
        ContractError: If the model was not made for an input.
    """
    contract = read_contract(storage.check_local(options.model))
    layout = resolve_layout(options, contract)
    run = RunDirectory(storage.check_local(options.output))
    earlier = run.earlier()
    if options.overwrite:
        earlier = None
    folders = plan.root_folders(options.inputs, (earlier or {}).get("folders"))
    checked = Checked(
        options=options,
        run=run,
        earlier=earlier,
        contract=contract,
        layout=layout,
        inputs=find_inputs(options, contract, folders),
        folders=folders,
        fingerprint=fingerprint(options.model),
    )
    if earlier is not None:
        check_unchanged(earlier, checked.labels, options.output)
        if options.limit is not None and earlier["options"]["limit"] is None:
            raise ConfigurationError(
                f"--limit: {options.output} holds a whole run, of which a look would leave a part; "
                f"name another --output"
            )
    return checked


def prepare(checked: Checked) -> Launch:
    """Write `run.json` and the plan, and make what earlier attempts left agree with it."""
    options, run, inputs = checked.options, checked.run, checked.inputs
    if options.overwrite and run.earlier() is not None:
        run.clear()
    work = Work(
        run=run,
        model=options.model,
        fingerprint=checked.fingerprint,
        contract=checked.contract,
        layout=checked.layout,
        options=digest({"labels": checked.labels, "statistics": checked.statistics}),
        confidence=options.confidence,
        pixel_size_m=options.pixel_size,
        groups=(checked.earlier or {}).get("groups") or plan.image_groups(inputs.grouped_files),
        trust_model=options.trust_model,
        provenance=_provenance(checked),
    )
    run.begin()
    run.write_json("run.json", _run_document(checked, work))
    parts = plan.write_plan(units_of(inputs, work), run.plan, run.scratch)
    reconcile(work, options.retry_failures)
    return Launch(
        work=work,
        parts=tuple(parts),
        units=sum(1 for _ in plan.read_units(run.plan, "part")),
        estimate=estimate(inputs, checked.layout),
        left_aside=len(inputs.left_aside),
    )


def _run_document(checked: Checked, work: Work) -> dict[str, object]:
    options = checked.options
    policy = {"max_failures": str(options.max_failures)}
    return MARK | {
        "options": {
            "input": list(options.inputs),
            "model": PurePath(options.model).name,
            "limit": options.limit,
        },
        "labels": checked.labels,
        "statistics": checked.statistics,
        "policy": policy,
        "digests": {
            "labels": digest(checked.labels),
            "statistics": digest(checked.statistics),
            "policy": digest(policy),
        },
        "folders": checked.folders,
        "groups": work.groups,
        "model": checked.contract.to_json(),
        "versions": package_versions(),
    }


def _provenance(checked: Checked) -> tuple[tuple[str, str], ...]:
    versions = package_versions()
    return (
        ("BEAMSEG_VERSION", segmodel.__version__),
        ("BEAMSEG_TENSORFLOW_VERSION", versions["tensorflow"]),
        ("BEAMSEG_MODEL", checked.contract.name),
        ("BEAMSEG_MODEL_FINGERPRINT", checked.fingerprint),
        ("BEAMSEG_LABEL_DIGEST", digest(checked.labels)),
    )


def package_versions() -> dict[str, str]:
    """Versions of what shapes a run."""
    found = {"beamseg": segmodel.__version__, "python": platform.python_version()}
    for name in VERSIONED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found

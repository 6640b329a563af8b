"""From options to a run that is ready to start: checks, resolved sizes, `run.json`, plan."""

import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import PurePath

import segmodel
from pipelines import formats, plan, storage
from pipelines.commits import CommitLog
from pipelines.formats.interface import Estimate, Format, Work
from pipelines.options import SegmentOptions
from pipelines.plan import InputFile, Unit
from pipelines.run_directory import RunDirectory, check_unchanged, digest
from pipelines.scene_assembly import scene_blocks
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
class Inputs:
    """Input files by format.

    Args:
        files: Files of each format, in order of formats.
        left_aside: Files that no format claims.
        records: Most images to read from a shard, by key, where the run is limited.
        image_files: Number of image files, however the run is limited.
    """

    files: tuple[tuple[Format, tuple[InputFile, ...]], ...]
    left_aside: tuple[InputFile, ...]
    records: tuple[tuple[str, int], ...] = ()
    image_files: int = 0

    @property
    def every(self) -> list[InputFile]:
        """All files that will be read."""
        return [file for _, files in self.files for file in files]


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


def find_inputs(options: SegmentOptions, contract: Contract) -> Inputs:
    """List, sort by format and check the input files.

    Raises:
        ConfigurationError: If a pattern matches nothing, or nothing that can be read.
        ContractError: If the model was not made for an input.
    """
    claimed: dict[str, list[InputFile]] = {entry.name: [] for entry in formats.FORMATS}
    left_aside: list[InputFile] = []
    for file in plan.find_inputs(options.inputs, options.output):
        owner = next((entry for entry in formats.FORMATS if entry.claims(file)), None)
        (claimed[owner.name] if owner else left_aside).append(file)
    inputs = Inputs(
        tuple((entry, tuple(claimed[entry.name])) for entry in formats.FORMATS),
        tuple(left_aside),
        image_files=len(claimed["images"]),
    )
    if not inputs.every:
        raise ConfigurationError(
            f"--input {' '.join(options.inputs)} matches {len(left_aside)} files, none of them an "
            f"image (.jpg .png .webp .tif) or a TFRecord shard"
        )
    if options.limit is not None:
        inputs = _limited(inputs, options.limit)
    for entry, files in inputs.files:
        if files:
            entry.check(files, contract)
    return inputs


def _limited(inputs: Inputs, limit: int) -> Inputs:
    """The first images only: in order of formats, files and records."""
    kept, records, left = [], [], limit
    for entry, files in inputs.files:
        chosen = []
        for file in files:
            if left <= 0:
                break
            count = entry.count(file, left)
            chosen.append(file)
            records.append((file.key, count))
            left -= count
        kept.append((entry, tuple(chosen)))
    return replace(inputs, files=tuple(kept), records=tuple(records))


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


def units_of(inputs: Inputs, work: Work) -> Iterator[Unit]:
    """Work units of all inputs."""
    records = dict(inputs.records)
    for entry, files in inputs.files:
        if not records:
            yield from entry.units(files, work, None)
            continue
        for count in sorted({records[file.key] for file in files}):
            chosen = [file for file in files if records[file.key] == count]
            yield from entry.units(chosen, work, count)


def estimate(inputs: Inputs, layout: Layout) -> Estimate:
    """Images, pixels and windows of all inputs."""
    parts = [entry.estimate(files, layout) for entry, files in inputs.files if files]
    return Estimate(
        images=sum(part.images for part in parts),
        pixels=sum(part.pixels for part in parts),
        windows=sum(part.windows for part in parts),
        exact=all(part.exact for part in parts),
    )


def prepare(options: SegmentOptions) -> Launch:
    """Check everything, then write `run.json` and the plan.

    Raises:
        ConfigurationError: If options, inputs or the run directory do not allow the run.
        ContractError: If the model was not made for an input.
    """
    storage.check_local(options.model)
    run = RunDirectory(storage.check_local(options.output))
    contract = read_contract(options.model)
    layout = resolve_layout(options, contract)
    inputs = find_inputs(options, contract)
    model_fingerprint = fingerprint(options.model)
    labels = {
        "model_fingerprint": model_fingerprint,
        "window_px": layout.window_px,
        "halo_px": layout.halo_px,
        "batch": layout.batch,
        "confidence": options.confidence,
    }
    earlier = run.prepare(options.overwrite)
    if earlier is not None:
        check_unchanged(earlier, labels, options.output)
    groups = (earlier or {}).get("image_groups") or plan.image_groups(inputs.image_files)
    statistics = {"pixel_size_m": options.pixel_size}
    work = Work(
        run=run,
        model=options.model,
        fingerprint=model_fingerprint,
        contract=contract,
        layout=layout,
        options=digest({"labels": labels, "statistics": statistics}),
        confidence=options.confidence,
        pixel_size_m=options.pixel_size,
        image_groups=groups,
        trust_model=options.trust_model,
        provenance=_provenance(contract, model_fingerprint, labels),
    )
    storage.remove(run.path("_SUCCESS"))
    run.write_json("run.json", _run_document(options, work, labels, statistics))
    units = list(units_of(inputs, work))
    parts = plan.write_plan(units, run.plan, run.scratch)
    if options.retry_failures:
        _forget_failures(units, work)
    return Launch(
        work=work,
        parts=tuple(parts),
        units=sum(1 for unit in units if not unit.blocks),
        estimate=estimate(inputs, layout),
        left_aside=len(inputs.left_aside),
    )


def _forget_failures(units: Sequence[Unit], work: Work) -> None:
    """Have units done again in which an image failed; of a finished scene, every block."""
    log = CommitLog(work.run.root, work.options)
    for unit in units:
        commit = log.read(unit)
        if commit is not None and commit.tally.failed_images:
            log.forget(unit)
            for block in scene_blocks(unit, work) if unit.blocks else ():
                log.forget(block)


def _run_document(
    options: SegmentOptions, work: Work, labels: dict, statistics: dict
) -> dict[str, object]:
    policy = {"max_failures": str(options.max_failures)}
    return {
        "options": {
            "input": list(options.inputs),
            "model": PurePath(options.model).name,
            "limit": options.limit,
        },
        "labels": labels,
        "statistics": statistics,
        "policy": policy,
        "digests": {
            "labels": digest(labels),
            "statistics": digest(statistics),
            "policy": digest(policy),
        },
        "image_groups": work.image_groups,
        "model": work.contract.to_json(),
        "versions": package_versions(),
    }


def _provenance(
    contract: Contract, model_fingerprint: str, labels: dict
) -> tuple[tuple[str, str], ...]:
    return (
        ("BEAMSEG_VERSION", segmodel.__version__),
        ("BEAMSEG_MODEL", contract.name),
        ("BEAMSEG_MODEL_FINGERPRINT", model_fingerprint),
        ("BEAMSEG_LABEL_DIGEST", digest(labels)),
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

"""From options to a run that is ready to start: checks, resolved sizes, `run.json`, plan."""

import platform
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import PurePath
from typing import Any

import segmodel
from pipelines.formats.interface import Estimate
from pipelines.formats.work import Counting, PlanContext, Work
from pipelines.geodesy.polygons import Polygons
from pipelines.inputs.find import root_folders
from pipelines.run import plan, progress
from pipelines.run.directory import MARK, RunDirectory, check_unchanged
from pipelines.run.polygons import AOI, ZONES, store
from pipelines.scenes.overlaps import Overlaps, overlaps_of
from pipelines.segment.inputs import Inputs, check_scene_options, estimate, find_inputs, units_of
from pipelines.segment.options import SegmentOptions
from pipelines.segment.polygons import read_aoi, read_zones
from pipelines.segment.reconcile import reconcile, remove_leftovers
from pipelines.segment.sizes import Sizes, resolve_sizes
from pipelines.storage import locations
from pipelines.storage.copies import contract_of, local_model
from pipelines.storage.digests import digest
from segmodel.errors import ConfigurationError
from segmodel.savedmodel.folder import fingerprint

VERSIONED = (
    "apache-beam",
    "numpy",
    "pillow",
    "pyarrow",
    "pyproj",
    "rasterio",
    "simplejpeg",
    "tensorflow",
)


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


@dataclass(frozen=True)
class Checked:
    """A run that can be carried out, before anything is written.

    Args:
        options: Of the user.
        run: The run directory.
        earlier: Its `run.json`, if it is continued.
        context: What input files were checked by.
        sizes: Of windows and images.
        inputs: Input files by format.
        folders: Folders of input roots.
        fingerprint: Of the SavedModel.
        aoi: Area of interest, or None.
        zones: Zones of the tables, or None.
        overlaps: How far scenes show the same ground, or None if there are none.
    """

    options: SegmentOptions
    run: RunDirectory
    earlier: dict[str, Any] | None
    context: PlanContext
    sizes: Sizes
    inputs: Inputs
    folders: dict[str, str]
    fingerprint: str
    aoi: Polygons | None = None
    zones: Polygons | None = None
    overlaps: Overlaps | None = None

    @property
    def labels(self) -> dict[str, Any]:
        """What shapes labels."""
        return {
            "model_fingerprint": self.fingerprint,
            "window_px": self.sizes.layout.window_px,
            "halo_px": self.sizes.layout.halo_px,
            "batch": self.sizes.layout.batch,
            "confidence": self.options.confidence,
            **self.sizes.reading.to_json(),
        }

    @property
    def statistics(self) -> dict[str, Any]:
        """What shapes statistics and not labels."""
        return {"pixel_size_m": self.options.pixel_size, "check_seams": self.options.check_seams}

    @property
    def counting(self) -> Counting | None:
        """What finished scenes are counted for, if for anything."""
        zones = None if self.zones is None else self.zones.digest
        if zones is None and self.options.overlap is None:
            return None
        return Counting(zones, self.options.overlap)


def check(options: SegmentOptions) -> Checked:
    """Check everything that can be checked before anything is written or loaded.

    Raises:
        ConfigurationError: If options, inputs or the run directory do not allow the run.
        ContractError: If the model was not made for an input.
    """
    contract = contract_of(options.model)
    run = RunDirectory(locations.checked(options.output))
    earlier = run.earlier()
    if options.overwrite:
        earlier = None
    found = fingerprint(local_model(options.model))
    begun = (earlier or {}).get("labels", {})
    same = (begun.get("model_fingerprint"), begun.get("confidence")) == (found, options.confidence)
    frozen = begun if same else None
    aoi = read_aoi(options)
    sizes = resolve_sizes(options, contract, frozen).of_area(aoi)
    folders = root_folders(options.inputs, (earlier or {}).get("folders"))
    context = PlanContext(contract=contract, layout=sizes.layout, reading=sizes.reading)
    inputs = find_inputs(options, context, folders)
    check_scene_options(options, context, inputs)
    scenes = inputs.of_format("scene")
    if scenes:
        sizes.check_scenes(options.memory)
    checked = Checked(
        options=options,
        run=run,
        earlier=earlier,
        context=context,
        sizes=sizes,
        inputs=inputs,
        folders=folders,
        fingerprint=found,
        aoi=aoi,
        zones=read_zones(options),
        overlaps=overlaps_of(scenes, context.headers) if scenes else None,
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
        contract=checked.context.contract,
        layout=checked.context.layout,
        options=digest({"labels": checked.labels, "statistics": checked.statistics}),
        confidence=options.confidence,
        pixel_size_m=options.pixel_size,
        reading=checked.context.reading,
        headers=checked.context.headers,
        limits=checked.sizes.limits,
        groups=(checked.earlier or {}).get("groups") or plan.image_groups(inputs.grouped_files),
        trust_model=options.trust_model,
        check_seams=options.check_seams,
        counting=checked.counting,
        provenance=_provenance(checked),
    )
    run.begin()
    run.write_json("run.json", _run_document(checked, work))
    store(run, AOI, checked.aoi)
    store(run, ZONES, checked.zones)
    remove_leftovers(work, lambda: units_of(inputs, work))
    planned = progress.with_progress(units_of(inputs, work), "planned {:,} units")
    parts = plan.write_plan(planned, run.plan, run.scratch)
    reconcile(work, options.retry_failures)
    return Launch(
        work=work,
        parts=tuple(parts),
        units=plan.count_units(run.plan, parts),
        estimate=estimate(inputs, work),
        left_aside=inputs.left_aside,
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
        "counting": None if checked.counting is None else asdict(checked.counting),
        "overlaps": None if checked.overlaps is None else asdict(checked.overlaps),
        "folders": checked.folders,
        "groups": work.groups,
        "model": checked.context.contract.to_json(),
        "versions": package_versions(),
    }


def _provenance(checked: Checked) -> tuple[tuple[str, str], ...]:
    versions = package_versions()
    return (
        ("BEAMSEG_VERSION", segmodel.__version__),
        ("BEAMSEG_TENSORFLOW_VERSION", versions["tensorflow"]),
        ("BEAMSEG_MODEL", checked.context.contract.name),
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

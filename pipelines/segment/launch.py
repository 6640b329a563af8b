"""From options to a run that is ready to start: checks, resolved sizes, `run.json`, plan."""

import platform
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import PurePath
from typing import Any

import segmodel
from pipelines.formats.interface import Estimate
from pipelines.formats.work import MAX_OUT_OF_RANGE, Counting, PlanContext, Work
from pipelines.geodesy.polygons import Polygons
from pipelines.geodesy.vector_files import read_polygons
from pipelines.inputs.catalogue import NameSet
from pipelines.inputs.find import root_folders
from pipelines.inputs.gone import STOP, check_gone, files_of, find_gone
from pipelines.run import plan, progress
from pipelines.run.directory import MARK, RunDirectory, check_unchanged
from pipelines.run.plan import WorkUnit
from pipelines.run.polygons import AOI, ZONES, store
from pipelines.scenes.overlaps import Overlaps, overlaps_of
from pipelines.segment.inputs import Inputs, check_scene_options, estimate, find_inputs, units_of
from pipelines.segment.options import SegmentOptions
from pipelines.segment.reconcile import reconcile, remove_leftovers
from pipelines.segment.sizes import Sizes, resolve_sizes
from pipelines.storage import filesystem, locations
from pipelines.storage.copies import OpenedModel, open_model
from pipelines.storage.digests import digest
from segmodel.errors import ConfigurationError

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
class ResolvedRun:
    """A run that can be carried out: every size and default is known, and nothing is written yet.

    Args:
        options: What the user asked for.
        run: The run directory.
        model: The model, on this machine.
        context: Contract, layout and read options by which inputs are checked and planned.
        sizes: Sizes of windows and images.
        inputs: Input files by format.
        folders: Folder of each input root in the run directory.
        aoi: Area of interest, or None.
        zones: Zones of the tables, or None.
        overlaps: How far scenes show the same ground, or None if there are no scenes.
        gone: Keys of inputs of the plan on disk that are not found any more.
    """

    options: SegmentOptions
    run: RunDirectory
    model: OpenedModel
    context: PlanContext
    sizes: Sizes
    inputs: Inputs
    folders: dict[str, str]
    aoi: Polygons | None
    zones: Polygons | None
    overlaps: Overlaps | None
    gone: NameSet

    @property
    def labels(self) -> dict[str, Any]:
        """What shapes labels, as in `run.json`."""
        return {
            "model_fingerprint": self.model.fingerprint,
            "window_px": self.context.layout.window_px,
            "halo_px": self.context.layout.halo_px,
            "batch": self.context.layout.batch,
            "confidence": self.options.confidence,
            **self.context.reading.to_json(),
        }

    @property
    def statistics(self) -> dict[str, Any]:
        """What shapes statistics and not labels, as in `run.json`."""
        return {"pixel_size_m": self.options.pixel_size, "check_seams": self.options.check_seams}

    @property
    def work(self) -> Work:
        """Work that all units of the run share."""
        options = self.options
        return Work(
            **vars(self.context),
            run=self.run,
            model=options.model,
            fingerprint=self.model.fingerprint,
            options=digest({"labels": self.labels, "statistics": self.statistics}),
            confidence=options.confidence,
            pixel_size_m=options.pixel_size,
            limits=self.sizes.limits,
            trust_model=options.trust_model,
            check_seams=options.check_seams,
            max_out_of_range=options.max_out_of_range,
            provenance=(
                ("BEAMSEG_VERSION", segmodel.__version__),
                ("BEAMSEG_TENSORFLOW_VERSION", _package_versions()["tensorflow"]),
                ("BEAMSEG_MODEL", self.model.contract.name),
                ("BEAMSEG_MODEL_FINGERPRINT", self.model.fingerprint),
                ("BEAMSEG_LABEL_DIGEST", digest(self.labels)),
            ),
        )


@dataclass(frozen=True)
class PreparedRun:
    """A run whose plan is written.

    Args:
        work: Work that all units share.
        parts: Names of the plan parts with work units.
        units: Number of work units.
        estimate: How much work they are.
    """

    work: Work
    parts: tuple[str, ...]
    units: int
    estimate: Estimate


def check_run(options: SegmentOptions) -> ResolvedRun:
    """Check everything that can be checked before anything is written or loaded.

    Returns:
        The run, which continues the one that the run directory holds, if any.

    Raises:
        ConfigurationError: If options, inputs or the run directory do not allow the run.
        ContractError: If the model was not made for an input.
    """
    run = RunDirectory(locations.checked(options.output))
    earlier = run.earlier()
    if options.overwrite:
        earlier = None
    resolved = resolve_run(options, run, earlier)
    if earlier is not None:
        check_unchanged(earlier, resolved.labels, options.output)
        if options.limit is not None and earlier["options"]["limit"] is None:
            raise ConfigurationError(
                f"--limit: {options.output} holds a whole run, and a limited one would keep a part "
                f"of it only; name another --output"
            )
        if options.gone == STOP:
            remedy = "to remove their results, give --gone prune"
            check_gone(resolved.gone, options.output, "--input", remedy)
    return resolved


def resolve_run(
    options: SegmentOptions, run: RunDirectory, earlier: dict[str, Any] | None = None
) -> ResolvedRun:
    """Find inputs, sizes and polygons of a run; reads the model contract, and no model.

    Args:
        options: What the user asked for.
        run: The run directory.
        earlier: The `run.json` of the run that is continued, or None.

    Returns:
        The run with all of its values.

    Raises:
        ConfigurationError: If options or inputs do not allow the run.
        ContractError: If the model was not made for an input.
    """
    model = open_model(options.model)
    contract = model.contract
    frozen = (earlier or {}).get("labels", {})
    shaping = (frozen.get("model_fingerprint"), frozen.get("confidence"))
    if shaping != (model.fingerprint, options.confidence):
        frozen = None
    aoi = None if options.aoi is None else read_polygons(options.aoi, "--aoi")
    sizes = resolve_sizes(options, contract, frozen).with_aoi(aoi)
    folders = root_folders(options.inputs, (earlier or {}).get("folders"))
    context = PlanContext(contract=contract, layout=sizes.layout, reading=sizes.reading)
    inputs = find_inputs(options, context, folders)
    check_scene_options(options, context, inputs)
    scenes = inputs.of_format("scene")
    if scenes:
        sizes.check_scenes(options.memory)
    zones = None
    if options.zones is not None:
        zones = read_polygons(options.zones, "--zones", options.zone_field)
    counting = None
    if zones is not None or options.overlap is not None:
        counting = Counting(None if zones is None else zones.digest, options.overlap)
    groups = (earlier or {}).get("groups") or plan.image_groups(inputs.grouped_files)
    return ResolvedRun(
        options=options,
        run=run,
        model=model,
        context=replace(context, groups=groups, counting=counting),
        sizes=sizes,
        inputs=inputs,
        folders=folders,
        aoi=aoi,
        zones=zones,
        overlaps=overlaps_of(scenes, context.headers) if scenes else None,
        gone=NameSet() if earlier is None else _gone_inputs(run, inputs),
    )


def _gone_inputs(run: RunDirectory, inputs: Inputs) -> NameSet:
    """Keys of inputs of the plan on disk that are not found; none while nothing is finished."""
    if next(filesystem.names_below(run.path("commits")), None) is None:
        return NameSet()
    return find_gone(lambda: files_of(plan.read_units(run.plan, WorkUnit)), lambda: inputs.every)


def prepare_run(resolved: ResolvedRun) -> PreparedRun:
    """Write `run.json` and the plan, and make what earlier attempts left agree with it."""
    options, run, inputs = resolved.options, resolved.run, resolved.inputs
    if options.overwrite and run.earlier() is not None:
        run.clear()
    work = resolved.work
    run.begin()
    run.write_json("run.json", _run_document(resolved, work))
    store(run, AOI, resolved.aoi)
    store(run, ZONES, resolved.zones)
    remove_leftovers(work, lambda: units_of(inputs, work))
    planned = progress.with_progress(units_of(inputs, work), "planned {:,} units")
    parts = plan.write_plan(planned, run.plan, run.scratch)
    reconcile(work, options.retry_failures)
    units = plan.count_units(run.plan, parts)
    return PreparedRun(work, tuple(parts), units, estimate(inputs, work))


def _run_document(resolved: ResolvedRun, work: Work) -> dict[str, object]:
    options, inputs = resolved.options, resolved.inputs
    policy = {"max_failures": str(options.max_failures)}
    if options.max_out_of_range != MAX_OUT_OF_RANGE:
        policy["max_out_of_range"] = str(options.max_out_of_range)
    sections = {"labels": resolved.labels, "statistics": resolved.statistics, "policy": policy}
    return MARK | {
        "options": {
            "input": list(options.inputs),
            "model": PurePath(options.model).name,
            "limit": options.limit,
        },
        **sections,
        "digests": {name: digest(section) for name, section in sections.items()},
        "counting": None if work.counting is None else asdict(work.counting),
        "overlaps": None if resolved.overlaps is None else asdict(resolved.overlaps),
        "left_aside": resolved.inputs.left_aside.to_json(),
        "folders": resolved.folders,
        "groups": work.groups,
        "missing_shards": inputs.missing.to_json() if inputs.missing else None,
        "model": resolved.model.contract.to_json(),
        "versions": _package_versions(),
    }


def _package_versions() -> dict[str, str]:
    """Versions of what shapes a run."""
    found = {"beamseg": segmodel.__version__, "python": platform.python_version()}
    for name in VERSIONED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found

"""From options to a run that is ready to start: checks, resolved sizes, `run.json`, plan."""

import platform
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from itertools import chain, islice
from pathlib import PurePath
from typing import Any

import segmodel
from pipelines.formats.interface import Estimate
from pipelines.formats.work import MAX_OUT_OF_RANGE, Counting, PlanContext, Work
from pipelines.geodesy.polygons import Polygons
from pipelines.geodesy.vector_files import read_polygons, read_zones
from pipelines.inputs.catalogue import NameSet
from pipelines.inputs.find import root_folders
from pipelines.inputs.gone import (
    KEEP,
    PRUNE,
    STOP,
    EarlierPlan,
    check_gone,
    files_of,
    find_gone,
    some_of,
)
from pipelines.rasters.header import Headers, parse_crs
from pipelines.rasters.reach import Reach, check_vectors
from pipelines.run import plan, progress
from pipelines.run.directory import (
    MARK,
    RUN_JSON,
    SEALED,
    RunDirectory,
    changed_options,
    check_unchanged,
)
from pipelines.run.plan import SCENE, AssemblyUnit, InputFile, Unit, WorkUnit
from pipelines.run.polygons import AOI, SOFT_ZONES, ZONES, store
from pipelines.scenes.overlaps import Overlaps, overlaps_of
from pipelines.scenes.touching import check_touching
from pipelines.segment.inputs import (
    Inputs,
    check_scene_options,
    estimate,
    find_inputs,
    scenes_of,
    units_of,
)
from pipelines.segment.kept import KeptUnits, is_as_planned, kept_units, take_apart, was_opened
from pipelines.segment.options import SegmentOptions
from pipelines.segment.reconcile import (
    check_names,
    reconcile,
    reconcile_counts,
    remove_leftovers,
)
from pipelines.segment.room import Room
from pipelines.segment.sizes import Sizes, resolve_sizes
from pipelines.segment.unusable import forbidden, unusable
from pipelines.storage import filesystem, locations
from pipelines.storage.copies import OpenedModel, open_model
from pipelines.storage.digests import digest
from segmodel.devices.compute import FLOAT32
from segmodel.errors import ConfigurationError
from segmodel.savedmodel.contract import Contract

# In `run.json`: whether world files and .aux.xml make scenes of images.
SIDECARS = "sidecars"
# In `run.json`: what the network computes in; runs of releases that left it to TensorFlow lack it.
COMPUTE = "compute"
# Options that shape labels and stand in entry `labels` of `run.json` only where they are given.
LATER_OPTIONS = ("soft_areas", "probabilities", COMPUTE)
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
        soft_zones: Digest of the zones that the run was begun with, if it has soft areas; or None.
        overlaps: How far scenes show the same ground, or None if there are no scenes.
        has_sidecars: Whether images with a place beside them are scenes, which they are not in runs
            of releases that did not know it.
        is_sealed: Whether the run began with seals in its commit records.
        compute: Compute type of the network; None for what TensorFlow does by itself.
        gone: Keys of inputs of the plan on disk that are not found, or cannot be labelled any more.
        faults: Why those cannot be labelled that are found, by key.
        kept: Units of the plan on disk that stay, or None.
        is_planned: Whether the plan on disk is the plan of this run, and all records are of its
            units.
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
    soft_zones: str | None
    overlaps: Overlaps | None
    has_sidecars: bool
    is_sealed: bool
    compute: str | None
    gone: NameSet
    faults: dict[str, str]
    kept: KeptUnits | None
    is_planned: bool = False

    @property
    def is_new(self) -> bool:
        """Whether no run is continued."""
        return self.options.overwrite or not filesystem.exists(self.run.path(RUN_JSON))

    @property
    def gone_text(self) -> str:
        """Number and examples of what is gone, and why; empty where nothing is."""
        return some_of(self.gone, self.faults)

    @property
    def labels(self) -> dict[str, Any]:
        """What shapes labels, as in `run.json`."""
        return {
            "model_fingerprint": self.model.fingerprint,
            "window_px": self.context.layout.window_px,
            "halo_px": self.context.layout.halo_px,
            "batch": self.context.layout.batch,
            "confidence": self.options.confidence,
            # Runs that were begun before there was this option go on.
            **_later_options(self.options),
            **({"rectangular": True} if self.context.layout.rectangular else {}),
            **self.context.reading.to_json(),
        }

    @property
    def statistics(self) -> dict[str, Any]:
        """What shapes statistics and not labels, as in `run.json`."""
        return {
            "pixel_size_m": self.options.pixel_size,
            "check_seams": self.options.check_seams,
            # Runs that were begun before there was this option go on.
            **({} if self.soft_zones is None else {"soft_zones": self.soft_zones}),
        }

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
            call_timeout=options.call_timeout,
            check_seams=options.check_seams,
            max_out_of_range=options.max_out_of_range,
            is_sealed=self.is_sealed,
            soft_areas=options.soft_areas,
            soft_zones=self.soft_zones,
            probabilities=options.probabilities,
            compute=self.compute,
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
        is_resumed: Whether earlier attempts have finished some of them.
        shortage: What the run takes on disk and what is left there, if that seems not to be enough.
    """

    work: Work
    parts: tuple[str, ...]
    units: int
    estimate: Estimate
    is_resumed: bool
    shortage: str | None = None


def check_run(options: SegmentOptions) -> ResolvedRun:
    """Check everything that can be checked before anything is written or loaded.

    Returns:
        The run, which continues the one that the run directory holds, if any.

    Raises:
        ConfigurationError: If options, inputs or the run directory do not allow the run.
        ContractError: If the model was not made for an input.
    """
    run = RunDirectory(locations.checked(options.output))
    earlier = run.earlier(options.overwrite)
    if options.overwrite:
        earlier = None
    resolved = resolve_run(options, run, earlier)
    if earlier is not None:
        asked = resolved.labels | _following(options, earlier.get("labels", {}))
        check_unchanged(earlier, asked, options.output)
        _check_limit(earlier.get("options", {}).get("limit"), options)
        if options.gone == STOP:
            remedy = "to keep their results, give --gone keep; to remove them, --gone prune"
            check_gone(resolved.gone_text, options.output, "--input", remedy)
        if options.gone == KEEP and resolved.gone:
            _check_same_statistics(earlier.get("statistics", {}), resolved)
    return resolved


def _following(options: SegmentOptions, earlier: dict[str, Any]) -> dict[str, Any]:
    """Sizes of an earlier run that nobody asks to change: they follow from other options."""
    asked = {
        "window_px": options.window,
        "halo_px": options.halo,
        "batch": options.batch,
        "max_pixels": options.max_pixels,
    }
    return {name: earlier[name] for name in asked if asked[name] is None and name in earlier}


def _later_options(options: SegmentOptions) -> dict[str, Any]:
    """What is given of the options that runs of 0.1.0 do not have."""
    values = {"soft_areas": options.soft_areas, "probabilities": options.probabilities}
    given = {name: True for name, value in values.items() if value}
    return given if options.compute == FLOAT32 else {**given, COMPUTE: options.compute}


def _check_limit(earlier: int | None, options: SegmentOptions) -> None:
    """Refuse a limit that would leave a part of a run only."""
    if options.limit is None:
        return
    if earlier is None:
        raise ConfigurationError(
            f"--limit: {options.output} holds a whole run, and a limited one would keep a part of "
            f"it only; name another --output"
        )
    if options.limit < earlier and options.gone != PRUNE:
        raise ConfigurationError(
            f"--limit {options.limit}: {options.output} holds a run with --limit {earlier}, and a "
            f"part of it would be removed: give at least {earlier}, or --gone prune"
        )


def _check_same_statistics(earlier: dict[str, Any], resolved: ResolvedRun) -> None:
    """Refuse to keep results of inputs that are gone where options have them done again."""
    changed = [
        f"{name} was {earlier.get(name)} and is {value}"
        for name, value in resolved.statistics.items()
        if earlier.get(name) != value
    ]
    if changed:
        raise ConfigurationError(
            f"--gone keep: {'; '.join(changed)}, which repeats all units, and "
            f"{resolved.gone_text} cannot be read again: give the former value, or --gone prune"
        )


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
    contract.check_compute(options.compute)
    if not options.trust_inputs:
        for path, option in ((options.aoi, "--aoi"), (options.zones, "--zones")):
            if path is not None:
                check_vectors(path, option)
    aoi = None if options.aoi is None else read_polygons(options.aoi, "--aoi")
    sizes = resolve_sizes(options, contract, _frozen(options, model, earlier)).with_aoi(aoi)
    folders = root_folders(options.inputs, (earlier or {}).get("folders"))
    context = _context(options, contract, sizes)
    is_old = earlier is not None and SIDECARS not in earlier
    inputs = find_inputs(options, context, folders, as_in_0_1=is_old)
    if inputs.of_format(SCENE):
        sizes.check_scenes(options.memory)
    zones, counting = _counting(options, earlier)
    groups = (earlier or {}).get("groups") or plan.image_groups(inputs.grouped_files)
    resolved = ResolvedRun(
        options=options,
        run=run,
        model=model,
        context=replace(context, groups=groups, counting=counting),
        sizes=sizes,
        inputs=inputs,
        folders=folders,
        aoi=aoi,
        zones=zones,
        soft_zones=_soft_zones(options, zones, earlier),
        overlaps=None,
        has_sidecars=not is_old,
        is_sealed=earlier is None or SEALED in earlier,
        compute=options.compute if earlier is None else earlier.get(COMPUTE),
        gone=NameSet(),
        faults={},
        kept=None,
    )
    if earlier is not None and not changed_options(earlier, resolved.labels):
        resolved = _with_earlier_plan(resolved)
    scenes = scenes_of(inputs, resolved.kept)
    check_scene_options(options, context, scenes)
    if not resolved.gone:
        check_touching((options.aoi, aoi), (options.zones, zones), scenes, context.headers)
    return replace(resolved, overlaps=overlaps_of(scenes, context.headers) if scenes else None)


def _frozen(
    options: SegmentOptions, model: OpenedModel, earlier: dict[str, Any] | None
) -> dict[str, Any] | None:
    """Entry `labels` of the `run.json` that is continued; None if the model or its use differs."""
    frozen: dict[str, Any] = (earlier or {}).get("labels", {})
    shaping = {"model_fingerprint": model.fingerprint, "confidence": options.confidence}
    shaping |= _later_options(options)
    names = {*shaping, *LATER_OPTIONS}
    is_same = {name: frozen[name] for name in names & frozen.keys()} == shaping
    return frozen if is_same else None


def _context(options: SegmentOptions, contract: Contract, sizes: Sizes) -> PlanContext:
    """What inputs are checked and planned by.

    Raises:
        ConfigurationError: If `--crs` is no coordinate reference system.
    """
    if options.crs is not None:
        parse_crs(options.crs)
    reach = None if options.trust_inputs else Reach.of(options.inputs)
    headers = Headers(options.crs, reach=reach)
    return PlanContext(
        contract=contract, layout=sizes.layout, reading=sizes.reading, headers=headers
    )


def _counting(
    options: SegmentOptions, earlier: dict[str, Any] | None
) -> tuple[Polygons | None, Counting | None]:
    """Zones, and how scenes are counted; None for what is not asked for."""
    zones = None
    if options.zones is not None:
        known = ((earlier or {}).get("counting") or {}).get("zones")
        zones = read_zones(options.zones, options.zone_field, known)
    if zones is None and options.overlap is None:
        return None, None
    return zones, Counting(None if zones is None else zones.digest, options.overlap)


def _soft_zones(
    options: SegmentOptions, zones: Polygons | None, earlier: dict[str, Any] | None
) -> str | None:
    """Zones by which probabilities are summed: those of the beginning, whatever they are now."""
    if earlier is not None:
        begun_with: str | None = earlier.get("statistics", {}).get("soft_zones")
        return begun_with
    return zones.digest if options.soft_areas and zones is not None else None


def _with_earlier_plan(resolved: ResolvedRun) -> ResolvedRun:
    """The run with what is gone of the plan on disk, and what stays of it.

    Nothing is gone while nothing is finished. An input that has changed and that no worker could
    label is gone, like a file that has lost all its bytes; one that has not changed may be readable
    again later.
    """
    run, inputs, headers = resolved.run, resolved.inputs, resolved.context.headers
    if next(filesystem.unsorted_names(run.path("commits")), None) is None:
        return resolved
    scenes = headers.find_all(inputs.of_format(SCENE))
    unopened = [file for file, header in scenes if header is None or header.shortage is not None]
    if not unopened and not resolved.options.retry_failures and _is_planned(resolved):
        return replace(resolved, is_planned=True)
    # What could not be opened when it was planned may have been no input at all.
    recorded = NameSet(resolved.work.log.names())

    earlier = EarlierPlan(run.plan)

    def units() -> Iterator[Unit]:
        return earlier.units(WorkUnit, AssemblyUnit)

    def planned() -> Iterator[InputFile]:
        log = resolved.work.log
        return files_of(u for u in units() if was_opened(u) or log.name(u) in recorded)

    turned = {file.key: file for file in unopened}
    held = {
        file.key
        for unit in (units() if turned else ())
        if unit.format == SCENE and was_opened(unit)
        for file in unit.files
        if file.key in turned and is_as_planned(turned[file.key], file)
    }
    gone = find_gone(planned, inputs.every)
    faults = unusable(units, inputs, chain(gone, held), resolved.work)
    faults |= forbidden(inputs, recorded, resolved.options.retry_failures, resolved.work)
    gone.update(faults)
    kept = None
    if unopened or (gone and resolved.options.gone == KEEP):
        stays = gone if resolved.options.gone == KEEP else NameSet()
        kept = kept_units(resolved.work, stays, unopened)
    if resolved.options.gone != PRUNE:
        work = resolved.work
        remedy = "to repeat what is found, and remove the rest, give --gone prune"
        earlier.check_known(
            work.log, lambda: chain(units_of(inputs, work, kept), kept or ()), remedy
        )
    return replace(resolved, gone=gone, faults=faults, kept=kept)


def _is_planned(resolved: ResolvedRun) -> bool:
    """Whether the plan on disk is that of the inputs that were found, and has all records.

    Then no input is gone, or changed, and nothing that a unit left is to be removed.
    """
    work, names = resolved.work, NameSet()
    units = _noted(units_of(resolved.inputs, work), names, work)
    is_same = plan.is_written(units, resolved.run.plan, resolved.is_sealed)
    return is_same and names.issuperset(work.log.names())


def prepare_run(resolved: ResolvedRun) -> PreparedRun:
    """Write `run.json` and the plan, and make what earlier attempts left agree with it."""
    options, run, inputs = resolved.options, resolved.run, resolved.inputs
    work, kept = resolved.work, resolved.kept

    def planned() -> Iterator[Unit]:
        return chain(units_of(inputs, work, kept), () if kept is None else kept.finished)

    run.make()
    check_names(work, planned)
    if options.overwrite and run.earlier(overwrite=True) is not None:
        run.clear()
    run.begin()
    run.write_run(_run_document(resolved, work))
    store(run, AOI, resolved.aoi)
    store(run, ZONES, resolved.zones)
    if resolved.zones is not None and resolved.zones.digest == resolved.soft_zones:
        store(run, SOFT_ZONES, resolved.zones)
    if kept is not None:
        take_apart(work, kept)
    if resolved.is_planned:
        reconcile_counts(work)
        parts, is_resumed = plan.part_names(run.plan, WorkUnit), True
    else:
        remove_leftovers(work, planned)
        parts, is_resumed = _write_plan(resolved, work)
    units, whole = plan.count_units(run.plan, parts), estimate(inputs, work)
    room = Room.of(inputs, work, whole, units, options)
    if not locations.is_remote(run.root):
        finished = sum(1 for _ in work.log.names())
        room = room.share(max(0, units - finished) / max(1, units))
    has_room = room.check(run.root)
    shortage = None if has_room else room.line(run.root)
    return PreparedRun(work, tuple(parts), units, whole, is_resumed, shortage)


def _write_plan(resolved: ResolvedRun, work: Work) -> tuple[list[str], bool]:
    """Names of the parts with work units, and whether units have a record; other records go."""
    run, kept, names = resolved.run, resolved.kept, NameSet()
    found = progress.with_progress(units_of(resolved.inputs, work, kept), "planned {:,} units")
    parts = plan.write_plan(
        _noted(found, names, work), run.plan, run.scratch, kept or (), resolved.is_sealed
    )
    names.update(work.log.name(unit) for unit in kept or ())
    return parts, reconcile(work, names)


def _noted(units: Iterable[Unit], names: NameSet, work: Work) -> Iterator[Unit]:
    """Units, while the names of their commit records are noted."""
    units = iter(units)
    while page := list(islice(units, plan.UNITS_PER_PART)):
        names.update(map(work.log.name, page))
        yield from page


def _run_document(resolved: ResolvedRun, work: Work) -> dict[str, Any]:
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
            # Who reads inputs again reads no other files than the run.
            **({"trust_inputs": True} if options.trust_inputs else {}),
        },
        **sections,
        "digests": {name: digest(section) for name, section in sections.items()},
        "counting": None if work.counting is None else asdict(work.counting),
        "overlaps": None if resolved.overlaps is None else asdict(resolved.overlaps),
        "gone_inputs": len(resolved.gone) if resolved.kept is not None else 0,
        "left_aside": resolved.inputs.left_aside.to_json(),
        "folders": resolved.folders,
        "groups": work.groups,
        "missing_shards": inputs.missing.to_json() if inputs.missing else None,
        **({SIDECARS: True} if resolved.has_sidecars else {}),
        **({SEALED: True} if resolved.is_sealed else {}),
        **({COMPUTE: resolved.compute} if resolved.compute else {}),
        "model": resolved.model.contract.to_json(),
        "versions": _package_versions(),
    }


@cache
def _package_versions() -> dict[str, str]:
    """Versions of what shapes a run."""
    found = {"beamseg": segmodel.__version__, "python": platform.python_version()}
    for name in VERSIONED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found

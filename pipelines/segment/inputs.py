"""Input files by format: found, limited, checked, and split into work units."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from pipelines.formats.images import ImageFormat, encoded_misfit
from pipelines.formats.interface import Estimate, Format
from pipelines.formats.shards import ShardFormat
from pipelines.formats.work import PlanContext, ReadOptions
from pipelines.inputs.catalogue import Catalogue, Files, NameSet
from pipelines.inputs.find import list_inputs, names_file
from pipelines.inputs.left_aside import LeftAside
from pipelines.inputs.numbered import MissingShards, missing_shards
from pipelines.inputs.sidecars import Sidecars
from pipelines.rasters.header import Headers, with_others
from pipelines.run import progress
from pipelines.run.plan import SCENE, InputFile, Unit
from pipelines.scenes.files import label_name
from pipelines.scenes.format import claim_placed, claim_plain, data_files, may_be_scene
from pipelines.scenes.overlaps import plan_counts, precedence
from pipelines.segment.kept import KeptUnits
from pipelines.segment.options import SegmentOptions
from pipelines.storage import locations
from pipelines.worker import formats
from segmodel.errors import ConfigurationError, InputError, TransientError, counted
from segmodel.images.tiff import is_tiff
from segmodel.rasters.header import at_location


@dataclass(frozen=True)
class Inputs:
    """Input files by format.

    Args:
        files: Files of each format, in order of formats.
        left_aside: Files that no format claims.
        grouped_files: Number of files that are dealt to groups, however the run is limited.
        missing: Shards that the names of others count and that were not found.
    """

    files: tuple[tuple[Format, Files], ...]
    left_aside: LeftAside
    grouped_files: int
    missing: MissingShards = MissingShards()

    @property
    def every(self) -> Iterator[InputFile]:
        """All files that will be read."""
        return (file for _, files in self.files for file in files)

    def of_format(self, name: str) -> Files:
        """Files of one format."""
        return next(files for entry, files in self.files if entry.name == name)


def find_inputs(
    options: SegmentOptions,
    context: PlanContext,
    folders: Mapping[str, str] | None = None,
    as_in_0_1: bool = False,
) -> Inputs:
    """List, sort by format and check the input files.

    Args:
        options: What the user asked for.
        context: What input files are checked by.
        folders: Folders in the run directory; see `list_inputs`.
        as_in_0_1: Whether files are images that are scenes since: JPEG, PNG and WebP files with a
            place beside them, and TIFFs without one that no decoder of images reads for the model.

    Raises:
        ConfigurationError: If a pattern matches nothing, or nothing that can be read.
        ContractError: If the model was not made for an input.
    """
    sidecars = Sidecars()
    catalogue = list_inputs(
        options.inputs, options.output, folders, options.exclude, options.copy_web, sidecars
    )
    others: list[InputFile] = []
    if options.stack is not None:
        # Only these need pydantic, which takes 0.1 s.
        from pipelines.inputs.stacks import StackRule
        from pipelines.rasters.stacking import stacked

        wanted = options.bands or context.contract.bands
        rule = StackRule.read(options.stack)
        catalogue, others = stacked(catalogue, rule, wanted, context.headers)
    # Of TIFFs, other models get samples as they are.
    decodes_tiffs = context.contract.dtype == "uint8" and encoded_misfit(context.contract) is None
    plain = not as_in_0_1 and not decodes_tiffs
    beside = None if as_in_0_1 else sidecars
    inputs = sorted_inputs(catalogue, context.headers, beside, plain)
    for file in others:
        inputs.left_aside.add(file.key)
    if options.stack is None:
        _check_patterns(options.inputs, catalogue, context.headers)
    _check_names(inputs)
    if options.pixel_size is not None and context.reading.resize is None:
        side = options.pixel_size
        context.contract.check_gsd(side, side, "--pixel_size", "scale images with --resize")
    if options.limit is not None:
        _limit(catalogue, options.limit, context.reading)
    given = [(entry, files) for entry, files in inputs.files if files]
    for entry, files in given:
        entry.check(files, context)
    misfits = [entry.misfit(files, context) for entry, files in given]
    if misfits and None not in misfits:
        raise next(error for error in misfits if error is not None)
    return inputs


def _check_patterns(patterns: Sequence[str], catalogue: Catalogue, headers: Headers) -> None:
    """Refuse patterns that find nothing to read, and files that are named and cannot be read.

    Raises:
        ConfigurationError: Names the pattern or the file.
    """
    for number, found, read in catalogue.by_pattern():
        is_named = names_file(patterns[number])
        file, owner = catalogue.first_of(number)
        if is_named and owner in (SCENE, None) and may_be_scene(file):
            with suppress(TransientError):
                _check_opens(file, patterns[number], headers)
        if not read:
            what = "is of no" if is_named else f"matches {counted(found, 'file')}, none of a"
            known = "; ".join(entry.examples for entry in formats.FORMATS)
            if locations.is_web(patterns[number]):
                known = (
                    "from the web, georeferenced scenes are, and with --copy_web SIZE image files "
                    "(.jpg .png .webp): download the file"
                )
            raise ConfigurationError(
                f"--input {patterns[number]} {what} format that can be read: {known}"
            )


def _check_opens(file: InputFile, pattern: str, headers: Headers) -> None:
    try:
        headers.read(file)
    except InputError as error:
        reason = at_location(error.text, file.key, pattern)
        raise ConfigurationError(f"--input {pattern}: {reason}") from error


def sorted_inputs(
    catalogue: Catalogue,
    headers: Headers,
    sidecars: Sidecars | None = None,
    plain_tiffs: bool = False,
) -> Inputs:
    """The files of a catalogue by format; one without a format is left aside.

    Args:
        catalogue: All input files.
        headers: Headers of scenes that have been read.
        sidecars: Files beside images that may make them scenes, or None where images stay images.
        plain_tiffs: Whether TIFFs without a place are scenes.
    """
    looked_at = progress.ProgressLines("looked at {:,} files")

    def claims(files: list[InputFile]) -> Iterator[tuple[str, str] | None]:
        # Of a store, headers take long one after another; those that are read here are kept.
        placed = {file for file in files if sidecars is not None and sidecars.may_place(file)}
        for _ in headers.find_all(file for file in files if file in placed or may_be_scene(file)):
            pass
        data = data_files(files, headers)
        for file in files:
            looked_at.add()
            if file in data:
                yield None
                continue
            claimed = _claim(file, headers, file in placed, plain_tiffs)
            is_image = claimed is not None and claimed[0] == ImageFormat.name
            if is_image and sidecars is not None and not is_tiff(file.name):
                claimed = ImageFormat.name, with_others(file, sidecars.masks_of(file)).version
            yield claimed

    left_aside = catalogue.sort(claims)
    files = tuple((entry, catalogue.of_format(entry.name)) for entry in formats.FORMATS)
    grouped = sum(len(found) for entry, found in files if entry.grouped)
    names = (
        key for entry, found in files if isinstance(entry, ShardFormat) for key in found.file_keys()
    )
    return Inputs(files, left_aside, grouped, missing_shards(names))


def _claim(
    file: InputFile, headers: Headers, may_be_placed: bool, plain_tiffs: bool
) -> tuple[str, str] | None:
    """Format and version of a file; that of a scene takes reading its header."""
    scene = claim_placed(file, headers) if may_be_placed else None
    if scene is None and plain_tiffs:
        scene = claim_plain(file, headers)
    if scene is not None:
        return SCENE, scene.version
    for entry in formats.FORMATS:
        # From the web, GDAL reads scenes, and of copies image files are read.
        is_alone = locations.is_read_by_gdal(file.uri) or locations.is_address(file.uri)
        is_copy = isinstance(entry, ImageFormat) and locations.is_copied(file.uri)
        may_read = entry.name == SCENE or is_copy or not is_alone
        claimed = entry.claim(file, headers) if may_read else None
        if claimed is not None:
            return entry.name, claimed.version
    return None


def _check_names(inputs: Inputs) -> None:
    """Refuse files whose label maps would have one name, or that of a folder of label maps.

    Raises:
        ConfigurationError: Names both.
    """
    folders = NameSet(
        folder
        for _, files in inputs.files
        for key in files.file_keys()
        for folder in _folders_above(key)
        if folder.endswith(".png")
    )
    grouped = (files for entry, files in inputs.files if entry.grouped and folders)
    for name in (key for files in grouped for key in files.file_keys()):
        if f"{name}.png" in folders:
            raise ConfigurationError(
                f"the label map of {name} and those of the folder {name}.png would have the same "
                f"name: rename one of them"
            )
    seen = NameSet()
    for file in inputs.of_format(SCENE):
        label = label_name(file.key)
        for other in {label, label.removesuffix(".tif")} - {file.key}:
            if label_name(other) == label and other in seen:
                raise ConfigurationError(
                    f"the label maps of {other} and {file.key} would have the same name: rename "
                    f"one of them"
                )
        seen.update([file.key])


def _folders_above(name: str) -> Iterator[str]:
    """Folders that a file is in.

    >>> list(_folders_above("in/a/b.png"))
    ['in/a', 'in']
    """
    while name := name.rpartition("/")[0]:
        yield name


def check_scene_options(
    options: SegmentOptions, context: PlanContext, scenes: Sequence[InputFile]
) -> None:
    """Refuse options about scenes that would have no effect, or cannot be carried out.

    Args:
        options: What the user asked for.
        context: Contract of the model, and headers.
        scenes: All scenes of the plan.

    Raises:
        ConfigurationError: Names the option.
    """
    given = [
        name
        for name in ("bands", "resample_to", "crs", "aoi", "zones", "overlap", "check_seams")
        if getattr(options, name)
    ]
    if given and not scenes:
        raise ConfigurationError(
            f"--{given[0]} is for scenes, and no --input is a raster with a place on the ground"
        )
    if options.check_seams and context.contract.fixed_window is not None:
        raise ConfigurationError(
            "--check_seams needs windows that can be moved, and this model has a fixed one, as its "
            "labels depend on the window: leave --check_seams out"
        )
    if options.overlap is not None:
        precedence(scenes, options.overlap, context.headers)


def _limit(catalogue: Catalogue, limit: int, reading: ReadOptions) -> None:
    """Keep the first images only: in order of formats, files and records."""
    left = limit
    for entry in formats.FORMATS:
        files = catalogue.of_format(entry.name)
        left -= catalogue.limit(entry.name, _counts(entry, files, left, reading))


def _counts(entry: Format, files: Files, left: int, reading: ReadOptions) -> Iterator[int]:
    """Numbers of images in the first files, `left` together if there are as many."""
    for file in files:
        if left <= 0:
            return
        count = entry.count(file, left, reading)
        yield count
        left -= count


def units_of(inputs: Inputs, context: PlanContext, kept: KeptUnits | None = None) -> Iterator[Unit]:
    """Work units of all inputs, without those whose inputs are gone, and counts of all scenes.

    Args:
        inputs: Input files that were found.
        context: What files are cut into units by.
        kept: What stays of an earlier plan, or None.
    """
    found = (
        unit
        for entry, files in inputs.files
        for records, chosen in files.by_records()
        for unit in entry.units(chosen, context, records)
    )
    yield from found if kept is None else kept.planned(found)
    if context.counting is not None:
        yield from plan_counts(scenes_of(inputs, kept), context.counting, context.headers)


def scenes_of(inputs: Inputs, kept: KeptUnits | None) -> Sequence[InputFile]:
    """All scenes of a plan in order: those that were found, and those that are gone and stay."""
    scenes = inputs.of_format(SCENE)
    return scenes if kept is None else kept.among(scenes)


def estimate(inputs: Inputs, context: PlanContext) -> Estimate:
    """Images, pixels and windows of all inputs."""
    parts = [entry.estimate(files, context) for entry, files in inputs.files if files]
    return Estimate(
        images=sum(part.images for part in parts),
        pixels=sum(part.pixels for part in parts),
        windows=sum(part.windows for part in parts),
        computed=sum(part.computed for part in parts),
        exact=all(part.exact for part in parts),
    )

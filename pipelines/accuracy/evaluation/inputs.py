"""What an evaluation compares: label maps of a finished run, and the reference of each."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from pipelines.accuracy.evaluation.work import IMAGE, stem_in_shard
from pipelines.formats import SHARDS
from pipelines.formats.images import ImageFormat
from pipelines.formats.shards import label_path, labelled_keys
from pipelines.formats.work import Work
from pipelines.geodesy.vector_files import vector_kinds
from pipelines.inputs.find import printable_path
from pipelines.inputs.listing import find_files
from pipelines.inputs.sidecars import Sidecars
from pipelines.rasters.header import read_header, with_others
from pipelines.run import plan
from pipelines.run.commits import Commit
from pipelines.run.directory import RunDirectory
from pipelines.run.plan import SCENE, AssemblyUnit, InputFile, WorkUnit
from pipelines.scenes.files import scene_paths
from pipelines.scenes.format import RASTER_SUFFIXES
from pipelines.storage import filesystem, locations
from pipelines.storage.threads import in_order
from segmodel.errors import BeamsegError, ConfigurationError, counted
from segmodel.images.encoded import IMAGE_SUFFIXES
from segmodel.pairs.paired_files import match_masks, without_suffix

_SHARD_NAMES = {entry.name for entry in SHARDS}
_TEXT_SUFFIXES = frozenset({".csv", ".tsv", ".txt"})
_VECTOR_SUFFIXES = frozenset({".fgb", ".geojson", ".gml", ".gpkg", ".json", ".kml", ".shp"})
_ONE = "remove all but one, or name --reference by a pattern such as '*.png'"


def is_vector_file(path: str) -> bool:
    """Whether a reference is a vector file or a table of points, by its suffix.

    >>> is_vector_file("plots.gpkg|layername=2024"), is_vector_file("masks/*.png")
    (True, False)
    """
    return _suffix(path) in _VECTOR_SUFFIXES | _TEXT_SUFFIXES


def holds_points(path: str) -> bool:
    """Whether a vector file holds points and no polygons; tables of text do."""
    if _suffix(path) in _TEXT_SUFFIXES:
        return True
    if "|" in path or not filesystem.exists(locations.checked(path)):
        return False
    kinds = vector_kinds(locations.checked(path))
    return any("Point" in kind for kind in kinds) and not any("Polygon" in kind for kind in kinds)


def _suffix(path: str) -> str:
    return PurePosixPath(path.partition("|")[0]).suffix.lower()


@dataclass(frozen=True)
class FinishedMap:
    """A finished label map, a block of one, or a shard of them.

    Args:
        unit: Work unit of the run that labelled it.
        file: The file in the run, with folder and name of the input; its version is its SHA-256.
        pixels: Number of pixels of the unit.
    """

    unit: WorkUnit
    file: InputFile
    pixels: int


def finished_maps(labelled: Work) -> list[FinishedMap]:
    """All label maps of a run, in the order of its plan.

    Raises:
        ConfigurationError: If a unit of the run is not finished, or nothing was labelled.
    """
    scenes = dict(_commits(labelled, AssemblyUnit))
    maps, missing = [], sum(commit is None for commit in scenes.values())
    for unit, commit in labelled.log.read_all(plan.read_units(labelled.run.plan, WorkUnit)):
        assert isinstance(unit, WorkUnit)
        missing += commit is None
        source = scenes.get(unit.scene) if unit.scene else commit
        if commit is not None and source is not None:
            pixels = sum(commit.tally.pixels.values())
            maps += [FinishedMap(unit, file, pixels) for file in _files_of(unit, source, labelled)]
    if missing:
        raise ConfigurationError(
            f"{labelled.run.root} is not finished, {counted(missing, 'unit')} are missing: give "
            f"the same `beamseg segment` again, then evaluate"
        )
    if not maps:
        raise ConfigurationError(f"{labelled.run.root} has no label map: nothing was labelled")
    return maps


def _commits(labelled: Work, kind: type[AssemblyUnit]) -> Iterator[tuple[str, Commit | None]]:
    for unit, commit in labelled.log.read_all(plan.read_units(labelled.run.plan, kind)):
        yield unit.id, commit


def _files_of(unit: WorkUnit, commit: Commit, labelled: Work) -> Iterator[InputFile]:
    """Label maps that a unit left, in the order of its files."""
    written = {output.path: output for output in commit.outputs}
    for file in unit.files:
        if unit.format == SCENE:
            path = scene_paths(file).labels
        elif unit.format in _SHARD_NAMES:
            path = label_path(file)
        else:
            path = f"labels/{file.key}.png"
        if (output := written.get(path)) is not None:
            uri = labelled.run.path(path)
            yield InputFile(uri, file.folder, file.name, output.size, output.sha256)


@dataclass(frozen=True)
class ReferenceFiles:
    """Files of a reference: masks, shards of them, or one raster that all scenes lie on.

    Args:
        files: The files, in order of name.
        covers_all: Whether it is one raster with a place.
    """

    files: tuple[InputFile, ...]
    covers_all: bool


def reference_files(pattern: str) -> ReferenceFiles:
    """The files of `--reference`.

    Raises:
        ConfigurationError: If the pattern matches no mask and no shard.
    """
    sidecars = Sidecars()
    place = locations.checked(pattern)
    found = [
        InputFile(file.uri, "reference", printable_path(file.name), file.size, file.version)
        for file in find_files(place, lambda entry: sidecars.note(entry.uri))
        if _may_be_reference(file.name)
    ]
    sidecars.note_beside(place)
    if not found:
        raise ConfigurationError(
            f"--reference {pattern} matches no mask, raster or shard: check the path, and quote "
            f"patterns with *"
        )
    files = tuple(with_others(file, sidecars.masks_of(file)) for file in found)
    return ReferenceFiles(files, len(files) == 1 and place == files[0].uri and _is_placed(files[0]))


def _may_be_reference(name: str) -> bool:
    suffix = PurePosixPath(name).suffix.lower()
    is_raster = suffix in IMAGE_SUFFIXES or suffix in RASTER_SUFFIXES
    return is_raster or any(shards.matches(name) for shards in SHARDS)


def _is_placed(file: InputFile) -> bool:
    """Whether a file is a raster with a place on the ground."""
    if any(shards.matches(file.name) for shards in SHARDS):
        return False
    try:
        grid = read_header(file.uri, file.version).grid
    except BeamsegError:
        return False
    return grid.crs is not None and not grid.transform.is_identity


@dataclass(frozen=True)
class Matched:
    """Units of an evaluation, and what has no counterpart.

    Args:
        units: Units to compare.
        maps: Number of label maps that are compared; shards with shards as their references count
            as one each.
        without_reference: Number of those that have no reference.
        unused: Number of files of references that no label map has.
        pixels: Number of pixels of the units of the run.
    """

    units: tuple[WorkUnit, ...]
    maps: int
    without_reference: int
    unused: int
    pixels: int


def match(
    maps: Sequence[FinishedMap], reference: ReferenceFiles | None, labelled: RunDirectory
) -> Matched:
    """Give each label map its reference.

    Args:
        maps: All label maps of the run.
        reference: Files of the reference; None for polygons and points, which lie on scenes.
        labelled: Run directory of the run.

    Raises:
        ConfigurationError: If nothing can be compared, or a label map has several references.
    """
    keys = {entry.file.key: entry for entry in maps}
    found: dict[str, tuple[InputFile, ...]]
    missing = 0
    if reference is None or reference.covers_all:
        files = () if reference is None else reference.files
        found = {key: files for key, entry in keys.items() if entry.unit.format == SCENE}
    else:
        found = {key: (file,) for key, file in _by_path(keys, reference.files).items()}
        shards = [e for e in maps if e.unit.format in _SHARD_NAMES and e.file.key not in found]
        by_name = _by_name_in_shard(shards, _masks_among(reference.files), labelled)
        found |= {key: masks for key, (masks, _) in by_name.items() if masks}
        missing = sum(left_out for masks, left_out in by_name.values() if masks)
    if not found:
        raise ConfigurationError(
            f"--reference: no label map of the run has a reference: masks and shards have the "
            f"paths of the inputs, but for the suffix of masks, such as {maps[0].file.name}; masks "
            f"of images in shards have the names of these, and are shards where images have none; "
            f"one raster with a place, polygons and points are for scenes"
        )
    used = {file for files in found.values() for file in files}
    unused = 0 if reference is None else len(reference.files) - len(used)
    pixels = {e.unit.id: e.pixels for e in maps if e.file.key in found}
    units = tuple(_units(maps, found))
    compared = sum(max(1, len(files)) for files in found.values())
    without = missing + len(keys) - len(found)
    return Matched(units, compared, without, unused, sum(pixels.values()))


def _masks_among(references: Iterable[InputFile]) -> list[InputFile]:
    return [f for f in references if not any(kind.matches(f.name) for kind in SHARDS)]


def _by_name_in_shard(
    shards: Sequence[FinishedMap], masks: Sequence[InputFile], labelled: RunDirectory
) -> dict[str, tuple[tuple[InputFile, ...], int]]:
    """By key of a shard the masks of its images, and how many images have none.

    Args:
        shards: Shards of label maps.
        masks: Files, each with the name of an image in a shard but for its suffix.
        labelled: Run directory of the run.

    Raises:
        ConfigurationError: If a mask is that of two images, or an image has two.
    """
    files: dict[str, InputFile] = {}
    for mask in masks if shards else ():
        stem = without_suffix(mask.name)
        if stem in files:
            raise ConfigurationError(
                f"--reference: {files[stem].name} and {mask.name} are masks of one image: {_ONE}"
            )
        files[stem] = mask
    found: dict[str, tuple[tuple[InputFile, ...], int]] = {}
    seen: dict[str, str] = {}

    def names(entry: FinishedMap) -> tuple[str, list[str | None]]:
        keys = labelled_keys(entry.unit.id, labelled) if files else ()
        return entry.file.key, [stem_in_shard(key) for key in keys]

    for shard, stems in in_order(names, shards):
        known = [stem for stem in stems if stem is not None and stem in files]
        for stem in known:
            if stem in seen:
                raise ConfigurationError(
                    f"--reference: {shard} and {seen[stem]} have images called {stem}, which would "
                    f"have the same mask: give shards of masks in the order of the images"
                )
            seen[stem] = shard
        found[shard] = tuple(files[stem] for stem in known), len(stems) - len(known)
    return found


def _by_path(
    keys: Mapping[str, FinishedMap], references: Sequence[InputFile]
) -> dict[str, InputFile]:
    """Reference by key of the label map: under the path of the input, or of the label map itself.

    Paths of inputs are those below their root. Inputs of several roots may have one path, so that
    their references need the name of the root before it, as label maps have.
    """
    has_one_root = len({entry.file.folder for entry in keys.values()}) == 1
    paths: list[Callable[[InputFile], str]] = [lambda file: file.name] if has_one_root else []
    for path in (*paths, lambda file: file.key, lambda file: f"{file.key}.png"):
        found = _with_paths(keys.values(), references, path)
        if found:
            return found
    return {}


def _with_paths(
    maps: Iterable[FinishedMap], references: Sequence[InputFile], path: Callable[[InputFile], str]
) -> dict[str, InputFile]:
    """Reference by key of the label map, by a path of its own."""
    by_name = {file.name: file for file in references}
    masks = _masks_among(references)
    files = {True: list[InputFile](), False: list[InputFile]()}
    for entry in maps:
        files[entry.unit.format in _SHARD_NAMES].append(entry.file)
    found = {file.key: by_name[path(file)] for file in files[True] if path(file) in by_name}
    matched = match_masks(
        [(path(file), file.key) for file in files[False]],
        [(file.name, file.key) for file in masks],
        _ONE,
    )
    pairs = zip(files[False], matched, strict=True)
    return found | {file.key: masks[number] for file, number in pairs if number is not None}


def _units(
    maps: Iterable[FinishedMap], found: Mapping[str, tuple[InputFile, ...]]
) -> Iterator[WorkUnit]:
    """A unit for each one of the run that has something to compare, under the same id."""
    current: WorkUnit | None = None
    for entry in maps:
        if entry.file.key not in found:
            continue
        files = (entry.file, *found[entry.file.key])
        kind = IMAGE if entry.unit.format == ImageFormat.name else entry.unit.format
        if current is not None and current.id == entry.unit.id:
            current = replace(current, files=current.files + files)
            continue
        if current is not None:
            yield current
        current = WorkUnit(entry.unit.id, kind, files, entry.unit.window)
    if current is not None:
        yield current

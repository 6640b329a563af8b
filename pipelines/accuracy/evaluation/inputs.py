"""What an evaluation compares: label maps of a finished run, and the reference of each."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from pipelines.accuracy.evaluation.work import IMAGE
from pipelines.formats import SHARDS
from pipelines.formats.images import ImageFormat
from pipelines.formats.shards import label_path
from pipelines.formats.work import Work
from pipelines.geodesy.vector_files import vector_kinds
from pipelines.inputs.find import printable_path
from pipelines.inputs.listing import find_files
from pipelines.inputs.sidecars import Sidecars
from pipelines.rasters.header import read_header, with_others
from pipelines.run import plan
from pipelines.run.commits import Commit
from pipelines.run.plan import SCENE, AssemblyUnit, InputFile, WorkUnit
from pipelines.scenes.files import scene_paths
from pipelines.scenes.format import RASTER_SUFFIXES
from pipelines.storage import filesystem, locations
from segmodel.errors import BeamsegError, ConfigurationError, counted
from segmodel.images.encoded import IMAGE_SUFFIXES
from segmodel.pairs.paired_files import match_masks

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
        maps: Number of label maps, or shards of them, that are compared.
        without_reference: Number of those that have no reference.
        unused: Number of files of references that no label map has.
        pixels: Number of pixels of the units of the run.
    """

    units: tuple[WorkUnit, ...]
    maps: int
    without_reference: int
    unused: int
    pixels: int


def match(maps: Sequence[FinishedMap], reference: ReferenceFiles | None) -> Matched:
    """Give each label map its reference.

    Args:
        maps: All label maps of the run.
        reference: Files of the reference; None for polygons and points, which lie on scenes.

    Raises:
        ConfigurationError: If nothing can be compared, or a label map has several references.
    """
    keys = {entry.file.key: entry for entry in maps}
    found: Mapping[str, InputFile | None]
    if reference is None or reference.covers_all:
        file = None if reference is None else reference.files[0]
        found = {key: file for key, entry in keys.items() if entry.unit.format == SCENE}
    else:
        found = _by_path(keys, reference.files)
    if not found:
        raise ConfigurationError(
            f"--reference: no label map of the run has a reference: masks and shards have the "
            f"paths of the inputs, but for the suffix of masks, such as {maps[0].file.name}; one "
            f"raster with a place, polygons and points are for scenes"
        )
    unused = 0 if reference is None else len(reference.files) - len({*found.values()})
    pixels = {e.unit.id: e.pixels for e in maps if e.file.key in found}
    units = tuple(_units(maps, found))
    return Matched(units, len(found), len(keys) - len(found), unused, sum(pixels.values()))


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
    masks = [f for f in references if not any(kind.matches(f.name) for kind in SHARDS)]
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
    maps: Iterable[FinishedMap], found: Mapping[str, InputFile | None]
) -> Iterator[WorkUnit]:
    """A unit for each one of the run that has something to compare, under the same id."""
    current: WorkUnit | None = None
    for entry in maps:
        if entry.file.key not in found:
            continue
        reference = found[entry.file.key]
        files = (entry.file,) if reference is None else (entry.file, reference)
        kind = IMAGE if entry.unit.format == ImageFormat.name else entry.unit.format
        if current is not None and current.id == entry.unit.id:
            current = replace(current, files=current.files + files)
            continue
        if current is not None:
            yield current
        current = WorkUnit(entry.unit.id, kind, files, entry.unit.window)
    if current is not None:
        yield current

"""Comparing what one unit of a run labelled: from its line of the plan to its commit record."""

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from pipelines.accuracy.evaluation.comparison import MapPair, Read, compare_maps, compare_points
from pipelines.accuracy.evaluation.points import points_on, stored_points
from pipelines.accuracy.evaluation.references import (
    POINTS,
    POLYGONS,
    SAME_GRID,
    RasterTruth,
    ground_of,
    polygon_truth,
    zones_on,
)
from pipelines.formats import SHARDS
from pipelines.formats.shards import ShardFormat, ShardSample, labelled_keys, printable_name
from pipelines.formats.work import ReadOptions
from pipelines.inputs.unchanged import unchanged
from pipelines.rasters.gdal import OPENER
from pipelines.rasters.header import mask_beside
from pipelines.run.areas import Tally
from pipelines.run.attempts import UnitReport, report_of
from pipelines.run.commits import CommitLog, Output
from pipelines.run.directory import EVALUATION, RunDirectory
from pipelines.run.failures import Failure, reraise_transient, write_unit_failures
from pipelines.run.plan import SCENE, InputFile, WorkUnit
from pipelines.run.polygons import ZONES, stored
from pipelines.storage import filesystem
from segmodel.errors import BeamsegError, FailureCode, InputError
from segmodel.images.encoded import decode_image
from segmodel.labels.classes import ClassTable
from segmodel.labels.confusion import IGNORED
from segmodel.labels.masks import MaskReader
from segmodel.pairs.paired_files import without_suffix
from segmodel.rasters.opening import gdal_window
from segmodel.rasters.reader import RasterHandle
from segmodel.tiling.windows import Window

# Polygons that are the reference, in the folder of the evaluation.
REFERENCE = "reference.json"
IMAGE = "image"


@dataclass(frozen=True)
class EvaluateWork:
    """What all units of an evaluation have in common; travels to the workers.

    Args:
        output: Folder of the evaluation.
        labelled: Run directory of the run.
        options: Digest of what shapes counts.
        classes: Class table of the run.
        masks: Reads values of masks; None for polygons and points.
        places: Place in the class table of each class of `masks`, or of each polygon.
        polygons: Digest of the polygons that are the reference, or None for others.
        points: Digest of the points that are the reference, or None for others.
        zones: Digest of the zones, or None.
        boundary_px: Distance for boundary IoU, or None.
        confidence: Whether the run has confidence.
        max_pixels: Maximum number of pixels of an image.
        pixel_size_m: Side of a pixel of images without coordinates in metres, or None.
    """

    output: str
    labelled: str
    options: str
    classes: ClassTable
    masks: MaskReader | None
    places: tuple[int, ...]
    polygons: str | None
    points: str | None
    zones: str | None
    boundary_px: int | None
    confidence: bool
    max_pixels: int
    pixel_size_m: float | None

    @property
    def run(self) -> RunDirectory:
        """Plan, records, counts, failures and results of the evaluation."""
        return RunDirectory(self.output, EVALUATION)

    @property
    def log(self) -> CommitLog:
        """The commit records."""
        return CommitLog(self.output, self.options)

    @property
    def zone_names(self) -> tuple[str, ...]:
        """Names of the zones."""
        return () if self.zones is None else stored(self.run, ZONES, self.zones).names


def counts_of_unit(unit_id: str) -> str:
    """Where the counts of a unit are, within the folder of the evaluation."""
    return f"counts/{unit_id}.json"


def evaluate_unit(
    unit: WorkUnit, work: EvaluateWork, on_pixels: Callable[[int], None] = lambda pixels: None
) -> UnitReport:
    """Compare what a unit labelled, unless it is done.

    Args:
        unit: Label map, shard of them or group of them, each followed by its reference if that is
            a file; shards by several, where masks are files.
        work: What all units have in common.
        on_pixels: Called with the number of pixels of each label map.

    Returns:
        Counts of what was done.
    """
    if work.log.is_done(unit):
        return UnitReport(done=1, skipped=1)
    return report_of(unit, work.log, lambda: _attempt(unit, work, on_pixels))


# Row of an image in the file of a unit, and its number of pixels; or why it has none.
_Compared = tuple[dict[str, Any], int] | Failure


def _attempt(unit: WorkUnit, work: EvaluateWork, on_pixels: Callable[[int], None]) -> UnitReport:
    compared = {SCENE: _compare_scene, IMAGE: _compare_images}.get(unit.format, _compare_shard)
    failures: list[Failure] = []
    images = pixels = 0
    path = counts_of_unit(unit.id)
    with (
        unchanged(file for file in unit.files if not is_label_map(file, work)),
        filesystem.write_atomic(work.run.path(path), work.run.scratch) as draft,
        open(draft.path, "w", encoding="utf-8", newline="\n") as stream,
    ):
        stream.write("[")
        for found in compared(unit, work):
            if isinstance(found, Failure):
                failures.append(found)
                continue
            row, size = found
            # A line for each, so that nobody has to read all of them at once.
            stream.write(f"{',' if images else ''}\n{json.dumps(row)}")
            images, pixels = images + 1, pixels + size
            on_pixels(size)
        stream.write("\n]\n")
    outputs = [Output.of(path, draft.written), *write_unit_failures(work.run, unit.id, failures)]
    work.log.write(unit, outputs, Tally(images=images, failed_images=len(failures)))
    return UnitReport(done=1, computed_pixels=pixels)


def is_label_map(file: InputFile, work: EvaluateWork) -> bool:
    """Whether a file of a unit is one of the run, not a reference."""
    return file.uri.startswith(f"{work.labelled}/")


def _row(file: InputFile, kind: str, how: str, counts: Any, key: str = "") -> dict[str, Any]:
    # An image of a shard has a number and, mostly, a name.
    name = key.partition(" ")[2] or file.name
    image = f"{file.key} {key}".rstrip()
    return {"image": image, "name": name, "kind": kind, "how": how, **counts}


def _confidence_of(file: InputFile, work: EvaluateWork) -> str:
    """Location of the confidence of a label map."""
    return f"{work.labelled}/confidence{file.uri.removeprefix(f'{work.labelled}/labels')}"


def _failure(file: InputFile, key: str | None, error: Exception) -> Failure:
    reraise_transient(error)
    return Failure.of(file.key, key, "mask", error)


def _compare_images(unit: WorkUnit, work: EvaluateWork) -> Iterator[_Compared]:
    for file, mask in zip(unit.files[::2], unit.files[1::2], strict=True):
        try:
            labels = filesystem.read_bytes(file.uri)
            confidence = None
            if work.confidence:
                confidence = filesystem.read_bytes(_confidence_of(file, work))
            content = filesystem.read_bytes(mask.uri, mask.stat)
            counts, pixels = _compare_encoded(labels, content, confidence, work, mask_beside(mask))
        except (BeamsegError, OSError) as error:
            yield _failure(file, None, error)
            continue
        yield _row(file, IMAGE, SAME_GRID, counts), pixels


def _compare_encoded(
    labels: bytes,
    mask: bytes,
    confidence: bytes | None,
    work: EvaluateWork,
    beside: bytes | None = None,
) -> tuple[dict[str, Any], int]:
    """Counts of an encoded label map, and its number of pixels."""
    assert work.masks is not None
    ids = decode_image(labels, 0, work.max_pixels)
    truth = work.masks.indices(mask, ids.shape, work.max_pixels, beside)
    truth = np.array([*work.places, IGNORED], np.int16)[truth]
    levels = None if confidence is None else decode_image(confidence, 0, work.max_pixels)
    whole = Window(0, 0, *ids.shape)
    pair = MapPair(
        area=whole,
        whole=whole,
        labels=lambda window: ids[window.slices],
        truth=lambda window: truth[window.slices],
        confidence=None if levels is None else lambda window: levels[window.slices],
        ground=None if work.pixel_size_m is None else work.pixel_size_m**2,
    )
    return compare_maps(pair, work.classes, work.boundary_px).to_json(()), ids.size


def _compare_scene(unit: WorkUnit, work: EvaluateWork) -> Iterator[_Compared]:
    file = unit.files[0]
    try:
        with contextlib.ExitStack() as opened:
            labels = _opened(file.uri, opened)
            grid = labels.header().grid
            pair, how = _scene_pair(unit, work, labels, opened)
            if work.points is None:
                found = compare_maps(pair, work.classes, work.boundary_px)
            else:
                points = points_on(stored_points(work.run, work.points), grid)
                found = compare_points(pair, points, work.classes)
            counts = found.to_json(work.zone_names)
        yield _row(file, SCENE, how, counts), pair.area.pixels
    except (BeamsegError, OSError) as error:
        yield _failure(file, None if unit.window is None else str(unit.window), error)


def _scene_pair(
    unit: WorkUnit, work: EvaluateWork, labels: RasterHandle, opened: contextlib.ExitStack
) -> tuple[MapPair, str]:
    """A block of a scene with its reference, and how the reference lies on it."""
    grid = labels.header().grid
    ground = ground_of(grid)
    read: Read | None
    if work.points is not None:
        read, how = None, POINTS
    elif work.polygons is not None:
        polygons = stored(work.run, REFERENCE, work.polygons)
        read, how = polygon_truth(polygons, work.places, ground), POLYGONS
    else:
        assert work.masks is not None
        mask = unit.files[1]
        truth = RasterTruth(mask.uri, mask.version, work.masks, work.places, grid)
        opened.callback(truth.close)
        read, how = truth.read, truth.how
    confidence = None
    if work.confidence:
        confidence = _band(_opened(_confidence_of(unit.files[0], work), opened))
    zones = None if work.zones is None else stored(work.run, ZONES, work.zones)
    pair = MapPair(
        area=unit.window or grid.window,
        whole=grid.window,
        labels=_band(labels),
        truth=read,
        confidence=confidence,
        ground=ground,
        zones=zones_on(zones, ground),
    )
    return pair, how


def _opened(uri: str, opened: contextlib.ExitStack) -> RasterHandle:
    handle = RasterHandle(uri, OPENER)
    opened.callback(handle.close)
    return handle


def _band(handle: RasterHandle) -> Callable[[Window], np.ndarray]:
    """Reads the first band of a label map by windows."""

    def read(window: Window) -> np.ndarray:
        return handle.read(
            lambda source: np.asarray(source.read(1, window=gdal_window(window))),
            f"labels of {window} cannot be read",
        )

    return read


def _compare_shard(unit: WorkUnit, work: EvaluateWork) -> Iterator[_Compared]:
    """Label maps of a shard and their masks; some of either may be lost."""
    shards = next(entry for entry in SHARDS if entry.name == unit.format)
    file, *references = unit.files
    maps = _samples(shards, file, shards.label_field, work)
    levels: Iterator[Any] | None = None
    if work.confidence:
        levels = _samples(shards, file, shards.confidence_field, work)
    if shards.matches(references[0].name):
        mask_of = _masks_in_shard(_samples(shards, references[0], shards.label_field, work))
    else:
        mask_of = _masks_by_name(references)
    for key in labelled_keys(unit.id, RunDirectory(work.labelled)):
        labels = next(maps, None)
        confidence = None if levels is None else next(levels, None)
        try:
            mask = mask_of(key)
            if mask is None:
                continue
            level = None if levels is None else _encoded(confidence)
            counts, pixels = _compare_encoded(_encoded(labels), mask[0], level, work, mask[1])
        except (BeamsegError, OSError) as error:
            yield _failure(file, key, error)
            continue
        yield _row(file, IMAGE, SAME_GRID, counts, key), pixels


def _samples(
    shards: ShardFormat, source: InputFile, field: str, work: EvaluateWork
) -> Iterator[Any]:
    return shards.read(source, ReadOptions(max_pixels=work.max_pixels, image_field=field))


# The encoded mask of an image, by the key of the image in its shard, and the mask of that file if
# it has one beside it; None where an image has none.
_MaskOf = Callable[[str], tuple[bytes, bytes | None] | None]


def _masks_in_shard(samples: Iterator[Any]) -> _MaskOf:
    """Masks of a shard that has them in the order of the images, which are asked for in it."""

    def mask_of(key: str) -> tuple[bytes, bytes | None]:
        number, name = _number_and_name(key)
        mask = next((sample for sample in samples if sample.number == number), None)
        _check_same_name(mask, name)
        return _encoded(mask), None

    return mask_of


def _masks_by_name(files: Iterable[InputFile]) -> _MaskOf:
    """Masks that are files, with the names that images have in their shard."""
    by_stem = {without_suffix(file.name): file for file in files}

    def mask_of(key: str) -> tuple[bytes, bytes | None] | None:
        file = by_stem.get(stem_in_shard(key) or "")
        if file is None:
            return None
        return filesystem.read_bytes(file.uri, file.stat), mask_beside(file)

    return mask_of


def stem_in_shard(key: str) -> str | None:
    """What the mask of an image in a shard is called but for its suffix; None without a name.

    >>> stem_in_shard("#3 cats/a.jpg"), stem_in_shard("#3")
    ('cats/a', None)
    """
    name = _number_and_name(key)[1]
    return without_suffix(name) if PurePosixPath(name).name else None


def _number_and_name(key: str) -> tuple[int, str]:
    number, _, name = key.removeprefix("#").partition(" ")
    return int(number), name


_SHARDS_OF_THE_RUN = (
    "give the shards that were labelled, or shards of the same images in the same order"
)


def _check_same_name(mask: Any, name: str) -> None:
    """Refuse a mask of another image; in archives the names of both differ behind the first dot."""
    if mask is not None and mask.name and name:
        found = printable_name(mask.name)
        if _stem(found) != _stem(name):
            raise InputError(
                f"the shard of references has {found} in this place: {_SHARDS_OF_THE_RUN}",
                code=FailureCode.NOT_FOUND,
            )


def _stem(name: str) -> str:
    folder, _, base = name.rpartition("/")
    return f"{folder}/{base.partition('.')[0]}"


def _encoded(sample: Any) -> bytes:
    """The image of a sample of a shard.

    Raises:
        InputError: If it is not there, or could not be read.
    """
    if isinstance(sample, ShardSample):
        return sample.encoded
    if sample is None:
        raise InputError(
            f"the shard of references has no mask of this image: {_SHARDS_OF_THE_RUN}",
            code=FailureCode.NOT_FOUND,
        )
    raise InputError(sample.reason, code=sample.code)

"""Packing one shard: from its line of the plan to its commit record."""

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from pipelines.datasets.inputs import PackInput
from pipelines.formats import SHARDS
from pipelines.formats.shards import ShardEntry, ShardFormat
from pipelines.formats.work import ReadOptions
from pipelines.inputs.unchanged import unchanged
from pipelines.rasters.header import mask_beside
from pipelines.run import areas
from pipelines.run.areas import Tally
from pipelines.run.attempts import THREADS, UnitReport, report_of
from pipelines.run.commits import CommitLog, Output
from pipelines.run.directory import METADATA_DIR, PACK, RunDirectory
from pipelines.run.failures import Failure, write_unit_failures
from pipelines.run.plan import InputFile, WorkUnit
from pipelines.storage import filesystem
from segmodel.devices.startup import reuse_memory
from segmodel.errors import BeamsegError, FailureCode, InputError, is_transient
from segmodel.images.encoded import decode_pixels, image_size
from segmodel.images.tiff import TiffImage
from segmodel.labels.masks import MaskReader
from segmodel.tiling.raster import Pixels

# What a pack keeps beside its shards; hidden, so that no pattern takes it for input.
# An image while it is decoded: Pillow and numpy take 18 for a PNG, less for a JPEG.
BYTES_PER_PIXEL = 20

# What a shard holds of an image and its mask, and their counts; or why they cannot be packed.
_Packed = tuple[ShardEntry, Tally] | Failure


@dataclass(frozen=True)
class PackWork:
    """Work that all shards of a pack share; travels to the workers.

    Args:
        output: Folder of the shards.
        options: Digest of what shapes shards.
        masks: How masks are read, or None without masks.
        max_pixels: Maximum number of pixels of an image.
        encoded_bytes: Memory that files read ahead may take in one process.
        decoding_bytes: Memory that images may take in one process while they are decoded.
        is_sealed: Whether the pack began with seals in its commit records.
    """

    output: str
    options: str
    masks: MaskReader | None
    max_pixels: int
    encoded_bytes: int
    decoding_bytes: int
    is_sealed: bool = True

    @property
    def run(self) -> RunDirectory:
        """Plan, records, failures and summary."""
        return metadata_directory(self.output)

    @property
    def log(self) -> CommitLog:
        """The commit records."""
        return log_of(self.output, self.options, self.is_sealed)


def log_of(output: str, options: str, is_sealed: bool) -> CommitLog:
    """The commit records of a pack; outputs are named by their path in the folder of the shards.

    Args:
        output: Folder of the shards.
        options: Digest of what shapes them.
        is_sealed: Whether the pack began with seals.
    """
    folder = f"{METADATA_DIR}/commits"
    return CommitLog(output, options, folder, is_sealed=is_sealed, may_write=_is_of_shard)


def metadata_directory(output: str) -> RunDirectory:
    """What a pack keeps beside its shards."""
    return RunDirectory(f"{output}/{METADATA_DIR}", PACK)


def split_name(unit: WorkUnit) -> str:
    """The split that a shard belongs to.

    >>> split_name(WorkUnit("hold-out-00003-of-00012", "tar.gz", ()))
    'hold-out'
    """
    return _split_of(unit.id)


def _split_of(unit_id: str) -> str:
    return unit_id.rsplit("-", 3)[0]


def shard_path(unit: WorkUnit) -> str:
    """Path of a shard below the output folder.

    >>> shard_path(WorkUnit("train-00003-of-00012", "tar.gz", ()))
    'train/train-00003-of-00012.tar.gz'
    """
    return f"{split_name(unit)}/{unit.id}.{unit.format}"


def _is_of_shard(unit_id: str, path: str) -> bool:
    """Whether a unit writes a file: its shard, or its rows of failures."""
    folders = _split_of(unit_id), f"{METADATA_DIR}/failures"
    return path.startswith(tuple(f"{folder}/{unit_id}." for folder in folders))


def shards_of(container: str) -> tuple[ShardFormat, bool]:
    """The format of shards of this name, and whether they are compressed as a whole."""
    name, _, zipped = container.partition(".")
    return next(entry for entry in SHARDS if entry.name == name), bool(zipped)


def items_of(unit: WorkUnit, is_masked: bool) -> list[PackInput]:
    """Images of a shard with their masks.

    Args:
        unit: The shard.
        is_masked: Whether each image in the unit is followed by its mask.
    """
    if not is_masked:
        return [PackInput(file, None) for file in unit.files]
    return [PackInput(*both) for both in zip(unit.files[::2], unit.files[1::2], strict=True)]


def pack_unit(
    unit: WorkUnit, work: PackWork, on_pixels: Callable[[int], None] = lambda pixels: None
) -> UnitReport:
    """Write a shard unless it is done: read, check, write, commit.

    Args:
        unit: The shard.
        work: Work that all shards share.
        on_pixels: Called with the number of pixels of each image.

    Returns:
        Counts of what was done.
    """
    if work.log.is_done(unit):
        return UnitReport(done=1, skipped=1)
    reuse_memory()
    return report_of(unit, work.log, lambda: _attempt(unit, work, on_pixels))


def _attempt(unit: WorkUnit, work: PackWork, on_pixels: Callable[[int], None]) -> UnitReport:
    path, (shards, zipped) = shard_path(unit), shards_of(unit.format)
    maps = ("image", "labels") if work.masks else ("image",)
    tallies: list[Tally] = []
    failures: list[Failure] = []
    pixels = 0
    with (
        unchanged(unit.files),
        filesystem.write_atomic(f"{work.output}/{path}", work.run.scratch) as draft,
        shards.writer(draft.path, zipped, maps) as shard,
    ):
        for future in _in_order(items_of(unit, work.masks is not None), work):
            packed = future.result()
            if isinstance(packed, Failure):
                failures.append(packed)
                continue
            entry, tally = packed
            shard.add(replace(entry, number=len(tallies)))
            tallies.append(tally)
            pixels += entry.height * entry.width
            on_pixels(entry.height * entry.width)
    outputs = [Output.of(path, draft.written)]
    for output in write_unit_failures(work.run, unit.id, failures):
        outputs.append(replace(output, path=f"{METADATA_DIR}/{output.path}"))
    tally = Tally.sum([*tallies, Tally(failed_images=len(failures))])
    work.log.write(unit, outputs, tally)
    return UnitReport(done=1, computed_pixels=pixels)


def _in_order(items: list[PackInput], work: PackWork) -> Iterator[Future[_Packed]]:
    """Images read and checked by threads, few ahead, within the memory that they may take."""
    room = _Room(work.decoding_bytes)
    pool = ThreadPoolExecutor(THREADS, "beamseg-pack")
    ahead: deque[tuple[int, Future[_Packed]]] = deque()
    held = 0
    try:
        for item in items:
            size = item.image.size + (item.mask.size if item.mask else 0)
            while ahead and (len(ahead) > THREADS or held + size > work.encoded_bytes):
                before, future = ahead.popleft()
                held -= before
                yield future
            held += size
            ahead.append((size, pool.submit(_pack, item, work, room)))
        yield from (future for _, future in ahead)
    finally:
        pool.shutdown(cancel_futures=True)


def _pack(item: PackInput, work: PackWork, room: "_Room") -> _Packed:
    """Read and check an image and its mask; raises transient and internal errors."""
    file, stage = item.image, "read"
    labels, tally = None, Tally(images=1)
    try:
        encoded = _read(item.image, work)
        height, width = image_size(encoded) or (1, work.max_pixels)
        with room.taken(min(height * width, work.max_pixels) * BYTES_PER_PIXEL):
            beside = mask_beside(item.image)
            pixels = _decoded(encoded, work.max_pixels, beside)
            height, width = pixels.values.shape[:2]
            if item.mask is not None and work.masks is not None:
                file, stage = item.mask, "mask"
                content = _read(item.mask, work)
                size, of_mask = (height, width), mask_beside(item.mask)
                values = work.masks.read(content, size, work.max_pixels, of_mask)
                if beside is not None and pixels.valid is not None:
                    # A shard has no place for the file beside an image.
                    values[~pixels.valid] = work.masks.mapping.classes.nodata
                tally = areas.measure(values, work.masks.mapping.classes, None)
                labels = work.masks.encode(values)
    except (BeamsegError, OSError) as error:
        if is_transient(error):
            raise
        return Failure.of(file.key, None, stage, error)
    suffix = PurePosixPath(item.image.name).suffix.lower().removeprefix(".")
    # Its number follows from how many images before it could be packed.
    return ShardEntry(0, item.name, height, width, (encoded, suffix), labels), tally


def _decoded(encoded: bytes, max_pixels: int, beside: bytes | None) -> Pixels:
    """Pixels of an image as a model of some number of bands gets them from a shard.

    Raises:
        InputError: If no model does, or it is damaged.
    """
    codes = []
    for bands in (3, 4):
        try:
            return decode_pixels(encoded, bands, max_pixels, beside=beside)
        except InputError as error:
            if error.code not in (FailureCode.WRONG_BANDS, FailureCode.WRONG_DTYPE):
                raise
            codes.append(error.code)
    raise InputError(
        f"shards hold images of 1, 3 or 4 bands of uint8 or uint16, this TIFF has "
        f"{TiffImage(encoded, max_pixels).samples()}: write those to keep (gdal_translate -b 1 "
        f"-b 2 -b 3 -ot Byte -scale LOW HIGH 0 255), or train on the folder, where TIFFs may have "
        f"any bands",
        code=FailureCode.WRONG_DTYPE if FailureCode.WRONG_DTYPE in codes else codes[0],
    )


def _read(file: InputFile, work: PackWork) -> bytes:
    if file.size > ReadOptions(max_pixels=work.max_pixels).max_encoded_bytes:
        raise InputError(
            f"{file.size} bytes are more than any image within --max_pixels has",
            code=FailureCode.TOO_LARGE,
        )
    # An image and its mask may take one half each.
    if file.size > work.encoded_bytes // 2:
        raise InputError(
            f"{file.size} bytes are more than --memory leaves for one file: raise it and run again "
            f"with --retry_failures",
            code=FailureCode.TOO_LARGE,
        )
    return filesystem.read_bytes(file.uri, file.stat)


class _Room:
    """Bytes that threads take and give back; a request for more than all of them waits for all."""

    def __init__(self, size: int) -> None:
        self._size, self._held = size, 0
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def taken(self, size: int) -> Iterator[None]:
        """Wait until there is room, and take it while the block runs."""
        with self._changed:
            self._changed.wait_for(lambda: not self._held or self._held + size <= self._size)
            self._held += size
        try:
            yield
        finally:
            with self._changed:
                self._held -= size
                self._changed.notify_all()

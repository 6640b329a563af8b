"""Image files: JPEG, PNG, WebP and TIFF without coordinates; `a.jpg` gives `a.jpg.png`."""

import contextlib
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pipelines.formats.interface import Estimate, Format, Thumbnail, UnitTask
from pipelines.formats.work import PlanContext, ReadOptions, Work
from pipelines.inputs.catalogue import in_groups
from pipelines.rasters.header import Headers, mask_beside, with_others
from pipelines.run.areas import Tally
from pipelines.run.commits import Output
from pipelines.run.failures import Failure
from pipelines.run.plan import InputFile, Unit, WorkUnit
from pipelines.storage import filesystem, locations
from pipelines.storage.copies import COPIES
from pipelines.storage.digests import Checksum
from segmodel.engine.read_ahead import Job
from segmodel.engine.stitching import Labelled
from segmodel.errors import BeamsegError, ContractError, FailureCode, InputError, TransientError
from segmodel.images.encoded import (
    IMAGE_SUFFIXES,
    EncodedImage,
    decode_image,
    decode_pixels,
    image_size,
)
from segmodel.images.tiff import is_tiff
from segmodel.labels.label_images import encode_confidence, encode_labels, encode_levels
from segmodel.rasters.sample_types import is_convertible
from segmodel.rasters.world_files import MASK_SUFFIX
from segmodel.savedmodel.contract import Contract

DECODED_BANDS = (1, 3, 4)
SAMPLE = 64
# What is read of a file for its header; the second where the first is not enough.
HEADER_BYTES = (1 << 20, 16 << 20)
# What file systems allow.
MAX_NAME_BYTES = 255


@dataclass(frozen=True)
class EncodedMaps:
    """Maps of an image as PNG files.

    Args:
        labels: The label map.
        confidence: Confidence, or None where it is not written.
        probabilities: Class id and probability of each class, where they are written.
    """

    labels: bytes
    confidence: bytes | None
    probabilities: tuple[tuple[int, bytes], ...]


class ImageFormat(Format):
    """Files that hold one image each, assigned to units by a hash of their path."""

    name = "images"
    examples = "image files (.jpg .png .webp .tif)"
    grouped = True

    def claim(self, file: InputFile, headers: Headers) -> InputFile | None:
        """The file if its suffix is that of an image, with a version that changes with its mask."""
        if os.path.splitext(file.name)[1].lower() not in IMAGE_SUFFIXES:
            return None
        header = headers.find(file) if is_tiff(file.name) else None
        masks = [] if header is None else [n for n in header.others if n.endswith(MASK_SUFFIX)]
        return with_others(file, masks)

    def misfit(self, files: Sequence[InputFile], context: PlanContext) -> BeamsegError | None:
        """Why encoded images cannot feed the model, if they cannot."""
        return encoded_misfit(context.contract, f"{files[0].key} and other image files")

    def estimate(self, files: Sequence[InputFile], context: PlanContext) -> Estimate:
        """From the headers of a sample."""
        step = -(-len(files) // SAMPLE)
        sizes = [stated_size(file, context.reading) for file in files[::step]]
        return Estimate.of_sample([size for size in sizes if size], len(files), context.layout)

    def units(
        self, files: Sequence[InputFile], context: PlanContext, records: int | None
    ) -> Iterable[WorkUnit]:
        """One unit for each group that has a file."""
        for number, members in in_groups(files, context.groups):
            yield WorkUnit(f"images-{number:05d}of{context.groups:05d}", self.name, members)

    def outputs(self, unit: Unit, work: Work) -> Iterable[str]:
        """Label map, confidence and probabilities of each file."""
        return (path for file in unit.files for path in map_paths(file.key, work))

    def thumbnails(self, unit: Unit, work: Work, limit: int, side: int) -> Iterable[Thumbnail]:
        """Of the first files by the digest of their key."""
        for file in sorted(unit.files, key=lambda file: digest_of(file.key)):
            path = work.run.path(f"labels/{file.key}.png")
            if limit and filesystem.exists(path):
                limit -= 1
                with _at_hand(file) as uri:
                    image = filesystem.read_bytes(uri)
                labels = filesystem.read_bytes(path)
                beside = mask_beside(file)
                yield decoded(file.key, image, labels, work, beside).fitted(side)

    def open(self, unit: WorkUnit, work: Work) -> "_ImagesTask":
        """Begin a group of files."""
        return _ImagesTask(unit, work)


def decoded(
    caption: str, image: bytes, labels: bytes, work: Work, beside: bytes | None = None
) -> Thumbnail:
    """An encoded image and its label map.

    Args:
        caption: Name of the image.
        image: Content of its file.
        labels: Content of its label map.
        work: Work that all units share.
        beside: Content of the `.msk` file beside it, or None where there is none.

    Raises:
        InputError: If one of them cannot be decoded.
    """
    most, contract = work.reading.max_pixels, work.contract
    # Colours also of what the model takes as grey.
    bands, names = (3, ()) if len(contract.bands) < 3 else (len(contract.bands), contract.bands)
    pixels = decode_pixels(image, bands, most, contract.value_range, beside, names)
    ids = decode_image(labels, 0, most)
    return Thumbnail(caption, pixels.values[..., :3], ids, pixels.valid)


def digest_of(key: str) -> bytes:
    """What images are drawn by for a sheet."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def encoded_misfit(contract: Contract, what: str = "") -> ContractError | None:
    """Why encoded 8-bit images cannot be the input of a model; None if they can.

    Args:
        contract: Contract of the model.
        what: Name of the input in the text; empty for none.
    """
    if len(contract.bands) not in DECODED_BANDS:
        return ContractError(
            f"bands: the model takes {len(contract.bands)} ({', '.join(contract.bands)}), encoded "
            f"images give 1, 3 or 4; give TIFFs or other scenes with those bands, or leave it out "
            f"with --exclude",
            code=FailureCode.WRONG_BANDS,
            name=what,
        )
    if not is_convertible("uint8", contract.dtype, contract.value_range):
        low, high = contract.value_range
        return ContractError(
            f"dtype: the model takes {contract.dtype} of {low:g} to {high:g}, encoded images give "
            f"uint8; give TIFFs or other scenes of {contract.dtype}, export the model for uint8 "
            f"with the conversion in it, or leave the images out with --exclude",
            code=FailureCode.WRONG_DTYPE,
            name=what,
        )
    return None


class _ImagesTask(UnitTask[EncodedMaps]):
    """One group of image files while it is done."""

    def __init__(self, unit: WorkUnit, work: Work) -> None:
        super().__init__(unit, work)
        self._files = {file.key: file for file in unit.files}
        self._checksums: dict[str, str] = {}

    def jobs(self) -> Iterator[Job | Failure]:
        misfit = encoded_misfit(self.work.contract)
        for file in self._files.values():
            if misfit is not None:
                yield Failure.of(file.key, None, "open", misfit)
                continue
            suffix = _longest_suffix(self.work)
            most = MAX_NAME_BYTES - len(suffix)
            if len(os.fsencode(Path(file.name).name)) > most:
                reason = f"the name has more than {most} bytes: no room for {suffix} after it"
                error = InputError(reason, code=FailureCode.NAME_TOO_LONG)
                yield Failure.of(file.key, None, "name", error)
                continue
            yield Job(file.key, partial(self._open, file), held_bytes=file.size)

    def _open(self, file: InputFile) -> EncodedImage:
        contract, reading = self.work.contract, self.work.reading
        if file.size > reading.max_encoded_bytes:
            raise InputError(
                f"{file.size} bytes are more than any image within --max_pixels has",
                code=FailureCode.TOO_LARGE,
            )
        with _at_hand(file) as uri:
            content = filesystem.read_bytes(uri, file.stat)
        beside = mask_beside(file)
        checksum = Checksum()
        checksum.add(content, *([] if beside is None else [beside]))
        self._checksums[file.key] = str(checksum)
        bands, limits, most = contract.bands, contract.value_range, reading.max_pixels
        size, dtype = reading.resize, contract.dtype
        return EncodedImage(content, len(bands), most, size, limits, beside, bands, dtype)

    def source(self, key: str) -> tuple[InputFile, str | None]:
        return self._files[key], None

    def checksum(self, file: InputFile) -> str | None:
        """Of the bytes of the file, and of the mask beside it."""
        return self._checksums.get(file.key)

    def discard(self, key: str) -> None:
        for path in map_paths(key, self.work):
            self.work.run.remove(path)

    def encode(self, labelled: Labelled) -> EncodedMaps:
        return encode_png(labelled, self.work)

    def write(self, key: str, encoded: EncodedMaps, tally: Tally) -> None:
        written = {f"labels/{key}.png": encoded.labels}
        if encoded.confidence is not None:
            written[f"confidence/{key}.png"] = encoded.confidence
        written |= {_class_path(key, i): content for i, content in encoded.probabilities}
        for path, content in written.items():
            self.outputs.append(Output.of(path, self.work.run.write(path, content)))


@contextlib.contextmanager
def _at_hand(file: InputFile) -> Iterator[str]:
    """Location of a file, or of the copy of one of the web, during the block."""
    if not locations.is_copied(file.uri):
        yield file.uri
        return
    with COPIES.path(file.uri, file.version) as path:
        yield path


def stated_size(file: InputFile, reading: ReadOptions) -> tuple[int, int] | None:
    """Height and width by the header, or None; what is wrong shows when the image is opened.

    Headers are at the beginning of most files, and behind the pixels of many TIFFs.
    """
    if file.size > reading.max_encoded_bytes:
        return None
    begin = b""
    with (
        contextlib.suppress(OSError, InputError, TransientError),
        _at_hand(file) as uri,
        filesystem.open_stream(uri, file.stat, HEADER_BYTES[0]) as stream,
    ):
        for most in HEADER_BYTES:
            begin += stream.read(most - len(begin))
            size = image_size(begin)
            if size is not None or len(begin) < most:
                return size
    return None


def map_paths(key: str, work: Work) -> list[str]:
    """Paths within the run directory of all maps of an image file.

    Args:
        key: Key of the file.
        work: What all units have in common.
    """
    ids = work.contract.classes.ids if work.probabilities else ()
    folders = (folder for folder in work.map_folders if folder != "probabilities")
    return [*(f"{folder}/{key}.png" for folder in folders), *(_class_path(key, i) for i in ids)]


def _class_path(key: str, class_id: int) -> str:
    """Where the probability of a class is."""
    return f"probabilities/{key}.{class_id}.png"


def _longest_suffix(work: Work) -> str:
    """What is added to the name of an image file at the most."""
    return f".{max(work.contract.classes.ids)}.png" if work.probabilities else ".png"


def encode_png(labelled: Labelled, work: Work) -> EncodedMaps:
    """The maps of an image as PNG files."""
    classes, every = work.contract.classes, labelled.probabilities
    labels = encode_labels(labelled.labels, classes, dict(work.provenance))
    confidence = labelled.confidence
    return EncodedMaps(
        labels,
        None if confidence is None else encode_confidence(confidence),
        ()
        if every is None
        else tuple((i, encode_levels(every[..., n])) for n, i in enumerate(classes.ids)),
    )

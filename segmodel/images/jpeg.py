"""JPEG images: header and EXIF orientation by their segments, pixels by libjpeg, strictly."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import simplejpeg
from PIL import Image

from segmodel.errors import FailureCode, InputError
from segmodel.images.limits import MAX_PIXELS, MAX_SEGMENTS, check_pixels, too_many_parts
from segmodel.images.orientation import (
    EXIF_MARK,
    MAX_METADATA_BYTES,
    is_turned,
    stated_orientation,
)
from segmodel.images.stored import StoredImage

JPEG_SIGNATURE = b"\xff\xd8\xff"
# A marker, which is neither a byte of data nor a restart of the decoder, behind any filling.
_MARKER = re.compile(rb"(?<!\xff)\xff++([^\x00\xff\xd0-\xd7])")
_START, _END, _SCAN, _TEMPORARY, _NOTES = 0xD8, 0xD9, 0xDA, 0x01, 0xE1
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE_FRAMES = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_XMP_MARK = b"http://ns.adobe.com/xap/1.0/\0"
# Of pixels by the number of their bands: mode of Pillow, colours of libjpeg.
_MODES = {1: "L", 3: "RGB", 4: "CMYK"}
_COLORS = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}
# Progressive JPEGs have about ten scans, and each takes the time of a whole picture.
_MAX_SCANS, _MAX_SCANNED_PIXELS = 128, 12 * MAX_PIXELS


class JpegImage(StoredImage):
    """A JPEG; of several pictures in a file, the first.

    Args:
        encoded: Content of the file; its beginning up to the first scan suffices for the size.
        max_pixels: Most pixels that it may have.

    Raises:
        InputError: If its header is broken, or states too many pixels.
    """

    driver = "JPEG"

    def __init__(self, encoded: bytes, max_pixels: int) -> None:
        frame, exif, xmp, left = b"", [], b"", MAX_METADATA_BYTES
        for kind, begin in _segments(encoded):
            end = begin + int.from_bytes(encoded[begin : begin + 2], "big")
            if kind in _FRAMES:
                frame = frame or encoded[begin + 2 : begin + 8]
            elif kind == _NOTES and encoded.startswith(EXIF_MARK, begin + 2) and left > 0:
                # Blocks longer than a segment go on in the next.
                exif.append(encoded[begin + 2 + len(EXIF_MARK) : end])
                left -= end - begin
            elif kind == _NOTES and encoded.startswith(_XMP_MARK, begin + 2):
                xmp = encoded[begin + 2 + len(_XMP_MARK) : end]
            elif kind == _SCAN:
                break
        else:
            raise _undecodable("it has no scan")
        if len(frame) < 6 or frame[0] != 8 or frame[5] not in _MODES:
            raise _undecodable("its frame is not one of 1, 3 or 4 bands of 8 bits")
        height, width = (int.from_bytes(frame[at : at + 2], "big") for at in (1, 3))
        check_pixels((width, height), max_pixels)
        super().__init__((width, height), stated_orientation(b"".join(exif), xmp))
        self._encoded, self._mode = encoded, _MODES[frame[5]]

    @property
    def is_plain(self) -> bool:
        """Whether it is a colour image that stands upright, as most images are."""
        return self._mode == "RGB" and not is_turned(self.orientation)

    def load(self) -> Image.Image:
        """The decoded image; see `StoredImage.load`."""
        return Image.frombytes(self._mode, self.size, self.values().tobytes())

    def values(self) -> np.ndarray:
        """Pixels as stored, `(height, width)` or `(height, width, bands)` uint8.

        Warnings of libjpeg, which Pillow hides, are errors here: a JPEG that ends in the middle but
        has an end mark would be grey from there on.

        Raises:
            InputError: If it is truncated or corrupt.
            MemoryError: If memory does not suffice.
        """
        width, height = self.size
        check_jpeg_scans(self._encoded, width * height)
        try:
            found = simplejpeg.decode_jpeg_header(self._encoded)[1::-1]
            if found != self.size:
                raise InputError(
                    f"the header says {self.size}, decoded are {found}",
                    code=FailureCode.CORRUPT_IMAGE,
                )
            values: np.ndarray = simplejpeg.decode_jpeg(
                self._encoded, _COLORS[self._mode], strict=True
            )
        except InputError:
            raise
        except ValueError as error:
            if "Insufficient memory" in str(error):
                raise MemoryError(str(error)) from error
            raise InputError(
                f"truncated or corrupt JPEG: {error}", code=FailureCode.CORRUPT_IMAGE
            ) from error
        if self._mode == "CMYK":
            # Stored inverted, as Adobe does and Pillow expects.
            np.subtract(255, values, out=values)
        return values[..., 0] if self._mode == "L" else values


def _undecodable(what: str) -> InputError:
    return InputError(f"the JPEG cannot be decoded: {what}", code=FailureCode.CORRUPT_IMAGE)


def _segments(encoded: bytes) -> Iterator[tuple[int, int]]:
    """Marker of each segment up to the end mark, and where what follows it begins.

    Raises:
        InputError: If there are too many.
    """
    place = 0
    for _ in range(MAX_SEGMENTS):
        marker = _MARKER.search(encoded, place)
        if marker is None or marker[1][0] == _END:
            return
        kind, place = marker[1][0], marker.end()
        yield kind, place
        if kind not in (_START, _TEMPORARY):
            place += int.from_bytes(encoded[place : place + 2], "big")
    raise too_many_parts("JPEG has segments", MAX_SEGMENTS)


def jpeg_scans(encoded: bytes, enough: int) -> int:
    """Number of scans of a JPEG, each of which may go over all of its pixels.

    Args:
        encoded: Content of the file.
        enough: Number up to which the answer may be too large.

    Raises:
        InputError: If it is in too many segments.
    """
    scans, bands, progressive = 0, 0, False
    for kind, place in _segments(encoded):
        if kind in _FRAMES and place + 7 < len(encoded):
            bands, progressive = encoded[place + 7], kind in _PROGRESSIVE_FRAMES
        scans += kind == _SCAN
        if kind == _SCAN and scans == 1:
            if not progressive and encoded[place + 2 : place + 3] == bytes([bands]):
                return 1  # As most are: all bands in one scan, and decoders read no other.
            # Bytes that look like a scan may be metadata, or a video behind the image.
            found = encoded.count(bytes([0xFF, _SCAN]), place) + 1
            if found <= enough:
                return found
    return scans


def check_jpeg_scans(encoded: bytes, pixels: int) -> None:
    """Refuse a JPEG with so many scans that decoding would take very long.

    Args:
        encoded: Content of the file.
        pixels: Pixels of the image, or of all images that are like it in a file.

    Raises:
        InputError: If it has more than any camera or program writes.
    """
    most = min(_MAX_SCANS, _MAX_SCANNED_PIXELS // max(1, pixels))
    if jpeg_scans(encoded, most) > most:
        raise InputError(
            f"the JPEG has more than {most} scans, as no camera or program writes in {pixels} "
            f"pixels: write it anew",
            code=FailureCode.UNSUPPORTED,
        )

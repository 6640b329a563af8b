"""Encoded images to arrays, and as rasters that the engine reads."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from segmodel.errors import FailureCode, InputError
from segmodel.images.decoders import open_image
from segmodel.images.jpeg import JpegImage
from segmodel.images.limits import MAX_PIXELS
from segmodel.images.orientation import turned, upright
from segmodel.images.stored import DECODING_BYTES_PER_PIXEL, StoredImage
from segmodel.images.tiff import TiffImage, begins_as_tiff
from segmodel.rasters.memory import valid_by_mask_file
from segmodel.tiling.raster import Counted, Pixels, Raster, combine_masks
from segmodel.tiling.resampling import SourceGrid, resize_image, resize_valid
from segmodel.tiling.windows import Tile, Window

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff"})
# Values of an encoded image.
BYTE_RANGE = (0.0, 255.0)
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N")


def decode_image(encoded: bytes, bands: int, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Pixels of an encoded image, turned as its EXIF orientation says.

    Args:
        encoded: Content of a JPEG, PNG, WebP or TIFF file; of several pictures, the first counts.
        bands: 1 for grey, 3 for red, green, blue, 4 with alpha; 0 for the stored values of a mask
            (palette indices, grey levels).
        max_pixels: Most pixels that are decoded.

    Returns:
        `(height, width, bands)` uint8, or `(height, width)` for `bands` 0. Samples of 16 bits give
        their high byte.

    Raises:
        InputError: If the bytes are empty, truncated, corrupt, no image, or a decompression bomb.
    """
    return decode_pixels(encoded, bands, max_pixels).values


def decode_pixels(
    encoded: bytes,
    bands: int,
    max_pixels: int = MAX_PIXELS,
    value_range: tuple[float, float] = BYTE_RANGE,
    beside: bytes | None = None,
    names: Sequence[str] = (),
    dtype: str = "uint8",
) -> Pixels:
    """Pixels of an encoded image, and where they are valid; other arguments as in `decode_image`.

    Args:
        encoded: Content of the file.
        bands: Number of bands.
        max_pixels: Most pixels that are decoded.
        value_range: Least and greatest raw value of the model, for nodata values; see
            `ModelBands.valid_by_values`.
        beside: Content of the `.msk` file beside it, or None where there is none.
        names: Names of the model's bands, for a TIFF that describes its own; empty for any.
        dtype: Sample type of the model, which for others than uint8 holds bytes too.

    Returns:
        Values as `decode_image` returns them. Pixels are not valid where they are fully
        transparent, unless alpha is a band, or where the mask beside the file, or nodata value or
        mask of a TIFF say so.

    Raises:
        InputError: As `decode_image` does.
    """
    if bands not in (0, *_MODES):
        raise InputError(
            f"an encoded image gives 1, 3 or 4 bands, not {bands}", code=FailureCode.WRONG_BANDS
        )
    if not begins_as_tiff(encoded):
        pixels = _decoded_pixels(open_image(encoded, max_pixels), bands)
        return pixels if beside is None else _masked(pixels, encoded, beside, max_pixels)
    tiff = TiffImage(encoded, max_pixels)
    tiff.check_dtype(dtype)
    pixels, mode = tiff.pixels(bands, value_range, beside, names)
    if not mode:
        return pixels
    values = pixels.values
    # Where Pillow can, it takes the array itself.
    image = Image.frombuffer(mode, values.shape[1::-1], values, "raw", mode, 0, 1)
    return replace(pixels, values=_converted(image, bands))


def _masked(pixels: Pixels, encoded: bytes, beside: bytes, max_pixels: int) -> Pixels:
    """Pixels of a JPEG, PNG or WebP of which those in the `.msk` file are not valid either."""
    image = open_image(encoded, max_pixels)
    valid = valid_by_mask_file(encoded, beside, image.driver)
    if valid is not None:
        valid = upright(valid, image.orientation)
    return replace(pixels, valid=combine_masks(pixels.valid, valid))


def _decoded_pixels(opened: StoredImage, bands: int) -> Pixels:
    try:
        if bands == 3 and isinstance(opened, JpegImage) and opened.is_plain:
            return Pixels(opened.values())
        image = turned(opened.load(), opened.orientation)
        del opened  # Each image that is still named takes its memory.
        if bands == 0:
            valid = _valid(image if image.mode not in _SIXTEEN_BITS else _eight_bits(image))
            image = image.getchannel("L") if image.mode == "LA" else image
            if image.mode not in ("P", "L", "1", *_SIXTEEN_BITS):
                raise InputError(
                    f"a mask of ids has one band, got mode {image.mode}", code=FailureCode.MASK_KIND
                )
            return Pixels(np.asarray(image), valid)
        image = _eight_bits(image)
        valid = _valid(image) if bands != 4 else None
        return Pixels(_converted(image, bands), valid)
    except (InputError, MemoryError):
        raise
    except Exception as error:
        # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and others.
        raise InputError(f"cannot be decoded: {error}", code=FailureCode.CORRUPT_IMAGE) from error


def image_size(encoded: bytes) -> tuple[int, int] | None:
    """Height and width that the header of an encoded image states; None if there is none."""
    try:
        if begins_as_tiff(encoded):
            tiff = TiffImage(encoded, MAX_PIXELS)
            return tiff.height, tiff.width
        image = open_image(encoded, MAX_PIXELS)
        return image.height, image.width
    except InputError:
        # A broken file is reported when it is decoded.
        return None


class EncodedImage(Raster):
    """An encoded image as a raster of the engine: decoded at the first read, from any thread.

    Args:
        encoded: Content of an image file, as in `decode_image`.
        bands: Number of bands: 1, 3 or 4.
        max_pixels: Most pixels that are decoded.
        resize: Height and width to which it is scaled before the model sees it, or None.
        value_range: Least and greatest raw value of the model.
        beside: Content of the `.msk` file beside it, or None where there is none.
        names: Names of the model's bands, as in `decode_pixels`.
        dtype: Sample type of the model.

    Raises:
        InputError: If it is no image or has too many pixels, by its header.
    """

    def __init__(
        self,
        encoded: bytes,
        bands: int,
        max_pixels: int = MAX_PIXELS,
        resize: tuple[int, int] | None = None,
        value_range: tuple[float, float] = BYTE_RANGE,
        beside: bytes | None = None,
        names: Sequence[str] = (),
        dtype: str = "uint8",
    ) -> None:
        self._dtype = dtype
        self._value_range, self._beside, self._names = value_range, beside, names
        self._encoded, self._bands, self._max_pixels = encoded, bands, max_pixels
        height, width, decoding = _demand(encoded, max_pixels)
        self._grid = SourceGrid(height, width, scaled=resize is not None)
        self.on_source_grid = self._grid.to_source_grid
        self.source_pixels = height * width
        self.height, self.width = resize or (height, width)
        scaling = resize[0] * resize[1] * DECODING_BYTES_PER_PIXEL if resize else 0
        self.held_bytes = decoding + scaling + len(encoded)
        self._lock = threading.Lock()
        self._pixels: Pixels | None = None

    def read(self, window: Window) -> Pixels:
        """Pixels of a window; a part is a copy, so that it does not keep the whole in memory.

        Raises:
            InputError: If the image cannot be decoded.
        """
        with self._lock:
            if self._pixels is None:
                self._pixels = self._decoded()
            pixels = self._pixels
        is_whole = (window.height, window.width) == (self.height, self.width)
        if is_whole and self._dtype == pixels.values.dtype:
            return pixels
        valid = None if pixels.valid is None else pixels.valid[window.slices].copy()
        return Pixels(pixels.values[window.slices].astype(self._dtype), valid)

    def counted(self, tile: Tile, pixels: Pixels) -> Counted:
        """How the pixels of a core count: as the pixels of the image that they label."""
        if not self._grid.scaled:
            return super().counted(tile, pixels)
        return self._grid.counted(tile.core, (self.height, self.width))

    def _decoded(self) -> Pixels:
        pixels = decode_pixels(
            self._encoded,
            self._bands,
            self._max_pixels,
            self._value_range,
            self._beside,
            self._names,
            self._dtype,
        )
        self._encoded, self._beside = b"", None
        stated = (self._grid.height, self._grid.width)
        if pixels.values.shape[:2] != stated:
            raise InputError(
                f"the header says {stated}, decoded are {pixels.values.shape[:2]}",
                code=FailureCode.CORRUPT_IMAGE,
            )
        if not self._grid.scaled:
            return pixels
        self._grid.valid = pixels.valid
        size = (self.height, self.width)
        valid = None if pixels.valid is None else resize_valid(pixels.valid, size)
        return Pixels(resize_image(pixels.values, size), valid)


def _demand(encoded: bytes, max_pixels: int) -> tuple[int, int, int]:
    """Height, width, and bytes of memory that decoding takes, by the header of an image."""
    if begins_as_tiff(encoded):
        tiff = TiffImage(encoded, max_pixels)
        return tiff.height, tiff.width, tiff.held_bytes
    image = open_image(encoded, max_pixels)
    return image.height, image.width, image.height * image.width * image.decoding_bytes_per_pixel


def _eight_bits(image: Image.Image) -> Image.Image:
    """Samples of 16 bits as their high byte."""
    if image.mode not in _SIXTEEN_BITS:
        return image
    values = np.asarray(image)
    grey = Image.fromarray((values >> 8).astype(np.uint8))
    transparent = image.info.get("transparency")
    if transparent is not None:
        grey.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    return grey


def _valid(image: Image.Image) -> np.ndarray | None:
    """Where an image of 8 bits is not fully transparent; None if that is everywhere."""
    if not image.has_transparency_data:
        return None
    valid = np.asarray(image.convert("RGBA").getchannel("A")) > 0
    return None if valid.all() else valid


def _converted(image: Image.Image, bands: int) -> np.ndarray:
    """`(height, width, bands)` uint8 of an image of any mode."""
    if image.mode == "P" and image.has_transparency_data:
        # Pillow warns where it cannot keep the transparency of a palette.
        image = image.convert("RGBA")
    if image.mode != _MODES[bands]:
        image = image.convert(_MODES[bands])
    return np.asarray(image).reshape(image.height, image.width, bands)

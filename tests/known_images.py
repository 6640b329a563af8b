"""Encoded images that are known: how they are made from pixels, and the labels they must get."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import rasterio
from PIL import Image
from rasterio.errors import NotGeoreferencedWarning

from tests.fakes import brightness_labels
from tests.pipelines.corpus import pixels

NODATA = 255
HEIGHT, WIDTH = 21, 34
ORIENTATION = 0x0112


@dataclass(frozen=True)
class Known:
    """An encoded image, the suffix of its name and its `(height, width)` labels."""

    suffix: str
    encoded: bytes
    labels: np.ndarray


Kind = Callable[[int], Known]


def known(
    suffix: str, encoded: bytes, values: np.ndarray, valid: np.ndarray | None = None
) -> Known:
    """What is labelled by `(height, width, 1 or 3)` values of 8 bits, where it is valid."""
    labels = brightness_labels(values)
    return Known(suffix, encoded, labels if valid is None else np.where(valid, labels, NODATA))


def as_decoded(suffix: str, encoded: bytes) -> Known:
    """What is labelled as Pillow decodes it."""
    with Image.open(io.BytesIO(encoded)) as image:
        return known(suffix, encoded, np.asarray(image.convert("RGB")))


def by_pillow(values: np.ndarray, kind: str, mode: str | None = None, **options) -> bytes:
    """Encoded by Pillow, turned to a mode before if one is given."""
    image = Image.fromarray(values)
    buffer = io.BytesIO()
    (image.convert(mode) if mode else image).save(buffer, kind, **options)
    return buffer.getvalue()


def by_gdal(bands: np.ndarray, **profile) -> bytes:
    """A TIFF of `(bands, height, width)` values without coordinates, written by GDAL."""
    count, height, width = bands.shape
    with rasterio.MemoryFile() as memory, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        fields = {"height": height, "width": width, "count": count, "dtype": bands.dtype.name}
        with memory.open(driver="GTiff", **fields, **profile) as target:
            target.write(bands)
        return memory.read()


def picture(seed: int, bands: int = 3) -> np.ndarray:
    """`(height, width, bands)` uint8; seeds of three digits and more give larger ones."""
    scale = 4 if seed >= 100 else 1
    return pixels(HEIGHT * scale + seed % 5, WIDTH * scale, seed, bands)


def alpha_of(seed: int) -> np.ndarray:
    """`(height, width)` uint8 with fully, nearly and not transparent pixels."""
    shape = picture(seed).shape[:2]
    return np.random.default_rng(seed + 1).choice(np.array([0, 1, 128, 255], np.uint8), shape)


def exif_turn(orientation: int) -> Image.Exif:
    """EXIF data that asks for a turn."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def sixteen(values: np.ndarray, seed: int) -> np.ndarray:
    """16 bits whose high byte is `values` and whose low byte is noise."""
    low = np.random.default_rng(seed).integers(0, 256, values.shape)
    return (values.astype(np.uint16) << 8) + low.astype(np.uint16)

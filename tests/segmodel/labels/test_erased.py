"""Erased pixels of masks count nowhere, however a mask says that they are erased."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

from segmodel.errors import InputError
from segmodel.labels.classes import ClassTable, LabelClass
from segmodel.labels.confusion import IGNORED
from segmodel.labels.masks import MaskReader
from segmodel.rasters.opening import Opener
from segmodel.rasters.reader import RasterHandle
from segmodel.tiling.windows import Window

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

RED, GREEN = (255, 0, 0), (0, 255, 0)
CLASSES = ClassTable((LabelClass(0, "ground", RED), LabelClass(1, "house", GREEN)))
COLORS = MaskReader.of(CLASSES, "color")
IDS = MaskReader.of(CLASSES, "id")
INDICES = MaskReader.of(CLASSES, "palette")
# In columns: ground, house, erased ground, erased house.
ID_ROW = np.array([[0, 1, 0, 1]], np.uint8)
ALPHA = np.array([[255, 1, 0, 0]], np.uint8)
COLOR_ROW = np.array([RED, GREEN], np.uint8)[ID_ROW]
EXPECTED = [[0, 1, IGNORED, IGNORED]]


def saved(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def tiff(path: Path, values: np.ndarray, change=None, **profile) -> bytes:
    """`(height, width, bands)` values as a TIFF without a place."""
    height, width, count = values.shape
    size = {"height": height, "width": width, "count": count, "dtype": values.dtype.name}
    with rasterio.open(path, "w", driver="GTiff", **size, **profile) as target:
        target.write(np.moveaxis(values, -1, 0))
    if change is not None:
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as target:
            change(target)
    return path.read_bytes()


def both(path: Path, content: bytes, reader: MaskReader) -> list[list[int]]:
    """Class indices of a TIFF, decoded whole and by windows, which are the same."""
    path.write_bytes(content)
    height, width = Image.open(path).size[::-1]
    whole = reader.indices(content, (height, width))
    handle = RasterHandle(str(path), Opener())
    raster = reader.of_raster(handle, handle.header())
    parts = [reader.window_indices(raster, Window(0, column, height, 1)) for column in range(width)]
    np.testing.assert_array_equal(np.hstack(parts), whole)
    return whole.tolist()


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_transparent_pixels_of_a_mask_of_colours_are_ignored(kind):
    image = Image.fromarray(np.dstack([COLOR_ROW, ALPHA]))
    content = saved(image, kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {}))
    assert COLORS.indices(content, (1, 4)).tolist() == EXPECTED
    assert COLORS.read(content, (1, 4), 100).tolist() == [[0, 1, 255, 255]]


def test_what_lies_under_erased_pixels_need_not_be_a_class():
    strange = COLOR_ROW.copy()
    strange[:, 2:] = 77
    content = saved(Image.fromarray(np.dstack([strange, ALPHA])), "PNG")
    assert COLORS.indices(content, (1, 4)).tolist() == EXPECTED
    opaque = saved(Image.fromarray(strange), "PNG")
    with pytest.raises(InputError, match="color #4D4D4D"):
        COLORS.indices(opaque, (1, 4))


@pytest.mark.parametrize("reader", [COLORS, INDICES])
def test_transparent_colours_of_a_palette_are_ignored(reader):
    image = Image.fromarray(np.array([[0, 1, 2, 2]], np.uint8))
    image.putpalette([*RED, *GREEN, *GREEN])
    content = saved(image, "PNG", transparency=bytes([255, 255, 0]))
    assert reader.indices(content, (1, 4)).tolist() == EXPECTED


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_ids_may_have_alpha(kind):
    content = saved(Image.fromarray(np.dstack([ID_ROW, ALPHA])), kind)
    assert IDS.indices(content, (1, 4)).tolist() == EXPECTED


def test_a_transparent_grey_level_of_a_png_is_ignored():
    for dtype in (np.uint8, np.uint16):
        image = Image.fromarray(np.array([[0, 1, 9, 9]], dtype))
        content = saved(image, "PNG", transparency=9)
        assert IDS.indices(content, (1, 4)).tolist() == EXPECTED


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32"])
def test_the_nodata_value_of_a_tiff_is_ignored_unless_it_is_a_class(tmp_path, dtype):
    path = tmp_path / "a.tif"
    values = np.array([[[0], [1], [77], [77]]], dtype)
    assert both(path, tiff(path, values, nodata=77), IDS) == EXPECTED
    values = np.array([[[0], [1], [0], [1]]], dtype)
    assert both(path, tiff(path, values, nodata=0), IDS) == [[0, 1, 0, 1]]
    with pytest.raises(InputError, match="id 77"):
        both(path, tiff(path, np.full((1, 1, 1), 77, dtype), nodata=78), IDS)


def test_a_colour_of_nodata_is_ignored_unless_it_is_a_class(tmp_path):
    path = tmp_path / "a.tif"
    values = np.array([[RED, GREEN, (7, 7, 7), (7, 7, 7)]], np.uint8)
    assert both(path, tiff(path, values, nodata=7, photometric="RGB"), COLORS) == EXPECTED
    black = ClassTable((LabelClass(0, "ground", (0, 0, 0)), LabelClass(1, "house", GREEN)))
    values = np.array([[(0, 0, 0), GREEN]], np.uint8)
    reader = MaskReader.of(black, "color")
    assert both(path, tiff(path, values, nodata=0, photometric="RGB"), reader) == [[0, 1]]


@pytest.mark.parametrize(
    ("values", "reader"), [(ID_ROW[..., None], IDS), (COLOR_ROW, COLORS)], ids=["id", "color"]
)
def test_the_mask_of_a_tiff_is_0_where_pixels_are_ignored(tmp_path, values, reader):
    path = tmp_path / "a.tif"
    content = tiff(path, values, lambda target: target.write_mask(ALPHA))
    assert both(path, content, reader) == EXPECTED


def test_a_mask_beside_a_tiff_is_0_where_pixels_are_ignored(tmp_path):
    path = tmp_path / "a.tif"
    content = tiff(path, ID_ROW[..., None])
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as target:
        target.write_mask(ALPHA)
    beside = path.with_name("a.tif.msk").read_bytes()
    assert IDS.indices(content, (1, 4)).tolist() == [[0, 1, 0, 1]]
    assert IDS.indices(content, (1, 4), beside=beside).tolist() == EXPECTED


def test_a_nodata_value_of_a_palette_stays_the_class_that_it_is(tmp_path):
    def with_palette(target):
        target.write_colormap(1, {0: (*RED, 255), 1: (*GREEN, 255), 9: (9, 9, 9, 255)})

    path = tmp_path / "a.tif"
    values = np.array([[[0], [1], [9], [9]]], np.uint8)
    assert both(path, tiff(path, values, with_palette, nodata=9), INDICES) == EXPECTED
    assert both(path, tiff(path, values[:, :2], with_palette, nodata=0), INDICES) == [[0, 1]]
    assert both(path, tiff(path, values[:, :2], with_palette, nodata=0), COLORS) == [[0, 1]]


Stored = Callable[[np.ndarray], np.ndarray]


@pytest.mark.parametrize(
    ("bits", "stored"), [(1, lambda ids: 1 - ids), (4, lambda i: 15 - i), (8, lambda i: 255 - i)]
)
def test_ids_of_grey_from_white_to_black_are_those_that_are_seen(tmp_path, bits, stored: Stored):
    path = tmp_path / "a.tif"
    profile = {} if bits == 8 else {"nbits": bits}
    content = tiff(path, stored(ID_ROW)[..., None], photometric="MINISWHITE", **profile)
    assert both(path, content, IDS) == [[0, 1, 0, 1]]
    if bits > 1:
        # A nodata value is a sample of the file.
        values = stored(np.array([[0, 1, 5, 5]], np.uint8))[..., None]
        content = tiff(
            path, values, nodata=int(values[0, 3, 0]), photometric="MINISWHITE", **profile
        )
        assert both(path, content, IDS) == EXPECTED


def test_ids_of_one_bit_are_1_where_the_mask_is_white(tmp_path):
    path = tmp_path / "a.tif"
    assert both(path, tiff(path, ID_ROW[..., None], nbits=1), IDS) == [[0, 1, 0, 1]]


def test_ids_of_16_bits_that_are_0_where_white_are_refused(tmp_path):
    path = tmp_path / "a.tif"
    content = tiff(path, ID_ROW[..., None].astype(np.uint16), photometric="MINISWHITE")
    with pytest.raises(InputError, match=r"0 where it is white .*PHOTOMETRIC=MINISBLACK"):
        IDS.indices(content, (1, 4))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_mask_with_an_orientation_is_turned_like_its_image(orientation):
    ids = np.array([[0, 1, 1], [0, 0, 1]], np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = saved(Image.fromarray(ids), "TIFF", exif=exif)
    expected = np.asarray(Image.open(io.BytesIO(content)))
    assert IDS.indices(content, expected.shape).tolist() == expected.tolist()

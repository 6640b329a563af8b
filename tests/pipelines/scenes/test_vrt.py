"""One VRT over many label maps: what lies on top, what shows through, and what GDAL reads."""

import io
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from pyproj import CRS
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioIOError

from pipelines.scenes.vrt import Piece, crs_name, mosaics, write_mosaic
from segmodel.errors import InputError
from segmodel.labels.classes import ClassTable, LabelClass

UTM = CRS("EPSG:32633").to_wkt()
CLASSES = ClassTable((LabelClass(0, "water & ice", (0, 0, 255)), LabelClass(2, "a <b>", (1, 2, 3))))
WIDE = ClassTable((LabelClass(300, "much", (1, 2, 3)), LabelClass(2, "little", (4, 5, 6))))


def piece(path: str, east: float = 0, north: float = 0, size: int = 4, step: float = 10) -> Piece:
    transform = Affine(step, 0, 3e5 + east, 0, -step, 6e6 + north)
    return Piece(path, size, size, transform, UTM, 512)


def save(folder: Path, one: Piece, values: np.ndarray) -> Piece:
    profile = {"driver": "GTiff", "count": 1, "dtype": values.dtype, "crs": one.crs_wkt}
    profile |= {"height": one.height, "width": one.width, "transform": one.transform}
    (folder / one.path).parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(folder / one.path, "w", **profile) as target:
        target.write(values, 1)
    return one


def labels(value: int, size: int = 4, dtype: type = np.uint8) -> np.ndarray:
    return np.full((size, size), value, dtype)


def write(folder: Path, pieces: list[Piece], classes: ClassTable = CLASSES) -> Path:
    path = folder / "labels.vrt"
    with path.open("w", encoding="utf-8") as stream:
        write_mosaic(stream, pieces, classes)
    return path


def test_first_piece_lies_on_top_and_its_nodata_shows_the_one_below(tmp_path: Path) -> None:
    top = labels(2)
    top[0, 3] = 255
    pieces = [
        save(tmp_path, piece("top.tif"), top),
        save(tmp_path, piece("below.tif", east=20), labels(0)),
    ]
    expected = np.hstack([labels(2), labels(0)[:, :2]])
    expected[0, 3] = 0

    with rasterio.open(write(tmp_path, pieces)) as source:
        actual = source.read(1)
        assert source.transform == pieces[0].transform
        assert source.crs.to_epsg() == 32633
    np.testing.assert_array_equal(actual, expected)


def test_names_with_controls_are_found_and_stand_written_out(tmp_path: Path) -> None:
    name, shown = "s\nx\x1b[31m\u202e<&>.tif", "a\n\x1b]]>\u202e"
    pieces = [save(tmp_path, piece(name), labels(2))]
    classes = ClassTable((LabelClass(0, "water", (0, 0, 255)), LabelClass(2, shown, (1, 2, 3))))

    path = write(tmp_path, pieces, classes)

    text = path.read_text("utf-8")
    assert "<Category>a\\n\\x1b]]&gt;\\u202e</Category>" in text
    assert "s&#10;x&#27;[31m&#8238;&lt;&amp;&gt;.tif" in text
    with rasterio.open(path) as source:
        np.testing.assert_array_equal(source.read(1), labels(2))


def test_ground_between_pieces_is_nodata(tmp_path: Path) -> None:
    pieces = [
        save(tmp_path, piece("a.tif"), labels(2)),
        save(tmp_path, piece("b.tif", east=80, north=40), labels(0)),
    ]
    expected = np.full((8, 12), 255, np.uint8)
    expected[4:, :4], expected[:4, 8:] = 2, 0

    with rasterio.open(write(tmp_path, pieces)) as source:
        np.testing.assert_array_equal(source.read(1), expected)
        assert source.transform == pieces[0].transform @ Affine.translation(0, -4)


def test_palette_nodata_and_class_names_are_those_of_label_maps(tmp_path: Path) -> None:
    path = write(tmp_path, [save(tmp_path, piece("a.tif"), labels(2))])

    with rasterio.open(path) as source:
        colors = source.colormap(1)
        assert source.nodata == 255
        assert source.dtypes == ("uint8",)
        assert source.colorinterp == (ColorInterp.palette,)
        assert source.descriptions == ("label",)
    assert (colors[0], colors[2], colors[255]) == (
        (0, 0, 255, 255),
        (1, 2, 3, 255),
        (0, 0, 0, 0),
    )
    names = [entry.text for entry in ET.parse(path).iter("Category")]
    assert names == ["water & ice", None, "a <b>"]


def test_maps_of_16_bits_have_no_palette(tmp_path: Path) -> None:
    one = save(tmp_path, piece("a.tif"), labels(300, dtype=np.uint16))
    path = write(tmp_path, [one], WIDE)

    with rasterio.open(path) as source:
        assert (source.dtypes, source.nodata) == (("uint16",), 65535)
        assert (source.read(1) == 300).all()
        with pytest.raises(ValueError, match="NULL color table"):
            source.colormap(1)


@pytest.mark.parametrize("order", [1, -1])
def test_finest_resolution_is_kept_and_coarse_pixels_repeat(tmp_path: Path, order: int) -> None:
    coarse, fine = np.array([[0, 2], [2, 0]], np.uint8), np.arange(16).reshape(4, 4) % 2 * 2
    pieces = [
        save(tmp_path, piece("coarse.tif", size=2, step=20), coarse),
        save(tmp_path, piece("fine.tif", east=40, size=4, step=10), fine.astype(np.uint8)),
    ]
    expected = np.hstack([coarse.repeat(2, axis=0).repeat(2, axis=1), fine])

    with rasterio.open(write(tmp_path, pieces[::order])) as source:
        np.testing.assert_array_equal(source.read(1), expected)
        assert source.res == (10, 10)


def test_grid_is_that_of_the_first_piece(tmp_path: Path) -> None:
    pieces = [
        save(tmp_path, piece("a.tif"), labels(2)),
        save(tmp_path, piece("b.tif", east=-13, north=4), labels(0)),
    ]

    with rasterio.open(write(tmp_path, pieces)) as source:
        assert source.transform == pieces[0].transform @ Affine.translation(-2, -1)
        assert source.shape == (5, 6)
        np.testing.assert_array_equal(source.read(1)[1:, 2:], labels(2))


def test_names_with_ampersands_and_spaces_are_found(tmp_path: Path) -> None:
    one = save(tmp_path, piece("a & b/<north> 'é'.tif"), labels(2))

    with rasterio.open(write(tmp_path, [one])) as source:
        assert (source.read(1) == 2).all()


def test_a_missing_piece_is_found_out_only_where_it_is_read(tmp_path: Path) -> None:
    pieces = [
        save(tmp_path, piece("here.tif"), labels(2)),
        piece("gone.tif", east=40),
    ]

    with rasterio.open(write(tmp_path, pieces)) as source:
        here = ((0, 4), (0, 4))
        np.testing.assert_array_equal(source.read(1, window=here), labels(2))
        with pytest.raises(RasterioIOError):
            source.read(1)


def test_thousands_of_pieces_are_written_and_opened_in_seconds(tmp_path: Path) -> None:
    pieces = [piece(f"{n}.tif", east=40 * (n % 50), north=-40 * (n // 50)) for n in range(2000)]
    start = time.monotonic()
    path = write(tmp_path, pieces)
    with rasterio.open(path) as source:
        shape = source.shape

    assert shape == (160, 200)
    assert time.monotonic() - start < 10


def test_pieces_are_dealt_to_files_by_crs() -> None:
    turned = Affine(1, 1, 0, 1, -1, 0)
    local = CRS("+proj=tmerc +lat_0=1 +lon_0=2 +ellps=GRS80").to_wkt()
    a, b = piece("a"), piece("b")
    other = Piece("c", 4, 4, a.transform, CRS("EPSG:4326").to_wkt(), 512)
    coded = Piece("d", 4, 4, a.transform, local, 512)
    left = [
        Piece("turned", 4, 4, turned, UTM, 512),
        Piece("south up", 4, 4, Affine(1, 0, 0, 0, 1, 0), UTM, 512),
        Piece("nowhere", 4, 4, a.transform, "", 512),
    ]

    held = mosaics([left[0], a, left[1], other, coded, left[2], b])

    digits = crs_name(local)
    assert len(digits) == 8
    assert held == {
        "EPSG-32633": "labels-EPSG-32633.vrt",
        "EPSG-4326": "labels-EPSG-4326.vrt",
        digits: f"labels-{digits}.vrt",
    }
    assert mosaics([a, b]) == {"EPSG-32633": "labels.vrt"}
    assert mosaics(left) == mosaics([]) == {}


def test_one_crs_in_two_spellings_is_one_mosaic(tmp_path: Path) -> None:
    a, b = piece("a.tif"), save(tmp_path, piece("b.tif", east=40), labels(2))
    with rasterio.open(tmp_path / "b.tif") as source:
        spelled = source.crs.to_wkt()
    assert spelled != UTM
    again = Piece(b.path, 4, 4, b.transform, spelled, 512)

    assert mosaics([a, again]) == {"EPSG-32633": "labels.vrt"}


def test_what_is_too_far_apart_for_gdal_is_left() -> None:
    far = [piece("a", step=1e-3), piece("b", east=3e6, step=1e-3)]

    assert mosaics(far) == {}
    with pytest.raises(InputError, match=r"2\^31"):
        write_mosaic(io.StringIO(), far, CLASSES)


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        ([], "got 0 mosaics, and \\[\\] that fit in none"),
        ([Piece("x", 4, 4, Affine(1, 0, 0, 0, 1, 0), UTM, 512)], "north-up .* got 0 .*'x'"),
        ([piece("a"), Piece("x", 4, 4, piece("a").transform, "", 512)], "one CRS.* got 1 .*'x'"),
    ],
)
def test_what_no_vrt_can_hold_is_refused(pieces: list[Piece], text: str) -> None:
    with pytest.raises(InputError, match=text):
        write_mosaic(io.StringIO(), pieces, CLASSES)

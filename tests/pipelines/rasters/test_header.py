"""Headers of scenes: bands and their names, where nodata is, and what else they are read from."""

from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp
from rasterio.rpc import RPC

from pipelines.rasters.header import Headers, read_header
from pipelines.run.plan import InputFile
from segmodel.errors import InputError
from segmodel.rasters.completeness import last_block
from segmodel.rasters.header import Band
from segmodel.rasters.opening import reason_of_gdal
from segmodel.tiling.windows import Window
from tests.pipelines.corpus import UTM, pixels, write, write_scene
from tests.pipelines.raster_kinds import (
    PALETTE,
    name_bands,
    source_of,
    write_alpha,
    write_mask_beside,
    write_masked_bands,
    write_mosaic,
    write_palette,
    write_vrt,
)

VALUES = np.maximum(pixels(20, 30), 1)
VALID = np.random.default_rng(1).random((20, 30)) > 0.4


def header_of(path: Path):
    return read_header(str(path))


def test_a_plain_scene_has_its_grid_and_bands_and_nothing_else(tmp_path):
    path = write_scene(tmp_path / "a.tif", VALUES)
    header = header_of(path)
    assert (header.grid.height, header.grid.width) == (20, 30)
    assert header.grid.transform == UTM[1]
    assert header.grid.crs == rasterio.CRS.from_string(UTM[0])
    assert header.bands == (
        Band(1, "uint8", "", None, 1.0, 0.0, "red"),
        Band(2, "uint8", "", None, 1.0, 0.0, "green"),
        Band(3, "uint8", "", None, 1.0, 0.0, "blue"),
    )
    assert (header.mask, header.alpha, header.palette) == ("none", None, None)
    assert (header.located_by, header.acquired, header.others) == (None, None, ())


def test_a_raster_without_a_place_has_none_whatever_is_in_memory(tmp_path):
    path = tmp_path / "a.pgm"
    path.write_bytes(b"P5 8 8 255\n" + bytes(64))
    header = header_of(path)
    assert header.grid.transform.is_identity
    assert not header.is_located
    (tmp_path / "a.pgm.aux.xml").write_text("<PAMDataset><SRS>EPSG:32633</SRS></PAMDataset>")
    assert header_of(path).grid.transform.is_identity


def test_bands_are_called_by_description_and_colour_in_lower_case(tmp_path):
    path = write_scene(tmp_path / "a.tif", pixels(8, 8, bands=4), photometric="RGB")
    name_bands(path, [" B04 ", "Green", None, "NIR"])
    with rasterio.open(path, "r+") as target:
        target.colorinterp = [*target.colorinterp[:3], ColorInterp.undefined]
    names = [(band.description, band.color) for band in header_of(path).bands]
    assert names == [("b04", "red"), ("green", "green"), ("", "blue"), ("nir", "")]


def test_a_description_wins_over_the_colour_and_the_alpha_that_gdal_invents(tmp_path):
    path = write_scene(tmp_path / "a.tif", pixels(8, 8, bands=4), nodata=0)
    name_bands(path, ["blue", "green", "red", "nir"])
    with rasterio.open(path) as source:
        assert source.colorinterp[:3] == (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
        assert source.colorinterp[3] == ColorInterp.alpha
    header = header_of(path)
    assert [band.name for band in header.bands] == ["blue", "green", "red", "nir"]
    assert [band.is_color_invented for band in header.bands] == [True, False, True, False]
    assert (header.alpha, header.mask, header.revision) == (None, "values", 1)


@pytest.mark.parametrize(
    ("names", "revision"),
    [(("red", "foo", "blue"), 1), (("red", "", "blue"), 0), (("x", "y", "z"), 0)],
)
def test_names_beside_colours_are_of_another_revision_where_they_contradict(
    tmp_path, names, revision
):
    path = write_scene(tmp_path / "a.tif", pixels(8, 8))
    name_bands(path, list(names))
    assert header_of(path).revision == revision


def test_a_part_that_is_missing_in_a_zip_archive_is_missed(tmp_path):
    header = "ENVI\nsamples = 8\nlines = 8\nbands = 1\ndata type = 1\ninterleave = bsq\n"
    with ZipFile(tmp_path / "a.zip", "w") as archive:
        for name, count in (("whole", 64), ("cut", 40)):
            archive.writestr(f"in/{name}.hdr", header)
            archive.writestr(f"in/{name}.img", bytes(count))
    folder = f"/vsizip/{tmp_path}/a.zip/in"
    assert read_header(f"{folder}/whole.img").shortage is None
    assert "40 of 64 bytes" in (read_header(f"{folder}/cut.img").shortage or "")


def test_colours_that_the_file_states_stay_beside_descriptions(tmp_path):
    path = write_scene(tmp_path / "a.tif", pixels(8, 8))
    name_bands(path, ["bleu", "vert", "rouge"])
    with rasterio.open(path, "r+") as target:
        target.colorinterp = [ColorInterp.blue, ColorInterp.green, ColorInterp.red]
    bands = header_of(path).bands
    assert [band.color for band in bands] == ["blue", "green", "red"]
    assert not any(band.is_color_invented for band in bands)


@pytest.mark.parametrize(
    "description", ["", "Band 4", "4", "alpha", "Transparency", "valid pixels", "Coverage"]
)
def test_a_description_that_names_no_band_leaves_alpha_alpha(tmp_path, description):
    path = write_scene(tmp_path / "a.tif", pixels(8, 8, bands=4))
    name_bands(path, [None, None, None, description])
    header = header_of(path)
    assert (header.alpha, header.mask, header.revision) == (4, "alpha", 0)
    assert header.alpha_band is not None
    assert header.alpha_band.index == 4


@pytest.mark.parametrize(("bits", "last"), [(1, 1), (2, 3), (4, 15), (8, 255)])
def test_grey_from_white_to_black_has_the_palette_of_what_is_seen(tmp_path, bits, last):
    profile = {} if bits == 8 else {"nbits": bits}
    path = tmp_path / "a.tif"
    write_scene(path, np.zeros((5, 5, 1), np.uint8), photometric="MINISWHITE", **profile)
    header = header_of(path)
    assert (header.white_is_zero, header.has_grey_palette, header.revision) == (True, True, 1)
    assert header.palette is not None
    assert len(header.palette) == last + 1
    with rasterio.open(path) as source:
        assert header.palette == tuple(source.colormap(1)[value] for value in range(last + 1))


@pytest.mark.parametrize(
    ("dtype", "nodata", "revision"),
    [
        ("float32", -3.4e38, 1),
        ("float32", -3.4028234663852886e38, 0),
        ("float32", -9999, 0),
        ("float64", -1.7e308, 1),
        ("int16", -9999, 0),
        ("uint8", 3.5, 1),
    ],
)
def test_scenes_whose_nodata_was_read_otherwise_are_of_another_revision(
    tmp_path, dtype, nodata, revision
):
    path = write_scene(tmp_path / "a.tif", np.zeros((4, 4, 3), dtype))
    with rasterio.open(path, "r+") as target:
        target.nodata = nodata
    assert header_of(path).revision == revision


def test_scale_offset_nodata_and_dtype_are_those_of_each_band(tmp_path):
    path = write_scene(tmp_path / "a.tif", pixels(8, 8).astype(np.int16), nodata=-9999)
    with rasterio.open(path, "r+") as target:
        target.scales, target.offsets = (0.5, 1, 1), (0, 0, -3)
    bands = header_of(path).bands
    assert [(band.scale, band.offset, band.is_scaled) for band in bands] == [
        (0.5, 0.0, True),
        (1.0, 0.0, False),
        (1.0, -3.0, True),
    ]
    assert {(band.dtype, band.nodata) for band in bands} == {("int16", -9999.0)}


def made(kind: str, path: Path) -> Path:
    """A scene with nodata of a kind."""
    if kind == "none":
        return write_scene(path, VALUES)
    if kind == "values":
        return write_scene(path, VALUES, nodata=0)
    if kind == "alpha":
        return write_alpha(path, VALUES, VALID)
    if kind == "mask":
        return write_scene(path, VALUES, mask=VALID)
    if kind == "mask beside":
        return write_mask_beside(path, VALUES, VALID)
    return write_masked_bands(path.with_suffix(".vrt"), VALUES, np.dstack([VALID] * 3))


@pytest.mark.parametrize("kind", ["none", "values", "alpha", "mask", "mask beside", "bands"])
def test_the_kind_of_nodata_is_known_and_alpha_is_no_band(tmp_path, kind):
    header = header_of(made(kind, tmp_path / "a.tif"))
    assert header.mask == kind.split()[0]
    assert header.alpha == (4 if kind == "alpha" else None)
    assert [band.index for band in header.bands] == [1, 2, 3]


@pytest.mark.parametrize(
    ("kind", "others"),
    [("none", []), ("mask", []), ("mask beside", ["a.tif.msk"])],
)
def test_others_are_the_files_that_a_scene_is_also_read_from(tmp_path, kind, others):
    header = header_of(made(kind, tmp_path / "a.tif"))
    assert header.others == tuple(str(tmp_path / name) for name in others)


def test_others_of_a_mosaic_are_all_its_files(tmp_path):
    header = header_of(write_mosaic(tmp_path / "a.vrt", VALUES, 12))
    assert header.others == (str(tmp_path / "left.tif"), str(tmp_path / "right.tif"))
    assert (header.grid.height, header.grid.width) == (20, 30)


def test_a_world_file_and_statistics_beside_a_scene_are_others(tmp_path):
    path = write_scene(tmp_path / "a.tif", VALUES)
    write(tmp_path / "a.tif.aux.xml", b"<PAMDataset/>")
    assert header_of(path).others == (str(tmp_path / "a.tif.aux.xml"),)


def test_a_palette_has_every_value_up_to_the_greatest(tmp_path):
    header = header_of(write_palette(tmp_path / "a.tif", np.zeros((5, 5), np.uint8)))
    # A TIFF has colours for all values, and none of them is transparent.
    assert header.palette[1:4] == (PALETTE[1], PALETTE[2], PALETTE[3])
    assert header.palette[0] == header.palette[4] == header.palette[255] == (0, 0, 0, 255)
    assert len(header.palette) == 256
    assert header.bands[0].name == ""


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_places_by_control_points_or_polynomials_are_told(tmp_path):
    points = [GroundControlPoint(r, c, 10 + c, 50 - r) for r, c in ((0, 0), (0, 8), (8, 0))]
    by_points = tmp_path / "gcps.tif"
    fields = {"driver": "GTiff", "height": 8, "width": 8, "count": 3, "dtype": "uint8"}
    with rasterio.open(by_points, "w", **fields) as target:
        target.gcps = (points, rasterio.CRS.from_epsg(4326))
    polynomials = tmp_path / "rpcs.tif"
    with rasterio.open(polynomials, "w", **fields) as target:
        ones = [1.0] * 20
        target.rpcs = RPC(0, 1, 50, 1, ones, ones, 4, 4, 10, 1, ones, ones, 4, 4, 0, 0)
    plain = tmp_path / "plain.tif"
    with rasterio.open(plain, "w", **fields):
        pass
    found = [header_of(path).located_by for path in (by_points, polynomials, plain)]
    assert found == ["gcps", "rpcs", None]


def test_a_transform_outweighs_control_points(tmp_path):
    path = write_mosaic(tmp_path / "a.vrt", VALUES, 12)
    point = '<GCP Id="1" Pixel="0" Line="0" X="1" Y="2"/>'
    text = path.read_text().replace("</SRS>", f"</SRS><GCPList>{point}</GCPList>")
    path.write_text(text)
    header = header_of(path)
    assert (header.located_by, header.grid.transform) == (None, UTM[1])


@pytest.mark.parametrize(
    ("tags", "namespace", "expected"),
    [
        ({"TIFFTAG_DATETIME": "2021:07:01 10:00:00"}, None, "2021:07:01 10:00:00"),
        ({"TIFFTAG_DATETIME": "late", "datetime": "2021-07-01"}, None, "2021-07-01"),
        ({"ACQUISITIONDATETIME": "2020", "datetime": "2021"}, None, "2020"),
        ({"ACQUISITIONDATETIME": "2019"}, "IMAGERY", "2019"),
        ({"other": "2019"}, None, None),
    ],
)
def test_the_date_is_the_first_that_the_file_gives(tmp_path, tags, namespace, expected):
    path = write_scene(tmp_path / "a.tif", VALUES)
    with rasterio.open(path, "r+") as target:
        target.update_tags(ns=namespace, **tags)
    assert header_of(path).acquired == expected


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        ({"blockysize": 4}, (4, 30)),
        ({"tiled": True, "blockxsize": 16, "blockysize": 16}, (16, 16)),
    ],
)
def test_what_is_stored_as_a_whole_is_known(tmp_path, profile, expected):
    header = header_of(write_scene(tmp_path / "a.tif", VALUES, **profile))
    assert header.block_px == expected


@pytest.mark.parametrize("factors", [[], [2]])
def test_overviews_are_seen(tmp_path, factors):
    path = write_scene(tmp_path / "a.tif", VALUES)
    if factors:
        with rasterio.open(path, "r+") as target:
            target.build_overviews(factors)
    assert header_of(path).has_overviews is bool(factors)


def test_a_header_is_read_once_for_every_version_of_a_file(tmp_path):
    path = write_scene(tmp_path / "a.tif", VALUES)
    headers, file = Headers(), InputFile(str(path), "x", "a.tif", 1, "1-1")
    first = headers.read(file)
    write_scene(path, VALUES[:10])
    assert headers.read(file) is first
    assert headers.read(replace(file, version="1-2")).grid.height == 10
    assert Headers().read(file).grid.height == 10


def test_copies_of_headers_are_one_object_in_a_process_and_empty_in_another(tmp_path):
    path = write_scene(tmp_path / "a.tif", VALUES)
    headers, file = Headers(), InputFile(str(path), "x", "a.tif", 1, "1-1")
    first, copied = headers.read(file), pickle.dumps(headers)
    path.unlink()
    assert pickle.loads(copied).read(file) is first
    code = (
        "import pickle, sys; from pipelines.run.plan import InputFile; "
        "one, other = (pickle.loads(bytes.fromhex(sys.argv[1])) for _ in range(2)); "
        "print(one is other, one.find(InputFile(sys.argv[2], 'x', 'a.tif', 1, '1-1')))"
    )
    command = [sys.executable, "-c", code, copied.hex(), str(path)]
    assert subprocess.run(command, capture_output=True, text=True).stdout == "True None\n"


def test_scenes_of_one_crs_share_it(tmp_path):
    paths = [write_scene(tmp_path / f"{n}.tif", VALUES) for n in range(2)]
    one, other = (header_of(path).grid.crs for path in paths)
    assert one is other


def test_what_cannot_be_opened_is_refused_without_its_path(tmp_path):
    path = write(tmp_path / "in" / "a.tif", b"II*\0broken")
    with pytest.raises(InputError, match=r"^the scene cannot be opened: ") as caught:
        header_of(path)
    assert str(tmp_path) not in str(caught.value)


def test_a_missing_source_of_a_mosaic_is_told_by_name(tmp_path):
    path = write_vrt(tmp_path / "a.vrt", 8, 8, [source_of(tmp_path / "gone.tif", 1)])
    with rasterio.open(path) as source, pytest.raises(rasterio.errors.RasterioError) as caught:
        source.read()
    reason = reason_of_gdal(caught.value, str(path))
    assert "gone.tif" in reason
    assert str(tmp_path) not in reason


def test_a_scene_without_place_has_neither_crs_nor_transform(tmp_path):
    path = write_vrt(tmp_path / "a.vrt", 8, 8, [""])
    text = path.read_text()
    start, end = text.index("<SRS>"), text.index("</GeoTransform>") + len("</GeoTransform>")
    path.write_text(text[:start] + text[end:])
    header = header_of(path)
    assert (header.grid.crs, header.located_by) == (None, None)
    assert header.grid.transform == Affine.identity()


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        ({"blockysize": 16}, Window(32, 0, 8, 40)),
        ({"tiled": True, "blockxsize": 16, "blockysize": 16}, Window(32, 32, 8, 8)),
        ({"blockysize": 16, "interleave": "band"}, Window(32, 0, 8, 40)),
        ({"driver": "PNG"}, None),
    ],
)
def test_the_block_that_stands_last_in_a_geotiff_is_known(tmp_path, profile, expected):
    path = write_scene(tmp_path / "a.tif", pixels(40, 40), **profile)
    with rasterio.open(path) as source:
        assert last_block(source) == expected


def test_a_block_that_was_written_anew_stands_last(tmp_path):
    path = write_scene(tmp_path / "a.tif", pixels(48, 40) // 64, blockysize=16, compress="deflate")
    with rasterio.open(path, "r+") as target:
        # It no longer fits where it was.
        noise = pixels(16, 40, 1).transpose(2, 0, 1)
        target.write(noise, window=rasterio.windows.Window(0, 16, 40, 16))
    with rasterio.open(path) as source:
        assert last_block(source) == Window(16, 0, 16, 40)

"""A raster whose file ends before its pixels do is refused in every format, not read as zeros."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from rasterio.transform import from_origin

from segmodel.rasters.completeness import netcdf_bytes, netcdf_path, shortage_of
from segmodel.rasters.opening import GDAL_ERRORS, Opener

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

SIDE = 64
# By driver: the suffix of the file that is named, and that of the one that has the pixels.
FORMATS = {
    "AAIGrid": (".asc", ".asc"),
    "BMP": (".bmp", ".bmp"),
    "BT": (".bt", ".bt"),
    "EHdr": (".bil", ".bil"),
    "ELAS": (".dat", ".dat"),
    "ENVI": (".img", ".img"),
    "ERS": (".ers", ""),
    "FIT": (".fit", ".fit"),
    "GPKG": (".gpkg", ".gpkg"),
    "GS7BG": (".grd", ".grd"),
    "GSBG": (".grd", ".grd"),
    "GTX": (".gtx", ".gtx"),
    "GTiff": (".tif", ".tif"),
    "HF2": (".hf2", ".hf2"),
    "HFA": (".img", ".img"),
    "ILWIS": (".mpr", ".mp#"),
    "ISCE": (".slc", ".slc"),
    "ISIS2": (".cub", ".cub"),
    "ISIS3": (".cub", ".cub"),
    "JP2OpenJPEG": (".jp2", ".jp2"),
    "KRO": (".kro", ".kro"),
    "LAN": (".lan", ".lan"),
    "MRF": (".mrf", ".ppg"),
    "NITF": (".ntf", ".ntf"),
    "PAux": (".bin", ".bin"),
    "PCIDSK": (".pix", ".pix"),
    "PCRaster": (".map", ".map"),
    "PDS4": (".xml", ".img"),
    "PNG": (".png", ".png"),
    "PNM": (".pgm", ".pgm"),
    "RRASTER": (".grd", ".gri"),
    "RST": (".rst", ".rst"),
    "SAGA": (".sdat", ".sdat"),
    "SGI": (".rgb", ".rgb"),
    "SIGDEM": (".sigdem", ".sigdem"),
    "VICAR": (".vic", ".vic"),
    "netCDF": (".nc", ".nc"),
}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, np.ndarray]]:
    folder = tmp_path_factory.mktemp("formats")
    values = np.random.default_rng(0).integers(1, 120, (1, SIDE, SIDE))

    def written(driver: str) -> tuple[Path, np.ndarray]:
        path = folder / driver / f"a{FORMATS[driver][0]}"
        if not path.exists():
            path.parent.mkdir()
            for dtype in ("uint8", "int16", "float32"):
                source = folder / f"{dtype}.tif"
                place = {"crs": "EPSG:4326", "transform": from_origin(10, 50, 0.01, 0.01)}
                size = {"width": SIDE, "height": SIDE, "count": 1, "dtype": dtype}
                with rasterio.open(source, "w", driver="GTiff", **size, **place) as out:
                    out.write(values.astype(dtype))
                try:
                    rasterio.shutil.copy(source, path, driver=driver)
                    break
                except GDAL_ERRORS:
                    continue
        with rasterio.open(path) as source:
            return path, source.read()

    return written


def shortage_at(path: Path) -> str | None:
    opener = Opener()
    with opener.open(str(path)) as source:
        return shortage_of(source, str(path), opener)


def cut(path: Path, keep: Callable[[int], int], suffix: str) -> None:
    pixels = path.with_suffix(suffix)
    os.truncate(pixels, keep(pixels.stat().st_size))


@pytest.mark.parametrize("driver", FORMATS)
def test_no_format_gives_zeros_for_what_was_cut_off(original, driver, tmp_path):
    path, expected = original(driver)
    assert shortage_at(path) is None
    row = expected[0, 0].nbytes
    for number, keep in enumerate(
        (
            lambda size: size // 4,
            lambda size: size // 2,
            lambda size: size * 9 // 10,
            lambda size: size - row,
        )
    ):
        copy = tmp_path / str(number)
        shutil.copytree(path.parent, copy)
        cut(copy / path.name, keep, FORMATS[driver][1])
        try:
            if shortage_at(copy / path.name) is None:
                with rasterio.open(copy / path.name) as source:
                    np.testing.assert_array_equal(source.read(), expected)
        except GDAL_ERRORS:
            continue


@pytest.mark.parametrize("interleave", ["bsq", "bil", "bip"])
def test_envi_of_several_bands_counts_all_of_them(tmp_path, interleave):
    path = tmp_path / "a.img"
    size = {"width": 7, "height": 5, "count": 3, "dtype": "uint16"}
    with rasterio.open(path, "w", driver="ENVI", interleave=interleave, **size) as out:
        out.write(np.ones((3, 5, 7), np.uint16))
    assert shortage_at(path) is None
    os.truncate(path, 5 * 7 * 3 * 2 - 1)
    assert shortage_at(path) == "the file is shorter than its header says: 209 of 210 bytes"


def raw_vrt(folder: Path, offsets: tuple[int, int, int]) -> Path:
    image, pixel, line = offsets
    path = folder / "raw.vrt"
    path.write_text(
        f'<VRTDataset rasterXSize="8" rasterYSize="4"><VRTRasterBand dataType="Byte" band="1" '
        f'subClass="VRTRawRasterBand"><SourceFilename relativetoVRT="1">raw.bin</SourceFilename>'
        f"<ImageOffset>{image}</ImageOffset><PixelOffset>{pixel}</PixelOffset>"
        f"<LineOffset>{line}</LineOffset></VRTRasterBand></VRTDataset>"
    )
    return path


@pytest.mark.parametrize(
    ("offsets", "needed"), [((0, 1, 8), 32), ((10, 2, 16), 73), ((24, 1, -8), 32)]
)
def test_raw_bands_of_a_vrt_need_the_bytes_that_their_offsets_say(tmp_path, offsets, needed):
    path = raw_vrt(tmp_path, offsets)
    (tmp_path / "raw.bin").write_bytes(bytes(needed))
    assert shortage_at(path) is None
    os.truncate(tmp_path / "raw.bin", needed - 1)
    assert shortage_at(path) == (
        f"raw.bin: the file is shorter than its header says: {needed - 1} of {needed} bytes"
    )


def test_a_vrt_is_as_complete_as_its_sources_and_theirs(tmp_path, original):
    path, _ = original("PNM")
    shutil.copytree(path.parent, tmp_path / "in")
    text = (
        '<VRTDataset rasterXSize="64" rasterYSize="64"><VRTRasterBand dataType="Byte" band="1">'
        '<SimpleSource><SourceFilename relativeToVRT="1">{}</SourceFilename></SimpleSource>'
        "</VRTRasterBand></VRTDataset>"
    )
    (tmp_path / "in" / "one.vrt").write_text(text.format("a.pgm"))
    (tmp_path / "two.vrt").write_text(text.format("in/one.vrt"))
    assert shortage_at(tmp_path / "two.vrt") is None
    os.truncate(tmp_path / "in" / "a.pgm", 1000)
    expected = "one.vrt: a.pgm: the file is shorter than its header says"
    assert shortage_at(tmp_path / "two.vrt") == expected
    (tmp_path / "three.vrt").write_text(text.format("gone.tif"))
    assert shortage_at(tmp_path / "three.vrt") == "gone.tif: there is no such file"


def test_tiles_that_a_sparse_tiff_leaves_out_are_not_missing(tmp_path):
    size = {"width": 64, "height": 64, "count": 1, "dtype": "uint8", "SPARSE_OK": True}
    with rasterio.open(tmp_path / "a.tif", "w", driver="GTiff", **size):
        pass
    assert shortage_at(tmp_path / "a.tif") is None


def test_an_unfinished_text_grid_does_not_hang_gdal(tmp_path, original):
    path, _ = original("AAIGrid")
    text = path.read_bytes()
    (tmp_path / "a.asc").write_bytes(text[: len(text) // 2])
    assert shortage_at(tmp_path / "a.asc") == "the file is shorter than its header says"


def test_record_variables_of_netcdf_end_with_their_last_record():
    def name(text: bytes) -> bytes:
        return len(text).to_bytes(4, "big") + text.ljust(-(-len(text) // 4) * 4, b"\0")

    def number(value: int) -> bytes:
        return value.to_bytes(4, "big")

    def variable(title: bytes, kind: int, begin: int) -> bytes:
        return (
            name(title) + number(2) + number(0) + number(1) + bytes(8) + number(kind) + number(4)
        ) + number(begin)

    header = b"CDF\1" + number(3) + number(10) + number(2) + name(b"time") + number(0)
    header += name(b"x") + number(3) + bytes(8) + number(11)
    one = header + number(1) + variable(b"a", 1, 200)
    two = header + number(2) + variable(b"a", 1, 200) + variable(b"bc", 3, 204)
    # Records of one variable alone are not padded; those of two are, to four bytes each.
    assert netcdf_bytes(one) == 200 + 2 * 3 + 3
    assert netcdf_bytes(two) == 204 + 2 * (4 + 8) + 6


@pytest.mark.parametrize("uri", ["NETCDF:a/b.nc:ndvi", 'NETCDF:"a/b.nc":ndvi', "a/b.nc"])
def test_the_file_of_a_variable_is_found_in_its_address(uri):
    assert netcdf_path(uri) == "a/b.nc"

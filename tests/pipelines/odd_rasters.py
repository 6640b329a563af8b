"""Rasters as they are met in the field, odd or broken, each with what must come of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp
from rasterio.rpc import RPC

from tests.fakes import brightness_labels
from tests.pipelines.corpus import UTM, pixels, spoil_strip, write_scene

MOON = "+proj=longlat +a=1737400 +b=1737400 +no_defs"
PALETTE = {0: (10, 10, 10, 255), 1: (120, 130, 110, 255), 2: (250, 250, 240, 255)}


@dataclass(frozen=True)
class Odd:
    """What must come of a raster.

    Args:
        labels: Its label map, or None if it has none.
        reason: Pattern of the reason for which it fails, or None.
        failed: Pixels that count as failed.
        has_ground: Whether its ground area is known.
    """

    labels: np.ndarray | None
    reason: str | None = None
    failed: int = 0
    has_ground: bool = True


Maker = Callable[[Path], Odd]
MAKERS: dict[str, Maker] = {}


def raster(name: str) -> Callable[[Maker], Maker]:
    """Enter a maker under the name of its file."""

    def enter(maker: Maker) -> Maker:
        assert name not in MAKERS
        MAKERS[name] = maker
        return maker

    return enter


def make_all(folder: Path) -> dict[str, Odd]:
    """Every raster, and what must come of it, by name."""
    folder.mkdir(parents=True)
    return {name: maker(folder / name) for name, maker in MAKERS.items()}


def of(values: np.ndarray, **fields) -> Odd:
    """Labelled by brightness."""
    return Odd(brightness_labels(values), **fields)


def failing(reason: str, **fields) -> Odd:
    """Refused."""
    return Odd(None, reason, **({"has_ground": False} | fields))


def at(transform: Affine, crs: str = UTM[0]) -> tuple[str, Affine]:
    return crs, transform


# What is odd, and right.


@raster("moon.tif")
def _moon(path: Path) -> Odd:
    place = at(Affine(0.01, 0, 10, 0, -0.01, 20), MOON)
    write_scene(path, pixels(90, 100), place)
    return of(pixels(90, 100))


@raster("moon-iau.tif")
def _moon_iau(path: Path) -> Odd:
    place = at(Affine(100, 0, 0, 0, -100, 0), "IAU_2015:30110")
    write_scene(path, pixels(90, 100), place)
    return of(pixels(90, 100))


@raster("antimeridian.tif")
def _antimeridian(path: Path) -> Odd:
    write_scene(path, pixels(90, 200), at(Affine(0.01, 0, 179, 0, -0.01, 10), "EPSG:4326"))
    return of(pixels(90, 200))


@raster("utm-1.tif")
def _utm_1(path: Path) -> Odd:
    # The western edge of zone 1 is at 166,000 m: this one begins beyond the antimeridian.
    write_scene(path, pixels(90, 200), at(Affine(100, 0, 160_000, 0, -100, 100_000), "EPSG:32601"))
    return of(pixels(90, 200))


@raster("utm-60.tif")
def _utm_60(path: Path) -> Odd:
    write_scene(path, pixels(90, 200), at(Affine(100, 0, 825_000, 0, -100, 100_000), "EPSG:32660"))
    return of(pixels(90, 200))


@raster("south-up.tif")
def _south_up(path: Path) -> Odd:
    write_scene(path, pixels(90, 100), at(Affine(10, 0, 300_000, 0, 10, 5_000_000)))
    return of(pixels(90, 100))


@raster("rotated.tif")
def _rotated(path: Path) -> Odd:
    place = Affine.translation(300_000, 5_100_000) @ Affine.rotation(30) @ Affine.scale(10, -10)
    write_scene(path, pixels(90, 100), at(place))
    return of(pixels(90, 100))


@raster("palette.tif")
def _palette(path: Path) -> Odd:
    numbers = np.random.default_rng(1).integers(0, 3, (90, 100, 1)).astype(np.uint8)
    write_scene(path, numbers, at(Affine(10, 0, 300_000, 0, -10, 5_200_000)), photometric="palette")
    with rasterio.open(path, "r+") as target:
        target.write_colormap(1, PALETTE)
    table = np.array([PALETTE[number][:3] for number in range(3)])
    return of(table[numbers[..., 0]])


@raster("one-row.tif")
def _one_row(path: Path) -> Odd:
    write_scene(path, pixels(1, 200), at(Affine(10, 0, 300_000, 0, -10, 5_210_000)))
    return of(pixels(1, 200))


@raster("one-column.tif")
def _one_column(path: Path) -> Odd:
    write_scene(path, pixels(200, 1), at(Affine(10, 0, 300_000, 0, -10, 5_220_000)))
    return of(pixels(200, 1))


@raster("one-pixel.tif")
def _one_pixel(path: Path) -> Odd:
    write_scene(path, pixels(1, 1), at(Affine(10, 0, 300_000, 0, -10, 5_230_000)))
    return of(pixels(1, 1))


@raster("no-crs.tif")
def _no_crs(path: Path) -> Odd:
    write_scene(path, pixels(90, 100), (None, UTM[1]))
    return of(pixels(90, 100), has_ground=False)


@raster("sparse.tif")
def _sparse(path: Path) -> Odd:
    """Only one tile of six is in the file; GDAL gives 0 for the others."""
    values = np.zeros((100, 150, 3), np.uint8)
    values[:64, 64:128] = pixels(64, 64)
    place = at(Affine(10, 0, 300_000, 0, -10, 5_240_000))
    write_scene(path, values, place, tiled=True, blockxsize=64, blockysize=64, SPARSE_OK="TRUE")
    return of(values)


@raster("external-mask.tif")
def _external_mask(path: Path) -> Odd:
    values, valid = pixels(90, 100), np.random.default_rng(2).random((90, 100)) > 0.4
    write_scene(path, values, at(Affine(10, 0, 300_000, 0, -10, 5_250_000)))
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as target:
        target.write_mask(valid)
    return Odd(np.where(valid, brightness_labels(values), 255))


@raster("bgr.tif")
def _bgr(path: Path) -> Odd:
    """Blue first; the model of the tests weighs all alike, so values outside say what it met."""
    values = pixels(90, 100)
    write_scene(path, values[..., ::-1], at(Affine(10, 0, 300_000, 0, -10, 5_260_000)))
    with rasterio.open(path, "r+") as target:
        target.colorinterp = [ColorInterp.blue, ColorInterp.green, ColorInterp.red]
    return of(values)


@raster("rgb-and-more.tif")
def _four_named(path: Path) -> Odd:
    """Four bands, of which three say that they are red, green and blue."""
    values = pixels(90, 100)
    stored = np.dstack([np.full((90, 100), 7, np.uint8), values])
    write_scene(path, stored, at(Affine(10, 0, 300_000, 0, -10, 5_270_000)))
    with rasterio.open(path, "r+") as target:
        target.colorinterp = [
            ColorInterp.undefined,
            ColorInterp.red,
            ColorInterp.green,
            ColorInterp.blue,
        ]
    return of(values)


@raster("described-bgr.tif")
def _described(path: Path) -> Odd:
    """Descriptions that say otherwise than the colours that GDAL gives to any three bands."""
    values = pixels(90, 100)
    write_scene(path, values[..., ::-1], at(Affine(10, 0, 300_000, 0, -10, 5_330_000)))
    with rasterio.open(path, "r+") as target:
        assert target.colorinterp == (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
        target.descriptions = ("Blue", "Green", "Red")
    return of(values)


@raster("white-is-zero.tif")
def _white_is_zero(path: Path) -> Odd:
    """Grey from white to black, seen as three equal bands."""
    values = pixels(90, 100)[..., :1]
    place = at(Affine(10, 0, 300_000, 0, -10, 5_340_000))
    write_scene(path, 255 - values, place, photometric="MINISWHITE")
    return of(np.repeat(values, 3, axis=-1))


@raster("image.jp2")
def _jpeg_2000(path: Path) -> Odd:
    values = pixels(90, 100)
    place = at(Affine(10, 0, 300_000, 0, -10, 5_280_000))
    options = {"driver": "JP2OpenJPEG", "QUALITY": "100", "REVERSIBLE": "YES"}
    write_scene(path, values, place, **options)
    return of(values)


@raster("erdas.img")
def _erdas(path: Path) -> Odd:
    place = at(Affine(10, 0, 300_000, 0, -10, 5_290_000))
    write_scene(path, pixels(90, 100), place, driver="HFA")
    return of(pixels(90, 100))


@raster("tiles.vrt")
def _vrt(path: Path) -> Odd:
    """Two files beside each other."""
    place = Affine(10, 0, 300_000, 0, -10, 5_300_000)
    values = pixels(90, 150)
    parts = path.parent.parent / "parts"
    write_scene(parts / "west.tif", values[:, :80], at(place))
    write_scene(parts / "east.tif", values[:, 80:], at(place))
    write_vrt(path, (90, 150), place, [("west.tif", 0, 80), ("east.tif", 80, 70)])
    return of(values)


def write_vrt(
    path: Path, size: tuple[int, int], transform: Affine, sources, folder: str = "../parts"
) -> None:
    """A VRT of files that stand beside each other: name, first column and width."""
    height, width = size
    bands = ""
    for band in (1, 2, 3):
        parts = "".join(
            f'<SimpleSource><SourceFilename relativeToVRT="{int(folder[0] == ".")}">'
            f"{folder}/{name}</SourceFilename><SourceBand>{band}</SourceBand>"
            f'<SrcRect xOff="0" yOff="0" xSize="{across}" ySize="{height}"/>'
            f'<DstRect xOff="{left}" yOff="0" xSize="{across}" ySize="{height}"/></SimpleSource>'
            for name, left, across in sources
        )
        bands += f'<VRTRasterBand dataType="Byte" band="{band}">{parts}</VRTRasterBand>'
    path.write_text(
        f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}"><SRS>{UTM[0]}</SRS>'
        f"<GeoTransform>{', '.join(map(str, transform.to_gdal()))}</GeoTransform>"
        f"{bands}</VRTDataset>"
    )


# What is broken, or not known.


@raster("gcps.tif")
def _gcps(path: Path) -> Odd:
    corners = [(0, 0, 10.0, 50.0), (0, 100, 11.0, 50.0), (90, 0, 10.0, 49.0), (90, 100, 11.0, 49.0)]
    points = [GroundControlPoint(row, col, x, y, 0) for row, col, x, y in corners]
    write_scene(path, pixels(90, 100), (None, None), gcps=points, crs="EPSG:4326")
    return failing(r"in/gcps.tif: it is located by ground control points.*gdalwarp", failed=9000)


@raster("rpcs.tif")
def _rpcs(path: Path) -> Odd:
    write_scene(path, pixels(90, 100), (None, None))
    one = [1.0] + [0.0] * 19
    with rasterio.open(path, "r+") as target:
        target.rpcs = RPC(
            height_off=0,
            height_scale=100,
            lat_off=50,
            lat_scale=1,
            line_den_coeff=one,
            line_num_coeff=[0, 0, -1, *[0] * 17],
            line_off=45,
            line_scale=45,
            long_off=10,
            long_scale=1,
            samp_den_coeff=one,
            samp_num_coeff=[0, 1, *[0] * 18],
            samp_off=50,
            samp_scale=50,
        )
    return failing(
        r"in/rpcs.tif: it is located by rational polynomials.*gdalwarp -rpc", failed=9000
    )


@raster("complex.tif")
def _complex(path: Path) -> Odd:
    write_scene(path, pixels(90, 100).astype(np.complex64))
    return failing(
        r"in/complex.tif: dtype: .*uint8, the input is complex64", failed=9000, has_ground=True
    )


@raster("no-transform.tif")
def _no_transform(path: Path) -> Odd:
    write_scene(path, pixels(90, 100), (UTM[0], None))
    return failing(
        r"in/no-transform.tif: it has a coordinate .* no transform: give it", failed=9000
    )


@raster("four-bands.tif")
def _four_bands(path: Path) -> Odd:
    write_scene(path, pixels(90, 100, bands=4), photometric="minisblack")
    reason = r"in/four-bands.tif: bands: the model takes 3 .* has 4; name those .* --bands.*1.*4"
    return failing(reason, failed=9000, has_ground=True)


@raster("named-cir.tif")
def _named_otherwise(path: Path) -> Odd:
    write_scene(path, pixels(90, 100))
    with rasterio.open(path, "r+") as target:
        target.descriptions = ("nir", "red", "green")
    reason = r"in/named-cir.tif: bands: .*has no band blue.*--bands: .* 1 \(nir\), 2 \(red\), 3"
    return failing(reason, failed=9000, has_ground=True)


@raster("float.tif")
def _float(path: Path) -> Odd:
    write_scene(path, pixels(90, 100).astype(np.float32))
    return failing(
        r"in/float.tif: dtype: .*uint8, the input is float32", failed=9000, has_ground=True
    )


@raster("local.tif")
def _local(path: Path) -> Odd:
    local = 'LOCAL_CS["site plan",UNIT["metre",1]]'
    write_scene(path, pixels(90, 100), (local, UTM[1]))
    return failing(r"in/local.tif: .* assign the right CRS", failed=9000)


@raster("corrupt-strip.tif")
def _corrupt(path: Path) -> Odd:
    values = pixels(128, 100)
    place = at(Affine(10, 0, 300_000, 0, -10, 5_310_000))
    write_scene(path, values, place, compress="deflate", blockysize=64)
    spoil_strip(path, 1)
    labels = brightness_labels(values)
    labels[64:] = 255
    return replace(of(values, failed=6400), labels=labels, reason=r"cannot be read")


@raster("missing-source.vrt")
def _missing_source(path: Path) -> Odd:
    write_vrt(path, (90, 150), UTM[1], [("not-there.tif", 0, 150)])
    return Odd(None, r"not-there\.tif", failed=13_500)


@raster("missing-source-elsewhere.vrt")
def _missing_absolute_source(path: Path) -> Odd:
    folder = str(path.parent.parent / "moved")
    write_vrt(path, (90, 150), UTM[1], [("gone.tif", 0, 150)], folder)
    return Odd(None, r"gone\.tif", failed=13_500)


@raster("truncated.tif")
def _truncated(path: Path) -> Odd:
    write_scene(path, pixels(90, 100), compress="deflate", blockysize=90)
    path.write_bytes(path.read_bytes()[:60])
    return failing(r"cannot be opened")


@raster("truncated-pixels.tif")
def _truncated_pixels(path: Path) -> Odd:
    values = pixels(90, 100)
    write_scene(path, values, at(Affine(10, 0, 300_000, 0, -10, 5_320_000)), blockysize=30)
    path.write_bytes(path.read_bytes()[:-9000])
    return Odd(None, r"cannot be read", failed=9000)


@raster("zero-bytes.tif")
def _zero_bytes(path: Path) -> Odd:
    path.write_bytes(b"")
    return failing(r"empty file")


@raster("zero-bytes.vrt")
def _zero_bytes_vrt(path: Path) -> Odd:
    path.write_bytes(b"")
    return failing(r"cannot be opened")


@raster("broken-xml.vrt")
def _broken_xml(path: Path) -> Odd:
    path.write_text('<VRTDataset rasterXSize="90"><VRTRasterBand>')
    return failing(r"cannot be opened")


@raster("text.jp2")
def _text(path: Path) -> Odd:
    path.write_text("no raster")
    return failing(r"cannot be opened")


def label_name(name: str) -> str:
    """Of the label map of a raster."""
    return f"in/{name}" if name.endswith(".tif") else f"in/{name}.tif"


def labelled(corpus: dict[str, Odd]) -> Iterator[tuple[str, np.ndarray]]:
    """Rasters that get a label map."""
    return ((name, odd.labels) for name, odd in corpus.items() if odd.labels is not None)

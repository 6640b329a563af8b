"""Training sees of a raster what `segment` sees: the same values, valid at the same pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio

from pipelines.rasters.header import read_header
from pipelines.rasters.reader import SceneRaster
from segmodel.labels.masks import MaskReader
from segmodel.pairs.pairs import PairSource, RasterPair
from segmodel.rasters.bands import ModelBands
from segmodel.tiling.windows import Window
from tests.fakes import contract
from tests.pipelines.corpus import png, write
from tests.segmodel.folder_pairs import read_folders
from tests.segmodel.pairs.test_pairs import CLASSES, geotiff

SIZE = (12, 17)
WINDOWS = (Window(0, 0, *SIZE), Window(3, 2, 5, 9))


def values(bands: int, dtype: str) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 4, (bands, *SIZE)).astype(dtype)


def holed() -> np.ndarray:
    found = values(2, "float32")
    found[0, 0, :3], found[1, 5, 5], found[:, 7, 7] = np.nan, np.inf, -9999
    found[1, 8, 8] = -9999
    return found


def described(path: Path, **options) -> None:
    with rasterio.open(path, "r+") as target:
        for key, value in options.items():
            setattr(target, key, value)


def masked(path: Path) -> None:
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as target:
        target.write_mask(values(1, "uint8")[0] > 0)


CASES = {
    "plain": (values(3, "uint8"), {}, None),
    "ten bands": (values(10, "uint16"), {}, None),
    "nodata that a pixel can have": (values(3, "uint8"), {"nodata": 0}, None),
    "nodata that no pixel can have": (values(3, "int16") - 1, {"nodata": -1}, None),
    "not a number": (holed(), {"nodata": -9999}, None),
    "nodata is not a number": (holed(), {"nodata": np.nan}, None),
    "alpha": (values(4, "uint8"), {"photometric": "RGB", "alpha": "YES"}, None),
    "mask": (values(3, "uint8"), {}, masked),
    "scaled": (
        values(2, "int16"),
        {"nodata": 3},
        lambda path: described(path, scales=(0.5, 0.25), offsets=(1.0, 0.0)),
    ),
    "by name": (values(3, "uint16"), {"descriptions": ("NIR", "band 0", "Band 1")}, None),
}


@pytest.mark.parametrize("case", CASES)
def test_training_sees_what_segment_sees(tmp_path, case):
    samples, options, change = CASES[case]
    path = geotiff(tmp_path / "images" / "a.tif", samples, **options)
    if change is not None:
        change(path)
    write(tmp_path / "masks" / "a.png", png(np.full((*SIZE, 1), 4, np.uint8)))
    count = {"alpha": 3, "by name": 2}.get(case, len(samples))
    names = tuple(f"band {number}" for number in range(count))
    dtype = "float32" if case == "scaled" else str(samples.dtype)
    limits = (0.0, 100.0)
    header = read_header(str(path))
    model = contract(bands=names, dtype=dtype, value_range=limits, nodata_fill=(0.0,) * count)
    scene = SceneRaster(str(path), header, ModelBands.of(header, model, None, "a"))
    source = PairSource(names, dtype, MaskReader.of(CLASSES, "id"), limits)
    (pair,) = read_folders([str(tmp_path / "images")], [str(tmp_path / "masks")], source, None)
    assert isinstance(pair, RasterPair)

    for window in WINDOWS:
        expected, actual = scene.read(window), pair.pixels(window)
        np.testing.assert_array_equal(actual.values, expected.values)
        assert actual.values.dtype == expected.values.dtype
        for one, other in ((actual.valid, expected.valid), (actual.finite, expected.finite)):
            every = np.ones((window.height, window.width), bool)
            np.testing.assert_array_equal(
                every if one is None else one, every if other is None else other
            )

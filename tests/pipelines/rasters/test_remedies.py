"""Commands that messages give as remedies do what they say; they need GDAL's own programs."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS

from pipelines.formats.work import ReadOptions
from pipelines.rasters.header import read_header
from pipelines.rasters.reader import SceneRaster
from pipelines.scenes.blocks import check_scene
from segmodel.errors import BeamsegError
from segmodel.rasters.bands import ModelBands
from segmodel.savedmodel.contract import Contract
from segmodel.tiling.raster import Pixels
from segmodel.tiling.windows import Window
from tests.fakes import contract
from tests.pipelines.corpus import write_scene

pytestmark = pytest.mark.skipif(
    shutil.which("gdal_translate") is None or shutil.which("gdal_edit.py") is None,
    reason="GDAL's programs are not installed (Debian: gdal-bin, python3-gdal)",
)

RAMP = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64, 1)
BYTES = {"bands": ("grey",), "nodata_fill": (0.0,)}


def reason_of(action: Callable[[], object]) -> str:
    with pytest.raises(BeamsegError) as caught:
        action()
    return str(caught.value)


def remedied(path: Path, reason: str, program: str, **values: object) -> Path:
    """What the command in a reason makes of a file; `values` stand for its capital letters."""
    found = re.search(rf"{re.escape(program)} ((?:[^\s,;:()]+ ?)+)", reason)
    assert found is not None, reason
    words = [str(values.get(word, word)) for word in found[1].split()]
    words = words[: next((i for i, word in enumerate(words) if word in ("or", "and")), None)]
    target = path.with_name("remedied.tif")
    if program == "gdal_edit.py":
        shutil.copy(path, target)
        command = [program, *words, str(target)]
    else:
        command = [program, "-q", *words, str(path), str(target)]
    subprocess.run(command, check=True, capture_output=True)
    return target


def seen(path: Path, model: Contract) -> Pixels:
    """All pixels of a scene as a model gets them, if it may be labelled at all."""
    header = read_header(str(path))
    check_scene(header, model, ReadOptions(), path.name)
    scene = SceneRaster(str(path), header, ModelBands.of(header, model, None, path.name))
    pixels = scene.read(Window(0, 0, scene.height, scene.width))
    scene.close()
    return pixels


@pytest.mark.parametrize(
    ("values", "dtype", "value_range"),
    [
        (RAMP, "uint8", (0.0, 255.0)),
        (RAMP, "float32", (0.0, 1.0)),
        (RAMP.astype(np.float32) / 65535, "uint16", (0.0, 10_000.0)),
        ((RAMP >> 8).astype(np.uint8), "int16", (-100.0, 4000.0)),
    ],
)
def test_samples_of_another_type_keep_their_meaning(tmp_path, values, dtype, value_range):
    path = write_scene(tmp_path / "a.tif", values)
    model = contract(dtype=dtype, value_range=value_range, **BYTES)

    reason = reason_of(lambda: seen(path, model))
    low, high = float(values.min()), float(values.max())
    made = remedied(path, reason, "gdal_translate", LOW=low, HIGH=high)

    assert reason.startswith("a.tif: dtype: ")
    share = (values.astype(np.float64) - low) / (high - low)
    expected = value_range[0] + share * (value_range[1] - value_range[0])
    actual = seen(made, model).values
    assert actual.dtype == dtype
    assert np.abs(actual - expected).max() <= (1e-6 if dtype == "float32" else 0.5001)


def test_a_palette_becomes_its_colours(tmp_path):
    path = write_scene(tmp_path / "a.tif", np.array([[[1], [2]]], np.uint8))
    with rasterio.open(path, "r+") as target:
        target.write_colormap(1, {1: (200, 10, 20, 255), 2: (30, 40, 50, 255)})

    reason = reason_of(lambda: seen(path, contract(**BYTES)))
    made = remedied(path, reason, "gdal_translate")

    assert seen(made, contract()).values.tolist() == [[[200, 10, 20], [30, 40, 50]]]


def test_grey_from_white_to_black_is_turned_or_kept(tmp_path):
    path = write_scene(tmp_path / "a.tif", RAMP, photometric="MINISWHITE")
    model = contract(dtype="uint16", value_range=(0.0, 65535.0), **BYTES)

    reason = reason_of(lambda: seen(path, model))
    kept = remedied(path, reason, "gdal_translate")
    np.testing.assert_array_equal(seen(kept, model).values, RAMP)

    turn = re.search(r"-scale_1 [\d ]+", reason)
    assert turn is not None
    both = reason.replace("MINISBLACK", f"MINISBLACK {turn[0]}")
    turned = remedied(path, both, "gdal_translate")
    np.testing.assert_array_equal(seen(turned, model).values, 65535 - RAMP)


@pytest.mark.parametrize("way", ["gdalwarp -order 1", "-tps"])
def test_the_corners_around_a_warped_scene_are_nodata(tmp_path, way):
    path = tmp_path / "a.tif"
    values = np.full((40, 60, 3), 200, np.uint8)
    corners = [(0, 0, 0, 0), (0, 60, 600, 200), (40, 0, -150, -400), (40, 60, 450, -200)]
    points = [GroundControlPoint(r, c, 3e5 + x, 6e6 + y) for r, c, x, y in corners]
    write_scene(path, values, (CRS.from_epsg(32633), Affine.identity()), gcps=points)

    reason = reason_of(lambda: seen(path, contract()))
    command = reason.replace("or -tps", "gdalwarp -tps") if way == "-tps" else reason
    made = remedied(path, command[command.index(way) - (9 if way == "-tps" else 0) :], "gdalwarp")

    pixels = seen(made, contract())
    assert pixels.valid is not None
    assert 0.2 < pixels.valid.mean() < 0.9
    assert (pixels.values[pixels.valid] == 200).all()


def test_corners_give_a_scene_its_transform(tmp_path):
    values = np.full((40, 60, 3), 200, np.uint8)
    path = write_scene(tmp_path / "a.tif", values, ("EPSG:32633", Affine.identity()))
    reason = reason_of(lambda: seen(path, contract()))
    place = {"ULX": 300000, "ULY": 6000000, "LRX": 300600, "LRY": 5999600}
    made = remedied(path, reason, "gdal_edit.py", **place)
    assert read_header(str(made)).grid.transform == Affine(10, 0, 300000, 0, -10, 6000000)

"""Files with one band each are one scene."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from pipelines.inputs.find import list_inputs
from pipelines.inputs.stacks import StackRule, StackSettings
from pipelines.rasters.gdal import OPENER
from pipelines.rasters.header import Headers
from pipelines.rasters.stacking import stacked
from pipelines.run.plan import InputFile
from segmodel.errors import ConfigurationError, InputError
from tests.fakes import brightness_labels, contract
from tests.pipelines.corpus import failure_rows_in, pixels, write_scene
from tests.pipelines.scene_runs import run_scenes

NAMES = ("red", "green", "blue")
LANDSAT = "LC0*/{scene}_SR_{band}.TIF"


def write_band(
    path: Path, values: np.ndarray, pixel_m: float = 10, crs="EPSG:32633", **more
) -> Path:
    place = (crs, from_origin(500000, 5000000, pixel_m, pixel_m))
    return write_scene(path, values[..., np.newaxis], place=place, **more)


def write_landsat(folder: Path, scene: str, values: np.ndarray) -> None:
    for number, band in ((0, "B4"), (1, "B3"), (2, "B2")):
        write_band(folder / scene / f"{scene}_SR_{band}.TIF", values[..., number])
    write_band(folder / scene / f"{scene}_QA_PIXEL.TIF", values[..., 0])


def stack_of(folder: Path | str, wanted: tuple[str, ...] = NAMES, **settings) -> InputFile:
    """The only scene that a rule finds."""
    found = list_inputs([str(folder)], "no-run")
    scenes, _ = stacked(found, StackRule(StackSettings(**settings)), wanted, Headers())
    (file,) = scenes
    return file


def read(file: InputFile) -> np.ndarray:
    with OPENER.env(file.uri), OPENER.open(file.uri) as source:
        return source.read()


def test_a_run_labels_the_band_files_of_each_folder_as_one_scene(tmp_path, model_folder):
    values = {
        scene: pixels(40, 50) // (1 + number) for number, scene in enumerate(("LC08_a", "LC09_b"))
    }
    for scene, of_scene in values.items():
        write_landsat(tmp_path / "in", scene, of_scene)
    rule = tmp_path / "landsat.toml"
    rule.write_text(
        f'pattern = "{LANDSAT}"\n[bands]\nred = "B4"\ngreen = "B3"\nblue = "B2"\n', "utf-8"
    )
    run = run_scenes(tmp_path / "run", model_folder, tmp_path / "in", stack=str(rule))
    for scene, of_scene in values.items():
        with rasterio.open(run.root / "labels" / "in" / f"{scene}.vrt.tif") as source:
            np.testing.assert_array_equal(source.read(1), brightness_labels(of_scene))
    assert run.summary["images"] == 2
    again = run_scenes(tmp_path / "run", model_folder, tmp_path / "in", stack=str(rule))
    assert again.model.batches == []


def test_bands_of_files_are_called_as_the_contract_calls_them(tmp_path):
    for name in ("Blue", "RED", "green", "nir"):
        write_band(tmp_path / f"x_{name}.tif", pixels(4, 5)[..., 0])
    header = Headers().read(stack_of(tmp_path, pattern="{scene}_{band}.tif"))
    assert [band.name for band in header.bands] == list(NAMES)
    header = Headers().read(stack_of(tmp_path, ("swir",), pattern="{scene}_{band}.tif"))
    assert len(header.bands) == 4


@pytest.mark.parametrize(("resampling", "expected"), [("nearest", 40), ("average", 25)])
def test_bands_of_other_grids_are_brought_onto_one(tmp_path, resampling, expected):
    fine = np.tile(np.array([[10, 20], [30, 40]], np.uint8), (4, 4))
    write_band(tmp_path / "R10m" / "t_B04_10m.tif", fine)
    write_band(tmp_path / "R20m" / "t_B04_20m.tif", fine[:4, :4], 20)
    write_band(tmp_path / "R20m" / "t_B8A_20m.tif", np.arange(16, dtype=np.uint8).reshape(4, 4), 20)
    rule = {"pattern": "**/{scene}_{band}_[12]0m.tif", "bands": {"red": "B04", "nir": "B8A"}}
    red, nir = read(stack_of(tmp_path, **rule))
    np.testing.assert_array_equal(red, fine)
    np.testing.assert_array_equal(nir, np.arange(16).reshape(4, 4).repeat(2, 0).repeat(2, 1))
    red, nir = read(stack_of(tmp_path, **rule, grid="nir", resampling=resampling))
    assert nir.shape == red.shape == (4, 4)
    assert set(red.ravel().tolist()) == {expected}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda folder: (folder / "x_green.tif").unlink(),
            "band green has no file; there are blue",
        ),
        (
            lambda folder: write_band(
                folder / "x_green.tif", pixels(4, 5)[..., 0], crs="EPSG:32634"
            ),
            "x_green.tif and x_red.tif are in different reference systems",
        ),
        (
            lambda folder: write_band(folder / "x_green.tif", pixels(4, 7)[..., 0]),
            "x_green.tif and x_red.tif do not cover the same ground",
        ),
        (
            lambda folder: write_scene(folder / "x_green.tif", pixels(4, 5)),
            "x_green.tif has 3 bands, and a band file has one band alone",
        ),
        (
            lambda folder: write_band(folder / "y" / "x_green.tif", pixels(4, 5)[..., 0]),
            "band green has two files, x_green.tif and y/x_green.tif",
        ),
        (lambda folder: (folder / "x_green.tif").write_bytes(b"II*\0"), "cannot be opened"),
    ],
)
def test_files_that_are_no_scene_together_fail_with_the_reason(tmp_path, change, reason):
    for name in NAMES:
        write_band(tmp_path / f"x_{name}.tif", pixels(4, 5)[..., 0])
    change(tmp_path)
    file = stack_of(tmp_path, pattern="{scene}_{band}.tif")
    with pytest.raises(InputError) as caught:
        Headers().read(file)
    assert reason in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_a_scene_without_a_band_is_a_failure_and_the_others_are_labelled(tmp_path, model_folder):
    for scene in ("a", "b"):
        for name in NAMES:
            write_band(tmp_path / "in" / f"{scene}_{name}.tif", pixels(40, 50)[..., 0])
    (tmp_path / "in" / "b_blue.tif").unlink()
    run = run_scenes(tmp_path / "run", model_folder, tmp_path / "in", stack="{scene}_{band}.tif")
    (row,) = failure_rows_in(run.root)
    assert row["code"] == "wrong_bands"
    assert row["reason"].startswith("band blue has no file; there are green, red")
    assert run.summary["images"] == 1


def test_nodata_and_versions_are_those_of_all_files(tmp_path):
    write_band(tmp_path / "x_red.tif", pixels(4, 5)[..., 0], nodata=7)
    write_band(tmp_path / "x_green.tif", pixels(4, 5)[..., 0])
    before = stack_of(tmp_path, ("red", "green"), pattern="{scene}_{band}.tif", nodata=0.0)
    assert [band.nodata for band in Headers().read(before).bands] == [7, 0]
    write_band(tmp_path / "x_green.tif", pixels(4, 5)[..., 1])
    after = stack_of(tmp_path, ("red", "green"), pattern="{scene}_{band}.tif", nodata=0.0)
    assert before.version != after.version


def test_band_files_in_a_store_are_read_as_on_disk(tmp_path, client):
    for number, name in enumerate(NAMES):
        write_band(tmp_path / name / f"x_{name}.tif", pixels(40, 50)[..., number])
    client.put_all(tmp_path, "gs://b/in")
    here = stack_of(tmp_path, pattern="{scene}_{band}.tif")
    there = stack_of("gs://b/in", pattern="{scene}_{band}.tif")
    np.testing.assert_array_equal(read(there), np.moveaxis(pixels(40, 50), -1, 0))
    np.testing.assert_array_equal(read(here), read(there))


def test_band_files_that_were_cut_short_are_missed(tmp_path):
    for name in NAMES:
        write_band(tmp_path / f"x_{name}.img", pixels(4, 5)[..., 0], driver="ENVI")
    with (tmp_path / "x_red.img").open("r+b") as stream:
        stream.truncate(19)
    file = stack_of(tmp_path, pattern="{scene}_{band}.img")
    with pytest.raises(InputError, match=r"x_red\.img: the file is shorter"):
        Headers().read(file)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("{scene}.tif", "must have {band}"),
        ("nothing.toml", "no such file"),
    ],
)
def test_a_rule_that_is_none_is_refused(text, error):
    with pytest.raises(ConfigurationError, match=error):
        StackRule.read(text)


def test_a_rule_that_finds_nothing_is_refused(tmp_path):
    write_band(tmp_path / "x.tif", pixels(4, 5)[..., 0])
    with pytest.raises(ConfigurationError, match="--stack: no file of --input matches"):
        stack_of(tmp_path, pattern="{scene}_{band}.tif")
    assert contract().bands == NAMES


def test_the_rule_of_the_docs_takes_a_product_as_delivered(tmp_path):
    page = (Path(__file__).parents[3] / "docs" / "scenes.md").read_text("utf-8")
    rule = tmp_path / "sentinel2.toml"
    rule.write_text(page.split("```toml\n")[1].split("```")[0], "utf-8")
    folder = tmp_path / "S2A.SAFE" / "GRANULE" / "L2A" / "IMG_DATA"
    for size, names in ((10, ("B02", "B03", "B04")), (20, ("B02", "B11")), (60, ("B02",))):
        for name in names:
            side = 120 // size
            path = folder / f"R{size}m" / f"T33UXP_20230601T101559_{name}_{size}m.jp2"
            write_band(path.with_suffix(".tif"), np.full((side, side), size, np.uint8), size)
            path.with_suffix(".tif").rename(path)
    found = list_inputs([str(tmp_path / "S2A.SAFE")], "no-run")
    scenes, others = stacked(found, StackRule.read(str(rule)), (), Headers())
    (file,) = scenes
    header = Headers().read(file)
    assert [band.name for band in header.bands] == ["red", "green", "blue", "swir"]
    assert {band.nodata for band in header.bands} == {0}
    assert (file.name, header.grid.width) == ("T33UXP_20230601T101559.vrt", 12)
    assert [other.name.rpartition("_")[2] for other in others] == ["60m.jp2"]

"""Scenes: cut into blocks that cover them once, nodata kept pixel by pixel, misfits refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from rasterio.enums import ColorInterp

from pipelines.formats.work import ReadOptions
from pipelines.rasters.header import Headers
from pipelines.run.commits import CommitLog
from pipelines.run.plan import InputFile
from pipelines.scenes.blocks import BLOCK_PX, block_windows
from pipelines.scenes.format import SceneFormat
from pipelines.segment import launch
from pipelines.segment.options import SegmentOptions
from segmodel.errors import ConfigurationError, ContractError, GroundError
from segmodel.rasters.grid import Grid
from segmodel.rasters.header import Band, Header
from segmodel.tiling.windows import Layout, Window
from tests.fakes import WIDE_CLASSES, BrightnessModel, WideModel, brightness_labels, contract
from tests.pipelines.corpus import (
    DEGREES,
    UTM,
    check_inputs,
    encoded,
    failure_rows,
    files_in,
    make_work,
    pixels,
    plan_context,
    read_band,
    run_unit,
    spoil_strip,
    units_in,
    write,
    write_scene,
)


def run_scene(work, path: Path, model=None):
    """Labels of a scene of one block, and its tally."""
    (unit,) = units_in(work, path)
    run_unit(unit, work, model)
    labels = Path(work.run.root) / "labels" / path.parent.name / path.name
    tally = CommitLog(work.run.root, work.options).read(unit).tally
    return (read_band(labels) if labels.exists() else None), tally


def blocks_in(height: int, width: int, stride: int, stored=(512, 512)) -> list[Window]:
    """Blocks of a scene of one byte band that is stored in tiles or strips."""
    grid = Grid(height, width, Affine.identity(), None)
    band = Band(1, "uint8", "", None, 1.0, 0.0)
    header = Header(grid, (band,), "none", None, None, stored, None, None, ())
    return list(block_windows(header, Layout(2048, 0, stride), ReadOptions()))


@given(
    height=st.integers(1, 20_000),
    width=st.integers(1, 20_000),
    stride=st.sampled_from([1, 4, 32, 64]),
)
def test_blocks_cover_a_scene_once_on_multiples_of_the_stride(height, width, stride):
    blocks = blocks_in(height, width, stride)
    rows = sorted({(b.row, b.height) for b in blocks})
    columns = sorted({(b.column, b.width) for b in blocks})
    assert len(blocks) == len(rows) * len(columns)
    for spans, length in ((rows, height), (columns, width)):
        starts = [start for start, _ in spans]
        ends = [start + size for start, size in spans]
        assert starts == [0, *ends[:-1]]
        assert ends[-1] == length
        assert all(start % stride == 0 for start in starts)
        assert all(1 <= size <= BLOCK_PX for _, size in spans)


@pytest.mark.parametrize(
    ("side", "count"), [(1, 1), (4095, 1), (4096, 1), (4097, 4), (8192, 4), (8193, 9)]
)
def test_the_number_of_blocks_is_the_least(side, count):
    assert len(blocks_in(side, side, 32)) == count


@pytest.mark.parametrize("place", [UTM, DEGREES])
def test_a_scene_gives_a_label_map_at_its_place(tmp_path, work, place):
    values = pixels(150, 130)
    path = write_scene(tmp_path / "in" / "a.tif", values, place)
    labels, tally = run_scene(work, path)
    np.testing.assert_array_equal(labels, brightness_labels(values))
    with rasterio.open(Path(work.run.root) / "labels" / "in" / "a.tif") as source:
        assert source.crs == rasterio.CRS.from_string(place[0])
        assert source.transform == place[1]
        assert source.tags()["BEAMSEG_VERSION"] == "test"
        assert source.nodata == 255
    assert (tally.images, tally.failed_images) == (1, 0)
    assert (Path(work.run.root) / "labels" / "in" / "a.tif.aux.xml").exists()


def nodata_scene(kind: str, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """A scene with pixels that are not valid; its values and where they are valid."""
    values = np.maximum(pixels(100, 90), 1)
    valid = np.random.default_rng(3).random((100, 90)) > 0.3
    valid[:64, :64] = False
    if kind == "tag":
        stored = np.where(valid[..., None], values, 0).astype(np.uint8)
        write_scene(path, stored, nodata=0)
    elif kind == "mask":
        write_scene(path, values, mask=valid)
    elif kind == "alpha":
        alpha = np.where(valid, 255, 0).astype(np.uint8)
        write_scene(path, np.dstack([values, alpha]))
        with rasterio.open(path, "r+") as target:
            target.colorinterp = [*[ColorInterp.red] * 3, ColorInterp.alpha]
    return values, valid


@pytest.mark.parametrize("kind", ["tag", "mask", "alpha"])
def test_nodata_in_gives_nodata_out_pixel_for_pixel(tmp_path, work, kind):
    path = tmp_path / "in" / "a.tif"
    values, valid = nodata_scene(kind, path)
    labels, tally = run_scene(work, path)
    expected = np.where(valid, brightness_labels(values), 255)
    np.testing.assert_array_equal(labels, expected)
    assert tally.pixels["nodata"] == (~valid).sum()


@pytest.mark.parametrize("hole", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_none_gives_nodata_and_never_reaches_the_model(tmp_path, hole):
    values = pixels(70, 80).astype(np.float32)
    values[3, 4, 1] = values[69, 79, 2] = hole
    values[10:20, 10:20] = hole
    path = write_scene(tmp_path / "in" / "a.tif", values)

    class Finite(BrightnessModel):
        def labels(self, images):
            assert np.isfinite(images).all()
            return super().labels(images)

    model = Finite()
    model.fill = np.zeros(3, np.float32)
    work = make_work(tmp_path / "run", contract=contract(dtype="float32"))
    labels, tally = run_scene(work, path, model)
    expected = brightness_labels(np.nan_to_num(values, nan=0, posinf=0, neginf=0))
    expected[3, 4] = expected[69, 79] = 255
    expected[10:20, 10:20] = 255
    np.testing.assert_array_equal(labels, expected)
    assert tally.pixels["nodata"] == 102


def test_a_scene_of_nodata_alone_needs_no_model(tmp_path, work):
    path = write_scene(tmp_path / "in" / "a.tif", np.zeros((70, 70, 3), np.uint8), nodata=0)
    model = BrightnessModel()
    labels, tally = run_scene(work, path, model)
    assert (labels == 255).all()
    assert model.batches == []
    assert tally.pixels == {"0": 0, "3": 0, "7": 0, "nodata": 4900}


def test_dark_valid_pixels_are_class_zero_and_not_nodata(tmp_path, work):
    path = write_scene(tmp_path / "in" / "a.tif", np.zeros((40, 40, 3), np.uint8))
    labels, tally = run_scene(work, path)
    assert (labels == 0).all()
    assert (tally.pixels["0"], tally.pixels["nodata"]) == (1600, 0)


def test_confidence_of_a_scene_is_a_cog_of_its_own(tmp_path):
    work = make_work(tmp_path / "run", confidence=True)
    values = np.full((40, 40, 3), 255, np.uint8)
    run_scene(work, write_scene(tmp_path / "in" / "a.tif", values))
    actual = read_band(Path(work.run.root) / "confidence" / "in" / "a.tif")
    assert (actual == 255).all()


def spoiled_scene(path: Path, side: int) -> Path:
    write_scene(path, pixels(side, side), compress="deflate", blockysize=16)
    spoil_strip(path, 3)
    return path


def test_a_window_that_cannot_be_read_costs_itself_alone(tmp_path, work):
    path = spoiled_scene(tmp_path / "in" / "a.tif", 256)
    labels, tally = run_scene(work, path)
    expected = brightness_labels(pixels(256, 256))
    expected[:64] = 255
    np.testing.assert_array_equal(labels, expected)
    assert (tally.images, tally.failed_images) == (0, 1)
    assert (tally.pixels["failed"], tally.pixels["nodata"]) == (64 * 256, 0)
    for key in ("0", "3", "7"):
        assert tally.pixels[key] == (expected == int(key)).sum()
    assert sum(tally.area_m2.values()) == pytest.approx(tally.footprint_m2, rel=1e-6)
    rows = failure_rows(work)
    assert [row["key"] for row in rows] == [
        f"rows 0 to 63, columns {first} to {first + 63}" for first in range(0, 256, 64)
    ]


def test_a_scene_whose_windows_are_all_lost_has_no_map_and_one_row(tmp_path, work):
    path = spoiled_scene(tmp_path / "in" / "a.tif", 64)
    labels, tally = run_scene(work, path)
    assert labels is None
    assert tally.pixels == {"failed": 64 * 64}
    assert tally.failed_images == len(failure_rows(work)) == 1


def test_a_scene_that_cannot_be_read_is_failed_ground_and_not_nodata(tmp_path):
    work = make_work(tmp_path / "run", layout=Layout(128, 0, 32))
    path = spoiled_scene(tmp_path / "in" / "a.tif", 128)
    labels, tally = run_scene(work, path)
    assert labels is None
    assert (tally.images, tally.failed_images) == (0, 1)
    assert tally.pixels == {"failed": 128 * 128}
    assert tally.area_m2["failed"] == pytest.approx(128 * 128 * 100, rel=2e-3)
    assert tally.footprint_m2 == tally.area_m2["failed"]
    (row,) = failure_rows(work)
    assert (row["uri"], row["key"], row["stage"]) == ("in/a.tif", None, "read")
    assert "cannot be read" in row["reason"]


def check(path: Path, **fields) -> None:
    check_inputs(SceneFormat(), files_in(path), plan_context(contract(**fields)))


def test_scenes_of_other_bands_are_refused_by_field(tmp_path):
    path = write_scene(tmp_path / "in" / "a.tif", pixels(8, 8, bands=2))
    with pytest.raises(ContractError, match=r"^in/a.tif: bands: the model takes 3 .*has 2"):
        check(path)


def test_scenes_of_another_dtype_are_refused_by_field(tmp_path):
    path = write_scene(tmp_path / "in" / "a.tif", pixels(8, 8).astype(np.uint16))
    with pytest.raises(ContractError, match=r"^in/a.tif: dtype: .*uint8, the input is uint16"):
        check(path)


@pytest.mark.parametrize(("low", "high"), [(0.1, 9.0), (11.0, 100.0)])
def test_scenes_of_another_ground_sample_distance_are_refused_by_field(tmp_path, low, high):
    path = write_scene(tmp_path / "in" / "a.tif", pixels(8, 8))
    with pytest.raises(ContractError, match=r"^in/a.tif: gsd_range_m: "):
        check(path, gsd_range_m=(low, high))


@pytest.mark.parametrize("sides", [(5.0, 10.0), (10.0, 5.0), (10.0, 20.0)])
def test_scenes_with_one_side_of_a_pixel_outside_the_range_are_refused(tmp_path, sides):
    place = ("EPSG:32633", Affine(sides[0], 0, 500000, 0, -sides[1], 5400000))
    path = write_scene(tmp_path / "in" / "a.tif", pixels(8, 8), place)
    with pytest.raises(ContractError, match=rf"^in/a.tif: gsd_range_m: .* {sides[0]:g}.* x "):
        check(path, gsd_range_m=(8.0, 12.0))


def test_the_sides_of_pixels_in_degrees_are_those_on_the_ground(tmp_path):
    # At 60 degrees north a degree of longitude has 55.8 km, one of latitude 111.4 km.
    place = ("EPSG:4326", Affine(1e-4, 0, 10, 0, -1e-4, 60))
    path = write_scene(tmp_path / "in" / "a.tif", pixels(8, 8), place)
    check(path, gsd_range_m=(5.5, 11.2))
    with pytest.raises(ContractError, match=r"5\.58 x 11\.14 m"):
        check(path, gsd_range_m=(8.0, 12.0))


def test_scenes_within_the_range_of_ground_sample_distances_are_taken(tmp_path):
    check(write_scene(tmp_path / "in" / "a.tif", pixels(8, 8)), gsd_range_m=(9.0, 11.0))


def test_an_alpha_band_is_no_band_of_the_model(tmp_path):
    path = tmp_path / "in" / "a.tif"
    nodata_scene("alpha", path)
    check(path)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_scene_without_a_transform_is_refused_with_a_remedy(tmp_path):
    path = write_scene(tmp_path / "in" / "a.tif", pixels(8, 8), ("EPSG:4326", Affine.identity()))
    with pytest.raises(ConfigurationError, match=r"no transform: give it .* -a_ullr"):
        check(path)


def test_a_scene_in_a_local_coordinate_system_is_refused_by_name(tmp_path):
    local = 'LOCAL_CS["site plan",UNIT["metre",1]]'
    path = write_scene(tmp_path / "in" / "a.tif", pixels(8, 8), (local, UTM[1]))
    with pytest.raises(GroundError, match=r"in/a.tif: .*assign the right CRS"):
        check(path)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_tiffs_without_coordinates_are_no_scenes_and_broken_ones_fail_as_scenes(tmp_path):
    plain = write(tmp_path / "in" / "plain.tif", encoded(pixels(8, 8), "TIFF"))
    broken = write(tmp_path / "in" / "broken.tif", b"II*\0broken")
    text = write(tmp_path / "in" / "text.tif", b"no TIFF at all")
    scene = write_scene(tmp_path / "in" / "scene.TIFF", pixels(8, 8))
    claims = {
        file.name: SceneFormat().claim(file, Headers()) is not None
        for file in files_in(tmp_path / "in")
    }
    assert claims == {broken.name: True, plain.name: False, text.name: False, scene.name: True}


def test_an_estimate_of_scenes_is_exact(tmp_path):
    write_scene(tmp_path / "in" / "a.tif", pixels(100, 200))
    write_scene(tmp_path / "in" / "b.tif", pixels(64, 64))
    estimate = SceneFormat().estimate(files_in(tmp_path / "in"), plan_context())
    assert (estimate.images, estimate.pixels, estimate.windows) == (2, 24_096, 9)
    assert estimate.exact


def test_class_ids_of_sixteen_bits_give_a_sixteen_bit_map(tmp_path):
    model = WideModel()
    work = make_work(tmp_path / "run", contract=contract(classes=WIDE_CLASSES))
    values = np.maximum(pixels(100, 80), 1)
    values[:10] = 0
    labels, tally = run_scene(work, write_scene(tmp_path / "in" / "a.tif", values, nodata=0), model)
    expected = np.where(values[..., 0] > 99, 300, 5)
    expected[:10] = 65535
    np.testing.assert_array_equal(labels, expected)
    assert tally.pixels["nodata"] == 800


def test_scenes_are_checked_before_the_run_directory_is_made(tmp_path, model_folder):
    write_scene(tmp_path / "in" / "a.tif", pixels(8, 8, bands=2))
    options = SegmentOptions((str(tmp_path / "in"),), str(model_folder), str(tmp_path / "run"))
    with pytest.raises(ContractError, match="bands"):
        launch.prepare_run(launch.check_run(options))
    assert not (tmp_path / "run").exists()


def test_a_scene_that_new_rules_read_otherwise_has_another_version(tmp_path):
    path = write_scene(tmp_path / "a.tif", pixels(8, 8))
    file = InputFile(str(path), "", "a.tif", path.stat().st_size, "7")
    assert SceneFormat().claim(file, Headers()) == file
    with rasterio.open(path, "r+") as target:
        target.descriptions = ("blue", "green", "red")
    claimed = SceneFormat().claim(file, Headers())
    assert claimed is not None
    assert claimed.version == "7-r1"

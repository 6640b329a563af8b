"""Scenes from input to record: areas of interest, seams, bands, other grids, what is lost."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine

from pipelines.formats.work import ReadOptions
from pipelines.geodesy.polygons import Polygons
from pipelines.rasters.header import Headers
from pipelines.rasters.reader import SceneRaster
from pipelines.run.polygons import AOI, store
from pipelines.scenes.format import SceneFormat
from pipelines.segment.inputs import check_scene_options, find_inputs
from pipelines.segment.options import SegmentOptions
from segmodel.errors import ConfigurationError, ContractError
from segmodel.tiling.resampling import ModelGrid
from segmodel.tiling.windows import Layout, Window
from tests.fakes import BRIGHT, DARK, BrightnessModel, brightness_labels, contract
from tests.pipelines.corpus import (
    UTM,
    check_inputs,
    failure_rows,
    files_in,
    make_work,
    pixels,
    plan_context,
    png,
    read_band,
    run_all,
    run_unit,
    small_blocks,
    spoil_strip,
    units_in,
    write,
    write_scene,
)
from tests.pipelines.raster_kinds import write_mask_beside, write_mosaic
from tests.pipelines.scene_runs import run_scenes

HEIGHT, WIDTH = 200, 260
VALUES = pixels(HEIGHT, WIDTH)
LABELS = brightness_labels(VALUES)
LAYOUT = Layout(32, 0, 32)


def labels_of(work, name: str = "a.tif") -> np.ndarray:
    return read_band(Path(work.run.root) / "labels" / "in" / name)


def outline(*corners: tuple[float, float]) -> Polygons:
    """A polygon by columns and rows of a scene at `UTM`."""
    wkb = bytes(shapely.to_wkb(shapely.Polygon([UTM[1] * corner for corner in corners])))
    return Polygons(rasterio.CRS.from_string(UTM[0]).to_wkt(), ("area",), (wkb,))


AREA = outline((70.3, 40.2), (150.4, 50.7), (120.1, 110.6), (60.8, 90.9))


def inside_of(area: Polygons) -> np.ndarray:
    """Where centres of pixels are inside."""
    shape = shapely.from_wkb(area.geometries[0])
    rows, columns = np.indices((HEIGHT, WIDTH)) + 0.5
    a, _, c, _, e, f = tuple(UTM[1])[:6]
    return shapely.contains_xy(shape, columns * a + c, rows * e + f)


def work_with(tmp_path: Path, area: Polygons | None, name: str = "run", **changes):
    reading = ReadOptions(aoi=None if area is None else area.digest)
    work = make_work(tmp_path / name, **({"reading": reading, "layout": LAYOUT} | changes))
    store(work.run, AOI, area)
    return work


@pytest.fixture
def reads(monkeypatch) -> list[Window]:
    """Windows of scenes that are read, in any order."""
    found: list[Window] = []
    original = SceneRaster.read

    def read(self, window):
        found.append(window)
        return original(self, window)

    monkeypatch.setattr(SceneRaster, "read", read)
    return found


@pytest.mark.parametrize("side", [64, 4096])
def test_what_lies_outside_an_area_of_interest_is_nodata_and_the_rest_as_without_it(
    tmp_path, monkeypatch, side
):
    small_blocks(monkeypatch, side)
    path = write_scene(tmp_path / "in" / "a.tif", VALUES)
    work = work_with(tmp_path, AREA, confidence=True)
    total = run_all(work, path)
    inside = inside_of(AREA)
    np.testing.assert_array_equal(labels_of(work), np.where(inside, LABELS, 255))
    confidence = read_band(Path(work.run.root) / "confidence" / "in" / "a.tif")
    expected = np.rint(VALUES.astype(np.float32).mean(axis=-1) / 255 * 255)
    assert np.abs(confidence[inside] - expected[inside]).max() <= 1
    assert (confidence[~inside] == 0).all()
    assert (total.tally.pixels["nodata"], total.tally.pixels["outside"]) == (0, (~inside).sum())
    assert sum(total.tally.pixels.values()) == HEIGHT * WIDTH
    assert (total.tally.images, total.tally.failed_images) == (1, 0)


def test_windows_that_do_not_touch_an_area_of_interest_are_never_read(tmp_path, monkeypatch, reads):
    small_blocks(monkeypatch, 64)
    path = write_scene(tmp_path / "in" / "a.tif", VALUES)
    run_all(work_with(tmp_path, AREA), path)
    inside = inside_of(AREA)
    touched = [
        Window(row, column, min(32, HEIGHT - row), min(32, WIDTH - column))
        for row in range(0, HEIGHT, 32)
        for column in range(0, WIDTH, 32)
        if inside[row : row + 32, column : column + 32].any()
    ]
    assert sorted(reads) == sorted(touched)
    assert 0 < len(touched) < 20


def test_a_scene_outside_an_area_of_interest_is_nodata_and_not_read(tmp_path, reads):
    path = write_scene(tmp_path / "in" / "a.tif", VALUES)
    model = BrightnessModel()
    work = work_with(tmp_path, outline((900, 900), (950, 900), (900, 950)))
    (unit,) = units_in(work, path)
    run_unit(unit, work, model)
    assert (labels_of(work) == 255).all()
    assert (reads, model.batches) == ([], [])
    tally = work.log.read(unit).tally
    assert (tally.pixels["nodata"], tally.pixels["outside"]) == (0, HEIGHT * WIDTH)
    assert (tally.images, tally.failed_images) == (1, 0)


def test_the_context_of_an_area_of_interest_is_seen(tmp_path, neighbourhood_savedmodel):
    from segmodel.savedmodel.predictor import Predictor

    predictor = Predictor.load(neighbourhood_savedmodel)
    halo = predictor.contract.receptive_field // 2
    fields = {"contract": predictor.contract, "layout": predictor.contract.layout(32, halo)}
    path = write_scene(tmp_path / "in" / "a.tif", VALUES)
    found = []
    for name, area in (("with", AREA), ("without", None)):
        work = work_with(tmp_path, area, name, **fields)
        (unit,) = units_in(work, path)
        run_unit(unit, work, predictor)
        found.append(labels_of(work))
    inside = inside_of(AREA)
    np.testing.assert_array_equal(found[0], np.where(inside, found[1], 255))


def test_windows_that_cannot_be_read_outside_an_area_of_interest_cost_nothing(tmp_path):
    path = write_scene(tmp_path / "in" / "a.tif", VALUES, compress="deflate", blockysize=8)
    spoil_strip(path, 0)
    work = work_with(tmp_path, AREA)
    total = run_all(work, path)
    np.testing.assert_array_equal(labels_of(work), np.where(inside_of(AREA), LABELS, 255))
    assert (total.tally.failed_images, failure_rows(work)) == (0, [])


class SeesEdges(BrightnessModel):
    """Labels bright what is at most so far from the edge of its window, and dark the rest."""

    def labels(self, images):
        labels = np.full(images.shape[:3], BRIGHT, np.uint8)
        labels[:, 9:-9, 9:-9] = DARK
        return labels


@pytest.mark.parametrize(("height", "width"), [(64, 64), (32, 64), (64, 32)])
@pytest.mark.parametrize("model", [BrightnessModel, SeesEdges])
def test_seams_of_a_scene_are_counted_in_its_record(tmp_path, height, width, model):
    path = write_scene(tmp_path / "in" / "a.tif", VALUES[:height, :width])
    work = make_work(tmp_path / "run", layout=Layout(32, 8, 8), check_seams=True)
    (unit,) = units_in(work, path)
    run_unit(unit, work, model())
    tally = work.log.read(unit).tally
    far = (height - 16 * (height > 32)) * (width - 16 * (width > 32))
    assert tally.seam_pixels == height * width - far
    assert (tally.seam_differences > 0) is (model is SeesEdges)
    assert sum(tally.pixels.values()) == height * width


def test_seams_are_not_looked_for_unless_asked_for(tmp_path):
    path = write_scene(tmp_path / "in" / "a.tif", VALUES)
    work = make_work(tmp_path / "run", layout=Layout(32, 8, 8))
    total = run_all(work, path)
    assert (total.tally.seam_pixels, total.tally.seam_differences) == (0, 0)


def test_seams_between_blocks_are_counted_from_both_sides(tmp_path, monkeypatch):
    small_blocks(monkeypatch, 32)
    path = write_scene(tmp_path / "in" / "a.tif", VALUES[:32, :64])
    work = make_work(tmp_path / "run", layout=Layout(32, 8, 8), check_seams=True)
    *blocks, _ = units_in(work, path)
    for block in blocks:
        run_unit(block, work)
    tallies = [work.log.read(block).tally for block in blocks]
    assert [(t.seam_pixels, t.seam_differences) for t in tallies] == [(256, 0), (256, 0)]


def test_seams_leave_nodata_and_an_area_of_interest_aside(tmp_path):
    values = np.maximum(VALUES[:32, :64], 1)
    values[:10] = 0
    path = write_scene(tmp_path / "in" / "a.tif", values, nodata=0)
    area = outline((0, 0), (64, 0), (64, 20), (0, 20))
    work = work_with(tmp_path, area, layout=Layout(32, 8, 8), check_seams=True)
    (unit,) = units_in(work, path)
    run_unit(unit, work)
    assert work.log.read(unit).tally.seam_pixels == 10 * 16


@pytest.mark.parametrize("side", [32, 4096])
@pytest.mark.parametrize("gsd", [20.0, 6.5])
def test_seams_of_a_resampled_scene_are_none_to_a_local_model(tmp_path, monkeypatch, side, gsd):
    small_blocks(monkeypatch, side)
    path = write_scene(tmp_path / "in" / "a.tif", VALUES)
    work = make_work(
        tmp_path / "run",
        layout=Layout(32, 8, 8),
        check_seams=True,
        reading=ReadOptions(resample_to=gsd),
    )
    total = run_all(work, path)
    assert total.tally.seam_pixels > 0
    assert total.tally.seam_differences == 0


@pytest.mark.parametrize("side", [64, 4096])
@pytest.mark.parametrize("gsd", [20.0, 37.0, 6.5])
def test_a_resampled_scene_is_labelled_as_its_resampled_pixels_are(
    tmp_path, monkeypatch, side, gsd
):
    small_blocks(monkeypatch, side)
    path = write_scene(tmp_path / "in" / "a.tif", VALUES)
    reading = ReadOptions(resample_to=gsd)
    work = make_work(tmp_path / "run", layout=LAYOUT, reading=reading)
    total = run_all(work, path)
    size = (round(HEIGHT * 10 / gsd), round(WIDTH * 10 / gsd))
    # Pixels of 10 m on the map are a little more or less on the ground.
    sizes = [(size[0] + i, size[1] + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    maps = []
    for model in sizes:
        grid, whole = ModelGrid((HEIGHT, WIDTH), model), Window(0, 0, *model)
        seen, _ = grid.resample(VALUES, None, whole)
        maps.append(
            grid.to_source_grid(brightness_labels(seen), whole, Window(0, 0, HEIGHT, WIDTH))
        )
    assert any(np.array_equal(labels_of(work), expected) for expected in maps)
    assert sum(total.tally.pixels.values()) == HEIGHT * WIDTH
    assert sum(total.tally.area_m2.values()) == pytest.approx(total.tally.footprint_m2, rel=1e-6)


@pytest.mark.parametrize("side", [64, 4096])
@pytest.mark.parametrize("gsd", [20.0, 6.5])
def test_windows_that_a_resampled_scene_loses_are_failed_on_its_own_grid(
    tmp_path, monkeypatch, side, gsd
):
    small_blocks(monkeypatch, side)
    path = write_scene(tmp_path / "in" / "a.tif", VALUES, compress="deflate", blockysize=8)
    reading = ReadOptions(resample_to=gsd)
    whole = make_work(tmp_path / "whole", layout=LAYOUT, reading=reading)
    run_all(whole, path)
    expected = labels_of(whole)
    spoil_strip(path, 12)
    os.utime(path, ns=(1, 1))
    work = make_work(tmp_path / "run", layout=LAYOUT, reading=reading)
    total = run_all(work, path)
    found = labels_of(work)
    lost = found == 255
    np.testing.assert_array_equal(found[~lost], expected[~lost])
    assert lost[96:104].all()
    assert lost.all(axis=1).sum() == lost.any(axis=1).sum()
    assert total.tally.pixels["failed"] == lost.sum() < HEIGHT * WIDTH
    assert total.tally.pixels["nodata"] == 0
    assert sum(total.tally.pixels.values()) == HEIGHT * WIDTH
    assert (total.tally.images, total.tally.failed_images) == (0, 1)
    assert sum(total.tally.area_m2.values()) == pytest.approx(total.tally.footprint_m2, rel=1e-6)


def test_bands_are_taken_as_they_are_asked_for(tmp_path):
    values = np.dstack([VALUES[..., ::-1], VALUES[..., :1]])
    path = write_scene(tmp_path / "in" / "a.tif", values, photometric="RGB", alpha="unspecified")
    work = make_work(tmp_path / "run", layout=LAYOUT, reading=ReadOptions(bands=("3", "2", "4")))
    run_all(work, path)
    expected = brightness_labels(VALUES[..., [0, 1, 0]])
    np.testing.assert_array_equal(labels_of(work), expected)


def version_of(path: Path) -> str:
    (file,) = files_in(path)
    return SceneFormat().claim(file, Headers()).version


def test_the_version_of_a_plain_scene_is_that_of_its_file(tmp_path):
    path = write_scene(tmp_path / "a.tif", VALUES)
    (file,) = files_in(path)
    assert SceneFormat().claim(file, Headers()) is file


def test_a_changed_mask_beside_a_scene_changes_its_version(tmp_path):
    valid = np.ones((HEIGHT, WIDTH), bool)
    path = write_mask_beside(tmp_path / "a.tif", VALUES, valid)
    before = version_of(path)
    assert version_of(path) == before
    mask = tmp_path / "a.tif.msk"
    os.utime(mask, ns=(1, 1))
    assert version_of(path) != before
    mask.unlink()
    assert version_of(path) != before


@pytest.mark.parametrize("name", ["left.tif", "right.tif"])
@pytest.mark.parametrize("change", ["time", "size"])
def test_a_changed_source_of_a_mosaic_changes_its_version(tmp_path, name, change):
    path = write_mosaic(tmp_path / "a.vrt", VALUES, 100)
    before = version_of(path)
    source = tmp_path / name
    if change == "time":
        os.utime(source, ns=(1, 1))
    else:
        state = source.stat()
        source.write_bytes(source.read_bytes() + b"\0")
        os.utime(source, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert version_of(path) != before


def test_a_mosaic_that_cannot_be_opened_keeps_its_version(tmp_path):
    path = write(tmp_path / "a.vrt", b"no VRT")
    (file,) = files_in(path)
    assert SceneFormat().claim(file, Headers()) is file


def test_a_moved_mosaic_has_the_version_of_its_content(tmp_path):
    versions = []
    for folder in ("one", "two"):
        path = write_mosaic(tmp_path / folder / "a.vrt", VALUES, 100)
        for file in (path, *path.parent.glob("*.tif")):
            os.utime(file, ns=(5, 5))
        versions.append(version_of(path))
    assert versions[0] == versions[1]


GIVEN = [
    {"bands": ("1", "2", "3")},
    {"resample_to": 10.0},
    {"aoi": "area.gpkg"},
    {"zones": "zones.gpkg"},
    {"overlap": "first"},
    {"check_seams": True},
]


def scenes_of(tmp_path: Path, **fields):
    options = SegmentOptions((str(tmp_path / "in"),), "model", str(tmp_path / "run"), **fields)
    inputs = find_inputs(options, plan_context(contract()))
    return options, inputs.of_format("scene")


@pytest.mark.parametrize("given", GIVEN, ids=lambda given: next(iter(given)))
def test_options_of_scenes_are_refused_where_there_is_none(tmp_path, given):
    write(tmp_path / "in" / "a.png", png(pixels(8, 8)))
    options, scenes = scenes_of(tmp_path, **given)
    with pytest.raises(ConfigurationError, match=f"^--{next(iter(given))} is for scenes, and no"):
        check_scene_options(options, plan_context(contract()), scenes)
    check_scene_options(replace(options, **dict.fromkeys(given)), plan_context(contract()), scenes)


@pytest.mark.parametrize("given", GIVEN, ids=lambda given: next(iter(given)))
def test_options_of_scenes_are_taken_where_there_is_one(tmp_path, given):
    write(tmp_path / "in" / "a.png", png(pixels(8, 8)))
    write_scene(tmp_path / "in" / "a.tif", pixels(8, 8))
    options, scenes = scenes_of(tmp_path, **given)
    check_scene_options(options, plan_context(contract()), scenes)


def test_seams_of_a_model_of_a_fixed_window_cannot_be_checked(tmp_path):
    write_scene(tmp_path / "in" / "a.tif", pixels(8, 8))
    options, scenes = scenes_of(tmp_path, check_seams=True)
    with pytest.raises(ConfigurationError, match="--check_seams needs windows that can be moved"):
        check_scene_options(options, plan_context(contract(fixed_window=64)), scenes)


@pytest.mark.parametrize("bands", [("1",), ("1", "2"), ("1", "2", "3", "4")])
def test_another_number_of_bands_than_the_models_is_refused_before_any_scene_is(tmp_path, bands):
    path = write_scene(tmp_path / "in" / "a.tif", pixels(8, 8))
    message = (
        rf"^--bands names {len(bands)} bands, the model takes 3 \(red, green, blue\): name as many"
    )
    with pytest.raises(ContractError, match=message):
        check_inputs(
            SceneFormat(), files_in(path), plan_context(contract(), ReadOptions(bands=bands))
        )


def test_resampling_to_what_the_model_was_not_made_for_is_refused(tmp_path):
    path = write_scene(tmp_path / "in" / "a.tif", pixels(8, 8))
    made = contract(gsd_range_m=(0.5, 2.0))
    with pytest.raises(ContractError, match=r"^--resample_to: gsd_range_m.*give another number of"):
        check_inputs(
            SceneFormat(), files_in(path), plan_context(made, ReadOptions(resample_to=3.0))
        )
    with pytest.raises(ContractError, match=r"^in/a.tif: gsd_range_m"):
        check_inputs(SceneFormat(), files_in(path), plan_context(made))
    check_inputs(SceneFormat(), files_in(path), plan_context(made, ReadOptions(resample_to=2.0)))


def test_scenes_are_not_resized(tmp_path):
    path = write_scene(tmp_path / "in" / "a.tif", pixels(8, 8))
    with pytest.raises(
        ConfigurationError, match=r"^--resize is for image files.* give --resample_to"
    ):
        check_inputs(
            SceneFormat(), files_in(path), plan_context(contract(), ReadOptions(resize=(8, 8)))
        )


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_an_area_of_interest_needs_to_know_where_the_scene_is(tmp_path):
    path = write_scene(tmp_path / "in" / "a.tif", pixels(8, 8), (None, Affine(2, 0, 0, 0, -2, 9)))
    with pytest.raises(ConfigurationError, match=r"^in/a.tif: it has no .* --aoi cannot"):
        check_inputs(
            SceneFormat(), files_in(path), plan_context(contract(), ReadOptions(aoi="0" * 16))
        )
    check_inputs(SceneFormat(), files_in(path), plan_context(contract()))


def test_a_vrt_of_any_size_costs_itself(tmp_path, model_folder):
    write_scene(tmp_path / "in" / "a.tif", VALUES)
    bands = "".join(f'<VRTRasterBand dataType="Byte" band="{band}"/>' for band in (1, 2, 3))
    (tmp_path / "in" / "b.vrt").write_text(
        '<VRTDataset rasterXSize="2000000000" rasterYSize="2000000000"><SRS>EPSG:32633</SRS>'
        f"<GeoTransform>500000,1e-4,0,5600000,0,-1e-4</GeoTransform>{bands}</VRTDataset>"
    )
    run = run_scenes(tmp_path / "run", model_folder, tmp_path / "in")
    assert [(row["uri"], row["code"]) for row in run.rows("failures.csv")] == [
        ("in/b.vrt", "too_many_pixels")
    ]
    assert run.pixels["total"] == VALUES[..., 0].size

"""Scenes of many blocks: put together pixel by pixel, once, and only when all blocks are done."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio

from pipelines.run.areas import Tally
from pipelines.run.commits import CommitLog
from pipelines.run.directory import RunDirectory
from pipelines.scenes import assembly
from pipelines.scenes.assembly import finish_scene, is_put_together, scene_blocks
from segmodel.tiling.windows import Layout, Window
from tests.fakes import WIDE_CLASSES, BrightnessModel, WideModel, brightness_labels, contract
from tests.pipelines.corpus import (
    dying,
    failure_rows,
    make_work,
    pixels,
    read_band,
    run_all,
    run_unit,
    small_blocks,
    spoil_strip,
    sum_commits,
    tree,
    units_in,
    write_scene,
)

HEIGHT, WIDTH = 700, 1100
VALUES = np.maximum(pixels(HEIGHT, WIDTH), 1)
VALUES[300:420, 350:600] = 0


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    small_blocks(monkeypatch, 512)


@pytest.fixture
def scene(tmp_path) -> Path:
    fields = {"compress": "deflate", "blockysize": 16, "nodata": 0}
    return write_scene(tmp_path / "in" / "a.tif", VALUES, **fields)


def work_at(root: Path, **changes):
    return make_work(root, layout=Layout(128, 0, 32, batch=2), **changes)


def expected_labels() -> np.ndarray:
    return np.where((VALUES == 0).all(axis=-1), 255, brightness_labels(VALUES))


def planned(work, scene: Path):
    """Block units and the unit of the scene."""
    *blocks, whole = units_in(work, scene)
    assert len(blocks) == len(whole.blocks) == 6
    return blocks, whole


def labels_of(work) -> Path:
    return Path(work.run.root) / "labels" / "in" / "a.tif"


def test_a_scene_of_blocks_equals_the_scene_in_one_piece(tmp_path, scene, monkeypatch):
    work = work_at(tmp_path / "blocks", confidence=True)
    total = run_all(work, scene)
    small_blocks(monkeypatch, 4096)
    one = work_at(tmp_path / "one", confidence=True)
    single = run_all(one, scene)
    np.testing.assert_array_equal(read_band(labels_of(work)), expected_labels())
    for folder in ("labels", "confidence"):
        actual = Path(work.run.root) / folder / "in" / "a.tif"
        expected = Path(one.run.root) / folder / "in" / "a.tif"
        np.testing.assert_array_equal(read_band(actual), read_band(expected))
    assert (total.units, total.missing) == (6, 0)
    assert (single.units, single.missing) == (1, 0)
    assert total.tally.pixels == single.tally.pixels
    assert total.tally.images == 1
    for key, area in single.tally.area_m2.items():
        assert total.tally.area_m2[key] == pytest.approx(area, rel=1e-6)
    summed = math.fsum(total.tally.area_m2.values())
    assert summed == pytest.approx(single.tally.footprint_m2, rel=1e-6)
    assert total.tally.footprint_m2 == pytest.approx(single.tally.footprint_m2, rel=1e-6)


def test_the_blocks_of_the_plan_are_found_again_from_the_scene(tmp_path, scene):
    work = work_at(tmp_path / "run")
    blocks, whole = planned(work, scene)
    assert scene_blocks(whole, work) == blocks
    digests = {block.digest(work.options) for block in blocks}
    assert len(digests) == 6


def test_nothing_of_the_blocks_is_left_but_their_records(tmp_path, scene):
    work = work_at(tmp_path / "run", confidence=True)
    run_all(work, scene)
    _, whole = planned(work, scene)
    names = [name for name in tree(work.run.root) if not name.startswith(("commits/", "plan/"))]
    assert names == [
        f"areas/{whole.id}.parquet",
        "confidence/in/a.tif",
        "labels/in/a.tif",
        "labels/in/a.tif.aux.xml",
    ]
    rows = pq.read_table(Path(work.run.root) / names[0]).to_pylist()
    assert {(row["source"], row["key"]) for row in rows} == {("in/a.tif", None)}
    assert sum(row["pixels"] for row in rows) == HEIGHT * WIDTH


def test_a_scene_waits_for_its_last_block(tmp_path, scene):
    work = work_at(tmp_path / "run")
    blocks, whole = planned(work, scene)
    for block in blocks[:-1]:
        run_unit(block, work)
    assert finish_scene(whole, work) is False
    assert not labels_of(work).exists()
    assert sum_commits(work).missing == 1
    run_unit(blocks[-1], work)
    assert finish_scene(whole, work) is True
    np.testing.assert_array_equal(read_band(labels_of(work)), expected_labels())


def test_a_scene_is_put_together_in_memory_that_its_blocks_gave_back(tmp_path, scene, monkeypatch):
    work, maps = work_at(tmp_path / "run"), []
    blocks, whole = planned(work, scene)
    for block in blocks:
        run_unit(block, work)
    monkeypatch.setattr(assembly, "give_back_memory", lambda: maps.append(labels_of(work).exists()))
    finish_scene(whole, work)
    # A scene that is finished takes none.
    finish_scene(whole, work)
    assert maps == [False]


def test_a_scene_is_put_together_once_nothing_of_its_blocks_is_left(tmp_path, scene, monkeypatch):
    work = work_at(tmp_path / "run")
    blocks, whole = planned(work, scene)
    for block in blocks:
        run_unit(block, work)
    assert not is_put_together(whole, work)
    with monkeypatch.context() as patched:
        # As if it was killed before it could remove them.
        patched.setattr(RunDirectory, "remove", lambda run, path: None)
        finish_scene(whole, work)
    assert work.log.is_done(whole)
    assert not is_put_together(whole, work)
    assert finish_scene(whole, work)
    assert is_put_together(whole, work)


def test_a_finished_scene_is_left_as_it_is(tmp_path, scene):
    work = work_at(tmp_path / "run")
    run_all(work, scene)
    before = tree(work.run.root)
    model = BrightnessModel()
    blocks, whole = planned(work, scene)
    assert all(run_unit(block, work, model).skipped for block in blocks)
    assert finish_scene(whole, work) is True
    assert model.batches == []
    assert tree(work.run.root) == before


def test_an_assembly_that_dies_before_its_record_is_done_again(tmp_path, scene, monkeypatch):
    work = work_at(tmp_path / "run")
    blocks, whole = planned(work, scene)
    for block in blocks:
        run_unit(block, work)
    with monkeypatch.context() as broken:
        broken.setattr("pipelines.run.area_tables.AreaTable.close", dying)
        with pytest.raises(KeyError, match="died"):
            finish_scene(whole, work)
    assert sum_commits(work).missing == 1
    assert finish_scene(whole, work) is True
    np.testing.assert_array_equal(read_band(labels_of(work)), expected_labels())


def test_two_assemblies_at_once_end_in_one_right_result(tmp_path, scene):
    work = work_at(tmp_path / "run")
    blocks, whole = planned(work, scene)
    for block in blocks:
        run_unit(block, work)
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda _: finish_scene(whole, work), range(2))) == [True, True]
    np.testing.assert_array_equal(read_band(labels_of(work)), expected_labels())
    assert sum_commits(work).missing == 0


def spoiled(work, scene: Path) -> np.ndarray:
    """Run over a scene with an unreadable strip; where the lost windows are."""
    spoil_strip(scene, 1)
    run_all(work, scene)
    lost = np.zeros((HEIGHT, WIDTH), bool)
    lost[:128] = True
    return lost


def test_windows_that_cannot_be_read_are_nodata_in_the_map_and_the_rest_is_there(tmp_path, scene):
    work = work_at(tmp_path / "run", confidence=True)
    lost = spoiled(work, scene)
    assert lost.any()
    assert not lost.all()
    np.testing.assert_array_equal(
        read_band(labels_of(work)), np.where(lost, 255, expected_labels())
    )
    confidence = read_band(Path(work.run.root) / "confidence" / "in" / "a.tif")
    np.testing.assert_array_equal(confidence > 0, ~lost & (expected_labels() != 255))
    tally = sum_commits(work).tally
    assert (tally.images, tally.failed_images) == (0, 1)
    assert tally.pixels["nodata"] == ((expected_labels() == 255) & ~lost).sum()
    assert {row["uri"] for row in failure_rows(work)} == {"in/a.tif"}


def test_windows_that_cannot_be_read_are_failed_ground(tmp_path, scene):
    work = work_at(tmp_path / "run")
    lost = spoiled(work, scene)
    total = sum_commits(work)
    assert (total.units, total.missing) == (6, 0)
    tally = total.tally
    assert tally.pixels["failed"] == lost.sum()
    assert sum(tally.pixels.values()) == HEIGHT * WIDTH
    assert math.fsum(tally.area_m2.values()) == pytest.approx(tally.footprint_m2, rel=1e-6)
    assert tally.footprint_m2 == pytest.approx(HEIGHT * WIDTH * 100, rel=2e-3)


def test_every_lost_window_says_so_in_a_row_with_its_place(tmp_path, scene):
    work = work_at(tmp_path / "run")
    spoiled(work, scene)
    rows = failure_rows(work)
    columns = [(first, min(first + 127, WIDTH - 1)) for first in range(0, WIDTH, 128)]
    assert [row["key"] for row in rows] == [
        f"rows 0 to 127, columns {first} to {last}" for first, last in columns
    ]
    assert {row["stage"] for row in rows} == {"read"}
    assert all("cannot be read" in row["reason"] for row in rows)


def test_a_scene_with_a_block_that_lost_all_its_windows_has_a_map_of_the_others(
    tmp_path, monkeypatch
):
    small_blocks(monkeypatch, 128)
    fields = {"compress": "deflate", "blockysize": 16, "nodata": 0}
    scene = write_scene(tmp_path / "in" / "a.tif", VALUES[:256], **fields)
    work = work_at(tmp_path / "run", confidence=True)
    spoil_strip(scene, 1)
    total = run_all(work, scene)
    expected = expected_labels()[:256].copy()
    expected[:128] = 255
    np.testing.assert_array_equal(read_band(labels_of(work)), expected)
    assert (total.units, total.missing) == (18, 0)
    assert (total.tally.images, total.tally.failed_images) == (0, 1)
    assert total.tally.pixels["failed"] == 128 * WIDTH
    assert sum(total.tally.pixels.values()) == 256 * WIDTH


def test_a_scene_of_which_nothing_can_be_read_has_no_map(tmp_path, scene):
    work = work_at(tmp_path / "run", confidence=True)
    for strip in range(0, -(-HEIGHT // 16)):
        spoil_strip(scene, strip)
    total = run_all(work, scene)
    assert not labels_of(work).exists()
    assert (total.tally.images, total.tally.failed_images) == (0, 1)
    assert total.tally.pixels == {"failed": HEIGHT * WIDTH}
    assert math.fsum(total.tally.area_m2.values()) == pytest.approx(
        total.tally.footprint_m2, rel=1e-6
    )


def test_the_record_of_a_scene_says_which_windows_are_lost(tmp_path, scene):
    work = work_at(tmp_path / "run")
    lost = spoiled(work, scene)
    _, whole = planned(work, scene)
    commit = work.log.read(whole)
    found = np.zeros_like(lost)
    for part in commit.lost:
        found[Window(*part).slices] = True
    np.testing.assert_array_equal(found, lost)
    assert len(commit.lost) == 9


def test_class_ids_above_254_survive_the_way_through_blocks(tmp_path):
    model = WideModel()
    work = work_at(tmp_path / "run", contract=contract(classes=WIDE_CLASSES))
    path = write_scene(tmp_path / "in" / "a.tif", VALUES)
    blocks, whole = planned(work, path)
    for block in blocks:
        run_unit(block, work, model)
    assert finish_scene(whole, work) is True
    np.testing.assert_array_equal(read_band(labels_of(work)), np.where(VALUES[..., 0] > 99, 300, 5))


def test_a_scene_of_blocks_equals_the_untiled_model_with_enough_halo(
    tmp_path, neighbourhood_savedmodel, monkeypatch
):
    from segmodel.savedmodel.predictor import Predictor

    small_blocks(monkeypatch, 64)
    predictor = Predictor.load(neighbourhood_savedmodel)
    halo = predictor.contract.receptive_field // 2
    work = make_work(
        tmp_path / "run", contract=predictor.contract, layout=predictor.contract.layout(32, halo)
    )
    values = pixels(150, 170)
    path = write_scene(tmp_path / "in" / "a.tif", values)
    *blocks, whole = units_in(work, path)
    assert len(blocks) == 9
    for block in blocks:
        run_unit(block, work, predictor)
    assert finish_scene(whole, work) is True
    np.testing.assert_array_equal(read_band(labels_of(work)), predictor.segment(values))


def test_the_record_of_a_scene_sums_the_records_of_its_blocks(tmp_path, scene):
    work = work_at(tmp_path / "run")
    run_all(work, scene)
    blocks, whole = planned(work, scene)
    log = CommitLog(work.run.root, work.options)
    summed = Tally.sum(log.read(block).tally for block in blocks)
    actual = Tally.sum([log.read(whole).tally])
    assert actual.pixels == summed.pixels
    assert actual.area_m2 == summed.area_m2
    assert actual.footprint_m2 == summed.footprint_m2
    with rasterio.open(labels_of(work)) as source:
        assert (source.height, source.width) == (HEIGHT, WIDTH)

"""A unit is done once, whole, and the same everywhere; faults that pass are met with patience."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipelines.run.attempts import UnitReport
from pipelines.run.commits import CommitLog
from pipelines.storage import filesystem
from pipelines.worker import model
from pipelines.worker.model import MODELS
from pipelines.worker.unit import segment_unit
from segmodel.errors import ContractError, TransientError
from segmodel.tiling.windows import Layout
from tests.fakes import BrightnessModel, brightness_labels
from tests.pipelines.corpus import (
    dying,
    failure_rows,
    make_work,
    photos,
    pixels,
    png,
    read_png,
    record,
    run_unit,
    tree,
    units_in,
    write,
    write_scene,
    write_shard,
)


def mixed(root: Path) -> Path:
    folder = root / "in"
    write(folder / "a.png", png(pixels(70, 50, 1)))
    write(folder / "broken.jpg", b"\xff\xd8\xff")
    write_shard(folder / "s.tfrecord.gz", [record(pixels(30, 40, 2), "x.png"), b"\xff"])
    write_scene(folder / "scene.tif", pixels(100, 90, 3))
    return folder


def only_unit(work, folder: Path):
    (unit,) = units_in(work, folder)
    return unit


def is_done(work, unit) -> bool:
    return CommitLog(work.run.root, work.options).is_done(unit)


def test_a_unit_writes_labels_rows_and_last_its_record(tmp_path, work, monkeypatch):
    unit = only_unit(work, photos(tmp_path))
    original, seen = filesystem.create, []

    def create(uri, content, scratch):
        seen.extend(name for name in tree(work.run.root) if not name.startswith("plan/"))
        return original(uri, content, scratch)

    monkeypatch.setattr(filesystem, "create", create)
    report = run_unit(unit, work)
    assert report == UnitReport(done=1, computed_pixels=40 * 50 + 41 * 50 + 42 * 50)
    assert seen == [
        f"areas/{unit.id}.parquet",
        *(f"labels/photos/{number}.png.png" for number in range(3)),
    ]
    assert is_done(work, unit)


def test_halos_are_computed_and_are_not_counted_as_pixels_that_are_labelled(tmp_path):
    work = make_work(tmp_path / "run", layout=Layout(window_px=16, halo_px=16, stride_px=16))
    report = run_unit(only_unit(work, photos(tmp_path)), work)
    assert report.computed_pixels == 40 * 50 + 41 * 50 + 42 * 50


def test_a_unit_that_dies_before_its_record_is_done_again(tmp_path, work, monkeypatch):
    unit = only_unit(work, photos(tmp_path))
    with monkeypatch.context() as broken:
        broken.setattr("pipelines.run.area_tables.AreaTable.close", dying)
        with pytest.raises(KeyError, match="died"):
            run_unit(unit, work)
    assert not is_done(work, unit)
    assert run_unit(unit, work) == UnitReport(done=1, computed_pixels=6150)
    clean = make_work(tmp_path / "clean")
    run_unit(unit, clean)
    left, expected = tree(work.run.root), tree(clean.run.root)
    assert {name: left[name] for name in expected} == expected


def test_a_unit_that_is_done_is_skipped_without_a_model(tmp_path, work):
    unit = only_unit(work, photos(tmp_path))
    run_unit(unit, work)
    before = tree(work.run.root)

    def no_model(work):
        raise AssertionError("loaded")

    assert segment_unit(unit, work, model=no_model) == UnitReport(done=1, skipped=1)
    assert tree(work.run.root) == before


@pytest.mark.parametrize("confidence", [False, True])
def test_the_same_unit_in_two_runs_gives_the_same_bytes(tmp_path, confidence):
    folder = mixed(tmp_path)
    works = [make_work(tmp_path / name, confidence=confidence) for name in ("one", "two")]
    for work in works:
        for unit in units_in(work, folder):
            run_unit(unit, work)
    one, two = (tree(work.run.root) for work in works)
    assert one == two
    assert sum(name.startswith("commits/") for name in one) == 3
    assert any(name.startswith("confidence/") for name in one) is confidence


def test_two_attempts_at_once_end_in_one_right_result(tmp_path, work):
    folder = mixed(tmp_path)
    units = units_in(work, folder)
    barrier = threading.Barrier(3)

    def attempt(number: int) -> list[UnitReport]:
        barrier.wait()
        return [run_unit(unit, work) for unit in units]

    with ThreadPoolExecutor(3) as pool:
        reports = [report for done in pool.map(attempt, range(3)) for report in done]
    assert all(report.done == 1 and report.incomplete == 0 for report in reports)
    alone = make_work(tmp_path / "alone")
    for unit in units_in(alone, folder):
        run_unit(unit, alone)
    assert tree(work.run.root) == tree(alone.run.root)


def test_images_that_fail_become_rows_and_the_others_are_labelled(tmp_path, work):
    folder = photos(tmp_path, 2)
    values = pixels(30, 30, 9)
    write(folder / "cut.jpg", png(values)[:-60])
    write(folder / "empty.png", b"")
    write(folder / "text.png", b"this is no image")
    unit = only_unit(work, folder)
    assert run_unit(unit, work).done == 1
    rows = failure_rows(work)
    assert [(row["uri"], row["key"], row["stage"]) for row in rows] == [
        ("photos/cut.jpg", None, "read"),
        ("photos/empty.png", None, "open"),
        ("photos/text.png", None, "open"),
    ]
    assert rows[0]["reason"] == "truncated or corrupt PNG: it ends without its end mark"
    assert rows[1]["reason"] == "empty file"
    assert rows[2]["reason"] == "not a JPEG, PNG, WebP or TIFF image"
    for number in range(2):
        expected = brightness_labels(pixels(40 + number, 50, number))
        actual = read_png(Path(work.run.root) / f"labels/photos/{number}.png.png")
        assert (actual == expected).all()
    tally = CommitLog(work.run.root, work.options).read(unit).tally
    assert (tally.images, tally.failed_images) == (2, 3)


def test_a_unit_in_which_all_fail_is_done_and_has_no_label_maps(tmp_path, work):
    write(tmp_path / "photos" / "empty.png", b"")
    unit = only_unit(work, tmp_path / "photos")
    assert run_unit(unit, work) == UnitReport(done=1)
    assert not (Path(work.run.root) / "labels").exists()


def test_an_image_that_vanished_after_the_plan_is_a_failure(tmp_path, work):
    folder = photos(tmp_path, 2)
    unit = only_unit(work, folder)
    (folder / "0.png").unlink()
    assert run_unit(unit, work).done == 1
    (row,) = failure_rows(work)
    assert (row["uri"], row["reason"]) == ("photos/0.png", "No such file or directory")


def test_pixels_are_reported_while_a_unit_is_done(tmp_path, work):
    unit = only_unit(work, photos(tmp_path))
    seen: list[int] = []
    segment_unit(unit, work, model=lambda work: BrightnessModel(), on_pixels=seen.append)
    assert sum(seen) == 6150


def test_the_model_is_loaded_once_in_a_process(work, monkeypatch):
    loads = []
    monkeypatch.setattr(MODELS, "loaded", {})
    monkeypatch.setattr(
        "segmodel.savedmodel.predictor.Predictor.load",
        lambda *given: loads.append(given) or 7,
    )
    opened = SimpleNamespace(folder=work.model, fingerprint=work.fingerprint)
    monkeypatch.setattr(model, "open_model", lambda folder: opened)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: MODELS.load(work), range(8))) == [7] * 8
    assert loads == [("no-model", False, None)]


def test_a_model_that_was_replaced_after_the_launch_is_refused(work, monkeypatch):
    monkeypatch.setattr(MODELS, "loaded", {})
    opened = SimpleNamespace(folder=work.model, fingerprint="of another model")
    monkeypatch.setattr(model, "open_model", lambda folder: opened)
    with pytest.raises(TransientError, match="the model in no-model was replaced after"):
        MODELS.load(work)


def test_nothing_of_a_run_depends_on_where_the_input_is(tmp_path):
    folder = mixed(tmp_path / "here")
    shutil.copytree(folder, tmp_path / "there" / "in")  # copies the times of modification too
    works = []
    for name in ("here", "there"):
        works.append(make_work(tmp_path / f"run-{name}"))
        for unit in units_in(works[-1], tmp_path / name / "in"):
            run_unit(unit, works[-1])
    one, two = (
        {name: content for name, content in tree(w.run.root).items() if not name.startswith("plan")}
        for w in works
    )
    assert one == two


def test_a_model_that_gives_other_labels_than_it_promises_leaves_nothing(tmp_path, work):
    class Wide(BrightnessModel):
        def labels(self, images):
            return super().labels(images).astype("int64") + 256

    unit = only_unit(work, write(tmp_path / "in" / "a.png", png(pixels(70, 50))))
    with pytest.raises(ContractError, match=r"must give uint8 of shape .* gives int64"):
        segment_unit(unit, work, model=lambda work: Wide())
    assert not is_done(work, unit)
    assert not any(name.startswith(("labels", "failures")) for name in tree(work.run.root))

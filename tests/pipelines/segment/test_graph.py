"""The whole graph in process: one linear chain, small bytes, right statuses, and resumable."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import pickle
import subprocess
import sys
from collections import Counter
from pathlib import Path

import apache_beam as beam
import pytest

from pipelines.cli.values import FailureBudget
from pipelines.commands import main
from pipelines.run import plan
from pipelines.run.attempts import UnitReport, sum_reports
from pipelines.runners.execute import pipeline_options
from pipelines.segment.graph import SegmentImages, SegmentPipelineOptions
from pipelines.segment.launch import check_run, prepare_run
from pipelines.segment.options import SegmentOptions
from pipelines.worker.model import MODELS
from segmodel.devices.compute import FLOAT32
from segmodel.savedmodel.folder import fingerprint
from tests.fakes import BrightnessModel, brightness_labels
from tests.pipelines.corpus import (
    make_work,
    pixels,
    png,
    read_band,
    read_png,
    read_shard,
    record,
    small_blocks,
    tree,
    write,
    write_scene,
    write_shard,
)

PHOTOS = [pixels(50 + number, 60, number) for number in range(3)]
SCENE = pixels(150, 140, 9)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    small_blocks(monkeypatch, 64)


def corpus(root: Path) -> Path:
    folder = root / "in"
    for number, values in enumerate(PHOTOS):
        write(folder / f"{number}.png", png(values))
    write_shard(folder / "s.tfrecord", [record(PHOTOS[0], "a"), record(PHOTOS[1], "b")])
    write_scene(folder / "scene.tif", SCENE)
    return folder


def words(root: Path, model: Path, *more: str) -> list[str]:
    folders = ["--input", str(root / "in"), "--output", str(root / "run"), "--model", str(model)]
    return [*folders, "--window", "64", *more]


def segment(root: Path, model: Path, *more: str) -> int:
    return main.dispatch(["segment", *words(root, model, *more)])


@pytest.fixture
def fake_model(model_folder, monkeypatch) -> BrightnessModel:
    """Loaded in this process already, so that no TensorFlow is needed."""
    model = BrightnessModel()
    monkeypatch.setitem(MODELS.loaded, (fingerprint(model_folder), FLOAT32), model)
    return model


def summary(root: Path) -> dict:
    return json.loads((root / "run" / "summary.json").read_bytes())


def test_a_run_over_all_formats_labels_counts_and_ends_well(tmp_path, brightness_savedmodel):
    corpus(tmp_path)
    assert segment(tmp_path, brightness_savedmodel, "--confidence") == 0
    labels = tmp_path / "run" / "labels" / "in"
    for number, values in enumerate(PHOTOS):
        assert (read_png(labels / f"{number}.png.png") == brightness_labels(values)).all()
    assert (read_band(labels / "scene.tif") == brightness_labels(SCENE)).all()
    assert [features["image/filename"] for features in read_shard(labels / "s.tfrecord")] == [
        [b"a"],
        [b"b"],
    ]
    assert (tmp_path / "run" / "_SUCCESS").read_bytes() == b""
    done = summary(tmp_path)
    every = sum(v.shape[0] * v.shape[1] for v in [*PHOTOS, *PHOTOS[:2], SCENE])
    assert (done["exit_status"], done["images"], done["failed_images"]) == (0, 6, 0)
    assert (done["units"], done["pixels"]) == (2 + 9, every)
    assert done["this_attempt"]["units_done"] == 2 + 9
    assert done["this_attempt"]["computed_pixels"] == every
    table = (tmp_path / "run" / "areas.csv").read_text().splitlines()
    rows = {row["class"]: row for row in csv.DictReader(table)}
    assert rows["total"]["pixels"] == str(every)
    assert rows["footprint"]["pixels"] == str(SCENE.shape[0] * SCENE.shape[1])
    areas = [float(rows[name]["area_m2"]) for name in ("dark", "middle", "bright", "nodata")]
    footprint = float(rows["footprint"]["area_m2"])
    assert math.fsum(areas) == pytest.approx(footprint, rel=1e-6)
    assert footprint == pytest.approx(SCENE.shape[0] * SCENE.shape[1] * 100, rel=2e-3)


RESUME = """
import sys
from pipelines.commands import main
from pipelines.scenes import blocks
blocks.BLOCK_PX, blocks.WIDE_BLOCK_PIXELS = 64, 0
status = main.dispatch(sys.argv[1:])
print(status, "tensorflow" in sys.modules)
"""


@pytest.mark.usefixtures("fake_model")
def test_a_resumed_run_computes_nothing_and_loads_no_model(tmp_path, model_folder):
    corpus(tmp_path)
    assert segment(tmp_path, model_folder) == 0
    before = tree(tmp_path / "run")
    command = [sys.executable, "-c", RESUME, "segment", *words(tmp_path, model_folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "0 False"
    attempt = summary(tmp_path)["this_attempt"]
    assert (attempt["units_done"], attempt["units_skipped"]) == (0, 11)
    assert attempt["computed_pixels"] == 0
    after = tree(tmp_path / "run")
    changed = [name for name in after if after[name] != before.get(name)]
    assert changed == ["summary.json"]
    assert set(after) == set(before)


@pytest.mark.usefixtures("fake_model")
def test_too_many_failures_end_with_status_3_and_without_success(tmp_path, model_folder, capsys):
    folder = corpus(tmp_path)
    write(folder / "broken.jpg", b"\xff\xd8\xff")
    assert segment(tmp_path, model_folder) == 3
    assert not (tmp_path / "run" / "_SUCCESS").exists()
    assert summary(tmp_path)["failed_images"] == 1
    error = capsys.readouterr().err
    assert "failed: in/broken.jpg: " in error
    assert "1 of 7 images failed, more than --max_failures 0 allows" in error
    assert segment(tmp_path, model_folder, "--max_failures", "1") == 0
    assert (tmp_path / "run" / "_SUCCESS").exists()
    assert summary(tmp_path)["this_attempt"]["units_done"] == 0


def test_a_fault_that_stays_ends_with_status_4_and_the_next_run_does_the_rest(
    tmp_path, model_folder, fake_model, monkeypatch, capsys
):
    corpus(tmp_path)
    with monkeypatch.context() as broken:

        def fail(images):
            raise MemoryError

        broken.setattr(fake_model, "labels", fail)
        assert segment(tmp_path, model_folder) == 4
    assert not (tmp_path / "run" / "_SUCCESS").exists()
    assert (summary(tmp_path)["complete"], summary(tmp_path)["unfinished_units"]) == (False, 2 + 9)
    assert "run the same command again" in capsys.readouterr().err
    assert segment(tmp_path, model_folder) == 0
    assert (tmp_path / "run" / "_SUCCESS").exists()
    assert summary(tmp_path)["this_attempt"]["units_done"] == 11


def test_an_error_of_ours_ends_the_run_and_is_no_success(
    tmp_path, model_folder, fake_model, monkeypatch
):
    corpus(tmp_path)

    def fail(images):
        raise TypeError("ours")

    monkeypatch.setattr(fake_model, "labels", fail)
    with pytest.raises(Exception, match="ours"):
        segment(tmp_path, model_folder)
    assert not (tmp_path / "run" / "_SUCCESS").exists()
    assert not (tmp_path / "run" / "commits").exists()


@pytest.mark.usefixtures("fake_model")
def test_a_run_that_lost_records_and_was_resumed_reports_the_same_totals(tmp_path, model_folder):
    corpus(tmp_path)
    segment(tmp_path, model_folder)
    expected = tree(tmp_path / "run")
    records = sorted((tmp_path / "run" / "commits").iterdir())
    for path in (path for path in records if "scene" not in path.name):
        path.unlink()
    assert segment(tmp_path, model_folder) == 0
    actual = tree(tmp_path / "run")
    assert set(actual) == set(expected)
    assert [name for name in actual if actual[name] != expected[name]] == ["summary.json"]


def graph(work=None, parts=("part",)) -> tuple[beam.Pipeline, dict]:
    """The graph, and its leaf transforms by name."""
    pipeline = beam.Pipeline(runner="FnApiRunner")
    budget = FailureBudget(0, None)
    chosen = work or make_work(Path("nowhere"))
    _ = pipeline | beam.Create(parts, reshuffle=False) | SegmentImages(chosen, budget)
    transforms = pipeline.to_runner_api().components.transforms.values()
    leaves = {t.unique_name: t for t in transforms if not t.subtransforms}
    passing = {n for n, t in leaves.items() if set(t.inputs.values()) == set(t.outputs.values())}
    return pipeline, {name: leaf for name, leaf in leaves.items() if name not in passing}


def test_every_collection_of_the_graph_has_at_most_one_consumer():
    _, leaves = graph()
    consumers = Counter(source for leaf in leaves.values() for source in leaf.inputs.values())
    assert max(consumers.values()) == 1
    assert all(len(leaf.outputs) == 1 for leaf in leaves.values())


def test_the_graph_has_one_root_and_no_side_input():
    _, leaves = graph()
    roots = [name for name, leaf in leaves.items() if not leaf.inputs]
    sides = [name for name, leaf in leaves.items() if len(leaf.inputs) > 1]
    assert (len(roots), sides) == (1, [])


def test_the_labels_of_the_steps_tell_the_story():
    _, leaves = graph()
    names = [name.split("/")[1:] for name in leaves if name.startswith("SegmentImages/")]
    following = {"ListParts", "SpreadParts", "ReadPart", "SpreadUnits", "FinishUnit", "SumReports"}
    assert {name[0] for name in names} == {
        "ReadPlan",
        "SpreadUnits",
        "SegmentUnit",
        "SumUnits",
        "FinishScenes",
        "CountScenes",
        "FinishRun",
    }
    assert {name[1] for name in names if name[0] == "FinishScenes"} == following
    assert {name[1] for name in names if name[0] == "CountScenes"} == following
    assert {name[1] for name in names if name[0] == "FinishRun"} == {
        "ListParts",
        "SpreadParts",
        "SumPart",
        "SumParts",
        "WriteResults",
    }


def test_what_crosses_a_shuffle_is_small(tmp_path, model_folder):
    corpus(tmp_path)
    options = SegmentOptions(
        (str(tmp_path / "in"),), str(model_folder), str(tmp_path / "run"), window=64
    )
    launched = prepare_run(check_run(options))
    folder = launched.work.run.plan
    references = [ref for part in launched.parts for ref in plan.references(folder, part)]
    assert len(references) == 11
    assert max(len(pickle.dumps(reference)) for reference in references) < 200
    assert len(pickle.dumps(UnitReport(1, 1, 0, 10**12))) < 200


def test_the_size_of_the_graph_does_not_depend_on_the_number_of_units(tmp_path):
    sizes = []
    for count in (1, 2000):
        work = make_work(tmp_path / str(count).zfill(5))
        ids = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(count)]
        files = (plan.InputFile("/a", "a", "a", 1, "1"),)
        units = [plan.WorkUnit(unit, "images", files) for unit in ids]
        parts = plan.write_plan(units, work.run.plan, work.run.scratch)
        sizes.append(graph(work, parts)[0].to_runner_api().ByteSize())
    # Beam compresses what it pickles, so that paths and names change the size a little; 2,000
    # digests would be 64,000 bytes however compressed.
    assert abs(sizes[0] - sizes[1]) < 2_000
    assert max(sizes) < 200_000


def test_options_of_ours_are_options_of_the_pipeline():
    given = ["--input=a", "--output", "o", "--model=m", "--limit=3", "--job_name=night"]
    shown = pipeline_options(given).get_all_options()
    assert (shown["input"], shown["output"], shown["model"]) == (["a"], "o", "m")
    assert (shown["limit"], shown["job_name"]) == (3, "night")
    ours = pipeline_options(given).view_as(SegmentPipelineOptions)
    assert (ours.retry_failures, ours.max_failures) == (False, "0")


@pytest.mark.parametrize("count", [0, 1, 5])
def test_reports_are_summed_field_by_field(count):
    reports = [UnitReport(1, 2, 3, 4)] * count
    assert sum_reports(iter(reports)) == UnitReport(count, 2 * count, 3 * count, 4 * count)

"""`beamseg segment` as a user meets it: mixed inputs, failures, refusals, exit statuses."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

from segmodel.savedmodel.export import export_savedmodel
from tests.end_to_end.conftest import noise, write_corpus, write_scene
from tests.fakes import brightness_labels, contract


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    write_corpus(tmp_path)
    return tmp_path


def segment_words(model: Path, *more: object) -> list[object]:
    inputs = ["--input", "photos", "--input=shards/*.tfrecord", "--input", "scenes"]
    return ["segment", *inputs, "--model", model, "--output", "run", *more]


def spoil(corpus: Path) -> None:
    """Add a truncated JPEG, an empty file and a text file named .png."""
    whole = (corpus / "photos" / "image-003.jpg").read_bytes()
    (corpus / "photos" / "truncated.jpg").write_bytes(whole[: len(whole) * 2 // 3])
    (corpus / "photos" / "empty.jpg").write_bytes(b"")
    (corpus / "photos" / "text.png").write_text("this is no image")


def test_a_mixed_run_labels_everything_and_balances(corpus, beamseg, brightness_savedmodel):
    done = beamseg(*segment_words(brightness_savedmodel, "--window", 64, "--confidence"))

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("complete: label maps in run/labels")
    run = corpus / "run"
    assert (run / "_SUCCESS").read_bytes() == b""
    with rasterio.open(run / "labels/scenes/scene.tif") as source:
        np.testing.assert_array_equal(source.read(1), brightness_labels(noise(99, 150, 200)))
        assert source.nodata == 255
    labels = np.asarray(Image.open(run / "labels/photos/image-000.png.png"))
    np.testing.assert_array_equal(labels, brightness_labels(noise(0, 40, 56)))
    assert len(list((run / "labels/shards").iterdir())) == 2
    assert (run / "confidence/scenes/scene.tif").exists()
    with (run / "areas.csv").open() as stream:
        table = {row["class"]: row for row in csv.DictReader(stream)}
    classes = ("dark", "middle", "bright", "nodata", "failed")
    assert sum(int(table[name]["pixels"]) for name in classes) == int(table["total"]["pixels"])
    assert int(table["footprint"]["pixels"]) == 150 * 200
    total, footprint = (float(table[name]["area_m2"]) for name in ("total", "footprint"))
    assert total == pytest.approx(footprint, rel=1e-6)
    # UTM has a scale of 0.9996 on its central meridian, where this scene lies.
    assert footprint == pytest.approx(150 * 200 * 100 / 0.9996**2, rel=1e-4)


def test_three_bad_images_cost_themselves_and_end_with_3(corpus, beamseg, brightness_savedmodel):
    spoil(corpus)
    words = segment_words(brightness_savedmodel)

    over = beamseg(*words)
    within = beamseg(*words, "--max_failures", 3)

    assert over.returncode == 3
    assert not (corpus / "run" / "_SUCCESS").exists() or within.returncode == 0
    assert within.returncode == 0, within.stderr
    assert (corpus / "run" / "_SUCCESS").exists()
    rows = [
        json.loads(line)
        for path in (corpus / "run" / "failures").glob("*.jsonl")
        for line in path.read_text().splitlines()
    ]
    reasons = {row["uri"]: row["reason"] for row in rows}
    assert set(reasons) == {"photos/truncated.jpg", "photos/empty.jpg", "photos/text.png"}
    assert "truncated" in reasons["photos/truncated.jpg"]
    assert reasons["photos/empty.jpg"] == "empty file"
    assert reasons["photos/text.png"] == "not a JPEG, PNG, WebP or TIFF image"
    assert len(list((corpus / "run/labels/photos").iterdir())) == 8
    summary = json.loads((corpus / "run/summary.json").read_text())
    assert (summary["images"], summary["failed_images"]) == (15, 3)
    assert summary["this_attempt"]["computed_pixels"] == 0


def test_a_mended_file_is_done_again_and_the_rest_is_not(corpus, beamseg, brightness_savedmodel):
    spoil(corpus)
    words = segment_words(brightness_savedmodel)
    assert beamseg(*words).returncode == 3
    for name in ("truncated.jpg", "empty.jpg", "text.png"):
        Image.fromarray(noise(5, 30, 30)).save(corpus / "photos" / name)

    done = beamseg(*words)

    assert done.returncode == 0, done.stderr
    summary = json.loads((corpus / "run/summary.json").read_text())
    assert summary["images"] == 18
    assert summary["this_attempt"]["units_skipped"] == 3
    assert summary["this_attempt"]["units_done"] == 1


@pytest.mark.parametrize(
    ("changes", "field", "patterns"),
    [
        ({"bands": ("red", "nir"), "nodata_fill": (0.0, 0.0)}, "bands", ("scenes", "photos")),
        # Samples of scenes are converted, and of TIFFs, which are scenes for this model.
        (
            {"dtype": "uint16", "value_range": (0.0, 10000.0)},
            "dtype",
            ("photos/*.[jpw]*", "shards"),
        ),
    ],
)
def test_a_model_that_does_not_fit_is_refused_before_any_work(
    corpus, beamseg, tmp_path, changes, field, patterns
):
    import tensorflow as tf

    model = tmp_path / "model"
    kept = contract(**changes)
    export_savedmodel(
        lambda values: tf.stack([tf.reduce_sum(values, -1)] * 3, -1),
        kept,
        model,
        measure_memory=False,
    )
    for pattern in patterns:
        done = beamseg("segment", f"--input={pattern}", f"--model={model}", "--output=run")

        assert done.returncode == 2
        assert f"{field}: the model takes" in done.stderr
        assert not (corpus / "run").exists()


def test_a_changed_label_option_is_refused_and_overwrite_begins_anew(
    corpus, beamseg, brightness_savedmodel
):
    words = ["segment", "--input=photos", f"--model={brightness_savedmodel}", "--output=run"]
    assert beamseg(*words, "--window=64").returncode == 0

    refused = beamseg(*words, "--window=128")
    renewed = beamseg(*words, "--window=128", "--overwrite")

    assert refused.returncode == 2
    assert "window_px was 64 and is 128" in refused.stderr
    assert renewed.returncode == 0
    assert json.loads((corpus / "run/run.json").read_text())["labels"]["window_px"] == 128


def test_plan_prints_what_a_run_would_do_and_writes_nothing(corpus, beamseg, brightness_savedmodel):
    before = sorted(corpus.rglob("*"))

    done = beamseg("plan", *segment_words(brightness_savedmodel, "--window", 64)[1:])

    assert done.returncode == 0, done.stderr
    lines = dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if line[:1] != "i")
    assert lines["units"] == "4"
    names = "model", "units", "pixels", "windows", "bytes", "room", "overlap", "memory"
    assert set(lines) == set(names)
    assert sorted(corpus.rglob("*")) == before


def test_limit_takes_a_quick_look(corpus, beamseg, brightness_savedmodel):
    done = beamseg(*segment_words(brightness_savedmodel, "--limit", 5))

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("5 images labelled, 0 failed")


def test_the_module_form_is_the_same_command(corpus, brightness_savedmodel):
    import subprocess
    import sys

    from tests.end_to_end.conftest import environment

    words = segment_words(brightness_savedmodel)[1:]
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.segment", *map(str, words)],
        cwd=corpus,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (corpus / "run" / "_SUCCESS").exists()


def test_a_scene_outside_the_range_of_ground_sample_distances_is_refused(tmp_path, beamseg):
    import tensorflow as tf

    write_scene(tmp_path / "scenes" / "scene.tif", noise(1, 64, 64))
    export_savedmodel(
        lambda values: tf.stack([tf.reduce_sum(values, -1)] * 3, -1),
        contract(gsd_range_m=(0.1, 0.5)),
        tmp_path / "model",
        measure_memory=False,
    )

    done = beamseg("segment", "--input=scenes", "--model=model", "--output=run")

    assert done.returncode == 2
    assert "gsd_range_m: the model was made for 0.1 to 0.5 m a pixel" in done.stderr


def test_screen_summary_and_plan_warn_of_a_missing_shard(corpus, beamseg, brightness_savedmodel):
    first, second = sorted((corpus / "shards").iterdir())
    first.rename(corpus / "shards" / "s-00000-of-00003.tfrecord")
    second.rename(corpus / "shards" / "s-00002-of-00003.tfrecord")
    words = ["--input=shards", "--model", brightness_savedmodel, "--output", "run"]

    planned = beamseg("plan", *words)
    done = beamseg("segment", *words)

    lost = "1 shard that the names of others count: shards/s-00001-of-00003.tfrecord"
    assert f"missing   {lost}" in planned.stdout.splitlines()
    assert f"missing: {lost}" in done.stderr.splitlines()
    assert done.returncode == 0
    summary = json.loads((corpus / "run" / "summary.json").read_text())
    missing = ["shards/s-00001-of-00003.tfrecord"]
    expected = {"shards": 1, "sets": [{"found": 2, "of": 3, "missing": missing}]}
    assert summary["missing_shards"] == expected

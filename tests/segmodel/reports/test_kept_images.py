"""Validation images that are kept, which, and how they are named."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from segmodel.errors import ConfigurationError
from segmodel.evaluation.evaluate import evaluate
from segmodel.labels.confusion import IGNORED
from segmodel.reports.kept_images import (
    best_and_worst,
    choose_images,
    keep_validation,
    read_kept,
    safe_name,
)
from tests.fakes import CLASSES, WIDE_CLASSES, BrightnessModel, WideModel, contract
from tests.segmodel.made_pairs import ArrayPair
from tests.segmodel.scored_pairs import random_pair
from tests.segmodel.scored_runs import CONTRACT, LAYOUT


def test_truth_labels_and_scores_are_kept_as_they_are(tmp_path):
    pairs = [random_pair("a/1.png", 40, 50, 1), random_pair("b/1.png", 30, 33, 2)]
    evaluation = keep_validation(tmp_path, BrightnessModel(), pairs, LAYOUT, CONTRACT)
    plain = evaluate(BrightnessModel(), pairs, LAYOUT)
    assert evaluation.matrix.tolist() == plain.matrix.tolist()
    ids = np.array([*CLASSES.ids, CLASSES.nodata], np.uint8)
    kept = read_kept(tmp_path)
    assert [image.name for image in kept] == ["a/1.png", "b/1.png"]
    for image, pair, score in zip(kept, pairs, plain.per_image, strict=True):
        np.testing.assert_array_equal(image.truth(CLASSES), ids[pair.indices])
        expected = BrightnessModel().labels(pair.image[None])[0]
        np.testing.assert_array_equal(image.labels(CLASSES), expected)
        assert np.abs(image.image().astype(int) - pair.image).mean() < 12
        assert image.mean_iou == score.scores.mean_iou
    entries = json.loads((tmp_path / "index.json").read_text())
    assert entries[0]["folder"] == "0000-a_1.png"
    assert set(entries[0]["iou"]) == set(CLASSES.names)
    with Image.open(tmp_path / "0000-a_1.png" / "truth.png") as image:
        assert image.mode == "P"


def test_large_images_are_kept_shrunk_in_line(tmp_path, monkeypatch):
    monkeypatch.setattr("segmodel.reports.panels.KEPT_PX", 30)
    monkeypatch.setattr("segmodel.evaluation.evaluate.BLOCK_PX", 32)
    pair = random_pair("a", 100, 70, 1)
    keep_validation(tmp_path, BrightnessModel(), [pair], LAYOUT, CONTRACT)
    (kept,) = read_kept(tmp_path)
    ids = np.array([*CLASSES.ids, CLASSES.nodata], np.uint8)
    rows, columns = (
        np.minimum(np.arange(0, 100, 4) + 2, 99),
        np.minimum(np.arange(0, 70, 4) + 2, 69),
    )
    np.testing.assert_array_equal(kept.truth(CLASSES), ids[pair.indices[np.ix_(rows, columns)]])
    expected = BrightnessModel().labels(pair.image[None])[0][np.ix_(rows, columns)]
    np.testing.assert_array_equal(kept.labels(CLASSES), expected)
    assert kept.image().shape == (25, 18, 3)


def test_labels_of_16_bits_are_kept(tmp_path):
    pair = ArrayPair("a", np.full((3, 3, 3), 200, np.uint8), np.zeros((3, 3), np.int16))
    keep_validation(tmp_path, WideModel(), [pair], LAYOUT, contract(classes=WIDE_CLASSES))
    (kept,) = read_kept(tmp_path)
    assert kept.labels(WIDE_CLASSES).tolist() == [[300] * 3] * 3


@pytest.mark.parametrize(
    "name", ["../../x", "/etc/passwd", "a" * 300, "..", "", "CON", "a\0b\n", "shard.tar#3 \u6c34"]
)
def test_no_name_escapes_from_the_folder_or_fails(tmp_path, name):
    pair = random_pair(name, 4, 4)
    keep_validation(tmp_path / "v", BrightnessModel(), [pair], LAYOUT, CONTRACT)
    (kept,) = read_kept(tmp_path / "v")
    assert kept.name == name
    assert kept.path.parent == tmp_path / "v"
    assert [path.name for path in tmp_path.iterdir()] == ["v"]
    assert len(safe_name(name)) <= 60


def test_of_many_images_the_best_and_the_worst_are_among_those_that_are_kept(tmp_path):
    pairs = []
    for number in range(100):
        truth = np.zeros((10, 10), np.int16)
        truth.ravel()[: (number * 37) % 100] = 1
        pairs.append(ArrayPair(f"{number}.png", np.zeros((10, 10, 3), np.uint8), truth))
    pairs.append(ArrayPair("none", pairs[0].image, np.full((10, 10), IGNORED, np.int16)))
    evaluation = keep_validation(tmp_path, BrightnessModel(), pairs, LAYOUT, CONTRACT)
    kept = read_kept(tmp_path)
    assert 58 <= len(kept) <= 64
    scores = {i.name: i.scores.mean_iou for i in evaluation.per_image if i.name != "none"}
    ranked = sorted(scores.values(), reverse=True)
    best, worst = best_and_worst(kept)
    assert [image.mean_iou for image in best] == ranked[:3]
    assert [image.mean_iou for image in worst] == ranked[:-4:-1]


def test_which_images_are_kept_depends_on_names_alone():
    names = [f"{n}.png" for n in range(100)]
    first = {names[n] for n in choose_images(names)}
    turned = names[::-1]
    assert {turned[n] for n in choose_images(turned)} == first
    assert choose_images(names[:64]) == set(range(64))


def test_another_run_replaces_what_was_kept_and_nothing_else(tmp_path):
    (tmp_path / "0001-mine").mkdir()
    keep_validation(
        tmp_path, BrightnessModel(), [random_pair("a"), random_pair("b")], LAYOUT, CONTRACT
    )
    keep_validation(tmp_path, BrightnessModel(), [random_pair("c")], LAYOUT, CONTRACT)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["0000-c", "0001-mine", "index.json"]


def test_an_index_that_points_elsewhere_is_refused(tmp_path):
    entry = {"name": "a", "mean_iou": 1.0, "folder": "../x"}
    (tmp_path / "index.json").write_text(json.dumps([entry]))
    with pytest.raises(ConfigurationError, match="no folder of a validation image"):
        read_kept(tmp_path)
    assert read_kept(tmp_path / "nowhere") == []


def test_one_image_is_best_and_not_worst_too(tmp_path):
    keep_validation(tmp_path, BrightnessModel(), [random_pair("a")], LAYOUT, CONTRACT)
    best, worst = best_and_worst(read_kept(tmp_path))
    assert [image.name for image in best] == ["a"]
    assert worst == []

"""Regions left out one after another; none chooses what is scored on it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from segmodel.errors import ConfigurationError
from segmodel.labels.confusion import IGNORED, Scores
from segmodel.pairs.pairs import TrainingData
from segmodel.training import folds as folds_module
from segmodel.training.configuration import ExportConfig
from segmodel.training.folds import cross_validate, fold_configuration
from segmodel.training.trainer import Hooks
from tests.segmodel.made_pairs import ArrayPair, halves
from tests.segmodel.made_runs import narrow

FIRST, SECOND = halves(2, 0), halves(1, 1)


def of_class(pairs, index: int) -> tuple[ArrayPair, ...]:
    """The same pairs with one class alone."""
    return tuple(replace(pair, indices=np.full_like(pair.indices, index)) for pair in pairs)


@pytest.fixture
def begun(monkeypatch) -> list:
    """What each fold was to be trained with; nothing is trained."""
    calls: list = []
    matrix = np.array([[3, 1], [0, 4]])

    class Finished:
        def __init__(self, path) -> None:
            path.mkdir(parents=True, exist_ok=True)

        def confusion(self):
            return matrix

    monkeypatch.setattr(folds_module, "RunFolder", Finished)
    monkeypatch.setattr(folds_module, "train", lambda *given: calls.append(given))
    return calls


def test_a_fold_is_scored_by_its_last_weights_and_the_region_chooses_nothing(tmp_path, begun):
    config = replace(narrow(patience=3, ema=0.9), export=ExportConfig(True, {"mean": 0.99}))

    folds = cross_validate(config, TrainingData(FIRST, SECOND), tmp_path)

    assert [given[2].name for given in begun] == ["region-0", "region-1"]
    for (fold, data, *_, stats), own in zip(begun, (FIRST, SECOND), strict=True):
        assert (fold.training.keep, fold.training.patience) == ("last", 0)
        assert fold.export == ExportConfig(calibrate=False, min_iou={})
        assert fold.training == replace(config.training, keep="last", patience=0)
        assert data.validation == own
        assert not {pair.name for pair in data.training} & {pair.name for pair in own}
        assert [stats.images for stats in stats] == [len(data.training), len(own)]
        assert stats[1].counts.sum() == len(own) * 64 * 64
    assert folds.pooled == Scores.of(2 * np.array([[3, 1], [0, 4]]))
    document = json.loads((tmp_path / "folds.json").read_text())
    assert document["scored"] == "weights after the last step; the region left out chose nothing"
    assert list(document["folds"]) == ["region 0", "region 1"]


def test_a_fold_that_cannot_be_trained_is_told_before_the_first_is(tmp_path, begun):
    data = TrainingData(of_class(FIRST, 0), SECOND)
    with pytest.raises(ConfigurationError, match="with region 1 left out, no training mask has"):
        cross_validate(narrow(), data, tmp_path)
    assert begun == []
    lenient = narrow()
    lenient = replace(lenient, data=replace(lenient.data, allow_empty_classes=True))
    cross_validate(lenient, data, tmp_path)
    assert len(begun) == 2


def test_a_region_without_a_counted_pixel_is_told_before_the_first_fold(tmp_path, begun):
    data = TrainingData(FIRST + halves(1, 2), of_class(SECOND, IGNORED))
    with pytest.raises(ConfigurationError, match="in region 1 alone, no pixel of any mask"):
        cross_validate(narrow(), data, tmp_path)
    assert begun == []


def test_folds_are_runs_that_are_done_once(tmp_path, monkeypatch):
    monkeypatch.setattr("segmodel.savedmodel.export.measure_bytes_per_pixel", lambda folder: 300)
    config, data = narrow(steps=2, validate_every=1), TrainingData(FIRST, SECOND)
    config = replace(config, export=ExportConfig(min_iou={"mean": 0.99}))
    steps: list[int] = []
    hooks = Hooks(on_step=lambda step, loss: steps.append(step))

    folds = cross_validate(config, data, tmp_path, hooks)
    assert steps == [1, 2, 1, 2]
    assert cross_validate(config, data, tmp_path, hooks) == folds
    assert steps == [1, 2, 1, 2]

    card = (tmp_path / "region-1" / "card.md").read_text()
    assert "it was not calibrated" in card
    assert "those of the best validation" not in card
    assert fold_configuration(config) == fold_configuration(fold_configuration(config))

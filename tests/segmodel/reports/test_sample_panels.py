"""Panels of validation images, from their blocks."""

from __future__ import annotations

import numpy as np

from segmodel.evaluation.evaluate import evaluate
from segmodel.reports.kept_images import SamplePanels
from segmodel.reports.panels import draw_errors, picture_of
from tests.fakes import CLASSES, BrightnessModel
from tests.segmodel.scored_pairs import random_pair
from tests.segmodel.scored_runs import CONTRACT, LAYOUT


def test_the_first_three_images_get_a_panel_however_many_blocks_they_have(monkeypatch):
    monkeypatch.setattr("segmodel.reports.panels.KEPT_PX", 30)
    monkeypatch.setattr("segmodel.evaluation.evaluate.BLOCK_PX", 32)
    sizes = ((20, 20), (100, 70), (33, 40), (20, 20))
    pairs = [random_pair(f"{n}", *size, n) for n, size in enumerate(sizes)]
    panels = SamplePanels(CONTRACT)

    evaluate(BrightnessModel(), pairs, LAYOUT, panels.keep)

    assert list(panels.pictures) == ["0", "1", "2"]
    large = pairs[1]
    rows = np.minimum(np.arange(0, 100, 4) + 2, 99)
    columns = np.minimum(np.arange(0, 70, 4) + 2, 69)
    grid = np.ix_(rows, columns)
    ids = np.array([*CLASSES.ids, CLASSES.nodata], np.uint8)
    labels = BrightnessModel().labels(large.image[None])[0][grid]
    truth = ids[large.indices[grid]]
    expected = draw_errors(picture_of(large, CONTRACT), truth, labels, CLASSES, "1")
    np.testing.assert_array_equal(panels.pictures["1"], np.asarray(expected))

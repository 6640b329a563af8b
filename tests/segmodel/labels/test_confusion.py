"""Confusion matrices and scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from segmodel.labels.confusion import IGNORED, Scores, confusion_matrix
from tests.examples import examples

CLASSES = 3
truths = hnp.arrays(np.int16, 12, elements=st.integers(-1, CLASSES - 1))
predictions = hnp.arrays(np.int64, 12, elements=st.integers(0, CLASSES - 1))


def test_rows_are_truth_and_columns_are_prediction():
    actual = confusion_matrix(np.array([0, 0, 2]), np.array([1, 1, 0]), 3)
    assert actual.tolist() == [[0, 2, 0], [0, 0, 0], [1, 0, 0]]
    assert actual.dtype == np.int64


@pytest.mark.parametrize("outside", [IGNORED, -128, 3, 255])
def test_truth_outside_the_classes_counts_nowhere(outside):
    truth = np.array([outside, 1], np.int16)
    actual = confusion_matrix(truth, np.array([0, 1]), 3)
    assert actual.sum() == 1
    assert actual[1, 1] == 1


def test_predictions_count_nowhere_where_truth_is_ignored_whatever_they_are():
    actual = confusion_matrix(np.array([IGNORED, 0]), np.array([99, 0]), 2)
    assert actual.tolist() == [[1, 0], [0, 0]]


def test_small_dtypes_do_not_overflow():
    truth, predicted = np.full(4, 99, np.uint8), np.full(4, 98, np.uint8)
    assert confusion_matrix(truth, predicted, 100)[99, 98] == 4


def test_nothing_gives_a_matrix_of_zeros():
    actual = confusion_matrix(np.empty((0, 4), np.int16), np.empty((0, 4), np.int64), 2)
    assert actual.tolist() == [[0, 0], [0, 0]]


@given(st.lists(st.tuples(truths, predictions), min_size=1, max_size=5), st.randoms())
@settings(max_examples=examples(200), deadline=None)
def test_merged_matrices_do_not_depend_on_order(parts, random):
    expected = confusion_matrix(
        np.concatenate([t for t, _ in parts]), np.concatenate([p for _, p in parts]), CLASSES
    )
    random.shuffle(parts)
    actual = sum(confusion_matrix(truth, predicted, CLASSES) for truth, predicted in parts)
    np.testing.assert_array_equal(actual, expected)
    assert Scores.of(actual) == Scores.of(expected)


@given(truths, predictions)
@settings(max_examples=examples(200), deadline=None)
def test_scores_lie_in_0_to_1_and_are_1_only_where_all_is_right(truth, predicted):
    scores = Scores.of(confusion_matrix(truth, predicted, CLASSES))
    counted = truth != IGNORED
    if not counted.any():
        nothing = (None,) * CLASSES
        assert scores.mean_iou_of_truth is None
        assert scores == Scores(None, None, nothing, nothing, nothing, nothing, None, None)
        return
    assert 0 <= scores.mean_iou <= 1
    assert scores.pixel_accuracy == (truth == predicted)[counted].sum() / counted.sum()
    assert (scores.mean_iou == 1) == bool((truth == predicted)[counted].all())


def test_a_class_absent_from_truth_and_prediction_has_no_score():
    scores = Scores.of(np.array([[4, 0, 0], [0, 0, 0], [1, 0, 3]]))
    assert scores.iou == (0.8, None, 0.75)
    assert scores.mean_iou == scores.mean_iou_of_truth == 0.775
    assert scores.pixel_accuracy == 0.875


def test_a_class_that_is_only_predicted_scores_0_and_counts():
    scores = Scores.of(np.array([[3, 1], [0, 0]]))
    assert scores.iou == (0.75, 0.0)
    assert scores.mean_iou == 0.375
    assert scores.mean_iou_of_truth == 0.75


def test_scores_are_plain_floats_for_json():
    scores = Scores.of(np.array([[3, 1], [0, 4]]))
    assert [type(v) for v in (scores.pixel_accuracy, scores.mean_iou, *scores.iou)] == [float] * 4


def test_precision_recall_and_f1_are_those_of_their_definitions():
    scores = Scores.of(np.array([[6, 2, 0], [1, 3, 0], [0, 3, 5]]))
    assert scores.precision == (6 / 7, 3 / 8, 1.0)
    assert scores.recall == (6 / 8, 3 / 4, 5 / 8)
    assert scores.f1 == (12 / 15, 6 / 12, 10 / 13)
    assert scores.mean_f1 == pytest.approx((12 / 15 + 6 / 12 + 10 / 13) / 3)


def test_frequency_weighted_iou_weighs_by_true_pixels():
    scores = Scores.of(np.array([[6, 2], [0, 2]]))
    assert scores.iou == (0.75, 0.5)
    assert scores.frequency_weighted_iou == 0.7  # 0.8 * 0.75 + 0.2 * 0.5


def test_a_class_that_is_never_predicted_has_recall_0_and_no_precision():
    scores = Scores.of(np.array([[4, 0, 0], [2, 0, 0], [0, 0, 0]]))
    assert scores.precision == (4 / 6, None, None)
    assert scores.recall == (1.0, 0.0, None)
    assert scores.f1 == (0.8, 0.0, None)
    assert scores.mean_f1 == 0.4


def test_scores_as_json_name_the_classes_and_keep_what_is_absent_as_null():
    actual = Scores.of(np.array([[4, 0, 0], [2, 0, 0], [0, 0, 0]])).to_json(["a", "b", "c"])
    assert actual["iou"] == {"a": 4 / 6, "b": 0.0, "c": None}
    assert actual["precision"] == {"a": 4 / 6, "b": None, "c": None}
    assert set(actual) == {
        "mean_iou",
        "mean_iou_of_truth",
        "pixel_accuracy",
        "frequency_weighted_iou",
        "mean_f1",
        "iou",
        "f1",
        "precision",
        "recall",
    }


def test_names_must_be_as_many_as_classes():
    with pytest.raises(ValueError, match="zip"):
        Scores.of(np.eye(3, dtype=int)).to_json(["a", "b"])


def test_pixels_are_counted_in_strips_without_loss(monkeypatch):
    truth = np.arange(35).reshape(5, 7) % 4 - 1
    predicted = np.arange(35).reshape(5, 7) % 3
    expected = confusion_matrix(truth, predicted, 3)
    monkeypatch.setattr("segmodel.labels.confusion.COUNTED_PIXELS", 4)
    assert confusion_matrix(truth, predicted, 3).tolist() == expected.tolist()
    assert expected.sum() == (truth >= 0).sum()

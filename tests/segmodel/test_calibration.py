"""Temperature scaling, and the sample it is fitted on."""

from __future__ import annotations

import numpy as np
import pytest

from segmodel.calibration import calibration_error, fit_temperature, log_loss, sample_logits
from segmodel.confusion import IGNORED
from segmodel.contract import Calibration
from segmodel.errors import TrainingError
from tests.segmodel.scored_pairs import ArrayPair, random_pair


def calibrated(pixels: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and truth that is drawn from their softmax."""
    random = np.random.default_rng(seed)
    logits = 2 * random.normal(size=(pixels, classes))
    gumbel = random.gumbel(size=logits.shape)
    return logits.astype(np.float32), (logits + gumbel).argmax(axis=1)


@pytest.mark.parametrize("factor", [0.3, 1.0, 4.0])
def test_logits_that_are_too_large_by_a_factor_get_it_as_temperature(factor):
    logits, truth = calibrated(40_000, 5)
    found = fit_temperature(factor * logits, truth)
    assert found.temperature == pytest.approx(factor, rel=0.03)
    assert found.error_after < 0.01
    assert found.pixels == 40_000
    if factor != 1:
        assert found.error_before > 5 * found.error_after


def test_the_temperature_has_the_least_loss_of_all():
    logits, truth = calibrated(3000, 3)
    best = fit_temperature(2 * logits, truth).temperature
    least = log_loss(2 * logits, truth, best)
    assert all(least <= log_loss(2 * logits, truth, best * f) for f in (0.5, 0.98, 1.02, 2))


def test_loss_and_error_do_not_depend_on_how_pixels_are_cut(monkeypatch):
    logits, truth = calibrated(500, 3)
    whole = log_loss(logits, truth, 1.5), calibration_error(logits, truth, 1.5)
    monkeypatch.setattr("segmodel.calibration.VALUES_AT_ONCE", 21)
    parts = log_loss(logits, truth, 1.5), calibration_error(logits, truth, 1.5)
    assert parts == pytest.approx(whole, abs=1e-12)


def test_expected_calibration_error_is_that_of_its_definition():
    logits = np.log([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
    truth = np.array([0, 1, 0, 0])
    assert calibration_error(logits, truth, 1.0) == pytest.approx(0.5 * 0.4 + 0.5 * 0.4)


def test_full_confidence_falls_in_the_last_bin():
    logits = np.array([[1000.0, 0.0]])
    assert calibration_error(logits, np.array([0]), 1.0) == 0
    assert calibration_error(logits, np.array([1]), 1.0) == 1


@pytest.mark.parametrize(
    ("logits", "truth", "expected"),
    [
        (np.empty((0, 0)), np.empty(0, int), Calibration(1.0, 0.0, 0.0, 0)),
        (np.ones((3, 1)), np.zeros(3, int), Calibration(1.0, 0.0, 0.0, 3)),
    ],
)
def test_where_nothing_can_be_fitted_the_temperature_is_1(logits, truth, expected):
    assert fit_temperature(logits, truth) == expected


def test_all_right_leaves_the_temperature_at_1_and_states_the_error():
    found = fit_temperature(np.array([[2.0, 0.0], [0.0, 2.0]]), np.array([0, 1]))
    assert found.temperature == 1
    assert found.error_before == found.error_after == pytest.approx(1 - 1 / (1 + np.exp(-2)))


def test_logits_that_are_always_wrong_become_as_unsure_as_allowed():
    found = fit_temperature(np.array([[5.0, 0.0]] * 10), np.array([1] * 10))
    assert found.temperature == pytest.approx(20, rel=0.01)


def test_logits_that_are_no_numbers_are_refused():
    with pytest.raises(TrainingError, match="not finite"):
        fit_temperature(np.array([[np.nan, 0.0]]), np.array([0]))


def position_logits(images: np.ndarray) -> np.ndarray:
    return images[..., :2].astype(np.float32)


def test_a_sample_holds_logits_of_counted_pixels_and_is_always_the_same():
    pairs = [random_pair(str(n), 90, 70, n) for n in range(3)]
    first = sample_logits(position_logits, pairs, np.zeros(3, np.uint8), 64, 16, 500)
    again = sample_logits(position_logits, pairs, np.zeros(3, np.uint8), 64, 16, 500)
    assert 0 < len(first[1]) <= 500
    assert first[0].shape == (len(first[1]), 2)
    assert first[0].dtype == np.float32
    assert (first[1] >= 0).all()
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])


def test_logits_and_truth_of_a_sample_are_of_the_same_pixels():
    side = 80
    rows, columns = np.mgrid[:side, :side]
    image = np.dstack([rows, columns, rows]).astype(np.uint8)
    truth = ((rows + columns) % 3 - 1).astype(np.int16)
    pair = ArrayPair("a", image, truth)
    logits, sampled = sample_logits(position_logits, [pair], np.zeros(3, np.uint8), 48, 16, 10**6)
    row, column = logits.astype(int).T
    assert (sampled != IGNORED).all()
    np.testing.assert_array_equal(sampled, truth[row, column])
    assert len({*zip(row.tolist(), column.tolist(), strict=True)}) == len(sampled)


def test_nodata_is_filled_before_the_network_sees_it():
    image = np.full((16, 16, 3), 9, np.float32)
    image[0, 0] = np.nan
    valid = np.ones((16, 16), bool)
    valid[1] = False
    seen = []
    pair = ArrayPair("a", image, np.zeros((16, 16), np.int16), valid)
    fill = np.array([1, 2, 3], np.float32)
    sample_logits(lambda x: seen.append(x) or position_logits(x), [pair], fill, 64, 16)
    assert seen[0].dtype == np.float32
    assert seen[0][0, 0, 0].tolist() == seen[0][0, 1, 5].tolist() == [1, 2, 3]
    assert seen[0][0, 0, 1].tolist() == [9, 9, 9]


def test_memory_bounds_the_sample(monkeypatch):
    monkeypatch.setattr("segmodel.calibration.MOST_BYTES", 800)
    pairs = [random_pair("a"), random_pair("b")]
    logits, _ = sample_logits(position_logits, pairs, np.zeros(3, np.uint8), 64, 16)
    assert 0 < logits.nbytes <= 800


def test_many_pairs_are_sampled_evenly():
    image, truth = np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.int16)
    pairs = [ArrayPair(str(n), image, truth) for n in range(1000)]
    calls = []
    sample_logits(
        lambda x: calls.append(1) or position_logits(x), pairs, np.zeros(3, np.uint8), 64, 16
    )
    assert len(calls) == 128


def test_a_sample_without_a_counted_pixel_is_empty():
    pair = ArrayPair("a", np.zeros((4, 4, 3), np.uint8), np.full((4, 4), IGNORED, np.int16))
    logits, truth = sample_logits(position_logits, [pair], np.zeros(3, np.uint8), 64, 16)
    assert fit_temperature(logits, truth) == Calibration(1.0, 0.0, 0.0, 0)

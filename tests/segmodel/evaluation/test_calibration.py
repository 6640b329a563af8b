"""Temperature scaling, and the sample it is fitted on."""

from __future__ import annotations

import numpy as np
import pytest

from segmodel.errors import TrainingError
from segmodel.evaluation.calibration import (
    LogitSample,
    calibrate,
    calibration_error,
    fit_temperature,
    log_loss,
    sample_logits,
)
from segmodel.labels.confusion import IGNORED
from segmodel.savedmodel.contract import Calibration
from tests.segmodel.made_pairs import ArrayPair
from tests.segmodel.scored_pairs import random_pair


def calibrated(pixels: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and truth that is drawn from their softmax."""
    random = np.random.default_rng(seed)
    logits = 2 * random.normal(size=(pixels, classes))
    gumbel = random.gumbel(size=logits.shape)
    return logits.astype(np.float32), (logits + gumbel).argmax(axis=1)


@pytest.mark.parametrize("factor", [0.3, 1.0, 4.0])
def test_logits_that_are_too_large_by_a_factor_get_it_as_temperature(factor):
    samples = [calibrated(40_000, 5, seed) for seed in (0, 1)]
    found = calibrate(*(LogitSample(factor * logits, truth) for logits, truth in samples))
    assert found.temperature == pytest.approx(factor, rel=0.03)
    assert found.error_after < 0.01
    assert found.pixels == 80_000
    if factor != 1:
        assert found.error_before > 5 * found.error_after


def test_the_temperature_has_the_least_loss_of_all():
    logits, truth = calibrated(3000, 3)
    best = fit_temperature(2 * logits, truth)
    least = log_loss(2 * logits, truth, best)
    assert all(least <= log_loss(2 * logits, truth, best * f) for f in (0.5, 0.98, 1.02, 2))


def test_loss_and_error_do_not_depend_on_how_pixels_are_cut(monkeypatch):
    logits, truth = calibrated(500, 3)
    whole = log_loss(logits, truth, 1.5), calibration_error(logits, truth, 1.5)
    monkeypatch.setattr("segmodel.evaluation.calibration.VALUES_AT_ONCE", 21)
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
        (np.ones((3, 1)), np.zeros(3, int), Calibration(1.0, 0.0, 0.0, 6)),
    ],
)
def test_where_nothing_can_be_fitted_the_temperature_is_1(logits, truth, expected):
    sample = LogitSample(logits, truth)
    assert calibrate(sample, sample) == expected


def test_all_right_leaves_the_temperature_at_1_and_states_the_error():
    sample = LogitSample(np.array([[2.0, 0.0], [0.0, 2.0]]), np.array([0, 1]))
    found = calibrate(sample, sample)
    assert found.temperature == 1
    assert found.error_before == found.error_after == pytest.approx(1 - 1 / (1 + np.exp(-2)))


def test_logits_that_are_always_wrong_become_as_unsure_as_allowed():
    found = fit_temperature(np.array([[5.0, 0.0]] * 10), np.array([1] * 10))
    assert found == pytest.approx(20, rel=0.01)


def test_logits_that_are_no_numbers_are_refused_in_either_sample():
    lost = LogitSample(np.array([[np.nan, 0.0]]), np.array([0]))
    fine = LogitSample(np.array([[1.0, 0.0]]), np.array([0]))
    for samples in ((lost, fine), (fine, lost)):
        with pytest.raises(TrainingError, match="not finite"):
            calibrate(*samples)


def test_each_sample_is_measured_with_the_temperature_of_the_other():
    (first, first_truth), (second, second_truth) = calibrated(2000, 3), calibrated(500, 3, 1)
    one, other = LogitSample(3 * first, first_truth), LogitSample(2.5 * second, second_truth)
    found = calibrate(one, other)

    whole = np.concatenate([one.logits, other.logits])
    truth = np.concatenate([first_truth, second_truth])
    crossed = np.concatenate(
        [
            one.logits / fit_temperature(other.logits, second_truth),
            other.logits / fit_temperature(one.logits, first_truth),
        ]
    )
    assert found.temperature == fit_temperature(whole, truth)
    assert found.error_before == calibration_error(whole, truth, 1.0)
    assert found.error_after == calibration_error(crossed, truth, 1.0) < found.error_before
    assert found.pixels == 2500


def test_a_temperature_that_does_not_help_the_other_sample_is_none():
    logits, truth = calibrated(2000, 3)
    found = calibrate(LogitSample(4 * logits, truth), LogitSample(logits / 4, truth))
    assert found.temperature == 1
    assert found.error_after == found.error_before > 0


def position_logits(images: np.ndarray) -> np.ndarray:
    return images[..., :2].astype(np.float32)


NOTHING = np.zeros(3, np.uint8)


def ramp(height: int, width: int, name: str = "a", ignored: int = 0) -> ArrayPair:
    """A pair whose logits are row and column; the first so many rows count nowhere."""
    rows, columns = np.mgrid[:height, :width]
    truth = ((rows + columns) % 3).astype(np.int16)
    truth[:ignored] = IGNORED
    return ArrayPair(name, np.dstack([rows, columns, rows]).astype(np.uint8), truth)


def test_samples_hold_logits_of_counted_pixels_and_are_always_the_same():
    pairs = [random_pair(str(n), 90, 70, n) for n in range(3)]
    first = sample_logits(position_logits, pairs, NOTHING, 64, 16, 500)
    again = sample_logits(position_logits, pairs, NOTHING, 64, 16, 500)
    assert sum(len(sample.truth) for sample in first) == 500
    for one, other in zip(first, again, strict=True):
        assert one.logits.shape == (len(one.truth), 2)
        assert one.logits.dtype == np.float32
        assert (one.truth >= 0).all()
        np.testing.assert_array_equal(one.logits, other.logits)
        np.testing.assert_array_equal(one.truth, other.truth)


def test_logits_and_truth_of_a_sample_are_of_the_same_pixels_and_none_is_in_both():
    pair = ramp(80, 80)
    pair.indices[(pair.indices == 2)] = IGNORED
    both = sample_logits(position_logits, [pair], NOTHING, 48, 16, 10**6)
    seen = set()
    for sample in both:
        row, column = sample.logits.astype(int).T
        assert (sample.truth != IGNORED).all()
        np.testing.assert_array_equal(sample.truth, pair.indices[row, column])
        seen |= {*zip(row.tolist(), column.tolist(), strict=True)}
    assert len(seen) == sum(len(sample.truth) for sample in both) > 0


def test_a_window_counts_by_its_pixels_and_not_by_itself():
    pairs = [ramp(40, 40, "full"), ramp(40, 40, "sliver", ignored=39)]
    full, sliver = sample_logits(position_logits, pairs, NOTHING, 64, 16, 410)
    assert (len(full.truth), len(sliver.truth)) == (400, 10)
    # Windows without a counted pixel take no turn.
    pairs.insert(1, ramp(40, 40, "none", ignored=40))
    again = sample_logits(position_logits, pairs, NOTHING, 64, 16, 410)
    assert [len(sample.truth) for sample in again] == [400, 10]


def test_one_window_is_fitted_on_above_and_measured_on_below():
    above, below = sample_logits(position_logits, [ramp(20, 20)], NOTHING, 64, 16)
    assert (len(above.truth), len(below.truth)) == (200, 200)
    assert above.logits[:, 0].max() == 9
    assert below.logits[:, 0].min() == 10


def test_one_pixel_is_all_there_is():
    samples = sample_logits(position_logits, [ramp(1, 1)], NOTHING, 64, 16)
    assert calibrate(*samples).pixels == 1


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
    monkeypatch.setattr("segmodel.evaluation.calibration.MAX_BYTES", 800)
    pairs = [random_pair("a"), random_pair("b")]
    samples = sample_logits(position_logits, pairs, np.zeros(3, np.uint8), 64, 16)
    assert 700 < sum(sample.logits.nbytes for sample in samples) <= 800


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
    samples = sample_logits(position_logits, [pair], np.zeros(3, np.uint8), 64, 16)
    assert calibrate(*samples) == Calibration(1.0, 0.0, 0.0, 0)

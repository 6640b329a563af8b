"""What the halo of a trained model is measured on."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from segmodel.labels.confusion import IGNORED
from segmodel.savedmodel.halo import measure_halo
from segmodel.training import release
from segmodel.training.release import halo_samples, halo_windows
from tests.segmodel.made_pairs import ArrayPair
from tests.segmodel.savedmodel.test_halo import Looking, beyond_the_cut

FILL = np.array([1, 2, 3], np.uint8)


def plain(name: str, height: int, width: int, value: int = 9) -> ArrayPair:
    image = np.full((height, width, 3), value, np.uint8)
    return ArrayPair(name, image, np.zeros((height, width), np.int16))


def test_a_collar_without_data_is_filled_and_does_not_count():
    """A scene with nodata all around: what was measured on its corner held for nothing."""
    valid = np.zeros((1, 1536), bool)
    valid[:, 300:1236] = True
    image = beyond_the_cut()
    truth = np.where(valid, 0, IGNORED).astype(np.int16)

    (sample,) = halo_samples([ArrayPair("scene", image, truth, valid)], FILL)

    np.testing.assert_array_equal(sample.counted, valid)
    assert sample.image[0, 0].tolist() == [1, 2, 3]
    np.testing.assert_array_equal(sample.image[valid], image[valid])
    assert measure_halo(Looking(16).labels, [sample], 4, 32).pixels == 16


def test_floats_that_are_no_numbers_are_filled():
    image = np.ones((600, 4, 1), np.float32)
    image[:5] = np.nan
    pair = ArrayPair("a", image, np.zeros((600, 4), np.int16))
    (sample,) = halo_samples([pair], np.array([0.5], np.float32))
    assert sample.image.dtype == np.float32
    assert np.unique(sample.image).tolist() == [0.5, 1.0]


def test_windows_without_counted_truth_are_skipped():
    empty = plain("empty", 600, 600)
    empty.indices[...] = IGNORED
    (sample,) = halo_samples([empty, plain("full", 600, 600, 7)], FILL)
    assert sample.image.max() == 7
    assert halo_samples([empty], FILL) == []


def test_each_image_gives_a_window_before_any_gives_two(monkeypatch):
    monkeypatch.setattr(release, "MAX_SAMPLE_PIXELS", 3 * 1536 * 2)
    pairs = [plain(str(n), 2, 6 * 1536, n) for n in range(3)]
    found = halo_samples(pairs, FILL)
    assert sorted(int(sample.image.max()) for sample in found) == [0, 1, 2]
    again = halo_samples(pairs, FILL)
    assert all((a.image == b.image).all() for a, b in zip(found, again, strict=True))


def test_the_pixels_of_all_samples_are_bounded(monkeypatch):
    monkeypatch.setattr(release, "MAX_SAMPLE_PIXELS", 10_000)
    found = halo_samples([plain(str(n), 5, 600) for n in range(9)], FILL)
    assert len(found) == 3
    # One is taken, whatever its size.
    assert len(halo_samples([plain(str(n), 100, 600) for n in range(9)], FILL)) == 1


def test_images_that_no_core_cuts_are_taken_where_there_are_no_others():
    small, large = plain("small", 300, 200), plain("large", 513, 20)
    assert [sample.image.shape[0] for sample in halo_samples([small, large], FILL)] == [513]
    assert [sample.image.shape[0] for sample in halo_samples([small], FILL)] == [300]


@pytest.mark.parametrize("length", [1, 1536, 1537, 3071, 3072, 10_000])
def test_windows_are_spread_over_an_image_and_leave_none(length):
    columns = [window.column for window in halo_windows(1, length)]
    assert columns[0] >= 0
    side = min(length, 1536)
    assert all(after - before >= side for before, after in itertools.pairwise(columns))
    # As much is left on the right as on the left.
    assert abs(length - side - columns[-1] - columns[0]) <= 1

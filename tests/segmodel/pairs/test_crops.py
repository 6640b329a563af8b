"""Crops: by seed and number alone, with every class, of any side."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from segmodel.errors import ConfigurationError, InputError
from segmodel.labels.confusion import IGNORED
from segmodel.pairs.crops import CropSampler
from segmodel.pairs.stats import BLOCK_PX, DatasetStats, collect_stats
from segmodel.tiling.raster import Pixels
from segmodel.tiling.windows import Window
from tests.segmodel.made_pairs import ArrayPair, table


def pair(truth: np.ndarray, name: str = "p") -> ArrayPair:
    """An image whose values tell where a pixel is, and what it is."""
    rows, columns = np.indices(truth.shape)
    image = np.stack([rows, columns, truth], axis=-1).astype(np.int16)
    return ArrayPair(name, image, truth.astype(np.int16))


def sampler(pairs, crop: int, **options) -> CropSampler:
    classes = 1 + max(int(entry.indices.max()) for entry in pairs)
    survey = collect_stats(pairs, table(classes), allow_empty=True)
    settings = {"scale": (1.0, 1.0), "class_balance": 0.0, "fill": np.full(3, -7.0), "seed": 0}
    settings |= options
    return CropSampler(pairs, survey, crop, **settings)


def patches(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(IGNORED, 3, (height, width))


def test_a_crop_depends_on_seed_and_number_alone_in_any_thread_and_order():
    pairs = [pair(patches(60, 70)), pair(patches(90, 50, 1))]
    options = {"class_balance": 0.5, "scale": (0.5, 2.0)}
    one = sampler(pairs, 16, **options)
    expected = [one.crop(number) for number in range(40)]
    again = sampler(pairs, 16, **options)
    with ThreadPoolExecutor(4) as pool:
        for number, actual in enumerate(pool.map(again.crop, range(40))):
            np.testing.assert_array_equal(actual[0], expected[number][0])
            np.testing.assert_array_equal(actual[1], expected[number][1])
    later = again.crop(7)
    np.testing.assert_array_equal(later[0], expected[7][0])
    other = sampler(pairs, 16, seed=1, **options)
    assert any(other.crop(n)[1].tolist() != expected[n][1].tolist() for n in range(40))


@pytest.mark.parametrize("balance", [0.0, 1.0])
def test_image_and_truth_are_cut_alike(balance):
    made = sampler([pair(patches(60, 70))], 16, class_balance=balance)
    for number in range(30):
        image, truth = made.crop(number)
        assert (image.shape, truth.shape) == ((16, 16, 3), (16, 16))
        assert (image.dtype, truth.dtype) == (np.int16, np.int16)
        np.testing.assert_array_equal(image[..., 2], truth)
        assert (np.diff(image[..., 0], axis=0) == 1).all()
        assert (np.diff(image[..., 1], axis=1) == 1).all()


def test_crops_reach_every_place():
    made = sampler([pair(np.zeros((4, 4)))], 2)
    corners = {tuple(made.crop(number)[0][0, 0, :2].tolist()) for number in range(300)}
    assert corners == {(row, column) for row in range(3) for column in range(3)}


def test_pairs_are_drawn_by_their_area():
    pairs = [pair(np.zeros((10, 10))), pair(np.ones((10, 90)))]
    made = sampler(pairs, 2)
    large = sum(int(made.crop(number)[1][0, 0]) for number in range(500))
    assert 420 < large < 480


def test_classes_are_drawn_evenly_however_rare_they_are():
    truth = np.zeros((BLOCK_PX + 90, 700))
    truth[BLOCK_PX + 80, 3] = 1
    truth[2, 690] = 2
    rare = sampler([pair(truth)], 8, class_balance=1.0)
    shown = [set(np.unique(rare.crop(number)[1]).tolist()) for number in range(300)]
    for index in (1, 2):
        assert 75 < sum(index in found for found in shown) < 125
    plain = sampler([pair(truth)], 8)
    assert sum(bool({1, 2} & set(np.unique(plain.crop(n)[1]))) for n in range(100)) <= 2


def test_the_share_of_crops_around_classes_is_as_asked():
    truth = np.zeros((400, 400))
    truth[200, 200] = 1
    made = sampler([pair(truth)], 8, class_balance=0.5)
    hits = sum(bool((made.crop(number)[1] == 1).any()) for number in range(400))
    assert 70 < hits < 130  # Half of the crops, and of those half.


def test_the_pixel_of_a_class_may_be_anywhere_in_a_crop():
    truth = np.zeros((40, 40))
    truth[20, 20] = 1
    made = sampler([pair(truth)], 4, class_balance=1.0)
    places = {
        tuple(np.argwhere(cut == 1)[0].tolist())
        for cut in (made.crop(number)[1] for number in range(300))
        if (cut == 1).any()
    }
    assert places == {(row, column) for row in range(4) for column in range(4)}


def test_sides_lie_within_the_scale_evenly_by_logarithm():
    made = sampler([pair(patches(300, 300))], 40, scale=(0.5, 2.0))
    sides = [made.crop(number)[1].shape[0] for number in range(300)]
    assert all(20 <= side <= 80 for side in sides)
    assert min(sides) < 23
    assert max(sides) > 70
    assert 120 < sum(side < 40 for side in sides) < 180


def test_what_lies_beyond_a_small_image_is_filled_and_ignored():
    truth = np.array([[0, 1, 0], [1, 0, 1]])
    image, actual = sampler([pair(truth)], 4).crop(0)
    expected = np.full((4, 4), IGNORED)
    expected[:2, :3] = truth
    np.testing.assert_array_equal(actual, expected)
    assert (image[2:] == -7).all()
    assert (image[:, 3] == -7).all()
    np.testing.assert_array_equal(image[:2, :3, 2], truth)


@pytest.mark.parametrize("side", [4, 6])
def test_nodata_is_filled(side):
    class Gappy(ArrayPair):
        def pixels(self, window: Window) -> Pixels:
            valid = np.ones((self.height, self.width), bool)
            valid[0, 1] = False
            return Pixels(self.image[window.slices], valid[window.slices])

    values = np.ones((4, 4, 3), np.float32)
    values[2, 2, 1] = np.nan
    gappy = Gappy("p", values, np.zeros((4, 4), np.int16))
    image, _ = sampler([gappy], side).crop(0)
    assert (image[0, 1] == -7).all()
    assert (image[2, 2] == -7).all()
    assert np.count_nonzero(image[:4, :4] != -7) == 3 * 14
    assert np.isnan(values[2, 2, 1])


def test_crops_are_copies():
    truth = np.zeros((4, 4))
    whole = pair(truth)
    image, _ = sampler([whole], 4).crop(0)
    image[:] = 99
    assert whole.image.max() == 3


def test_a_crop_without_any_class_is_avoided():
    truth = np.full((600, 600), IGNORED)
    truth[300, 300] = 0
    made = sampler([pair(truth)], 8)
    assert all((made.crop(number)[1] == 0).sum() == 1 for number in range(40))


def test_blocks_without_any_class_are_not_drawn():
    pairs = [pair(np.full((BLOCK_PX, BLOCK_PX), IGNORED)), pair(np.zeros((9, 9)))]
    made = sampler(pairs, 4)
    assert all((made.crop(number)[1] == 0).all() for number in range(20))


def test_a_file_that_changed_since_the_survey_is_named():
    before, after = pair(np.zeros((4, 4))), pair(np.ones((4, 4)))
    survey = collect_stats([before], table(2), allow_empty=True)
    made = CropSampler([after], survey, 2, (1.0, 1.0), 1.0, np.zeros(3), 0)
    with pytest.raises(InputError, match="p has changed since the run began"):
        made.crop(0)


def test_a_survey_without_any_class_is_refused():
    with pytest.raises(ConfigurationError, match="no pixel of any mask is of a class"):
        CropSampler([], DatasetStats((), np.zeros(2, int), 0), 4, (1.0, 1.0), 0.0, np.zeros(3), 0)


def test_crops_are_not_crowded_at_the_edges_of_an_image():
    """Of 33 places in each direction two are at an edge; the inner ones hold more pixels."""
    made = sampler([pair(np.zeros((64, 64)))], 32)
    firsts = np.array([made.crop(number)[0][0, 0, :2] for number in range(1000)])
    assert set(firsts[:, 0].tolist()) == set(range(33))
    assert np.isin(firsts, (0, 32)).mean() < 0.2

"""Probabilities become whole levels whose sums are right, and are summed on the device."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import tensorflow as tf

from segmodel.engine.engine import Engine
from segmodel.engine.read_ahead import Job
from segmodel.engine.soft import BatchWeights, Weights
from segmodel.errors import ContractError
from segmodel.images.encoded import EncodedImage
from segmodel.savedmodel.export import ServedModel
from segmodel.savedmodel.predictor import Predictor
from segmodel.savedmodel.soft import levels_of
from segmodel.tiling.raster import ArrayRaster, Counted
from segmodel.tiling.windows import Layout, Tile, Window
from tests.fakes import BRIGHT, DARK, MIDDLE, contract
from tests.pipelines.corpus import png


def levels(probabilities, top: int = 0) -> np.ndarray:
    """Levels of `(rows, columns, classes)` probabilities."""
    parts = tf.unstack(tf.constant(np.float32(probabilities)[None]), axis=-1)
    found = levels_of(parts, tf.constant(top))
    return np.stack([part.numpy()[0] for part in found], axis=-1).astype(int)


def predictor(signature=None) -> Predictor:
    """A model whose probabilities are its values, as shares of their sum."""

    def logits(values: tf.Tensor) -> tf.Tensor:
        # Nodata is black, and is all classes.
        return tf.math.log(tf.maximum(values, 1e-30))

    served = ServedModel(logits, contract(stride=1))
    signatures = dict(served.signatures())
    if signature is not None:
        signatures["probabilities"] = signature
    return Predictor(contract(stride=1), signatures, served, "0" * 64)


@pytest.fixture(scope="module")
def model() -> Predictor:
    return predictor()


def test_probabilities_that_are_whole_levels_are_those_levels_in_every_pixel():
    found = levels(np.full((50, 60, 3), [51 / 255, 204 / 255, 0]))
    assert (found == [51, 204, 0]).all()


def test_every_pixel_has_255_levels_each_less_than_one_from_its_probability():
    random = np.random.default_rng(0)
    shares = random.dirichlet([0.3] * 6, (40, 50))
    found = levels(shares)
    assert (found.sum(axis=-1) == 255).all()
    assert (np.abs(found - 255 * shares) < 1.0001).all()
    assert found.min() == 0


def test_the_greatest_level_is_that_of_the_label_but_where_others_are_within_two_levels():
    random = np.random.default_rng(1)
    shares = random.dirichlet([2] * 4, (300, 300))
    found, label = levels(shares), shares.argmax(axis=-1)
    other = found.argmax(axis=-1) != label
    greatest = np.take_along_axis(shares, found.argmax(axis=-1)[..., None], -1)[..., 0]
    assert 0 < other.mean() < 0.02
    assert (shares.max(axis=-1) - greatest)[other].max() < 2 / 255


@pytest.mark.parametrize("share", [0.0001, 0.0007, 0.0031])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_probabilities_far_below_a_level_are_not_lost_in_sums(share, place):
    shares = np.full((200, 200, 3), share)
    shares[..., (place + 1) % 3] = 1 - 2 * share
    found = levels(shares)[..., place].sum()
    assert found == pytest.approx(255 * share * 40000, rel=0.01)


def test_levels_of_rows_do_not_depend_on_the_strips_that_they_are_made_in():
    shares = np.random.default_rng(2).dirichlet([1] * 3, (32, 20))
    parts = [levels(shares[top : top + 8], top) for top in range(0, 32, 8)]
    np.testing.assert_array_equal(np.concatenate(parts), levels(shares))


# Levels 204 and 51 of two classes, and 255 of one: columns of an image of 3 x 4 pixels.
IMAGE = np.array([[204, 51, 0], [0, 204, 51], [255, 0, 0], [51, 0, 204]], np.uint8)
IMAGE = np.broadcast_to(IMAGE, (3, 4, 3))


def test_sums_are_by_label_and_class_of_the_pixels_that_count(model):
    weights = np.array([[[2, 3, 1, 1], [0, 5, 0, 7], [2, 0, 0, 0]]], np.int32)
    found = model.soft_sums(IMAGE[None], BatchWeights(weights))
    assert found.labels[0, 0].tolist() == [DARK, MIDDLE, DARK, BRIGHT]
    np.testing.assert_allclose(found.confidence[0, 0], [0.8, 0.8, 1, 0.8], rtol=1e-6)
    # Dark: two pixels of the first column, one of the third. Middle: two. Bright: two.
    expected = [[2 * 204 + 255, 2 * 51, 0], [0, 2 * 204, 2 * 51], [2 * 51, 0, 2 * 204]]
    assert found.levels[0, 0].tolist() == expected
    assert found.weighted[0, 0].tolist() == [
        [4 * 204 + 1 * 255, 4 * 51, 0],
        [0, 8 * 204, 8 * 51],
        [8 * 51, 0, 8 * 204],
    ]
    bins = np.zeros((3, 16), int)
    bins[0, 204 // 16], bins[0, 15], bins[1, 12], bins[2, 12] = 2, 1, 2, 2
    assert found.bins[0, 0].tolist() == bins.tolist()


def test_windows_of_a_batch_do_not_mix(model):
    one, other = np.ones((3, 4), np.int32), np.zeros((3, 4), np.int32)
    other[0, 2] = 9
    both = model.soft_sums(np.stack([IMAGE, IMAGE]), BatchWeights(np.stack([one, other])))
    assert both.levels[0, 0].sum() == 12 * 255
    assert both.levels[1, 0].tolist() == [[255, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert both.weighted[1, 0, 0, 0] == 9 * 255


def test_a_pixel_counts_as_often_as_it_labels_pixels_and_in_its_zones(model):
    weights = np.array([[[2, 3, 1, 1], [0, 5, 0, 7], [2, 0, 0, 0]]], np.int32)
    labelled = np.array([[[1, 2, 3, 4], [9, 0, 9, 5], [6, 9, 9, 9]]], np.int32)
    index = np.array([[[0, 0, 2, 2], [1, 1, 1, 2], [2, 1, 1, 1]]], np.int32)
    found = model.soft_sums(IMAGE[None], BatchWeights(weights, labelled, index))
    assert found.levels.shape == (1, 3, 3, 3)
    # A pixel of dark, which labels one; of middle, which labels two.
    assert found.levels[0, 0].tolist() == [[204, 51, 0], [0, 2 * 204, 2 * 51], [0, 0, 0]]
    assert found.weighted[0, 0].tolist() == [[2 * 204, 2 * 51, 0], [0, 3 * 204, 3 * 51], [0, 0, 0]]
    # One that labels none has a weight all the same.
    assert found.levels[0, 1].tolist() == [[0] * 3] * 3
    dark, bright = 3 * 255 + 6 * 204, 9 * 204
    assert found.levels[0, 2].tolist() == [[dark, 6 * 51, 0], [0] * 3, [9 * 51, 0, bright]]
    bins = np.zeros((3, 3, 16), int)
    bins[0, 0, 12], bins[0, 1, 12] = 1, 2
    bins[2, 0, 15], bins[2, 0, 12], bins[2, 2, 12] = 3, 6, 9
    assert found.bins[0].tolist() == bins.tolist()


@pytest.mark.parametrize("kind", ["labelled", "index"])
def test_ones_and_one_zone_give_the_sums_of_a_model_that_is_not_told_of_them(model, kind):
    weights = np.random.default_rng(7).integers(0, 1 << 20, (2, 3, 4), np.int32)
    images = np.stack([IMAGE, IMAGE[::-1]])
    plain = model.soft_sums(images, BatchWeights(weights))
    given = {kind: np.full(weights.shape, kind == "labelled", np.int32)}
    found = model.soft_sums(images, BatchWeights(weights, **given))
    for name in ("levels", "weighted", "bins", "labels"):
        np.testing.assert_array_equal(getattr(found, name), getattr(plain, name))


def test_pixels_of_one_area_have_the_sums_of_pixels_of_twice_that_area(model):
    images = np.stack([IMAGE, IMAGE[::-1]])
    once = np.random.default_rng(9).integers(0, 2, (2, 3, 4), np.int32)
    one, two = (model.soft_sums(images, BatchWeights(values)) for values in (once, 2 * once))
    for name in ("levels", "bins", "labels"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    np.testing.assert_array_equal(2 * one.weighted, two.weighted)
    assert one.levels.sum() == 255 * once.sum() == one.weighted.sum()


def test_pixels_of_one_area_weigh_1_and_others_by_their_area():
    tile = Tile(Window(1, 0, 2, 2), Window(0, 0, 3, 2), 3, 2)
    has_label = np.array([[True, True], [True, False], [True, True]])
    even = Weights.of(Counted(np.full((2, 2), 0.3, np.float32)), tile, has_label)
    assert (even.values.tolist(), even.step) == ([[0, 0], [1, 0], [1, 1]], np.float32(0.3))
    odd = Weights.of(Counted(np.array([[3, 3], [1, 2]], np.float32)), tile, has_label)
    assert odd.step == 2.0 ** (2 - 20)
    assert (odd.values * odd.step).tolist() == [[0, 0], [3, 0], [1, 2]]
    none = Weights.of(Counted(np.zeros((2, 2), np.float32)), tile, None)
    assert (none.values.sum(), none.step) == (4, 1.0)


@pytest.mark.parametrize("size", [(8, 9), (30, 16), (21, 50), (40, 33)])
@pytest.mark.parametrize("window", [4, 64])
def test_of_a_scaled_image_the_pixels_of_its_label_map_are_summed(model, size, window):
    random = np.random.default_rng(8)
    image = np.concatenate([np.tile(IMAGE, (7, 5, 1)), np.full((21, 20, 1), 255, np.uint8)], -1)
    image[random.random((21, 20)) < 0.3, 3] = 0
    opened = partial(EncodedImage, png(image), 3, resize=size)
    engine = Engine(model, Layout(window, 2, 1, batch=2), soft=model, probabilities=True)
    (found,) = engine.run([Job("a", opened)])
    assert ((found.labels == 255) == (image[..., 3] == 0)).all()
    for row, label in enumerate([DARK, MIDDLE, BRIGHT]):
        summed = found.probabilities[found.labels == label].sum(axis=0, dtype=int).tolist()
        assert found.soft.whole.levels[row].tolist() == summed
        np.testing.assert_allclose(found.soft.whole.areas[row], summed, rtol=1e-6)


@pytest.mark.parametrize("wrong", [0.5, -0.1, np.nan])
def test_what_is_no_probability_is_refused(wrong):
    def signature(images):
        return {"probabilities": tf.cast(images, tf.float32) * 0 + [wrong, 0.5, 0.6]}

    with pytest.raises(ContractError, match=r"^probabilities: .* at least 0 that sum to 1"):
        predictor(signature).soft_sums(IMAGE[None], BatchWeights(np.ones((1, 3, 4), np.int32)))


def test_a_model_may_take_one_size_only():
    def signature(images):
        return {"probabilities": tf.fill((1, 3, 4, 3), 1 / 3)}

    found = predictor(signature).soft_sums(IMAGE[None], BatchWeights(np.ones((1, 3, 4), np.int32)))
    assert found.levels.tolist() == [[[[12 * 85] * 3, [0] * 3, [0] * 3]]]


class Rows(ArrayRaster):
    """Rows of 1, 2, 3 ... m²."""

    def pixel_areas(self, core):
        return np.arange(core.row + 1.0, core.row + core.height + 1)[:, None]


@pytest.mark.parametrize("window", [4, 8, 64])
@pytest.mark.parametrize("halo", [0, 3])
def test_halos_nodata_and_the_sizes_of_windows_change_no_sum(model, window, halo):
    values = np.tile(IMAGE, (7, 5, 1))
    valid = np.random.default_rng(3).random(values.shape[:2]) < 0.8
    engine = Engine(model, Layout(window, halo, 1, batch=2), soft=model)
    (found,) = engine.run([Job("a", lambda: Rows(values, valid))])
    area = np.arange(1, 22)[:, None]
    labels = np.tile([0, 1, 0, 2], 5)
    for label in range(3):
        for column in range(3):
            here = (valid & (labels == label)) * values[..., column].astype(int)
            assert found.soft.whole.levels[label, column] == here.sum()
            exact = (here * area).sum()
            assert found.soft.whole.areas[label, column] == pytest.approx(exact, rel=1e-6)
    assert found.soft.bins.sum() == valid.sum()
    assert found.confidence is None


@pytest.mark.parametrize("window", [4, 64])
def test_maps_of_levels_are_what_is_summed(model, window):
    values = np.random.default_rng(5).integers(0, 256, (21, 20, 3), np.uint8)
    valid = np.random.default_rng(6).random(values.shape[:2]) < 0.8
    engine = Engine(model, Layout(window, 2, 1), soft=model, probabilities=True)
    (found,) = engine.run([Job("a", lambda: ArrayRaster(values, valid))])
    levels = found.probabilities.astype(int)
    np.testing.assert_array_equal(levels.sum(axis=-1), 255 * valid)
    for row, label in enumerate([DARK, MIDDLE, BRIGHT]):
        summed = levels[(found.labels == label) & valid].sum(axis=0)
        assert summed.tolist() == found.soft.whole.levels[row].tolist()


def test_a_model_on_disk_needs_nothing_but_its_signature_of_probabilities(brightness_savedmodel):
    model = Predictor.load(brightness_savedmodel)
    images = np.random.default_rng(4).integers(0, 256, (2, 40, 30, 3), np.uint8)
    found = model.soft_sums(images, BatchWeights(np.ones((2, 40, 30), np.int32)))
    np.testing.assert_array_equal(found.labels, model.labels(images))
    one_hot = np.eye(3)[np.searchsorted([DARK, MIDDLE, BRIGHT], found.labels)]
    shares = np.einsum("bhwl,bhwc->blc", one_hot, model.probabilities(images))
    np.testing.assert_allclose(found.levels[:, 0] / 255, shares, atol=0.5)
    assert found.levels.sum() == 255 * 2 * 40 * 30

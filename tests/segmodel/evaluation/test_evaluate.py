"""Scores of a model over pairs, through the engine."""

from __future__ import annotations

import numpy as np
import pytest

from segmodel.errors import ContractError, InputError, TransientError
from segmodel.evaluation.evaluate import Evaluation, LabelledBlock, blocks_of, evaluate
from segmodel.labels.confusion import IGNORED, Scores, confusion_matrix
from segmodel.tiling.windows import Layout, Window
from tests.fakes import CLASSES, WIDE_CLASSES, BrightnessModel, WideModel
from tests.segmodel.made_pairs import ArrayPair
from tests.segmodel.scored_pairs import brightness_index, random_pair

LAYOUT = Layout(window_px=32, halo_px=0, stride_px=32)


def expected_matrix(pair: ArrayPair) -> np.ndarray:
    return confusion_matrix(pair.indices, brightness_index(pair.image), 3)


def test_the_matrix_is_that_of_all_pixels_of_all_images():
    pairs = [random_pair("a", 70, 50, 1), random_pair("b", 33, 90, 2), random_pair("c", 1, 1, 3)]
    actual = evaluate(BrightnessModel(), pairs, LAYOUT)
    assert actual.matrix.tolist() == sum(expected_matrix(pair) for pair in pairs).tolist()
    assert [image.name for image in actual.per_image] == ["a", "b", "c"]
    for image, pair in zip(actual.per_image, pairs, strict=True):
        assert image.matrix.tolist() == expected_matrix(pair).tolist()
        assert image.scores == Scores.of(expected_matrix(pair))


def test_scores_of_the_set_are_no_mean_of_those_of_its_images():
    small = ArrayPair("small", np.zeros((2, 2, 3), np.uint8), np.full((2, 2), 1, np.int16))
    large = ArrayPair("large", np.zeros((20, 20, 3), np.uint8), np.zeros((20, 20), np.int16))
    actual = evaluate(BrightnessModel(), [small, large], LAYOUT)
    assert actual.scores.pixel_accuracy == 400 / 404
    assert actual.scores.iou == (400 / 404, 0.0, None)


def test_images_larger_than_a_block_are_labelled_in_blocks(monkeypatch):
    monkeypatch.setattr("segmodel.evaluation.evaluate.BLOCK_PX", 64)
    pair = random_pair("a", 150, 97, 4)
    blocks: list[LabelledBlock] = []
    actual = evaluate(BrightnessModel(), [pair, random_pair("b")], LAYOUT, blocks.append)
    mine = [block for block in blocks if block.number == 0]
    assert [block.window for block in mine] == list(Window(0, 0, 150, 97).subdivide(64, 64))
    assert [block.is_last for block in mine] == [False] * 5 + [True]
    assert mine[-1].matrix.tolist() == actual.per_image[0].matrix.tolist()
    assert actual.per_image[0].matrix.tolist() == expected_matrix(pair).tolist()
    for block in mine:
        np.testing.assert_array_equal(block.truth, pair.indices[block.window.slices])


def test_origins_of_blocks_are_multiples_of_the_window():
    pair = ArrayPair("a", np.zeros((5000, 10, 3), np.uint8), np.zeros((5000, 10), np.int16))
    assert [w.row for w in blocks_of(pair, Layout(1024, 128, 32))] == [0, 4096]
    assert [w.row for w in blocks_of(pair, Layout(3008, 0, 32))] == [0, 3008]
    assert [w.row for w in blocks_of(pair, Layout(4800, 0, 32))] == [0, 4800]


def test_pixels_that_the_model_cannot_see_count_nowhere_even_if_truth_says_otherwise():
    image = np.zeros((4, 4, 3), np.uint8)
    valid = np.ones((4, 4), bool)
    valid[:, :2] = False
    pair = ArrayPair("a", image, np.zeros((4, 4), np.int16), valid)
    blocks: list[LabelledBlock] = []
    actual = evaluate(BrightnessModel(), [pair], LAYOUT, blocks.append)
    assert actual.matrix.sum() == 8
    assert (blocks[0].truth[:, :2] == IGNORED).all()
    assert (blocks[0].labels[:, :2] == CLASSES.nodata).all()


def test_labels_of_16_bits_are_compared_by_their_classes():
    image = np.zeros((3, 3, 3), np.uint8)
    image[0] = 200
    truth = np.array([[0] * 3, [1] * 3, [0] * 3], np.int16)
    actual = evaluate(WideModel(), [ArrayPair("a", image, truth)], LAYOUT)
    assert WIDE_CLASSES.ids == (300, 5)
    assert actual.matrix.tolist() == [[3, 3], [0, 3]]


def test_an_image_whose_truth_counts_nowhere_has_no_score():
    pair = ArrayPair("a", np.zeros((3, 3, 3), np.uint8), np.full((3, 3), IGNORED, np.int16))
    actual = evaluate(BrightnessModel(), [pair], LAYOUT)
    assert actual.per_image[0].scores.mean_iou is None
    assert actual.scores.pixel_accuracy is None


def test_no_pairs_give_a_matrix_of_zeros():
    actual = evaluate(BrightnessModel(), [], LAYOUT)
    assert isinstance(actual, Evaluation)
    assert actual.matrix.tolist() == [[0] * 3] * 3
    assert actual.per_image == ()


@pytest.mark.parametrize(
    ("fault", "kind", "text"),
    [
        (OSError("no more bytes"), InputError, "b: cannot be read: no more bytes"),
        (InputError("truncated"), InputError, "b: truncated"),
        (InputError("b: truncated"), InputError, "^b: truncated$"),
        (TransientError("timeout"), TransientError, "b: timeout"),
    ],
)
def test_an_error_while_reading_names_the_pair(fault, kind, text):
    bad = random_pair("b")
    bad = ArrayPair("b", bad.image, bad.indices, fault=fault)
    with pytest.raises(kind, match=text):
        evaluate(BrightnessModel(), [random_pair("a"), bad], LAYOUT)


def test_an_error_of_the_truth_names_the_pair():
    class Faulty(ArrayPair):
        def truth(self, window):
            raise ValueError("value 9 is no class")

    bad = Faulty("c", np.zeros((3, 3, 3), np.uint8), np.zeros((3, 3), np.int16))
    with pytest.raises(InputError, match="c: cannot be read: value 9 is no class"):
        evaluate(BrightnessModel(), [bad], LAYOUT)


def test_labels_outside_the_class_table_are_refused():
    class Strange(BrightnessModel):
        def labels(self, images):
            return np.full(images.shape[:3], 1, np.uint8)

    with pytest.raises(ContractError, match="a: the model gives labels outside"):
        evaluate(Strange(), [random_pair("a")], LAYOUT)

"""Label maps and confidence as encoded images."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from segmodel.images.encoded import decode_image
from segmodel.labels.classes import ClassTable, LabelClass
from segmodel.labels.label_images import encode_confidence, encode_labels, quantize_confidence
from tests.fakes import CLASSES


def test_a_label_map_keeps_ids_palette_and_text():
    labels = np.array([[0, 3, 7], [255, 0, 7]], np.uint8)
    image = Image.open(io.BytesIO(encode_labels(labels, CLASSES, {"model": "a", "wo": "Küste"})))
    np.testing.assert_array_equal(np.asarray(image), labels)
    assert image.mode == "P"
    palette = np.array(image.getpalette()).reshape(-1, 3)
    assert palette[[0, 3, 7]].tolist() == [[10, 10, 80], [90, 160, 70], [240, 230, 200]]
    assert image.text == {"model": "a", "wo": "Küste"}
    np.testing.assert_array_equal(decode_image(encode_labels(labels, CLASSES, {}), 0), labels)


def test_a_uint16_label_map_keeps_ids_above_255_and_nodata():
    classes = ClassTable((LabelClass(255, "a", (0, 0, 0)), LabelClass(256, "b", (1, 1, 1))))
    labels = np.array([[255, 256, 65535]], np.uint16)
    actual = decode_image(encode_labels(labels, classes, {}), 0)
    np.testing.assert_array_equal(actual, labels)


def test_a_label_map_is_the_same_bytes_every_time():
    labels = np.random.default_rng(0).choice([0, 3, 7], (50, 50)).astype(np.uint8)
    text = {"b": "1", "a": "2"}
    assert encode_labels(labels, CLASSES, text) == encode_labels(labels.copy(), CLASSES, text)


@pytest.mark.parametrize(
    ("confidence", "expected"),
    [(0.0, 0), (0.5, 128), (1.0, 255), (1 / 255, 1), (0.9999, 255), (-0.1, 0), (1.1, 255)],
)
def test_confidence_is_rounded_to_255_steps_and_never_wraps(confidence, expected):
    assert quantize_confidence(np.array([confidence], np.float32)).tolist() == [expected]


def test_a_confidence_map_comes_back_as_grey():
    confidence = np.array([[0.0, 1.0], [0.2, 0.4]], np.float32)
    actual = decode_image(encode_confidence(confidence), 1)[..., 0]
    assert actual.tolist() == [[0, 255], [51, 102]]

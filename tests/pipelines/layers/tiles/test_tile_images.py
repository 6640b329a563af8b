"""Tiles as images."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from pipelines.layers.tiles.tile_images import tile_image
from segmodel.labels.classes import ClassTable, LabelClass


def table(ids: range) -> ClassTable:
    return ClassTable(tuple(LabelClass(i, f"class {i}", (i % 251, i // 251, 7)) for i in ids))


@pytest.mark.parametrize("form", ["png", "webp"])
@pytest.mark.parametrize("count", [1, 2, 3, 5, 16, 17, 254, 300])
def test_each_pixel_has_the_colour_of_its_class_or_is_transparent(form, count):
    classes = table(range(3, 3 + count))
    labels = np.random.default_rng(count).choice([*classes.ids, classes.nodata], (256, 256))
    image = Image.open(io.BytesIO(tile_image(labels.astype(classes.label_dtype), classes, form)))
    actual = np.asarray(image.convert("RGBA"))
    has_label = labels != classes.nodata
    np.testing.assert_array_equal(actual[..., 3], np.where(has_label, 255, 0))
    np.testing.assert_array_equal(actual[has_label][:, :3], classes.palette()[labels[has_label]])
    assert image.format == form.upper()


def test_a_tile_of_one_class_takes_100_bytes_and_one_without_labels_none():
    classes = table(range(3))
    labels = np.full((256, 256), 2, np.uint8)
    assert len(tile_image(labels, classes, "png")) < 110
    assert tile_image(np.full_like(labels, classes.nodata), classes, "png") == b""


def test_few_classes_take_few_bits_of_a_pixel():
    labels = np.arange(256 * 256).reshape(256, 256) % 4
    modes = {}
    for count in (2, 4, 5):
        content = tile_image((labels % count).astype(np.uint8), table(range(count)), "png")
        modes[count] = content[24]  # bit depth in the header of a PNG
    assert modes == {2: 1, 4: 2, 5: 2}

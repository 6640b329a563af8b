"""Masks: values to class indices, and what is no mask."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from segmodel.errors import ConfigurationError, InputError
from segmodel.labels import masks
from segmodel.labels.classes import ClassTable, LabelClass
from segmodel.labels.confusion import IGNORED
from segmodel.labels.masks import ClassMapping, MaskReader

CLASSES = ClassTable((LabelClass(4, "road", (9, 9, 9)), LabelClass(0, "water", (0, 0, 255))))
COLOR = ClassMapping(CLASSES, "color", ignore_colors=("#000000", "#FFFFFF"))
ID = ClassMapping(CLASSES, "id", ignore_ids=(255,))
ROAD, WATER = 0, 1


def table(count: int, first: int = 0) -> ClassTable:
    return ClassTable(
        tuple(
            LabelClass(first + n, f"class {n}", (n >> 16, n >> 8 & 255, n & 255))
            for n in range(count)
        )
    )


def encoded(values, kind: str = "PNG", mode: str | None = None) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(np.asarray(values))
    (image if mode is None else image.convert(mode)).save(buffer, kind)
    return buffer.getvalue()


def test_colours_become_indices_and_ignored_ones_count_nowhere():
    mask = np.array([[[9, 9, 9], [0, 0, 255], [0, 0, 0], [255, 255, 255]]], np.uint8)
    actual = COLOR.decode(mask)
    assert actual.tolist() == [[ROAD, WATER, IGNORED, IGNORED]]
    assert actual.dtype == np.int16


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int32, np.uint32, np.int64])
def test_ids_become_indices_whatever_their_dtype(dtype):
    actual = ID.decode(np.array([[4, 0], [255, 4]], dtype))
    assert actual.tolist() == [[ROAD, WATER], [IGNORED, ROAD]]
    assert actual.dtype == np.int16


def test_an_empty_mask_has_no_indices():
    assert ID.decode(np.empty((0, 3), np.uint8)).shape == (0, 3)


def test_strange_ids_are_named_up_to_five():
    with pytest.raises(InputError, match="mask has id 1, 2, 3, 5, 6, which is neither a class nor"):
        ID.decode(np.array([[4, 0, 7, 2, 1, 255, 3, 5, 6]], np.uint8))


@pytest.mark.parametrize("value", [-1, -32768, 65536, 2**31 - 1])
def test_ids_that_no_table_holds_are_strange_unless_they_are_ignored(value):
    mask = np.array([[4, value]], np.int32)
    with pytest.raises(InputError, match=f"mask has id {value}, which is neither"):
        ID.decode(mask)
    ignored = ClassMapping(CLASSES, "id", ignore_ids=(value,))
    assert ignored.decode(mask).tolist() == [[ROAD, IGNORED]]


def test_a_strange_colour_is_named():
    with pytest.raises(InputError, match="mask has color #0102FF, which is neither"):
        COLOR.decode(np.array([[[9, 9, 9], [1, 2, 255]]], np.uint8))


def test_ids_up_to_65534_are_looked_up():
    mapping = ClassMapping(table(300, first=65235), "id")
    actual = mapping.decode(np.array([[65235, 65534]], np.uint16))
    assert actual.tolist() == [[0, 299]]
    with pytest.raises(InputError, match="id 65535"):
        mapping.decode(np.array([[65535]], np.uint16))


def test_so_many_classes_as_the_limit_are_learned_and_not_one_more(monkeypatch):
    assert np.iinfo(np.int16).max == masks.MAX_CLASSES
    monkeypatch.setattr(masks, "MAX_CLASSES", 300)
    most = ClassMapping(table(300), "color")
    assert most.decode(np.array([[[0, 1, 43]]], np.uint8)).tolist() == [[299]]
    with pytest.raises(ConfigurationError, match="at most 300 classes can be learned, got 301"):
        ClassMapping(table(301), "id")


def test_a_value_of_two_classes_is_refused():
    twice = ClassTable((LabelClass(0, "a", (1, 1, 1)), LabelClass(1, "b", (1, 1, 1))))
    with pytest.raises(ConfigurationError, match="color #010101 stands for more than one class"):
        ClassMapping(twice, "color")
    with pytest.raises(ConfigurationError, match="id 4 stands for more than one class"):
        ClassMapping(CLASSES, "id", ignore_ids=(4,))


def test_tables_agree_with_a_search_of_each_value():
    random = np.random.default_rng(0)
    classes = table(40)
    ids = random.integers(0, 41, (50, 60))
    colors = np.array([*(c.color for c in classes.classes), (255, 255, 255)], np.uint8)[ids]
    mapping = ClassMapping(classes, "color", ignore_colors=("#FFFFFF",))
    np.testing.assert_array_equal(mapping.decode(colors), np.where(ids == 40, IGNORED, ids))


def test_a_mask_of_another_size_is_refused_with_both_sizes():
    reader = MaskReader.of(CLASSES, "id")
    with pytest.raises(InputError, match="the mask is 2x3, its image 3x2"):
        reader.indices(encoded(np.zeros((3, 2), np.uint8)), (2, 3))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_a_16_bit_mask_where_colours_are_expected_is_refused(kind):
    reader = MaskReader.of(CLASSES, "color", ignore_colors=("#000000",))
    with pytest.raises(InputError, match="16 bits a sample, colours have 8: mask_encoding id"):
        reader.indices(encoded(np.full((2, 3), 4, np.uint16), kind), (2, 3))


def test_16_bit_ids_beyond_the_table_are_named():
    reader = MaskReader.of(CLASSES, "id")
    with pytest.raises(InputError, match="mask has id 1024, which is neither"):
        reader.indices(encoded(np.full((2, 3), 1024, np.uint16)), (2, 3))


@pytest.mark.parametrize(
    ("kind", "dtype"), [("PNG", "uint16"), ("TIFF", "uint16"), ("TIFF", "int32")]
)
def test_more_than_255_classes_are_read(kind, dtype):
    reader = MaskReader.of(table(300, first=1000), "id")
    ids = np.arange(1000, 1300).reshape(15, 20).astype(dtype)
    np.testing.assert_array_equal(reader.indices(encoded(ids, kind), (15, 20)), ids - 1000)


def test_a_palette_image_given_as_id_is_refused_and_the_reverse():
    palette = encoded(np.full((2, 3), 4, np.uint8), mode="P")
    with pytest.raises(InputError, match="indexed image: mask_encoding palette takes its indices"):
        MaskReader.of(CLASSES, "id").indices(palette, (2, 3))
    with pytest.raises(InputError, match="no indexed image: mask_encoding id takes grey levels"):
        MaskReader.of(CLASSES, "palette").indices(encoded(np.full((2, 3), 4, np.uint8)), (2, 3))


def test_label_maps_hold_ids_however_they_are_stored_and_nodata_counts_nowhere():
    reader = MaskReader.of_label_maps(CLASSES, (9,))
    labels = np.array([[4, 0, 255], [9, 4, 4]], np.uint8)
    expected = [[ROAD, WATER, IGNORED], [IGNORED, ROAD, ROAD]]
    assert reader.indices(reader.encode(labels), (2, 3)).tolist() == expected
    assert reader.indices(encoded(labels), (2, 3)).tolist() == expected
    wide = MaskReader.of_label_maps(table(300))
    actual = wide.indices(encoded(np.array([[299, 65535]], np.uint16)), (1, 2))
    assert actual.tolist() == [[299, IGNORED]]

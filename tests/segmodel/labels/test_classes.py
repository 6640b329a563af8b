"""Class tables: ids, names, colours, nodata."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmodel.errors import ContractError
from segmodel.labels.class_settings import class_table
from segmodel.labels.classes import (
    RESERVED_NAMES,
    ClassTable,
    LabelClass,
    format_color,
    parse_color,
)


def table(*ids: int) -> ClassTable:
    return ClassTable(tuple(LabelClass(i, f"class {i}", (i % 256, 0, 1)) for i in ids))


def test_ids_and_names_keep_the_order_of_the_score_channels():
    classes = table(7, 0, 3)
    assert classes.ids == (7, 0, 3)
    assert classes.names == ("class 7", "class 0", "class 3")


@pytest.mark.parametrize(
    ("greatest", "dtype", "nodata"),
    [(0, "uint8", 255), (254, "uint8", 255), (255, "uint16", 65535), (65534, "uint16", 65535)],
)
def test_labels_are_uint8_while_255_is_free_to_mean_nodata(greatest, dtype, nodata):
    classes = table(greatest)
    assert classes.label_dtype == np.dtype(dtype)
    assert classes.nodata == nodata


@pytest.mark.parametrize("wrong", [-1, 65535, 65536])
def test_an_id_outside_0_to_65534_is_refused(wrong):
    with pytest.raises(ContractError, match=rf"id must be in 0\.\.65534, got {wrong}"):
        table(wrong)


def test_a_class_without_name_is_refused():
    with pytest.raises(ContractError, match="class 3 has no name"):
        LabelClass(3, "", (0, 0, 0))


@pytest.mark.parametrize("color", [(0, 0), (0, 0, 0, 0), (0, 0, 256), (-1, 0, 0)])
def test_a_color_that_is_not_three_values_in_0_to_255_is_refused(color):
    with pytest.raises(ContractError, match="color of 'sea'"):
        LabelClass(0, "sea", color)


def test_a_table_without_classes_is_refused():
    with pytest.raises(ContractError, match="at least one class"):
        ClassTable(())


def test_an_id_that_occurs_twice_is_named():
    with pytest.raises(ContractError, match="id 4 occurs more than once"):
        ClassTable((LabelClass(4, "a", (0, 0, 0)), LabelClass(4, "b", (0, 0, 1))))


def test_a_name_that_occurs_twice_is_named():
    with pytest.raises(ContractError, match="name sea occurs more than once"):
        ClassTable((LabelClass(1, "sea", (0, 0, 0)), LabelClass(2, "sea", (0, 0, 1))))


@pytest.mark.parametrize("name", [*sorted(RESERVED_NAMES), "NoData", " Total"])
def test_lines_of_tables_are_no_names_of_new_classes(name):
    entries = [{"id": 0, "name": "sea", "color": "#000000"}, {"id": 7, "name": name}]
    entries[1]["color"] = "#010101"
    with pytest.raises(ContractError, match=f"{name!r} is a line .* give class 7 another"):
        class_table(entries)


@pytest.mark.parametrize("name", ["a\nb", "\x1b[31mred", "\u202eder", "a\tb"])
def test_a_name_that_no_line_can_show_is_none_of_a_new_class(name):
    entries = [{"id": 7, "name": name, "color": "#000000"}]
    with pytest.raises(ContractError, match=r"has a line break .* give class 7 a name of one line"):
        class_table(entries)


def test_models_that_exist_keep_names_that_are_reserved_now():
    stored = ClassTable((LabelClass(0, "total", (0, 0, 0)),))
    assert stored.names == ("total",)


def test_names_that_hold_a_reserved_one_are_names():
    entries = [{"id": 0, "name": "total forest", "color": "#000000"}]
    assert class_table(entries).names == ("total forest",)


def test_the_palette_holds_the_colour_of_each_id_and_black_elsewhere():
    classes = ClassTable((LabelClass(254, "a", (1, 2, 3)), LabelClass(0, "b", (255, 255, 255))))
    expected = np.zeros((256, 3), np.uint8)
    expected[254], expected[0] = (1, 2, 3), 255
    np.testing.assert_array_equal(classes.palette(), expected)


@given(st.lists(st.sampled_from([0, 7, 254, 255]), max_size=60))
def test_counts_of_classes_and_nodata_add_up_to_all_pixels(values):
    actual = table(7, 254, 0).count(np.array(values, np.uint8))
    assert actual.tolist() == [
        values.count(7),
        values.count(254),
        values.count(0),
        values.count(255),
    ]
    assert actual.sum() == len(values)


def test_counts_of_uint16_maps_end_with_65535():
    labels = np.array([[65535, 255], [300, 255]], np.uint16)
    assert table(255, 300).count(labels).tolist() == [2, 1, 1]


def test_counts_of_a_map_without_pixels_are_zero():
    assert table(1, 2).count(np.empty((0, 5), np.uint8)).tolist() == [0, 0, 0]


def test_a_label_that_is_no_class_cannot_be_counted_away():
    with pytest.raises(ContractError, match="not in the class table"):
        table(1, 2).count(np.array([1, 2, 9], np.uint8))


def test_a_label_that_is_no_class_is_named_as_a_plain_number():
    with pytest.raises(ContractError, match=r"labels \[9\] are not"):
        table(1, 2).count(np.array([1, 9], np.uint8))


@pytest.mark.parametrize("text", ["", "#", "#12345", "#1234567", "#GG0000", "red", "##12345"])
def test_a_color_of_another_form_is_refused(text):
    with pytest.raises(ContractError, match="color must look like #8429F6"):
        parse_color(text)


@given(st.tuples(*[st.integers(0, 255)] * 3))
def test_colors_come_back_from_their_text(color):
    assert parse_color(format_color(color)) == color

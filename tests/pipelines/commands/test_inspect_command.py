"""What `inspect` says of compute types, and which windows it times."""

from __future__ import annotations

import pytest

from pipelines.commands.inspect import describe, speed_sides, speed_table
from segmodel.errors import ConfigurationError
from segmodel.savedmodel.contract import MeasuredCompute
from tests.fakes import contract

GIB = 1 << 30


def test_each_compute_type_has_a_line_with_the_class_that_changes_most():
    changes = {"dark": 0.0014, "grey": -0.02, "bright": None}
    measured = (
        MeasuredCompute("tf32", 1000, 0.9999, {"dark": None, "grey": None, "bright": None}),
        MeasuredCompute("bfloat16", 1000, 0.9953, changes),
    )
    lines = list(describe(contract(computing=measured), "0" * 64))
    expected = "99.53 % of labels as by float32, areas of classes up to -2.00 % (grey)"
    assert f"  bfloat16       {expected}" in lines
    assert "  tf32           99.99 % of labels as by float32" in lines


def test_windows_are_timed_that_memory_allows():
    made = contract(bytes_per_pixel=600, stride=32)
    assert speed_sides(made, 4 * GIB) == [512, 1024, 1536]
    assert speed_sides(made, 8 * GIB) == [512, 1024, 1536, 2048]
    assert speed_sides(contract(stride=96), 8 * GIB) == [576, 1056, 1536, 2112]


def test_of_a_fixed_window_that_one_is_timed():
    assert speed_sides(contract(fixed_window=640), 4 * GIB) == [640]


def test_memory_for_no_window_is_refused_with_what_suffices():
    made = contract(bytes_per_pixel=600)
    with pytest.raises(ConfigurationError, match="windows of 512 pixels: give 1050M") as refused:
        speed_sides(made, 1049 << 20)
    assert refused.value.text.startswith("--memory 1049M is not enough")
    assert speed_sides(made, 1050 << 20) == [512]


def test_speed_says_whether_weights_are_computed_once(
    neighbourhood_savedmodel, brightness_savedmodel
):
    first = next(speed_table(str(neighbourhood_savedmodel), [32], trust=False))
    assert first == "weights are computed once"
    first = next(speed_table(str(brightness_savedmodel), [32], trust=False))
    assert first == "the graph runs as loaded: its weights are constants already"

"""Options of `segment`: each is read, each is checked, and the failure budget counts right."""

from __future__ import annotations

import argparse
import dataclasses
import re
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.cli.options import add_options
from pipelines.cli.parser import Parser
from pipelines.cli.values import FailureBudget
from pipelines.segment.options import SegmentOptions, segment_options
from segmodel.errors import ConfigurationError

PIPELINES = Path(__file__).parents[3] / "pipelines"
NEEDED = ["--input", "a", "--model", "m", "--output", "o"]


def options(*words: str, needed: list[str] = NEEDED) -> SegmentOptions:
    command = Parser()
    add_options(command, SegmentOptions)
    return segment_options(command.parse_args([*needed, *words]))


def test_patterns_of_inputs_are_repeated_or_listed():
    several = ["--input", "a", "--input", '["b, c/*.tif", "d"]', *NEEDED[2:]]
    assert options(needed=several).inputs == ("a", "b, c/*.tif", "d")


def registered() -> list[argparse.Action]:
    command = Parser(add_help=False)
    add_options(command, SegmentOptions)
    return command._actions


def test_defaults_are_those_that_the_help_states():
    actual = options()
    expected = SegmentOptions(inputs=("a",), model="m", output="o")
    assert actual == expected
    assert actual.max_failures == FailureBudget(0, None)


def test_every_option_reaches_its_field():
    actual = options(
        *("--input", "b", "--window", "256", "--halo", "0", "--batch", "4", "--confidence"),
        *("--pixel_size", "0.5", "--max_failures", "1%", "--retry_failures", "--overwrite"),
        *("--limit", "7", "--trust_model", "--memory", "2500M", "--max_pixels", "1000000"),
        *("--call_timeout", "2.5"),
        *("--resize", "768x512", "--image_field", "photo", "--name_field", "title"),
        *("--bands", "4, nir,2", "--resample_to", "10", "--aoi", "area.gpkg", "--check_seams"),
        *("--zones", "zones.gpkg", "--zone_field", "title", "--overlap", "newest"),
    )
    expected = SegmentOptions(
        inputs=("a", "b"),
        model="m",
        output="o",
        window=256,
        halo=0,
        batch=4,
        memory=2500 << 20,
        max_pixels=1_000_000,
        resize=(512, 768),
        image_field="photo",
        name_field="title",
        bands=("4", "nir", "2"),
        resample_to=10.0,
        aoi="area.gpkg",
        zones="zones.gpkg",
        zone_field="title",
        overlap="newest",
        check_seams=True,
        confidence=True,
        pixel_size=0.5,
        max_failures=FailureBudget(None, Fraction(1, 100)),
        retry_failures=True,
        overwrite=True,
        limit=7,
        trust_model=True,
        call_timeout=2.5,
    )
    assert actual == expected


def test_every_registered_option_is_a_field_and_every_field_an_option():
    names = {action.dest for action in registered()}
    fields = {field.name for field in dataclasses.fields(SegmentOptions)}
    assert names - {"input"} == fields - {"inputs"}


def test_every_field_is_read_by_another_module():
    sources = [path for path in PIPELINES.rglob("*.py") if path.name != "options.py"]
    text = "\n".join(path.read_text("utf-8") for path in sources)
    fields = [field.name for field in dataclasses.fields(SegmentOptions)]
    unread = [name for name in fields if not re.search(rf"\boptions\.{name}\b", text)]
    assert unread == []


def test_options_are_spelled_with_underscores_and_explained():
    for action in registered():
        (name,) = action.option_strings
        assert re.fullmatch(r"--[a-z_]+", name), name
        assert action.help, name
        assert not action.required, f"{name}: Beam parses every options class in every pipeline"


@pytest.mark.parametrize("name", ["input", "model", "output"])
def test_a_missing_option_is_named_with_an_example(name):
    position = NEEDED.index(f"--{name}")
    with pytest.raises(ConfigurationError, match=f"^--{name} is missing, for example --{name} "):
        options(needed=NEEDED[:position] + NEEDED[position + 2 :])


@pytest.mark.parametrize(
    "name", ["window", "batch", "limit", "pixel_size", "max_pixels", "resample_to"]
)
@pytest.mark.parametrize("value", ["0", "-1"])
def test_sizes_and_counts_below_one_are_refused_by_name(name, value):
    with pytest.raises(ConfigurationError, match=f"^--{name} must be greater than 0, got {value}"):
        options(f"--{name}", value)


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_pixel_size_that_is_no_length_is_refused(value):
    with pytest.raises(ConfigurationError, match=r"^--pixel_size must be greater than 0"):
        options("--pixel_size", value)


def test_the_batch_may_be_left_to_the_worker():
    assert options("--batch", "auto").batch == "auto"


def test_the_halo_may_be_zero_and_not_less():
    assert options("--halo", "0").halo == 0
    with pytest.raises(ConfigurationError, match=r"^--halo must be at least 0, got -1"):
        options("--halo", "-1")


@pytest.mark.parametrize("name", ["window", "halo", "batch", "limit", "max_pixels"])
def test_a_text_where_a_number_belongs_is_refused_by_name(name):
    with pytest.raises(ConfigurationError, match=f"--{name}.*'many'"):
        options(f"--{name}", "many")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4G", 4 << 30),
        ("4g", 4 << 30),
        ("4GB", 4 << 30),
        ("4GiB", 4 << 30),
        (" 4 G ", 4 << 30),
        ("1.5G", 3 << 29),
        ("2500M", 2500 << 20),
        ("0.5T", 1 << 39),
        ("1048576K", 1 << 30),
        ("4294967296", 4 << 30),
        ("4294967296B", 4 << 30),
    ],
)
def test_memory_is_a_size_in_powers_of_1024(text, expected):
    assert options("--memory", text).memory == expected


def test_the_memory_that_the_help_states_is_the_default():
    (action,) = (action for action in registered() if action.dest == "memory")
    assert f"(default: {action.default})" in action.help
    assert options().memory == options("--memory", action.default).memory == 4 << 30


@pytest.mark.parametrize(
    "text", ["", "G", "0", "0.0G", "-4G", "4X", "4GG", "1e9", "inf", "nan", "4,5G", ".5G", "4 5G"]
)
def test_a_memory_that_is_no_size_is_refused_with_examples(text):
    expected = f"--memory must be a size such as 4G or 2500M, got {text!r}"
    with pytest.raises(ConfigurationError, match=f"^{re.escape(expected)}$"):
        options(f"--memory={text}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("512", (512, 512)),
        ("768x512", (512, 768)),
        ("768X512", (512, 768)),
        (" 1x2 ", (2, 1)),
        ("1", (1, 1)),
        ("8192", (8192, 8192)),
        ("67108864x1", (1, 67108864)),
    ],
)
def test_resize_is_one_number_or_width_and_height(text, expected):
    assert options("--resize", text).resize == expected


@pytest.mark.parametrize(
    "text",
    [
        *["", "x", "0", "0x5", "5x0", "-1", "-1x5", "1.5", "5x", "x5", "5x5x5", "5*5", "512px"],
        *["1e3", "8193", "67108865x1", "99999999999x99999999999", "5 x 5", "nan"],
    ],
)
def test_a_resize_that_is_no_size_or_too_large_is_refused(text):
    expected = (
        f"--resize must be one number such as 512, or WIDTHxHEIGHT such as 768x512, of at most "
        f"67108864 pixels, got {text!r}"
    )
    with pytest.raises(ConfigurationError, match=f"^{re.escape(expected)}$"):
        options(f"--resize={text}")


@pytest.mark.parametrize("name", ["image_field", "name_field"])
@pytest.mark.parametrize("value", ["image/encoded", "seg.png", "image.bytes", "a b", "é"])
def test_fields_are_taken_as_they_are(name, value):
    assert getattr(options(f"--{name}", value), name) == value
    assert getattr(options(), name) is None


@pytest.mark.parametrize("text", ["", "x", "-1", "1.5", "101%", "-1%", "nan", "inf", "%", "0x3"])
def test_a_failure_budget_that_is_none_is_refused_with_the_three_forms(text):
    with pytest.raises(ConfigurationError, match="--max_failures must be a whole number, a share"):
        options(f"--max_failures={text}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", FailureBudget(0, None)),
        ("1", FailureBudget(1, None)),
        ("250", FailureBudget(250, None)),
        ("1.0", FailureBudget(None, 1.0)),
        ("0.0", FailureBudget(None, 0.0)),
        ("1e-3", FailureBudget(None, Fraction(1, 1000))),
        ("0%", FailureBudget(None, 0.0)),
        ("0.5%", FailureBudget(None, Fraction(1, 200))),
        ("100%", FailureBudget(None, 1.0)),
    ],
)
def test_a_failure_budget_is_a_number_a_share_or_a_percentage(text, expected):
    assert FailureBudget.parse(text) == expected


@pytest.mark.parametrize(
    ("text", "failed", "images", "expected"),
    [
        ("0", 0, 10, True),
        ("0", 1, 10, False),
        ("3", 3, 3, True),
        ("3", 4, 1000, False),
        ("10%", 10, 100, True),
        ("10%", 11, 100, False),
        ("0.0", 0, 5, True),
        ("0.0", 1, 5, False),
        ("1.0", 5, 5, True),
        ("1%", 0, 0, True),
        ("1%", 1, 99, False),
    ],
)
def test_a_failure_budget_allows_up_to_itself(text, failed, images, expected):
    assert FailureBudget.parse(text).allows(failed, images) is expected


def test_every_whole_percentage_allows_exactly_so_many_of_a_hundred():
    for percent in range(101):
        budget = FailureBudget.parse(f"{percent}%")
        assert budget.allows(percent, 100), percent
        assert not budget.allows(percent + 1, 100), percent


@given(share=st.floats(0, 1), images=st.integers(0, 10**7))
def test_more_failures_are_never_allowed_where_fewer_are_not(share, images):
    budget = FailureBudget(None, share)
    most = int(share * images)
    assert budget.allows(most, images)
    assert not budget.allows(most + 1, images)


@pytest.mark.parametrize(
    ("text", "expected"), [("3", "3"), ("1%", "0.01 of all images"), ("0", "0")]
)
def test_a_failure_budget_reads_as_what_it_means(text, expected):
    assert str(FailureBudget.parse(text)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("4,3,2", ("4", "3", "2")), ("nir", ("nir",)), (" NIR , B04 ", ("NIR", "B04"))],
)
def test_bands_are_numbers_or_names_with_commas_between_them(text, expected):
    assert options("--bands", text).bands == expected


@pytest.mark.parametrize("text", ["", ",", "1,", ",1", "1,,2", "1,1", "red, red"])
def test_bands_that_are_empty_or_named_twice_are_refused(text):
    expected = "--bands must be different numbers or names with commas between them, such as 4,3,2"
    with pytest.raises(ConfigurationError, match=f"^{expected}, got {re.escape(repr(text))}$"):
        options(f"--bands={text}")


def test_a_field_of_zones_needs_zones():
    with pytest.raises(ConfigurationError, match=r"^--zone_field names a field of --zones"):
        options("--zone_field", "name")
    assert options("--zone_field", "name", "--zones", "z.gpkg").zone_field == "name"


@pytest.mark.parametrize("rule", ["first", "newest"])
def test_overlaps_are_counted_by_one_of_two_rules(rule):
    assert options("--overlap", rule).overlap == rule
    with pytest.raises(ConfigurationError, match=r"--overlap.*'oldest'"):
        options("--overlap", "oldest")

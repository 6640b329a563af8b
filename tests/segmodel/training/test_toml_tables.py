"""TOML tables as dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from segmodel.errors import ConfigurationError
from segmodel.training.toml_tables import only_known, override, read_table, typed


@dataclass(frozen=True)
class Table:
    name: str
    count: int = 3
    share: float = 0.5
    flag: bool = False
    names: tuple[str, ...] = ()
    numbers: tuple[float, ...] = ()
    weights: Mapping[str, float] = field(default_factory=dict)
    either: str | tuple[float, ...] = ()


def test_what_is_left_out_has_its_default():
    assert read_table(Table, {"name": "a"}, "t") == Table("a")


def test_every_kind_of_value_is_read():
    given = {
        "name": "a",
        "count": 4,
        "share": 1,
        "flag": True,
        "names": ["x", "y"],
        "numbers": [1, 2.5],
        "weights": {"dice": 1},
        "either": [1, 2],
    }
    actual = read_table(Table, given, "t")
    assert actual == Table("a", 4, 1.0, True, ("x", "y"), (1.0, 2.5), {"dice": 1.0}, (1.0, 2.0))
    assert type(actual.share) is float
    assert [type(value) for value in actual.numbers] == [float, float]


def test_one_value_stands_for_a_list_of_one():
    assert read_table(Table, {"name": "a", "names": "x"}, "t").names == ("x",)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("name", 3, r"t\.name must be str, got 3"),
        ("count", "3", r"t\.count must be int, got '3'"),
        ("count", 1.5, r"t\.count must be int, got 1\.5"),
        ("count", True, r"t\.count must be int, got True"),
        ("share", True, r"t\.share must be float, got True"),
        ("share", "0.5", r"t\.share must be float"),
        ("flag", 1, r"t\.flag must be bool, got 1"),
        ("names", [1], r"t\.names must be str, got 1"),
        ("numbers", ["a"], r"t\.numbers must be float, got 'a'"),
        ("weights", 1, r"t\.weights must be a table, got 1"),
        ("weights", {"dice": "x"}, r"t\.weights\.dice must be float, got 'x'"),
        ("either", True, r"t\.either must be str or a list of float, got True"),
        ("either", ["a"], r"t\.either must be str or a list of float"),
    ],
)
def test_a_value_of_another_type_is_refused_by_its_key(key, value, message):
    with pytest.raises(ConfigurationError, match=message):
        read_table(Table, {"name": "a"} | {key: value}, "t")


def test_what_is_missing_is_named():
    with pytest.raises(ConfigurationError, match=r"^t\.name is missing$"):
        read_table(Table, {"count": 1}, "t")


@pytest.mark.parametrize("given", [3, "a", [], [{}], None])
def test_what_is_no_table_is_refused(given):
    with pytest.raises(ConfigurationError, match=r"^t must be a table$"):
        read_table(Table, given, "t")
    with pytest.raises(ConfigurationError, match=r"^the file must be a table$"):
        only_known(given, ["a"], "")


def test_an_unknown_key_is_refused_with_a_suggestion():
    with pytest.raises(ConfigurationError, match=r"unknown key t\.nane: did you mean t\.name\?"):
        read_table(Table, {"nane": "a"}, "t")
    with pytest.raises(ConfigurationError, match=r"unknown key t\.zzz: known: \['count', "):
        read_table(Table, {"zzz": "a"}, "t")


def test_words_and_lists_of_a_union_are_told_apart():
    kind = str | tuple[float, ...]
    assert typed("inverse_log", kind, "x") == "inverse_log"
    assert typed([], kind, "x") == ()
    assert typed(2, kind, "x") == (2.0,)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("7", 7), ("0.5", 0.5), ("true", True), ('"7"', "7"), ("[1, 2]", [1, 2]), ("a b", "a b")],
)
def test_an_override_is_toml_or_plain_text(text, expected):
    document = {"t": {"count": 1, "name": "a"}}
    override(document, "t.count", text)
    assert document == {"t": {"count": expected, "name": "a"}}


def test_an_override_makes_the_tables_that_it_needs():
    document: dict = {}
    override(document, "export.min_iou.road", "0.5")
    assert document == {"export": {"min_iou": {"road": 0.5}}}


@pytest.mark.parametrize("name", ["steps", "t.", "", "t.list.id"])
def test_an_override_that_names_no_key_of_a_table_is_refused(name):
    with pytest.raises(ConfigurationError, match=r"--set needs SECTION\.KEY=VALUE, got"):
        override({"t": {"list": [1]}}, name, "1")

"""Tables of settings as dataclasses that pydantic checks, and `--set`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated

import pytest
from pydantic import Discriminator, Field, StrictBool, StrictFloat, StrictInt, Tag

from segmodel.errors import ConfigurationError
from segmodel.settings import (
    LIST,
    WORD,
    Numbers,
    OneOf,
    Words,
    check_keys,
    parsed_toml,
    settings,
)
from segmodel.training.configuration_file import override

EITHER = Discriminator(lambda value: WORD if isinstance(value, str) else LIST)


@settings("t")
class Table:
    name: str
    count: StrictInt = 3
    share: StrictFloat = 0.5
    flag: StrictBool = False
    names: Words = ()
    numbers: Numbers = ()
    weights: Mapping[str, StrictFloat] = Field(default_factory=dict)
    either: Annotated[
        Annotated[str, OneOf(["even", "odd"]), Tag(WORD)] | Annotated[Numbers, Tag(LIST)], EITHER
    ] = ()


@settings("")
class File:
    t: Table
    u: Table = Field(default_factory=lambda: Table("u"))


def test_what_is_left_out_has_its_default():
    assert Table(**{"name": "a"}) == Table("a")


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
    actual = Table(**given)
    assert actual == Table("a", 4, 1.0, True, ("x", "y"), (1.0, 2.5), {"dice": 1.0}, (1.0, 2.0))
    assert type(actual.share) is float
    assert [type(value) for value in actual.numbers] == [float, float]


def test_one_value_stands_for_a_list_of_one():
    assert Table(**{"name": "a", "names": "x"}).names == ("x",)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("name", 3, r"t\.name must be a valid string, got 3"),
        ("count", "3", r"t\.count must be a valid integer, got '3'"),
        ("count", 1.5, r"t\.count must be a valid integer, got 1\.5"),
        ("count", True, r"t\.count must be a valid integer, got True"),
        ("share", True, r"t\.share must be a valid number, got True"),
        ("share", "0.5", r"t\.share must be a valid number"),
        ("flag", 1, r"t\.flag must be a valid boolean, got 1"),
        ("names", [1], r"t\.names\[0\] must be a valid string, got 1"),
        ("numbers", ["a"], r"t\.numbers\[0\] must be a valid number, got 'a'"),
        ("weights", 1, r"t\.weights must be a table, got 1"),
        ("weights", {"dice": "x"}, r"t\.weights\.dice must be a valid number, got 'x'"),
        ("either", True, r"t\.either\[0\] must be a valid number, got True"),
        ("either", ["a"], r"t\.either\[0\] must be a valid number, got 'a'"),
        ("either", "a", r"t\.either must be 'even' or 'odd', got 'a'"),
    ],
)
def test_a_value_of_another_type_is_refused_by_its_key(key, value, message):
    with pytest.raises(ConfigurationError, match=message):
        Table(**{"name": "a"} | {key: value})
    with pytest.raises(ConfigurationError, match=f"^{message}"):
        File(t={"name": "a"} | {key: value})


def test_what_is_missing_is_named():
    with pytest.raises(ConfigurationError, match=r"^t\.name is missing$"):
        Table(**{"count": 1})


@pytest.mark.parametrize("given", [3, "a", [], [{}], None])
def test_what_is_no_table_is_refused(given):
    with pytest.raises(ConfigurationError, match=r"^t must be a table$"):
        File(t=given)
    with pytest.raises(ConfigurationError, match=r"^t must be a table$"):
        check_keys(given, ["a"], "t")
    with pytest.raises(ConfigurationError, match=r"^the file must be a table$"):
        check_keys(given, ["a"], "")


def test_an_unknown_key_is_refused_with_a_suggestion():
    with pytest.raises(ConfigurationError, match=r"unknown key t\.nane: did you mean t\.name\?"):
        Table(**{"nane": "a"})
    with pytest.raises(ConfigurationError, match=r"unknown key t\.zzz: known: \['count', "):
        File(t={"zzz": "a"}, u={"name": 3})
    with pytest.raises(ConfigurationError, match=r"^unknown key x: known: \['t', 'u'\]$"):
        File(t={}, x={})


@pytest.mark.parametrize(
    "value", ['"https://me:hidden@a.org/b"', '["a", "s3://b/c?X-Amz-Signature=hidden"]']
)
def test_addresses_with_credentials_are_refused_and_not_printed(tmp_path, value):
    (tmp_path / "a.toml").write_text(f"[data]\nimages = {value}\n")
    with (
        pytest.raises(ConfigurationError, match=r"a\.toml: data\.images: an address") as caught,
        parsed_toml(tmp_path / "a.toml"),
    ):
        pass
    assert "hidden" not in str(caught.value)


def test_words_and_lists_of_a_union_are_told_apart():
    assert Table("a", either="odd").either == "odd"
    assert Table("a", either=[]).either == ()
    assert Table("a", either=2).either == (2.0,)


def test_a_changed_copy_is_checked_too():
    table = Table("a", names="x")
    assert dataclasses.replace(table, names="y") == Table("a", names=("y",))
    with pytest.raises(ConfigurationError, match=r"^t\.count must be a valid integer, got 'x'$"):
        dataclasses.replace(table, count="x")
    with pytest.raises(dataclasses.FrozenInstanceError):
        table.count = 4


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


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (f"a = {'[' * 5000}{']' * 5000}", "it is nested too deeply"),
        (f"a = {'9' * 5000}", "Exceeds the limit"),
    ],
)
def test_a_file_that_no_parser_takes_is_named(tmp_path, content, says):
    path = tmp_path / "a.toml"
    path.write_text(content)
    with pytest.raises(ConfigurationError, match=rf"a\.toml: {says}"), parsed_toml(path):
        pass


def test_an_error_of_who_reads_a_file_is_not_one_of_the_file(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text("")
    with pytest.raises(KeyError), parsed_toml(path):
        raise KeyError("ours")


def test_an_override_that_no_parser_takes_is_plain_text():
    document: dict = {"t": {}}
    override(document, "t.count", "9" * 5000)
    assert document == {"t": {"count": "9" * 5000}}

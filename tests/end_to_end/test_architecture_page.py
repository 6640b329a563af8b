"""docs/architecture.md names what exists: the walks its functions, the tables its folders."""

from __future__ import annotations

import re
from importlib import import_module
from operator import attrgetter

import pytest

from tests.end_to_end.conftest import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")
WALKS = re.findall(r"^## A walk .*?(?=^## )", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("walk", WALKS, ids=lambda walk: walk.partition("\n")[0][3:])
def test_a_walk_has_ten_steps_whose_functions_exist(walk):
    steps = re.findall(r"^\d+\. (.*?)(?=^\d+\. |\Z)", walk, re.MULTILINE | re.DOTALL)

    names = [re.findall(r"`((?:pipelines|segmodel)\.[\w.]+)`", step) for step in steps]

    assert len(steps) == 10
    assert [step for step, found in zip(steps, names, strict=True) if not found] == []
    for name in (name for found in names for name in found):
        module, attributes = split(name)
        assert callable(attrgetter(attributes)(import_module(module))), name


def test_there_are_two_walks():
    assert len(WALKS) == 2


def test_every_folder_of_code_is_a_room_of_the_page():
    rooms = set(re.findall(r"^\| `([\w`, ]+)` \|", PAGE, re.MULTILINE))
    named = {name.strip("` ") for room in rooms for name in room.split(",")}
    folders = {
        path.parent.name
        for package in ("pipelines", "segmodel")
        for path in (ROOT / package).glob("*/__init__.py")
    }

    assert folders - named == set()


def test_files_and_names_that_the_page_points_to_exist():
    for name in re.findall(r"`((?:pipelines|segmodel|tests|docs)/[\w./]+)`", PAGE):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"`(formats/\w+\.py)`", PAGE):
        assert (ROOT / "pipelines" / name).exists(), name


def split(name: str) -> tuple[str, str]:
    """Module and attributes of a dotted name: those of a class begin with a capital letter."""
    parts = name.split(".")
    first = next((n for n, part in enumerate(parts) if part[:1].isupper()), len(parts) - 1)
    return ".".join(parts[:first]), ".".join(parts[first:])

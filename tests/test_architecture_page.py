"""docs/architecture.md names what exists: the walks its functions, the tables its folders."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")
WALKS = re.findall(r"^## A walk .*?(?=^## )", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("walk", WALKS, ids=lambda walk: walk.partition("\n")[0][3:])
def test_a_walk_has_ten_steps_whose_functions_exist(walk):
    steps = re.findall(r"^\d+\. (.*?)(?=^\d+\. |\Z)", walk, re.MULTILINE | re.DOTALL)

    names = [re.findall(r"`((?:pipelines|segmodel)\.[\w.]+)`", step) for step in steps]

    assert len(steps) == 10
    assert [step for step, found in zip(steps, names, strict=True) if not found] == []
    missing = [name for found in names for name in found if not is_defined(name)]
    assert missing == [], "docs/architecture.md: name what is called there now"


def test_there_are_three_walks():
    assert len(WALKS) == 3


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


def is_defined(name: str) -> bool:
    """Whether a module of the repository defines this function or method; nothing is imported."""
    module, attributes = name, list[str]()
    while not (ROOT / module.replace(".", "/")).with_suffix(".py").exists() and "." in module:
        module, _, attribute = module.rpartition(".")
        attributes = [attribute, *attributes]
    body = ast.parse((ROOT / module.replace(".", "/")).with_suffix(".py").read_text("utf-8")).body
    for attribute in attributes:
        found = [node for node in body if getattr(node, "name", "") == attribute]
        if not found:
            return False
        body = getattr(found[0], "body", [])
    return True


def test_a_name_that_is_not_there_is_noticed():
    assert is_defined("segmodel.engine.engine.Engine.run_and_finish")
    assert not is_defined("segmodel.engine.engine.Engine.walk")
    assert not is_defined("segmodel.engine.engine.Motor.run")

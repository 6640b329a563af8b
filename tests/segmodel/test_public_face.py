"""What `segmodel` gives by its own name, and what it costs to import it."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import segmodel

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", segmodel.__all__)
def test_a_public_name_is_that_of_its_module(name):
    value = getattr(segmodel, name)

    assert value.__name__ == name
    assert getattr(import_module(value.__module__), name) is value
    assert name in dir(segmodel)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Predicter'"):
        segmodel.Predicter  # noqa: B018


def test_to_import_the_package_imports_nothing_else():
    program = (
        "import json, sys; before = set(sys.modules); import segmodel; "
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )

    imported = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert imported - sys.stdlib_module_names == {"segmodel"}


def test_both_packages_say_that_they_have_types():
    assert (ROOT / "segmodel" / "py.typed").is_file()
    assert (ROOT / "pipelines" / "py.typed").is_file()

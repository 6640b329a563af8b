"""Codes of failures: each is raised somewhere, and the documentation has all of them."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import pytest

from segmodel.errors import BeamsegError, ContractError, FailureCode, InputError, OutOfMemoryError

ROOT = Path(__file__).parents[2]


def test_the_page_of_failures_lists_each_code_once_and_in_order():
    page = (ROOT / "docs" / "failures.md").read_text("utf-8")
    codes = page.split("| code | what is wrong")[1]

    assert re.findall(r"^\| `(\w+)` \|", codes, re.MULTILINE) == sorted(FailureCode)


def test_each_code_is_used():
    source = "".join(
        path.read_text("utf-8")
        for folder in ("pipelines", "segmodel")
        for path in (ROOT / folder).rglob("*.py")
    )
    used = set(re.findall(r"FailureCode\.(\w+)", source))

    assert used == {code.name for code in FailureCode}


@pytest.mark.parametrize("kind", [BeamsegError, ContractError, InputError, OutOfMemoryError])
def test_an_error_from_another_process_keeps_code_and_name(kind):
    error = kind("no bands", code=FailureCode.WRONG_BANDS, name="a.tif")

    copy = pickle.loads(pickle.dumps(error))

    assert (str(copy), copy.text, copy.code) == ("a.tif: no bands", "no bands", "wrong_bands")

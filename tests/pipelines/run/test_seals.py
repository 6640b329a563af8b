"""Seals: whatever changes in a sealed file is found."""

from __future__ import annotations

import json

import pytest

from pipelines.run.seals import sealed, unsealed
from tests.pipelines.corpus import flipped

DOCUMENT = {"a": [1, 0.5], "seal": {"seal": "0123456789abcdef"}, "b": 'é"seal":'}


@pytest.mark.parametrize("indent", [None, 0, 1, 2])
def test_a_sealed_document_comes_back_and_is_json(indent):
    content = sealed(json.dumps(DOCUMENT, indent=indent))
    assert unsealed(content) == (DOCUMENT, True)
    assert {**json.loads(content), "seal": DOCUMENT["seal"]} == DOCUMENT


@pytest.mark.parametrize("indent", [None, 1])
def test_a_changed_bit_anywhere_is_found_or_leaves_an_entry_that_is_unknown(indent):
    document = {"a": 1, "b": "x"}
    content = sealed(json.dumps(document, indent=indent))
    found = set()
    for place in range(len(content)):
        for bit in range(8):
            try:
                read, is_sealed = unsealed(flipped(content, place, bit))
            except ValueError:
                continue
            found.add((is_sealed, len(read)))
    assert found == {(False, 3)}


def test_what_is_not_sealed_is_read_as_it_is():
    for text in (json.dumps(DOCUMENT, indent=2), "[]", '"seal"'):
        assert unsealed(text.encode()) == (json.loads(text), False)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff", b'"seal":', b'{"seal": "8b0f0d75aabe01bb"}']
)
def test_what_is_no_document_is_refused(content):
    with pytest.raises(ValueError):  # noqa: PT011  # of several kinds
        unsealed(content)

"""A short series of mutants; `python tests/fuzz.py --mutants 10000` runs a long one."""

from __future__ import annotations

import pytest

from tests.fuzz import fuzz

MUTANTS = 300


@pytest.mark.slow
def test_every_mutant_is_labelled_rightly_or_among_the_failures():
    summary = fuzz(MUTANTS, series=2024)

    assert summary.findings == [], str(summary)
    assert summary.mutants == MUTANTS
    assert sum(summary.labelled.values()) > MUTANTS // 4
    assert sum(summary.failed.values()) > MUTANTS // 4

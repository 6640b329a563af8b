"""A short series of flipped bits; `python -m tools.flips` has longer ones."""

from __future__ import annotations

from tests.pipelines.corpus import small_blocks
from tools.flips import Runs, flip_and_judge

SEED, FLIPS = 5, 16


def test_flipped_bits_are_found_and_mended_by_what_the_message_says(tmp_path, monkeypatch):
    small_blocks(monkeypatch, 32)
    report = flip_and_judge(Runs(tmp_path), FLIPS, SEED)
    assert report.faults == []
    assert sum(report.outcomes.values()) == FLIPS


def test_bytes_that_verify_does_not_know_of_would_be_told(tmp_path, monkeypatch):
    small_blocks(monkeypatch, 32)
    monkeypatch.setattr(Runs, "verify", lambda self, name, invalidate=False: [])
    report = flip_and_judge(Runs(tmp_path), 4, SEED)
    assert len(report.faults) >= 1
    assert all("verify finds nothing" in fault for fault in report.faults)

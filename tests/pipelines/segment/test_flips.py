"""A short series of flipped bits; `python -m tools.reliability flips` has longer ones."""

from __future__ import annotations

from tools.reliability.__main__ import measured
from tools.reliability.bench import Bench
from tools.reliability.flips import Flips, Runs

SEED, FLIPS = 5, 16


def test_flipped_bits_are_found_and_mended_by_what_the_message_says(tmp_path):
    with Flips(Bench(tmp_path), SEED) as flips:
        report = measured(flips, FLIPS)
    assert report.faults == []
    assert report.counts.total() == FLIPS


def test_bytes_that_verify_does_not_know_of_would_be_told(tmp_path, monkeypatch):
    monkeypatch.setattr(Runs, "verify", lambda self, name, invalidate=False: [])
    with Flips(Bench(tmp_path), SEED) as flips:
        report = measured(flips, 4)
    assert len(report.faults) >= 1
    assert all("verify finds nothing" in fault for _, fault in report.faults)

"""A short series of flipped bits; `python -m tools.reliability flips` has longer ones."""

from __future__ import annotations

from tools.reliability import quick
from tools.reliability.__main__ import measured
from tools.reliability.bench import Bench
from tools.reliability.flips import BITS, Flips, Runs, flip

SEED = 5


def test_flipped_bits_are_found_and_mended_by_what_the_message_says(tmp_path):
    with Flips(Bench(tmp_path), SEED) as flips:
        report = measured(flips, BITS)
    assert report.faults == []
    assert report.counts.total() == BITS


def test_bytes_that_verify_does_not_know_of_would_be_told(tmp_path, monkeypatch):
    for module, name, value in quick.VALUES:
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(quick.model, "load", quick.load)
    runs = Runs(tmp_path)
    runs.make()
    monkeypatch.setattr(Runs, "verify", lambda self, name, invalidate=False: [])
    outcomes = [flip(runs, f"{SEED}-{bit}") for bit in range(4)]
    faults = [fault for outcome in outcomes for fault in outcome.faults]
    assert len(faults) >= 1
    assert all("verify finds nothing" in fault for fault in faults)

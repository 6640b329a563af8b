"""The speed of a model, by a clock that only the model moves."""

from __future__ import annotations

import numpy as np

from segmodel.evaluation import speed
from tests.fakes import contract


class Clocked:
    """Takes a second for a megapixel by float32, and half of it by another type."""

    contract = contract(value_range=(10, 20))

    def __init__(self) -> None:
        self.now, self.compute = 0.0, "float32"
        self.seen: list[np.ndarray] = []

    def computing(self, compute: str) -> Clocked:
        self.compute = compute
        return self

    def labels(self, images: np.ndarray) -> None:
        self.seen.append(images)
        self.now += images[..., 0].size / 1e6 / (1 if self.compute == "float32" else 2)


def test_rates_are_of_whole_calls_by_size_and_compute_type(monkeypatch):
    model = Clocked()
    monkeypatch.setattr(speed.time, "perf_counter", lambda: model.now)
    monkeypatch.setattr(speed, "compute_types", lambda has_gpu: ("float32", "bfloat16"))
    found = dict(speed.speeds(model, (100, 50), seconds=0.015))
    assert {side: {k: round(v, 9) for k, v in rates.items()} for side, rates in found.items()} == {
        100: {"float32": 1.0, "bfloat16": 2.0},
        50: {"float32": 1.0, "bfloat16": 2.0},
    }
    assert model.seen[0].shape == (1, 100, 100, 3)
    assert 10 <= model.seen[0].min() <= model.seen[0].max() <= 20


def test_no_further_size_begins_when_the_time_is_up(monkeypatch):
    model = Clocked()
    monkeypatch.setattr(speed.time, "perf_counter", lambda: model.now)
    monkeypatch.setattr(speed, "compute_types", lambda has_gpu: ("float32",))
    found = speed.speeds(model, (100, 200, 300), seconds=0.0, max_seconds=0.05)
    assert [side for side, _ in found] == [100, 200]

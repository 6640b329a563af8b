"""Tasks of Dask end when their client is gone; see `tests/engines/test_dask.py` for a real one."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from pipelines.run.dask_tasks import end_with_client, is_abandoned
from segmodel.errors import TransientError


def fake_worker(*states: str, data: tuple[str, ...] = ()) -> SimpleNamespace:
    """A worker without a nanny, whose running tasks are in these states; it asks for the first."""
    tasks = {f"task-{n}": SimpleNamespace(state=state) for n, state in enumerate(states)}
    state = SimpleNamespace(tasks=tasks, executing=[*tasks.values()])
    return SimpleHashable(
        nanny=None, data=dict.fromkeys(data), state=state, get_current_task=lambda: "task-0"
    )


class SimpleHashable(SimpleNamespace):
    __hash__ = object.__hash__


@pytest.mark.parametrize(
    ("states", "data", "expected"),
    [
        ((), (), False),
        (("executing",), (), False),
        (("cancelled",), (), True),
        (("cancelled", "cancelled"), (), True),
        (("cancelled", "executing"), (), False),
        (("cancelled",), ("a result",), False),
    ],
)
def test_a_worker_is_abandoned_if_all_that_it_does_is_cancelled(states, data, expected):
    assert is_abandoned(fake_worker(*states, data=data)) is expected


@pytest.mark.parametrize("states", [("cancelled", "executing"), ()])
def test_a_task_that_is_cancelled_begins_no_unit(states, monkeypatch):
    has_worker(fake_worker(*states), monkeypatch)
    with pytest.raises(TransientError, match="the task is cancelled: its launcher is gone"):
        end_with_client()


def test_a_task_that_is_waited_for_goes_on(monkeypatch):
    has_worker(fake_worker("executing", "cancelled"), monkeypatch)
    assert end_with_client() is None


def test_a_process_that_is_no_worker_of_dask_goes_on(monkeypatch):
    monkeypatch.delitem(sys.modules, "distributed", raising=False)
    assert end_with_client() is None
    has_worker(None, monkeypatch)
    assert end_with_client() is None


def has_worker(worker: SimpleNamespace | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have Dask say that the test is a task of this worker, or of none."""

    def get_worker() -> SimpleNamespace:
        if worker is None:
            raise ValueError("no worker found")
        return worker

    module = ModuleType("distributed")
    module.get_worker = get_worker
    monkeypatch.setitem(sys.modules, "distributed", module)

"""Fixtures of the tests of `pipelines`."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.formats.work import Work
from pipelines.storage import clients
from pipelines.storage.clients.retry import RetryingStore
from tests.pipelines.corpus import make_work, small_blocks, write_model_folder
from tests.pipelines.memory_store import MemoryClient


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.run.attempts.RETRY_SECONDS", 0)


@pytest.fixture
def several_tiles_and_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small scenes have several blocks, and are counted in several tiles."""
    monkeypatch.setattr("pipelines.scenes.counts.TILE_PX", 48)
    small_blocks(monkeypatch, 128)


@pytest.fixture
def work(tmp_path: Path) -> Work:
    """A run directory at `tmp_path / "run"` and the brightness fake."""
    return make_work(tmp_path / "run")


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    """A model that can be planned with but not loaded."""
    return write_model_folder(tmp_path / "model")


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> MemoryClient:
    """All stores are this one, which waits for nothing before it asks again."""
    made = MemoryClient()
    store = RetryingStore(made, sleep=lambda seconds: None)
    local = clients._store
    monkeypatch.setattr(clients, "_store", lambda scheme: store if scheme else local(scheme))
    return made

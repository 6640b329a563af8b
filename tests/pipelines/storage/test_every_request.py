"""Each kind of request to a store fails in each way: the first, one in the middle, and the last."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from pipelines.storage import clients, filesystem
from pipelines.storage.clients import amazon, google, retry
from tests.services.buckets import Bucket
from tests.services.faults import KINDS, WRONG, Plan

CONTENT = os.urandom(3000)
NAMES = [f"o{number}" for number in range(5)]


@pytest.fixture(autouse=True)
def _small_and_quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every action takes several requests, none of which waits for long."""
    monkeypatch.setattr(amazon, "PAGE", 2)
    monkeypatch.setattr(google, "PAGE", 2)
    monkeypatch.setattr(retry, "FIRST_SECONDS", 0.001)
    clients._store.cache_clear()
    yield
    clients._store.cache_clear()


def read(root: str, scratch: str) -> object:
    whole = filesystem.read_bytes(f"{root}/in/o0", entry_of(root, "o0"))
    with filesystem.open_stream(f"{root}/in/o1", entry_of(root, "o1"), 1000) as stream:
        return whole, stream.read()


def entry_of(root: str, name: str) -> tuple[int, str]:
    found = filesystem.stat(f"{root}/in/{name}")
    assert found is not None
    return found.size, found.version


def names(root: str, scratch: str) -> object:
    return list(filesystem.names_below(f"{root}/in"))


def sizes(root: str, scratch: str) -> object:
    return [filesystem.size_of(f"{root}/in/{name}") for name in [*NAMES, "missing"]]


def create(root: str, scratch: str) -> object:
    made = [filesystem.create(f"{root}/new/{name}", CONTENT, scratch) for name in NAMES[:3]]
    again = filesystem.create(f"{root}/in/o0", b"other", scratch)
    return made, again, [filesystem.read_bytes(f"{root}/new/{name}") for name in NAMES[:3]]


def write(root: str, scratch: str) -> object:
    written = [filesystem.write_bytes(f"{root}/new/{n}", CONTENT, scratch) for n in NAMES[:3]]
    return [entry.size for entry in written]


def remove(root: str, scratch: str) -> object:
    filesystem.remove_below(f"{root}/in")
    return list(filesystem.names_below(f"{root}/in"))


ACTIONS: dict[Callable[[str, str], object], object] = {
    read: (CONTENT, CONTENT),
    names: NAMES,
    sizes: [*[len(CONTENT)] * 5, None],
    create: ([True] * 3, False, [CONTENT] * 3),
    write: [len(CONTENT)] * 3,
    remove: [],
}


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.__name__)
def test_one_request_that_fails_in_whatever_way_changes_nothing(
    faulty_bucket: Bucket, tmp_path, action
):
    bucket, scratch = faulty_bucket, str(tmp_path)

    def prepare() -> None:
        bucket.faults.off()
        for name in bucket.names(""):
            bucket.remove(name)
        for name in NAMES:
            bucket.put(f"in/{name}", CONTENT)

    # A client may ask for more the first time that it is used.
    for _ in range(2):
        prepare()
        bucket.faults.off()
        assert action(bucket.uri, scratch) == ACTIONS[action]
    requests = bucket.faults.counts.total()
    for number in sorted({0, requests // 2, requests - 1}):
        for kind in (*KINDS, *WRONG):
            prepare()
            plan = Plan(share=0, only=number, kinds=(kind,), slow_seconds=0.01)
            bucket.faults.follow(plan)
            assert action(bucket.uri, scratch) == ACTIONS[action], (number, kind)
            assert bucket.faults.count(kind) == 1

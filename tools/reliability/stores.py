"""Runs whose store fails one request: each kind, in each way, early, in the middle and late."""

from __future__ import annotations

import random
import signal
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import NamedTuple, Self

from tests.end_to_end.conftest import files_of
from tests.services.buckets import Bucket, Service
from tests.services.gcs import gcs_emulator, gcs_environment
from tests.services.s3 import s3_emulator, s3_environment
from tools.reliability.bench import (
    CLOCKED,
    INPUTS,
    MODEL,
    QUICK,
    ZONES,
    Ended,
    Harm,
    Outcome,
    differences,
    words,
)
from tools.reliability.requests import AmazonTrap, Fault, GoogleTrap, Trap, ways_of

# Emulator, variables for clients, and gateway of each store.
STORES = {
    "gs": (gcs_emulator, gcs_environment, GoogleTrap),
    "s3": (s3_emulator, s3_environment, AmazonTrap),
}
# Folder of the run in its bucket.
RUN = "run"
FIRST, AGAIN = "first run", "repeated run"
PLACES = (0.0, 1.0, 0.5)
# A late answer must not be waited for as long as a real one may be.
HOOK = f"""{QUICK}
from pipelines.storage.clients import amazon, google
amazon.SECONDS, google.SECONDS = 1, 1.0
google._ONCE["timeout"] = 1.0
"""


class Case(NamedTuple):
    """A store, whether the run is there already, and the request that fails."""

    store: str
    state: str
    fault: Fault


class Stores(Harm):
    """A trial is a run whose store fails one request, and is then repeated without faults.

    The seed gives the order of trials. Each run is in a bucket of its own; those that end as they
    should are the finished runs of later trials.
    """

    name = "stores"

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        self._inputs: dict[str, Bucket] = {}
        self._upstream: dict[str, str] = {}
        self._finished: dict[str, list[Bucket]] = {store: [] for store in STORES}
        self._expected: dict[str, dict[str, str]] = {}
        self._counts: dict[tuple[str, str], Counter[str]] = {}
        self._cases: list[Case] = []
        for store in STORES:
            self._prepare(store)
        random.Random(self.seed).shuffle(self._cases)
        self.trials = self.count = len(self._cases)
        return self

    def _prepare(self, store: str) -> None:
        """Start a store, put the inputs there, and count the requests of runs without faults."""
        emulator, environment, trap = STORES[store]
        self._upstream[store] = self._stack.enter_context(emulator())
        gateway = self._stack.enter_context(trap(self._upstream[store]))
        service = Service(store, gateway.url)
        bucket = Bucket(service, service.create_bucket(), environment(gateway.url))
        self._inputs[store] = bucket
        for name, content in files_of(self.bench.folder).items():
            if name.partition("/")[0] in (*INPUTS, ZONES, MODEL):
                bucket.put(f"in/{name}", content)
        run = self._new_run(store)
        for state in (FIRST, AGAIN):
            ended, sprung = self._run(run)
            if ended.status:
                raise RuntimeError(ended.errors)
            self._counts[store, state] = sprung.counts
            places = PLACES if state == FIRST else PLACES[:1]
            self._cases += [
                Case(store, state, Fault(kind, way, place))
                for kind in sorted(sprung.counts)
                for way in ways_of(kind)
                for place in places[: sprung.counts[kind]]
            ]
        self._expected[store] = files_in(run)
        self._finished[store].append(run)

    def __exit__(self, *caught: object) -> None:
        self._stack.close()

    def trial(self, number: int) -> list[Outcome]:
        """A run that meets a fault, and its repetition without one."""
        case = store, state, fault = self._cases[number]
        run = self._new_run(store) if state == FIRST else self._finished_run(store)
        ended, trap = self._run(run, case)
        outcome = Outcome(f"{store}, {state}: {fault.kind}: {fault.way}", "same bytes")
        if not trap.is_sprung:
            outcome.came = "no such request"
        if ended.status != -signal.SIGKILL:
            outcome.faults += ended.faults
        files, expected = files_in(run), self._expected[store]
        if fault.way == "404":
            # What is not there is left out of the picture, which is no fault of the run.
            files["preview.png"] = expected["preview.png"]
        if not ended.status or "_SUCCESS" in files:
            outcome.faults += differences(files, expected)
        if ended.status:
            outcome.came = f"status {ended.status}, then same bytes"
            with temporary() as variables:
                again = self.bench.healed(self._line(run), run.environment | variables)
            if again.status:
                outcome.faults.append(f"repeated: {again.status}: {again.errors}")
            else:
                outcome.faults += differences(files_in(run), expected)
        if files_in(run) | {CLOCKED: ""} == expected | {CLOCKED: ""}:
            self._finished[store].append(run)
        return [outcome]

    def _new_run(self, store: str) -> Bucket:
        """An empty bucket."""
        inputs = self._inputs[store]
        return replace(inputs, name=inputs.service.create_bucket())

    def _finished_run(self, store: str) -> Bucket:
        """A bucket with a finished run, which nobody else uses."""
        try:
            return self._finished[store].pop()
        except IndexError:
            run = self._new_run(store)
            self._run(run)
            return run

    def _line(self, run: Bucket) -> list[str]:
        return words(f"{run.uri}/{RUN}", f"{self._inputs[run.service.kind].uri}/in")

    def _run(self, run: Bucket, case: Case | None = None) -> tuple[Ended, Trap]:
        """A run through a proxy."""
        store = run.service.kind
        _, environment, kind = STORES[store]
        proxy = kind(self._upstream[store])
        if case is not None:
            count = self._counts[store, case.state][case.fault.kind]
            proxy = kind(self._upstream[store], case.fault, count)
        with proxy as trap, temporary() as variables:
            process = self.bench.start(self._line(run), HOOK, environment(trap.url) | variables)
            trap.kill = process.kill
            ended = self.bench.ended(process)
        return ended, trap


def files_in(run: Bucket) -> dict[str, str]:
    """Digests of the files of the run in a bucket."""
    return {name.removeprefix(f"{RUN}/"): digest for name, digest in run.digests().items()}


@contextmanager
def temporary() -> Iterator[dict[str, str]]:
    """A new folder for temporary files: models are kept there, and would not be read anew."""
    with tempfile.TemporaryDirectory(prefix="reliability-") as folder:
        yield {"TMPDIR": folder}

"""Runs whose store fails one request: each kind, in each way, early, in the middle and late."""

from __future__ import annotations

import random
import shutil
import signal
from collections import Counter
from contextlib import ExitStack
from typing import NamedTuple, Self

from tests.end_to_end.conftest import files_of
from tests.services.buckets import Bucket, Service
from tests.services.gcs import gcs_environment, gcs_server
from tests.services.s3 import s3_environment, s3_server
from tools.reliability.bench import INPUTS, MODEL, ZONES, Bench, Ended, Outcome, differences, words
from tools.reliability.requests import Fault, Trap, ways_of

STORES = {"gs": (gcs_server, gcs_environment), "s3": (s3_server, s3_environment)}
FIRST, AGAIN = "first run", "repeated run"
PLACES = (0.0, 1.0, 0.5)
# A late answer must not be waited for as long as a real one may be.
HOOK = """
from pipelines.storage.clients import amazon, google
amazon.SECONDS, google.SECONDS = 1, 1.0
google._ONCE["timeout"] = 1.0
"""


class Case(NamedTuple):
    """A store, whether the run is there already, and the request that fails."""

    store: str
    state: str
    fault: Fault


class Stores:
    """A trial is a run whose store fails one request, and is then repeated without faults.

    Args:
        bench: Inputs.
        seed: Of the order of trials.
    """

    name, is_parallel = "stores", True

    def __init__(self, bench: Bench, seed: int) -> None:
        self._bench, self._seed = bench, seed
        self._stack = ExitStack()
        self._buckets: dict[str, Bucket] = {}
        self._expected: dict[str, dict[str, bytes]] = {}
        self._counts: dict[tuple[str, str], Counter[str]] = {}
        self._cases: list[Case] = []

    def __enter__(self) -> Self:
        for store, (server, environment) in STORES.items():
            service = Service(store, self._stack.enter_context(server()))
            bucket = Bucket(service, service.create_bucket(), environment(service.url))
            self._buckets[store] = bucket
            for name, content in files_of(self._bench.folder).items():
                if name.partition("/")[0] in (*INPUTS, ZONES, MODEL):
                    bucket.put(f"in/{name}", content)
            for state in (FIRST, AGAIN):
                ended, trap = self._run(store, "whole")
                if ended.status:
                    raise RuntimeError(ended.errors)
                self._counts[store, state] = trap.counts
                places = PLACES if state == FIRST else PLACES[:1]
                self._cases += [
                    Case(store, state, Fault(kind, way, place))
                    for kind in sorted(trap.counts)
                    for way in ways_of(kind)
                    for place in places[: trap.counts[kind]]
                ]
            self._expected[store] = self._files(store, "whole")
        random.Random(self._seed).shuffle(self._cases)
        self.trials = self.count = len(self._cases)
        return self

    def __exit__(self, *caught: object) -> None:
        self._stack.close()

    def trial(self, number: int) -> list[Outcome]:
        """A run that meets a fault, and its repetition without one."""
        case = store, state, fault = self._cases[number]
        name = f"run-{number}"
        if state == AGAIN:
            self._run(store, name)
        ended, trap = self._run(store, name, case)
        harm = f"{store}, {state}: {fault.kind}: {fault.way}"
        if not trap.is_sprung:
            return [Outcome(harm, "no such request")]
        outcome = Outcome(harm, "same bytes")
        if ended.status != -signal.SIGKILL:
            outcome.faults += ended.faults
        files = self._files(store, name)
        if fault.way == "404":
            # What is not there is left out of the picture, which is no fault of the run.
            files["preview.png"] = self._expected[store]["preview.png"]
        if not ended.status or "_SUCCESS" in files:
            outcome.faults += differences(files, self._expected[store])
        if ended.status:
            outcome.came = f"status {ended.status}, then same bytes"
            bucket = self._buckets[store]
            variables = bucket.environment | self._temporary(name)
            again = self._bench.healed(self._line(store, name), variables)
            if again.status:
                outcome.faults.append(f"repeated: {again.status}: {again.errors}")
            else:
                outcome.faults += differences(self._files(store, name), self._expected[store])
        for found in self._buckets[store].names(f"{name}/"):
            self._buckets[store].remove(found)
        shutil.rmtree(self._temporary(name)["TMPDIR"])
        return [outcome]

    def _line(self, store: str, name: str) -> list[str]:
        bucket = self._buckets[store]
        return words(f"{bucket.uri}/{name}", f"{bucket.uri}/in")

    def _temporary(self, name: str) -> dict[str, str]:
        """A folder for temporary files: models are kept there, and would not be read anew."""
        folder = self._bench.folder / f"tmp-{name}"
        folder.mkdir(exist_ok=True)
        return {"TMPDIR": str(folder)}

    def _run(self, store: str, name: str, case: Case | None = None) -> tuple[Ended, Trap]:
        """A run through a proxy."""
        url, environment = self._buckets[store].service.url, STORES[store][1]
        proxy = Trap(url)
        if case is not None:
            count = self._counts[store, case.state][case.fault.kind]
            proxy = Trap(url, case.fault, count)
        with proxy as trap:
            variables = environment(trap.url) | self._temporary(name)
            process = self._bench.start(self._line(store, name), HOOK, variables)
            trap.kill = process.kill
            ended = self._bench.ended(process)
        return ended, trap

    def _files(self, store: str, name: str) -> dict[str, bytes]:
        bucket, prefix = self._buckets[store], f"{name}/"
        return {found.removeprefix(prefix): bucket.get(found) for found in bucket.names(prefix)}

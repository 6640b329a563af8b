"""The real command on a Dask cluster of two worker processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.end_to_end.conftest import environment
from tests.end_to_end.watched import has_open_file, is_alive, wait_until
from tests.engines.conftest import RUN_SECONDS, UNITS, Corpus

START_SECONDS = 60
PROGRAM = """
import sys, json
from dask.distributed import LocalCluster
if __name__ == "__main__":
    cluster = LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
    )
    print(cluster.scheduler_address, *(w.pid for w in cluster.workers.values()), flush=True)
    sys.stdin.read()
    cluster.close()
"""


@dataclass(frozen=True)
class Cluster:
    """Where the scheduler is, and the process ids of the two workers."""

    address: str
    workers: tuple[int, ...]

    def options(self) -> list[str]:
        return [
            "--runner=DaskRunner",
            f"--dask_client_address={self.address}",
            "--dask_npartitions=8",
        ]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    pytest.importorskip("dask.distributed", reason="Dask is not installed: pip install .[dask]")
    script = tmp_path / "cluster.py"
    script.write_text(PROGRAM)
    with (tmp_path / "cluster.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment(),
            text=True,
            start_new_session=True,
        )
    try:
        address, *workers = process.stdout.readline().split()
        yield Cluster(address, tuple(map(int, workers)))
    finally:
        process.stdin.close()
        try:
            process.wait(20)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def attempt_of(corpus: Corpus, name: str) -> dict:
    return json.loads((corpus.folder / name / "summary.json").read_text())["this_attempt"]


def test_files_on_dask_are_those_of_the_local_run(corpus: Corpus, cluster: Cluster):
    assert corpus.run("dask", *cluster.options()) == 0, corpus.log("dask").read_text()
    assert corpus.differences("dask") == []
    counts = attempt_of(corpus, "dask")
    assert (counts["units_done"], counts["units_unfinished"]) == (UNITS, 0)


def test_a_dask_worker_that_is_killed_leaves_no_hole(corpus: Corpus, cluster: Cluster):
    commits = corpus.folder / "dask-killed" / "commits"
    process = corpus.start("dask-killed", *cluster.options())
    until = time.monotonic() + RUN_SECONDS
    while not any(commits.glob("*.json")) and process.poll() is None and time.monotonic() < until:
        time.sleep(0.005)
    done = len(list(commits.glob("*.json")))
    for worker in cluster.workers:
        os.kill(worker, signal.SIGKILL)
    try:
        status = process.wait(RUN_SECONDS)
    finally:
        process.kill()
    assert 0 < done < UNITS, "the workers were not killed in mid-run"
    assert status == 0, corpus.log("dask-killed").read_text()
    assert corpus.differences("dask-killed") == []


def test_dask_workers_of_a_killed_launcher_do_no_more_and_the_cluster_stays(
    corpus: Corpus, cluster: Cluster, hanging_savedmodel: Path
):
    scratch = corpus.folder / "dask-left" / "tmp"
    process = corpus.start("dask-left", *cluster.options(), f"--model={hanging_savedmodel}")
    # A unit has temporary files open while it is done, and none of these ends.
    busy: list[int] = []

    def is_any_busy() -> bool:
        busy[:] = [worker for worker in cluster.workers if has_open_file(worker, scratch)]
        return bool(busy)

    wait_until(is_any_busy, process)
    process.kill()
    process.wait()
    wait_until(lambda: not any(map(is_alive, busy)))
    assert corpus.run("dask-next", *cluster.options()) == 0, corpus.log("dask-next").read_text()
    assert corpus.differences("dask-next") == []


def test_an_error_of_a_dask_worker_is_one_line(corpus: Corpus, cluster: Cluster, broken_model):
    status = corpus.run("dask-broken", *cluster.options(), f"--model={broken_model}")
    assert status == 2, corpus.log("dask-broken").read_text()
    told = corpus.log("dask-broken").read_text()
    assert "beamseg: " in told
    assert "Traceback" not in told
    assert not (corpus.folder / "dask-broken" / "_SUCCESS").exists()

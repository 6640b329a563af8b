"""The real command on a real Flink, with Python workers in processes of their own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines.conftest import RUN_SECONDS, UNITS, Corpus, ended, kill_with_children
from tests.engines.flink_cluster import Cluster, flink


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with flink(tmp_path_factory.mktemp("flink")) as running:
        yield running


def told(corpus: Corpus, name: str, cluster: Cluster) -> str:
    """All that was printed, for a failure."""
    return corpus.log(name).read_text("utf-8", "replace") + cluster.logs()


def run_to_end(process: subprocess.Popen[bytes], corpus: Corpus, name: str, cluster: Cluster):
    try:
        status = ended(process, RUN_SECONDS)
    except subprocess.TimeoutExpired:
        pytest.fail(f"{name} hangs:\n{told(corpus, name, cluster)}")
    assert status == 0, told(corpus, name, cluster)


def summary_of(corpus: Corpus, name: str) -> dict:
    return json.loads((corpus.folder / name / "summary.json").read_text())


def last_job(cluster: Cluster) -> dict:
    jobs = cluster.ask("jobs/overview")["jobs"]
    return max(jobs, key=lambda job: job["start-time"])


def test_files_on_flink_are_those_of_the_local_run(corpus: Corpus, cluster: Cluster):
    run_to_end(corpus.start("flink", *cluster.options()), corpus, "flink", cluster)
    assert last_job(cluster)["state"] == "FINISHED"
    assert corpus.differences("flink") == []
    summary = summary_of(corpus, "flink")
    assert summary["complete"]
    assert summary["this_attempt"]["units_done"] == UNITS


def test_flink_goes_on_when_a_python_worker_is_killed(corpus: Corpus, cluster: Cluster):
    commits = corpus.folder / "killed" / "commits"
    process = corpus.start("killed", *cluster.options())
    until = time.monotonic() + RUN_SECONDS
    while not any(commits.glob("*.json")) and process.poll() is None and time.monotonic() < until:
        time.sleep(0.005)
    workers = cluster.workers()
    if workers:
        os.kill(workers[0], signal.SIGKILL)
    done = len(list(commits.glob("*.json")))
    run_to_end(process, corpus, "killed", cluster)

    assert len(workers) == 2
    assert 0 < done < UNITS, "the worker was not killed in mid-run"
    job = last_job(cluster)
    assert job["state"] == "FINISHED"
    failures = cluster.ask(f"jobs/{job['jid']}/exceptions")["exceptionHistory"]["entries"]
    assert failures, "Flink has not noticed that a worker was killed"
    assert corpus.differences("killed") == []
    assert (corpus.folder / "killed" / "_SUCCESS").exists()
    summary = summary_of(corpus, "killed")
    assert (summary["complete"], summary["exit_status"]) == (True, 0)
    # What was done before the kill is not done again.
    assert summary["this_attempt"]["units_skipped"] >= 1
    assert summary["this_attempt"]["units_done"] + summary["this_attempt"]["units_skipped"] == UNITS


def test_the_job_server_ends_with_a_launcher_that_is_killed(corpus: Corpus, cluster: Cluster):
    kill_with_children(corpus.start("left", *cluster.options()), "java")
    assert cluster.ask("overview")["taskmanagers"] == 1


def test_an_error_of_a_worker_on_flink_is_one_line(
    corpus: Corpus, cluster: Cluster, broken_model: Path
):
    name = "broken"
    status = corpus.run(name, *cluster.options(), f"--model={broken_model}")
    printed = corpus.log(name).read_text()
    assert status == 2, told(corpus, name, cluster)
    assert re.search(
        r"^beamseg: .*is not a SavedModel: saved_model.pb is damaged", printed, re.M
    ), printed
    assert "Traceback" not in printed
    assert "org.apache" not in printed
    assert last_job(cluster)["state"] == "FAILED"
    assert not (corpus.folder / name / "_SUCCESS").exists()

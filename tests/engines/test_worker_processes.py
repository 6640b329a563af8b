"""Worker processes of the in-process engine: the same files, and no waiting for a dead one."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from tests.engines.conftest import RUN_SECONDS, UNITS, Corpus

OPTIONS = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]


def workers_of(group: int) -> list[int]:
    """Python processes of a process group that do Beam's work."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if os.getpgid(int(entry.name)) == group and words[1:3] == [
                b"-m",
                b"apache_beam.runners.worker.sdk_worker_main",
            ]:
                found.append(int(entry.name))
        except OSError:
            continue
    return sorted(found)


def test_a_killed_worker_process_ends_the_run_and_the_next_one_goes_on(corpus: Corpus):
    commits = corpus.folder / "processes" / "commits"
    process = corpus.start("processes", *OPTIONS)
    until = time.monotonic() + RUN_SECONDS
    while not any(commits.glob("*.json")) and process.poll() is None and time.monotonic() < until:
        time.sleep(0.005)
    workers = workers_of(process.pid)
    if workers:
        os.kill(workers[0], signal.SIGKILL)
    try:
        status = process.wait(60)
        until = time.monotonic() + 20
        while (left := workers_of(process.pid)) and time.monotonic() < until:
            time.sleep(0.1)
    finally:
        for pid in [*workers_of(process.pid), *([process.pid] if process.poll() is None else [])]:
            os.kill(pid, signal.SIGKILL)
    printed = corpus.log("processes").read_text()
    assert len(workers) == 2, printed
    assert status == 4, printed
    assert "Run the same command again" in printed
    assert left == []
    assert 0 < len(list(commits.glob("*.json"))) < UNITS

    assert corpus.run("processes") == 0
    assert corpus.differences("processes") == []

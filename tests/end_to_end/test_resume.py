"""A run that is interrupted and started again ends as one that was not."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import forked
from tests.end_to_end.conftest import environment
from tests.end_to_end.runs import Books, Runs, records, write_inputs


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, brightness_savedmodel: Path) -> Runs:
    """Image files, 45 shards of three containers, and a scene of four blocks."""
    folder = tmp_path_factory.mktemp("resume")
    write_inputs(folder, images=60, shards=15)
    return Runs(folder, brightness_savedmodel, forked.Popen)


@pytest.fixture(scope="module")
def expected(runs: Runs) -> dict[str, bytes]:
    """Files of the run `whole`, which is not interrupted."""
    runs.finish("whole")
    return runs.files("whole")


def run_until(runs: Runs, name: str, units: int, number: signal.Signals) -> int:
    """Start a run and send it a signal once so many units are done; gives its exit status."""
    process = runs.start(name)
    while process.poll() is None and len(records(runs.folder / name)) < units:
        time.sleep(0.002)
    process.send_signal(number)
    return process.wait(timeout=60)


def test_outputs_that_are_written_again_do_not_go_unnoticed(runs, expected):
    books = Books(runs.folder / "whole")
    assert books.look() == []
    path = runs.folder / "whole" / "labels" / "photos" / "image-001.png.png"
    path.write_bytes(path.read_bytes())

    assert books.look() == ["labels/photos/image-001.png.png was written again"]
    assert runs.differences("whole", expected) == []


def test_an_interrupted_run_says_so_in_its_exit_status_and_can_be_resumed(runs, expected):
    name = "interrupted"
    books = Books(runs.folder / name)
    for number, units, status in ((signal.SIGINT, 10, 130), (signal.SIGTERM, 25, 143)):
        assert run_until(runs, name, units, number) == status
        assert not (runs.folder / name / "_SUCCESS").exists()
        assert books.look() == []

    runs.finish(name)

    assert books.look() + runs.differences(name, expected) == []


def test_a_finished_run_is_left_as_it_is_and_never_imports_tensorflow(runs, expected):
    books = Books(runs.folder / "whole")
    books.look()
    program = (
        "import sys; from pipelines.commands import segment; status = segment.run(sys.argv[1:]); "
        "print(status, 'tensorflow' in sys.modules)"
    )

    done = subprocess.run(
        [sys.executable, "-c", program, *runs.options("whole")],
        cwd=runs.folder,
        env=environment(),
        capture_output=True,
        text=True,
    )

    assert done.stdout.splitlines()[-1] == "0 False", done.stderr
    assert books.look() + runs.differences("whole", expected) == []

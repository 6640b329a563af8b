"""The example for Airflow, run by Airflow itself: what becomes of a task for each exit status."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipelines.cli.parser import parse
from pipelines.commands.segment import parser
from pipelines.segment.options import segment_options
from tests.end_to_end.conftest import environment, noise, write_images
from tests.end_to_end.passing_fault import unreachable_for_an_attempt
from tests.end_to_end.runs import records
from tests.end_to_end.watched import is_alive, wait_until, write_shards
from tests.orchestrators.conftest import (
    EXAMPLES,
    outside,
    pipelines_of,
    program,
    run_outside,
    shown,
)

DAG = "beamseg_segment"
SHARDS = 60


class Airflow:
    """Airflow with a database of its own, and the folder of the example.

    Args:
        home: Of Airflow.
        program: The command.
    """

    def __init__(self, home: Path, program: Path) -> None:
        self.program = program
        self.variables = {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(EXAMPLES / "airflow"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
            "AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY": "1",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "false",
            "NO_COLOR": "1",
        }
        made = run_outside([program, "db", "migrate"], **self.variables)
        assert made.returncode == 0, made.stdout

    def words(self, conf: dict[str, Any]) -> list[str]:
        """The command of the example's page, which runs the DAG once, with other values."""
        name, *words, values = shown("airflow")
        assert (name, words) == ("airflow", ["dags", "test", DAG, "-c"])
        assert set(json.loads(values)) <= set(conf)
        return [str(self.program), *words, json.dumps(conf)]

    def test_dag(self, conf: dict[str, Any]) -> subprocess.CompletedProcess[str]:
        """Run the DAG once, to its end."""
        return run_outside(self.words(conf), **self.variables)

    def start(self, conf: dict[str, Any], log: Path) -> subprocess.Popen[bytes]:
        """Run the DAG once, and leave it running."""
        with log.open("wb") as stream:
            return subprocess.Popen(
                self.words(conf),
                env=outside() | self.variables,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Airflow:
    return Airflow(tmp_path_factory.mktemp("airflow"), program("airflow"))


@pytest.fixture
def conf(tmp_path: Path, brightness_savedmodel: Path) -> dict[str, Any]:
    return {
        "input": [str(tmp_path / "shards"), str(tmp_path / "photos")],
        "model": str(brightness_savedmodel),
        "output": str(tmp_path / "run"),
    }


def attempts(printed: str) -> list[dict[str, Any]]:
    """What `--json` said at the end of each attempt."""
    begin = '{"beamseg":'
    lines = [line for line in printed.splitlines() if begin in line and "Task failed" not in line]
    decoder = json.JSONDecoder()
    return [decoder.raw_decode(line[line.index(begin) :])[0] for line in lines]


def starts(printed: str) -> int:
    return printed.count("Running command: ")


LOAD = """
import json
from airflow.dag_processing.dagbag import DagBag
bag = DagBag()
print(json.dumps({
    "errors": bag.import_errors,
    "tasks": {name: dag.task_ids for name, dag in bag.dags.items()},
    "params": sorted(bag.dags["beamseg_segment"].params),
    "retries": bag.dags["beamseg_segment"].get_task("segment").retries,
}))
"""


def test_the_dag_is_loaded_without_errors(airflow):
    python = airflow.program.parent / "python"

    done = run_outside([python, "-c", LOAD], **airflow.variables)

    assert json.loads(done.stdout.splitlines()[-1]) == {
        "errors": {},
        "tasks": {DAG: ["segment"]},
        "params": ["input", "max_failures", "model", "output", "retry_failures"],
        "retries": 3,
    }


def test_too_many_failed_images_fail_the_task_until_the_budget_or_the_images_change(
    airflow, conf, tmp_path
):
    write_shards(tmp_path / "shards", 2)
    write_images(tmp_path / "photos", 3)
    broken = tmp_path / "photos" / "broken.png"
    broken.write_text("this is no image")

    over = airflow.test_dag(conf)

    assert over.returncode == 1
    assert starts(over.stdout) == 1
    (said,) = attempts(over.stdout)
    assert (said["reason"], said["images"], said["failed_images"]) == ("over_budget", 11, 1)
    assert not (tmp_path / "run" / "_SUCCESS").exists()

    within = airflow.test_dag(conf | {"max_failures": "10%"})

    assert within.returncode == 0, within.stdout
    (said,) = attempts(within.stdout)
    assert (said["reason"], said["this_attempt"]["units_done"]) == ("complete", 0)
    assert (tmp_path / "run" / "_SUCCESS").exists()

    Image.fromarray(noise(5, 30, 30)).save(broken)
    mended = airflow.test_dag(conf | {"retry_failures": True})

    assert mended.returncode == 0, mended.stdout
    (said,) = attempts(mended.stdout)
    assert (said["reason"], said["images"], said["failed_images"]) == ("complete", 12, 0)
    attempt = said["this_attempt"]
    assert (attempt["units_done"], attempt["units_skipped"]) == (1, 2)


def test_what_is_incomplete_is_tried_again_by_itself_and_goes_on(airflow, conf, tmp_path):
    write_shards(tmp_path / "shards", 2)
    (path, *_) = write_images(tmp_path / "photos", 3)

    with unreachable_for_an_attempt(path, tmp_path / "run"):
        done = airflow.test_dag(conf)

    assert done.returncode == 0, done.stdout
    assert starts(done.stdout) == 2
    first, second = attempts(done.stdout)
    assert (first["exit_status"], first["reason"]) == (4, "incomplete")
    assert (first["units"], first["unfinished_units"]) == (3, 1)
    assert (second["exit_status"], second["images"]) == (0, 11)
    attempt = second["this_attempt"]
    assert (attempt["units_done"], attempt["units_skipped"]) == (1, 2)


def test_a_task_that_is_told_to_end_leaves_no_process_and_goes_on_when_tried_again(
    airflow, conf, tmp_path
):
    write_shards(tmp_path / "shards", SHARDS)
    run, log = tmp_path / "run", tmp_path / "log"
    process = airflow.start(conf | {"input": [str(tmp_path / "shards")]}, log)
    wait_until(lambda: len(records(run)) >= 2, process)
    (pipeline,) = pipelines_of(run)

    process.send_signal(signal.SIGTERM)
    wait_until(lambda: not is_alive(pipeline))
    units = len(records(run))

    assert 2 <= units < SHARDS
    assert process.wait(timeout=500) == 0, log.read_text()
    interrupted, done = attempts(log.read_text())
    assert (interrupted["exit_status"], interrupted["reason"]) == (143, "interrupted")
    assert (done["reason"], done["this_attempt"]["units_skipped"]) == ("complete", units)
    assert pipelines_of(run) == []


def test_a_task_that_is_killed_leaves_no_process_and_the_run_can_be_resumed(
    airflow, conf, tmp_path
):
    write_shards(tmp_path / "shards", SHARDS)
    run = tmp_path / "run"
    process = airflow.start(conf | {"input": [str(tmp_path / "shards")]}, tmp_path / "log")
    wait_until(lambda: len(records(run)) >= 2, process)
    (pipeline,) = pipelines_of(run)

    # The process of the task alone, and not its group: nobody is left to tell the pipeline.
    process.kill()
    process.wait()
    wait_until(lambda: not is_alive(pipeline))
    units = len(records(run))

    assert 2 <= units < SHARDS
    words = [f"--input={tmp_path}/shards", f"--model={conf['model']}", f"--output={run}", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.segment", *words],
        env=environment(),
        capture_output=True,
        text=True,
    )
    said = json.loads(done.stdout.splitlines()[-1])
    assert (said["reason"], said["this_attempt"]["units_skipped"]) == ("complete", units)


ARGUMENTS = """
import json, sys
from airflow.providers.apache.beam.hooks import beam
seen = []
beam.run_beam_command = lambda cmd, **options: seen.append(cmd)
beam.BeamHook("FnApiRunner").start_python_pipeline(
    variables={
        "input": ["a b/*.tif", "c"], "model": "m", "output": "o", "max_failures": 0.01,
        "window": 512, "retry_failures": True, "overwrite": False, "limit": None,
        "labels": {"airflow-version": "v3-3-2", "team": "maps"},
        "direct_num_workers": 2, "json": True, "stop_with_parent": True,
    },
    py_file="pipelines.segment", py_options=["-m"], py_interpreter=sys.argv[1],
)
print(json.dumps(seen[0][3:]))
"""


def test_what_the_provider_makes_of_options_is_what_we_read(airflow):
    python = airflow.program.parent / "python"

    done = run_outside([python, "-c", ARGUMENTS, sys.executable], **airflow.variables)
    words = json.loads(done.stdout.splitlines()[-1])

    parsed, _ = parse(parser(), words, with_beam=True)
    options = segment_options(parsed)
    assert options.inputs == ("a b/*.tif", "c")
    assert (options.model, options.output, options.window, options.limit) == ("m", "o", 512, None)
    assert (options.retry_failures, options.overwrite) == (True, False)
    assert str(options.max_failures) == "0.01 of all images"
    assert (parsed.json, parsed.stop_with_parent) == (True, True)
    assert {"--labels=airflow-version=v3-3-2", "--labels=team=maps"} <= set(words)


def test_the_environment_of_airflow_has_no_tensorflow():
    packages = program("airflow").parents[1] / "lib"
    found = {path.name for path in packages.glob("python*/site-packages/*")}
    assert {"airflow", "apache_beam"} <= found
    assert "tensorflow" not in found
    assert os.environ.get("AIRFLOW_HOME") is None

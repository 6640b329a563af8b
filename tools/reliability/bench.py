"""Inputs of every kind, runs over them, and the judgement of how they end."""

from __future__ import annotations

import random
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import shapely
from affine import Affine

from pipelines.cli.exit_status import ExitStatus
from tests import forked
from tests.end_to_end.conftest import PROGRAM, encoded_images, environment, files_of, noise
from tests.end_to_end.containers import write_files, write_shards
from tests.models import export_brightness
from tests.pipelines.corpus import write_scene
from tests.pipelines.scene_runs import write_polygons

SHARDS = ("tfrecord", "tar.gz", "parquet")
INPUTS = ("shards", "photos", "scenes")
ZONES, MODEL = "zones.geojson", "model"
# Degrees, as areas in a projection are much work.
CRS = "EPSG:4326"
ORIGIN = Affine(1e-4, 0, 15, 0, -1e-4, 54)
# Runs before a command.
QUICK = "from tools.reliability import quick; quick.prepare()"
# How long an attempt took differs from run to run.
CLOCKED = "summary.json"
# Attempts without harm after which a run must be complete.
ATTEMPTS = 3
TIMEOUT_SECONDS = 300
# Lines about single files, units and steps; what came of all is the last line.
NOTES = re.compile(
    r"segment: |pack: |failed: |gone: |WARNING beamseg: |[\d,]+ files? (?:is|are) left aside: "
)


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Args:
        status: Exit status; negative for a signal.
        errors: What it printed as errors.
        seconds: How long it took.
    """

    status: int
    errors: str
    seconds: float = 0.0

    @property
    def faults(self) -> list[str]:
        """What is wrong with the end itself: a failure says in one line what to do."""
        if not self.status:
            return []
        if self.status not in (ExitStatus.USAGE, ExitStatus.OVER_BUDGET, ExitStatus.INCOMPLETE):
            return [f"ended with {self.status}: {self.errors}"]
        lines = [line for line in self.errors.splitlines() if not NOTES.match(line)]
        if len(lines) != 1 or "Traceback" in self.errors:
            return [f"not one line: {self.errors}"]
        return []


@dataclass
class Outcome:
    """What came of a trial.

    Args:
        harm: What was done, as a line of the table.
        came: How it ended.
        faults: What is not as promised.
    """

    harm: str
    came: str
    faults: list[str] = field(default_factory=list)


class Harm:
    """A way to harm runs; a context, for what its trials need.

    Args:
        bench: Inputs, and runs over them.
        seed: Of the trials: another one makes others.

    Attributes:
        name: For tables.
        count: Outcomes that a full series has.
        trials: How many different trials there are; None for any number.
        per_trial: Outcomes that a trial has, about.
    """

    name: str
    count: int
    trials: int | None = None
    per_trial = 1

    def __init__(self, bench: Bench, seed: int) -> None:
        self.bench, self.seed = bench, seed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *caught: object) -> None:
        pass

    def trial(self, number: int) -> list[Outcome]:
        """Do harm, and judge what comes of it; the same number does the same harm.

        Trials run at the same time, in threads.
        """
        raise NotImplementedError

    def draw(self, number: int) -> random.Random:
        """The random numbers of a trial."""
        return random.Random(f"{self.seed}-{number}")


def place(column: float, row: float) -> tuple[str, Affine]:
    """On the grid of the scenes, so many pixels from its origin."""
    return CRS, ORIGIN @ Affine.translation(column, row)


def box(left: float, top: float, right: float, bottom: float) -> shapely.Polygon:
    """A rectangle in pixels of the grid of the scenes, as a polygon on the ground."""
    (west, north), (east, south) = ORIGIN @ (left, top), ORIGIN @ (right, bottom)
    return shapely.box(west, south, east, north)


def write_inputs(folder: Path) -> None:
    """Shards, images, two scenes of two blocks that overlap, zones, and a model."""
    images = encoded_images(4)
    for suffix in SHARDS:
        write_shards(folder / "shards" / suffix.replace(".", "-"), suffix, images, 1)
    write_files(folder / "photos", images)
    for number in range(2):
        path = folder / "scenes" / f"{number}.tif"
        write_scene(path, noise(number, 50 + number, 32), place(0, 16 * number))
    write_polygons(folder / ZONES, CRS, [("west", box(0, 0, 20, 100))])
    export_brightness(folder / MODEL)


def words(output: str, root: str = ".") -> list[str]:
    """A command line of `segment`.

    Args:
        output: Run directory.
        root: Where the inputs are: a folder, or a place in a store.
    """
    inputs = [f"--input={root}/{name}" for name in INPUTS]
    given = [f"--model={root}/{MODEL}", f"--zones={root}/{ZONES}", f"--output={output}"]
    return ["segment", *inputs, *given, "--overlap=first"]


@dataclass(frozen=True)
class Bench:
    """Runs over the same inputs with the same options.

    Args:
        folder: With the inputs; runs are made in it.
    """

    folder: Path

    @classmethod
    def made(cls, folder: Path) -> Bench:
        """A bench with new inputs."""
        # By a fork: TensorFlow would start threads here, which a fork breaks.
        program = "import sys; from pathlib import Path; from tools.reliability import bench; "
        program += "bench.write_inputs(Path(sys.argv[1]))"
        line = [sys.executable, "-c", program, str(folder)]
        forked.run(line, env=environment(), check=True, capture_output=True)
        return cls(folder)

    def start(
        self, line: list[str], hook: str = "", variables: dict[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """A command as a process of its own.

        Args:
            line: Command and options.
            hook: Python code that runs in the process before the command.
            variables: Of the environment, besides those of this process.
        """
        return forked.Popen(
            [sys.executable, "-c", f"{hook}\n{PROGRAM}", *line],
            cwd=self.folder,
            env=environment() | (variables or {}),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ended(self, process: subprocess.Popen[str]) -> Ended:
        """Wait for a process that `start` gave."""
        started = time.monotonic()
        with process:
            try:
                _, errors = process.communicate(timeout=TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                process.terminate()
                _, errors = process.communicate()
                errors += f"did not end in {TIMEOUT_SECONDS} s"
        return Ended(process.returncode, errors, time.monotonic() - started)

    def run(
        self, line: list[str], hook: str = "", variables: dict[str, str] | None = None
    ) -> Ended:
        """A command to its end; see `start`."""
        return self.ended(self.start(line, hook, variables))

    @cached_property
    def whole(self) -> Ended:
        """The run `whole`, which nothing harms.

        Raises:
            RuntimeError: If it fails.
        """
        ended = self.run(words("whole"), QUICK)
        for done in (ended, self.run(["verify", "whole"])):
            if done.status:
                raise RuntimeError(done.errors)
        return ended

    @cached_property
    def expected(self) -> dict[str, bytes]:
        """Files of that run."""
        assert self.whole.status == 0
        return files_of(self.folder / "whole")

    def healed(self, line: list[str], variables: dict[str, str] | None = None) -> Ended:
        """Repeat a command without harm, as its messages say, until it is complete."""
        ended = Ended(ExitStatus.INCOMPLETE, "")
        for _ in range(ATTEMPTS):
            more = ["--retry_failures"] if ended.status == ExitStatus.OVER_BUDGET else []
            ended = self.run([*line, *more], QUICK, variables)
            if not ended.status:
                break
        return ended

    def judged(self, harm: str, ended: Ended, run: Path) -> Outcome:
        """What came of a run on disk that was harmed; it is continued where it failed."""
        outcome = Outcome(harm, "same bytes", ended.faults)
        if not ended.status or (run / "_SUCCESS").exists():
            outcome.faults += differences(files_of(run), self.expected)
        if ended.status:
            outcome.came = f"status {ended.status}, then same bytes"
            again = self.healed(words(str(run)))
            if again.status:
                outcome.faults.append(f"continued: {again.status}: {again.errors}")
            else:
                outcome.faults += differences(files_of(run), self.expected)
        return outcome


def differences(actual: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """Paths of files that differ, or are there once only, by their content or its digest."""
    return [
        f"{path} differs from that of a run without harm"
        for path in sorted({*actual, *expected} - {CLOCKED})
        if actual.get(path) != expected.get(path)
    ]

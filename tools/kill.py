"""A run that is killed at random moments and resumed ends as one that was not.

    python -m tools.kill --kills 30 --seed 1

Each attempt is a process of its own, `beamseg segment` as a user starts it, and SIGKILL goes to its
whole process group. A third of the moments lie anywhere in its start-up (imports, checks, plan,
what earlier attempts left, loading of the model), a sixth behind its last unit (scenes, totals, end
of the process), and the others all over the units; half of the latter two while a file is written.
The same seed draws the same moments; where they fall depends on the machine.

Exit status 1 if a file differs from that of the uninterrupted run, if an output of a finished unit
was written again, or if something is left that no commit record names.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.end_to_end.conftest import ROOT
from tests.end_to_end.runs import Books, Clock, Runs, measured, records, write_inputs

MODEL = ROOT / "pipelines" / "earth" / "model"
RESULTS = (
    "run.json",
    "failures.csv",
    "areas.csv",
    "summary.json",
    "labels.json",
    "preview.png",
    "_SUCCESS",
)
LOOK_SECONDS = 0.001


@dataclass(frozen=True)
class Moment:
    """When to kill an attempt.

    Args:
        units: Commit records that must be there and, if it is above 0, the plan of the attempt.
        seconds: How long after that.
        writing: Whether then to wait until another temporary file is there.
    """

    units: int
    seconds: float
    writing: bool = False


def moments(kills: int, clock: Clock, draw: random.Random) -> list[Moment]:
    """Moments in the order of the attempts, see the top of this file."""
    at_start, at_end = kills // 3, max(1, kills // 6)
    at_work = kills - at_start - at_end
    a_unit = (clock.last - clock.first) / clock.units
    works = [
        Moment(
            units=1 + int(clock.units * (n + draw.random()) / (at_work + 1)),
            seconds=draw.uniform(0, a_unit),
            writing=n % 2 == 1,
        )
        for n in range(at_work)
    ]
    phases = [*(["start"] * at_start), *(["work"] * at_work)]
    draw.shuffle(phases)
    found = [
        works.pop(0) if phase == "work" else Moment(0, draw.uniform(0, clock.first))
        for phase in phases
    ]
    # Most of what happens at the end happens soon.
    at_most = clock.end - clock.last
    return found + [
        Moment(clock.units, at_most * draw.random() ** 2, writing=n % 2 == 0) for n in range(at_end)
    ]


@dataclass(frozen=True)
class Killed:
    """An attempt that was killed: after how long, and how many units were done then."""

    seconds: float
    units: int
    temporary_files: int
    results: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"killed after {self.seconds:5.2f} s: {self.units:3d} units done, "
            f"{self.temporary_files} temporary files, {' '.join(self.results) or 'no results'}"
        )


def kill_at(moment: Moment, runs: Runs, name: str) -> Killed | None:
    """Start an attempt and kill it at a moment, or None if it came to its end before."""
    run, started = runs.folder / name, time.time()
    process = runs.start(name)
    while process.poll() is None and moment.units and not _has_reached(moment, run, started):
        time.sleep(LOOK_SECONDS)
    time.sleep(moment.seconds)
    least = _temporary_files(run)
    while process.poll() is None and moment.writing and _temporary_files(run) <= least:
        least = min(least, _temporary_files(run))
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    if process.wait() != -signal.SIGKILL:
        return None
    return Killed(
        seconds=time.time() - started,
        units=len(records(run)),
        temporary_files=_temporary_files(run),
        results=tuple(entry for entry in RESULTS if (run / entry).exists()),
    )


def _temporary_files(run: Path) -> int:
    # The folder may vanish while it is listed: a run that ends removes it.
    with suppress(FileNotFoundError):
        return len(list((run / "tmp").glob("*")))
    return 0


def _has_reached(moment: Moment, run: Path, started: float) -> bool:
    planned = run / "plan" / "part-00000.jsonl"
    is_planned = planned.exists() and planned.stat().st_mtime >= started
    return is_planned and len(records(run)) >= moment.units


@dataclass
class Report:
    """What came of a run that was killed: each kill, outputs watched, and what was wrong."""

    kills: list[Killed] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    files: int = 0
    outputs: int = 0


def kill_and_resume(
    runs: Runs, clock: Clock, kills: int, seed: int, tell: Callable[[str], None] = lambda line: None
) -> Report:
    """Kill a run so many times, finish it, and compare it with `whole`, which was not killed."""
    report, name = Report(), "killed"
    books, draw = Books(runs.folder / name), random.Random(seed)
    for moment in moments(kills, clock, draw):
        killed = None
        while killed is None:
            killed = kill_at(moment, runs, name)
            moment = replace(moment, seconds=moment.seconds * draw.random())
            report.faults += books.look()
        report.kills.append(killed)
        tell(f"{len(report.kills):3d} {killed}")
    runs.finish(name)
    report.faults += books.look()
    expected = runs.files("whole")
    report.faults += runs.differences(name, expected)
    report.files, report.outputs = len(expected), len(books.seen)
    return report


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


def main() -> int:
    """The command line; gives the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--model", type=Path, default=MODEL)
    options = parser.parse_args()
    started, folder = time.monotonic(), Path(tempfile.mkdtemp(prefix="kill-"))
    write_inputs(folder)
    runs = Runs(folder, options.model)
    clock = measured(runs, "whole")
    say(f"uninterrupted: {clock}")
    report = kill_and_resume(runs, clock, options.kills, options.seed, say)
    for fault in report.faults:
        print(fault)
    if report.faults:
        print(f"{len(report.faults)} faults; all files are in {folder}")
        return 1
    shutil.rmtree(folder)
    print(
        f"{options.kills} kills in {time.monotonic() - started:.0f} s: {report.files} files as of "
        f"the uninterrupted run, byte for byte; none of {report.outputs} outputs was written twice"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Flips bits anywhere in run directories; what is said of them leads back to the right bytes.

Runs are made without Beam, which is faster than the program: images, a shard, overlapping scenes
of several blocks, zones; some images fail. One is finished, one was interrupted before its scenes
were put together. Each flip goes to a fresh copy, in a process of its own. Of outputs and tables of
the finished run `verify` must find it; of everything else `segment` must end with the bytes of the
clean run, or with one line that says what to do. Then the line is obeyed.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from pipelines.cli.exit_status import ExitStatus
from pipelines.cli.values import FailureBudget
from pipelines.results.part_sums import sum_plan
from pipelines.results.totals import finish_run
from pipelines.results.verify import REMOVE, verify
from pipelines.results.verify_units import AGAIN, INVALIDATE
from pipelines.run import plan
from pipelines.run.directory import OUTPUTS, RESULTS
from pipelines.scenes.assembly import finish_scene
from pipelines.scenes.counts import count_scene
from pipelines.segment import launch
from pipelines.segment.options import SegmentOptions
from pipelines.segment.unfinished import forget_counts, unfinished_units
from pipelines.worker.unit import segment_unit
from segmodel.errors import BeamsegError, is_transient
from tests import forked
from tests.end_to_end.conftest import environment
from tests.pipelines.corpus import (
    flipped,
    photos,
    pixels,
    record,
    spoil_strip,
    tree,
    write,
    write_model_folder,
    write_scene,
    write_shard,
)
from tests.pipelines.scene_runs import write_polygons
from tools.reliability.bench import CRS, QUICK, Harm, Outcome, box, place

FINISHED, INTERRUPTED = "finished", "interrupted"
# Bits that a trial flips.
BITS = 10
# Attempts to obey what messages say before a run counts as beyond help.
ATTEMPTS = 4


@dataclass(frozen=True)
class Runs:
    """Inputs, and runs over them in a folder.

    Args:
        folder: Folder of inputs, model and runs.
    """

    folder: Path

    def make(self) -> None:
        """Make inputs and both runs."""
        images = photos(self.folder)
        write(images / "broken.png", b"no image")
        shard = [record(pixels(40, 50, n), f"{n}.png") for n in range(3)]
        write_shard(self.folder / "shards" / "a.tfrecord", shard)
        scenes = self.folder / "scenes"
        kept = {"compress": "deflate", "blockysize": 16}
        spoil_strip(write_scene(scenes / "a.tif", pixels(80, 64), place(0, 0), **kept), 4)
        write_scene(scenes / "b.tif", pixels(48, 48, 1), place(30, 20), **kept)
        zones = [("west", box(0, 0, 40, 60)), ("east", box(40, 0, 90, 60))]
        write_polygons(self.folder / "zones.geojson", CRS, zones)
        write_polygons(self.folder / "aoi.geojson", CRS, [("all", box(-5, -5, 200, 75))])
        write_model_folder(self.folder / "model")
        status, text = self.segment(FINISHED)
        assert status == ExitStatus.COMPLETE, text
        self.segment(INTERRUPTED, until_scenes=True)

    def segment(
        self, name: str, overwrite: bool = False, until_scenes: bool = False
    ) -> tuple[int, str]:
        """Do what `beamseg segment` does; returns its exit status, and its message on errors."""
        names = ("photos", "shards", "scenes")
        options = SegmentOptions(
            inputs=tuple(str(self.folder / name) for name in names),
            model=str(self.folder / "model"),
            output=str(self.folder / name),
            window=32,
            halo=0,
            batch=2,
            confidence=True,
            zones=str(self.folder / "zones.geojson"),
            aoi=str(self.folder / "aoi.geojson"),
            overlap="first",
            max_failures=FailureBudget(10, None),
            overwrite=overwrite,
        )
        try:
            launched = launch.prepare_run(launch.check_run(options))
            work = launched.work
            for part in launched.parts:
                for place in unfinished_units(part, work, options.retry_failures):
                    if isinstance(place, plan.UnitReference):
                        segment_unit(plan.read_unit(work.run.plan, place, plan.WorkUnit), work)
            if until_scenes:
                return ExitStatus.INCOMPLETE, "interrupted"
            forget_counts(work)
            for kind, action in ((plan.AssemblyUnit, finish_scene), (plan.CountUnit, count_scene)):
                for unit in plan.read_units(work.run.plan, kind):
                    action(unit, work)
            status = finish_run(work, options.max_failures, {}, sum_plan(work))
            return status, "run the same command again"
        except (BeamsegError, OSError) as error:
            status = ExitStatus.INCOMPLETE if is_transient(error) else ExitStatus.USAGE
            return status, str(error)

    def verify(self, name: str, invalidate: bool = False) -> list[str]:
        """What `beamseg verify` prints."""
        findings: list[str] = []
        try:
            verify(str(self.folder / name), lambda f: findings.append(str(f)), invalidate)
        except (BeamsegError, OSError) as error:
            findings.append(str(error))
        return findings

    def obey(self, name: str, text: str) -> str:
        """Do what a message says; returns what `verify` or `segment` says then, or nothing."""
        if REMOVE in text.rpartition(": ")[2]:
            (self.folder / name / text.partition(" ")[0]).unlink()
        elif INVALIDATE in text:
            self.verify(name, invalidate=True)
        elif "--overwrite" in text:
            status, message = self.segment(name, overwrite=True)
            return message if status else ""
        elif AGAIN not in text and "run the same command again" not in text:
            return f"says not what to do: {text}"
        status, message = self.segment(name)
        return message if status else ""

    def print_flips(self, seeds: list[str]) -> None:
        """Print as JSON what came of bits that are drawn by seeds."""
        print(json.dumps([asdict(flip(self, seed)) for seed in seeds]))


def kind_of(path: str) -> str:
    """Kind of a file of a run, for counts.

    >>> kind_of("labels/a.png"), kind_of("labels.vrt"), kind_of("plan/run.json")
    ('labels/', 'labels.vrt', 'plan/run.json')
    """
    folder, _, name = path.partition("/")
    return f"{folder}/" if name and not name.endswith("run.json") else path


def judge(runs: Runs, name: str, state: str, path: str, clean: dict[str, bytes]) -> str:
    """What becomes of a copy of a run in which a bit of a file is flipped.

    Returns:
        The outcome; that of a fault begins with `FAULT`.
    """
    said = ""
    is_of_verify = state == FINISHED and (
        path.partition("/")[0] in OUTPUTS or path in RESULTS or path.endswith(".vrt")
    )
    if is_of_verify:
        found = runs.verify(name)
        if not found:
            return "FAULT: verify finds nothing"
        said = found[0]
    else:
        status, message = runs.segment(name)
        if not status and tree(runs.folder / name) == clean:
            return "healed by segment"
        if not status and path.partition("/")[0] not in OUTPUTS:
            return "FAULT: success with other bytes"
        # An output that is not read again is for `verify` to find.
        found = [] if status else runs.verify(name)
        said = message if status else next(iter(found), "FAULT: verify finds nothing")
        is_of_verify = not status
    for steps in range(1, ATTEMPTS + 1):
        if "\n" in said:
            return f"FAULT: more than one line: {said}"
        said = runs.obey(name, said)
        if not said:
            found = runs.verify(name)
            if not found and tree(runs.folder / name) == clean:
                how = "found by verify" if is_of_verify else "refused by segment"
                return f"{how}, healed in {steps}"
            said = found[0] if found else "FAULT: verify finds nothing, and bytes differ"
        if said.startswith(("FAULT", "says not")):
            break
    return f"FAULT: {said}"


def flip(runs: Runs, seed: str) -> Outcome:
    """Flip a bit in a copy of a run, and judge what comes of it."""
    draw = random.Random(seed)
    state = draw.choice((FINISHED, FINISHED, FINISHED, INTERRUPTED))
    contents = tree(runs.folder / state)
    # Small files are drawn as often as large ones.
    path = draw.choice([path for path, content in contents.items() if content])
    at, bit = draw.randrange(len(contents[path])), draw.randrange(8)
    copy = runs.folder / f"copy-{seed}"
    shutil.copytree(runs.folder / state, copy)
    (copy / path).write_bytes(flipped(contents[path], at, bit))
    try:
        came = judge(runs, copy.name, state, path, tree(runs.folder / FINISHED))
    except Exception as error:
        came = f"FAULT: {type(error).__name__}: {error}"
    shutil.rmtree(copy)
    outcome = Outcome(f"{state} run, {kind_of(path)}", came.partition(":")[0])
    if came.startswith("FAULT"):
        outcome.faults.append(f"{path} byte {at} bit {bit}: {came}")
    return outcome


class Flips(Harm):
    """A trial is some bits of files of runs, one after the other."""

    name, count, per_trial = "flips", 2000, BITS

    def __enter__(self) -> Self:
        self._print("make()")
        return self

    def trial(self, number: int) -> list[Outcome]:
        """Flip bits in copies of runs, in one process, which starts once."""
        seeds = [f"{self.seed}-{number}-{bit}" for bit in range(BITS)]
        outcomes = self._print(f"print_flips({seeds})")
        return [Outcome(**outcome) for outcome in json.loads(outcomes)]

    def _print(self, call: str) -> str:
        """What a method of `Runs` prints in a process of its own.

        Raises:
            RuntimeError: If the process fails.
        """
        place = f"Path({str(self.bench.folder / 'flips')!r})"
        program = "from pathlib import Path; from tools.reliability.flips import Runs"
        line = [sys.executable, "-c", f"{QUICK}; {program}; Runs({place}).{call}"]
        done = forked.run(line, env=environment(), capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr)
        return done.stdout

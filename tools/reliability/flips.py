"""Flips bits anywhere in run directories; what is said of them leads back to the right bytes.

Runs are made in this process with a fake model, which is faster than the program: images, a shard,
overlapping scenes of several blocks, zones; some images fail. One is finished, one was interrupted
before its scenes were put together. Each flip goes to a fresh copy. Of outputs and tables of the
finished run `verify` must find it; of everything else `segment` must end with the bytes of the
clean run, or with one line that says what to do. Then the line is obeyed.
"""

from __future__ import annotations

import random
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pipelines.cli.exit_status import ExitStatus
from pipelines.cli.values import FailureBudget
from pipelines.results.totals import finish_run
from pipelines.results.verify import REMOVE, verify
from pipelines.results.verify_units import AGAIN, INVALIDATE
from pipelines.run import attempts, plan
from pipelines.run.directory import OUTPUTS, RESULTS
from pipelines.scenes import blocks
from pipelines.scenes.assembly import finish_scene
from pipelines.scenes.counts import count_scene
from pipelines.segment import launch
from pipelines.segment.options import SegmentOptions
from pipelines.worker.unit import segment_unit
from segmodel.errors import BeamsegError, is_transient
from tests.fakes import BrightnessModel
from tests.pipelines.corpus import (
    UTM,
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
from tests.pipelines.counted_scenes import box, place
from tests.pipelines.scene_runs import write_polygons
from tools.reliability.bench import Bench, Outcome

FINISHED, INTERRUPTED, COPY = "finished", "interrupted", "copy"
# Attempts to obey what messages say before a run counts as beyond help.
ATTEMPTS = 4


@dataclass(frozen=True)
class Runs:
    """Inputs, and runs over them in a folder.

    Args:
        folder: Folder of inputs, model and runs.
    """

    folder: Path

    def make(self) -> dict[str, bytes]:
        """Make inputs and both runs; returns the files of the finished one."""
        images = photos(self.folder)
        write(images / "broken.png", b"no image")
        shard = [record(pixels(40, 50, n), f"{n}.png") for n in range(3)]
        write_shard(self.folder / "shards" / "a.tfrecord", shard)
        scenes = self.folder / "scenes"
        kept = {"compress": "deflate", "blockysize": 16}
        spoil_strip(write_scene(scenes / "a.tif", pixels(80, 64), place(), **kept), 4)
        write_scene(scenes / "b.tif", pixels(48, 48, 1), place(30, 20), **kept)
        zones = [("west", box(0, 0, 40, 60)), ("east", box(40, 0, 90, 60))]
        write_polygons(self.folder / "zones.geojson", UTM[0], zones)
        write_polygons(self.folder / "aoi.geojson", UTM[0], [("all", box(-5, -5, 200, 75))])
        write_model_folder(self.folder / "model")
        status, text = self.segment(FINISHED)
        assert status == ExitStatus.COMPLETE, text
        self.segment(INTERRUPTED, until_scenes=True)
        return tree(self.folder / FINISHED)

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
            work = launch.prepare_run(launch.check_run(options)).work
            model = BrightnessModel()
            for unit in plan.read_units(work.run.plan, plan.WorkUnit):
                segment_unit(unit, work, model=lambda work: model)
            if until_scenes:
                return ExitStatus.INCOMPLETE, "interrupted"
            for kind, action in ((plan.AssemblyUnit, finish_scene), (plan.CountUnit, count_scene)):
                for unit in plan.read_units(work.run.plan, kind):
                    action(unit, work)
            return finish_run(work, options.max_failures, {}), "run the same command again"
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


def kind_of(path: str) -> str:
    """Kind of a file of a run, for counts.

    >>> kind_of("labels/a.png"), kind_of("labels.vrt"), kind_of("plan/run.json")
    ('labels/', 'labels.vrt', 'plan/run.json')
    """
    folder, _, name = path.partition("/")
    return f"{folder}/" if name and not name.endswith("run.json") else path


def judge(runs: Runs, state: str, path: str, clean: dict[str, bytes]) -> str:
    """What becomes of a copy of a run in which a bit of a file is flipped.

    Returns:
        The outcome; that of a fault begins with `FAULT`.
    """
    name, said = COPY, ""
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


class Flips:
    """A trial is a bit of a file of a run; small files are drawn as often as large ones.

    Args:
        bench: Folder.
        seed: Of the bits.
    """

    name, count, is_parallel = "flips", 2000, False
    trials: int | None = None

    def __init__(self, bench: Bench, seed: int) -> None:
        self._runs, self._seed, self._stack = Runs(bench.folder / "flips"), seed, ExitStack()

    def __enter__(self) -> Self:
        changed = ((attempts, "RETRY_SECONDS", 0.0), (blocks, "BLOCK_PX", 32))
        for module, name, value in (*changed, (blocks, "WIDE_BLOCK_PIXELS", 0)):
            self._stack.callback(setattr, module, name, getattr(module, name))
            setattr(module, name, value)
        self._clean = self._runs.make()
        self._states = {state: tree(self._runs.folder / state) for state in (FINISHED, INTERRUPTED)}
        return self

    def __exit__(self, *caught: object) -> None:
        self._stack.close()

    def trial(self, number: int) -> list[Outcome]:
        """Flip a bit in a copy of a run."""
        draw = random.Random(f"{self._seed}-{number}")
        state = INTERRUPTED if number % 4 == 3 else FINISHED
        path = draw.choice([n for n, content in self._states[state].items() if content])
        content = self._states[state][path]
        at, bit = draw.randrange(len(content)), draw.randrange(8)
        copy = self._runs.folder / COPY
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self._runs.folder / state, copy)
        (copy / path).write_bytes(flipped(content, at, bit))
        try:
            came = judge(self._runs, state, path, self._clean)
        except Exception as error:
            came = f"FAULT: {type(error).__name__}: {error}"
        outcome = Outcome(f"{state} run, {kind_of(path)}", came.partition(":")[0])
        if came.startswith("FAULT"):
            outcome.faults.append(f"{path} byte {at} bit {bit}: {came}")
        return [outcome]

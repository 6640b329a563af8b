"""Two runs into one directory at the same time, which end in one right result."""

from __future__ import annotations

import random
import shutil
import time
from typing import Self

from pipelines.cli.exit_status import ExitStatus
from tools.reliability.bench import Bench, Outcome, words

STATUSES = {ExitStatus.COMPLETE, ExitStatus.INCOMPLETE}


class Pairs:
    """A trial is a run, and the same run begun at a random moment of the first.

    Half of them are into a directory whose run is finished.

    Args:
        bench: Inputs.
        seed: Of the moments.
    """

    name, count, is_parallel = "pairs", 20, True
    trials: int | None = None

    def __init__(self, bench: Bench, seed: int) -> None:
        self._bench, self._seed = bench, seed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *caught: object) -> None:
        pass

    def trial(self, number: int) -> list[Outcome]:
        """Two runs at the same time, and one more if they ask for it."""
        draw = random.Random(f"{self._seed}-{number}")
        run = self._bench.folder / f"pair-{number}"
        is_finished = bool(number % 2)
        if is_finished:
            shutil.copytree(self._bench.folder / "whole", run)
        # Every fourth pair begins at the same moment.
        longest = self._bench.whole.seconds * (number % 4 > 0)
        first = self._bench.start(words(run.name))
        time.sleep(draw.uniform(0, longest))
        second = self._bench.start(words(run.name))
        both = [self._bench.ended(first), self._bench.ended(second)]
        worst = max(both, key=lambda ended: ended.status)
        harm = f"second run into one {'finished' if is_finished else 'new'} directory"
        outcome = self._bench.judged(harm, worst, run)
        for ended in both:
            if ended.status not in STATUSES:
                outcome.faults.append(f"ended with {ended.status}: {ended.errors}")
        shutil.rmtree(run)
        return [outcome]

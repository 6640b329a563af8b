"""Two runs into one directory at the same time, which end in one right result."""

from __future__ import annotations

import shutil
import time

from pipelines.cli.exit_status import ExitStatus
from tools.reliability.bench import QUICK, Harm, Outcome, words

STATUSES = {ExitStatus.COMPLETE, ExitStatus.INCOMPLETE}


class Pairs(Harm):
    """A trial is a run, and the same run begun at a random moment of the first.

    Half of them are into a directory whose run is finished.
    """

    name, count = "pairs", 20

    def trial(self, number: int) -> list[Outcome]:
        """Two runs at the same time, and one more if they ask for it."""
        run = self.bench.folder / f"pair-{number}"
        is_finished = bool(number % 2)
        if is_finished:
            shutil.copytree(self.bench.folder / "whole", run)
        # Every fourth pair begins at the same moment.
        longest = self.bench.whole.seconds * (number % 4 > 0)
        first = self.bench.start(words(run.name), QUICK)
        time.sleep(self.draw(number).uniform(0, longest))
        second = self.bench.start(words(run.name), QUICK)
        both = [self.bench.ended(first), self.bench.ended(second)]
        worst = max(both, key=lambda ended: ended.status)
        harm = f"second run into one {'finished' if is_finished else 'new'} directory"
        outcome = self.bench.judged(harm, worst, run)
        for ended in both:
            if ended.status not in STATUSES:
                outcome.faults.append(f"ended with {ended.status}: {ended.errors}")
        shutil.rmtree(run)
        return [outcome]

"""Harm runs and models, count what comes of it, and name what is not as promised.

    python -m tools.reliability all
    python -m tools.reliability kills stores --count 100 --seed 2
    python -m tools.reliability stores --first 17 --count 1

Prints a line for each kind of harm with its counts. The exit status is 1 if something is not as
`docs/reliability.md` promises; a line then says how to repeat it.
"""

from __future__ import annotations

import argparse
import itertools
import resource
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tools.reliability.bench import Bench, Harm, Outcome
from tools.reliability.disks import Disks
from tools.reliability.flips import Flips
from tools.reliability.kills import Kills
from tools.reliability.layer_kills import LayerKills
from tools.reliability.models import Models
from tools.reliability.pairs import Pairs
from tools.reliability.situations.harm import Situations
from tools.reliability.stores import Stores

HARMS: dict[str, Callable[[Bench, int], Harm]] = {
    "kills": Kills,
    "pairs": Pairs,
    "disks": Disks,
    "stores": Stores,
    "flips": Flips,
    "models": Models,
    "layers": LayerKills,
    "situations": Situations,
}


# One more than cores, as trials also wait.
JOBS = 3


@dataclass
class Report:
    """What came of trials of one kind.

    Args:
        name: Kind of harm.
        counts: Outcomes by what was done and how it ended.
        faults: What is not as promised, with the number of its trial.
    """

    name: str
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    faults: list[tuple[int, str]] = field(default_factory=list)

    def add(self, number: int, outcomes: list[Outcome]) -> None:
        """The outcomes of a trial."""
        for outcome in outcomes:
            self.counts[outcome.harm, outcome.came] += 1
            self.faults += [(number, f"{outcome.harm}: {fault}") for fault in outcome.faults]

    def __str__(self) -> str:
        lines = [f"{n:6d} {harm}: {came}" for (harm, came), n in sorted(self.counts.items())]
        return "\n".join([*lines, f"{self.counts.total():6d} {self.name}"])


def measured(
    harm: Harm, count: int, first: int = 0, jobs: int = JOBS, say: Callable[[str], None] = print
) -> Report:
    """Run trials until there are so many outcomes.

    Args:
        harm: What is done.
        count: How many; fewer where the harm has no more trials.
        first: Number of the first trial.
        jobs: Trials at the same time.
        say: Gets a line for each fault, at once.
    """
    report = Report(harm.name)
    numbers = iter(itertools.count(first) if harm.trials is None else range(first, harm.trials))
    with ThreadPoolExecutor(jobs) as pool:
        running: deque[tuple[int, Future[list[Outcome]]]] = deque()
        while True:
            missing = count - report.counts.total() - harm.per_trial * len(running)
            more = min(-(-missing // harm.per_trial), 2 * jobs - len(running))
            for number in itertools.islice(numbers, max(0, more)):
                running.append((number, pool.submit(harm.trial, number)))
            if not running:
                return report
            number, trial = running.popleft()
            outcomes = trial.result()
            report.add(number, outcomes)
            for outcome in outcomes:
                for fault in outcome.faults:
                    say(f"FOUND: {harm.name} --first {number}: {outcome.harm}: {fault}")


def main() -> int:
    """The command line; gives the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("harms", nargs="+", choices=[*HARMS, "all"])
    parser.add_argument("--count", type=int, help="how often, instead of what each has")
    parser.add_argument("--first", type=int, default=0, help="number of the first trial")
    parser.add_argument("--seed", type=int, default=1, help="another one makes other trials")
    parser.add_argument("--jobs", type=int, default=JOBS, help="trials at the same time")
    options = parser.parse_args()
    chosen = list(HARMS) if "all" in options.harms else options.harms
    has_faults = False
    with tempfile.TemporaryDirectory(prefix="reliability-") as folder:
        bench = Bench.made(Path(folder))
        say(f"a run takes {bench.whole.seconds:.1f} s: {len(bench.expected)} files")
        for name in chosen:
            began, worked = time.monotonic(), cpu_seconds()
            with HARMS[name](bench, options.seed) as harm:
                number = options.count or harm.count
                report = measured(harm, number, options.first, options.jobs, say)
            has_faults |= bool(report.faults)
            took = f"{time.monotonic() - began:.0f} s, {cpu_seconds() - worked:.0f} s of CPU"
            say(f"{report} of {harm.count} in {took}: {len(report.faults)} faults")
    return 1 if has_faults else 0


def cpu_seconds() -> float:
    """What this process and those of its children that have ended have computed."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())

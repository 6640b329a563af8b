"""Two runs into one directory at the same time end in one right result.

    python -m tools.at_once --rounds 20 --seed 1

Each round starts two processes, `beamseg segment` as a user starts it: the first rounds both at
once, the others the second one at a random moment of the first, half of them into a directory whose
run is finished already. A run may end with 4, incomplete and worth running again, and is then run
again. Exit status 1 if one ends with another status than 0 or 4, or a file differs from that of a
run which was alone.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.end_to_end.runs import Runs, measured, write_inputs
from tools.kill import MODEL


@dataclass(frozen=True)
class Pair:
    """Two runs into one directory.

    Args:
        delay: Seconds from the start of the first to that of the second.
        statuses: Exit status of each.
        faults: What is wrong with the run directory, and what the runs printed.
    """

    delay: float
    statuses: tuple[int, int]
    faults: list[str]

    @property
    def is_good(self) -> bool:
        """Whether both ended well, in one right result."""
        return {*self.statuses} <= {0, 4} and not self.faults

    def __str__(self) -> str:
        found = [f"second after {self.delay:5.2f} s: exit statuses {self.statuses}", *self.faults]
        return "\n".join(found)


def run_at_once(runs: Runs, name: str, delay: float, expected: dict[str, bytes]) -> Pair:
    """Two runs into one directory, which is then compared with files of a run that was alone."""
    first = runs.start(name)
    time.sleep(delay)
    second = runs.start(name)
    statuses = (first.wait(), second.wait())
    if 4 in statuses:
        runs.finish(name)
    faults = runs.differences(name, expected)
    if not {*statuses} <= {0, 4}:
        faults.append(runs.log(name).read_text())
    return Pair(delay, statuses, faults)


def main() -> int:
    """The command line; gives the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--model", type=Path, default=MODEL)
    options = parser.parse_args()
    folder, draw = Path(tempfile.mkdtemp(prefix="at-once-")), random.Random(options.seed)
    write_inputs(folder)
    runs = Runs(folder, options.model)
    clock = measured(runs, "whole")
    again = measured(runs, "whole")
    expected, pairs = runs.files("whole"), []
    for number in range(options.rounds):
        name, longest = ("whole", again.end) if number % 2 else (f"pair-{number}", clock.end)
        delay = 0.0 if number < options.rounds // 4 else draw.uniform(0, longest)
        pair = run_at_once(runs, name, delay, expected)
        pairs.append(pair)
        print(f"{number + 1:3d} {name} {pair}", flush=True)
    bad = sum(not pair.is_good for pair in pairs)
    if bad:
        print(f"{bad} of {options.rounds} rounds went wrong; all files are in {folder}")
        return 1
    shutil.rmtree(folder)
    both = sum(pair.statuses == (0, 0) for pair in pairs)
    print(
        f"{options.rounds} rounds, in {both} of which both ended with 0: {len(expected)} files as "
        f"of one run alone, byte for byte"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

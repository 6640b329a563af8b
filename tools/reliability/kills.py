"""Runs that are killed at calls that change files, continued, killed again, and continued."""

from __future__ import annotations

import random
import shutil
import signal
from pathlib import Path
from typing import Self

from tests.end_to_end.conftest import files_of
from tests.end_to_end.runs import Books
from tools.reliability.bench import Bench, Outcome, differences, words

# An attempt is killed, then the next, at most so often.
CHAIN = 4


class Kills:
    """A trial is a run that is killed, continued, killed again, and in the end left alone.

    Args:
        bench: Inputs.
        seed: Of the points.
    """

    name, count, is_parallel = "kills", 1000, True
    trials: int | None = None

    def __init__(self, bench: Bench, seed: int) -> None:
        self._bench, self._seed = bench, seed
        notes = bench.folder / "points"
        ended = bench.run(words("counted"), hook=_hook(0, notes, links=True))
        if ended.status:
            raise RuntimeError(ended.errors)
        self.points = len(notes.read_text().splitlines())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *caught: object) -> None:
        pass

    def trial(self, number: int) -> list[Outcome]:
        """A run that is killed up to four times, then finished."""
        draw = random.Random(f"{self._seed}-{number}")
        run = self._bench.folder / f"kill-{number}"
        notes = run.with_suffix(".points")
        links = bool(draw.randrange(4))
        books, outcomes = Books(run), []
        for attempt in range(CHAIN):
            # A run that continues has fewer points left than one that begins.
            point = 1 + int(self.points * draw.random() ** (1 if not attempt else 2))
            notes.unlink(missing_ok=True)
            ended = self._bench.run(words(run.name), hook=_hook(point, notes, links))
            if ended.status != -signal.SIGKILL:
                break
            kind = notes.read_text().strip()
            which = "continued run" if attempt else "first run"
            where = kind if links else f"{kind}, no links"
            outcomes.append(Outcome(f"killed {where}: {which}", "continued", books.look()))
            if (run / "_SUCCESS").exists():
                found = {n: c for n, c in files_of(run).items() if not n.startswith("tmp/")}
                outcomes[-1].faults += differences(found, self._bench.expected)
        outcomes = outcomes or [Outcome("no kill: a run of fewer calls", "same bytes")]
        if ended.status != -signal.SIGKILL:
            outcomes[-1].faults += ended.faults
        outcomes[-1].faults += self._finished(run, books)
        shutil.rmtree(run)
        notes.unlink(missing_ok=True)
        return outcomes

    def _finished(self, run: Path, books: Books) -> list[str]:
        """What is wrong once nothing kills the run any more."""
        ended = self._bench.healed(words(run.name))
        if ended.status:
            return [f"not killed: {ended.status}: {ended.errors}"]
        return books.look() + differences(files_of(run), self._bench.expected)


def _hook(point: int, notes: Path, links: bool) -> str:
    where = f"{point}, {str(notes)!r}, {links}"
    return f"from tools.reliability import points; points.watch({where})"

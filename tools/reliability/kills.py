"""Runs that are killed at calls that change files, continued, killed again, and continued."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from typing import Self

from tests.end_to_end.conftest import files_of
from tests.end_to_end.runs import Books
from tools.reliability.bench import QUICK, Ended, Harm, Outcome, differences, words

# An attempt is killed, then the next, at most so often.
CHAIN = 6


class Kills(Harm):
    """A trial is a run that is killed, continued, killed again, and in the end left alone."""

    name, count, per_trial = "kills", 1000, 4

    def __enter__(self) -> Self:
        notes = self.bench.folder / "points"
        ended = self.bench.run(words("counted"), hook(0, notes, links=True))
        if ended.status:
            raise RuntimeError(ended.errors)
        self._points = len(notes.read_text().splitlines())
        return self

    def trial(self, number: int) -> list[Outcome]:
        """A run that is killed up to `CHAIN` times, then finished."""
        draw = self.draw(number)
        run = self.bench.folder / f"kill-{number}"
        notes = run.with_suffix(".points")
        links = bool(draw.randrange(4))
        books, outcomes = Books(run), []
        for attempt in range(CHAIN + 1):
            # A run that continues has fewer points left than one that begins.
            point = 1 + int(self._points * draw.random() ** (1 if not attempt else 2))
            notes.unlink(missing_ok=True)
            before = hook(point if attempt < CHAIN else 0, notes, links)
            ended = self.bench.run(words(run.name), before)
            if ended.status != -signal.SIGKILL:
                break
            kind = notes.read_text().strip()
            which = "continued run" if attempt else "first run"
            where = kind if links else f"{kind}, no links"
            outcomes.append(Outcome(f"killed {where}: {which}", "continued", books.look()))
            if (run / "_SUCCESS").exists():
                found = {n: c for n, c in files_of(run).items() if not n.startswith("tmp/")}
                outcomes[-1].faults += differences(found, self.bench.expected)
        outcomes = outcomes or [Outcome("no kill: a run of fewer calls", "same bytes")]
        outcomes[-1].faults += self._ended(ended, run, books)
        shutil.rmtree(run)
        notes.unlink(missing_ok=True)
        return outcomes

    def _ended(self, ended: Ended, run: Path, books: Books) -> list[str]:
        """What is wrong once nothing has killed the run any more; it may ask to be repeated."""
        faults = ended.faults
        if ended.status:
            ended = self.bench.healed(words(run.name))
        if ended.status:
            return [*faults, f"not killed: {ended.status}: {ended.errors}"]
        return faults + books.look() + differences(files_of(run), self.bench.expected)


def hook(point: int, notes: Path, links: bool) -> str:
    """What kills the process that it runs in at a point; see `points.watch`."""
    where = f"{point}, {str(notes)!r}, {links}"
    return f"{QUICK}\nfrom tools.reliability import points; points.watch({where})"

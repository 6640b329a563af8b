"""The end of a run: totals from the commit records, summary, `_SUCCESS`."""

import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pipelines import areas, plan, storage
from pipelines.areas import Tally
from pipelines.commits import Commit, CommitLog
from pipelines.formats.interface import Work
from pipelines.options import FailureBudget

COMPLETE, FAULT, OVER_BUDGET, INCOMPLETE = 0, 1, 3, 4
# How far ground areas of pixels may be from the footprint, relatively.
BALANCE = 1e-6
FAILURES_SHOWN = 10


@dataclass(frozen=True)
class Totals:
    """What the commit records of the plan add up to."""

    units: int
    missing: int
    tally: Tally
    failures: tuple[dict[str, Any], ...] = ()

    @property
    def is_balanced(self) -> bool:
        """Whether ground areas of pixels add up to the footprint, which is from the outline."""
        summed = math.fsum(self.tally.area_m2.values())
        return math.isclose(summed, self.tally.footprint_m2, rel_tol=BALANCE)

    def status(self, budget: FailureBudget) -> int:
        """Exit status of the run."""
        if not self.is_balanced:
            return FAULT
        if self.missing:
            return INCOMPLETE
        images = self.tally.images + self.tally.failed_images
        return COMPLETE if budget.allows(self.tally.failed_images, images) else OVER_BUDGET


def collect(work: Work) -> Totals:
    """Totals of all units whose numbers count: those that are no block of a scene."""
    log = CommitLog(work.run.root, work.options)
    failures: list[dict[str, Any]] = []
    counts = Counter[str]()

    def tallies() -> Iterator[Tally]:
        for kind in ("part", "scenes"):
            for unit in plan.read_units(work.run.plan, kind):
                commit = log.read(unit)
                counts["units"] += kind == "part"
                if commit is None:
                    # A block that is missing shows in its scene, which is missing too.
                    counts["missing"] += kind == "part"
                    counts["unfinished scenes"] += kind == "scenes"
                    continue
                if len(failures) < FAILURES_SHOWN:
                    failures.extend(_failures_of(commit, work))
                if unit.scene is None:
                    yield commit.tally

    total = Tally.sum(tallies())
    return Totals(
        units=counts["units"],
        missing=counts["missing"] or counts["unfinished scenes"],
        tally=total,
        failures=tuple(failures[:FAILURES_SHOWN]),
    )


def _failures_of(commit: Commit, work: Work) -> list[dict[str, Any]]:
    paths = [o.path for o in commit.outputs if o.path.startswith("failures/")]
    lines = [line for p in paths for line in storage.read_bytes(work.run.path(p)).splitlines()]
    return [json.loads(line) for line in lines]


def finish_run(work: Work, budget: FailureBudget, counts: dict[str, Any]) -> int:
    """Write totals, summary and, if the run is complete within the budget, `_SUCCESS`.

    Args:
        work: Of the run.
        budget: How many images may fail.
        counts: Of this attempt, for the summary.

    Returns:
        The exit status: 0, 1 if the table does not balance, 3 or 4.
    """
    totals = collect(work)
    classes = work.contract.classes
    work.run.write("areas.csv", areas.totals_csv(totals.tally, classes))
    status = totals.status(budget)
    summary = {
        "exit_status": status,
        "complete": totals.missing == 0,
        "balanced": totals.is_balanced,
        "units": totals.units,
        "unfinished_units": totals.missing,
        "images": totals.tally.images,
        "failed_images": totals.tally.failed_images,
        "failure_budget": str(budget),
        "first_failures": list(totals.failures),
        "pixels": sum(totals.tally.pixels.values()),
        "footprint_m2": totals.tally.footprint_m2 if totals.tally.area_m2 else None,
        "this_attempt": counts,
    }
    work.run.write_json("summary.json", summary)
    if status == COMPLETE:
        work.run.write("_SUCCESS", b"")
    if not totals.missing:
        storage.remove(work.run.scratch)
    return status

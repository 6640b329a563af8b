"""The end of a run: totals from the commit records, summary, `_SUCCESS`."""

import io
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from pipelines.cli.exit_status import ExitStatus
from pipelines.cli.values import FailureBudget
from pipelines.formats.work import Work
from pipelines.results import contact_sheet
from pipelines.results.contact_sheet import UnitSample
from pipelines.results.failure_table import FailureTable, failures_of, write_failures
from pipelines.results.value_range import RangeCheck, range_line
from pipelines.run import areas, plan
from pipelines.run.area_tables import totals_csv
from pipelines.run.areas import Tally
from pipelines.run.plan import CountUnit, WorkUnit
from pipelines.run.progress import amount_of_pixels
from pipelines.run.soft_areas import soft_csv
from pipelines.scenes.results import scene_summary, write_scene_results
from segmodel.errors import FailureCode, counted

# How far ground areas of pixels may be from the footprint, relatively.
BALANCE = 1e-6
REASONS_SHOWN = 5
# In `summary.json`: SHA-256 of what the end of the run wrote beside it.
FILES = "files"


@dataclass(frozen=True)
class Totals:
    """What the commit records of the plan add up to.

    Args:
        units: Number of work units of the plan.
        missing: Number of these, or of units that follow from them, without a commit record.
        tally: Sum of the tallies.
        smaller_batches: Number of units for whose batches memory did not suffice.
        sample: Units that the contact sheet shows.
        out_of_range: What `summary.json` says of values outside the range of the model, or None.
    """

    units: int
    missing: int
    tally: Tally
    smaller_batches: int = 0
    sample: UnitSample = field(default_factory=UnitSample, compare=False)
    out_of_range: dict[str, Any] | None = field(default=None, compare=False)

    @property
    def is_balanced(self) -> bool:
        """Whether ground areas of pixels add up to the footprint, which is from the outline."""
        summed = math.fsum(self.tally.area_m2.values())
        return math.isclose(summed, self.tally.footprint_m2, rel_tol=BALANCE)

    def status(self, budget: FailureBudget) -> ExitStatus:
        """How the run ended."""
        if not self.is_balanced:
            return ExitStatus.INTERNAL_ERROR
        failed = self.tally.failed_images
        return budget.status(failed, self.tally.images + failed, self.missing)


def sum_commits(work: Work, failures: FailureTable | None = None) -> Totals:
    """Sum of the commit records of all units that count; see `Unit.is_in_totals`.

    Args:
        work: Work that all units of the run share.
        failures: Table to which the failed images are added, or None.
    """
    log = work.log
    of_classes = [str(i) for i in work.contract.classes.ids]
    counts = Counter[object]()
    sample = UnitSample()
    ranges = RangeCheck(work.run.root, work.contract, work.max_out_of_range)

    def tallies() -> Iterator[Tally]:
        for kind in plan.KINDS:
            for unit, commit in log.read_all(plan.read_units(work.run.plan, kind)):
                counts[kind] += 1
                if commit is None:
                    counts["missing", kind] += 1
                    continue
                counts["smaller batches"] += bool(commit.smaller_batches)
                beyond = list(ranges.failures_of(unit, commit))
                if failures is not None:
                    failures.add(failures_of(commit, log))
                    failures.add(beyond)
                if not unit.is_block and not isinstance(unit, CountUnit) and commit.tally.images:
                    sample.offer(unit, any(commit.tally.pixels.get(key) for key in of_classes))
                if unit.is_in_totals(work.counts_once):
                    yield commit.tally

    total = Tally.sum(tallies())
    # A block that is missing shows in its scene, which is missing too, and that in its count.
    missing = next((n for kind in plan.KINDS if (n := counts["missing", kind])), 0)
    tally = replace(
        total,
        images=total.images - ranges.failed,
        failed_images=total.failed_images + ranges.failed,
    )
    of_range = ranges.summary(total)
    return Totals(counts[WorkUnit], missing, tally, counts["smaller batches"], sample, of_range)


def finish_run(work: Work, budget: FailureBudget, counts: dict[str, Any]) -> int:
    """Write totals, failures, summary, contact sheet and, if complete within budget, `_SUCCESS`.

    Args:
        work: Work that all units of the run share.
        budget: How many images may fail.
        counts: Counts of this attempt, for the summary.

    Returns:
        The exit status: 0, 1 if the table does not balance, 3 or 4.
    """
    run, classes = work.run, work.contract.classes
    document = run.read_run() or {}
    totals, failures, rows = write_failures(run, lambda table: sum_commits(work, table))
    written = {"failures.csv": rows}
    written["areas.csv"] = run.write("areas.csv", totals_csv(totals.tally, classes))
    if work.soft_areas:
        table = soft_csv(totals.tally, classes)
        written["soft_areas.csv"] = run.write("soft_areas.csv", table)
    status = totals.status(budget)
    zones = write_scene_results(work, written)
    written["preview.png"] = run.write("preview.png", _contact_sheet(totals, failures, work))
    summary = {
        "exit_status": status.value,
        "reason": status.reason,
        "complete": totals.missing == 0,
        "balanced": totals.is_balanced,
        "units": totals.units,
        "unfinished_units": totals.missing,
        "units_with_smaller_batches": totals.smaller_batches,
        "images": totals.tally.images,
        "failed_images": totals.tally.failed_images,
        "failure_budget": str(budget),
        "failures_by_reason": failures.by_reason(),
        "first_failures": failures.first,
        "missing_shards": document.get("missing_shards"),
        "pixels": sum(totals.tally.pixels.values()),
        "footprint_m2": totals.tally.footprint_m2 if totals.tally.area_m2 else None,
        "out_of_range": totals.out_of_range,
        "gone_inputs": document.get("gone_inputs", 0),
        "left_aside": document.get("left_aside", []),
        **scene_summary(work, totals.tally),
        **zones,
        "this_attempt": counts,
        FILES: {name: entry.sha256 for name, entry in sorted(written.items()) if entry},
    }
    run.write_json("summary.json", summary, work.is_sealed)
    if status == ExitStatus.COMPLETE:
        run.write("_SUCCESS", b"")
    if not totals.missing:
        run.clear_scratch()
    return status.value


def _contact_sheet(totals: Totals, failures: FailureTable, work: Work) -> bytes:
    """The sheet as PNG, under the counts of the run and the most frequent reasons of failures."""
    tally, classes = totals.tally, work.contract.classes
    labelled = sum(tally.pixels.get(str(i), 0) for i in classes.ids)
    captions = {
        entry.name: f"{tally.pixels.get(str(entry.id), 0) / labelled:.1%}" if labelled else ""
        for entry in classes.classes
    }
    nodata = tally.pixels.get(areas.NODATA, 0)
    lines = [
        f"{counted(tally.images, 'image')} labelled, {tally.failed_images:,} failed; "
        f"{amount_of_pixels(labelled)} in classes, {amount_of_pixels(nodata)} nodata"
    ]
    if (outside := tally.pixels.get(areas.OUTSIDE_AOI)) is not None:
        lines[0] += f", {amount_of_pixels(outside)} outside the area of interest"
    if totals.missing:
        lines.append(f"{totals.missing:,} of {counted(totals.units, 'unit')} unfinished")
    if (line := range_line(totals.out_of_range)) is not None:
        lines.append(line)
    for row in failures.by_reason()[:REASONS_SHOWN]:
        code = "" if row["code"] == FailureCode.OTHER else f" ({row['code']})"
        lines.append(f"{row['count']:,} failed{code}: {row['reason']}")
    tiles = list(contact_sheet.thumbnails(totals.sample, work))
    empty = "nodata" if work.reading.aoi is None else "nodata, or outside the area of interest"
    buffer = io.BytesIO()
    contact_sheet.draw_sheet(tiles, classes, captions, lines, empty).save(buffer, "PNG")
    return buffer.getvalue()

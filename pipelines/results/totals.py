"""The end of a run: totals from the commit records, summary, `_SUCCESS`."""

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from pipelines.cli.exit_status import ExitStatus
from pipelines.cli.values import FailureBudget
from pipelines.formats.work import Work
from pipelines.results import contact_sheet
from pipelines.results.contact_sheet import UnitSample
from pipelines.results.failure_table import FailureTable, write_failures
from pipelines.results.part_sums import PartSum
from pipelines.results.part_tables import FAILURES, OVERLAPS, label_maps
from pipelines.results.value_range import RangeCheck, range_line
from pipelines.run import areas, plan
from pipelines.run.area_tables import totals_csv
from pipelines.run.areas import Tally, TallySum
from pipelines.run.failures import Failure
from pipelines.run.plan import WorkUnit
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

    @classmethod
    def of(cls, found: PartSum, work: Work) -> "Totals":
        """By the sum of all parts of the plan.

        Args:
            found: That sum.
            work: Work that all units of the run share.
        """
        whole = TallySum()
        whole.add(found.tally)
        total = whole.rounded()
        tally = replace(
            total,
            images=total.images - found.range_failures,
            failed_images=total.failed_images + found.range_failures,
        )
        return cls(
            units=found.units[WorkUnit.kind],
            missing=found.unfinished,
            tally=tally,
            smaller_batches=found.smaller_batches,
            sample=found.sample,
            out_of_range=_out_of_range(found, work),
        )

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


def finish_run(work: Work, budget: FailureBudget, counts: dict[str, Any], found: PartSum) -> int:
    """Write totals, failures, summary, contact sheet and, if complete within budget, `_SUCCESS`.

    Args:
        work: Work that all units of the run share.
        budget: How many images may fail.
        counts: Counts of this attempt, for the summary.
        found: Sum of all parts of the plan.

    Returns:
        The exit status: 0, 1 if the table does not balance, 3 or 4.
    """
    run, classes = work.run, work.contract.classes
    document = run.read_run() or {}
    totals = Totals.of(found, work)
    _, failures, rows = write_failures(run, lambda table: table.add(_failures(found, work)))
    written = {"failures.csv": rows}
    written["areas.csv"] = run.write("areas.csv", totals_csv(totals.tally, classes))
    if work.soft_areas:
        table = soft_csv(totals.tally, classes)
        written["soft_areas.csv"] = run.write("soft_areas.csv", table)
    status = totals.status(budget)
    overlaps = OVERLAPS.merged(found.with_rows, work)
    maps = label_maps(found.with_rows, work)
    zones = write_scene_results(work, written, found.zones, overlaps, maps)
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
    # What has _SUCCESS is finished, and nothing of it is in the way any more.
    run.clear_rows()
    if status == ExitStatus.COMPLETE:
        run.write("_SUCCESS", b"")
    if not totals.missing:
        run.clear_scratch()
    return status.value


def _failures(found: PartSum, work: Work) -> Iterator[Failure]:
    """All failed images, in the order of the plan."""
    return (Failure(**row) for row in FAILURES.merged(found.with_rows, work))


def _out_of_range(found: PartSum, work: Work) -> dict[str, Any] | None:
    """What `summary.json` says of values outside the range of the model."""
    folder, log = work.run.plan, work.log
    units = (plan.read_unit(folder, one, plan.kind_of(one.part)) for _, one in found.worst)
    worst = [(unit, commit) for unit in units if (commit := log.read(unit)) is not None]
    ranges = RangeCheck(work.run.root, work.contract, work.max_out_of_range)
    return ranges.summary(found.tally, found.range_failures, worst)


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

"""The end of a pack: counts from the commit records, summary, and `pack.json` if all is done."""

from dataclasses import dataclass
from itertools import groupby
from typing import Any

import segmodel
from pipelines.cli.exit_status import ExitStatus
from pipelines.cli.values import FailureBudget
from pipelines.datasets.launch import RESULT
from pipelines.datasets.work import PackWork, shards_of, split_name
from pipelines.results.failure_table import FailureTable, failures_of, write_failures
from pipelines.run import plan
from pipelines.run.areas import NODATA, Tally, TallySum
from pipelines.run.directory import MARK, PACK
from pipelines.run.plan import WorkUnit
from pipelines.run.seals import json_file
from pipelines.storage import filesystem


@dataclass(frozen=True)
class SplitTotal:
    """What the commit records of one split add up to.

    Args:
        name: Name of the split.
        shards: Number of its shards in the plan.
        missing: Number of these without a commit record.
        tally: Images and pixels of the others.
    """

    name: str
    shards: int
    missing: int
    tally: Tally


def totals_of_splits(work: PackWork, failures: FailureTable) -> list[SplitTotal]:
    """Sums of the commit records of each split, in order of the plan.

    Args:
        work: Work that all shards share.
        failures: Table to which the failed images are added.
    """
    totals = []
    for split, units in groupby(plan.read_units(work.run.plan, WorkUnit), split_name):
        shards, missing, total = 0, 0, TallySum()
        for _, commit in work.log.read_all(units):
            shards += 1
            if commit is None:
                missing += 1
                continue
            failures.add(failures_of(commit, work.log))
            total.add(commit.tally)
        totals.append(SplitTotal(split, shards, missing, total.rounded()))
    return totals


def finish_pack(work: PackWork, budget: FailureBudget, counts: dict[str, Any]) -> int:
    """Write failures, summary and, if all shards are there within the budget, `pack.json`.

    Args:
        work: Work that all shards share.
        budget: How many images may fail.
        counts: Counts of this attempt, for the summary.

    Returns:
        The exit status: 0, 3 or 4.
    """
    run = work.run
    totals, failures, _ = write_failures(run, lambda table: totals_of_splits(work, table))
    missing = sum(total.missing for total in totals)
    images = sum(total.tally.images for total in totals)
    failed = sum(total.tally.failed_images for total in totals)
    status = budget.status(failed, images + failed, missing)
    summary = {
        "exit_status": status.value,
        "reason": status.reason,
        "shards": sum(total.shards for total in totals),
        "unfinished_shards": missing,
        "images": images,
        "failed_images": failed,
        "failure_budget": str(budget),
        "failures_by_reason": failures.by_reason(),
        "first_failures": failures.first,
        "this_attempt": counts,
    }
    run.write_json("summary.json", summary, work.is_sealed)
    if status == ExitStatus.COMPLETE:
        content = json_file(_document(work, totals), work.is_sealed)
        filesystem.write_bytes(f"{work.output}/{RESULT}", content, run.scratch)
    if not missing:
        run.clear_scratch()
    return status.value


def _document(work: PackWork, totals: list[SplitTotal]) -> dict[str, Any]:
    """What `pack.json` says; the same files and options give the same bytes."""
    begun = work.run.read_run() or {}
    options = dict(begun["shape"])
    classes = options.pop("classes", None)
    document = MARK | {"format": PACK, "beamseg": segmodel.__version__, "options": options}
    if work.masks is not None:
        shards, _ = shards_of(options["format"])
        table = work.masks.mapping.classes
        document |= {"label_field": shards.label_field, "classes": classes, "nodata": table.nodata}
    return document | {
        "splits": {total.name: _split(total, begun["groups"], work) for total in totals}
    }


def _split(total: SplitTotal, groups: dict[str, int], work: PackWork) -> dict[str, Any]:
    counted = {
        "shards": total.shards,
        "groups": groups[total.name],
        "images": total.tally.images,
        "failed_images": total.tally.failed_images,
    }
    if work.masks is None:
        return counted
    pixels, classes = total.tally.pixels, work.masks.mapping.classes.classes
    return counted | {
        "pixels": {entry.name: pixels.get(str(entry.id), 0) for entry in classes},
        "nodata_pixels": pixels.get(NODATA, 0),
    }

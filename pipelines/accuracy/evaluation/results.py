"""The end of an evaluation: matrices, scores and pictures from the counts of all units."""

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, TextIO

from pipelines.accuracy.evaluation.comparison import ComparedCounts
from pipelines.accuracy.evaluation.scores import (
    ALL,
    CLASS_COLUMNS,
    GROUP,
    IMAGE_COLUMNS,
    MATRIX_SCHEMA,
    ZONE,
    class_rows,
    image_row,
    matrix_rows,
    scores_document,
)
from pipelines.accuracy.evaluation.work import IMAGE, EvaluateWork, counts_of_unit
from pipelines.cli.exit_status import ExitStatus
from pipelines.cli.values import FailureBudget
from pipelines.datasets.splits import group_by_rule
from pipelines.results.failure_table import FailureTable, failures_of, write_failures
from pipelines.run import plan
from pipelines.run.area_tables import AreaTable, area_table
from pipelines.run.failures import Failure
from pipelines.run.plan import SCENE, WorkUnit
from pipelines.storage import filesystem
from segmodel.escaping import inert
from segmodel.reports.charts import write_confusion, write_reliability


@dataclass
class _Totals:
    """What all units add up to.

    Args:
        classes: Number of classes.
        whole: Of all images.
        groups: By group.
        zones: By zone.
        how: Number of images by kind and by how the reference lies on them.
        images: Number of images compared.
        failed: Number of images that could not be.
        units: Number of units.
        missing: Number of these without a commit record.
    """

    classes: int
    whole: ComparedCounts
    groups: dict[str, ComparedCounts] = field(default_factory=dict)
    zones: dict[str, ComparedCounts] = field(default_factory=dict)
    how: Counter[tuple[str, str]] = field(default_factory=Counter)
    images: int = 0
    failed: int = 0
    units: int = 0
    missing: int = 0

    def scopes(self) -> Iterator[tuple[str, str, ComparedCounts]]:
        """All, groups and zones, with their names."""
        yield ALL, "", self.whole
        for scope, found in ((GROUP, self.groups), (ZONE, self.zones)):
            for name, counts in sorted(found.items()):
                yield scope, name, counts


def finish_evaluation(
    work: EvaluateWork, budget: FailureBudget, group_by: str | None, counts: dict[str, Any]
) -> int:
    """Write failures, summary and, if all units are there within the budget, scores and pictures.

    Args:
        work: Work that all units share.
        budget: How many images may fail.
        group_by: Rule of groups, or None.
        counts: Counts of this attempt, for the summary.

    Returns:
        The exit status: 0, 3 or 4.
    """
    run, scratch = work.run, work.run.scratch
    with filesystem.temporary(scratch) as images, filesystem.temporary(scratch) as matrices:

        def collect(rows: FailureTable) -> _Totals:
            with (
                open(images, "w", encoding="utf-8", newline="") as stream,
                area_table(matrices, MATRIX_SCHEMA) as table,
            ):
                totals = _sum(work, rows, _ImageTables(stream, table, work, group_by))
                for scope, name, found in totals.scopes():
                    table.add(matrix_rows(scope, name, found, work.classes))
            return totals

        totals, failures, _ = write_failures(run, collect)
        status = budget.status(totals.failed, totals.images + totals.failed, totals.missing)
        if status == ExitStatus.COMPLETE:
            filesystem.publish(images, run.path("images.csv"))
            filesystem.publish(matrices, run.path("matrices.parquet"))
            _write_scores(work, totals)
    summary = {
        "exit_status": status.value,
        "reason": status.reason,
        "units": totals.units,
        "unfinished_units": totals.missing,
        "images": totals.images,
        "failed_images": totals.failed,
        "failure_budget": str(budget),
        "failures_by_reason": failures.by_reason(),
        "first_failures": failures.first,
        "this_attempt": counts,
    }
    run.write_json("summary.json", summary, is_sealed=True)
    if not totals.missing:
        run.clear_scratch()
    return status.value


@dataclass
class _ImageTables:
    """Tables with rows for each image, written as images come."""

    stream: TextIO
    matrices: AreaTable
    work: EvaluateWork
    group_by: str | None

    def __post_init__(self) -> None:
        self._csv = csv.DictWriter(self.stream, IMAGE_COLUMNS, lineterminator="\n")
        self._csv.writeheader()

    def add(self, rows: list[dict[str, Any]], totals: _Totals) -> None:
        """Add an image, all of whose parts were compared."""
        first, size = rows[0], totals.classes
        counts = ComparedCounts(size)
        group = None if self.group_by is None else group_by_rule(first["name"], self.group_by)
        added = [counts, totals.whole]
        if group is not None:
            added.append(totals.groups.setdefault(group, ComparedCounts(size)))
        for row in rows:
            for target in added:
                target.add_json(row)
            for zone, cells in row["zones"].items():
                totals.zones.setdefault(zone, ComparedCounts(size)).add_json({"cells": cells})
        if not counts.cells:
            # Nothing of the reference lies on it.
            return
        totals.images += 1
        totals.how[first["kind"], first["how"]] += 1
        named = {"image": first["image"], "kind": first["kind"], "reference": first["how"]}
        found = image_row(counts, self.work.classes) | named | {"group": group}
        self._csv.writerow({name: inert(value) for name, value in found.items()})
        self.matrices.add(matrix_rows(IMAGE, first["image"], counts, self.work.classes))


def _sum(work: EvaluateWork, failures: FailureTable, tables: _ImageTables) -> _Totals:
    """Add up all units in order of the plan, image by image."""
    size = len(work.classes.ids)
    totals = _Totals(size, ComparedCounts(size))
    for _, parts in groupby(_parts(work, failures, totals), lambda part: part[0]):
        rows = [row for _, row in parts]
        whole = [row for row in rows if row is not None]
        if len(whole) == len(rows):
            tables.add(whole, totals)
        else:
            totals.failed += 1
    return totals


def _parts(
    work: EvaluateWork, failures: FailureTable, totals: _Totals
) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """Name and counts of images and blocks of scenes, which follow each other; None of failed."""
    for unit, commit in work.log.read_all(plan.read_units(work.run.plan, WorkUnit)):
        totals.units += 1
        if commit is None:
            totals.missing += 1
            continue
        failed = list(failures_of(commit, work.log))
        failures.add(failed)
        for output in commit.outputs:
            if output.path == counts_of_unit(unit.id):
                for line in work.log.lines(output):
                    if line.startswith(b"{"):
                        row = json.loads(line.rstrip().removesuffix(b","))
                        yield row["image"], row
        for failure in failed:
            yield _image_of(failure, unit.format), None


def _image_of(failure: Failure, kind: str) -> str:
    return failure.uri if kind == SCENE else failure.name


def _write_scores(work: EvaluateWork, totals: _Totals) -> None:
    """Write scores and pictures; `scores.json` last."""
    run, classes = work.run, work.classes
    stream = io.StringIO(newline="")
    table = csv.DictWriter(stream, CLASS_COLUMNS, lineterminator="\n")
    table.writeheader()
    for scope, name, counts in totals.scopes():
        for row in class_rows(scope, name, counts, classes):
            table.writerow({key: inert(value) for key, value in row.items()})
    run.write("scores.csv", stream.getvalue().encode("utf-8", "backslashreplace"))
    whole = totals.whole
    _draw(
        work,
        "confusion.png",
        lambda path: write_confusion(path, whole.matrix[:, :-1], classes.names),
    )
    if (levels := whole.confidence) is not None and levels.any():
        _draw(work, "reliability.png", lambda path: write_reliability(path, levels))
    begun = run.read_run() or {}
    document = {
        "format": "beamseg scores",
        "format_version": 1,
        "boundary_px": work.boundary_px,
        "images": totals.images,
        "failed_images": totals.failed,
        **begun["compared"],
        "compared": [
            {"kind": kind, "reference": how, "images": number}
            for (kind, how), number in sorted(totals.how.items())
        ],
        **scores_document(totals.scopes(), classes),
    }
    run.write("scores.json", f"{json.dumps(document, indent=2)}\n".encode())


def _draw(work: EvaluateWork, name: str, draw: Callable[[str], None]) -> None:
    with filesystem.write_atomic(work.run.path(name), work.run.scratch) as draft:
        draw(draft.path)

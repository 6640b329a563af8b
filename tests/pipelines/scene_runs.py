"""Whole runs over scenes, from options to tables, without an engine and with a fake model."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import shapely

from pipelines.cli.values import FailureBudget
from pipelines.formats.work import Work
from pipelines.results.failure_table import COLUMNS
from pipelines.results.verify import Verdict, verify
from pipelines.results.verify_units import Finding
from pipelines.run import plan
from pipelines.run.attempts import UnitReport
from pipelines.scenes.assembly import finish_scene
from pipelines.scenes.counts import count_scene
from pipelines.segment.options import SegmentOptions
from pipelines.worker.unit import segment_unit
from tests.fakes import BrightnessModel
from tests.pipelines.corpus import begun, finish, read_band

# Lines of `areas.csv` that add up to its total.
PARTS = ("dark", "middle", "bright", "nodata", "failed", "elsewhere")
Row = dict[str, str]


@dataclass(frozen=True)
class Finished:
    """A run that came to its end.

    Args:
        work: Of the run.
        status: Exit status.
        reports: Of the units with work, in their order.
        model: What labelled them.
    """

    work: Work
    status: int
    reports: tuple[UnitReport, ...]
    model: BrightnessModel

    @property
    def root(self) -> Path:
        """The run directory."""
        return Path(self.work.run.root)

    def rows(self, name: str) -> list[Row]:
        """Rows of a table."""
        with (self.root / name).open(encoding="utf-8", newline="") as stream:
            return list(csv.DictReader(stream))

    @cached_property
    def pixels(self) -> dict[str, int]:
        """Of `areas.csv` by line; those of lines that are not there are 0."""
        found = {row["class"]: int(row["pixels"]) for row in self.rows("areas.csv")}
        return dict.fromkeys(PARTS, 0) | found

    @cached_property
    def area_m2(self) -> dict[str, float]:
        """Of `areas.csv` by line."""
        found = {row["class"]: float(row["area_m2"] or 0) for row in self.rows("areas.csv")}
        return dict.fromkeys(PARTS, 0.0) | found

    @property
    def summary(self) -> dict:
        """Of the run."""
        return json.loads((self.root / "summary.json").read_bytes())

    def zones(self, column: str = "pixels") -> dict[str, dict[str, float]]:
        """A column of `zones.csv` by zone and line; lines with nothing are left out."""
        found: dict[str, dict[str, float]] = {}
        for row in self.rows("zones.csv"):
            value = int(row[column]) if column == "pixels" else float(row[column] or 0)
            zone = found.setdefault(row["zone"], {})
            if value:
                zone[row["class"]] = value
        return found

    def failures(self) -> dict[str, Row]:
        """Rows of `failures.csv` by scene; of several, the last."""
        rows = self.rows("failures.csv")
        assert all(tuple(row) == COLUMNS for row in rows)
        return {row["uri"]: row for row in rows}

    def labels(self, name: str) -> np.ndarray:
        """A label map by its name below `labels`."""
        return read_band(self.root / "labels" / name)

    def verified(self) -> tuple[Verdict, list[Finding]]:
        """What `beamseg verify` finds."""
        findings: list[Finding] = []
        return verify(str(self.root), findings.append), findings


def run_scenes(
    folder: Path, model_folder: Path, *inputs: Path, model: BrightnessModel | None = None, **options
) -> Finished:
    """Do what `beamseg segment` does into `folder`, with a window of 64 unless options say else."""
    chosen = model or BrightnessModel()
    fields = {"window": 64, "halo": 0, "batch": 2, "max_failures": FailureBudget(0, None)}
    paths = tuple(str(path) for path in inputs)
    asked = SegmentOptions(paths, str(model_folder), str(folder), **(fields | options))
    work = begun(asked)
    reports = [
        segment_unit(unit, work, model=lambda work: chosen)
        for unit in plan.read_units(work.run.plan, plan.WorkUnit)
    ]
    for kind, action in ((plan.AssemblyUnit, finish_scene), (plan.CountUnit, count_scene)):
        for unit in plan.read_units(work.run.plan, kind):
            action(unit, work)
    status = finish(work, asked.max_failures, {"units_skipped": 0, "seconds": 0.0})
    return Finished(work, status, tuple(reports), chosen)


def write_polygons(path: Path, crs: str, named: Iterable[tuple[str, object]]) -> str:
    """GeoJSON with names, also in another CRS than its standard has; gives the path as text."""
    features = [
        {
            "type": "Feature",
            "properties": {"name": name},
            "geometry": shapely.geometry.mapping(shape),
        }
        for name, shape in named
    ]
    authority, code = crs.split(":")
    document = {
        "type": "FeatureCollection",
        "crs": {"type": "name", "properties": {"name": f"urn:ogc:def:crs:{authority}::{code}"}},
        "features": features,
    }
    path.write_text(json.dumps(document))
    return str(path)

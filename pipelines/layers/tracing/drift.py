"""How much the area of each class changes as polygons are simplified."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

from pipelines.layers.stages import StageWork
from pipelines.layers.tracing.simplify_stages import (
    GROWN_M2,
    GROWN_PX,
    SHRUNK_M2,
    SHRUNK_PX,
    Simplifying,
)
from pipelines.layers.tracing.stages import POLYGON_M2, POLYGON_PIXELS
from pipelines.run.area_tables import csv_bytes
from pipelines.run.areas import TallySum
from segmodel.labels.classes import ClassTable


class ClassDrift(NamedTuple):
    """What the polygons of a class, or of all, have before, and how much they grow.

    Attributes:
        pixels: Pixels before.
        drift_px: How much more they are after; half pixels are possible.
        area_m2: Ground area before; None where it is not known.
        drift_m2: How much more it is after.
    """

    pixels: int
    drift_px: float
    area_m2: float | None
    drift_m2: float | None

    @property
    def percent(self) -> float | None:
        """Drift in per cent of the area, or of pixels where it is not known; None of nothing."""
        if self.area_m2 is not None and self.drift_m2 is not None:
            return 100 * self.drift_m2 / self.area_m2 if self.area_m2 else None
        return 100 * self.drift_px / self.pixels if self.pixels else None


@dataclass(frozen=True)
class DriftTable:
    """The drift of each class.

    Args:
        classes: The classes.
        sums: Exact sums by class, by the names of tallies.
    """

    classes: ClassTable
    sums: Mapping[str, Mapping[str, Any]]

    def lines(self) -> Iterator[tuple[int | str, str, ClassDrift]]:
        """Id, name and drift of each class, and of all together."""
        for entry in self.classes.classes:
            yield entry.id, entry.name, self._of([str(entry.id)])
        yield "", "total", self._of([str(i) for i in self.classes.ids])

    def _of(self, keys: list[str]) -> ClassDrift:
        def total(name: str) -> Fraction:
            found = self.sums.get(name, {})
            return sum((Fraction(found.get(key, 0)) for key in keys), Fraction(0))

        pixels = int(total(POLYGON_PIXELS))
        drift_px = float(total(GROWN_PX) - total(SHRUNK_PX))
        if POLYGON_M2 not in self.sums:
            return ClassDrift(pixels, drift_px, None, None)
        drift_m2 = float(total(GROWN_M2) - total(SHRUNK_M2))
        return ClassDrift(pixels, drift_px, float(total(POLYGON_M2)), drift_m2)

    def to_csv(self) -> bytes:
        """The table as CSV; without ground, areas are empty."""
        rows: list[list[object]] = [["class_id", "class", *ClassDrift._fields, "drift_percent"]]
        for class_id, name, drift in self.lines():
            numbers = [None if value is None else repr(value) for value in (*drift, drift.percent)]
            rows.append([class_id, name, *numbers])
        return csv_bytes(rows)

    def to_json(self) -> list[dict[str, Any]]:
        """The same for the summary."""
        return [
            {"class_id": class_id, "class": name} | drift._asdict() | {"percent": drift.percent}
            for class_id, name, drift in self.lines()
            if class_id != ""
        ]

    def notes(self) -> list[str]:
        """A line for a screen of each class that is there."""
        lines = [(name, drift) for class_id, name, drift in self.lines() if class_id != ""]
        return [
            f"{name}: {drift.percent:+z.3f} % of its area by --simplify"
            for name, drift in lines
            if drift.percent is not None
        ]


def drift_of(simplifying: Simplifying, work: StageWork) -> DriftTable:
    """The drift of the scenes that are done.

    Args:
        simplifying: How polygons are simplified.
        work: Work of a stage of the same layer.
    """
    total = TallySum()
    for stage in (simplifying.tracing.scenes, simplifying.scenes):
        for _, commit in work.stage(stage).commits():
            if commit is not None:
                total.add(commit.tally)
    return DriftTable(work.labelled.contract.classes, total.exact().sums)

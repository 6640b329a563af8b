"""An assessment as `accuracy.csv`, `accuracy.json`, a picture, and text for a terminal."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from pipelines.accuracy.assessment import Assessment, GroundAssessment
from pipelines.run.area_tables import csv_bytes
from segmodel.errors import counted
from segmodel.escaping import on_one_line
from segmodel.evaluation.stratified import Estimated, Estimates
from segmodel.reports.interval_chart import MAX_BARS, IntervalBar, interval_chart, number_text

HEADER = (
    *("zone", "quantity", "class_id", "class", "reference_id", "reference"),
    *("value", "standard_error", "low", "high", "wald_low", "wald_high"),
)
# Areas by the difference estimator.
CORRECTED = "area_by_probabilities_m2"
# Classes whose matrix a terminal has room for, and zones; letters of names.
MAX_PRINTED, _LETTERS = 12, 24
# From so many m² on, areas are printed in this unit.
_UNITS = ((1e10, "km²", "square kilometres", 1e6), (1e5, "ha", "hectares", 1e4))
_SQUARE_METRES = ("m²", "square metres", 1.0)


def accuracy_csv(assessment: Assessment) -> bytes:
    """One line for each number; pairs of classes that have points have their share of the area."""
    rows: list[Sequence[object]] = [HEADER]
    for ground in (assessment.whole, *assessment.zones):
        rows += _rows(ground, assessment.design.classes)
    return csv_bytes(rows)


def _rows(
    ground: GroundAssessment, classes: Sequence[tuple[int, str]]
) -> Iterator[Sequence[object]]:
    zone, blank = "" if ground.zone is None else ground.zone, ("", "")
    estimates = ground.estimates
    yield (zone, "overall_accuracy", *blank, *blank, *_cells(estimates.overall_accuracy.item()))
    for index, entry in enumerate(classes):
        for name in ("users_accuracy", "producers_accuracy", "area_shares", "areas"):
            quantity = {"area_shares": "area_share", "areas": "area_m2"}.get(name, name)
            yield (zone, quantity, *entry, *blank, *_cells(getattr(estimates, name)[index]))
        if ground.corrected is not None:
            yield (zone, CORRECTED, *entry, *blank, *_cells(ground.corrected[index]))
        mapped = ground.map_areas_m2[index]
        yield (zone, "map_area_m2", *entry, *blank, _cell(mapped), *[""] * 5)
    for pair in ground.pairs:
        names = (*classes[pair.mapped], *classes[pair.reference])
        yield (zone, "pair_share", *names, _cell(pair.share), *[""] * 5)


def _cells(estimated: Estimated) -> list[str]:
    return [_cell(value) for value in asdict(estimated).values()]


def _cell(value: float | None) -> str:
    return "" if value is None else repr(float(value))


def accuracy_json(assessment: Assessment, digests: dict[str, str]) -> dict[str, Any]:
    """All numbers, and what they follow from.

    Args:
        assessment: What was estimated.
        digests: SHA-256 of the files that it was estimated from, by what they are.
    """
    design, classes = assessment.design, assessment.design.classes
    return {
        "format": "beamseg accuracy",
        "format_version": 1,
        "run_digest": design.run_digest,
        **digests,
        "strata_by": design.strata_by,
        "seed": design.seed,
        "interval": assessment.intervals.method,
        "level": assessment.intervals.level,
        "points": {"drawn": len(design.points), "unlabelled": assessment.unlabelled},
        "repeated_ground": list(assessment.repeated),
        "classes": [{"id": number, "name": name} for number, name in classes],
        "whole": _ground_json(assessment.whole, classes),
        "zones": [_ground_json(zone, classes) for zone in assessment.zones],
    }


def _ground_json(ground: GroundAssessment, classes: Sequence[tuple[int, str]]) -> dict[str, Any]:
    estimates = ground.estimates
    by_class = {
        "users_accuracy": estimates.users_accuracy,
        "producers_accuracy": estimates.producers_accuracy,
        "area_share": estimates.area_shares,
        "area_m2": estimates.areas,
    }
    if ground.corrected is not None:
        by_class[CORRECTED] = ground.corrected
    return {
        "zone": ground.zone,
        "estimators": ground.source,
        "area_m2": ground.area_m2,
        "strata": [
            asdict(stratum) | {"labelled": labelled}
            for stratum, labelled in zip(ground.strata, ground.labelled, strict=True)
        ],
        "pairs": [
            {
                "class_id": classes[pair.mapped][0],
                "reference_id": classes[pair.reference][0],
                "points": pair.points,
                "share": pair.share,
            }
            for pair in ground.pairs
        ],
        "overall_accuracy": asdict(estimates.overall_accuracy.item()),
        "classes": [
            {"id": class_id, "name": name, "map_area_m2": ground.map_areas_m2[index]}
            | {key: asdict(found[index]) for key, found in by_class.items()}
            for index, (class_id, name) in enumerate(classes)
        ],
    }


def accuracy_picture(assessment: Assessment) -> bytes:
    """A PNG of the area of each class with its interval, beside the area on the map."""
    ground = assessment.whole
    _, unit, size = area_unit(ground.area_m2)
    bars = []
    for index, (_, name) in enumerate(assessment.design.classes):
        area = ground.estimates.areas[index]
        numbers = (area.value, area.low, area.high, ground.map_areas_m2[index])
        value, low, high, mapped = (None if n is None else n / size for n in numbers)
        bars.append(IntervalBar(name, value or 0.0, low, high, mapped))
    which = f"of the first {MAX_BARS} classes" if len(bars) > MAX_BARS else "by class"
    title = f"Ground area {which} in {unit}, estimated from {_points(assessment)}"
    return interval_chart(
        title, f"estimate with its {_level(assessment)} interval", "area on the map", bars
    )


def accuracy_text(assessment: Assessment) -> Iterator[str]:
    """Lines for a terminal."""
    ground, classes = assessment.whole, assessment.design.classes
    strata = "1 stratum" if len(ground.strata) == 1 else f"{len(ground.strata):,} strata"
    yield f"{_points(assessment)} in {strata}; {_level(assessment)} intervals"
    yield f"estimators of {ground.source}"
    yield from assessment.repeated
    yield ""
    yield from _area_lines(ground, ground.estimates.areas, classes)
    if ground.corrected is not None:
        yield "\nareas by the probabilities of the model, corrected by the sample\n"
        yield from _area_lines(ground, ground.corrected, classes)
    yield ""
    yield from _accuracy_lines(ground, classes)
    if len(classes) <= MAX_PRINTED:
        yield "\nshare of the area in %: a line is a class of the map, a column what was seen\n"
        yield from _pair_lines(ground, classes)
    for zone in assessment.zones[:MAX_PRINTED]:
        yield f"\n{on_one_line(zone.zone or '')}, by its own points\n"
        yield from _area_lines(zone, zone.estimates.areas, classes)
    if len(assessment.zones) > MAX_PRINTED:
        yield f"\n{counted(len(assessment.zones) - MAX_PRINTED, 'more zone')} in accuracy.csv"


def _level(assessment: Assessment) -> str:
    return f"{100 * assessment.intervals.level:.4g} % {assessment.intervals.method.title()}"


def _points(assessment: Assessment) -> str:
    drawn = counted(len(assessment.design.points), "point")
    lost = assessment.unlabelled
    return f"{drawn} ({lost:,} of them without a class, and dropped)" if lost else drawn


def _area_lines(
    ground: GroundAssessment, areas: Estimates, classes: Sequence[tuple[int, str]]
) -> Iterator[str]:
    unit, _, size = area_unit(ground.area_m2)
    rows = [("class", f"map {unit}", f"estimate {unit}", "interval", "usual interval (Wald)")]
    for index, (_, name) in enumerate(classes):
        area, mapped = areas[index], ground.map_areas_m2[index]
        rows.append(
            (
                _short(name),
                _number(mapped, area, size),
                _number(area.value, area, size),
                _limits(area.low, area.high, area, size),
                _limits(area.wald_low, area.wald_high, area, size),
            )
        )
    yield from _aligned(rows)


def _accuracy_lines(ground: GroundAssessment, classes: Sequence[tuple[int, str]]) -> Iterator[str]:
    found = ground.estimates
    rows = [("class", "user's accuracy %", "interval", "producer's accuracy %", "interval")]
    for index, (_, name) in enumerate(classes):
        users, producers = found.users_accuracy[index], found.producers_accuracy[index]
        rows.append((_short(name), *_percent(users), *_percent(producers)))
    rows.append(("overall", *_percent(found.overall_accuracy.item()), "", ""))
    yield from _aligned(rows)


def _percent(accuracy: Estimated) -> tuple[str, str]:
    value = "-" if accuracy.value is None else f"{100 * accuracy.value:.1f}"
    if accuracy.low is None or accuracy.high is None:
        return value, "-"
    return value, f"{100 * accuracy.low:.1f} to {100 * accuracy.high:.1f}"


def _pair_lines(ground: GroundAssessment, classes: Sequence[tuple[int, str]]) -> Iterator[str]:
    shares = {(pair.mapped, pair.reference): pair.share for pair in ground.pairs}
    rows = [("", *(_short(name) for _, name in classes))]
    for row, (_, name) in enumerate(classes):
        of_row = (shares.get((row, column), 0.0) for column in range(len(classes)))
        rows.append((_short(name), *(f"{100 * share:.3f}" for share in of_row)))
    yield from _aligned(rows)


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows as columns: names to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *rest in rows:
        cells = (f"{cell:>{width}}" for cell, width in zip(rest, widths[1:], strict=True))
        yield "  ".join((f"{first:<{widths[0]}}", *cells)).rstrip()


def _number(value: float | None, of: Estimated, size: float) -> str:
    return "-" if value is None else number_text(value / size, _span(of) / size)


def _limits(low: float | None, high: float | None, of: Estimated, size: float) -> str:
    if low is None or high is None:
        return "-"
    return f"{_number(low, of, size)} to {_number(high, of, size)}"


def _span(of: Estimated) -> float:
    return 0.0 if of.low is None or of.high is None else of.high - of.low


def _short(name: str) -> str:
    plain = on_one_line(name)
    return plain if len(plain) <= _LETTERS else f"{plain[: _LETTERS - 3]}..."


def area_unit(area_m2: float) -> tuple[str, str, float]:
    """Sign, name and square metres of the unit that an area and its parts are printed in.

    >>> area_unit(9e4)[0], area_unit(1e5)[0], area_unit(1e10)[0]
    ('m²', 'ha', 'km²')
    """
    return next(
        ((sign, name, size) for least, sign, name, size in _UNITS if area_m2 >= least),
        _SQUARE_METRES,
    )

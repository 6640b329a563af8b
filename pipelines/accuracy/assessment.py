"""What a labelled sample tells of a map: accuracy, and area of each class with its interval."""

import csv
import io
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from pipelines.accuracy.design import SampleDesign, Stratum
from pipelines.run.directory import RunDirectory
from segmodel.engine.soft import LEVELS
from segmodel.errors import ConfigurationError, InputError, counted
from segmodel.escaping import inert
from segmodel.evaluation.intervals import Intervals
from segmodel.evaluation.stratified import (
    ClassEstimates,
    ClassPair,
    Estimates,
    LabelledPoints,
    Strata,
    difference,
    general_strata,
)

# Area of each class on the map in m², by its id, by zone; of all ground where that is None.
MapAreas = Mapping[str | None, Mapping[int, float]]
OLOFSSON = "Olofsson et al. (2014): strata are the classes of the map"
STEHMAN = "Stehman (2014): strata are not the classes of the map"


@dataclass(frozen=True)
class GroundAssessment:
    """What is known of one piece of ground.

    Args:
        zone: Name of the zone, or None for all that was sampled.
        strata: Its strata.
        labelled: Number of labelled points of each stratum.
        pairs: Pairs of a class of the map and a true class that points have; indices of classes.
        map_areas_m2: Area of each class on the map, in m², None where it is not known.
        estimates: Accuracy and areas in m².
        source: Whose estimators they are, and why those.
        corrected: Areas in m² by the probabilities of the model, corrected by the sample; None
            where there are none.
    """

    zone: str | None
    strata: tuple[Stratum, ...]
    labelled: tuple[int, ...]
    pairs: tuple[ClassPair, ...]
    map_areas_m2: tuple[float | None, ...]
    estimates: ClassEstimates
    source: str
    corrected: Estimates | None = None

    @property
    def area_m2(self) -> float:
        """Ground area in m²."""
        return math.fsum(stratum.area_m2 for stratum in self.strata)


@dataclass(frozen=True)
class Assessment:
    """The result of `beamseg assess`.

    Args:
        design: Design of the sample.
        intervals: Level and method of the intervals.
        unlabelled: Points that have no class and were dropped.
        whole: All that was sampled.
        zones: Each zone, where zones were strata.
        repeated: What is to be known of ground that scenes share, unless it counts once.
    """

    design: SampleDesign
    intervals: Intervals
    unlabelled: int
    whole: GroundAssessment
    zones: tuple[GroundAssessment, ...]
    repeated: tuple[str, ...] = ()


def assess_sample(
    design: SampleDesign,
    labels: Mapping[str, int],
    map_areas_m2: MapAreas,
    intervals: Intervals,
    drop_missing: bool = False,
    mean_probability: np.ndarray | None = None,
) -> Assessment:
    """Estimate accuracy and areas from a labelled sample.

    Args:
        design: Design of the sample.
        labels: Class that was seen at each point, by id of the point.
        map_areas_m2: Areas on the map, for strata that are not of one class.
        intervals: Level and method of the intervals.
        drop_missing: Whether points without a class are left out, as if they had not been drawn.
        mean_probability: `(classes, strata)` mean probability of each class over all ground of each
            stratum, where all points of the design have theirs; None where they are not known.

    Raises:
        ConfigurationError: If points have no class, unless they are dropped; or a stratum has none
            that has one.
    """
    unlabelled = len(design.points) - len(labels)
    if unlabelled and not drop_missing:
        lacking = [point.id for point in design.points if point.id not in labels]
        named = ", ".join(lacking[:5]) + (", ..." if unlabelled > 5 else "")
        raise ConfigurationError(
            f"{counted(unlabelled, 'point')} of {len(design.points):,} without a class ({named}): "
            f"label them, or leave them out by --missing drop, which is right only if they lack a "
            f"class for reasons that have nothing to do with what is there"
        )
    zones = sorted({stratum.zone for stratum in design.strata if stratum.zone is not None})
    points = _labelled_points(design, labels)
    whole, *each = (
        _assess_ground(design, points, zone, map_areas_m2, intervals) for zone in (None, *zones)
    )
    if mean_probability is not None:

        def corrected(ground: GroundAssessment) -> GroundAssessment:
            found = _corrected_areas(design, labels, ground.strata, mean_probability, intervals)
            return replace(ground, corrected=found)

        whole, *each = map(corrected, (whole, *each))
    return Assessment(design, intervals, unlabelled, whole, tuple(each))


def _labelled_points(design: SampleDesign, labels: Mapping[str, int]) -> LabelledPoints:
    """Points that have a class, by the indices of their strata and classes in the design."""
    places = {stratum.name: number for number, stratum in enumerate(design.strata)}
    classes = {class_id: index for index, (class_id, _) in enumerate(design.classes)}
    rows = [
        (places[point.stratum], classes[point.map_class], classes[labels[point.id]])
        for point in design.points
        if point.id in labels
    ]
    stratum, mapped, reference = np.array(rows, np.int64).reshape(-1, 3).T
    return LabelledPoints(stratum, mapped, reference, len(classes))


def _assess_ground(
    design: SampleDesign,
    points: LabelledPoints,
    zone: str | None,
    map_areas_m2: MapAreas,
    intervals: Intervals,
) -> GroundAssessment:
    """What is known of a zone, or of all that was sampled."""
    places = [n for n, s in enumerate(design.strata) if zone is None or s.zone == zone]
    strata = tuple(design.strata[place] for place in places)
    chosen = np.isin(points.stratum, places)
    own = LabelledPoints(
        np.searchsorted(places, points.stratum[chosen]),
        points.mapped[chosen],
        points.reference[chosen],
        points.classes,
    )
    can_have = _mapped_classes(design)
    of_areas = Strata(
        np.array([stratum.area_m2 for stratum in strata]),
        [stratum.name for stratum in strata],
        [can_have(stratum) for stratum in strata],
    )
    try:
        estimates = general_strata(own, of_areas, intervals)
    except InputError as error:
        raise ConfigurationError(str(error)) from error
    of_classes = {stratum.class_id for stratum in strata}
    is_by_class = None not in of_classes and len(of_classes) == len(strata)
    return GroundAssessment(
        zone,
        strata,
        tuple(own.by_stratum(len(strata)).tolist()),
        tuple(own.pairs(of_areas)),
        _map_areas(strata, design, map_areas_m2.get(zone, {})),
        estimates,
        OLOFSSON if is_by_class else STEHMAN,
    )


def _corrected_areas(
    design: SampleDesign,
    labels: Mapping[str, int],
    strata: Sequence[Stratum],
    mean_probability: np.ndarray,
    intervals: Intervals,
) -> Estimates:
    """Areas in some of the strata by the difference estimator.

    A class is looked at a time, as points have levels of all.
    """
    places = {stratum.name: number for number, stratum in enumerate(strata)}
    seen = [point for point in design.points if point.id in labels and point.stratum in places]
    of_points = np.array([places[point.stratum] for point in seen])
    truth = np.array([labels[point.id] for point in seen])
    levels = np.array([point.probabilities for point in seen], np.uint8)
    areas = Strata(np.array([stratum.area_m2 for stratum in strata]))
    means = mean_probability[:, [stratum.name in places for stratum in design.strata]]
    return Estimates.joined(
        [
            difference(
                (of_points, (truth == class_id)[None], levels[None, :, index] / LEVELS),
                areas,
                means[[index]],
                intervals,
            )
            for index, (class_id, _) in enumerate(design.classes)
        ]
    )


def _mapped_classes(design: SampleDesign) -> Callable[[Stratum], Collection[int]]:
    """Indices of the classes that the map can have in a stratum.

    Those of a buffer are all but the class that it is around; strata share what is of all classes.
    """
    indices = {class_id: index for index, (class_id, _) in enumerate(design.classes)}
    every = range(len(indices))
    around = None if design.buffer is None else indices[design.buffer[0]]
    others = {index for index in every if index != around}

    def of(stratum: Stratum) -> Collection[int]:
        if stratum.class_id is not None:
            return {indices[stratum.class_id]}
        return others if stratum.is_buffer else every

    return of


def _map_areas(
    strata: Sequence[Stratum], design: SampleDesign, known: Mapping[int, float]
) -> tuple[float | None, ...]:
    """Area of each class on the map: of strata that are of one class each, else as it is known.

    What is known counts only if it is of the ground of the strata: a run may have more of it, such
    as images without a place.
    """
    if any(stratum.class_id is None for stratum in strata):
        found = tuple(known.get(class_id) for class_id, _ in design.classes)
        sampled = math.fsum(stratum.area_m2 for stratum in strata)
        is_same = math.isclose(math.fsum(area or 0.0 for area in found), sampled, rel_tol=1e-6)
        return found if is_same else (None,) * len(found)
    return tuple(
        math.fsum(stratum.area_m2 for stratum in strata if stratum.class_id == class_id)
        for class_id, _ in design.classes
    )


def read_map_areas(run: RunDirectory, zones: Iterable[str]) -> MapAreas:
    """Ground area of each class in `areas.csv`, and in zones in `zones.csv`, if there are such.

    Args:
        run: The run directory.
        zones: Names of zones.

    Raises:
        ConfigurationError: If there is no table of areas, so that the run is not finished.
    """
    try:
        found: dict[str | None, dict[int, float]] = {None: _areas_of(_rows(run, "areas.csv"))}
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"{run.root} has no areas.csv: run the same `beamseg segment` again to finish it"
        ) from error
    # Another run over the same map may have been without them since.
    with suppress(FileNotFoundError):
        rows = _rows(run, "zones.csv")
        for zone in zones:
            # As names stand in tables.
            found[zone] = _areas_of(row for row in rows if row["zone"] == inert(zone))
    return found


def _rows(run: RunDirectory, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(run.read(name).decode("utf-8"), newline="")))


def _areas_of(rows: Iterable[dict[str, str]]) -> dict[int, float]:
    return {
        int(row["class_id"]): float(row["area_m2"])
        for row in rows
        if row["class_id"] and row["area_m2"]
    }

"""The layer of `--minimum_area`: generalized label maps, and tables that balance with the map's.

What moved is in whole parts of the unit in commit records. A class keeps what of its area has not
moved: so rows of the matrix add up to the areas of the map, and columns to those of the generalized
map, without a rounding between them.

Areas are those of label maps: of ground that several scenes show, each has its own generalized
map. In a run that counts such ground once, `areas.csv` has other numbers.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

from pipelines.formats.work import Work
from pipelines.layers.generalized.generalize import (
    GENERALIZED,
    MAPS,
    MOVED_M2,
    MOVED_PIXELS,
    UNCHANGED,
    generalize_stages,
    generalized_unit,
)
from pipelines.layers.maps import LabelMaps
from pipelines.layers.options import LayersOptions
from pipelines.layers.stages import Layer, LayerEnd, SceneFiles, Stage, StageWork
from pipelines.run import plan
from pipelines.run.area_tables import class_lines, csv_bytes, totals_csv
from pipelines.run.areas import FAILED, OUTSIDE_AOI, Tally, TallySum
from segmodel.labels.classes import ClassTable

AREAS, MATRIX = "areas_generalized.csv", "generalization.csv"
# Pixels, and ground area in m².
Amount = tuple[int, Fraction]
# By old and new line of the table of areas.
Moves = Mapping[tuple[str, str], Amount]


@dataclass(frozen=True)
class MinimumArea:
    """What the options say of the layer.

    Args:
        unit_m2: The minimum mapping unit in m².
    """

    unit_m2: float


def finish_generalization(work: StageWork) -> LayerEnd:
    """Write the tables of generalized label maps."""
    labelled, classes = work.labelled, work.labelled.contract.classes
    found = Tally.sum(commit.tally for _, commit in work.commits() if commit is not None)
    pixels, areas = found.sums.get(MOVED_PIXELS, {}), found.sums.get(MOVED_M2, {})
    moved = {_pair(key): (int(count), Fraction(areas[key])) for key, count in pixels.items()}
    total = total_of_maps(labelled)
    moves = with_kept(total, moved)
    generalized = moved_total(total, moves)
    tables = {AREAS: totals_csv(generalized, classes), MATRIX: matrix_csv(moves, classes)}
    files = [work.write(name, content) for name, content in tables.items()]
    below = found.sums.get(UNCHANGED, {})
    about = {
        "minimum_area_m2": work.settings.unit_m2,
        "balances_with": "label maps" if labelled.counts_once else "areas.csv",
        "moved_pixels": sum(count for count, _ in moved.values()),
        "moved_m2": float(sum(area for _, area in moved.values())),
        "unchanged": {
            key: value if isinstance(value, int) else float(value) for key, value in below.items()
        },
    }
    return LayerEnd(files, about, folders=[f"{MAPS}/"])


def _pair(key: str) -> tuple[str, str]:
    old, _, new = key.partition(":")
    return old, new


def total_of_maps(labelled: Work) -> Tally:
    """The exact sum of what the units of a run found, with ground in every scene that shows it."""
    total = TallySum()
    for kind in plan.KINDS:
        for unit, commit in labelled.log.read_all(plan.read_units(labelled.run.plan, kind)):
            if commit is not None and unit.is_in_totals(ground_counts_once=False):
                total.add(commit.tally)
    return total.exact()


def with_kept(total: Tally, moved: Moves) -> Moves:
    """What moved, and what of each line stayed, so that all of them add up to the total.

    Args:
        total: Exact sum of the label maps.
        moved: What moved from class to class.
    """
    moves = dict(moved)
    for line, pixels in total.pixels.items():
        gone = [pair for pair in moved if pair[0] == line]
        area = Fraction(total.area_m2.get(line, 0)) - sum(moved[pair][1] for pair in gone)
        kept = pixels - sum(moved[pair][0] for pair in gone)
        if gone and total.ground_pixels[line] - pixels + kept == 0:
            # The area that is left of no pixel is that of rounding.
            most = max(gone, key=lambda pair: moved[pair])
            moves[most] = moved[most][0], moved[most][1] + area
            area = Fraction(0)
        moves[line, line] = kept, area
    return moves


def moved_total(total: Tally, moves: Moves) -> Tally:
    """The sum of the generalized label maps, rounded once.

    Args:
        total: Exact sum of the label maps.
        moves: All that moved or stayed, see `with_kept`.
    """
    pixels, areas = Counter[str](), defaultdict[str, Fraction](Fraction)
    for (_, line), (count, area) in moves.items():
        pixels[line] += count
        areas[line] += area
    return replace(
        total,
        pixels={line: pixels[line] for line in total.pixels},
        area_m2={line: float(areas[line]) for line in total.area_m2},
        footprint_m2=float(total.footprint_m2),
    )


def matrix_csv(moves: Moves, classes: ClassTable) -> bytes:
    """The matrix of what went where: a row for each old and new line with any pixel."""
    lines = [*class_lines(classes), (OUTSIDE_AOI, "", OUTSIDE_AOI), (FAILED, "", FAILED)]
    rows: list[list[object]] = [["from_id", "from_class", "to_id", "to_class", "pixels", "area_m2"]]
    for old, old_id, old_name in lines:
        for new, new_id, new_name in lines:
            pixels, area = moves.get((old, new), (0, Fraction(0)))
            if pixels:
                rows.append([old_id, old_name, new_id, new_name, pixels, repr(float(area))])
    return csv_bytes(rows)


def _settings(options: LayersOptions) -> MinimumArea | None:
    return None if options.minimum_area is None else MinimumArea(options.minimum_area)


def _stages(settings: MinimumArea, maps: LabelMaps) -> list[Stage]:
    return generalize_stages(settings.unit_m2, maps)


MINIMUM_AREA = Layer(
    "minimum_area",
    _settings,
    _stages,
    finish_generalization,
    scene_files={GENERALIZED: SceneFiles(MAPS, generalized_unit)},
)

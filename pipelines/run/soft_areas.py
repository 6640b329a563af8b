"""Soft areas: probabilities summed over pixels and ground, by label and class.

In tallies they are exact sums by `label:class`, two ids: `soft_pixels`, and `soft_m2` where ground
area is known. `soft_zone_pixels` and `soft_zone_m2` are the same by `zone:label:class`, where zone
is a number, or `outside` for all that is in no zone. `confidence_bins` counts pixels by
`label:bin`; bin n has the confidences of levels 16 n to 16 n + 15, of which 255 is 1.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.run.area_tables import GROUP_ROWS, csv_bytes
from pipelines.run.areas import CONFIDENCE_BINS, Sums, Tally
from segmodel.engine.soft import LEVELS, LevelSums, SoftSums
from segmodel.labels.classes import ClassTable

SOFT_PIXELS, SOFT_M2 = "soft_pixels", "soft_m2"
ZONE_PIXELS, ZONE_M2 = "soft_zone_pixels", "soft_zone_m2"
# In place of the number of a zone.
IN_NO_ZONE = "outside"
SOFT_SCHEMA = pa.schema(
    [
        ("source", pa.string()),
        ("key", pa.string()),
        ("label_id", pa.int32()),
        ("label", pa.string()),
        ("class_id", pa.int32()),
        ("class", pa.string()),
        ("soft_pixels", pa.float64()),
        ("soft_m2", pa.float64()),
    ]
)


def soft_sums(soft: SoftSums, tally: Tally, classes: ClassTable) -> Sums:
    """The exact sums of a label map.

    Ground area of a label is divided among classes by sums over pixels with their own areas, so
    that classes add up to it.

    Args:
        soft: Sums of the engine.
        tally: Pixels and ground area of the label map.
        classes: Class table of the label map.
    """
    keys = [str(i) for i in classes.ids]
    whole = soft.whole.areas.sum(axis=1)

    def entries(sums: LevelSums) -> Iterator[tuple[str, Fraction, float]]:
        for row, column in np.argwhere(sums.levels).tolist():
            share = float(sums.areas[row, column] / whole[row])
            area = float(tally.area_m2.get(keys[row], 0)) * share
            key = f"{keys[row]}:{keys[column]}"
            yield key, Fraction(int(sums.levels[row, column]), LEVELS), area

    found = defaultdict[str, defaultdict[str, Any]](lambda: defaultdict(int))
    for key, pixels, area in entries(soft.whole):
        found[SOFT_PIXELS][key], found[SOFT_M2][key] = pixels, area
    for zones, sums in soft.by_zones.items():
        for key, pixels, area in entries(sums):
            for zone in zones or (IN_NO_ZONE,):
                found[ZONE_PIXELS][f"{zone}:{key}"] += pixels
                found[ZONE_M2][f"{zone}:{key}"] += Fraction(area)
    for row, column in np.argwhere(soft.bins).tolist():
        found[CONFIDENCE_BINS][f"{keys[row]}:{column}"] = int(soft.bins[row, column])
    known = found.keys() - (() if tally.area_m2 else (SOFT_M2, ZONE_M2))
    return {name: dict(found[name]) for name in sorted(known)}


def soft_rows(
    source: str, key: str | None, tally: Tally, classes: ClassTable
) -> list[dict[str, object]]:
    """Rows of one image for a unit's table: labels and classes that have any probability."""
    names = dict(zip(classes.ids, classes.names, strict=True))
    areas = tally.sums.get(SOFT_M2, {})
    rows: list[dict[str, object]] = []
    for pair, pixels in tally.sums.get(SOFT_PIXELS, {}).items():
        label_id, class_id = map(int, pair.split(":"))
        rows.append(
            {
                "source": source,
                "key": key,
                "label_id": label_id,
                "label": names[label_id],
                "class_id": class_id,
                "class": names[class_id],
                "soft_pixels": float(pixels),
                "soft_m2": float(areas[pair]) if pair in areas else None,
            }
        )
    return rows


def sums_of_soft_rows(rows: Sequence[Mapping[str, Any]]) -> Sums:
    """What rows of the table add up to."""
    pixels, areas = defaultdict[str, Fraction](Fraction), defaultdict[str, Fraction](Fraction)
    for row in rows:
        pair = f"{row['label_id']}:{row['class_id']}"
        pixels[pair] += Fraction(round(row["soft_pixels"] * LEVELS), LEVELS)
        if row["soft_m2"] is not None:
            areas[pair] += Fraction(row["soft_m2"])
    return {name: sums for name, sums in ((SOFT_PIXELS, pixels), (SOFT_M2, areas)) if sums}


def soft_rows_agree(tally: Tally, stream: IO[bytes]) -> bool:
    """Whether a tally is that of the rows of a unit's table, as Parquet."""
    with pq.ParquetFile(stream) as table:
        batches = [batch.to_pylist() for batch in table.iter_batches(GROUP_ROWS)]
    rows = sums_of_soft_rows([row for batch in batches for row in batch])
    return all(
        _floats(rows.get(name, {})) == _floats(tally.sums.get(name, {}))
        for name in (SOFT_PIXELS, SOFT_M2)
    )


def _floats(sums: Mapping[str, Any]) -> dict[str, float]:
    return {key: float(value) for key, value in sums.items()}


def sums_of_zones(tally: Tally) -> dict[int | None, Sums]:
    """Sums of a tally by the number of the zone, and under None of what is in no zone."""
    found: dict[int | None, dict[str, dict[str, Any]]] = {}
    for name, of_zone in ((SOFT_PIXELS, ZONE_PIXELS), (SOFT_M2, ZONE_M2)):
        for key, value in tally.sums.get(of_zone, {}).items():
            place, _, pair = key.partition(":")
            zone = None if place == IN_NO_ZONE else int(place)
            found.setdefault(zone, {}).setdefault(name, {})[pair] = value
    return dict(found)


def is_complete(total: Tally, classes: ClassTable) -> bool:
    """Whether a tally has the probabilities of all pixels that it has with a label."""
    pixels = defaultdict[str, Fraction](Fraction)
    for pair, value in total.sums.get(SOFT_PIXELS, {}).items():
        pixels[pair.partition(":")[0]] += Fraction(value)
    return all(pixels[str(i)] == total.pixels.get(str(i), 0) for i in classes.ids)


SOFT_COLUMNS = ("class_id", "class", "pixels", "soft_pixels", "area_m2", "soft_m2")


def soft_csv(total: Tally, classes: ClassTable) -> bytes:
    """The table of totals by class: what labels say, and what probabilities say.

    Args:
        total: Sum of the tallies of the run.
        classes: Classes of the model.
    """
    return csv_bytes([SOFT_COLUMNS, *class_cells(total, classes)])


def class_cells(total: Tally, classes: ClassTable) -> Iterator[list[object]]:
    """Cells of `SOFT_COLUMNS` for each class, and for all.

    Those of probabilities are empty where these are not known of all pixels that have a label.

    Args:
        total: Sum of tallies.
        classes: Classes of the model.
    """
    pixels, areas = (_by_class(total.sums.get(name, {})) for name in (SOFT_PIXELS, SOFT_M2))
    has_area, is_known = bool(total.area_m2), is_complete(total, classes)
    lines: list[tuple[object, str, list[str]]] = [
        (entry.id, entry.name, [str(entry.id)]) for entry in classes.classes
    ]
    lines.append(("", "total", [str(i) for i in classes.ids]))
    for class_id, name, keys in lines:
        yield [
            class_id,
            name,
            sum(total.pixels.get(key, 0) for key in keys),
            _summed(pixels, keys) if is_known else "",
            _summed(total.area_m2, keys) if has_area else "",
            _summed(areas, keys) if has_area and is_known else "",
        ]


def _by_class(sums: Mapping[str, Any]) -> dict[str, Fraction]:
    """Sums over labels, by class."""
    found = defaultdict[str, Fraction](Fraction)
    for pair, value in sums.items():
        found[pair.partition(":")[2]] += value
    return found


def _summed(sums: Mapping[str, Any], keys: Sequence[str]) -> str:
    return repr(float(sum(Fraction(sums.get(key, 0)) for key in keys)))

"""Counts of scenes by zone, and of ground that several scenes show: one file each, and tables."""

import json
from collections.abc import Iterator
from typing import Any

from pipelines.run import plan
from pipelines.run.area_tables import class_lines, csv_bytes
from pipelines.run.areas import ELSEWHERE, FAILED, Tally, TallySum
from pipelines.run.commits import CommitLog, number
from pipelines.run.directory import RunDirectory
from pipelines.run.plan import CountUnit
from pipelines.storage.threads import in_order
from segmodel.labels.classes import ClassTable

OUTSIDE = "(outside all zones)"


class CountSums:
    """Pixels and ground area by zone, and by the scene in which ground counts instead."""

    def __init__(self) -> None:
        self.zones: dict[str | None, TallySum] = {}
        self.elsewhere: dict[str, TallySum] = {}
        self.total = TallySum()

    def to_json(self) -> dict[str, Any]:
        """As in the file of a count."""
        return {
            "zones": [_row("zone", name, total) for name, total in self.zones.items()],
            "elsewhere": [_row("counted_in", name, t) for name, t in self.elsewhere.items()],
        }


def _row(key: str, name: str | None, total: TallySum) -> dict[str, Any]:
    exact = total.exact()
    areas = {line: str(value) for line, value in exact.area_m2.items()}
    return {key: name, "pixels": exact.pixels, "area_m2": areas}


def _tally(row: dict[str, Any]) -> Tally:
    pixels, areas = row["pixels"], number(row["area_m2"])
    return Tally(pixels=pixels, ground_pixels=pixels if areas else {}, area_m2=areas)


def counts_path(unit: CountUnit) -> str:
    """Where the sums of a count are, within the run directory."""
    return f"counts/{unit.id}.json"


def _counted(
    run: RunDirectory, log: CommitLog
) -> Iterator[tuple[CountUnit, dict[str, list[tuple[str | None, Tally]]]]]:
    """Finished counts, with tallies by zone, and by the scene that counts instead."""

    def counted(unit: CountUnit) -> tuple[CountUnit, bytes | None]:
        return unit, run.read(counts_path(unit)) if log.is_done(unit) else None

    for unit, content in in_order(counted, plan.read_units(run.plan, CountUnit)):
        if content is not None:
            document = json.loads(content)
            yield (
                unit,
                {
                    "zones": [(row["zone"], _tally(row)) for row in document["zones"]],
                    "elsewhere": [
                        (row["counted_in"], _tally(row)) for row in document["elsewhere"]
                    ],
                },
            )


def zones_csv(run: RunDirectory, log: CommitLog, classes: ClassTable) -> bytes:
    """Pixels and ground area by zone and class; pixels are in the zone that holds their centre."""
    zones: dict[str | None, TallySum] = {}
    for _, counted in _counted(run, log):
        for name, tally in counted["zones"]:
            zones.setdefault(name, TallySum()).add(tally)
    rows: list[list[object]] = [["zone", "class_id", "class", "pixels", "area_m2", "area_share"]]
    for name in sorted(zones, key=lambda name: (name is None, name or "")):
        rows += _zone_rows(OUTSIDE if name is None else name, zones[name].rounded(), classes)
    return csv_bytes(rows)


def _zone_rows(zone: str, total: Tally, classes: ClassTable) -> Iterator[list[object]]:
    lines: list[tuple[str, int | str, str]] = [*class_lines(classes)]
    lines += [(name, "", name) for name in (FAILED, ELSEWHERE) if name in total.pixels]
    known = bool(total.area_m2)
    of_classes = sum(total.area_m2.get(str(i), 0) for i in classes.ids)
    for key, class_id, name in lines:
        area = total.area_m2.get(key, 0.0)
        share = area / of_classes if key.isdigit() and of_classes else None
        cells = [repr(float(v)) if v is not None else "" for v in (area if known else None, share)]
        yield [zone, class_id, name, total.pixels.get(key, 0), *cells]


def overlaps_csv(run: RunDirectory, log: CommitLog) -> bytes:
    """What of each scene is counted in which other one."""
    rows: list[list[object]] = [["scene", "counted_in", "pixels", "area_m2"]]
    for unit, counted in _counted(run, log):
        for other, tally in counted["elsewhere"]:
            pixels, area = tally.pixels[ELSEWHERE], float(tally.area_m2[ELSEWHERE])
            rows.append([unit.file.key, other, pixels, repr(area)])
    return csv_bytes(rows)

"""What the end of a run says of its scenes: tables by zone and of overlaps, mosaics, seams."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import partial
from itertools import chain
from typing import IO, Any

from pipelines.formats.work import Work
from pipelines.run import plan
from pipelines.run.area_tables import class_lines, csv_bytes, write_csv
from pipelines.run.areas import ELSEWHERE, FAILED, OUTSIDE_AOI, Tally, TallySum
from pipelines.run.commits import Commit, CommitLog, number
from pipelines.run.directory import RunDirectory
from pipelines.run.plan import CountUnit
from pipelines.run.polygons import ZONES, stored
from pipelines.run.soft_areas import SOFT_COLUMNS, class_cells, is_complete, sums_of_zones
from pipelines.scenes.label_list import MapCatalogue, write_label_list
from pipelines.scenes.vrt import crs_name, mosaics, write_mosaic
from pipelines.storage import filesystem
from pipelines.storage.filesystem import Written
from pipelines.storage.threads import in_order
from segmodel.labels.classes import ClassTable
from segmodel.labels.qgis_styles import raster_style
from segmodel.tiling.seams import near_px

OUTSIDE = "(outside all zones)"
OVERLAP_COLUMNS = ("scene", "counted_in", "pixels", "area_m2", "area_share")
# Zones without a pixel that the summary names.
MAX_NAMED = 100


def scene_summary(work: Work, total: Tally) -> dict[str, Any]:
    """What `summary.json` says of scenes beside their areas; empty for a run without any."""
    document = work.run.read_run() or {}
    summary: dict[str, Any] = {}
    if document.get("overlaps") is not None:
        rule = None if work.counting is None else work.counting.overlap
        summary["overlap"] = {"counted_once_by": rule, **document["overlaps"]}
        if work.reading.aoi is not None:
            summary["overlap"]["of_whole_scenes"] = True
    if work.soft_areas:
        summary["has_soft_areas"] = is_complete(total, work.contract.classes)
    if work.check_seams:
        near, different = total.seam_pixels, total.seam_differences
        summary["seams"] = {
            "within_px": near_px(work.layout),
            "pixels_near_borders": near,
            "different": different,
            "share": different / near if near else None,
        }
    return summary


def write_scene_results(
    work: Work,
    written: dict[str, Written | None],
    zones: Mapping[str | None, Tally],
    overlaps: Iterable[Sequence[object]],
    maps: MapCatalogue,
) -> dict[str, Any]:
    """Write `zones.csv` and `overlaps.csv` if asked for, `labels.json`, VRTs and their styles.

    Args:
        work: Work that all units of the run share.
        written: What files of the end of the run hold, by name; grows.
        zones: Exact sums of the zones that have any; see `zone_sums`.
        overlaps: Rows of `overlaps.csv`.
        maps: Label maps of all finished scenes.

    Returns:
        What `summary.json` says of zones; empty for a run without any.
    """
    run, classes, counting = work.run, work.contract.classes, work.counting
    summary: dict[str, Any] = {}
    if counting is not None and counting.zones is not None:
        names = stored(run, ZONES, counting.zones).names
        totals = {name: Tally.sum([total]) for name, total in zones.items()}
        written["zones.csv"] = run.write("zones.csv", zones_csv(names, totals, classes))
        if work.soft_areas:
            table = soft_zones_csv(names, totals, classes)
            written["soft_zones.csv"] = run.write("soft_zones.csv", table)
        empty = [name for name in names if name not in totals]
        summary["zones"] = {
            "zones": len(names),
            "without_pixels": len(empty),
            "first_without_pixels": empty[:MAX_NAMED],
        }
        if work.soft_areas:
            unknown = sum(not is_complete(total, classes) for total in totals.values())
            summary["zones"]["without_soft_areas"] = unknown
            summary["zones"]["is_begun_with"] = counting.zones == work.soft_zones
    if counting is not None and counting.overlap is not None:
        rows = partial(write_csv, rows=chain([OVERLAP_COLUMNS], overlaps))
        written["overlaps.csv"] = _write_text(work, "overlaps.csv", rows)
    systems = maps.systems()
    vrts = mosaics(chain.from_iterable(systems))
    for system in systems:
        if (name := vrts.get(crs_name(system.wkt))) is not None:
            mosaic = partial(write_mosaic, pieces=system.north_up(), classes=classes)
            written[name] = _write_text(work, name, mosaic)
            style = f"{name.removesuffix('.vrt')}.qml"
            written[style] = run.write(style, raster_style(classes))
    label_list = partial(write_label_list, systems=systems, vrts=vrts, classes=classes)
    written["labels.json"] = _write_text(work, "labels.json", label_list)
    return summary


def _write_text(work: Work, name: str, write_to: Callable[[IO[str]], None]) -> Written | None:
    """Write a file of the run line by line, as its text grows with the number of scenes."""

    def write() -> Written | None:
        with (
            filesystem.write_atomic(work.run.path(name), work.run.scratch) as draft,
            open(
                draft.path, "w", encoding="utf-8", errors="backslashreplace", newline="\n"
            ) as stream,
        ):
            write_to(stream)
        return draft.written

    return filesystem.retry_if_cleared(write)


def finished_counts(
    run: RunDirectory, log: CommitLog
) -> Iterator[tuple[CountUnit, Commit, dict[str, Any]]]:
    """Finished counts of scenes, with their records and what their files say."""
    return counts_of(plan.read_units(run.plan, CountUnit), log)


def counts_of(
    units: Iterable[CountUnit], log: CommitLog
) -> Iterator[tuple[CountUnit, Commit, dict[str, Any]]]:
    """The same of some units."""

    def counted(unit: CountUnit) -> tuple[CountUnit, Commit | None, bytes]:
        commit = log.read(unit)
        return unit, commit, b"" if commit is None else log.content(commit.outputs[0])

    for unit, commit, content in in_order(counted, units):
        if commit is not None:
            yield unit, commit, json.loads(content)


def zone_totals(run: RunDirectory, log: CommitLog, names: Sequence[str]) -> dict[str | None, Tally]:
    """Pixels and areas of the zones that have any, and under None of what is in no zone.

    Args:
        run: The run directory.
        log: Its commit records.
        names: Names of all zones; without them there are no soft areas.
    """
    sums = zone_sums(finished_counts(run, log), names)
    return {name: Tally.sum([total]) for name, total in sums.items()}


def zone_sums(
    counts: Iterable[tuple[CountUnit, Commit, dict[str, Any]]], names: Sequence[str]
) -> dict[str | None, Tally]:
    """The same as exact sums, of some finished counts."""
    zones: dict[str | None, TallySum] = {}
    for _, commit, document in counts:
        for row in document["zones"]:
            tally = Tally(pixels=row["pixels"], area_m2=number(row["area_m2"]))
            zones.setdefault(row["zone"], TallySum()).add(tally)
        for zone, sums in sums_of_zones(commit.tally).items() if names else ():
            name = None if zone is None else names[zone]
            zones.setdefault(name, TallySum()).add(Tally(sums=sums))
    return {name: total.exact() for name, total in zones.items()}


def zones_csv(
    names: Sequence[str], totals: Mapping[str | None, Tally], classes: ClassTable
) -> bytes:
    """Pixels and ground area by zone and class; pixels are in the zone that holds their centre.

    Args:
        names: Names of all zones; those without a pixel have rows of zeros.
        totals: See `zone_totals`.
        classes: Classes of the model.
    """
    rows: list[list[object]] = [["zone", "class_id", "class", "pixels", "area_m2", "area_share"]]
    for zone, total in _each_zone(names, totals, classes):
        rows += _zone_rows(zone, total, classes)
    return csv_bytes(rows)


def soft_zones_csv(
    names: Sequence[str], totals: Mapping[str | None, Tally], classes: ClassTable
) -> bytes:
    """What labels say and what probabilities say by zone and class; arguments as of `zones_csv`."""
    rows: list[list[object]] = [["zone", *SOFT_COLUMNS]]
    for zone, total in _each_zone(names, totals, classes):
        rows += ([zone, *cells] for cells in class_cells(total, classes))
    return csv_bytes(rows)


def _each_zone(
    names: Sequence[str], totals: Mapping[str | None, Tally], classes: ClassTable
) -> Iterator[tuple[str, Tally]]:
    """Names of zones as tables have them, and the total of each, in the order of tables."""
    nothing = Tally(area_m2={str(i): 0.0 for i in classes.ids})
    if not any(total.area_m2 for total in totals.values()):
        nothing = Tally()
    for name in sorted({*names, *totals}, key=lambda name: (name is None, name or "")):
        yield OUTSIDE if name is None else name, totals.get(name, nothing)


def _zone_rows(zone: str, total: Tally, classes: ClassTable) -> Iterator[list[object]]:
    lines: list[tuple[str, int | str, str]] = [*class_lines(classes)]
    lines += [(name, "", name) for name in (OUTSIDE_AOI, FAILED, ELSEWHERE) if name in total.pixels]
    known = bool(total.area_m2)
    of_classes = sum(total.area_m2.get(str(i), 0) for i in classes.ids)
    for key, class_id, name in lines:
        area = total.area_m2.get(key, 0.0)
        share = area / of_classes if key.isdigit() and of_classes else None
        yield [
            zone,
            class_id,
            name,
            total.pixels.get(key, 0),
            _cell(area if known else None),
            _cell(share),
        ]


def _cell(value: float | Fraction | None) -> str:
    return "" if value is None else repr(float(value))


def overlaps_csv(run: RunDirectory, log: CommitLog, has_shares: bool = True) -> bytes:
    """What of each scene is counted in which other one, also as a share of the scene's ground.

    Args:
        run: The run directory.
        log: Its commit records.
        has_shares: Whether the table has the shares, which that of 0.1.0 has not.
    """
    columns = len(OVERLAP_COLUMNS) if has_shares else 4
    rows = chain([OVERLAP_COLUMNS], overlap_rows(finished_counts(run, log)))
    return csv_bytes(row[:columns] for row in rows)


def overlap_rows(
    counts: Iterable[tuple[CountUnit, Commit, dict[str, Any]]],
) -> Iterator[list[object]]:
    """Rows of the table for some finished counts."""
    for unit, commit, document in counts:
        whole = float(commit.tally.footprint_m2)
        for row in document["elsewhere"]:
            area = float(number(row["area_m2"])[ELSEWHERE])
            share = area / whole if whole else None
            pixels = row["pixels"][ELSEWHERE]
            yield [unit.file.key, row["counted_in"], pixels, _cell(area), _cell(share)]


def repeated_ground(summary: Mapping[str, Any]) -> Iterator[str]:
    """What a person has to know of ground that several scenes show, unless it counts once.

    Args:
        summary: Content of `summary.json`.
    """
    overlap = summary.get("overlap") or {}
    repeated, footprint = overlap.get("repeated_m2", 0.0), overlap.get("footprint_m2", 0.0)
    if repeated and footprint and overlap.get("counted_once_by") is None:
        whole = overlap.get("of_whole_scenes", False)
        yield (
            f"{area_text(repeated)} of ground, {repeated / footprint:.2%} of the footprint"
            f"{' of whole scenes' if whole else ''}, is shown by several scenes and "
            f"{'where it is in --aoi ' if whole else ''}counted in each: --overlap first or "
            f"--overlap newest counts it once"
        )


def result_lines(summary: Mapping[str, Any]) -> Iterator[str]:
    """What a person has to know of overlaps, zones and soft areas at the end of a run.

    Args:
        summary: Content of `summary.json`.
    """
    yield from repeated_ground(summary)
    zones = summary.get("zones") or {}
    empty = zones.get("without_pixels", 0)
    if empty and summary["complete"]:
        some = ", ".join(map(repr, zones["first_without_pixels"][:5]))
        yield (
            f"zones without a pixel: {empty} of {zones['zones']} ({some}"
            f"{', ...' if empty > 5 else ''}); their rows in zones.csv are zeros"
        )
    if summary.get("has_soft_areas") is False and summary["complete"]:
        yield (
            "cells of soft_areas.csv are empty: probabilities are summed scene by scene, and some "
            "ground counts in another scene; begin a run with --probabilities to have them"
        )
    if zones.get("without_soft_areas") and summary["complete"]:
        yield f"cells of soft_zones.csv are empty: {_why_not_by_zone(zones)}"


def _why_not_by_zone(zones: Mapping[str, Any]) -> str:
    """Why probabilities are not known by zone, and the remedy."""
    if not zones["is_begun_with"]:
        return (
            "probabilities are summed by the zones that a run is begun with, and these are others; "
            "begin a run with --soft_areas and these --zones, or with --probabilities, to have them"
        )
    return (
        "probabilities are summed scene by scene, on the pixels that the model sees; with "
        "--resample_to, and of ground that counts in another scene, they are known by zone only in "
        "a run with --probabilities"
    )


def area_text(area_m2: float) -> str:
    """An area in the unit that a person would take.

    >>> area_text(5123.4), area_text(52_000), area_text(1_234_567_890)
    ('5,123 m²', '5.20 ha', '1,235 km²')
    """
    if area_m2 < 1e4:
        return f"{area_m2:.3g} m²" if area_m2 < 10 else f"{area_m2:,.0f} m²"
    if area_m2 < 1e6:
        return f"{area_m2 / 1e4:,.2f} ha"
    return f"{area_m2 / 1e6:,.2f} km²" if area_m2 < 1e9 else f"{area_m2 / 1e6:,.0f} km²"

"""What the end of a run says of its scenes: tables by zone and of overlaps, mosaics, seams."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import IO, Any

from pipelines.formats.work import Work
from pipelines.layers.label_list import write_label_list
from pipelines.layers.vrt import Piece, mosaics, write_mosaic
from pipelines.rasters.cog import TILE_PX
from pipelines.rasters.header import read_header
from pipelines.run import plan
from pipelines.run.area_tables import class_lines, csv_bytes
from pipelines.run.areas import ELSEWHERE, FAILED, OUTSIDE_AOI, Tally, TallySum
from pipelines.run.commits import Commit, CommitLog, number
from pipelines.run.directory import RunDirectory
from pipelines.run.plan import AssemblyUnit, CountUnit, InputFile, Unit, WorkUnit
from pipelines.scenes.files import counts_path, scene_paths
from pipelines.scenes.overlaps import in_input_order, precedence
from pipelines.storage import filesystem
from pipelines.storage.threads import in_order
from segmodel.errors import ConfigurationError
from segmodel.labels.classes import ClassTable
from segmodel.tiling.seams import near_px

OUTSIDE = "(outside all zones)"


def scene_summary(work: Work, total: Tally) -> dict[str, Any]:
    """What `summary.json` says of scenes beside their areas; empty for a run without any."""
    document = work.run.read_json("run.json") or {}
    summary: dict[str, Any] = {}
    if document.get("overlaps") is not None:
        rule = None if work.counting is None else work.counting.overlap
        summary["overlap"] = {"counted_once_by": rule, **document["overlaps"]}
    if work.check_seams:
        near, different = total.seam_pixels, total.seam_differences
        summary["seams"] = {
            "within_px": near_px(work.layout),
            "pixels_near_borders": near,
            "different": different,
            "share": different / near if near else None,
        }
    return summary


def write_scene_results(work: Work) -> None:
    """Write `zones.csv` and `overlaps.csv` where they were asked for, `labels.json` and VRTs."""
    run, classes = work.run, work.contract.classes
    if work.counting is not None and work.counting.zones is not None:
        run.write("zones.csv", zones_csv(run, work.log, classes))
    if work.counting is not None and work.counting.overlap is not None:
        run.write("overlaps.csv", overlaps_csv(run, work.log))
    pieces = list(_pieces(work))
    for name, group in mosaics(pieces)[0].items():
        _write_text(work, name, partial(write_mosaic, pieces=group, classes=classes))
    _write_text(work, "labels.json", partial(write_label_list, pieces=pieces, classes=classes))


def _write_text(work: Work, name: str, write_to: Callable[[IO[str]], None]) -> None:
    """Write a file of the run line by line, as its text grows with the number of scenes."""

    def write() -> None:
        with (
            filesystem.write_atomic(work.run.path(name), work.run.scratch) as draft,
            open(draft.path, "w", encoding="utf-8", newline="\n") as stream,
        ):
            write_to(stream)

    filesystem.retry_if_cleared(write)


def _counted(run: RunDirectory, log: CommitLog) -> Iterator[tuple[CountUnit, dict[str, Any]]]:
    """Finished counts with what their files say."""

    def counted(unit: CountUnit) -> tuple[CountUnit, bytes | None]:
        return unit, run.read(counts_path(unit)) if log.is_done(unit) else None

    for unit, content in in_order(counted, plan.read_units(run.plan, CountUnit)):
        if content is not None:
            yield unit, json.loads(content)


def zones_csv(run: RunDirectory, log: CommitLog, classes: ClassTable) -> bytes:
    """Pixels and ground area by zone and class; pixels are in the zone that holds their centre."""
    zones: dict[str | None, TallySum] = {}
    for _, document in _counted(run, log):
        for row in document["zones"]:
            tally = Tally(pixels=row["pixels"], area_m2=number(row["area_m2"]))
            zones.setdefault(row["zone"], TallySum()).add(tally)
    rows: list[list[object]] = [["zone", "class_id", "class", "pixels", "area_m2", "area_share"]]
    for name in sorted(zones, key=lambda name: (name is None, name or "")):
        rows += _zone_rows(OUTSIDE if name is None else name, zones[name].rounded(), classes)
    return csv_bytes(rows)


def _zone_rows(zone: str, total: Tally, classes: ClassTable) -> Iterator[list[object]]:
    lines: list[tuple[str, int | str, str]] = [*class_lines(classes)]
    lines += [(name, "", name) for name in (OUTSIDE_AOI, FAILED, ELSEWHERE) if name in total.pixels]
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
    for unit, document in _counted(run, log):
        for row in document["elsewhere"]:
            area = repr(float(number(row["area_m2"])[ELSEWHERE]))
            rows.append([unit.file.key, row["counted_in"], row["pixels"][ELSEWHERE], area])
    return csv_bytes(rows)


def _pieces(work: Work) -> Iterator[Piece]:
    """Label maps of all finished scenes, those that take precedence first."""
    overlap = None if work.counting is None else work.counting.overlap
    files = _labelled(work)
    try:
        ranks = precedence(files, overlap, work.headers)
    except ConfigurationError:
        ranks = precedence(files, None, work.headers)
    for index in sorted(range(len(files)), key=ranks.__getitem__):
        path = scene_paths(files[index]).labels
        # By its own header: the scene may be out of reach by now.
        grid = read_header(work.run.path(path)).grid
        wkt = grid.crs.to_wkt() if grid.crs else ""
        yield Piece(path, grid.height, grid.width, grid.transform, wkt, TILE_PX)


def _labelled(work: Work) -> list[InputFile]:
    """Scenes that have a label map, in the order of inputs."""
    found: dict[InputFile, bool] = {}

    def recorded(unit: Unit) -> tuple[Unit, Commit | None]:
        is_block = isinstance(unit, WorkUnit) and unit.scene is not None
        return unit, None if is_block else work.log.read(unit)

    for kind in (WorkUnit, AssemblyUnit):
        scenes = (u for u in plan.read_units(work.run.plan, kind) if u.format == "scene")
        for unit, commit in in_order(recorded, scenes):
            has_labels = commit is not None and bool(commit.outputs_in("labels"))
            found[unit.files[0]] = found.get(unit.files[0], False) or has_labels
    return in_input_order(file for file, has_labels in found.items() if has_labels)

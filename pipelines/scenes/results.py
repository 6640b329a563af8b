"""What the end of a run says of its scenes: tables by zone and of overlaps, mosaics, seams."""

from collections.abc import Iterator
from typing import Any

from pipelines.formats.work import Work
from pipelines.layers.vrt import Piece, mosaics, write_mosaic
from pipelines.rasters.cog import TILE_PX
from pipelines.rasters.header import read_header
from pipelines.run import plan
from pipelines.run.areas import Tally
from pipelines.run.commits import Commit
from pipelines.run.plan import AssemblyUnit, InputFile, Unit, WorkUnit
from pipelines.scenes.files import scene_paths
from pipelines.scenes.overlaps import precedence
from pipelines.scenes.tables import overlaps_csv, zones_csv
from pipelines.storage import filesystem
from pipelines.storage.threads import in_order
from segmodel.errors import ConfigurationError
from segmodel.labels.classes import ClassTable
from segmodel.tiling.seams import near_px


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
    """Write `zones.csv` and `overlaps.csv` where they were asked for, and VRTs of label maps."""
    run, classes = work.run, work.contract.classes
    if work.counting is not None and work.counting.zones is not None:
        run.write("zones.csv", zones_csv(run, work.log, classes))
    if work.counting is not None and work.counting.overlap is not None:
        run.write("overlaps.csv", overlaps_csv(run, work.log))
    for name, pieces in mosaics(list(_pieces(work)))[0].items():
        _write_mosaic(work, name, pieces, classes)


def _write_mosaic(work: Work, name: str, pieces: list[Piece], classes: ClassTable) -> None:
    def write() -> None:
        with (
            filesystem.write_atomic(work.run.path(name), work.run.scratch) as draft,
            open(draft.path, "w", encoding="utf-8", newline="\n") as stream,
        ):
            write_mosaic(stream, pieces, classes)

    filesystem.retry_if_cleared(write)


def _pieces(work: Work) -> Iterator[Piece]:
    """Label maps of all finished scenes, those that take precedence first."""
    overlap = None if work.counting is None else work.counting.overlap
    files = [unit.files[0] for unit in _finished(work)]
    try:
        ranks = precedence(files, overlap, work.headers)
    except ConfigurationError:
        ranks = precedence(files, None, work.headers)
    for index in sorted(range(len(files)), key=ranks.__getitem__):
        yield _piece(files[index], work)


def _finished(work: Work) -> Iterator[Unit]:
    """Units of scenes that have a label map, in the order of inputs."""
    order: dict[str, int] = {}
    found: dict[str, Unit] = {}

    def recorded(unit: Unit) -> tuple[Unit, Commit | None]:
        is_block = isinstance(unit, WorkUnit) and unit.scene is not None
        return unit, None if is_block else work.log.read(unit)

    for kind in (WorkUnit, AssemblyUnit):
        scenes = (u for u in plan.read_units(work.run.plan, kind) if u.format == "scene")

        for unit, commit in in_order(recorded, scenes):
            order.setdefault(unit.files[0].key, len(order))
            if commit is not None and commit.outputs_in("labels"):
                found[unit.files[0].key] = unit
    yield from (found[key] for key in sorted(found, key=order.__getitem__))


def _piece(file: InputFile, work: Work) -> Piece:
    """A label map, by its own header: the scene may be out of reach by now."""
    path = scene_paths(file).labels
    grid = read_header(work.run.path(path)).grid
    wkt = grid.crs.to_wkt() if grid.crs else ""
    return Piece(path, grid.height, grid.width, grid.transform, wkt, TILE_PX)

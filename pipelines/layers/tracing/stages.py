"""The stages that trace label maps: blocks first, and then scenes, whose rows files are made of."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.formats.work import Work
from pipelines.layers.generalized.generalize import generalized_map
from pipelines.layers.maps import LabelMap, LabelMaps, map_ground, map_of
from pipelines.layers.options import MAX_VERTICES
from pipelines.layers.polygons.measures import AREA, COUNTED, WholeAreas
from pipelines.layers.polygons.parts import PARTS, row_groups
from pipelines.layers.stages import Stage, StageResult, StageWork
from pipelines.layers.tracing.blocks import Heads, LabelBlock, TracedBlock, trace_block
from pipelines.layers.tracing.scenes import scene_polygons
from pipelines.layers.tracing.trace_files import (
    TraceFiles,
    polygon_rows,
    write_corners,
    write_pieces,
    write_rows,
)
from pipelines.rasters.cog import read_block
from pipelines.run.areas import Tally, TallySum
from pipelines.run.commits import Commit, Output
from pipelines.run.plan import SCENE, CountUnit, InputFile, WorkUnit
from pipelines.scenes.counts import elsewhere_in
from pipelines.scenes.finished import shared_ground
from pipelines.storage.copies import local_copies
from segmodel.errors import InputError, TransientError
from segmodel.tiling.windows import Window

# Side of a block: its pixels, and what is found in the noisiest, take some hundred MB.
BLOCK_PX = 2048
# Exact sums by class in the tallies of blocks.
POLYGON_PIXELS, POLYGON_M2, COUNTED_M2 = "polygon_pixels", "polygon_m2", "counted_m2"


@dataclass(frozen=True)
class Tracing:
    """How label maps are traced.

    Args:
        layer: Name of the layer that the stages are part of.
        max_vertices: Most vertices of a polygon.
        side: Most rows and columns of a block.
        minimum_area: Generalized label maps of this minimum mapping unit, in m², are traced, which
            stages before make; None for the label maps of the run.
    """

    layer: str = "polygons"
    max_vertices: int = MAX_VERTICES
    side: int = BLOCK_PX
    minimum_area: float | None = None

    @property
    def blocks(self) -> str:
        """Name of the stage of blocks."""
        return f"{self.layer}/trace"

    @property
    def scenes(self) -> str:
        """Name of the stage of scenes. Each unit writes a Parquet file, of `schema_of`."""
        return f"{self.layer}/scenes"

    def stages(self, maps: LabelMaps) -> list[Stage]:
        """Both stages.

        Args:
            maps: The label maps.
        """
        shape = self.shape_of(maps)
        blocks = partial(self.block_units, "trace", maps)
        scenes = partial(self.scene_units, "scene", maps)
        return [
            Stage(self.blocks, shape, blocks, TraceBlocks(self)),
            Stage(self.scenes, {"trace": shape}, scenes, JoinBlocks(self)),
        ]

    def block_units(self, kind: str, maps: LabelMaps) -> Iterator[WorkUnit]:
        """A unit for each block of the label maps; see `map_unit`."""
        shared = shared_ground(maps.work)
        for found in maps:
            sharing = shared.get(found.key, ())
            yield from (map_unit(kind, found, sharing, w) for w in found.blocks(self.side))

    def scene_units(self, kind: str, maps: LabelMaps) -> Iterator[WorkUnit]:
        """A unit for each label map; see `map_unit`."""
        shared = shared_ground(maps.work)
        return (map_unit(kind, found, shared.get(found.key, ()), None) for found in maps)

    def schema_of(self, labelled: Work) -> pa.Schema:
        """Columns of the rows: those of parts, and what counts in the scene if ground counts once.

        `counted_m2` is null without ground, as `area_m2` is.
        """
        return PARTS.append(pa.field(COUNTED_M2, pa.float64())) if labelled.counts_once else PARTS

    def shape_of(self, maps: LabelMaps) -> dict[str, Any]:
        """What the rows of scenes follow from, beside their label maps."""
        shape: dict[str, Any] = {"max_vertices": self.max_vertices, "side": self.side}
        shape |= {} if self.minimum_area is None else {"minimum_area": self.minimum_area}
        # What counts in other scenes follows from all label maps.
        return shape | ({"map": maps.digest} if maps.work.counts_once else {})

    def traced_map(self, unit: WorkUnit, work: StageWork) -> tuple[LabelMap, Sequence[InputFile]]:
        """The label map that a unit of a block is of, and the scenes that show the same ground.

        Raises:
            InputError: If it cannot be opened, or could not be generalized.
            TransientError: If it is not generalized yet.
        """
        found, sharing = map_and_sharing(unit, work.labelled)
        if self.minimum_area is not None:
            found = generalized_map(found, self.minimum_area, work)
        return found, sharing


def map_unit(
    kind: str, found: LabelMap, sharing: Sequence[InputFile], window: Window | None
) -> WorkUnit:
    """A unit: the files of its map and, behind them, all scenes that show the same ground."""
    unit = found.unit(kind, window)
    return replace(unit, files=(*unit.files, *sharing))


def map_and_sharing(unit: WorkUnit, labelled: Work) -> tuple[LabelMap, Sequence[InputFile]]:
    """The label map of a unit of `map_unit`, and the scenes that show the same ground.

    Raises:
        InputError: If it cannot be opened.
    """
    count = 2 if labelled.confidence else 1
    own = replace(unit, files=unit.files[:count])
    return map_of(own, labelled.contract.classes), unit.files[count:]


def _areas_of(found: LabelMap, labelled: Work) -> WholeAreas | None:
    """Ground areas of the pixels of a label map; None where they are not known."""
    ground = map_ground(found, labelled)
    return None if ground is None else WholeAreas.of(ground)


@dataclass(frozen=True)
class TraceBlocks:
    """Traces a block, for its scene; see `TraceFiles`.

    Args:
        tracing: How.
    """

    tracing: Tracing

    def __call__(self, unit: WorkUnit, work: StageWork) -> StageResult:
        """Do a unit."""
        assert unit.window is not None
        found, sharing = self.tracing.traced_map(unit, work)
        areas = _areas_of(found, work.labelled)
        block = _block(found, unit.window, areas, work.labelled, sharing)
        traced = trace_block(block, self.tracing.max_vertices)
        files = TraceFiles.of(unit.id)
        writers: tuple[Callable[[str], None], ...] = (
            lambda path: _write_polygons(path, traced, found),
            lambda path: write_pieces(path, traced.pieces),
            lambda path: write_corners(path, traced.pieces.keys),
        )
        outputs = []
        for name, write in zip(files, writers, strict=True):
            path = work.own_path(name)
            with work.written(path) as draft:
                write(draft.path)
            outputs.append(Output.of(path, draft.written))
        sums = _class_sums([traced.heads, traced.pieces.heads], areas)
        return StageResult(outputs, Tally(sums=sums), unit.window.pixels)


def _write_polygons(path: str, traced: TracedBlock, found: LabelMap) -> None:
    shapes = traced.rings.geometries(found.grid.transform)
    write_rows(path, polygon_rows(traced.heads, np.zeros(len(shapes), np.int32), shapes))


def rimmed_labels(found: LabelMap, window: Window) -> np.ndarray:
    """`(height + 2, width + 2)` labels of a block with one pixel around it; see `LabelBlock`."""
    around = Window(window.row - 1, window.column - 1, window.height + 2, window.width + 2)
    inner = around.intersection(found.grid.window)
    rimmed = np.full((around.height, around.width), found.classes.nodata, found.classes.label_dtype)
    rimmed[inner.relative_to(around).slices] = read_block(found.uri, inner)
    return rimmed


def _block(
    found: LabelMap,
    window: Window,
    areas: WholeAreas | None,
    labelled: Work,
    sharing: Sequence[InputFile],
) -> LabelBlock:
    """The pixels of a block."""
    elsewhere = None
    if sharing:
        place = [file.key for file in sharing].index(found.key)
        shared = CountUnit(found.key, SCENE, tuple(sharing), place)
        elsewhere = elsewhere_in(shared, labelled, window)
    return LabelBlock(
        window,
        found.grid.width,
        rimmed_labels(found, window),
        found.classes.nodata,
        areas,
        elsewhere,
        None if found.confidence is None else read_block(found.confidence, window),
    )


def _class_sums(
    heads: Sequence[Heads], areas: WholeAreas | None
) -> dict[str, dict[str, int | Fraction]]:
    """Exact sums by class, for a tally."""
    labels = np.concatenate([head.labels for head in heads])
    measures = np.concatenate([head.measures for head in heads])
    sums: dict[str, dict[str, int | Fraction]] = {POLYGON_PIXELS: {}}
    if areas is not None:
        sums |= {POLYGON_M2: {}, COUNTED_M2: {}}
    for label in np.unique(labels).tolist():
        total = measures[labels == label].sum(axis=0)
        sums[POLYGON_PIXELS][str(label)] = int(total[0])
        if areas is not None:
            sums[POLYGON_M2][str(label)] = areas.exact(total[AREA])
            sums[COUNTED_M2][str(label)] = areas.exact(total[COUNTED])
    return sums


@dataclass(frozen=True)
class JoinBlocks:
    """Makes the rows of a scene from what its blocks have.

    Args:
        tracing: How.
    """

    tracing: Tracing

    def __call__(self, unit: WorkUnit, work: StageWork) -> StageResult:
        """Do a unit."""
        found, sharing = map_and_sharing(unit, work.labelled)
        windows = list(found.blocks(self.tracing.side))
        traces, names, total = work.stage(self.tracing.blocks), list[str](), TallySum()
        for window in windows:
            block = map_unit("trace", found, sharing, window)
            total.add(finished_commit(block, traces).tally)
            names += map(traces.own_path, TraceFiles.of(block.id))
        path = work.own_path(f"{unit.id}.parquet")
        with ExitStack() as stack:
            draft = stack.enter_context(work.written(path))
            uris = map(traces.path, names)
            paths = stack.enter_context(local_copies(uris, work.run.scratch))
            files = [TraceFiles(*paths[start : start + 3]) for start in range(0, len(paths), 3)]
            size = found.grid.height, found.grid.width
            batches = scene_polygons(
                windows, files, size, found.grid.transform, self.tracing.max_vertices
            )
            rows = _Rows(
                found, _areas_of(found, work.labelled), self.tracing.schema_of(work.labelled)
            )
            _write_scene(draft.path, batches, rows)
        tally = replace(total.exact(), images=1)
        return StageResult([Output.of(path, draft.written)], tally, 0)


def finished_commit(unit: WorkUnit, stage: StageWork) -> Commit:
    """The record of a unit that is done.

    Raises:
        TransientError: If it is not.
        InputError: If it cannot be.
    """
    commit = stage.log.read(unit)
    if commit is None:
        raise TransientError(f"{unit.id} is not done yet: run the same command again")
    if commit.tally.failed_images:
        raise InputError(f"{unit.window or 'all'} of it could not be traced")
    return commit


def _write_scene(path: str, batches: Iterator[pa.RecordBatch], rows: "_Rows") -> None:
    with pq.ParquetWriter(path, rows.schema, compression="zstd") as writer:
        for table in row_groups(map(rows.of, batches)):
            writer.write_table(table)


def class_totals(scenes: StageWork) -> list[dict[str, Any]]:
    """Pixels and ground area of the polygons of each class, for the summary.

    Exact sums, rounded: of a complete run those of `areas.csv` but for the last digits.

    Args:
        scenes: Work of the stage of scenes.
    """
    total = TallySum()
    for _, commit in scenes.commits():
        total.add(commit.tally if commit else Tally())
    sums, labelled = total.exact().sums, scenes.labelled

    def of(name: str, label: int) -> Any:
        return sums.get(name, {}).get(str(label), 0)

    return [
        {
            "class_id": entry.id,
            "class": entry.name,
            "pixels": of(POLYGON_PIXELS, entry.id),
            "area_m2": float(of(POLYGON_M2, entry.id)),
        }
        | ({COUNTED_M2: float(of(COUNTED_M2, entry.id))} if labelled.counts_once else {})
        for entry in labelled.contract.classes.classes
    ]


@dataclass(frozen=True)
class _Rows:
    """Rows as others read them, of those with whole numbers.

    Args:
        found: The label map.
        areas: Ground areas of its pixels, or None.
        schema: Columns of the rows.
    """

    found: LabelMap
    areas: WholeAreas | None
    schema: pa.Schema

    def of(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Some rows."""
        key, width = self.found.key, self.found.grid.width
        first, pixels = (batch[name].to_numpy() for name in ("first", "pixels"))
        classes = {entry.id: entry.name for entry in self.found.classes.classes}
        row, column = (pa.array(at).cast(pa.string()) for at in np.divmod(first, width))
        place = pc.binary_join_element_wise(row, column, ",")
        count = len(batch)
        columns = {name: batch[name] for name in batch.schema.names if name in self.schema.names}
        columns |= {
            "scene": pa.repeat(key, count),
            "component": pc.binary_join_element_wise(pa.repeat(key, count), place, "#"),
            "class_id": batch["label"],
            "class": pa.array([classes[label] for label in batch["label"].to_pylist()]),
            "area_m2": self._square_metres(batch, "area"),
            COUNTED_M2: self._square_metres(batch, "counted"),
            "confidence": pa.nulls(count, pa.float64()),
        }
        if self.found.confidence is not None:
            columns["confidence"] = pa.array(batch["confidence"].to_numpy() / 255 / pixels)
        arrays = [columns[field.name].cast(field.type) for field in self.schema]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def _square_metres(self, batch: pa.RecordBatch, name: str) -> pa.Array:
        if self.areas is None:
            return pa.nulls(len(batch), pa.float64())
        sums = [batch[f"{name}_{part}"].to_numpy() for part in ("high", "low")]
        return pa.array(self.areas.square_metres(np.stack(sums, axis=1)))

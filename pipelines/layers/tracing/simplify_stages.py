"""The stages that simplify polygons: blocks first, and then scenes."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import shapely

from pipelines.formats.work import Work
from pipelines.geodesy.ground import GroundGrid
from pipelines.layers.maps import LabelMaps, map_ground
from pipelines.layers.polygons.components import components_of
from pipelines.layers.polygons.parts import (
    BOUNDS,
    GEOMETRY,
    GROUP_ROWS,
    polygons_of,
    row_groups,
    with_geometry,
)
from pipelines.layers.polygons.simplified import SimplifiedPieces, simplify_block
from pipelines.layers.stages import Stage, StageResult, StageWork
from pipelines.layers.tracing.simplified_scenes import (
    DRIFT_M2,
    SIMPLIFIED,
    simplified_rows,
    simplified_scene,
)
from pipelines.layers.tracing.stages import (
    Tracing,
    finished_commit,
    map_and_sharing,
    map_unit,
    rimmed_labels,
)
from pipelines.layers.tracing.trace_files import TraceFiles, write_batches
from pipelines.run.areas import Tally, TallySum
from pipelines.run.commits import Output
from pipelines.run.plan import WorkUnit
from pipelines.storage.copies import local_copies
from segmodel.tiling.windows import Window

# Sums by class in the tallies of blocks: what polygons that grew and that shrank did so by.
GROWN_PX, SHRUNK_PX, GROWN_M2, SHRUNK_M2 = "grown_px", "shrunk_px", "grown_m2", "shrunk_m2"


@dataclass(frozen=True)
class Simplifying:
    """How polygons are simplified.

    Args:
        tracing: How they are traced.
        tolerance_px: See `simplify_block`.
    """

    tracing: Tracing
    tolerance_px: float

    @property
    def blocks(self) -> str:
        """Name of the stage of blocks."""
        return f"{self.tracing.layer}/simplify"

    @property
    def scenes(self) -> str:
        """Name of the stage of scenes. Each unit writes a Parquet file of rows of parts."""
        return f"{self.tracing.layer}/simplified"

    def stages(self, maps: LabelMaps) -> list[Stage]:
        """Both stages; those of tracing come before them.

        Args:
            maps: The label maps.
        """
        blocks = {"side": self.tracing.side, "tolerance_px": self.tolerance_px}
        blocks |= {"minimum_area": self.tracing.minimum_area or 0}
        return [
            Stage(
                self.blocks,
                blocks,
                lambda: self.tracing.block_units("simplify", maps),
                SimplifyBlocks(self),
            ),
            Stage(
                self.scenes,
                self.shape_of(maps),
                lambda: self.tracing.scene_units("simplified", maps),
                JoinSimplified(self),
            ),
        ]

    def schema_of(self, labelled: Work) -> pa.Schema:
        """Columns of the rows: those of exact ones, and how much the ground area grew."""
        return self.tracing.schema_of(labelled).append(pa.field(DRIFT_M2, pa.float64()))

    def shape_of(self, maps: LabelMaps) -> dict[str, object]:
        """What the rows of scenes follow from, beside their label maps."""
        return {"trace": self.tracing.shape_of(maps), "tolerance_px": self.tolerance_px}


@dataclass(frozen=True)
class SimplifyBlocks:
    """Simplifies the polygons of a block, for its scene.

    Args:
        how: How.
    """

    how: Simplifying

    def __call__(self, unit: WorkUnit, work: StageWork) -> StageResult:
        """Do a unit."""
        assert unit.window is not None
        window = unit.window
        found, _ = self.how.tracing.traced_map(unit, work)
        rimmed = rimmed_labels(found, window)
        components = components_of(rimmed[1:-1, 1:-1])
        nodata = found.classes.nodata
        pieces = simplify_block(rimmed, components, nodata, self.how.tolerance_px)
        rows, columns = np.divmod(components.first[pieces.components], window.width)
        first = (rows + window.row) * found.grid.width + columns + window.column
        drift_m2 = pieces.drift @ _density(map_ground(found, work.labelled), window)
        corner = np.array([window.column, window.row])
        shapes = shapely.transform(pieces.polygons, lambda points: points + corner)
        path = work.own_path(f"{unit.id}.arrow")
        with work.written(path) as draft:
            parts = np.zeros(len(first), np.int32)
            write_batches(draft.path, SIMPLIFIED, simplified_rows(first, parts, drift_m2, shapes))
        sums = _class_drift(components.labels[pieces.components], pieces, drift_m2)
        return StageResult([Output.of(path, draft.written)], Tally(sums=sums), window.pixels)


def _density(ground: GroundGrid | float | None, window: Window) -> np.ndarray:
    """Ground area of a pixel of a block by its place, as a plane through its corners.

    Args:
        ground: Where the pixels are, or the area of each of them in m², or None.
        window: The block.

    Returns:
        `(3,)` float64: m² at the corner of the block, and how much more a column and a row further
        on. NaN where it is not known.
    """
    if not isinstance(ground, GroundGrid):
        return np.array([np.nan if ground is None else ground, 0, 0])
    places = [(y, x) for y in (0, window.height - 1) for x in (0, window.width - 1)]
    areas = [
        ground.pixel_areas_m2(window.row + y, window.column + x, 1, 1).item() for y, x in places
    ]
    terms = np.array([(1, x + 0.5, y + 0.5) for y, x in places])
    return np.asarray(np.linalg.lstsq(terms, np.array(areas))[0])


def _class_drift(
    labels: np.ndarray, pieces: SimplifiedPieces, drift_m2: np.ndarray
) -> dict[str, dict[str, int | Fraction]]:
    """Exact sums by class, for a tally."""
    sums: dict[str, dict[str, int | Fraction]] = {}
    ways = ((GROWN_PX, SHRUNK_PX, pieces.drift[:, 0]), (GROWN_M2, SHRUNK_M2, drift_m2))
    for grown, shrunk, drift in ways:
        if np.isnan(drift).any():
            continue
        for name, part in ((grown, np.maximum(drift, 0)), (shrunk, np.maximum(-drift, 0))):
            sums[name] = {
                str(label): Fraction(float(part[labels == label].sum()))
                for label in np.unique(labels).tolist()
            }
    return sums


@dataclass(frozen=True)
class JoinSimplified:
    """Makes the rows of a scene from what its blocks have.

    Args:
        how: How polygons are simplified.
    """

    how: Simplifying

    def __call__(self, unit: WorkUnit, work: StageWork) -> StageResult:
        """Do a unit."""
        tracing = self.how.tracing
        found, sharing = map_and_sharing(unit, work.labelled)
        traces, blocks = work.stage(tracing.blocks), work.stage(self.how.blocks)
        windows, total = list(found.blocks(tracing.side)), TallySum()
        names, simplified = list[str](), list[str]()
        for window in windows:
            block = map_unit("trace", found, sharing, window)
            finished_commit(block, traces)
            names += (traces.path(traces.own_path(name)) for name in TraceFiles.of(block.id))
            commit = finished_commit(map_unit("simplify", found, sharing, window), blocks)
            total.add(commit.tally)
            simplified.append(blocks.path(commit.outputs[0].path))
        exact = work.stage(tracing.scenes)
        commit = finished_commit(map_unit("scene", found, sharing, None), exact)
        names += [*simplified, exact.path(commit.outputs[0].path)]
        path = work.own_path(f"{unit.id}.parquet")
        schema = self.how.schema_of(work.labelled)
        with work.written(path) as draft, local_copies(names, work.run.scratch) as paths:
            count = 3 * len(windows)
            traced = [TraceFiles(*paths[start : start + 3]) for start in range(0, count, 3)]
            grid = found.grid.width, found.grid.transform
            rows = simplified_scene(windows, traced, paths[count:-1], grid, tracing.max_vertices)
            with pq.ParquetWriter(draft.path, schema, compression="zstd") as writer:
                for table in row_groups(_completed(rows, paths[-1], schema)):
                    writer.write_table(table)
        tally = replace(total.exact(), images=1)
        return StageResult([Output.of(path, draft.written)], tally, 0)


def _completed(
    rows: Iterable[pa.RecordBatch], exact: str, schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    """Simplified rows with what is known of their components.

    Args:
        rows: Rows of `SIMPLIFIED`, by components.
        exact: Path of the rows of the same components as they were traced, in the same order.
        schema: Columns of the rows.
    """
    own = ("part", DRIFT_M2, GEOMETRY, *BOUNDS)
    names = [name for name in schema.names if name not in own]
    known = _Components(exact, names)
    for batch in rows:
        table = known.of(batch["first"].to_numpy())
        for name in ("part", DRIFT_M2):
            table = table.append_column(name, batch[name])
        yield from with_geometry(table, polygons_of(batch)).select(schema.names).to_batches()


class _Components:
    """What is known of components, one after the other.

    Args:
        path: Parquet file of rows of parts.
        names: Columns.
    """

    def __init__(self, path: str, names: Sequence[str]) -> None:
        file = pq.ParquetFile(path)
        self._batches = file.iter_batches(GROUP_ROWS, columns=["part", *names])
        self._held = file.schema_arrow.empty_table().select(names)
        self._names, self._last = names, -1

    def of(self, first: np.ndarray) -> pa.Table:
        """Rows for the next polygons.

        Args:
            first: First pixel of the component of each; a component may go on from those before.
        """
        begins = np.diff(first, prepend=self._last) != 0
        place = np.cumsum(begins) - (self._last < 0)
        while self._held.num_rows <= place[-1]:
            batch = next(self._batches)
            whole = pa.Table.from_batches([batch]).filter(pc.equal(batch["part"], 0))
            self._held = pa.concat_tables([self._held, whole.select(self._names)])
        found = self._held.take(pa.array(place))
        self._held, self._last = self._held.slice(place[-1]), int(first[-1])
        return found

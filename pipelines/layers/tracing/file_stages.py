"""The stages that write polygons for others, a stage for each kind of file.

A file holds a reference system of the run, or a scene. Its rows are those of scenes in order of
precedence, and of a scene by the first pixels of components.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.formats.work import Work
from pipelines.geodesy.geopackages import write_style
from pipelines.layers.maps import LabelMap, LabelMaps, map_of
from pipelines.layers.options import POLYGON_KINDS
from pipelines.layers.polygons.feature_files import LAYER_NAME, write_features
from pipelines.layers.polygons.geojson import write_geojson
from pipelines.layers.polygons.geoparquet import write_geoparquet
from pipelines.layers.polygons.parts import GROUP_ROWS
from pipelines.layers.polygons.wgs84 import is_on_earth
from pipelines.layers.stages import SceneFiles, Stage, StageResult, StageWork, is_outdated
from pipelines.run.areas import Tally
from pipelines.run.commits import Output
from pipelines.run.plan import WorkUnit
from pipelines.storage.copies import local_copies
from segmodel.errors import ConfigurationError, InputError, TransientError
from segmodel.labels.qgis_styles import polygon_style

NO_CRS = "no-crs"
# A sum in the tallies of files.
FEATURES = "features"


class RowSource(Protocol):
    """Stages that make rows of scenes."""

    @property
    def scenes(self) -> str:
        """Name of the stage that writes a Parquet file of rows for each scene."""

    def schema_of(self, labelled: Work) -> pa.Schema:
        """Columns of the rows."""

    def shape_of(self, maps: LabelMaps) -> dict[str, Any]:
        """What the rows follow from, beside their label maps."""


@dataclass(frozen=True)
class PolygonFiles:
    """Files that are made of the rows of scenes.

    Args:
        name: Begin of their names.
        rows: Stages that make the rows.
        by_scene: Whether each scene has a file of its own.
    """

    name: str
    rows: RowSource
    by_scene: bool = False

    def stages(
        self, kinds: Collection[str], maps: LabelMaps, systems: Mapping[str, LabelMap]
    ) -> list[Stage]:
        """A stage for each kind of file.

        What earlier commands made of other rows does not stay beside them: its stage has no unit.

        Args:
            kinds: Some of `POLYGON_KINDS`.
            maps: The label maps.
            systems: The first label map of each reference system, by its name.

        Raises:
            ConfigurationError: If a kind cannot hold one of the label maps.
        """
        if "geojson" in kinds:
            _check_wgs84(systems.values())
        made = []
        for kind in POLYGON_KINDS:
            stage = self._stage(kind, maps, systems)
            if kind in kinds:
                made.append(stage)
            elif is_outdated(stage, maps.work):
                made.append(Stage(stage.name, {"outdated": True}, tuple, stage.action))
        return made

    def _stage(self, kind: str, maps: LabelMaps, systems: Mapping[str, LabelMap]) -> Stage:
        paths = {name: self._path(name, len(systems)) for name in systems}
        units = partial(self._units, kind, maps if self.by_scene else systems.values())
        shape: dict[str, Any] = {"rows": self.rows.shape_of(maps), "by_scene": self.by_scene}
        shape |= {} if self.by_scene else {"map": maps.digest, "paths": paths}
        write = WriteFile(self, kind, paths)
        return Stage(self.stage_of(kind), shape, units, write, is_by_scene=self.by_scene)

    def stage_of(self, kind: str) -> str:
        """Name of the stage that writes files of a kind."""
        return stage_of_files(self.name, kind)

    def _path(self, system: str, systems: int) -> str:
        return self.name if systems == 1 else f"{self.name}-{system}"

    def _units(self, kind: str, maps: Iterable[LabelMap]) -> Iterator[WorkUnit]:
        return (found.unit(kind) for found in maps)


def stage_of_files(name: str, kind: str) -> str:
    """Name of the stage that writes files of a kind, by the begin of their names."""
    return f"polygons/{name}-{kind}"


def scene_files(names: Iterable[str]) -> dict[str, SceneFiles]:
    """Files that stages may write for each scene, by the begins of their names."""

    def unit(found: LabelMap, kind: str) -> WorkUnit:
        return found.unit(kind)

    return {
        stage_of_files(name, kind): SceneFiles(f"{name}-{kind}", partial(unit, kind=kind))
        for name in names
        for kind in POLYGON_KINDS
    }


def first_of_systems(maps: LabelMaps) -> dict[str, LabelMap]:
    """The first label map of each reference system, by the name of the system."""
    first: dict[str, LabelMap] = {}
    for found in maps:
        first.setdefault(found.system or NO_CRS, found)
    return first


def _check_wgs84(maps: Iterable[LabelMap]) -> None:
    for found in maps:
        if not is_on_earth(found.crs_wkt):
            raise ConfigurationError(
                f"--polygons geojson: coordinates of GeoJSON are longitudes and latitudes on the "
                f"Earth, and {found.key} has no reference system that leads to them: choose "
                f"parquet, gpkg or fgb"
            )


@dataclass(frozen=True)
class WriteFile:
    """Writes the file of a reference system, or of a scene.

    Args:
        files: What files there are.
        kind: Kind of the file.
        paths: Paths in `layers/`, without the ending, by the name of the reference system.
    """

    files: PolygonFiles
    kind: str
    paths: Mapping[str, str]

    def __call__(self, unit: WorkUnit, work: StageWork) -> StageResult:
        """Do a unit, which names the scene, or the first one of the reference system."""
        found = map_of(unit, work.labelled.contract.classes)
        scenes = work.stage(self.files.rows.scenes)
        if self.files.by_scene:
            path = f"{self.files.name}/{found.key}.{self.kind}"
        else:
            path = f"{self.paths[found.system or NO_CRS]}.{self.kind}"
        rows = _Rows(scenes, found, self.files.by_scene)
        with work.written(path) as draft:
            self._write(draft.path, rows, found, work)
        sums = {FEATURES: {self.kind: rows.count}}
        return StageResult([Output.of(path, draft.written)], Tally(images=1, sums=sums), 0)

    def _write(self, path: str, rows: "_Rows", found: LabelMap, work: StageWork) -> None:
        schema, wkt = self.files.rows.schema_of(work.labelled), found.crs_wkt
        if self.kind == "parquet":
            write_geoparquet(path, schema, rows, wkt)
        elif self.kind == "geojson":
            write_geojson(path, schema, rows, wkt)
        else:
            write_features(path, self.kind, schema, rows, wkt)
        if self.kind == "gpkg":
            style = polygon_style(found.classes).decode()
            write_style(path, LAYER_NAME, "geom", "classes", style)


@dataclass
class _Rows(Iterable[pa.RecordBatch]):
    """Rows of scenes; of each, a group is in memory.

    Attributes:
        count: How many were read.

    Args:
        scenes: The stage that wrote them.
        found: A label map.
        is_alone: Whether its rows are wanted; else those of all of its reference system.
    """

    scenes: StageWork
    found: LabelMap
    is_alone: bool
    count: int = 0

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        system = self.found.system
        for unit, commit in self.scenes.commits():
            if self.is_alone and unit.files[0] != self.found.file:
                continue
            if commit is None:
                raise TransientError(f"{unit.id} is not done yet: run the same command again")
            if commit.tally.failed_images:
                if self.is_alone:
                    raise InputError("it could not be traced")
                continue
            label_map = map_of(replace(unit, files=unit.files[:1]), self.found.classes)
            if label_map.system == system:
                yield from self._rows_in(commit.outputs[0])

    def _rows_in(self, output: Output) -> Iterator[pa.RecordBatch]:
        uris = [self.scenes.path(output.path)]
        with local_copies(uris, self.scenes.run.scratch) as (path,), pq.ParquetFile(path) as file:
            for batch in file.iter_batches(GROUP_ROWS):
                self.count += len(batch)
                yield batch

"""The label maps of a finished run, as the stages of layers read them."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

from pipelines.formats.work import Work
from pipelines.geodesy.ground import GroundGrid
from pipelines.rasters.header import read_header
from pipelines.rasters.reader import ground_grid
from pipelines.run.commits import Output
from pipelines.run.plan import SCENE, InputFile, WorkUnit, unit_id
from pipelines.scenes.finished import SceneMaps, named_label_map, run_digest_of, scene_maps
from pipelines.scenes.vrt import crs_name
from pipelines.storage import filesystem
from pipelines.storage.threads import in_order
from segmodel.errors import FailureCode, InputError
from segmodel.labels.classes import ClassTable
from segmodel.rasters.grid import Grid
from segmodel.tiling.windows import Window


@dataclass(frozen=True)
class LabelMap:
    """A label map of a scene.

    Args:
        file: The label map, with folder and name of the scene; its version is its SHA-256.
        confidence_file: Confidence of the same pixels, or None.
        grid: Size and place.
        classes: What its values mean.
    """

    file: InputFile
    confidence_file: InputFile | None
    grid: Grid
    classes: ClassTable

    @property
    def key(self) -> str:
        """Names the scene in tables: folder and name."""
        return self.file.key

    @property
    def uri(self) -> str:
        """Where the label map is."""
        return self.file.uri

    @property
    def confidence(self) -> str | None:
        """Where the confidence is."""
        return None if self.confidence_file is None else self.confidence_file.uri

    @property
    def crs_wkt(self) -> str:
        """The reference system as WKT; empty where it has none."""
        return "" if self.grid.crs is None else str(self.grid.crs.to_wkt())

    @property
    def system(self) -> str:
        """Short name of the reference system, as in the names of files; empty where it has none."""
        return crs_name(self.crs_wkt)

    @property
    def files(self) -> tuple[InputFile, ...]:
        """All files of it, as units have them."""
        others = () if self.confidence_file is None else (self.confidence_file,)
        return self.file, *others

    def blocks(self, side: int) -> Iterator[Window]:
        """Windows of at most `side` rows and columns that cover it once, row by row."""
        return self.grid.window.subdivide(side, side)

    def unit(self, kind: str, window: Window | None = None) -> WorkUnit:
        """The unit of a stage that reads it, or a window of it; its record is of these very files.

        Args:
            kind: Begin of the id.
            window: Rows and columns, or None for all.
        """
        corner = "" if window is None else f"r{window.row}c{window.column}"
        return WorkUnit(unit_id(kind, self.file, corner), SCENE, self.files, window)


def map_of(unit: WorkUnit, classes: ClassTable) -> LabelMap:
    """The label map that a unit of `LabelMap.unit` reads.

    Args:
        unit: The unit.
        classes: What values of the label map mean.

    Raises:
        InputError: If it cannot be opened.
    """
    file, *rest = unit.files
    confidence = rest[0] if rest else None
    return LabelMap(file, confidence, grid_of(file), classes)


@lru_cache(256)
def grid_of(file: InputFile) -> Grid:
    """Size and place of a label map; opened once in a process.

    Raises:
        InputError: If it cannot be opened; names it, with the remedy.
    """
    with named_label_map(file):
        return read_header(file.uri).grid


class LabelMaps(Iterable[LabelMap]):
    """All label maps of scenes in a finished run; those that take precedence come first.

    Attributes:
        work: Work of the run.
        digest: SHA-256 over what makes the map; see `run_digest_of`.
        scenes: By their keys the scenes that have a label map, in the same order.
        areas: By key of a scene its table of rows.
        lost: By key of a scene the windows of it that could not be read, if any.

    Args:
        work: Work of the run.
        grids: Size and place of label maps by their path in the run directory; those that are not
            there are opened.

    Raises:
        InputError: If a label map that is opened is not as the run left it; names it, with the
            remedy.
    """

    def __init__(self, work: Work, grids: Mapping[str, Grid] = MappingProxyType({})) -> None:
        self.work, self._grids = work, grids
        self.digest = run_digest_of(work.run.read_run() or {}, work.log)
        found = scene_maps(work)
        self.scenes = {maps.file.key: maps.file for maps in found}
        self.areas = {maps.file.key: maps.areas for maps in found if maps.areas is not None}
        self.lost = {maps.file.key: maps.lost for maps in found if maps.lost}
        self._maps = list(in_order(self._opened, found))

    def __len__(self) -> int:
        return len(self._maps)

    def __iter__(self) -> Iterator[LabelMap]:
        return iter(self._maps)

    def _opened(self, maps: SceneMaps) -> LabelMap:
        labels = self._file(maps.file, maps.labels)
        grid = self._grids.get(maps.labels.path)
        if grid is None:
            _check_size(labels)
            grid = grid_of(labels)
        confidence = None if maps.confidence is None else self._file(maps.file, maps.confidence)
        return LabelMap(labels, confidence, grid, self.work.contract.classes)

    def _file(self, scene: InputFile, output: Output) -> InputFile:
        uri = self.work.run.path(output.path)
        return InputFile(uri, scene.folder, scene.name, output.size, output.sha256)


def _check_size(file: InputFile) -> None:
    """Refuse a label map that is cut: GDAL may read some of what it says of itself, and no CRS."""
    with named_label_map(file):
        size = filesystem.size_of(file.uri)
        if size != file.size:
            found = "it is not there" if size is None else f"it has {size} bytes"
            raise InputError(f"{found}, {file.size} are recorded", code=FailureCode.INCOMPLETE)


def map_ground(found: LabelMap, labelled: Work) -> GroundGrid | float | None:
    """Where the pixels of a label map are on the ground.

    Args:
        found: The label map.
        labelled: Work of the run.

    Returns:
        That, or the area of each pixel in m², by `--pixel_size`; None where neither is known.
    """
    if found.grid.crs is not None and not found.grid.transform.is_identity:
        return ground_grid(found.grid)
    return None if labelled.pixel_size_m is None else labelled.pixel_size_m**2

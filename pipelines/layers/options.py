"""Options of `layers`, which `segment` has too."""

import argparse
from dataclasses import dataclass
from importlib.util import find_spec

from pipelines.cli.options import Option, parse_options, positive
from pipelines.cli.values import MAX_FAILURES, FailureBudget
from segmodel.errors import ConfigurationError

# What the extra `layers` installs, as it is imported.
PACKAGES = ("pmtiles", "scipy")
# Kinds of files of polygons.
POLYGON_KINDS = ("parquet", "gpkg", "fgb", "geojson")
MIN_VERTICES, MAX_VERTICES = 100, 1_000_000
# Pixels of 9 mm at the equator.
DEEPEST_ZOOM = 24
# Of --simplify. No triangle of corners of pixels is smaller than half a pixel, a square of 0.7071
# pixels a side; the most is more than most polygons are wide.
MIN_TOLERANCE_PX, MAX_TOLERANCE_PX = 0.71, 100


def _kinds(text: str) -> tuple[str, ...]:
    """Kinds of files, each once.

    >>> _kinds("gpkg, parquet,gpkg")
    ('gpkg', 'parquet')
    """
    found = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    if not {*found} <= {*POLYGON_KINDS}:
        raise ValueError(f"must be {', '.join(POLYGON_KINDS)}, or some of them with commas between")
    return found


def _zoom(value: int) -> int:
    if not 0 <= value <= DEEPEST_ZOOM:
        raise ValueError(f"must be from 0 to {DEEPEST_ZOOM}")
    return value


def _vertices(value: int) -> int:
    if value < MIN_VERTICES:
        raise ValueError(f"must be at least {MIN_VERTICES}")
    return value


def _tolerance(value: float) -> float:
    if not MIN_TOLERANCE_PX <= value <= MAX_TOLERANCE_PX:
        raise ValueError(
            f"must be from {MIN_TOLERANCE_PX}, below which no vertex is left out, to "
            f"{MAX_TOLERANCE_PX}"
        )
    return value


@dataclass(frozen=True)
class LayersOptions:
    """What the user asked for; each field is declared with its option."""

    mosaic: bool = Option().field()
    """make one map of all label maps of a reference system, in files of equal size and an index
    over them; of scenes that show the same ground, the one that takes precedence shows"""
    cell: float | None = Option(
        "SIZE",
        float,
        positive,
        default_help="100 km or 3 degrees; more where pixels are large, less where they are small",
    ).field()
    """with --mosaic: side of a file, in units of the reference system"""
    minimum_area: float | None = Option("M2", float, positive).field()
    """generalize the label maps: what hangs together in less than this area, in m² of ground, takes
    the class that it has the longest border with; --polygons are those of the generalized maps,
    --mosaic and --tiles show the label maps as they are"""
    polygons: tuple[str, ...] | None = Option("KINDS", parse=_kinds).field()
    """make polygons of the label maps, in files of these kinds: parquet, gpkg, fgb or geojson, or
    several with commas between; a file of each for each reference system"""
    by_scene: bool = Option().field()
    """with --polygons: a file of each kind for each scene instead"""
    simplify: float | None = Option("PX", float, _tolerance).field()
    """with --polygons: make simplified polygons too, which share their edges; leave out vertices
    whose triangle is smaller than a square of so many pixels a side, from 0.71 to 100"""
    max_vertices: int = Option("N", int, _vertices, default=MAX_VERTICES).field()
    """most vertices of a polygon of --polygons; what hangs together and has more is several
    polygons"""
    stac: bool = Option().field()
    """write a catalogue of the label maps for programs that read STAC: an item a scene, with its
    place, classes, checksums and model"""
    tiles: str | None = Option("FORMAT", choices=("png", "webp")).field()
    """make web tiles of the classes, in one PMTiles archive: png, or webp without loss"""
    max_zoom: int | None = Option(
        "N", int, _zoom, default_help="the first that is not coarser than the label maps"
    ).field()
    """with --tiles: deepest zoom, from 0 to 24"""
    max_failures: FailureBudget = MAX_FAILURES.field()

    @property
    def has_any(self) -> bool:
        """Whether they ask for anything."""
        return self != LayersOptions(max_failures=self.max_failures)


def layers_options(parsed: argparse.Namespace) -> LayersOptions:
    """Checked options.

    Raises:
        ConfigurationError: If one is not possible; names it.
    """
    options = parse_options(LayersOptions, parsed)
    if options.cell is not None and not options.mosaic:
        raise ConfigurationError("--cell is the side of the files of --mosaic: give both")
    if options.by_scene and options.polygons is None:
        raise ConfigurationError("--by_scene makes files of --polygons: give both")
    if options.max_vertices != MAX_VERTICES and options.polygons is None:
        raise ConfigurationError("--max_vertices bounds polygons of --polygons: give both")
    if options.max_zoom is not None and options.tiles is None:
        raise ConfigurationError("--max_zoom is the deepest zoom of --tiles: give both")
    if options.simplify is not None and options.polygons is None:
        raise ConfigurationError("--simplify makes polygons of --polygons simpler: give both")
    if options.has_any:
        check_packages()
    return options


def check_packages() -> None:
    """Refuse to go on without the packages that layers need.

    Raises:
        ConfigurationError: Names what is missing.
    """
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise ConfigurationError(
            f"layers need {' and '.join(missing)}, which "
            f"{'is' if len(missing) == 1 else 'are'} missing: pip install 'beamseg[layers]'"
        )

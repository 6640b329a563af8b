"""Blocks of a scene: what one worker labels, and how it lies on the grid that the model sees."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from pipelines.formats.work import ReadOptions
from pipelines.rasters.reader import ground_grid
from pipelines.run.plan import SCENE, AssemblyUnit, InputFile, WorkUnit, unit_id
from segmodel.errors import BeamsegError, ConfigurationError, FailureCode, GroundError
from segmodel.rasters.bands import ModelBands
from segmodel.rasters.grid import Grid
from segmodel.rasters.header import TURNED, Header
from segmodel.rasters.opening import CACHE_BYTES
from segmodel.savedmodel.contract import Contract
from segmodel.tiling.resampling import ModelGrid
from segmodel.tiling.windows import Layout, Window, core_side, cores

# Name of the format, as it stands in plans.
# Longest side of a block, and most pixels of one that is as wide as its scene.
BLOCK_PX = 4096
WIDE_BLOCK_PIXELS = 1 << 25
# Least rows of windows in it, also in halos: below that, halos cost more than decoding again.
WIDE_ROWS, WIDE_HALOS = 256, 4
# More would read too much for a window at once.
MAX_SCALED = 16
# Squares of `BLOCK_PX` in a scene: the whole Earth in pixels of 10 m has half of them.
MAX_BLOCKS = 1 << 20
# Rows or columns of a scene: twice those of the whole Earth in pixels of 10 m.
MAX_SIDE_PX = 1 << 23


def model_grid(header: Header, reading: ReadOptions, what: str = "the scene") -> ModelGrid | None:
    """The grid that the model sees, or None if it is the scene's own.

    Raises:
        ConfigurationError: If the scene has no ground sample distance to be resampled from, or one
            that is too far from what is asked for.
    """
    if reading.resample_to is None:
        return None
    grid = header.grid
    if grid.crs is None or header.located_by is not None:
        raise ConfigurationError(
            "--resample_to needs to know the size of its pixels: assign a coordinate reference "
            "system (for example gdal_edit.py -a_srs EPSG:32633), or leave the option out",
            code=FailureCode.BAD_GEOREFERENCE,
            name=what,
        )
    across, down = _pixel_size_m(grid, what)
    scale = (down / reading.resample_to, across / reading.resample_to)
    if not all(1 / MAX_SCALED <= factor <= MAX_SCALED for factor in scale):
        raise ConfigurationError(
            f"--resample_to {reading.resample_to:g} is more than {MAX_SCALED} times coarser or "
            f"finer than its pixels of {max(down, across):.4g} m",
            code=FailureCode.WRONG_GSD,
            name=what,
        )
    return ModelGrid.from_scale((grid.height, grid.width), scale)


def _pixel_size_m(grid: Grid, what: str) -> tuple[float, float]:
    """Size of a pixel in x and in y on the ground, in metres; errors name the scene."""
    try:
        return ground_grid(grid).pixel_size_m()
    except GroundError as error:
        raise GroundError(error.text, code=error.code, name=what) from error


def block_windows(header: Header, layout: Layout, reading: ReadOptions) -> Iterator[Window]:
    """Blocks, in rows and columns of the scene, that cover a scene once, row by row.

    They are whole numbers of windows, so that no window is smaller for a block's sake. A scene that
    is stored in strips has blocks of its whole width, where the strips of a row of windows fit in
    what GDAL keeps: otherwise a strip would be decoded once for every block in it.

    Raises:
        ConfigurationError: If they would be too many.
    """
    scaled = model_grid(header, reading)
    _check_number(header, scaled)
    if scaled is None:
        sides = _sides(header, layout)
    else:
        rows, columns = zip(scaled.source_size, scaled.model_size, strict=True)
        sides = _scaled_side(*rows, layout), _scaled_side(*columns, layout)
    for area in seen_by_model(header, scaled).subdivide(*sides):
        source = scaled.labelled_window(area) if scaled else area
        if source.pixels:
            yield source


def _check_number(header: Header, scaled: ModelGrid | None, what: str = "") -> None:
    """Refuse a scene of more blocks than one process keeps and one label map holds."""
    seen = seen_by_model(header, scaled)
    height, width = max(header.grid.height, seen.height), max(header.grid.width, seen.width)
    if not is_possible(height, width):
        raise ConfigurationError(
            f"{height} rows and {width} columns are more than {MAX_SIDE_PX}, or {MAX_BLOCKS} "
            f"blocks of {BLOCK_PX} x {BLOCK_PX} pixels, the most of one scene: cut it into several "
            f"(gdal_translate -of VRT -srcwin COLUMN ROW WIDTH HEIGHT)",
            code=FailureCode.TOO_MANY_PIXELS,
            name=what,
        )


def is_possible(height: int, width: int) -> bool:
    """Whether a scene may have so many rows and columns.

    >>> is_possible(4_000_000, 2_000_000), is_possible(1, 2_000_000_000)
    (True, False)
    """
    blocks = math.ceil(height / BLOCK_PX) * math.ceil(width / BLOCK_PX)
    return blocks <= MAX_BLOCKS and max(height, width) <= MAX_SIDE_PX


def planned_blocks(header: Header | None, layout: Layout, reading: ReadOptions) -> list[Window]:
    """The blocks of a scene; none where its unit will say what is wrong with it."""
    if header is None:
        return []
    try:
        return list(block_windows(header, layout, reading))
    except BeamsegError:
        return []


def scene_unit(file: InputFile, windows: Sequence[Window]) -> WorkUnit | AssemblyUnit:
    """The unit that finishes the label map of a scene.

    Args:
        file: Scene to label.
        windows: Blocks of the scene, as `block_windows` cuts it; none where it cannot be opened.

    Returns:
        A unit with work where the scene has one block or none, else one that puts blocks together.
    """
    if len(windows) > 1:
        return _assembly(file, len(windows))
    return WorkUnit(unit_id(SCENE, file), SCENE, (file,), windows[0] if windows else None)


def _assembly(file: InputFile, blocks: int) -> AssemblyUnit:
    ids = tuple(unit_id(SCENE, file, f"b{number:05d}") for number in range(blocks))
    return AssemblyUnit(unit_id(SCENE, file), SCENE, (file,), ids)


def scene_of(block: WorkUnit) -> AssemblyUnit | None:
    """The unit that puts a block and others together; None for a block of a plan of 0.1.0."""
    return None if block.siblings is None else _assembly(block.files[0], block.siblings)


def block_units(scene: AssemblyUnit, windows: Sequence[Window]) -> list[WorkUnit]:
    """Units of the blocks of a scene, in reading order.

    Args:
        scene: Unit that puts the blocks together.
        windows: Blocks of the scene, as `block_windows` cuts it.
    """
    return [
        WorkUnit(name, scene.format, scene.files, window, None, scene.id, len(windows))
        for name, window in zip(scene.blocks, windows, strict=True)
    ]


def seen_by_model(header: Header, scaled: ModelGrid | None) -> Window:
    """All of a scene, on the grid that the model sees."""
    size = scaled.model_size if scaled else (header.grid.height, header.grid.width)
    return Window(0, 0, *size)


def model_window(source: Window, grid: ModelGrid | None, stride_px: int) -> Window:
    """What the model labels for a part of a scene; its origin is a multiple of the stride."""
    if grid is None:
        return source
    rows, columns = zip(grid.source_size, grid.model_size, strict=True)
    top, bottom = _labelling(source.row, source.height, rows, stride_px)
    left, right = _labelling(source.column, source.width, columns, stride_px)
    return Window(top, left, bottom - top, right - left)


def _labelling(first: int, size: int, axis: tuple[int, int], stride_px: int) -> tuple[int, int]:
    """Start and end of the pixels of the model along an axis that so many own ones take labels of.

    >>> _labelling(10, 10, (40, 20), 4)
    (4, 10)
    """
    source, model = axis
    start, last = ((2 * place + 1) * model // (2 * source) for place in (first, first + size - 1))
    return start // stride_px * stride_px, last + 1


def _scaled_side(source: int, model: int, layout: Layout) -> int:
    """Side of blocks along an axis of the model's grid that are no larger on the scene's own."""
    most = int(BLOCK_PX * min(1.0, model / source)) // layout.stride_px * layout.stride_px
    most = max(most, layout.stride_px)
    core = core_side(model, replace(layout, window_px=min(layout.window_px, most)))
    return _side(model, core, most)


def _sides(header: Header, layout: Layout) -> tuple[int, int]:
    """Height and width of the blocks of a scene that is not resampled."""
    height, width = header.grid.height, header.grid.width
    rows = _strip_rows(header, layout)
    if rows is not None:
        strips = Layout(rows, layout.halo_px, layout.stride_px, layout.batch)
        # Two lower windows in a block would be one higher window: blocks are cut by the layout.
        is_one_row = layout.rectangular or rows < layout.window_px
        most = rows if is_one_row else max(rows, WIDE_BLOCK_PIXELS // width)
        return _side(height, core_side(height, strips), most), width
    whole = Window(0, 0, height, width)
    (_, core_height), (_, core_width) = (axis[0] for axis in cores(whole, whole, layout))
    return _side(height, core_height, BLOCK_PX), _side(width, core_width, BLOCK_PX)


def _strip_rows(header: Header, layout: Layout) -> int | None:
    """Rows of windows in blocks as wide as the scene; None where blocks had better be square."""
    height, width = header.grid.height, header.grid.width
    is_striped = header.block_px[1] >= width and header.block_px[0] < height
    if not is_striped or width <= BLOCK_PX or layout.fixed_px is not None:
        return None
    itemsize = sum(_BYTES.get(band.dtype, 8) for band in header.bands)
    kept = CACHE_BYTES // (width * itemsize) - 2 * header.block_px[0] - 2 * layout.aligned_halo_px
    rows = min(layout.window_px, kept, WIDE_BLOCK_PIXELS // width)
    rows = rows // layout.stride_px * layout.stride_px
    return rows if rows >= max(WIDE_ROWS, WIDE_HALOS * layout.aligned_halo_px) else None


_BYTES = {"uint8": 1, "int8": 1, "uint16": 2, "int16": 2, "uint32": 4, "int32": 4, "float32": 4}


def _side(length: int, core: int, most: int) -> int:
    """Side of the blocks along an axis: a whole number of windows, blocks about equal.

    >>> _side(5400, 1824, 4096)
    3648
    """
    windows = math.ceil(length / core)
    blocks = math.ceil(windows / max(1, most // core))
    return math.ceil(windows / blocks) * core


_WARPS = {
    "gcps": "ground control points, which bend it in one of many ways: choose one with gdalwarp "
    "(for example gdalwarp -order 1 -dstalpha, or -tps -dstalpha)",
    "rpcs": "rational polynomials, which need the height of the ground: orthorectify it with "
    "gdalwarp -rpc -to RPC_DEM=dem.tif -dstalpha",
}


def check_scene(header: Header, contract: Contract, reading: ReadOptions, what: str) -> None:
    """Refuse a scene that the model was not made for.

    Args:
        header: Header of the scene.
        contract: Contract of the model.
        reading: How scenes are read.
        what: Name of the scene in errors.

    Raises:
        ContractError: If bands, dtype or ground sample distance do not fit.
        ConfigurationError: If it is not known where its pixels are, or they are too many.
        GroundError: If its pixels have no ground area.
        InputError: If a part of it is missing.
    """
    header.check_complete(what)
    ModelBands.of(header, contract, reading.bands, what)
    grid = header.grid
    if header.is_turned:
        raise ConfigurationError(
            TURNED,
            code=FailureCode.BAD_GEOREFERENCE,
            name=what,
        )
    if header.located_by is not None:
        raise ConfigurationError(
            f"it is located by {_WARPS[header.located_by]}",
            code=FailureCode.BAD_GEOREFERENCE,
            name=what,
        )
    if grid.crs is not None and grid.transform.is_identity:
        raise ConfigurationError(
            "it has a coordinate reference system but no transform: give it the coordinates of its "
            "upper left and lower right corner (gdal_edit.py -a_ullr ULX ULY LRX LRY)",
            code=FailureCode.BAD_GEOREFERENCE,
            name=what,
        )
    if grid.crs is None and reading.aoi is not None:
        raise ConfigurationError(
            "it has no coordinate reference system, so that --aoi cannot be found in it: assign "
            "one with --crs, or gdal_edit.py -a_srs EPSG:32633",
            code=FailureCode.BAD_GEOREFERENCE,
            name=what,
        )
    scaled = model_grid(header, reading, what)
    _check_number(header, scaled, what)
    if scaled is None and grid.crs is not None:
        contract.check_gsd(*_pixel_size_m(grid, what), what)

"""Where the files of a scene are in a run directory, and how they are written."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipelines.formats.work import Work
from pipelines.rasters.cog import Blocks, read_bands, write_label_cog, write_shares_cog
from pipelines.run.areas import Tally
from pipelines.run.commits import Output
from pipelines.run.plan import CountUnit, InputFile
from pipelines.scenes.overlaps import parse_date
from pipelines.storage import filesystem
from segmodel.images.tiff import is_tiff
from segmodel.rasters.grid import Grid
from segmodel.rasters.header import Header
from segmodel.tiling.windows import Window

TILES_AT_ONCE = 16


class ScenePaths(NamedTuple):
    """Files of a scene within the run directory."""

    labels: str
    names: str
    confidence: str
    probabilities: str


class StoredBlock(NamedTuple):
    """A block of a scene, and the file on this machine that has its values."""

    window: Window
    path: str


def block_path(unit: str, folder: str) -> str:
    """Where a block is until its scene is finished, within the run directory."""
    return f"blocks/{unit}-{folder}.tif"


def counts_path(unit: CountUnit) -> str:
    """Where the sums of a count are, within the run directory."""
    return f"counts/{unit.id}.json"


def label_name(name: str) -> str:
    """What the label map of a scene is called: as the scene, with `.tif` if it is no TIFF.

    >>> label_name("a/b.tif"), label_name("a/b.vrt")
    ('a/b.tif', 'a/b.vrt.tif')
    """
    return name if is_tiff(name) else f"{name}.tif"


def scene_paths(file: InputFile) -> ScenePaths:
    """Label map, class names, confidence and probabilities of a scene, in the run directory."""
    name = label_name(file.key)
    labels = f"labels/{name}"
    return ScenePaths(labels, f"{labels}.aux.xml", f"confidence/{name}", f"probabilities/{name}")


def write_scene(
    file: InputFile, header: Header, maps: Mapping[str, Blocks], work: Work, tally: Tally
) -> list[Output]:
    """Write the label COG of a scene, its class names and its other maps; returns what they are.

    Args:
        file: Scene whose label map is written.
        header: Header of the scene, for its size, place and time.
        maps: Values of windows that cover the scene, by folder of the map: labels, 8-bit confidence
            and `(height, width, classes)` 8-bit probabilities.
        work: What all units have in common.
        tally: What the whole scene was counted as.
    """
    run, grid = work.run, header.grid
    tags = dict(work.provenance) | _time_tag(header)
    paths = scene_paths(file)
    with filesystem.write_atomic(run.path(paths.labels), run.scratch) as draft:
        classes, labels = work.contract.classes, maps["labels"]
        write_label_cog(draft.path, grid, labels, classes, tags, lambda: tally)
        sidecar = Path(draft.path + ".aux.xml")
        names = run.write(paths.names, sidecar.read_bytes())
        sidecar.unlink()
    outputs = [Output.of(paths.labels, draft.written), Output.of(paths.names, names)]
    named = {
        "confidence": (paths.confidence, ("confidence",)),
        "probabilities": (paths.probabilities, work.contract.classes.names),
    }
    for folder, (path, bands) in named.items():
        if folder in maps:
            with filesystem.write_atomic(run.path(path), run.scratch) as draft:
                write_shares_cog(draft.path, grid, maps[folder], bands, tags)
            outputs.append(Output.of(path, draft.written))
    return outputs


def _time_tag(header: Header) -> dict[str, str]:
    """When a scene was taken, as TIFF spells it; nothing where its file does not say it."""
    date = parse_date(header.acquired or "")
    # Of other years TIFF has no spelling.
    if date is None or not 1000 <= date.year < 9999:
        return {}
    return {"TIFFTAG_DATETIME": date.astimezone(UTC).strftime("%Y:%m:%d %H:%M:%S")}


def pieces_of(
    blocks: Sequence[StoredBlock], grid: Grid, tile_px: int, empty: np.ndarray
) -> Iterator[tuple[Window, np.ndarray]]:
    """A scene in pieces of whole tiles, put together from stored blocks.

    So every tile of the label map is written once, wherever blocks begin and end.

    Args:
        blocks: Blocks that have values, in reading order.
        grid: Size and place of the scene.
        tile_px: Side of the tiles of the label map; a piece is a row of up to `TILES_AT_ONCE`.
        empty: `(bands,)` values where there is no block, of the dtype of the blocks.

    Yields:
        Windows, and their values `(height, width, bands)`.
    """
    whole = Window(0, 0, grid.height, grid.width)
    for piece in whole.subdivide(tile_px, tile_px * TILES_AT_ONCE):
        values = np.full((piece.height, piece.width, len(empty)), empty, empty.dtype)
        for window, path in blocks:
            part = window.intersection(piece)
            if part.pixels:
                values[part.relative_to(piece).slices] = read_bands(path, part.relative_to(window))
        yield piece, values

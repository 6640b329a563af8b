"""Where the files of a scene are in a run directory, and how they are written."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipelines.formats.work import Work
from pipelines.rasters.cog import Blocks, read_block, write_confidence_cog, write_label_cog
from pipelines.run.commits import Output
from pipelines.run.plan import CountUnit, InputFile
from pipelines.storage import filesystem
from segmodel.images.tiff import is_tiff
from segmodel.rasters.grid import Grid
from segmodel.tiling.windows import Window

TILES_AT_ONCE = 16


class ScenePaths(NamedTuple):
    """Files of a scene within the run directory."""

    labels: str
    names: str
    confidence: str


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
    """Label map, class names and confidence of a scene, within the run directory."""
    name = label_name(file.key)
    return ScenePaths(f"labels/{name}", f"labels/{name}.aux.xml", f"confidence/{name}")


def write_scene(
    file: InputFile, grid: Grid, labels: Blocks, confidence: Blocks | None, work: Work
) -> list[Output]:
    """Write the label COG of a scene, its class names and its confidence; returns what they are.

    Args:
        file: Scene whose label map is written.
        grid: Size and place of the scene.
        labels: Label maps of windows that cover the scene.
        confidence: 8-bit confidence of such windows, or None.
        work: What all units have in common.
    """
    run, tags = work.run, dict(work.provenance)
    paths = scene_paths(file)
    with filesystem.write_atomic(run.path(paths.labels), run.scratch) as draft:
        write_label_cog(draft.path, grid, labels, work.contract.classes, tags)
        sidecar = Path(draft.path + ".aux.xml")
        names = run.write(paths.names, sidecar.read_bytes())
        sidecar.unlink()
    outputs = [Output.of(paths.labels, draft.written), Output.of(paths.names, names)]
    if confidence is not None:
        with filesystem.write_atomic(run.path(paths.confidence), run.scratch) as draft:
            write_confidence_cog(draft.path, grid, confidence, tags)
        outputs.append(Output.of(paths.confidence, draft.written))
    return outputs


def pieces_of(
    blocks: Sequence[StoredBlock], grid: Grid, tile_px: int, empty: int, dtype: np.dtype
) -> Iterator[tuple[Window, np.ndarray]]:
    """A scene in pieces of whole tiles, put together from stored blocks.

    So every tile of the label map is written once, wherever blocks begin and end.

    Args:
        blocks: Blocks that have values, in reading order.
        grid: Size and place of the scene.
        tile_px: Side of the tiles of the label map; a piece is a row of up to `TILES_AT_ONCE`.
        empty: Value where there is no block.
        dtype: Dtype of the values.
    """
    whole = Window(0, 0, grid.height, grid.width)
    for piece in whole.subdivide(tile_px, tile_px * TILES_AT_ONCE):
        values = np.full((piece.height, piece.width), empty, dtype)
        for window, path in blocks:
            part = window.intersection(piece)
            if part.pixels:
                values[part.relative_to(piece).slices] = read_block(path, part.relative_to(window))
        yield piece, values

"""Where the files of a scene are in a run directory, and how they are written."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from pipelines import storage
from pipelines.cog import Grid, read_block, write_confidence_cog, write_label_cog
from pipelines.formats.interface import Work
from pipelines.plan import InputFile
from segmodel.windows import Window

TIFF_SUFFIXES = frozenset({".tif", ".tiff"})


class ScenePaths(NamedTuple):
    """Files of a scene within the run directory."""

    labels: str
    names: str
    confidence: str


class StoredBlock(NamedTuple):
    """A block of a scene, and where its values are; None where it has none."""

    window: Window
    path: str | None


def block_path(unit: str, folder: str) -> str:
    """Where a block is until its scene is finished, within the run directory."""
    return f"blocks/{unit}-{folder}.tif"


def label_name(name: str) -> str:
    """What the label map of a scene is called: as the scene, with `.tif` if it is no TIFF.

    >>> label_name("a/b.tif"), label_name("a/b.vrt")
    ('a/b.tif', 'a/b.vrt.tif')
    """
    return name if PurePosixPath(name).suffix.lower() in TIFF_SUFFIXES else f"{name}.tif"


def scene_paths(file: InputFile) -> ScenePaths:
    """Label map, class names and confidence of a scene, within the run directory."""
    name = label_name(file.key)
    return ScenePaths(f"labels/{name}", f"labels/{name}.aux.xml", f"confidence/{name}")


def write_scene(
    file: InputFile,
    grid: Grid,
    labels: Iterable[tuple[Window, np.ndarray]],
    confidence: Iterable[tuple[Window, np.ndarray]] | None,
    work: Work,
) -> list[str]:
    """Write the label COG of a scene, its class names and its confidence; returns the paths.

    Args:
        file: The scene.
        grid: Of the scene.
        labels: Label maps of windows that cover the scene.
        confidence: The same of its confidence, or None.
        work: Of the run.
    """
    run, tags = work.run, dict(work.provenance)
    paths = scene_paths(file)
    with storage.write_whole(run.path(paths.labels), run.scratch) as temporary:
        write_label_cog(temporary, grid, labels, work.contract.classes, tags)
        names = Path(temporary + ".aux.xml")
        run.write(paths.names, names.read_bytes())
        names.unlink()
    if confidence is None:
        return [paths.labels, paths.names]
    with storage.write_whole(run.path(paths.confidence), run.scratch) as temporary:
        write_confidence_cog(temporary, grid, confidence, tags)
    return [*paths]


def strips_of(
    blocks: Sequence[StoredBlock], grid: Grid, rows: int, empty: int, dtype: np.dtype
) -> Iterator[tuple[Window, np.ndarray]]:
    """A scene in strips of its whole width, put together from stored blocks.

    So every tile of the label map is written once, wherever blocks begin and end.

    Args:
        blocks: In reading order.
        grid: Of the scene.
        rows: Of a strip.
        empty: Value where a block has none.
        dtype: Of the values.
    """
    for top in range(0, grid.height, rows):
        strip = Window(top, 0, min(rows, grid.height - top), grid.width)
        values = np.full((strip.height, strip.width), empty, dtype)
        for window, path in blocks:
            first = max(top, window.row)
            end = min(top + strip.height, window.row + window.height)
            if path is not None and first < end:
                part = Window(first, window.column, end - first, window.width)
                values[part.within(strip).slices] = read_block(path, part.within(window))
        yield strip, values

"""Where the files of a scene are in a run directory, and how they are written."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from pipelines import storage
from pipelines.cog import Grid, write_confidence_cog, write_label_cog
from pipelines.formats.interface import Work
from pipelines.plan import InputFile
from segmodel.windows import Window


def block_path(unit: str, folder: str) -> str:
    """Where a block is until its scene is finished, within the run directory."""
    return f"blocks/{unit}-{folder}.tif"


def scene_paths(file: InputFile) -> tuple[str, str, str]:
    """Label map, class names and confidence of a scene, within the run directory."""
    return f"labels/{file.key}", f"labels/{file.key}.aux.xml", f"confidence/{file.key}"


def write_scene(
    file: InputFile,
    grid: Grid,
    labels: Iterable[tuple[Window, np.ndarray | None]],
    confidence: Iterable[tuple[Window, np.ndarray | None]] | None,
    work: Work,
) -> list[str]:
    """Write the label COG of a scene, its class names and its confidence; returns the paths."""
    run, tags = work.run, dict(work.provenance)
    path, names_path, confidence_path = scene_paths(file)
    with storage.write_whole(run.path(path), run.scratch) as temporary:
        write_label_cog(temporary, grid, labels, work.contract.classes, tags)
        names = Path(temporary + ".aux.xml")
        run.write(names_path, names.read_bytes())
        names.unlink()
    paths = [path, names_path]
    if confidence is not None:
        with storage.write_whole(run.path(confidence_path), run.scratch) as temporary:
            write_confidence_cog(temporary, grid, confidence, tags)
        paths.append(confidence_path)
    return paths

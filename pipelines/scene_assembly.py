"""Scenes put together from their blocks, once all are done."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from pipelines import storage
from pipelines.area_tables import area_table, rows_of
from pipelines.areas import TallySum
from pipelines.cog import read_block
from pipelines.commits import CommitLog
from pipelines.formats.interface import Work
from pipelines.formats.scene_files import block_path, scene_paths, write_scene
from pipelines.formats.scenes import blocks_of
from pipelines.plan import Unit
from pipelines.scene_reader import read_header
from pipelines.work import with_attempts
from segmodel.windows import Window


def finish_scene(unit: Unit, work: Work) -> bool:
    """Put a scene together if all its blocks are done; whether it is finished now."""
    log = CommitLog(work.run.root, work.options)
    if not log.is_done(unit):
        with_attempts(unit, log, lambda: _assemble(unit, work, log))
        if not log.is_done(unit):
            return False
    for name in unit.blocks:
        for folder in ("labels", "confidence"):
            storage.remove(work.run.path(block_path(name, folder)))
        storage.remove(work.run.path(f"areas/{name}.parquet"))
    return True


def _assemble(unit: Unit, work: Work, log: CommitLog) -> None:
    """Write and commit a scene, if no block is missing."""
    blocks = scene_blocks(unit, work)
    commits = [log.read(block) for block in blocks]
    finished = [commit for commit in commits if commit is not None]
    if len(finished) < len(commits):
        return
    labelled = [commit.tally.images > 0 for commit in finished]
    outputs = []
    if any(labelled):
        outputs = _write(unit, list(zip(blocks, labelled, strict=True)), work)
    else:
        for path in scene_paths(unit.files[0]):
            storage.remove(work.run.path(path))
    total = TallySum()
    for commit in finished:
        total.add(commit.tally)
    summed = total.exact()
    failed = int(summed.failed_images > 0)
    tally = dataclasses.replace(summed, images=1 - failed, failed_images=failed)
    rows = rows_of(unit.files[0].key, None, total.rounded(), work.contract.classes)
    outputs.append(f"areas/{unit.id}.parquet")
    with (
        storage.write_whole(work.run.path(outputs[-1]), work.run.scratch) as path,
        area_table(path) as table,
    ):
        table.add(rows)
    log.write(unit, outputs, tally, work.run.scratch)


def _write(unit: Unit, blocks: Sequence[tuple[Unit, bool]], work: Work) -> list[str]:
    """Put the blocks of a scene together; returns the paths written.

    Args:
        unit: The unit of the scene.
        blocks: Its blocks, and whether each was labelled; the others become nodata.
        work: Of the run.
    """
    grid = read_header(unit.files[0].uri).grid

    def values(folder: str) -> Iterator[tuple[Window, np.ndarray | None]]:
        for block, labelled in blocks:
            assert block.area is not None
            path = work.run.path(block_path(block.id, folder))
            yield block.area, read_block(path) if labelled else None

    confidence = values("confidence") if work.confidence else None
    return write_scene(unit.files[0], grid, values("labels"), confidence, work)


def scene_blocks(unit: Unit, work: Work) -> list[Unit]:
    """Block units of a scene, in reading order."""
    grid = read_header(unit.files[0].uri).grid
    windows = blocks_of(grid, work.layout.stride_px)
    return [
        dataclasses.replace(
            unit,
            id=name,
            blocks=(),
            scene=unit.id,
            window=(window.row, window.column, window.height, window.width),
        )
        for name, window in zip(unit.blocks, windows, strict=True)
    ]

"""Scenes put together from their blocks, once all are done."""

import dataclasses

from pipelines import areas, storage
from pipelines.areas import Tally
from pipelines.commits import CommitLog
from pipelines.formats import scenes
from pipelines.formats.interface import Work
from pipelines.plan import Unit
from pipelines.scene_reader import read_header
from pipelines.work import with_attempts


def finish_scene(unit: Unit, work: Work) -> bool:
    """Put a scene together if all its blocks are done; whether it is finished now."""
    log = CommitLog(work.run.root, work.options)
    if not log.is_done(unit):
        with_attempts(unit, log, lambda: _assemble(unit, work, log))
        if not log.is_done(unit):
            return False
    for name in unit.blocks:
        for folder in ("labels", "confidence"):
            storage.remove(work.run.path(scenes.block_path(name, folder)))
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
    outputs = scenes.assemble(unit, list(zip(blocks, labelled, strict=True)), work)
    summed = Tally.sum(commit.tally for commit in finished)
    failed = int(summed.failed_images > 0)
    tally = dataclasses.replace(summed, images=1 - failed, failed_images=failed)
    rows = areas.rows_of(unit.files[0].key, None, tally, work.contract.classes)
    outputs.append(f"areas/{unit.id}.parquet")
    work.run.write(outputs[-1], areas.parquet_table(rows))
    log.write(unit, outputs, tally, work.run.scratch)


def scene_blocks(unit: Unit, work: Work) -> list[Unit]:
    """Block units of a scene, in reading order."""
    grid = read_header(unit.files[0].uri).grid
    windows = scenes.blocks_of(grid, work.layout.stride_px)
    return [
        dataclasses.replace(
            unit,
            id=name,
            blocks=(),
            window=(window.row, window.column, window.height, window.width),
            pixels=window.pixels,
        )
        for name, window in zip(unit.blocks, windows, strict=True)
    ]

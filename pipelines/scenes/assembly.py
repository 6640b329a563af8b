"""Scenes put together from their blocks, once all are done."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from pipelines.formats.work import Work
from pipelines.rasters.cog import TILE_PX
from pipelines.run.areas import Tally, TallySum, with_range
from pipelines.run.attempts import with_retries
from pipelines.run.commits import Commit, CommitLog, Output
from pipelines.run.plan import AssemblyUnit, WorkUnit
from pipelines.run.unit_tables import table_paths, unit_tables
from pipelines.scenes.blocks import block_units, block_windows
from pipelines.scenes.files import StoredBlock, block_path, pieces_of, scene_paths, write_scene
from pipelines.storage import filesystem
from pipelines.storage.copies import local_copies
from segmodel.devices.startup import give_back_memory
from segmodel.errors import DamagedError, InputError, TransientError
from segmodel.tiling.windows import Window


def finish_scene(unit: AssemblyUnit, work: Work) -> bool:
    """Put a scene together if all its blocks are done; whether it is finished now."""
    log = work.log
    if not log.is_done(unit):
        give_back_memory()
        with_retries(unit, log, lambda: _assemble(unit, work, log))
        if not log.is_done(unit):
            return False
    for path in _of_blocks(unit, work):
        work.run.remove(path)
    return True


def is_put_together(unit: AssemblyUnit, work: Work) -> bool:
    """Whether a scene is finished, and nothing is left of its blocks."""
    paths = map(work.run.path, _of_blocks(unit, work))
    return work.log.is_done(unit) and not any(map(filesystem.exists, paths))


def _of_blocks(unit: AssemblyUnit, work: Work) -> Iterator[str]:
    """Paths of what the blocks of a scene may have written, and a finished scene replaces."""
    for name in unit.blocks:
        yield from (block_path(name, folder) for folder in work.map_folders)
        yield from table_paths(name, work.soft_areas)


def _assemble(unit: AssemblyUnit, work: Work, log: CommitLog) -> None:
    """Write and commit a scene, if no block is missing."""
    blocks = scene_blocks(unit, work)
    commits = [log.read(block) for block in blocks]
    finished = [commit for commit in commits if commit is not None]
    if len(finished) < len(commits):
        return
    outputs = []
    total = TallySum()
    for commit in finished:
        total.add(commit.tally)
    pairs = zip(blocks, finished, strict=True)
    written = [(block, commit) for block, commit in pairs if commit.outputs_in("blocks")]
    if written:
        outputs = _write(unit, written, work, total.rounded())
    else:
        for path in scene_paths(unit.files[0]):
            work.run.remove(path)
    summed = total.exact()
    failed = int(summed.failed_images > 0)
    tally = dataclasses.replace(summed, images=1 - failed, failed_images=failed)
    tally = with_range(tally, summed.compared_pixels, summed.out_of_range)
    with unit_tables(work.run, work.contract, work.soft_areas) as tables:
        tables.add(unit.files[0].key, None, total.rounded())
        outputs += tables.publish(unit.id)
    lost = [Window(*part) for commit in finished for part in commit.lost]
    log.write(unit, outputs, tally, lost)


def _write(
    unit: AssemblyUnit, blocks: Sequence[tuple[WorkUnit, Commit]], work: Work, tally: Tally
) -> list[Output]:
    """Put the blocks of a scene together; returns what was written.

    Args:
        unit: Unit of the scene.
        blocks: Blocks of the scene that wrote labels, with their records; the rest of it becomes
            nodata.
        work: What all units have in common.
        tally: What the whole scene was counted as.

    Raises:
        DamagedError: If a block is not as recorded; it is done again by the next attempt.
    """
    file, classes = unit.files[0], work.contract.classes
    header = work.headers.read(file)

    def values(folder: str, empty: np.ndarray) -> Iterator[tuple[Window, np.ndarray]]:
        paths = [block_path(block.id, folder) for block, _ in blocks]
        # Of a store, blocks are read as a whole: their tiles are small, and each is needed.
        with local_copies(list(map(work.run.path, paths)), work.run.scratch) as copies:
            stored = []
            for (block, commit), path, copy in zip(blocks, paths, copies, strict=True):
                if filesystem.sha256(copy) not in commit.digests_of(path):
                    work.log.invalidate(block)
                    raise DamagedError(f"{path} is damaged: run the same command again")
                if block.window:
                    stored.append(StoredBlock(block.window, copy))
            yield from pieces_of(stored, header.grid, TILE_PX, empty)

    nothing = {
        "labels": np.array([classes.nodata], classes.label_dtype),
        "confidence": np.zeros(1, np.uint8),
        "probabilities": np.zeros(len(classes.ids), np.uint8),
    }
    maps = {folder: values(folder, nothing[folder]) for folder in work.map_folders}
    return write_scene(file, header, maps, work, tally)


def scene_blocks(unit: AssemblyUnit, work: Work) -> list[WorkUnit]:
    """Block units of a scene, in reading order."""
    file = unit.files[0]
    try:
        header = work.headers.read(file)
    except InputError as error:
        # It could be opened when the run was planned.
        raise TransientError(f"{file.key} is out of reach: run the same command again") from error
    return block_units(unit, list(block_windows(header, work.layout, work.reading)))

"""Before any work: what earlier attempts left, made to agree with the plan.

A record is believed only if it is of the planned input and options and its outputs are there.
Everything else is removed with its outputs, so that neither a change and its undoing nor a removed
input leaves a table or a label map that the totals do not contain.
"""

from pipelines import formats, plan, storage
from pipelines.commits import CommitLog
from pipelines.formats.interface import Work
from pipelines.formats.scene_files import block_path
from pipelines.plan import Unit
from pipelines.scene_assembly import scene_blocks


def reconcile(work: Work, retry_failures: bool) -> None:
    """Remove what earlier attempts left and the plan on disk does not contain.

    Args:
        work: What the units of the plan have in common.
        retry_failures: Whether units in which an image failed are done again.
    """
    log = CommitLog(work.run.root, work.options)
    found = log.names()
    if not found:
        return
    folder = work.run.plan
    wanted = {
        log.name(unit) for kind in ("part", "scenes") for unit in plan.read_units(folder, kind)
    }
    for name in found:
        if name not in wanted:
            log.discard(name)
    finished = set()
    for scene in plan.read_units(folder, "scenes"):
        _check_scene(scene, work, log, retry_failures)
        if log.is_done(scene):
            finished.add(scene.id)
    for unit in plan.read_units(folder, "part"):
        if unit.scene not in finished:
            _check_unit(unit, log, retry_failures)


def _check_scene(scene: Unit, work: Work, log: CommitLog, retry_failures: bool) -> None:
    """Believe a finished scene, or have all of it done again: its blocks are gone."""
    if not log.is_done(scene) or _is_believed(scene, log, retry_failures):
        return
    for block in scene_blocks(scene, work):
        for folder in ("labels", "confidence"):
            storage.remove(work.run.path(block_path(block.id, folder)))
        log.forget(block)
    log.forget(scene)


def _check_unit(unit: Unit, log: CommitLog, retry_failures: bool) -> None:
    if log.is_done(unit) and not _is_believed(unit, log, retry_failures):
        log.forget(unit)


def _is_believed(unit: Unit, log: CommitLog, retry_failures: bool) -> bool:
    """Whether a finished unit stays finished."""
    try:
        commit = log.read(unit)
    except ValueError:
        return False
    if commit is None or not log.is_intact(commit):
        return False
    return not (retry_failures and commit.tally.failed_images)


def unfinished_outputs(work: Work) -> set[str]:
    """Files that units of the plan on disk may have written without being finished.

    They are written again if they are still planned; if not, nothing else would ever remove them.

    Args:
        work: Of the run, before its plan is replaced.
    """
    log = CommitLog(work.run.root, work.options)
    recorded = {name.rpartition("-")[0] for name in log.names()}
    units = plan.read_units(work.run.plan, "part")
    return {path for unit in units if unit.id not in recorded for path in _outputs(unit)}


def remove_unplanned(paths: set[str], work: Work) -> None:
    """Remove files that no unit of the plan on disk writes."""
    if paths:
        for unit in plan.read_units(work.run.plan, "part"):
            paths.difference_update(_outputs(unit))
    for path in paths:
        storage.remove(work.run.path(path))


def _outputs(unit: Unit) -> list[str]:
    tables = (f"areas/{unit.id}.parquet", f"failures/{unit.id}.jsonl")
    return [*formats.find_format(unit.format).outputs(unit), *tables]

"""Before any work: what earlier attempts left, made to agree with the plan.

A record is believed only if it is of the planned input and options and its outputs are there.
Everything else is removed with its outputs, so that neither a change and its undoing nor a removed
input leaves a table or a label map that the totals do not contain.
"""

from collections.abc import Callable, Iterable

from pipelines import storage
from pipelines.commits import CommitLog
from pipelines.formats.interface import Work
from pipelines.formats.scene_files import block_path
from pipelines.plan import Unit
from pipelines.scene_assembly import scene_blocks


def reconcile(units: Callable[[], Iterable[Unit]], work: Work, retry_failures: bool) -> None:
    """Remove what earlier attempts left and this plan does not contain.

    Args:
        units: Gives all of the plan; called more than once, as they may be too many to keep.
        work: What they have in common.
        retry_failures: Whether units in which an image failed are done again.
    """
    log = CommitLog(work.run.root, work.options)
    found = log.names()
    if not found:
        return
    wanted = {log.name(unit) for unit in units()}
    for name in found:
        if name not in wanted:
            log.discard(name)
    finished = set()
    for unit in units():
        if unit.blocks:
            _check_scene(unit, work, log, retry_failures)
            if log.is_done(unit):
                finished.add(unit.id)
    for unit in units():
        if not unit.blocks and unit.scene not in finished:
            _check_unit(unit, log, retry_failures)


def _check_scene(scene: Unit, work: Work, log: CommitLog, retry_failures: bool) -> None:
    """Believe a finished scene, or have all of it done again: its blocks are gone."""
    commit = log.read(scene)
    if commit is None:
        return
    if log.is_intact(commit) and not (retry_failures and commit.tally.failed_images):
        return
    for block in scene_blocks(scene, work):
        for folder in ("labels", "confidence"):
            storage.remove(work.run.path(block_path(block.id, folder)))
        log.forget(block)
    log.forget(scene)


def _check_unit(unit: Unit, log: CommitLog, retry_failures: bool) -> None:
    commit = log.read(unit)
    if commit is None:
        return
    if not log.is_intact(commit) or (retry_failures and commit.tally.failed_images):
        log.forget(unit)

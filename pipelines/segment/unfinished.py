"""What is left to do of a plan of which earlier attempts have done a part; workers look, by parts.

A commit record counts if its outputs are there. One that does not is removed, so that its unit is
done again; that of a block counts too if its scene is finished, as blocks are removed then.
"""

from collections.abc import Callable, Iterator

from pipelines.formats.work import Work
from pipelines.run import plan, progress
from pipelines.run.attempts import UnitReport
from pipelines.run.commits import Commit
from pipelines.run.plan import SCENE, AssemblyUnit, CountUnit, Unit, UnitReference, WorkUnit
from pipelines.scenes.blocks import scene_of
from pipelines.storage import filesystem
from pipelines.storage.threads import in_order
from segmodel.errors import TransientError

# In the folder of the plan: label maps that were counted are made again, so counts are too.
_RECOUNT = "recount"


def unfinished_units(
    part: str, work: Work, retry_failures: bool
) -> Iterator[UnitReference | UnitReport]:
    """Places of the units of a part that are to be done, and one report of all that are done.

    Args:
        part: Name of a plan part with work units, or of a shard of it.
        work: Work that all units of the run share.
        retry_failures: Whether a unit in which an image failed is done again.
    """
    check = _Check(work, retry_failures)
    done = 0
    units = (
        (place, unit)
        for place, unit in plan.read_part(work.run.plan, part)
        if isinstance(unit, WorkUnit)
    )
    for place, commit in in_order(lambda entry: (entry[0], check.record_of(entry[1])), units):
        if commit is None:
            yield place
        else:
            done += 1
            progress.add_pixels(sum(commit.tally.pixels.values()))
    yield UnitReport(done=done, skipped=done)


def unfinished_among(
    part: str, work: Work, is_finished: Callable[[Unit], bool]
) -> Iterator[UnitReference]:
    """Places of the units of a part that are to be done, of those that follow from finished ones.

    Args:
        part: Name of a plan part.
        work: Work that all units of the run share.
        is_finished: Whether nothing is left to do of a unit; called in several threads.
    """

    def check(entry: tuple[UnitReference, Unit]) -> tuple[UnitReference, bool]:
        try:
            return entry[0], is_finished(entry[1])
        except TransientError:
            # Whoever does the unit will meet it too, or find it finished.
            return entry[0], False

    for place, is_done in in_order(check, plan.read_part(work.run.plan, part)):
        if not is_done:
            yield place


class _Check:
    """Which units of a part are finished.

    Args:
        work: Work that all units of the run share.
        retry_failures: As of `unfinished_units`.
    """

    def __init__(self, work: Work, retry_failures: bool) -> None:
        self._work, self._retry_failures = work, retry_failures
        # Whether scenes are finished, by their ids; two threads may find out at once.
        self._scenes: dict[str, bool] = {}

    def record_of(self, unit: WorkUnit) -> Commit | None:
        """The record of a finished unit; None if it is to be done, and has no record any more."""
        log = self._work.log
        try:
            commit = log.load_of(unit)
            if commit is None or unit.gone or self._is_finished(unit, commit):
                return commit
        except TransientError:
            # Whoever does the unit will meet it too, or find the record.
            return None
        except ValueError:
            pass
        if unit.format == SCENE:
            recount(self._work)
        log.invalidate(unit)
        return None

    def _is_finished(self, unit: WorkUnit, commit: Commit) -> bool:
        if unit.is_block and self._has_scene(unit):
            return True
        is_again = self._retry_failures and commit.tally.failed_images
        if not is_again and self._work.log.is_sound(unit, commit):
            return True
        # Another attempt may have finished the scene meanwhile, and removed its blocks.
        self._scenes.pop(unit.scene or "", None)
        return unit.is_block and self._has_scene(unit)

    def _has_scene(self, block: WorkUnit) -> bool:
        """Whether the scene of a block is finished; the record of one that is not sound goes."""
        name = block.scene or ""
        if name not in self._scenes:
            self._scenes[name] = self._is_scene_finished(scene_of(block), name)
        return self._scenes[name]

    def _is_scene_finished(self, scene: AssemblyUnit | None, name: str) -> bool:
        log = self._work.log
        if scene is None:
            return log.read_only(name) is not None
        if not filesystem.exists(log.path(scene)):
            return False
        if log.is_valid(scene, self._retry_failures):
            return True
        recount(self._work)
        log.invalidate(scene)
        return False


def recount(work: Work) -> None:
    """Have all scenes counted again, in this attempt or in a later one."""
    if work.counting is not None:
        work.run.write(f"plan/{_RECOUNT}", b"")


def forget_counts(work: Work) -> None:
    """Remove all counts if label maps that they were made of were made again."""
    if filesystem.exists(work.run.path(f"plan/{_RECOUNT}")):
        for unit in plan.read_units(work.run.plan, CountUnit):
            work.log.invalidate(unit)
        work.run.remove(f"plan/{_RECOUNT}")

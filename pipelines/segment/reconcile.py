"""Makes what earlier attempts left agree with the plan, before any work.

A commit record is valid only if it belongs to the planned input and options, and its outputs are
there. Every other record is removed with its outputs, so that neither an undone change nor a
removed input leaves a table or a label map that the totals do not contain.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from pipelines.formats.work import Work
from pipelines.inputs.catalogue import Database, NameSet, to_bytes, to_text
from pipelines.run import plan
from pipelines.run.commits import CommitLog
from pipelines.run.plan import SCENE, AssemblyUnit, CountUnit, Unit, WorkUnit
from pipelines.run.unit_tables import table_paths
from pipelines.scenes.assembly import scene_blocks
from pipelines.scenes.files import block_path, counts_path
from pipelines.storage import filesystem, locations
from pipelines.storage.same_names import fold_of
from pipelines.storage.threads import in_order
from pipelines.worker import formats
from segmodel.errors import ConfigurationError


def check_names(work: Work, planned: Callable[[], Iterable[Unit]]) -> None:
    """Refuse label maps of different names that are one file on the disk of the run directory.

    Args:
        work: Work that all units share; its folder for temporary files is made.
        planned: Returns the units of the new plan.

    Raises:
        ConfigurationError: Names two of them.
    """
    run = work.run
    if locations.is_remote(run.root):
        return
    with filesystem.temporary(run.scratch):
        fold = fold_of(run.scratch)
    if fold is None:
        return
    tables = Database("CREATE TABLE maps (folded BLOB, path BLOB)")
    every = (path for unit in planned() for path in _outputs(unit, work))
    paths = (path for path in every if path.startswith("labels/"))
    rows = ((to_bytes(fold(path)), to_bytes(path)) for path in paths)
    tables.run_each("INSERT INTO maps VALUES (?, ?)", rows)
    twice = "GROUP BY folded HAVING min(path) < max(path) ORDER BY folded LIMIT 1"
    for pair in tables.rows(f"SELECT min(path), max(path) FROM maps {twice}"):
        one, other = map(to_text, pair)
        raise ConfigurationError(
            f"--output {run.root}: {one} and {other} would be one file, as its disk takes their "
            f"names for the same: rename one of the inputs, or name a folder on another disk"
        )


def reconcile(work: Work, retry_failures: bool) -> None:
    """Remove what earlier attempts left and the plan on disk does not contain.

    Args:
        work: Work that all units of the plan share.
        retry_failures: Whether units in which an image failed are done again.
    """
    log = work.log
    found = NameSet(log.names())
    if not found:
        return
    folder = work.run.plan
    wanted = NameSet(
        log.name(unit) for kind in plan.KINDS for unit in plan.read_units(folder, kind)
    )
    _discard(NameSet(name for name in found if name not in wanted), work)
    records: dict[str, str] = {}

    def scenes() -> Iterator[AssemblyUnit]:
        for scene in plan.read_units(folder, AssemblyUnit):
            records[scene.id] = log.path(scene)
            if log.name(scene) in found:
                yield scene

    def check(unit: WorkUnit) -> None:
        _check_unit(unit, records.get(unit.scene or ""), log, retry_failures)

    for _ in in_order(lambda scene: _check_scene(scene, work, log, retry_failures), scenes()):
        pass
    parts = plan.read_units(folder, WorkUnit)
    for _ in in_order(check, (unit for unit in parts if log.name(unit) in found)):
        pass
    counts = plan.read_units(folder, CountUnit)
    _check_counts((unit for unit in counts if log.name(unit) in found), work)


def _discard(names: NameSet, work: Work) -> None:
    """Remove records with their outputs, but for those that a unit of the plan writes anew.

    So the label map of an input that has changed is there until the new one takes its place.
    """
    if not names:
        return
    units = (unit for kind in plan.KINDS for unit in plan.read_units(work.run.plan, kind))
    planned = NameSet(path for unit in units for path in _outputs(unit, work))
    for name in names:
        work.log.discard(name, planned)


def _check_scene(scene: AssemblyUnit, work: Work, log: CommitLog, retry_failures: bool) -> None:
    """Keep the record of a finished scene, or repeat the whole scene: its blocks are gone."""
    if scene.gone or log.is_valid(scene, retry_failures):
        return
    for block in scene_blocks(scene, work):
        for folder in work.map_folders:
            work.run.remove(block_path(block.id, folder))
        log.invalidate(block)
    log.invalidate(scene)


def _check_counts(units: Iterable[CountUnit], work: Work) -> None:
    """Keep the records of counts if they and their label maps are valid."""
    labelled: NameSet | None = None
    for unit in units:
        if work.log.is_valid(unit, False):
            if labelled is None:
                labelled = _labelled(work.run.plan, work.log)
            if all(file.key in labelled for file in unit.files):
                continue
        work.log.invalidate(unit)


def _labelled(folder: str, log: CommitLog) -> NameSet:
    """Keys of scenes whose label maps are finished."""
    whole = (u for u in plan.read_units(folder, WorkUnit) if u.format == SCENE and not u.is_block)
    scenes: Iterator[Unit] = chain(whole, plan.read_units(folder, AssemblyUnit))
    return NameSet(unit.files[0].key for unit in scenes if log.is_done(unit))


def _check_unit(unit: WorkUnit, scene: str | None, log: CommitLog, retry_failures: bool) -> None:
    """Keep the record of a finished unit; that of a block of a finished scene always.

    `scene` is the path of the record of that scene.

    Blocks are removed after that record is written. So it is looked for once more when one is
    gone, as another run may be finishing the scene.
    """
    if unit.gone or (scene is not None and filesystem.exists(scene)):
        return
    if log.is_valid(unit, retry_failures):
        return
    if scene is None or not filesystem.exists(scene):
        log.invalidate(unit)


def remove_leftovers(work: Work, planned: Callable[[], Iterable[Unit]]) -> None:
    """Remove what units of the plan on disk wrote without being finished, unless it is planned.

    Nothing else would ever remove it. What is planned stays, as another run may be writing it.

    Args:
        work: Work that all units share, before the plan is replaced.
        planned: Returns the units of the new plan.
    """
    log = work.log
    recorded = NameSet(name.rpartition("-")[0] for name in log.names())
    if next(_unfinished(work, recorded), None) is None:
        return
    # Most unfinished units are planned as before, which one digest a unit shows.
    same = NameSet(_digest(unit, work) for unit in planned())
    left = NameSet(
        path
        for unit in _unfinished(work, recorded)
        if _digest(unit, work) not in same
        for path in _outputs(unit, work)
    )
    if left:
        left.difference_update(path for unit in planned() for path in _outputs(unit, work))
    for path in left:
        work.run.remove(path)


def _unfinished(work: Work, recorded: NameSet) -> Iterator[Unit]:
    """Units of the plan on disk whose ids are not among the recorded ones."""
    for kind in plan.KINDS:
        for unit in plan.read_units(work.run.plan, kind, plan.pass_over):
            if unit.id not in recorded:
                yield unit


def _digest(unit: Unit, work: Work) -> str:
    """Digest of the paths of all that a unit may write."""
    return hashlib.sha256("\0".join(_outputs(unit, work)).encode()).hexdigest()


def _outputs(unit: Unit, work: Work) -> list[str]:
    if isinstance(unit, CountUnit):
        return [counts_path(unit)]
    tables = (*table_paths(unit.id, work.soft_areas), f"failures/{unit.id}.jsonl")
    return [*formats.find_format(unit.format).outputs(unit, work), *tables]

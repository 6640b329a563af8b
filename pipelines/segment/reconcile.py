"""Makes what earlier attempts left agree with the plan, before any work.

A commit record that does not belong to the planned input and options is removed with its outputs,
so that neither an undone change nor a removed input leaves a table or a label map that the totals
do not contain. Whether the outputs of the others are there, workers look; see `unfinished.py`.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from pipelines.formats.work import Work
from pipelines.inputs.catalogue import Database, NameSet, to_bytes, to_text
from pipelines.run import plan
from pipelines.run.plan import SCENE, AssemblyUnit, CountUnit, Unit, WorkUnit
from pipelines.run.unit_tables import table_paths
from pipelines.scenes.files import counts_path
from pipelines.storage import filesystem, locations
from pipelines.storage.same_names import fold_of
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


def reconcile(work: Work, planned: NameSet) -> bool:
    """Remove what earlier attempts left and the plan does not contain, by the names of records.

    Args:
        work: Work that all units of the plan on disk share.
        planned: Names of the records of all units of the plan.

    Returns:
        Whether units of the plan have a record.
    """
    log = work.log
    found = NameSet(log.names())
    if not found:
        return False
    _discard(NameSet(name for name in found if name not in planned), work)
    _discard_counts(found, work)
    return any(name in planned for name in found)


def reconcile_counts(work: Work) -> None:
    """The same where all records are of planned units: counts follow from other records."""
    if work.counting is not None:
        _discard_counts(NameSet(work.log.names()), work)


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


def _discard_counts(found: NameSet, work: Work) -> None:
    """Remove the counts of scenes of which a label map is not finished.

    Args:
        found: Names of all records.
        work: Work that all units of the run share.
    """
    if work.counting is None:
        return
    folder, log = work.run.plan, work.log
    counted = (unit for unit in plan.read_units(folder, CountUnit) if log.name(unit) in found)
    whole = (u for u in plan.read_units(folder, WorkUnit) if u.format == SCENE and not u.is_block)
    scenes: Iterator[Unit] = chain(whole, plan.read_units(folder, AssemblyUnit))
    unfinished = NameSet(unit.files[0].key for unit in scenes if log.name(unit) not in found)
    for unit in counted if unfinished else ():
        if any(file.key in unfinished for file in unit.files):
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

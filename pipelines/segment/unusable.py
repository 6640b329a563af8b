"""Inputs that are found and that cannot be labelled any more as what they were planned as."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from pipelines.formats.interface import Format
from pipelines.formats.work import Work
from pipelines.inputs.catalogue import NameSet
from pipelines.run.directory import RunDirectory
from pipelines.run.plan import SCENE, InputFile, Unit
from pipelines.segment.inputs import Inputs
from pipelines.storage import filesystem
from pipelines.storage.threads import in_order
from pipelines.worker import formats


def unusable(
    units: Callable[[], Iterator[Unit]], inputs: Inputs, gone: NameSet, work: Work
) -> list[str]:
    """Keys of inputs with a label map that have another format by now, or cannot be opened.

    Another format has a TIFF that is none any more, and an image that got or lost a world file.
    Only files that have changed are opened.

    Args:
        units: Returns the units of the plan on disk.
        inputs: Input files that were found.
        gone: Keys of those that were not, or that have no bytes.
        work: Work that all units of the run share.
    """
    left = NameSet(_identity(unit.format, file) for unit in units() for file in unit.files)
    left.difference_update(
        _identity(entry.name, file) for entry, files in inputs.files for file in files
    )
    if not left:
        return []

    def changed() -> Iterator[Unit]:
        for unit in units():
            for file in unit.files:
                if _identity(unit.format, file) in left and file.key not in gone:
                    yield replace(unit, files=(file,))

    # As units were planned; a database is asked in this thread only.
    labelled, planned_as = NameSet(), NameSet()
    for unit, is_labelled in in_order(lambda unit: (unit, _has_labels(unit, work.run)), changed()):
        if is_labelled:
            labelled.update(file.key for file in unit.files)
            planned_as.update(f"{unit.format}:{file.key}" for file in unit.files)
    if not labelled:
        return []
    found = (
        (entry, file, f"{entry.name}:{file.key}" in planned_as)
        for entry, files in inputs.files
        for file in files
        if file.key in labelled
    )
    checked = in_order(lambda given: (given[1].key, _is_usable(*given, work)), found)
    return [key for key, is_usable in checked if not is_usable]


def _identity(format_name: str, file: InputFile) -> str:
    """What is the same for a file that has not changed; headers show whether a scene has."""
    state = "" if format_name == SCENE else f"{file.size}:{file.version}"
    return f"{format_name}:{state}:{file.key}"


def _has_labels(unit: Unit, run: RunDirectory) -> bool:
    paths = formats.find_format(unit.format).outputs(unit)
    return any(filesystem.exists(run.path(path)) for path in paths)


def _is_usable(entry: Format, file: InputFile, is_as_planned: bool, work: Work) -> bool:
    return is_as_planned and entry.opens(file, work.reading)

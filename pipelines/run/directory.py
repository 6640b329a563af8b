"""The run directory: where everything of a run is, and `run.json` that keeps it honest."""

import json
import os
from dataclasses import dataclass
from typing import Any

from pipelines.run.seals import json_file, unsealed
from pipelines.storage import filesystem, locations
from pipelines.storage.digests import digest
from segmodel.devices.disks import writing
from segmodel.errors import ConfigurationError

# Folders whose files are called as the inputs.
MAPS = ("labels", "confidence", "probabilities")
OUTPUTS = (*MAPS, "blocks", "areas", "soft", "failures", "counts")
# Rows of tables by part of the plan, until the end of a run has merged them.
ROWS = "rows"
FOLDERS = ("plan", *OUTPUTS, "commits", ROWS)
POLYGONS = ("aoi.json", "zones.json", "soft_zones.json")
TABLES = (
    "areas.csv",
    "soft_areas.csv",
    "zones.csv",
    "soft_zones.csv",
    "overlaps.csv",
    "failures.csv",
)
RESULTS = ("_SUCCESS", "summary.json", *TABLES, "labels.json", "preview.png")
RUN, PACK = "beamseg run", "beamseg pack"
EVALUATION, SAMPLE, LAYERS = "beamseg evaluation", "beamseg sample", "beamseg layers"
MARK = {"format": RUN, "format_version": 1}
# In `run.json` of runs that began with seals: in it, in the plan, records and summary.
SEALED = "sealed"
# Where a sample of the run lies, unless it has another place; it outlives the run.
SAMPLE_DIR = "sample"
# Where layers of the run lie; they go with it.
LAYERS_DIR = "layers"
# What a command keeps of its plan and records in a folder that holds files for people.
METADATA_DIR = ".beamseg"
RUN_JSON, COPY = "run.json", "plan/run.json"
_PUT_BACK = "put it back from a copy, or begin again with `--overwrite`"


class DamagedRunError(ConfigurationError):
    """A `run.json` of ours that is damaged."""


@dataclass(frozen=True)
class RunDirectory:
    """Paths of one run.

    Args:
        root: Folder of the run.
        format: What `run.json` says that the folder is.
    """

    root: str
    format: str = RUN

    @property
    def plan(self) -> str:
        """Folder of plan parts."""
        return f"{self.root}/plan"

    @property
    def scratch(self) -> str:
        """Folder of temporary files, on the machine that asks."""
        return filesystem.scratch_of(self.root)

    def path(self, name: str) -> str:
        """A file by its path within the run directory."""
        return f"{self.root}/{name}"

    def read(self, name: str) -> bytes:
        """The content of a file."""
        return filesystem.read_bytes(self.path(name))

    def write(self, name: str, content: bytes) -> filesystem.Written:
        """Write a file that appears whole or not at all; says what it holds."""
        return filesystem.write_bytes(self.path(name), content, self.scratch)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there; nothing that links lead to elsewhere."""
        filesystem.remove_below_root(self.root, name)

    def write_json(self, name: str, document: dict[str, Any], is_sealed: bool = False) -> None:
        """Write a JSON file, with a seal or without."""
        self.write(name, json_file(document, is_sealed))

    def read_json(self, name: str, is_sealed: bool = False) -> dict[str, Any] | None:
        """A JSON file without its seal, or None if it is not there.

        Args:
            name: Path within the run directory.
            is_sealed: Whether it must have a seal.

        Raises:
            ValueError: If it is damaged.
        """
        try:
            document, has_seal = unsealed(self.read(name))
        except FileNotFoundError:
            return None
        if is_sealed and not has_seal:
            raise ValueError(f"{name} has no seal")
        found: dict[str, Any] = document
        return found

    def write_run(self, document: dict[str, Any]) -> None:
        """Write `run.json`; in a run with seals also a copy, for the case that it is damaged."""
        for name in (RUN_JSON, COPY) if SEALED in document else (RUN_JSON,):
            self.write_json(name, document, SEALED in document)

    def read_run(self) -> dict[str, Any] | None:
        """What `run.json` says, or its copy if it is damaged; None where neither is.

        Raises:
            DamagedRunError: If both are damaged.
            ConfigurationError: If `run.json` was written by another program.
        """
        faults = []
        for name in (RUN_JSON, COPY):
            try:
                return self.sound_run(name)
            except FileNotFoundError:
                continue
            except ValueError as error:
                faults.append(error)
        if faults:
            raise faults[0]
        return None

    def sound_run(self, name: str) -> dict[str, Any]:
        """What `run.json` or its copy says.

        Raises:
            FileNotFoundError: If it is not there.
            DamagedRunError, ConfigurationError: As `read_run`.
        """
        content = self.read(name)
        try:
            document, is_sealed = unsealed(content)
        except ValueError:
            document, is_sealed = None, False
        is_ours = is_run(document, self.format)
        if not is_ours and (document is not None or f'"{self.format}"'.encode() not in content):
            raise ConfigurationError(
                f"{self.root}/{name} was not written by this beamseg: name another --output"
            )
        if not is_ours or (SEALED in document and not is_sealed):
            raise DamagedRunError(f"{self.root}/{name} is damaged: {_PUT_BACK}")
        for section, expected in document.get("digests", {}).items():
            if digest(document.get(section, {})) != expected:
                raise DamagedRunError(
                    f"{self.root}/{name}: {section} are not those that the run was begun with: "
                    f"{_PUT_BACK}"
                )
        found: dict[str, Any] = document
        return found

    def clear(self) -> None:
        """Remove what a run writes, `run.json` last, so that it stays a run until all is gone."""
        for name in (*RESULTS, *self.mosaics(), *POLYGONS):
            self.remove(name)
        for name in (LAYERS_DIR, *FOLDERS):
            filesystem.remove_below(self.path(name))
        self.clear_scratch()
        self.remove(RUN_JSON)

    def clear_scratch(self) -> None:
        """Remove the temporary files of this machine."""
        filesystem.remove_below(self.scratch)

    def clear_rows(self) -> None:
        """Remove the rows that the tables of the end of the run were merged from."""
        filesystem.remove_below(self.path(ROWS))

    def mosaics(self) -> list[str]:
        """Names of the VRTs over all label maps, and of the style that QGIS gives each."""
        found = filesystem.names_below(self.root, "labels-")
        others = (n for n in found if n.endswith((".vrt", ".qml")) and "/" not in n)
        return ["labels.vrt", "labels.qml", *others]

    def earlier(self, overwrite: bool = False) -> dict[str, Any] | None:
        """The `run.json` of an earlier run, or None where nothing is.

        Args:
            overwrite: Whether the run is begun again, so that `run.json` may be damaged.

        Raises:
            ConfigurationError: If the folder holds other things than a run of ours, or links to
                other folders where a run writes.
        """
        if not locations.is_remote(self.root) and os.path.isfile(self.root):
            raise ConfigurationError(f"--output {self.root} is a file: name a folder")
        filesystem.refuse_links(self.root, (*FOLDERS, os.path.basename(self.scratch)))
        # Looked for before `run.json` is: another run may be beginning, and writes it first.
        holds_files = holds_any(self.root, os.path.basename(self.scratch), SAMPLE_DIR)
        try:
            earlier = self.read_run()
        except DamagedRunError:
            if not overwrite:
                raise
            earlier = {}
        # `run.json` is written first, so that a run that died earlier left temporary files at most.
        if earlier is None and holds_files:
            raise ConfigurationError(
                f"--output {self.root} holds files but no run.json: name an empty folder"
            )
        return earlier

    def make(self) -> None:
        """Make the folder, if it is one of this machine."""
        if not locations.is_remote(self.root):
            with writing(self.root):
                os.makedirs(self.root, exist_ok=True)

    def begin(self) -> None:
        """Make the folder, without results that would be those of another attempt."""
        self.make()
        for name in (*RESULTS, *self.mosaics()):
            self.remove(name)


def holds_any(folder: str, *but: str) -> bool:
    """Whether a folder holds anything beside folders of these names."""
    if locations.is_remote(folder):
        # A console shows a folder by an empty object whose name ends with a slash.
        found = (file.uri.removeprefix(f"{folder}/") for file in filesystem.files_below(folder))
        return any(not name.endswith("/") and name.split("/")[0] not in but for name in found)
    return os.path.isdir(folder) and bool({*os.listdir(folder)}.difference(but))


def is_run(document: object, *kinds: str) -> bool:
    """Whether a parsed `run.json` is one of ours, and of one of these kinds."""
    marks = (MARK | {"format": kind} for kind in kinds or (RUN,))
    return isinstance(document, dict) and any(mark.items() <= document.items() for mark in marks)


def lies_in_run(path: str, root: str, known: dict[str, bool]) -> bool:
    """Whether a file below `root` is in the run directory of some run, or in an evaluation.

    Args:
        path: The file.
        root: Folder at and below which run directories are looked for.
        known: What earlier calls have found, by folder; grows.

    Raises:
        OSError: If a `run.json` is there and cannot be read.
    """
    folder = os.path.dirname(path)
    if folder not in known:
        try:
            with filesystem.open_stream(os.path.join(folder, "run.json")) as stream:
                here = is_run(json.load(stream), RUN, EVALUATION)
        except (FileNotFoundError, NotADirectoryError, ValueError):
            here = False
        above = folder not in (root, "", os.path.dirname(folder))
        known[folder] = here or (above and lies_in_run(folder, root, known))
    return known[folder]


def changed_options(
    earlier: dict[str, Any], labels: dict[str, Any], section: str = "labels"
) -> list[str]:
    """Options that a run was begun with otherwise, each with both values.

    Args:
        earlier: The `run.json` that the run was begun with.
        labels: The options now.
        section: Where in `run.json` the former options are.
    """
    before = earlier.get(section, {})
    return [
        f"{name} was {_value_of(name, before, labels)} and is {_value_of(name, labels, before)}"
        for name in sorted({*before, *labels})
        if before.get(name) != labels.get(name)
    ]


def _value_of(name: str, options: dict[str, Any], others: dict[str, Any]) -> Any:
    """The value of an option; what is in the other options only is False, or was left out."""
    missing = {bool: False, str: "left out"}.get(type(others.get(name)))
    return options.get(name, missing)


def check_unchanged(
    earlier: dict[str, Any], labels: dict[str, Any], run: str, section: str = "labels"
) -> None:
    """Refuse to continue a run with other options that shape labels.

    Args:
        earlier: The `run.json` that the run was begun with.
        labels: The options now.
        run: The run directory, for the text.
        section: Where in `run.json` the former options are.

    Raises:
        ConfigurationError: Names each option with both values, and the remedy.
    """
    changed = changed_options(earlier, labels, section)
    if changed:
        raise ConfigurationError(
            f"{run} was begun with other options: {'; '.join(changed)}. Give the former ones, "
            f"another --output, or --overwrite to begin again"
        )

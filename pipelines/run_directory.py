"""The run directory: where everything of a run is, and `run.json` that keeps it honest."""

import hashlib
import json
import os
from dataclasses import dataclass
from typing import Any

from pipelines import storage
from segmodel.errors import ConfigurationError

FOLDERS = ("plan", "labels", "confidence", "blocks", "areas", "failures", "commits", "tmp")
FILES = ("run.json", "areas.csv", "summary.json", "_SUCCESS")


@dataclass(frozen=True)
class RunDirectory:
    """Paths of one run."""

    root: str

    @property
    def plan(self) -> str:
        """Folder of plan parts."""
        return f"{self.root}/plan"

    @property
    def scratch(self) -> str:
        """Folder of temporary files."""
        return f"{self.root}/tmp"

    def path(self, name: str) -> str:
        """A file by its path within the run directory."""
        return f"{self.root}/{name}"

    def write(self, name: str, content: bytes) -> None:
        """Write a file that appears whole or not at all."""
        storage.write_bytes(self.path(name), content, self.scratch)

    def write_json(self, name: str, document: dict[str, Any]) -> None:
        """Write a JSON file."""
        self.write(name, (json.dumps(document, indent=2) + "\n").encode())

    def read_json(self, name: str) -> dict[str, Any] | None:
        """A JSON file, or None if it is not there."""
        try:
            return json.loads(storage.read_bytes(self.path(name)))
        except FileNotFoundError:
            return None

    def clear(self) -> None:
        """Remove what a run writes, and nothing else."""
        for name in (*FILES, *FOLDERS):
            storage.remove(self.path(name))

    def prepare(self, overwrite: bool) -> dict[str, Any] | None:
        """Make the folder; returns the `run.json` of an earlier run, if it is to be continued.

        Raises:
            ConfigurationError: If the folder holds other things than a run.
        """
        if os.path.exists(self.root) and not os.path.isdir(self.root):
            raise ConfigurationError(f"--output {self.root} is a file: name a folder")
        earlier = self.read_json("run.json")
        # `run.json` is written first, so that a run that died earlier left temporary files at most.
        if earlier is None and os.path.isdir(self.root) and set(os.listdir(self.root)) - {"tmp"}:
            raise ConfigurationError(
                f"--output {self.root} holds files but no run.json: name an empty folder"
            )
        if earlier is not None and overwrite:
            self.clear()
            earlier = None
        os.makedirs(self.root, exist_ok=True)
        return earlier


def digest(document: dict[str, Any]) -> str:
    """16 hex digits of the SHA-256 of a JSON document."""
    text = json.dumps(document, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def check_unchanged(earlier: dict[str, Any], labels: dict[str, Any], run: str) -> None:
    """Refuse to continue a run with other options that shape labels.

    Raises:
        ConfigurationError: Names each option with both values, and the remedy.
    """
    before = earlier.get("labels", {})
    changed = [
        f"{name} was {before.get(name)} and is {labels.get(name)}"
        for name in sorted({*before, *labels})
        if before.get(name) != labels.get(name)
    ]
    if changed:
        raise ConfigurationError(
            f"{run} was begun with other options: {'; '.join(changed)}. Give the former ones, "
            f"another --output, or --overwrite to begin again"
        )

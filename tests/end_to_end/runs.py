"""Runs over one corpus, started as a user starts them, compared byte for byte."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.run import plan
from pipelines.run.commits import Commit
from tests.end_to_end.conftest import (
    command,
    encoded_images,
    environment,
    files_of,
    noise,
    write_scene,
)
from tests.end_to_end.containers import write_files, write_shards

SHARDS = ("tfrecord", "tar.gz", "parquet")
# How long an attempt took differs from run to run.
CLOCKED = "summary.json"


def write_inputs(folder: Path, images: int = 200, shards: int = 17) -> None:
    """Image files, as many shards of each container, and a scene of four blocks."""
    encoded = encoded_images(images)
    write_files(folder / "photos", encoded)
    for suffix in SHARDS:
        write_shards(folder / "shards" / suffix.replace(".", "-"), suffix, encoded, shards)
    write_scene(folder / "scenes" / "scene.tif", noise(3, 12_300, 16))


@dataclass(frozen=True)
class Runs:
    """Runs over the same inputs with the same options.

    Args:
        folder: With the inputs; run directories are made in it.
        model: SavedModel folder.
        popen: Starts a process; what forks one is faster.
    """

    folder: Path
    model: Path
    popen: type[subprocess.Popen] = subprocess.Popen

    def options(self, name: str) -> list[str]:
        """What `beamseg segment` is told."""
        inputs = ["--input=shards", "--input=photos", "--input=scenes"]
        return [*inputs, f"--model={self.model}", f"--output={name}", "--confidence"]

    def start(self, name: str) -> subprocess.Popen[bytes]:
        """An attempt at the run of this name, in a process group of its own."""
        with self.log(name).open("ab") as log:
            return self.popen(
                command("segment", *self.options(name)),
                cwd=self.folder,
                env=environment(),
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )

    def log(self, name: str) -> Path:
        """What all attempts at a run have printed as errors."""
        return self.folder / f"{name}.log"

    def finish(self, name: str) -> None:
        """Run to the end.

        Raises:
            RuntimeError: If the exit status is not 0.
        """
        status = self.start(name).wait()
        if status:
            raise RuntimeError(f"{name} ended with {status}: {self.log(name).read_text()}")

    def files(self, name: str) -> dict[str, bytes]:
        """All files of a run that must not differ."""
        files = files_of(self.folder / name)
        files.pop(CLOCKED, None)
        return files

    def differences(self, name: str, expected: dict[str, bytes]) -> list[str]:
        """What is not as it must be in a finished run."""
        actual = self.files(name)
        faults = [
            f"{path} differs from that of the uninterrupted run"
            for path in sorted({*actual, *expected})
            if actual.get(path) != expected.get(path)
        ]
        if (self.folder / name / "tmp").exists():
            faults.append("tmp is left")
        verified = self.popen(
            command("verify", name),
            cwd=self.folder,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        printed, _ = verified.communicate()
        if verified.returncode:
            faults.append(f"verify: {printed}")
        return faults


def records(run: Path) -> list[Path]:
    return sorted((run / "commits").glob("*.json"))


@dataclass
class Books:
    """Outputs of finished units, as they were when they were first seen.

    Args:
        run: Run directory.
        seen: Time of modification and inode by path; of commit records, too.
        scenes: Scene by unit; None for units that are no blocks.
    """

    run: Path
    seen: dict[str, tuple[int, int]] = field(default_factory=dict)
    scenes: dict[str, str | None] = field(default_factory=dict)

    def look(self) -> list[str]:
        """Take up new outputs; what of the earlier ones was written again."""
        folder = str(self.run / "plan")
        # A run that was killed may have left a part of a plan.
        units = plan.read_units(folder, plan.WorkUnit, on_damage=lambda part: None)
        self.scenes |= {unit.id: unit.scene for unit in units}
        faults, found = [], {}
        for record in records(self.run):
            content = record.read_bytes()
            if not content.endswith(b"\n}\n"):
                # A kill has cut it, on a disk without hard links.
                continue
            commit = Commit.from_bytes(content)
            paths = [f"commits/{record.name}", *(output.path for output in commit.outputs)]
            for path in paths:
                found[path] = identity = _identity(self.run / path)
                # Blocks are removed, once their scene is put together.
                is_gone = identity is None and self.scenes.get(commit.unit) is not None
                if path in self.seen and identity != self.seen[path] and not is_gone:
                    faults.append(f"{path} was written again")
        faults += [f"{path} was removed" for path in self.seen if path not in found]
        self.seen |= {path: identity for path, identity in found.items() if identity is not None}
        return faults


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_ino

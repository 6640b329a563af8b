"""A run on a disk that is too small ends in one line, and as any other once there is room.

    python -m tools.small_disks --sizes 100
    python -m tools.small_disks --sizes 10 --disk ext4

Runs `beamseg segment` over shards, images, scenes of several blocks, zones and overlaps into a disk
that has so much room left: from 64 kB to enough, evenly by logarithm. Half of the rounds also keep
temporary files (`TMPDIR`) there. A file that takes the rest of the room is then removed, and the
same command repeated. Mounts file systems, so it needs the rights of root.

Exit status 1 if an attempt prints a traceback, ends with another status than 0 or 4, or takes long,
if `_SUCCESS` is there after an attempt that failed, or if a file differs in the end from that of a
run with enough room.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests import forked
from tests.end_to_end.conftest import (
    command,
    encoded_images,
    environment,
    files_of,
    noise,
    write_scene,
)
from tests.end_to_end.containers import write_files, write_shards
from tests.end_to_end.runs import CLOCKED, SHARDS
from tools.kill import MODEL

DISK_BYTES = 48 << 20
# An attempt must not wait for a disk: twice what a whole run takes, and more for a busy machine.
SLOWNESS, SPARE_SECONDS = 3, 5
# How a device becomes a disk, and how it is mounted; a tmpfs has none.
MAKE = {
    "tmpfs": [],
    "ext4": ["mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal"],
    "exfat": ["mkfs.exfat"],
}
MOUNT = {"ext4": ["mount"], "exfat": ["mount.exfat-fuse"]}


@contextmanager
def mounted(kind: str, folder: Path) -> Iterator[Path]:
    """A new file system of `DISK_BYTES`, mounted for the block."""
    place = folder / kind
    place.mkdir(exist_ok=True)
    if kind == "tmpfs":
        _system("mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", place)
        device = None
    else:
        image = folder / f"{kind}.img"
        image.write_bytes(b"")
        os.truncate(image, DISK_BYTES)
        device = _system("losetup", "--find", "--show", image)
        _system(*MAKE[kind], device)
        _system(*MOUNT[kind], device, place)
    try:
        yield place
    finally:
        _system("umount", place)
        if device is not None:
            _system("losetup", "--detach", device)


def _system(*words: object) -> str:
    """Run a program of the system; gives what it prints."""
    done = subprocess.run(list(map(str, words)), check=True, capture_output=True, text=True)
    return done.stdout.strip()


def take_room(disk: Path, left: int) -> Path:
    """A file that leaves so many bytes of a disk."""
    ballast = disk / "ballast"
    with ballast.open("wb") as stream:
        while (free := shutil.disk_usage(disk).free) > left:
            stream.write(bytes(min(free - left, 1 << 20)))
            stream.flush()
    return ballast


@dataclass
class Attempt:
    """How a command ended."""

    status: int
    printed: str
    seconds: float
    faults: list[str] = field(default_factory=list)

    @property
    def last(self) -> str:
        return (self.printed.splitlines() or [""])[-1]


@dataclass(frozen=True)
class Rounds:
    """Runs over the same inputs with the same options.

    Args:
        folder: With the inputs.
        model: SavedModel folder.
    """

    folder: Path
    model: Path

    def write_inputs(self) -> None:
        """Shards, images, two scenes of several blocks that overlap, and two zones."""
        images = encoded_images(24)
        for suffix in SHARDS:
            write_shards(self.folder / "shards" / suffix.replace(".", "-"), suffix, images, 2)
        write_files(self.folder / "photos", images)
        for number in range(2):
            write_scene(self.folder / "scenes" / f"{number}.tif", noise(number, 5000 + number, 96))
        corners = [[15.0, 53.0], [15.01, 53.0], [15.01, 55.0], [15.0, 55.0], [15.0, 53.0]]
        zone = {"type": "Polygon", "coordinates": [corners]}
        feature = {"type": "Feature", "properties": {"name": "west"}, "geometry": zone}
        document = {"type": "FeatureCollection", "features": [feature]}
        (self.folder / "zones.geojson").write_text(json.dumps(document))

    def run(self, output: Path, scratch: Path | None = None) -> Attempt:
        """One attempt."""
        words = ["--input=shards", "--input=photos", "--input=scenes", "--zones=zones.geojson"]
        words += ["--overlap=first", f"--model={self.model}", "--confidence", "--window=512"]
        started = time.monotonic()
        temporary = {} if scratch is None else {"TMPDIR": str(scratch)}
        ended = forked.run(
            command("segment", *words, f"--output={output}"),
            cwd=self.folder,
            env=environment() | temporary,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=600,
        )
        return Attempt(ended.returncode, ended.stderr, time.monotonic() - started)


def on_disk(rounds: Rounds, disk: Path, left: int, usual: Attempt, with_scratch: bool) -> Attempt:
    """An attempt with so many bytes left, and one more with enough; gives the first."""
    run, scratch = disk / "run", disk / "tmp"
    scratch.mkdir()
    ballast = take_room(disk, left)
    first = rounds.run(run, scratch if with_scratch else None)
    if "Traceback" in first.printed or "Error" in first.last:
        first.faults.append(f"no line for an operator: {first.printed}")
    if first.status not in (0, 4):
        first.faults.append(f"ended with {first.status}")
    said = [line for line in first.printed.splitlines() if not line.startswith("segment: ")]
    if first.status and len(said) != 1:
        first.faults.append(f"not one line: {first.printed}")
    if first.status and (run / "_SUCCESS").exists():
        first.faults.append("_SUCCESS after an attempt that failed")
    if first.seconds > SLOWNESS * usual.seconds + SPARE_SECONDS:
        first.faults.append(f"took {first.seconds:.1f} s")
    ballast.unlink()
    if first.status:
        second = rounds.run(run)
        if second.status:
            first.faults.append(f"with room: {second.status}: {second.printed}")
    return first


def differences(actual: dict[str, bytes], expected: dict[str, bytes]) -> list[str]:
    """Paths of files that differ, or are there once only."""
    return [
        f"{path} differs"
        for path in sorted({*actual, *expected} - {CLOCKED})
        if actual.get(path) != expected.get(path)
    ]


def main() -> int:
    """The command line; gives the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=int, default=100)
    parser.add_argument("--disk", choices=[*MAKE], default="tmpfs")
    parser.add_argument("--least", type=int, default=64 << 10)
    parser.add_argument("--model", type=Path, default=MODEL)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="small-disks-"))
    rounds = Rounds(folder, options.model)
    rounds.write_inputs()
    whole = rounds.run(folder / "whole")
    if whole.status:
        raise RuntimeError(whole.printed)
    expected = files_of(folder / "whole")
    most = 3 * sum(max(4096, len(content)) for content in expected.values())
    print(f"a run takes {whole.seconds:.1f} s and {most // 3 >> 10} kB", flush=True)
    bad = ended = 0
    for number in range(options.sizes):
        share = number / max(1, options.sizes - 1)
        left = round(options.least * (most / options.least) ** share)
        with mounted(options.disk, folder) as disk:
            attempt = on_disk(rounds, disk, left, whole, with_scratch=number % 2 == 1)
            attempt.faults += differences(files_of(disk / "run"), expected)
        bad += bool(attempt.faults)
        ended += not attempt.status
        found = "; ".join(attempt.faults[:4]) or attempt.last
        print(
            f"{left >> 10:6d} kB: {attempt.status}, {attempt.seconds:4.1f} s: {found}", flush=True
        )
    if bad:
        print(f"{bad} of {options.sizes} sizes went wrong; inputs are in {folder}")
        return 1
    shutil.rmtree(folder)
    print(f"{options.sizes} sizes, {ended} of which were enough: {len(expected)} files as in a run")
    return 0


if __name__ == "__main__":
    sys.exit(main())

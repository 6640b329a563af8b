"""Runs on disks that are too small, from 64 kB of room to enough."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

from tools.reliability.bench import QUICK, Harm, Outcome, words

DISK_BYTES = 48 << 20
LEAST_BYTES = 64 << 10
# An attempt must not wait for a disk: so many times what a run takes, and more for a busy machine.
SLOWNESS, SPARE_SECONDS = 3, 5
# How a device becomes a disk, and how it is mounted.
MAKE = {"ext4": ["mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal"], "exfat": ["mkfs.exfat"]}
MOUNT = {"ext4": ["mount"], "exfat": ["mount.exfat-fuse"]}
DISKS = ("tmpfs", *MAKE, "overlay")
LAYERS = ("lowerdir", "upperdir", "workdir")
# The step of a sequence that covers an interval evenly, however many are taken.
GOLDEN = (5**0.5 - 1) / 2


class Disks(Harm):
    """A trial is a run with so much room, and its repetition with enough.

    Half of the runs keep temporary files on the same disk. File systems are taken in turn, of
    those that this process may make and mount; there are no trials where these are none. The seed
    says where the sequence of sizes begins.
    """

    name, count = "disks", 100

    def __enter__(self) -> Self:
        sizes = (max(4096, len(content)) for content in self.bench.expected.values())
        self._most = 3 * sum(sizes)
        self._kinds = [kind for kind in DISKS if can_mount(kind, self.bench.folder / "probe")]
        self.trials = None if self._kinds else 0
        return self

    def trial(self, number: int) -> list[Outcome]:
        """A run on a disk of its own."""
        share = (self.seed * 2**0.5 + number * GOLDEN) % 1
        left = round(LEAST_BYTES * (self._most / LEAST_BYTES) ** share)
        place = self.bench.folder / f"disk-{number}"
        kind = self._kinds[number % len(self._kinds)]
        with mounted(kind, place):
            run, scratch = place / "run", place / "tmp"
            scratch.mkdir()
            ballast = take_room(place, left)
            is_scratch_here = number // len(self._kinds) % 2
            variables = {"TMPDIR": str(scratch)} if is_scratch_here else {}
            ended = self.bench.run(words(str(run)), QUICK, variables)
            ballast.unlink()
            size = 64
            while size < left >> 10:
                size *= 2
            harm = f"{kind} with up to {size} kB left"
            if is_scratch_here:
                harm += ", temporary files too"
            outcome = self.bench.judged(harm, ended, run)
        if ended.status and ended.seconds > SLOWNESS * self.bench.whole.seconds + SPARE_SECONDS:
            outcome.faults.append(f"took {ended.seconds:.1f} s")
        return [outcome]


def can_mount(kind: str, place: Path) -> bool:
    """Whether this process may make and mount such a file system."""
    try:
        with mounted(kind, place):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


@contextmanager
def mounted(kind: str, place: Path) -> Iterator[None]:
    """A new file system of `DISK_BYTES`, mounted for the block."""
    place.mkdir()
    with ExitStack() as stack:
        stack.callback(place.rmdir)
        if kind == "tmpfs":
            _system("mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", place)
        elif kind == "overlay":
            below = place.with_suffix(".below")
            stack.enter_context(mounted("ext4", below))
            for layer in LAYERS:
                (below / layer).mkdir()
            layers = ",".join(f"{layer}={below / layer}" for layer in LAYERS)
            _system("mount", "-t", "overlay", "-o", layers, "overlay", place)
        else:
            image = place.with_suffix(".img")
            image.write_bytes(b"")
            stack.callback(image.unlink)
            os.truncate(image, DISK_BYTES)
            device = _system("losetup", "--find", "--show", image)
            stack.callback(_system, "losetup", "--detach", device)
            _system(*MAKE[kind], device)
            _system(*MOUNT[kind], device, place)
        stack.callback(_system, "umount", place)
        yield


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

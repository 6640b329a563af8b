"""Which process of a machine uses which GPU, by locks that end with their process."""

import fcntl
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

# Processes that may share a GPU, before nobody counts any more.
MAX_SHARING = 64


@dataclass(frozen=True)
class Claim:
    """A GPU that a process uses until it ends.

    Args:
        place: Index of the GPU among those that could be claimed.
        others: Number of other processes that have claimed it.
        lock: Open file that holds the lock; the kernel frees it when the process ends, however it
            does.
    """

    place: int
    others: int
    lock: int = field(compare=False)

    def give_up(self) -> None:
        """Let others have the GPU."""
        os.close(self.lock)


def claim(gpus: Sequence[str], folder: str) -> Claim | None:
    """Claim the GPU that the fewest processes have claimed; None if none can be locked.

    Nobody waits: a worker that waited for a GPU would hold the work units that it was given until
    the run is over.

    Args:
        gpus: Names of GPUs, the same in all processes of the machine.
        folder: Where the locks are, the same for all processes of the machine.
    """
    for others in range(MAX_SHARING):
        for place, gpu in enumerate(gpus):
            lock = _locked(os.path.join(folder, lock_name(gpu, others)))
            if lock is not None:
                return Claim(place, others, lock)
    return None


def lock_name(gpu: str, others: int) -> str:
    """Name of the file that stands for a place at a GPU.

    >>> lock_name("GPU-1a/2b", 0)
    'beamseg-gpu-GPU-1a-2b-0.lock'
    """
    return f"beamseg-gpu-{re.sub(r'[^A-Za-z0-9-]', '-', gpu)}-{others}.lock"


def _locked(path: str) -> int | None:
    """An open file with a lock on it, or None if somebody else has it or keeps it from us.

    The file stays when the lock ends: two processes could otherwise hold locks on two files of the
    same name. It is opened for reading where it is there, as it may be another user's.
    """
    try:
        try:
            lock = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            lock = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock

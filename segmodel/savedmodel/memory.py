"""Memory that prediction takes, measured in a process of its own."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

SMALL_PX, LARGE_PX = 256, 1024
# For a model that was not measured.
ASSUMED_BYTES_PER_PIXEL = 1024


def measure_bytes_per_pixel(model: str | Path) -> int | None:
    """Growth of a CPU process's peak memory with the size of the image, in bytes a pixel.

    A fresh process labels an image of 256 and then one of 1024 pixels on a side, or the next
    multiples of the stride.

    Args:
        model: Folder of a SavedModel.

    Returns:
        Bytes of memory per pixel of a batch, or None if the process failed.
    """
    command = [sys.executable, "-m", "segmodel.savedmodel.memory", str(model)]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    last = done.stdout.strip().splitlines()[-1:] if done.returncode == 0 else []
    return int(last[0]) or None if last and last[0].isdigit() else None


def _growth(model: str) -> int:
    import numpy as np

    from segmodel.savedmodel.predictor import Predictor

    predictor = Predictor.load(model, trust=True)
    peaks = []
    stride = predictor.contract.stride
    sides = [-(-side // stride) * stride for side in (SMALL_PX, LARGE_PX)]
    for side in sides:
        shape = (1, side, side, len(predictor.contract.bands))
        predictor.labels(np.zeros(shape, predictor.contract.dtype))
        peaks.append(peak_bytes())
    return (peaks[1] - peaks[0]) // (sides[1] ** 2 - sides[0] ** 2)


def peak_bytes() -> int:
    """Peak resident memory of this process so far, in bytes.

    From /proc where there is one: `ru_maxrss` of a child starts at that of its parent.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    print(_growth(sys.argv[1]))

"""Memory that prediction takes, measured in a process of its own."""

from __future__ import annotations

import math
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from segmodel.savedmodel.contract import Contract

if TYPE_CHECKING:
    from segmodel.savedmodel.predictor import Predictor

SMALL_PX, LARGE_PX = 256, 1024
# For a model that was not measured.
ASSUMED_BYTES_PER_PIXEL = 1024


def call_bytes_per_pixel(contract: Contract, has_soft: bool, has_maps: bool) -> int:
    """Memory that a call of a model takes, in bytes per pixel of a batch.

    Args:
        contract: Contract of the model.
        has_soft: Whether the call sums probabilities, which are in memory beside the scores then.
        has_maps: Whether it gives the levels of all pixels, too.
    """
    measured = contract.bytes_per_pixel or ASSUMED_BYTES_PER_PIXEL
    classes = len(contract.classes.ids)
    if has_maps:
        return measured + 13 * classes + 24
    return measured + (4 * classes + 24 if has_soft else 0)


def measure_bytes_per_pixel(model: str | Path) -> int | None:
    """Growth of a CPU process's peak memory with the size of the image, in bytes a pixel.

    A fresh process labels an image of 256 and then one of 1024 pixels on a side, or the next
    multiples of the stride; of a network that takes one size only, one window and then four.

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
    import tensorflow as tf

    from segmodel.savedmodel.predictor import Predictor

    predictor = Predictor.load(model, trust=True)
    contract = predictor.contract
    stride, bands = contract.stride, len(contract.bands)
    shapes = [(1, *[-(-side // stride) * stride] * 2, bands) for side in (SMALL_PX, LARGE_PX)]
    try:
        return _growth_between(predictor, shapes)
    except tf.errors.InvalidArgumentError:
        if contract.fixed_window is None:
            raise
    shapes = [(count, *[contract.fixed_window] * 2, bands) for count in (1, 4)]
    return _growth_between(predictor, shapes)


def _growth_between(predictor: Predictor, shapes: Sequence[tuple[int, ...]]) -> int:
    """Growth of the peak memory from the first shape of a batch to the last, in bytes a pixel."""
    import numpy as np

    peaks = []
    for shape in shapes:
        predictor.labels(np.zeros(shape, predictor.contract.dtype))
        peaks.append(peak_bytes())
    pixels = [math.prod(shape[:3]) for shape in shapes]
    return (peaks[-1] - peaks[0]) // (pixels[-1] - pixels[0])


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

"""Training on two devices, in a process of its own: devices are made before TensorFlow starts.

Run by `test_training_loop.py`; prints JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration(), tf.config.LogicalDeviceConfiguration()],
)

from segmodel.errors import ConfigurationError  # noqa: E402
from segmodel.training.loop import device_strategy  # noqa: E402
from tests.segmodel.made_runs import fit_run, history, narrow, values  # noqa: E402
from tests.segmodel.tiny_learner import BATCH, learner, losses_of  # noqa: E402

BOTH = ("CPU:0", "CPU:1")
# Without momentum of gradients in the scale, so that the last bit of a sum stays the last bit.
RUN = {"optimizer": "sgd", "learning_rate": 0.01, "ema": 0.5, "checkpoint_every": 2}


def farthest(one: dict, other: dict) -> float:
    return max(float(np.abs(one[name] - other[name]).max()) for name in one)


def runs(folder: Path) -> dict:
    alone, told_alone = fit_run(narrow(**RUN), folder / "alone")
    shared = narrow(devices=BOTH, **RUN)
    both, logged = fit_run(shared, folder / "both", {3: folder / "killed"})
    again, _ = fit_run(shared, folder / "killed")
    return {
        "steps": logged.steps,
        "losses": [told_alone.losses, logged.losses],
        "apart": farthest(values(alone), values(both)),
        "resumed_apart": farthest(values(both), values(again)),
        "histories": [history(folder / "both"), history(folder / "killed")],
    }


def refused() -> dict[str, str]:
    found = {}
    for name, changes in {
        "unknown": {"devices": ("GPU:7",)},
        "odd": {"devices": BOTH, "batch": 3},
        "twice": {"devices": ("CPU:1", "CPU:1")},
    }.items():
        try:
            device_strategy(narrow(**changes).training)
        except ConfigurationError as error:
            found[name] = str(error)
    return found


def batch_norm() -> dict:
    """A network with batch statistics, in every precision."""
    found = {}
    for precision in ("float32", "mixed_float16", "mixed_bfloat16"):
        config = narrow(devices=BOTH, precision=precision, batch=BATCH, ema=0.5)
        found[precision] = losses_of(learner(config), 8)
    return found


def main() -> None:
    one = device_strategy(narrow(devices=("CPU:1",)).training)
    print(
        json.dumps(
            {
                "runs": runs(Path(sys.argv[1])),
                "refused": refused(),
                "batch_norm": batch_norm(),
                "one": one.num_replicas_in_sync,
                "none": device_strategy(narrow().training).num_replicas_in_sync,
            }
        )
    )


if __name__ == "__main__":
    main()

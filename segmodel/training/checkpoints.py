"""The state of a training run on disk, whole or not at all."""

from __future__ import annotations

import dataclasses
import json
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from segmodel.errors import TrainingError

STATE = "state.npz"


@dataclass
class Progress:
    """How far a run has come.

    Args:
        run: Digest of configuration and data.
        step: Steps that are done, of all stages.
        best_iou: Greatest mean IoU of a validation so far, of classes that truth has; -1 before
            the first.
        best_step: Step of that validation.
        without_better: Validations since then.
        losses: Losses of the steps since the last validation.
    """

    run: str
    step: int = 0
    best_iou: float = -1.0
    best_step: int = 0
    without_better: int = 0
    losses: list[float] = field(default_factory=list)


def save_checkpoint(folder: Path, progress: Progress, variables: Sequence[tf.Variable]) -> None:
    """Replace the checkpoint by this state.

    Args:
        folder: Folder of the checkpoint.
        progress: How far the run has come.
        variables: All that the next step depends on: weights, optimizer, averages, random state.
    """
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f"{STATE}.part"
    arrays: dict[str, Any] = {f"v{number:05d}": _value(one) for number, one in enumerate(variables)}
    with draft.open("wb") as stream:
        np.savez(stream, progress=json.dumps(dataclasses.asdict(progress)), **arrays)
        stream.flush()
        os.fsync(stream.fileno())
    draft.replace(folder / STATE)


def read_progress(folder: Path) -> Progress | None:
    """How far the run of this folder has come, or None where there is no checkpoint.

    Raises:
        TrainingError: If the checkpoint cannot be read.
    """
    path = folder / STATE
    if not path.is_file():
        return None
    try:
        with np.load(path) as state:
            return Progress(**json.loads(str(state["progress"])))
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise TrainingError(
            f"{folder.name}/{STATE} cannot be read ({error}): remove it to start anew"
        ) from error


def restore_checkpoint(folder: Path, variables: Sequence[tf.Variable]) -> None:
    """Give variables the values of the checkpoint.

    Args:
        folder: Folder of the checkpoint.
        variables: Variables in the order in which they were saved.

    Raises:
        TrainingError: If it was written for other variables.
    """
    with np.load(folder / STATE) as state:
        if len(state.files) != len(variables) + 1:
            raise TrainingError(
                f"{folder.name}/{STATE} has {len(state.files) - 1} variables, the run "
                f"{len(variables)}: remove it to start anew"
            )
        for number, variable in enumerate(variables):
            _assign(variable, state[f"v{number:05d}"])


def _value(variable: tf.Variable) -> np.ndarray:
    """The value of a variable, of Keras or of TensorFlow; bfloat16, which numpy lacks, is wider."""
    tensor = tf.convert_to_tensor(variable)
    wide = tf.cast(tensor, tf.float32) if tensor.dtype == tf.bfloat16 else tensor
    value: np.ndarray = wide.numpy()
    return value


def _assign(variable: tf.Variable, value: np.ndarray) -> None:
    variable.assign(tf.cast(tf.constant(value), variable.dtype))

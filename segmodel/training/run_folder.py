"""The folder of a training run: what is where, its checkpoint, and whether it is finished."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from segmodel.errors import ConfigurationError, TrainingError
from segmodel.reports.kept_images import remove_kept
from segmodel.savedmodel.contract import Contract
from segmodel.savedmodel.folder import read_contract

CONFIGURATION, FINISHED = "configuration.json", "_SUCCESS"
BEST_WEIGHTS, STATE = "best.weights.h5", "state.npz"
# What a run makes, and a new one with other settings removes.
FOLDERS = ("model", "pictures", "validation", "checkpoint", "tensorboard")
MADE_IN_FOLDERS = (
    f"checkpoint/{STATE}*",
    "pictures/best-*.png",
    "pictures/classes.png",
    "pictures/worst-*.png",
    "tensorboard/events.out.tfevents.*",
    "validation/index.json",
)
FILES = (
    FINISHED,
    CONFIGURATION,
    "scores.json",
    "scores.csv",
    "history.jsonl",
    "confusion.png",
    "curves.png",
    "card.md",
    BEST_WEIGHTS,
    "failed_step.npz",
)


class RunFolder:
    """One training run on disk.

    Args:
        path: Folder of the run.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.model, self.checkpoint = path / "model", path / "checkpoint"
        self.history, self.best_weights = path / "history.jsonl", path / BEST_WEIGHTS

    def finished(self, identity: str, overwrite: bool) -> Contract | None:
        """The contract of the model if the folder holds this run and it is finished, else None.

        A run that may be replaced is removed.

        Args:
            identity: Digest of settings and data.
            overwrite: Whether another run, or this one, is replaced.

        Raises:
            ConfigurationError: If the folder holds another run, or files that are none of a run.
        """
        known = self._run()
        clash = [name for name in (*FOLDERS, *FILES) if (self.path / name).exists()]
        if known is None and clash:
            raise ConfigurationError(
                f"{self.path} holds {clash[0]} and no {CONFIGURATION}, so it is of no run: name "
                f"another --output"
            )
        # More than the configuration would be lost.
        has_weights = any(p.exists() for p in (self.checkpoint, self.model, self.best_weights))
        if known not in (None, identity) and has_weights and not overwrite:
            raise ConfigurationError(
                f"{self.path} holds a run with other settings or data: --overwrite replaces it, or "
                f"name another --output"
            )
        is_finished = (self.path / FINISHED).exists()
        if known == identity and is_finished and not overwrite:
            return read_contract(self.model)
        if known != identity or is_finished:
            self._clear()
        return None

    def begin(self, identity: str, configuration: dict[str, Any]) -> None:
        """Write the identity and the settings of the run, before any other file of it."""
        self.path.mkdir(parents=True, exist_ok=True)
        self.write_json(CONFIGURATION, {"run": identity} | configuration)

    def finish(self) -> None:
        """Mark the run as finished, and remove what only an unfinished run needs."""
        (self.path / FINISHED).touch()
        for left in (self.checkpoint, *self.path.glob(".model-*")):
            shutil.rmtree(left, ignore_errors=True)

    def save_best(self, network: keras.Model) -> None:
        """Replace the best weights."""
        draft = self.path / "draft.weights.h5"
        network.save_weights(draft)
        draft.replace(self.best_weights)

    def keep_batch(self, step: int, images: Any, truth: Any) -> str:
        """Save the batch of a step that failed; returns the name of the file."""
        path = self.path / "failed_step.npz"
        np.savez_compressed(path, step=step, images=_whole(images), truth=_whole(truth))
        return path.name

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        """Write a file of JSON, whole or not at all."""
        draft = self.path / f"{name}.part"
        draft.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
        draft.replace(self.path / name)

    def confusion(self) -> np.ndarray:
        """Confusion matrix of a finished run, `(classes, classes)` int64; rows are truth."""
        document = json.loads((self.path / "scores.json").read_text("utf-8"))
        return np.array(document["confusion"], np.int64)

    def _run(self) -> str | None:
        """Identity of the run that is there."""
        try:
            return str(json.loads((self.path / CONFIGURATION).read_text("utf-8"))["run"])
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(
                f"{self.path / CONFIGURATION} is of no run: name another --output"
            ) from error

    def _clear(self) -> None:
        """Remove what a run made, and nothing that anybody put beside it."""
        remove_kept(self.path / "validation")
        for left in (self.model, *self.path.glob(".model-*")):
            shutil.rmtree(left, ignore_errors=True)
        inside = (path for pattern in MADE_IN_FOLDERS for path in self.path.glob(pattern))
        for path in (*(self.path / name for name in FILES), *inside):
            path.unlink(missing_ok=True)
        for name in FOLDERS:
            if (self.path / name).is_dir() and not any((self.path / name).iterdir()):
                (self.path / name).rmdir()


def model_folder(path: str | Path) -> Path:
    """Folder of the SavedModel at a path: the path itself, or `model` in a training run."""
    folder = Path(path)
    return folder if (folder / "saved_model.pb").is_file() else folder / "model"


def _whole(batch: Any) -> np.ndarray:
    """A batch as one array, also where several devices share it."""
    parts = getattr(batch, "values", (batch,))
    return np.concatenate([np.asarray(part) for part in parts])


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
        np.savez(stream, progress=json.dumps(asdict(progress)), **arrays)
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
            variable.assign(tf.cast(tf.constant(state[f"v{number:05d}"]), variable.dtype))


def _value(variable: tf.Variable) -> np.ndarray:
    """The value of a variable, of Keras or of TensorFlow; bfloat16, which numpy lacks, is wider."""
    tensor = tf.convert_to_tensor(variable)
    wide = tf.cast(tensor, tf.float32) if tensor.dtype == tf.bfloat16 else tensor
    return np.asarray(wide)

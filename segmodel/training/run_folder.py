"""The folder of a training run: what is where, and whether it is finished."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np

from segmodel.errors import ConfigurationError
from segmodel.reports.kept_images import remove_kept
from segmodel.savedmodel.contract import Contract
from segmodel.savedmodel.folder import read_contract

CONFIGURATION, FINISHED = "configuration.json", "_SUCCESS"
BEST_WEIGHTS = "best.weights.h5"
# What a run makes, and a new one with other settings removes.
FOLDERS = ("model", "pictures", "validation", "checkpoint", "tensorboard")
MADE_IN_FOLDERS = (
    "checkpoint/state.npz*",
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
        self.name = path.name
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
        if known not in (None, identity) and self._has_weights() and not overwrite:
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

    def _has_weights(self) -> bool:
        """Whether more than the configuration would be lost."""
        return any((self.path / name).exists() for name in ("checkpoint", "model", BEST_WEIGHTS))

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

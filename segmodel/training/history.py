"""What each validation of a training run found, a line of JSON each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from segmodel.labels.confusion import Scores


@dataclass(frozen=True)
class Validation:
    """One validation.

    Args:
        step: Number of steps before it.
        stage: Variant of the network.
        loss: Mean loss of the steps since the last validation.
        learning_rate: Learning rate of the last step.
        times: Seconds of the steps since the last validation, and those of them that were spent
            waiting for data.
        scores: Scores on the validation set.
    """

    step: int
    stage: str
    loss: float
    learning_rate: float
    times: tuple[float, float]
    scores: Scores

    def to_json(self, names: Sequence[str]) -> dict[str, Any]:
        """The validation as a line of `history.jsonl` holds it; `names` are those of classes."""
        seconds, waited = self.times
        return {
            "step": self.step,
            "stage": self.stage,
            "loss": self.loss,
            "learning_rate": self.learning_rate,
            "seconds": round(seconds, 3),
            "waited_seconds": round(waited, 3),
            "scores": self.scores.to_json(names),
        }

    def scalars(self, names: Sequence[str]) -> dict[str, float | None]:
        """Values by their tag in TensorBoard; `names` are those of classes."""
        overall = {
            "loss": self.loss,
            "learning_rate": self.learning_rate,
            "mean_iou": self.scores.mean_iou,
            "pixel_accuracy": self.scores.pixel_accuracy,
        }
        return overall | {
            f"iou/{name}": value for name, value in zip(names, self.scores.iou, strict=True)
        }

    def log_line(self, names: Sequence[str]) -> str:
        """The validation as a line of text; `names` are those of classes."""
        iou = "  ".join(
            f"{name} {'-' if value is None else format(value, '.3f')}"
            for name, value in zip(names, self.scores.iou, strict=True)
        )
        seconds, waited = self.times
        mean = self.scores.mean_iou or 0.0
        return (
            f"step {self.step}  loss {self.loss:.4f}  mean IoU {mean:.3f}  {iou}  "
            f"({seconds:.0f} s, {waited / seconds if seconds else 0:.1%} of it waiting for data)"
        )


class History:
    """The file with a line for each validation.

    Args:
        path: Path of the file.
        names: Names of the classes.
        step: Steps that are done; lines of later steps, from an interrupted attempt, are removed.
    """

    def __init__(self, path: Path, names: Sequence[str], step: int) -> None:
        self._path, self._names = path, names
        text = path.read_text("utf-8") if path.is_file() else ""
        # A kill may have cut the last line.
        whole = [line for line in text.splitlines(True) if line.endswith("\n")]
        kept = [line for line in whole if json.loads(line)["step"] <= step]
        path.write_text("".join(kept), "utf-8")

    def write(self, validation: Validation) -> None:
        """Append a validation as a line."""
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(validation.to_json(self._names)) + "\n")


# TensorBoard's plugins that show values, and the classes of values, without which it skips them:
# 1 are scalars, 3 are blobs.
SCALARS = tf.compat.v1.SummaryMetadata(plugin_data={"plugin_name": "scalars"}, data_class=1)
IMAGES = tf.compat.v1.SummaryMetadata(plugin_data={"plugin_name": "images"}, data_class=3)


class TensorBoardLog:
    """Events of one run for TensorBoard; each start of the run writes a file of its own.

    Args:
        folder: Folder of the event files.
    """

    def __init__(self, folder: Path) -> None:
        self._writer = tf.summary.create_file_writer(str(folder))

    def write(
        self, step: int, scalars: Mapping[str, float | None], pictures: Mapping[str, np.ndarray]
    ) -> None:
        """Write values and pictures of one step.

        Args:
            step: Number of the step.
            scalars: Values by tag; None is left out.
            pictures: `(height, width, 3)` uint8 by tag.
        """
        with self._writer.as_default():
            for tag, value in scalars.items():
                if value is not None:
                    tf.summary.write(tag, float(value), step, SCALARS)
            for tag, picture in pictures.items():
                height, width = picture.shape[:2]
                content = tf.stack([str(width), str(height), tf.io.encode_png(picture)])
                tf.summary.write(tag, content, step, IMAGES)
        self._writer.flush()

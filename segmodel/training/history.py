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
        step: After which it was.
        stage: Variant of the network.
        loss: Mean of the steps since the last one.
        learning_rate: Of the last step.
        times: Seconds of the steps since the last one, and of them those that waited for data.
        scores: On the validation set.
    """

    step: int
    stage: str
    loss: float
    learning_rate: float
    times: tuple[float, float]
    scores: Scores

    def to_json(self, names: Sequence[str]) -> dict[str, Any]:
        """As in `history.jsonl`."""
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
        """As TensorBoard shows them, by tag."""
        overall = {
            "loss": self.loss,
            "learning_rate": self.learning_rate,
            "mean_iou": self.scores.mean_iou,
            "pixel_accuracy": self.scores.pixel_accuracy,
        }
        return overall | {
            f"iou/{name}": value for name, value in zip(names, self.scores.iou, strict=True)
        }

    def line(self, names: Sequence[str]) -> str:
        """As the log shows it."""
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
        path: Of the file.
        names: Of the classes.
        step: Lines of later steps are of an attempt that was interrupted, and go.
    """

    def __init__(self, path: Path, names: Sequence[str], step: int) -> None:
        self._path, self._names = path, names
        kept = [line for line in _lines(path) if json.loads(line)["step"] <= step]
        path.write_text("".join(kept), "utf-8")

    def write(self, validation: Validation) -> None:
        """Add a line."""
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(validation.to_json(self._names)) + "\n")


def _lines(path: Path) -> list[str]:
    """Whole lines; the last may have been cut by a kill."""
    if not path.is_file():
        return []
    return [line for line in path.read_text("utf-8").splitlines(True) if line.endswith("\n")]


# Names by which TensorBoard knows which of its plugins shows a value.
SCALARS, IMAGES = "scalars", "images"


class EventLog:
    """Events of one run, one file a start.

    Args:
        folder: Of the event files.
    """

    def __init__(self, folder: Path) -> None:
        self._writer = tf.summary.create_file_writer(str(folder))

    def write(
        self, step: int, scalars: Mapping[str, float | None], pictures: Mapping[str, np.ndarray]
    ) -> None:
        """Write what one step has to show.

        Args:
            step: Its number.
            scalars: Values by tag; None is left out.
            pictures: `(height, width, 3)` uint8 by tag.
        """
        with self._writer.as_default():
            for tag, value in scalars.items():
                if value is not None:
                    tf.summary.write(tag, float(value), step, _shown_by(SCALARS))
            for tag, picture in pictures.items():
                height, width = picture.shape[:2]
                encoded = tf.io.encode_png(picture)
                sizes = tf.constant([str(width), str(height)])
                content = tf.concat([sizes, encoded[None]], axis=0)
                tf.summary.write(tag, content, step, _shown_by(IMAGES))
        self._writer.flush()


def _shown_by(plugin: str) -> tf.compat.v1.SummaryMetadata:
    metadata = tf.compat.v1.SummaryMetadata()
    metadata.plugin_data.plugin_name = plugin
    # A class of values, without which TensorBoard skips them: 1 are scalars, 3 are blobs.
    metadata.data_class = 1 if plugin == SCALARS else 3
    return metadata

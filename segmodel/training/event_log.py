"""TensorBoard event files of a training run: scores and pictures by step.

Written with TensorFlow alone; TensorBoard is needed to look at them, not to train.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

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

"""TensorBoard events, read back with TensorFlow."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from segmodel.training.history import TensorBoardLog


def events(folder) -> list:
    (file,) = folder.glob("events.out.tfevents.*")
    found = []
    for record in tf.data.TFRecordDataset(str(file)):
        event = tf.compat.v1.Event.FromString(record.numpy())
        found += [(event.step, value) for value in event.summary.value]
    return found


def test_scalars_and_pictures_are_written_for_the_plugins_that_show_them(tmp_path):
    picture = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    TensorBoardLog(tmp_path).write(7, {"loss": 0.25, "iou/absent": None}, {"validation/a": picture})

    (first, loss), (second, shown) = events(tmp_path)

    assert (first, loss.tag, tf.make_ndarray(loss.tensor)) == (7, "loss", 0.25)
    assert loss.metadata.plugin_data.plugin_name == "scalars"
    assert (second, shown.tag) == (7, "validation/a")
    assert shown.metadata.plugin_data.plugin_name == "images"
    width, height, encoded = tf.make_ndarray(shown.tensor)
    assert (width, height) == (b"3", b"2")
    np.testing.assert_array_equal(tf.io.decode_png(encoded).numpy(), picture)

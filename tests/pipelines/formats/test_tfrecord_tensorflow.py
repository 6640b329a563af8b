"""TFRecord shards as TensorFlow writes and reads them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.fakes import brightness_labels
from tests.pipelines.corpus import pixels, png, run_unit, units_in


@pytest.mark.parametrize("compression", ["", "GZIP"])
def test_shards_go_from_tensorflow_to_tensorflow(tmp_path, work, compression):
    import tensorflow as tf

    images = [pixels(20 + number, 30, number) for number in range(3)]
    path = tmp_path / f"s.tfrecord{'.gz' if compression else ''}"
    with tf.io.TFRecordWriter(str(path), compression or None) as writer:
        for number, image in enumerate(images):
            feature = {
                "image/encoded": tf.train.Feature(
                    bytes_list=tf.train.BytesList(value=[png(image)])
                ),
                "image/filename": tf.train.Feature(
                    bytes_list=tf.train.BytesList(value=[f"é {number}.png".encode()])
                ),
                "score": tf.train.Feature(float_list=tf.train.FloatList(value=[0.5, 1.5])),
                "boxes": tf.train.Feature(int64_list=tf.train.Int64List(value=[])),
            }
            example = tf.train.Example(features=tf.train.Features(feature=feature))
            writer.write(example.SerializeToString())
    (unit,) = units_in(work, path)
    run_unit(unit, work)

    written = Path(work.run.root) / "labels" / tmp_path.name / path.name
    wanted = {
        "image/filename": tf.io.FixedLenFeature([], tf.string),
        "image/height": tf.io.FixedLenFeature([], tf.int64),
        "image/width": tf.io.FixedLenFeature([], tf.int64),
        "image/segmentation/class/encoded": tf.io.FixedLenFeature([], tf.string),
    }
    records = list(tf.data.TFRecordDataset(str(written), compression_type=compression))
    assert len(records) == 3
    for number, (data, image) in enumerate(zip(records, images, strict=True)):
        features = tf.io.parse_single_example(data, wanted)
        assert features["image/filename"].numpy().decode() == f"é {number}.png"
        assert (features["image/height"], features["image/width"]) == image.shape[:2]
        content = features["image/segmentation/class/encoded"].numpy()
        actual = np.asarray(Image.open(io.BytesIO(content)))
        np.testing.assert_array_equal(actual, brightness_labels(image))

"""Small inputs of every kind, models, a description of one from elsewhere, and training data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from tests.end_to_end.conftest import encoded_images, noise, write_scene
from tests.end_to_end.containers import WRITERS, write_files
from tests.fakes import brightness_labels
from tests.models import export_brightness
from tests.pipelines import train_corpus

CLASSES = """\
[[classes]]
id = 0
name = "dark"
color = "#0A0A50"
[[classes]]
id = 3
name = "middle"
color = "#5AA046"
[[classes]]
id = 7
name = "bright"
color = "#F0E6C8"
"""
DESCRIPTION = f"""\
[model]
name = "elsewhere"
bands = ["red", "green", "blue"]
dtype = "uint8"
[window]
halo = 0
{CLASSES}"""
ZONES = """\
{"type": "FeatureCollection", "features": [{"type": "Feature", "properties": {"name": "west"},
"geometry": {"type": "Polygon", "coordinates":
[[[15.0, 53.0], [15.01, 53.0], [15.01, 55.0], [15.0, 55.0], [15.0, 53.0]]]}}]}
"""


def write_foreign(path: Path) -> None:
    """A SavedModel without a contract."""
    import tensorflow as tf

    spec = tf.TensorSpec((None, None, None, 3), tf.float32, "images")

    @tf.function(input_signature=[spec])
    def scores(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"logits": images - 100.0}

    tf.saved_model.save(tf.Module(), str(path), signatures={"serving_default": scores})


def write_kit(folder: Path) -> None:
    """All of it."""
    images = encoded_images(3)
    write_files(folder / "photos", images)
    (folder / "masks").mkdir()
    for name in images:
        labels = brightness_labels(np.asarray(Image.open(folder / "photos" / name)))
        Image.fromarray(labels).save(folder / "masks" / name)
    for suffix in ("tfrecord", "tar", "parquet"):
        WRITERS[suffix](folder / "shards" / f"part.{suffix}", images)
    write_scene(folder / "scenes" / "scene.tif", noise(99, 150, 200))
    (folder / "zones.geojson").write_text(ZONES)
    (folder / "classes.toml").write_text(CLASSES)
    (folder / "wrap.toml").write_text(DESCRIPTION)
    export_brightness(folder / "model")
    write_foreign(folder / "foreign")
    train_corpus.write_training(folder)

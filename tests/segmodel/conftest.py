"""Models of others, exported once in a session."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from segmodel.labels.classes import ClassTable, LabelClass
from segmodel.savedmodel.contract import Contract
from tests.fakes import contract

# A script, which makes devices of its own: nothing to look for doctests in.
collect_ignore = ["two_devices.py"]
FOREIGN_CLASSES = ClassTable(
    (
        LabelClass(300, "water", (0, 0, 255)),
        LabelClass(2, "land", (0, 255, 0)),
        LabelClass(40, "cloud", (255, 255, 255)),
    )
)


class Exported(NamedTuple):
    """A SavedModel, the function it was made from, and its contract."""

    path: Path
    function: object
    contract: Contract


@pytest.fixture(scope="session")
def foreign_savedmodel(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Float32 input, own normalization, logits at a quarter of the resolution, ids 300, 2, 40."""
    import tensorflow as tf

    from segmodel.savedmodel.export import export_savedmodel

    weights = tf.Variable(np.random.default_rng(3).normal(size=(1, 1, 2, 3)), dtype=tf.float32)

    def logits(values: tf.Tensor) -> tf.Tensor:
        normalized = (values - 50.0) / 25.0
        small = tf.nn.avg_pool2d(normalized, 4, 4, "VALID")
        return tf.nn.conv2d(small, weights, 1, "VALID")

    path = tmp_path_factory.mktemp("models") / "foreign"
    given = contract(
        bands=("vv", "vh"),
        dtype="float32",
        value_range=(0.0, 100.0),
        nodata_fill=(50.0, 50.0),
        classes=FOREIGN_CLASSES,
        stride=4,
        receptive_field=13,
    )
    written = export_savedmodel(logits, given, path, measure_memory=False)
    return Exported(path, logits, written)

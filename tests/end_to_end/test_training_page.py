"""What docs/training.md shows is tried."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from segmodel.configuration_file import parse_configuration
from segmodel.predictor import Predictor
from tests.end_to_end.conftest import ROOT

tf = pytest.importorskip("tensorflow")

PAGE = (ROOT / "docs" / "training.md").read_text("utf-8")


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return found


def test_the_configuration_of_the_page_is_one():
    config = parse_configuration(tomllib.loads(block("toml")), Path("streets"))

    assert config.model.name == "streets"
    assert config.data.images == ("streets/training/images",)
    assert config.classes.names == ("land", "road")


def test_the_foreign_model_of_the_page_is_wrapped(tmp_path, monkeypatch):
    """A SavedModel of another hand: its own input name, scaling and a quarter of the resolution."""
    foreign = tf.Module()
    spec = tf.TensorSpec((None, None, None, 3), tf.float32, "input_3")
    bright = tf.function(
        lambda input_3: {
            "logits": tf.nn.avg_pool2d(
                tf.concat([-input_3[..., :1], input_3[..., :1]], -1), 4, 4, "VALID"
            )
        },
        input_signature=[spec],
    )
    tf.saved_model.save(foreign, str(tmp_path / "foreign"), signatures=bright)
    monkeypatch.chdir(tmp_path)

    exec(compile(block("python"), "docs/training.md", "exec"), {})

    predictor = Predictor.load(tmp_path / "wrapped")
    for value, expected in ((0, 0), (255, 1)):
        image = np.full((10, 13, 3), value, np.uint8)
        assert (predictor.segment(image) == expected).all()

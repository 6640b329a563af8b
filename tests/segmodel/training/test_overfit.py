"""Every backbone and every loss learns four images by heart, by the code of a training run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from segmodel.evaluation.evaluate import evaluate
from segmodel.pairs.pairs import TrainingData
from segmodel.pairs.stats import collect_stats
from segmodel.savedmodel.keras_model import KerasModel
from segmodel.training.configuration import (
    AugmentationConfig,
    Configuration,
    DataConfig,
    ModelConfig,
    TrainingConfig,
)
from segmodel.training.release import validation_layout
from segmodel.training.run_folder import RunFolder
from segmodel.training.trainer import Hooks, TrainingRun, network_configuration
from tests.segmodel.made_pairs import ArrayPair, blocks, table

IMAGES = blocks(4, classes=2, bands=3, dtype="uint8")
# Long enough for the halo and a core in a fixed window, see below.
WIDE_IMAGES = blocks(4, classes=2, bands=3, dtype="uint8", side=96)


def mean_iou(
    folder, images: tuple[ArrayPair, ...], model: dict, training: dict | None = None
) -> float:
    """Of the images that were learned, by the network that would be exported."""
    config = Configuration(
        DataConfig(),
        # Statistics of the last few steps: with 0.9 they would be those of the first weights.
        ModelConfig(**{"name": "blocks", "width": 0.25, "batch_norm_momentum": 0.5} | model),
        table(2),
        TrainingConfig(
            **{
                "steps": 20,
                "batch": 4,
                "crop": images[0].width,
                "learning_rate": 1e-2,
                "warmup_steps": 1,
                "weight_decay": 0.0,
                "validate_every": 10,
            }
            | (training or {})
        ),
        AugmentationConfig(flips=False, brightness=0.0, contrast=0.0),
    )
    output = RunFolder(folder)
    output.begin("identity", {})
    stats = collect_stats(images, config.classes, allow_empty=False)
    data = TrainingData(images, images)
    run = TrainingRun(config, network_configuration(config), data, stats, output, Hooks())
    network = run.fit("identity")
    contract = run.draft(network)
    layout = validation_layout(contract)
    found = evaluate(KerasModel(network, contract), images, layout).scores.mean_iou
    assert found is not None
    return found


def enlarged(pair: ArrayPair) -> ArrayPair:
    """Twice as high and wide."""
    image, indices = (values.repeat(2, 0).repeat(2, 1) for values in (pair.image, pair.indices))
    return replace(pair, image=image, indices=indices)


@pytest.mark.parametrize("variant", ["fcn-32s", "fcn-16s"])
def test_coarse_variants_learn_four_images_by_heart(tmp_path, variant):
    # Blocks of 64 pixels: smaller ones have more edge than they can draw.
    images = tuple(enlarged(pair) for pair in IMAGES)
    model = {"backbone": "vgg16", "variant": variant}
    assert mean_iou(tmp_path, images, model, {"steps": 30, "optimizer": "sgd"}) > 0.95


@pytest.mark.parametrize(
    ("backbone", "variant"),
    [("resnet50", "fcn-4s"), ("resnet50_v2", "fcn-8s"), ("mobilenet_v2", "fcn-4s")],
)
def test_fine_variants_learn_four_images_by_heart(tmp_path, backbone, variant):
    assert mean_iou(tmp_path, IMAGES, {"backbone": backbone, "variant": variant}) > 0.95


def test_a_backbone_with_global_context_learns_four_images_by_heart(tmp_path, monkeypatch):
    # Squeeze-and-excite averages over the window, so it is as large as the crops here.
    monkeypatch.setattr("segmodel.training.release.FIXED_WINDOW_PX", 96)
    model = {"backbone": "efficientnet_v2_s", "variant": "fcn-8s", "width": 0.1}
    assert mean_iou(tmp_path, WIDE_IMAGES, model, {"validate_every": 20}) > 0.95


@pytest.mark.parametrize(
    ("variant", "loss"),
    [
        ("fcn-8s", {"loss": {"cross_entropy": 1.0}}),
        ("fcn-4s", {"class_weights": "median_frequency"}),
        ("fcn-8s", {"label_smoothing": 0.1}),
        ("fcn-8s", {"loss": {"focal": 1.0}}),
        ("fcn-8s", {"loss": {"dice": 1.0}}),
        ("fcn-4s", {"loss": {"cross_entropy": 0.5, "focal": 0.5, "dice": 1.0}}),
    ],
    ids=["cross_entropy", "class_weights", "label_smoothing", "focal", "dice", "sum"],
)
def test_every_loss_learns_four_images_by_heart(tmp_path, variant, loss):
    model = {"backbone": "vgg16", "variant": variant}
    training = {"optimizer": "sgd", "steps": 30}
    assert mean_iou(tmp_path, IMAGES, model, training | loss) > 0.95


def test_four_images_are_not_known_before_they_are_learned(tmp_path):
    model = {"backbone": "vgg16", "variant": "fcn-8s"}
    training = {"steps": 1, "learning_rate": 1e-9}
    assert mean_iou(tmp_path, IMAGES, model, training) < 0.6

"""Training: pairs of image and mask in, a SavedModel with its contract and scores out."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from segmodel.augment import augment
from segmodel.classes import ClassTable
from segmodel.configuration import Configuration, TrainingConfig
from segmodel.confusion import Scores, confusion_matrix
from segmodel.contract import Contract, MeasuredHalo
from segmodel.dataset import MaskCode, Pair, random_crops, read_folders
from segmodel.engine import ArrayRaster, Engine, Job, Labelled
from segmodel.errors import ConfigurationError, TrainingError
from segmodel.export import check_replaceable, export_savedmodel
from segmodel.losses import cross_entropy
from segmodel.network import NetworkConfig, build_network, preprocessing, reach
from segmodel.windows import Layout

VALUE_RANGE = (0.0, 255.0)
VALIDATION_WINDOW_PX, VALIDATION_HALO_PX = 1024, 128


@dataclass(frozen=True)
class Report:
    """One line of the history: loss is the mean since the last one, in nats."""

    step: int
    loss: float
    learning_rate: float
    scores: Scores


def train(
    config: Configuration, output: str | Path, tell: Callable[[str], None] = lambda line: None
) -> Contract:
    """Train a network, keep the weights with the best mean IoU, and export them.

    Args:
        config: The whole run.
        output: Folder for `model/` (the SavedModel), `history.jsonl` and `best.weights.h5`.
        tell: Is given a line of text at every validation.

    Returns:
        The contract of the exported model, with its scores on the validation set.

    Raises:
        ConfigurationError: If the configuration cannot be carried out.
        InputError: If an image or a mask cannot be used; names the file.
        TrainingError: If the loss is no longer a number.
        ExportError: If the SavedModel differs from the network in memory.
    """
    folder = Path(output)
    check_replaceable(folder / "model")
    keras.utils.set_random_seed(config.training.seed)
    network_config = _network_config(config)
    training, validation = _read_data(config)
    network = build_network(network_config)
    fill = _fill(network_config)
    in_memory = NetworkInMemory(network, config.classes, fill, network_config.stride)
    tell(
        f"{config.model.variant} {config.model.backbone}: {network.count_params():,} weights; "
        f"{len(training)} training and {len(validation)} validation images"
    )
    folder.mkdir(parents=True, exist_ok=True)

    optimizer = _optimizer(config.training)
    step_function = _training_step(network, optimizer, config.training.class_weights)
    best, best_path, losses = -1.0, folder / "best.weights.h5", []
    with (folder / "history.jsonl").open("w", encoding="utf-8") as history:
        for step, (images, truth) in enumerate(_batches(training, config.training, fill), 1):
            losses.append(step_function(images, truth))
            if step % config.training.validate_every and step != config.training.steps:
                continue
            if not math.isfinite(loss := float(np.mean([float(x) for x in losses]))):
                raise TrainingError(
                    f"the loss is {loss} at step {step}: lower training.learning_rate"
                )
            scores = evaluate(in_memory, validation)
            rate = float(np.asarray(optimizer.learning_rate))
            report = Report(step, loss, rate, scores)
            history.write(json.dumps(dataclasses.asdict(report)) + "\n")
            history.flush()
            tell(_line(report, config.classes))
            losses.clear()
            if (scores.mean_iou or 0.0) > best:
                best = scores.mean_iou or 0.0
                network.save_weights(best_path)

    network.load_weights(best_path)
    scores = evaluate(in_memory, validation)
    contract = _contract(config, network_config, network, scores, len(training))
    samples = [pair.image[:2048, :2048] for pair in validation[:4]]
    return export_savedmodel(network, contract, folder / "model", samples)


def evaluate(model: NetworkInMemory, pairs: Sequence[Pair]) -> Scores:
    """Scores of the network in memory over all pixels of `pairs`, by windows."""
    classes = model.classes
    layout = Layout(VALIDATION_WINDOW_PX, VALIDATION_HALO_PX, model.stride)
    jobs = [Job(pair.name, partial(ArrayRaster, pair.image)) for pair in pairs]
    index = np.zeros(classes.nodata + 1, np.int64)
    index[list(classes.ids)] = np.arange(len(classes.ids))
    total = np.zeros((len(classes.ids),) * 2, np.int64)
    for pair, outcome in zip(pairs, Engine(model, layout).run(jobs), strict=True):
        assert isinstance(outcome, Labelled)
        total += confusion_matrix(pair.truth, index[outcome.labels], len(classes.ids))
    return Scores.of(total)


class NetworkInMemory:
    """The network as a model of the engine, padded to its stride."""

    def __init__(
        self, network: keras.Model, classes: ClassTable, fill: Sequence[float], stride: int
    ) -> None:
        self.classes, self.stride = classes, stride
        self.fill = np.asarray(fill, np.uint8)
        self._ids = np.array(classes.ids, classes.label_dtype)
        self._best = tf.function(
            lambda images: tf.argmax(network(images, training=False), axis=-1),
            input_signature=[tf.TensorSpec((None, None, None, self.fill.size), tf.float32)],
        )

    def labels(self, images: np.ndarray) -> np.ndarray:
        height, width = images.shape[1:3]
        below, right = -height % self.stride, -width % self.stride
        padded = np.empty((len(images), height + below, width + right, self.fill.size), np.float32)
        padded[...] = self.fill
        padded[:, :height, :width] = images
        return self._ids[self._best(padded).numpy()[:, :height, :width]]

    def labels_and_confidence(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        raise NotImplementedError("validation asks for labels only")


def _training_step(
    network: keras.Model, optimizer: keras.optimizers.Optimizer, class_weights: Sequence[float]
) -> Callable:
    @tf.function
    def step(images: tf.Tensor, truth: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = cross_entropy(truth, network(images, training=True), class_weights)
        gradients = tape.gradient(loss, network.trainable_variables)
        optimizer.apply_gradients(zip(gradients, network.trainable_variables, strict=True))
        return loss

    return step


def _optimizer(config: TrainingConfig) -> keras.optimizers.Optimizer:
    """AdamW with a linear warm-up and a cosine decay to 0."""
    warmup = min(config.warmup_steps, config.steps - 1)
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup else config.learning_rate,
        warmup_target=config.learning_rate if warmup else None,
        warmup_steps=warmup,
        decay_steps=max(1, config.steps - warmup),
    )
    return keras.optimizers.AdamW(schedule, weight_decay=config.weight_decay, global_clipnorm=1.0)


def _batches(
    pairs: Sequence[Pair], config: TrainingConfig, fill: Sequence[float]
) -> tf.data.Dataset:
    """As many batches of augmented crops as there are steps."""
    bands = pairs[0].image.shape[2]
    crops = tf.data.Dataset.from_generator(
        lambda: random_crops(pairs, config.crop, fill, config.seed),
        output_signature=(
            tf.TensorSpec((config.crop, config.crop, bands), pairs[0].image.dtype),
            tf.TensorSpec((config.crop, config.crop), tf.int16),
        ),
    )

    def change(number: tf.Tensor, crop: tuple[tf.Tensor, tf.Tensor]):
        seed = tf.stack([config.seed, tf.cast(number, tf.int32)])
        return augment(crop[0], crop[1], seed, config, VALUE_RANGE)

    changed = crops.enumerate().map(change, num_parallel_calls=2)
    return changed.batch(config.batch, drop_remainder=True).take(config.steps).prefetch(2)


def _read_data(config: Configuration) -> tuple[list[Pair], list[Pair]]:
    data, bands = config.data, len(config.model.bands)
    code = MaskCode(config.classes, data.mask_encoding, data.ignore_colors, data.ignore_ids)
    return (
        read_folders(data.images, data.masks, bands, code),
        read_folders(data.validation_images, data.validation_masks, bands, code),
    )


def _network_config(config: Configuration) -> NetworkConfig:
    network = NetworkConfig(
        classes=len(config.classes.ids),
        variant=config.model.variant,
        backbone=config.model.backbone,
        backbone_weights=config.model.backbone_weights,
        width=config.model.width,
        bands=len(config.model.bands),
        value_range=VALUE_RANGE,
    )
    if config.training.crop % network.stride:
        raise ConfigurationError(
            f"training.crop must be a multiple of {network.stride}, got {config.training.crop}"
        )
    return network


def _fill(config: NetworkConfig) -> list[float]:
    """The raw value nearest to the one that preprocessing turns into 0."""
    return [float(round(mean)) for mean in preprocessing(config)[0]]


def _contract(
    config: Configuration,
    network_config: NetworkConfig,
    network: keras.Model,
    scores: Scores,
    images: int,
) -> Contract:
    gsd = config.model.gsd_range_m
    seen = reach(network)
    return Contract(
        name=config.model.name,
        architecture=f"{config.model.variant} {config.model.backbone}",
        bands=config.model.bands,
        dtype="uint8",
        value_range=VALUE_RANGE,
        nodata_fill=tuple(_fill(network_config)),
        classes=config.classes,
        stride=network_config.stride,
        receptive_field=seen.receptive_field_px,
        halo=MeasuredHalo(seen.halo_px, VALIDATION_WINDOW_PX, None),
        gsd_range_m=(gsd[0], gsd[1]) if gsd else None,
        training_data={"about": config.data.about, "images": images},
        metrics={
            "mean_iou": scores.mean_iou,
            "pixel_accuracy": scores.pixel_accuracy,
            "iou": dict(zip(config.classes.names, scores.iou, strict=True)),
        },
    )


def _line(report: Report, classes: ClassTable) -> str:
    iou = "  ".join(
        f"{name} {'-' if value is None else format(value, '.3f')}"
        for name, value in zip(classes.names, report.scores.iou, strict=True)
    )
    mean = report.scores.mean_iou or 0.0
    return f"step {report.step}  loss {report.loss:.4f}  mean IoU {mean:.3f}  {iou}"

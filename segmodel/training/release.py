"""From the best weights of a run to a model with contract, scores and card."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import keras
import numpy as np

from segmodel.errors import ExportError
from segmodel.evaluation.calibration import calibrate, sample_logits
from segmodel.evaluation.evaluate import evaluate
from segmodel.labels.confusion import Scores
from segmodel.networks.network import NetworkConfig, nodata_fill, receptive_field
from segmodel.pairs.pairs import Pair, TrainingData
from segmodel.reports.card import write_card, write_scores
from segmodel.reports.kept_images import keep_validation
from segmodel.savedmodel.contract import Contract, MeasuredHalo
from segmodel.savedmodel.export import FIXED_WINDOW_PX, export_savedmodel
from segmodel.savedmodel.folder import write_contract
from segmodel.savedmodel.halo import CORE_PX, HaloSample, Measuring
from segmodel.savedmodel.keras_model import KerasModel
from segmodel.savedmodel.predictor import Predictor
from segmodel.tiling.windows import Layout, Window
from segmodel.training.configuration import Configuration
from segmodel.training.run_folder import RunFolder

WINDOW_PX, MAX_HALO_PX = 1024, 128
# What the halo is measured on: so many pixels, in windows of up to three cores a side.
MAX_SAMPLE_PIXELS, SAMPLE_PX = 1 << 24, 3 * CORE_PX
# A part of what the training took.
MAX_MEASURE_SECONDS = 3600.0
# Scores of the whole set that the contract holds.
METRICS = ("mean_iou", "pixel_accuracy", "frequency_weighted_iou", "mean_f1", "iou", "f1")

Item = TypeVar("Item")


def draft_contract(
    config: Configuration, network_config: NetworkConfig, network: keras.Model, images: int
) -> Contract:
    """What is known of a model before it is exported: all but what is measured.

    Args:
        config: Settings of the run.
        network_config: Configuration of the network.
        network: Trained network.
        images: Number of training images.
    """
    model, seen, stride = config.model, receptive_field(network), network_config.stride
    gsd = model.gsd_range_m
    return Contract(
        name=model.name,
        architecture=f"{model.variant} {model.backbone}",
        bands=model.bands,
        dtype=model.dtype,
        value_range=model.limits,
        nodata_fill=nodata_fill(network_config, model.dtype),
        classes=config.classes,
        stride=stride,
        receptive_field=seen.size_px if seen else None,
        halo=MeasuredHalo(seen.halo_px if seen else stride, WINDOW_PX, None),
        fixed_window=None if seen else FIXED_WINDOW_PX,
        gsd_range_m=(gsd[0], gsd[1]) if gsd else None,
        training_data={"about": config.data.about, "images": images},
    )


def validation_layout(contract: Contract) -> Layout:
    """Layout of windows for validation while the halo is not measured yet."""
    return contract.layout(WINDOW_PX, min(MAX_HALO_PX, contract.halo.pixels))


def release(
    config: Configuration,
    network: keras.Model,
    contract: Contract,
    data: TrainingData,
    folder: RunFolder,
    log: Callable[[str], None] = lambda line: None,
) -> Contract:
    """Export a network, score what was exported, and describe it.

    Args:
        config: Settings of the run.
        network: Network with the weights to export.
        contract: Draft of the contract, from `draft_contract`.
        data: Pairs, of which those for validation measure the model.
        folder: Folder of the run.
        log: Called with lines of text while halo and stride are measured.

    Returns:
        The contract as written, with scores.

    Raises:
        ExportError: If scores are below the floors of the configuration, or the SavedModel gives
            other labels than the network.
    """
    model = KerasModel(network, contract)
    if config.export.min_iou:
        scores = evaluate(model, data.validation, validation_layout(contract)).scores
        check_min_iou(config, scores, "nothing was exported")
    if config.export.calibrate:
        side = contract.fixed_window or WINDOW_PX
        sampled = sample_logits(model.logits, data.validation, contract.fill, side, contract.stride)
        contract = replace(contract, calibration=calibrate(*sampled))
    samples = halo_samples(data.validation, contract.fill)
    measuring = Measuring(MAX_MEASURE_SECONDS, log)
    contract = export_savedmodel(network, contract, folder.model, samples, measuring=measuring)
    predictor, layout = Predictor.load(folder.model, trust=True), contract.layout(WINDOW_PX)
    evaluation = keep_validation(
        folder.path / "validation", predictor, data.validation, layout, contract
    )
    found = evaluation.scores.to_json(config.classes.names)
    contract = replace(contract, metrics={name: found[name] for name in METRICS})
    write_contract(contract, folder.model)
    write_scores(folder.path, evaluation, config.classes)
    write_card(folder.path, contract)
    return contract


def check_min_iou(config: Configuration, scores: Scores, then: str) -> None:
    """Refuse a model that is not as good as was asked for.

    Args:
        config: Settings of the run, with the floors.
        scores: Scores on validation.
        then: What happens to a model that is worse, for the message.

    Raises:
        ExportError: Names the classes, their IoU and what was asked for.
    """
    found = dict(zip(config.classes.names, scores.iou, strict=True)) | {"mean": scores.mean_iou}
    low = [
        f"{name} {found[name] or 0.0:.3f} (asked for {least:g})"
        for name, least in config.export.min_iou.items()
        if (found[name] or 0.0) < least
    ]
    if low:
        raise ExportError(
            f"IoU on validation is below --min_iou for {', '.join(low)}: {then}; "
            f"train longer or on more data, or lower it"
        )


def halo_samples(pairs: Sequence[Pair], fill: np.ndarray) -> list[HaloSample]:
    """Windows spread over the pairs, on which the halo is measured, with where truth counts.

    Args:
        pairs: Validation pairs; those larger than a core are taken if there are any, and one
            window of each before a second one.
        fill: `(bands,)` raw values that stand for nodata.
    """
    large = [pair for pair in pairs if max(pair.height, pair.width) > CORE_PX]
    random = np.random.default_rng(0)
    of_pairs = [
        [(pair, window) for window in _shuffled(halo_windows(pair.height, pair.width), random)]
        for pair in _shuffled(large or pairs, random)
    ]
    found: list[HaloSample] = []
    left = MAX_SAMPLE_PIXELS
    for pair, window in filter(None, itertools.chain(*itertools.zip_longest(*of_pairs))):
        if found and window.pixels > left:
            break
        counted = pair.truth(window) >= 0
        if counted.any():
            left -= window.pixels
            found.append(HaloSample(pair.pixels(window).filled(fill), counted))
    return found


def halo_windows(height: int, width: int) -> list[Window]:
    """The middle of an image, or of each of as many equal parts as have room for a window.

    >>> halo_windows(1000, 2000)
    [Window(row=0, column=232, height=1000, width=1536)]
    >>> [window.column for window in halo_windows(8, 3200)]
    [32, 1632]
    """

    def starts(length: int) -> list[int]:
        side, parts = min(SAMPLE_PX, length), max(1, length // SAMPLE_PX)
        return [((2 * n + 1) * length // parts - side) // 2 for n in range(parts)]

    shape = min(SAMPLE_PX, height), min(SAMPLE_PX, width)
    return [Window(row, column, *shape) for row in starts(height) for column in starts(width)]


def _shuffled(items: Sequence[Item], random: np.random.Generator) -> list[Item]:
    return [items[n] for n in random.permutation(len(items))]

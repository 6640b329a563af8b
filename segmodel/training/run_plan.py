"""What a training run is made of: its network, its stages, and what makes it another run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass

from segmodel.errors import ConfigurationError
from segmodel.networks.network import NetworkConfig
from segmodel.pairs.pairs import TrainingData
from segmodel.pairs.stats import DatasetStats
from segmodel.savedmodel.folder import fingerprint
from segmodel.training.configuration import NO_FILES, Configuration
from segmodel.training.configuration_file import to_document
from segmodel.training.run_folder import model_folder


@dataclass(frozen=True)
class Stage:
    """Steps `first` to `last` of a run, ends included, with one variant of the network."""

    number: int
    variant: str
    first: int
    last: int


def stages(config: Configuration) -> Iterator[Stage]:
    """The stages of a run, with about equal numbers of steps."""
    variants = config.training.stages or (config.model.variant,)
    count, first = len(variants), 1
    for number, variant in enumerate(variants):
        last = config.training.steps * (number + 1) // count
        yield Stage(number, variant, first, last)
        first = last + 1


def network_configuration(config: Configuration) -> NetworkConfig:
    """The network that a configuration asks for.

    Raises:
        ConfigurationError: If there is none, or its stride does not fit the crops.
    """
    model = config.model
    network = NetworkConfig(
        classes=len(config.classes.ids),
        variant=model.variant,
        backbone=model.backbone,
        backbone_weights=model.backbone_weights,
        width=model.width,
        fc_layers=model.fc_layers,
        fc_channels=model.fc_channels,
        bands=model.bands,
        value_range=model.limits,
        batch_norm_momentum=model.batch_norm_momentum,
        precision=config.training.precision,
    )
    if config.training.crop % network.stride:
        raise ConfigurationError(
            f"training.crop must be a multiple of {network.stride}, got {config.training.crop}"
        )
    return network


def run_digest(
    config: Configuration, data: TrainingData, stats: tuple[DatasetStats, DatasetStats]
) -> str:
    """SHA-256 of what a run depends on: settings, weights to start from, pixels and masks.

    Args:
        config: Settings of the run.
        data: Pairs for training and for validation.
        stats: Statistics of the pairs for training, and of those for validation.

    Returns:
        The digest in hexadecimal digits.
    """
    content = to_document(config)
    # How much memory it takes, when it is saved and what is refused at the end change no weight.
    for table, key in (
        ("data", "cache_mb"),
        ("training", "checkpoint_every"),
        ("export", "min_iou"),
    ):
        del content[table][key]
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    digest.update(_start_digest(config).encode())
    for pairs, pair_stats in zip((data.training, data.validation), stats, strict=True):
        for pair in pairs:
            digest.update(f"\n{json.dumps([pair.name, pair.height, pair.width])}".encode())
        for block in pair_stats.blocks:
            digest.update(f"\n{block.pair} {block.content}".encode())
    return digest.hexdigest()


def _start_digest(config: Configuration) -> str:
    """Digests of the files that weights are read from; empty where there are none.

    Raises:
        ConfigurationError: If a file is not there.
    """
    model, found = config.model, ""
    if model.init_from and (folder := model_folder(model.init_from)).is_dir():
        found += fingerprint(folder)
    if model.backbone_weights not in NO_FILES and not model.init_from:
        try:
            with open(model.backbone_weights, "rb") as stream:
                found += hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise ConfigurationError(
                f"model.backbone_weights {model.backbone_weights}: {error.strerror}"
            ) from None
    return found

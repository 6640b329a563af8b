"""Training: pairs of image and mask in; a SavedModel with its contract, scores and card out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from segmodel.devices.compute import tf32_kept
from segmodel.errors import ConfigurationError
from segmodel.evaluation.evaluate import evaluate
from segmodel.labels.confusion import Scores
from segmodel.networks.network import NetworkConfig, build_network, nodata_fill
from segmodel.networks.pretrained import read_weights, transfer_weights
from segmodel.pairs.crops import CropSampler
from segmodel.pairs.pairs import TrainingData
from segmodel.pairs.stats import DatasetStats, collect_stats
from segmodel.reports.charts import need_matplotlib
from segmodel.reports.kept_images import SamplePanels
from segmodel.savedmodel.contract import Contract
from segmodel.savedmodel.folder import fingerprint, read_contract
from segmodel.savedmodel.keras_model import KerasModel
from segmodel.settings import keys_of
from segmodel.training.augment import training_batches
from segmodel.training.configuration import NO_FILES, Configuration
from segmodel.training.configuration_file import to_document
from segmodel.training.history import History, TensorBoardLog, Validation
from segmodel.training.loop import Learner, StepTimer, check_loss, device_strategy
from segmodel.training.losses import loss_weights
from segmodel.training.release import check_min_iou, draft_contract, release, validation_layout
from segmodel.training.run_folder import (
    Progress,
    RunFolder,
    model_folder,
    read_progress,
    restore_checkpoint,
    save_checkpoint,
)


@dataclass(frozen=True)
class Hooks:
    """Functions that a run calls while it trains.

    Args:
        log: Called with a line of text now and then.
        on_step: Called after each step with the number of steps done and the loss of the last.
    """

    log: Callable[[str], None] = lambda line: None
    on_step: Callable[[int, float], None] = lambda step, loss: None


def train(
    config: Configuration,
    data: TrainingData,
    output: str | Path,
    hooks: Hooks | None = None,
    overwrite: bool = False,
    stats: tuple[DatasetStats, DatasetStats] | None = None,
) -> Contract:
    """Train a network, and export its best or its last weights; see `TrainingConfig.keep`.

    A run that was interrupted resumes from its last checkpoint when it is called again, and ends
    with the same weights; a finished run is left as it is.

    Args:
        config: Settings of the run.
        data: Pairs for training and for validation.
        output: Folder for what the run makes; see `docs/training.md`.
        hooks: Functions that are called while the run trains.
        overwrite: Whether a run with other settings or data in the folder is replaced.
        stats: Statistics of the pairs for training and for validation, where they are known.

    Returns:
        The contract of the exported model, with its scores on the validation set.

    Raises:
        ConfigurationError: If the configuration cannot be carried out, or the folder holds another
            run.
        InputError: If images or masks cannot be used; names the files.
        TrainingError: If the loss is no longer a number.
        ExportError: If the model is not as good as was asked for, or the SavedModel differs from
            the network in memory.
    """
    hooks = hooks or Hooks()
    folder = RunFolder(Path(output))
    network_config = network_configuration(config)
    # What is wrong with the settings is said before any image is read.
    device_strategy(config.training)
    need_matplotlib()
    allow_empty = config.data.allow_empty_classes
    stats = stats or (
        collect_stats(data.training, config.classes, allow_empty, hooks.log),
        # A class may be absent where it is validated; its scores are None.
        collect_stats(data.validation, config.classes, True, hooks.log),
    )
    identity = run_digest(config, data, stats)
    if (done := folder.finished(identity, overwrite)) is not None:
        check_min_iou(config, Scores.of(folder.confusion()), "the model there stays as it is")
        hooks.log(f"{folder.path.name} is finished: nothing to do")
        return done
    folder.begin(identity, to_document(config))
    run = TrainingRun(config, network_config, data, stats[0], folder, hooks)
    network = run.fit(identity)
    with tf32_kept(tf.config):
        contract = release(config, network, run.draft(network), data, folder, hooks.log)
    folder.finish()
    if contract.fixed_window is None and contract.halo.equal_labels is None:
        hooks.log(
            f"the halo is not measured, as validation images are too small to be cut: it is "
            f"{contract.halo.pixels} pixels, half the receptive field"
        )
    return contract


class TrainingRun:
    """Steps, validations and checkpoints of a run, stage by stage.

    Args:
        config: Settings of the run.
        network_config: Network of the last stage.
        data: Pairs for training and for validation.
        stats: Statistics of the training pairs.
        folder: Folder of the run.
        hooks: Functions that are called meanwhile.
    """

    def __init__(
        self,
        config: Configuration,
        network_config: NetworkConfig,
        data: TrainingData,
        stats: DatasetStats,
        folder: RunFolder,
        hooks: Hooks,
    ) -> None:
        self.config, self.network_config, self.data = config, network_config, data
        self.folder, self.hooks = folder, hooks
        self._events = TensorBoardLog(folder.path / "tensorboard")
        training = config.training
        self._strategy = device_strategy(training)
        self._weights = loss_weights(training.class_weights, stats.counts, stats.image_pixels)
        fill = np.array(nodata_fill(network_config, config.model.dtype), config.model.dtype)
        scale = config.augmentation.scale[0], config.augmentation.scale[1]
        self._sampler = CropSampler(
            data.training, stats, training.crop, scale, training.class_balance, fill, training.seed
        )

    def fit(self, identity: str) -> keras.Model:
        """Train all stages, from the last checkpoint on.

        Args:
            identity: Digest of settings and data, by which a checkpoint of this run is known.

        Returns:
            The network to export, in float32 on one device.

        Raises:
            TrainingError: If the loss is no longer a number.
        """
        progress = read_progress(self.folder.checkpoint)
        resumed = progress is not None and progress.run == identity
        if progress is None or not resumed:
            progress = Progress(identity)
        history = History(self.folder.history, self.config.classes.names, progress.step)
        learner = None
        for stage in stages(self.config):
            if progress.step >= stage.last and stage.last < self.config.training.steps:
                continue
            learner = self._start_stage(stage, progress, learner, resumed)
            self._run_stage(stage, learner, progress, history)
            if progress.step < stage.last:
                # It ended early: the next stage starts from the best weights.
                learner.network.load_weights(self.folder.best_weights)
                if learner.average is not None:
                    learner.average.restart()
            progress.step = stage.last
        assert learner is not None
        save_checkpoint(self.folder.checkpoint, progress, learner.state)
        # Built anew: in full precision, and on one device.
        exported = replace(self.network_config, backbone_weights="none", precision="float32")
        network = build_network(exported)
        network.load_weights(self.folder.best_weights)
        return network

    def _start_stage(
        self, stage: TrainingStage, progress: Progress, before: Learner | None, resumed: bool
    ) -> Learner:
        """A learner at the first step of its stage that is not done."""
        keras.utils.set_random_seed(self.config.training.seed + stage.number)
        steps = stage.last - stage.first + 1
        resumes = resumed and before is None
        fresh = replace(self.network_config, variant=stage.variant)
        if before is not None or resumes or self.config.model.init_from:
            fresh = replace(fresh, backbone_weights="none")
        build = partial(build_network, fresh)
        learner = Learner(build, self.config, self._weights, steps, self._strategy)
        if resumes:
            restore_checkpoint(self.folder.checkpoint, learner.state)
            self.hooks.log(f"resuming after step {progress.step}")
            return learner
        if before is not None:
            with before.averaged() as network:
                values = {weight.path: np.asarray(weight) for weight in network.weights}
            transfer_weights(values, learner.network, classes_equal=True)
            progress.best_iou, progress.without_better = -1.0, 0
        elif self.config.model.init_from:
            self._carry_from(self.config.model.init_from, learner.network)
        if learner.average is not None:
            learner.average.restart()
        self.hooks.log(
            f"{stage.variant} {fresh.backbone}: {learner.network.count_params():,} weights; "
            f"{len(self.data.training)} training and {len(self.data.validation)} validation images"
        )
        save_checkpoint(self.folder.checkpoint, progress, learner.state)
        return learner

    def _carry_from(self, path: str, network: keras.Model) -> None:
        weights = read_weights(path)
        contract, bands = read_contract(model_folder(path)), self.config.model.bands
        if contract.bands != bands:
            raise ConfigurationError(
                f"model.init_from sees {', '.join(contract.bands)}, model.bands are "
                f"{', '.join(bands)}: name the same bands in the same order, or another model"
            )
        equal = contract.classes.names == self.config.classes.names
        left = transfer_weights(weights, network, classes_equal=equal)
        self.hooks.log(f"weights of {Path(path).name}; {len(left)} start anew")

    def _run_stage(
        self, stage: TrainingStage, learner: Learner, progress: Progress, history: History
    ) -> None:
        """Steps of one stage, with validations and checkpoints."""
        training, timer = self.config.training, StepTimer()
        contract = self.draft(learner.network)
        model = KerasModel(learner.network, contract)
        batches = training_batches(self._sampler, self.config, progress.step, stage.last)
        for images, truth in timer.timed(learner.distributed(batches)):
            step = progress.step + 1
            with timer.measured():
                rate = learner.learning_rate
                loss = learner.step(images, truth)
                check_loss(loss, step, partial(self.folder.keep_batch, step, images, truth))
                learner.update_average(step - stage.first)
            progress.step = step
            progress.losses.append(loss)
            self.hooks.on_step(step, loss)
            if step % training.validate_every == 0 or step == stage.last:
                with learner.averaged() as network:
                    scores, pictures = self._validate(model, contract)
                    self._keep_best(network, scores, progress)
                loss, times = float(np.mean(progress.losses)), timer.read()
                progress.losses.clear()
                validation = Validation(step, stage.variant, loss, rate, times, scores)
                history.write(validation)
                self._events.write(step, validation.scalars(self.config.classes.names), pictures)
                self.hooks.log(validation.log_line(self.config.classes.names))
                if training.patience and progress.without_better >= training.patience:
                    self.hooks.log(f"no better validation for {training.patience}: stage ends")
                    return
            # The end of a stage is saved as the beginning of the next.
            if step % training.checkpoint_every == 0 and step != stage.last:
                save_checkpoint(self.folder.checkpoint, progress, learner.state)

    def _validate(
        self, model: KerasModel, contract: Contract
    ) -> tuple[Scores, dict[str, np.ndarray]]:
        """Scores of the network as it would be exported now, and panels of a few images."""
        panels, layout = SamplePanels(contract), validation_layout(contract)
        return evaluate(model, self.data.validation, layout, panels.keep).scores, panels.pictures

    def _keep_best(self, network: keras.Model, scores: Scores, progress: Progress) -> None:
        """Save the weights that are the ones to export so far."""
        mean = scores.mean_iou_of_truth or 0.0
        is_better = mean > progress.best_iou
        progress.without_better += 1
        if is_better:
            progress.best_iou, progress.best_step, progress.without_better = mean, progress.step, 0
        if is_better or self.config.training.keep == "last":
            self.folder.save_best(network)

    def draft(self, network: keras.Model) -> Contract:
        """The contract of a network, without what is measured at the export."""
        images = len(self.data.training)
        return draft_contract(self.config, self.network_config, network, images)


@dataclass(frozen=True)
class TrainingStage:
    """Steps `first` to `last` of a run, ends included, with one variant of the network."""

    number: int
    variant: str
    first: int
    last: int


def stages(config: Configuration) -> Iterator[TrainingStage]:
    """The stages of a run, with about equal numbers of steps."""
    variants = config.training.stages or (config.model.variant,)
    count, first = len(variants), 1
    for number, variant in enumerate(variants):
        last = config.training.steps * (number + 1) // count
        yield TrainingStage(number, variant, first, last)
        first = last + 1


def network_configuration(config: Configuration) -> NetworkConfig:
    """The network that a configuration asks for.

    Raises:
        ConfigurationError: If there is none, or its stride does not fit the crops.
    """
    settings = asdict(config.model) | asdict(config.training) | {"value_range": config.model.limits}
    shared = {key: settings[key] for key in keys_of(NetworkConfig) if key in settings}
    network = NetworkConfig(len(config.classes.ids), **shared)
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
    del content["data"]["cache_mb"]
    del content["training"]["checkpoint_every"]
    del content["export"]["min_iou"]
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

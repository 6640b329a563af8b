"""The configuration of a training run, checked in full before anything is read."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from segmodel.errors import ConfigurationError
from segmodel.labels.classes import ClassTable
from segmodel.limits import at_least, one_of
from segmodel.networks.variants import PRECISIONS, VARIANTS
from segmodel.savedmodel.contract import DTYPES

ENCODINGS = ("color", "palette", "id")
LOSSES = ("cross_entropy", "focal", "dice")
CLASS_WEIGHTS = ("median_frequency", "inverse_log")
OPTIMIZERS = ("adamw", "sgd")
SCHEDULES = ("cosine", "poly", "constant")
# Seeds of stateless operations are 32-bit integers, and each stage has one of its own.
MAX_SEED = 2**31 - 1 - len(VARIANTS)
KEPT = ("best", "last")


@dataclass(frozen=True)
class DataConfig:
    """Where pairs of image and mask are; paths are relative to the configuration file.

    Args:
        images: Folders of images for training.
        masks: For each, the folder of masks with the same stems.
        shards: Shards of images and label maps for training, as `beamseg pack` writes them: files,
            folders or patterns.
        validation_images: Folders of images for validation.
        validation_masks: For each, the folder of masks.
        validation_shards: Shards for validation.
        mask_encoding: `color` (red, green, blue of the class table), `palette` (indices of an
            indexed image) or `id` (grey levels). Label maps in shards always hold ids.
        ignore_colors: Colours of pixels that count nowhere.
        ignore_ids: Ids of pixels that count nowhere.
        allow_empty_classes: Whether a class may be without a pixel in the training data.
        group: Regular expression with one group, searched in the path of an image; what the group
            matches is the region that `--folds_by group` leaves out. Empty: its folder, or shard.
        cache_mb: Memory for decoded pairs, in MiB.
        about: What the data are, for the model contract.
    """

    images: tuple[str, ...] = ()
    masks: tuple[str, ...] = ()
    shards: tuple[str, ...] = ()
    validation_images: tuple[str, ...] = ()
    validation_masks: tuple[str, ...] = ()
    validation_shards: tuple[str, ...] = ()
    mask_encoding: str = "color"
    ignore_colors: tuple[str, ...] = ()
    ignore_ids: tuple[int, ...] = ()
    allow_empty_classes: bool = False
    group: str = ""
    cache_mb: int = 1024
    about: str = ""

    def __post_init__(self) -> None:
        for what in ("", "validation_"):
            images, masks = getattr(self, f"{what}images"), getattr(self, f"{what}masks")
            if len(images) != len(masks):
                raise ConfigurationError(
                    f"data.{what}images and data.{what}masks must name equally many folders, "
                    f"got {len(images)} and {len(masks)}"
                )
        one_of("data.mask_encoding", self.mask_encoding, ENCODINGS)
        at_least("data", 1, {"cache_mb": self.cache_mb})
        try:
            groups = re.compile(self.group).groups
        except re.error as error:
            raise ConfigurationError(f"data.group is no regular expression: {error}") from None
        if self.group and groups != 1:
            raise ConfigurationError(f"data.group needs one group in brackets, got {self.group!r}")

    @property
    def has_training(self) -> bool:
        """Whether there is anything to train on."""
        return bool(self.images or self.shards)

    @property
    def has_validation(self) -> bool:
        """Whether there is anything to validate on."""
        return bool(self.validation_images or self.validation_shards)


@dataclass(frozen=True)
class ModelConfig:
    """The network and what its contract says of the input.

    Args:
        name: Name of the model.
        variant: `fcn-32s`, `fcn-16s`, `fcn-8s` or `fcn-4s`.
        backbone: One of `segmodel.backbones.BACKBONES`.
        backbone_weights: `none`, `imagenet` or the path of a weights file of
            `keras.applications`.
        init_from: A model that beamseg exported, or the output folder of a training run, whose
            weights are where to start; score layers of other classes start anew. Empty for none.
        width: Width multiplier of the backbone's layers.
        fc_layers: Whether fc6 and fc7 of the classification network follow the backbone as
            convolutions, as in the paper.
        fc_channels: Their channels.
        bands: Names of the bands, in order.
        dtype: Sample type of the images.
        value_range: Least and greatest raw value; may be left out for uint8.
        gsd_range_m: Least and greatest ground sample distance in metres, or empty.
        batch_norm_momentum: Of the moving statistics of batch normalization.
    """

    name: str
    variant: str = "fcn-8s"
    backbone: str = "mobilenet_v2"
    backbone_weights: str = "none"
    init_from: str = ""
    width: float = 1.0
    fc_layers: bool = False
    fc_channels: int = 4096
    bands: tuple[str, ...] = ("red", "green", "blue")
    dtype: str = "uint8"
    value_range: tuple[float, ...] = ()
    gsd_range_m: tuple[float, ...] = ()
    batch_norm_momentum: float = 0.9

    def __post_init__(self) -> None:
        if not self.name:
            raise ConfigurationError("model.name must not be empty")
        one_of("model.variant", self.variant, VARIANTS)
        one_of("model.dtype", self.dtype, DTYPES)
        gsd = self.gsd_range_m
        if gsd and not (len(gsd) == 2 and 0 < gsd[0] <= gsd[1] < math.inf):
            raise ConfigurationError(
                f"model.gsd_range_m must be two rising positive numbers or empty, got {list(gsd)}"
            )
        if not self.value_range and self.dtype != "uint8":
            raise ConfigurationError(
                f"model.value_range is missing: two numbers, such as the least and the greatest "
                f"value of most {self.dtype} pixels; the network sees them scaled"
            )
        low, high = (*self.limits, math.nan)[:2]
        if len(self.limits) != 2 or not -math.inf < low < high < math.inf:
            raise ConfigurationError(
                f"model.value_range must be two rising numbers, got {list(self.value_range)}"
            )
        if self.dtype != "float32":
            least, greatest = np.iinfo(self.dtype).min, np.iinfo(self.dtype).max
            if low < least or high > greatest:
                raise ConfigurationError(
                    f"model.value_range must be in {least}..{greatest}, as {self.dtype} is, "
                    f"got {list(self.value_range)}"
                )
        if not self.bands or len(set(self.bands)) != len(self.bands):
            raise ConfigurationError(f"model.bands must be different names, got {self.bands}")
        at_least("model", 1, {"fc_channels": self.fc_channels})
        if not 0 <= self.batch_norm_momentum < 1:
            raise ConfigurationError(
                f"model.batch_norm_momentum must be in 0..1, got {self.batch_norm_momentum}"
            )

    @property
    def limits(self) -> tuple[float, ...]:
        """Least and greatest raw value."""
        return self.value_range or (0.0, 255.0)


@dataclass(frozen=True)
class ExportConfig:
    """What is exported, and what is not good enough to be.

    Args:
        calibrate: Whether a temperature is fitted on validation, so that confidence is the share
            of pixels that are right.
        min_iou: Least IoU on validation by class name, or `mean`; below it nothing is exported.
    """

    calibrate: bool = True
    min_iou: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, least in self.min_iou.items():
            if not 0 <= least <= 1:
                raise ConfigurationError(f"export.min_iou.{name} must be in 0..1, got {least}")


@dataclass(frozen=True)
class AugmentationConfig:
    """How training crops are changed; image and truth are moved alike, validation never is.

    Args:
        flips: Whether crops are mirrored left and right.
        quarter_turns: Whether crops are turned and mirrored top to bottom too.
        scale: Least and greatest factor by which crops are enlarged.
        brightness: Greatest change of brightness, as a share of the value range.
        contrast: Greatest relative change of contrast.
        color: Greatest relative change of each band by itself.
        blur: Greatest standard deviation of a Gaussian blur, in pixels.
        noise: Greatest standard deviation of noise, as a share of the value range.
    """

    flips: bool = True
    quarter_turns: bool = False
    scale: tuple[float, ...] = (1.0, 1.0)
    brightness: float = 0.05
    contrast: float = 0.1
    color: float = 0.0
    blur: float = 0.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        if len(self.scale) != 2 or not 0 < self.scale[0] <= self.scale[1] < math.inf:
            raise ConfigurationError(
                f"augmentation.scale must be two rising positive numbers, got {list(self.scale)}"
            )
        names = ("brightness", "contrast", "color", "blur", "noise")
        at_least("augmentation", 0, {name: getattr(self, name) for name in names})
        for name in ("contrast", "color"):
            if getattr(self, name) >= 1:
                raise ConfigurationError(
                    f"augmentation.{name} must be less than 1, got {getattr(self, name)}"
                )


@dataclass(frozen=True)
class TrainingConfig:
    """How the network is trained.

    Args:
        steps: Number of optimizer steps, of all stages together.
        stages: Variants trained one after another, each from the weights of the last, such as
            `["fcn-32s", "fcn-16s", "fcn-8s"]`; the last is the variant of the model. Steps are
            dealt evenly. Empty: the variant all at once.
        batch: Crops in one step.
        crop: Side of a crop in pixels; a multiple of the network's stride.
        class_balance: Share of crops that are laid around a pixel of a class drawn evenly; the
            others are laid anywhere.
        loss: Weight of each loss: `cross_entropy`, `focal`, `dice`.
        class_weights: How much a pixel of each class counts in cross-entropy and focal loss, in
            the order of the classes, or `median_frequency` or `inverse_log`; all alike if empty.
        label_smoothing: Share of the truth that is spread over all classes, in cross-entropy.
        focal_gamma: Exponent of the focal loss.
        optimizer: `adamw` or `sgd`.
        momentum: Of SGD.
        learning_rate: Greatest learning rate, after warm-up.
        schedule: `cosine` or `poly` down to 0, or `constant`.
        poly_power: Exponent of the poly schedule.
        warmup_steps: Steps over which the learning rate rises from 0, in each stage.
        weight_decay: Decoupled weight decay.
        clip_norm: Greatest norm of all gradients together; 0 for no limit.
        ema: Decay of the exponential moving average of weights that is validated and exported; 0
            for the weights themselves.
        precision: `float32`, `mixed_float16` or `mixed_bfloat16`.
        devices: Devices that share each batch, such as `["GPU:0", "GPU:1"]`; empty for all GPUs.
        validate_every: Steps between two validations.
        keep: Which weights are exported: those of the `best` validation of the last stage, by mean
            IoU of the classes that its truth has, or those after the `last` step. Scores on what
            chose the weights are a little too good.
        patience: Validations without a better such mean after which a stage ends; 0 for never.
        checkpoint_every: Steps between two checkpoints, from which a killed run goes on.
        seed: Of weights, crops and augmentation.
    """

    steps: int = 2000
    stages: tuple[str, ...] = ()
    batch: int = 8
    crop: int = 256
    class_balance: float = 0.0
    loss: Mapping[str, float] = field(default_factory=lambda: {"cross_entropy": 1.0})
    class_weights: str | tuple[float, ...] = ()
    label_smoothing: float = 0.0
    focal_gamma: float = 2.0
    optimizer: str = "adamw"
    momentum: float = 0.9
    learning_rate: float = 1e-3
    schedule: str = "cosine"
    poly_power: float = 0.9
    warmup_steps: int = 100
    weight_decay: float = 1e-4
    clip_norm: float = 1.0
    ema: float = 0.0
    precision: str = "float32"
    devices: tuple[str, ...] = ()
    validate_every: int = 250
    keep: str = "best"
    patience: int = 0
    checkpoint_every: int = 250
    seed: int = 0

    def __post_init__(self) -> None:
        for name, known in (
            ("optimizer", OPTIMIZERS),
            ("schedule", SCHEDULES),
            ("precision", PRECISIONS),
            ("keep", KEPT),
        ):
            one_of(f"training.{name}", getattr(self, name), known)
        for stage in self.stages:
            one_of("training.stages", stage, VARIANTS)
        strides = [VARIANTS[stage] for stage in self.stages]
        if strides != sorted(set(strides), reverse=True):
            raise ConfigurationError(
                f"training.stages must go from coarse to fine, each once, got {list(self.stages)}"
            )
        if isinstance(self.class_weights, str):
            one_of("training.class_weights", self.class_weights, CLASS_WEIGHTS)
        for name in self.loss:
            one_of("training.loss", name, LOSSES)
        if not any(weight > 0 for weight in self.loss.values()):
            raise ConfigurationError("training.loss needs one loss with a weight above 0")
        at_least("training.loss", 0, self.loss)
        counts = ("steps", "batch", "crop", "validate_every", "checkpoint_every")
        at_least("training", 1, {name: getattr(self, name) for name in counts})
        amounts = ("warmup_steps", "weight_decay", "clip_norm", "patience", "seed", "focal_gamma")
        at_least("training", 0, {name: getattr(self, name) for name in (*amounts, "poly_power")})
        if self.seed > MAX_SEED:
            raise ConfigurationError(f"training.seed must be at most {MAX_SEED}, got {self.seed}")
        if not 0 < self.learning_rate < math.inf:
            raise ConfigurationError(
                f"training.learning_rate must be positive, got {self.learning_rate}"
            )
        for name in ("label_smoothing", "momentum", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigurationError(f"training.{name} must be in 0..1 and less than 1")
        if not 0 <= self.class_balance <= 1:
            raise ConfigurationError("training.class_balance must be in 0..1")
        if not isinstance(self.class_weights, str):
            for weight in self.class_weights:
                at_least("training", 0, {"class_weights": weight})
            if self.class_weights and not any(self.class_weights):
                raise ConfigurationError("training.class_weights needs one above 0")


@dataclass(frozen=True)
class Configuration:
    """A whole training run."""

    data: DataConfig
    model: ModelConfig
    classes: ClassTable
    training: TrainingConfig = field(default_factory=TrainingConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    export: ExportConfig = field(default_factory=ExportConfig)

    def __post_init__(self) -> None:
        weights, count = self.training.class_weights, len(self.classes.ids)
        if not isinstance(weights, str) and len(weights) not in (0, count):
            raise ConfigurationError(
                f"training.class_weights needs one number for each of {count} classes, "
                f"got {len(weights)}"
            )
        if self.training.stages and self.training.stages[-1] != self.model.variant:
            raise ConfigurationError(
                f"training.stages must end with model.variant {self.model.variant}, "
                f"got {self.training.stages[-1]}"
            )
        if self.training.steps < len(self.training.stages):
            raise ConfigurationError("training.steps must be at least one for each stage")
        for name in self.export.min_iou:
            one_of("export.min_iou", name, (*self.classes.names, "mean"))
        if "mean" in self.export.min_iou and "mean" in self.classes.names:
            raise ConfigurationError(
                "export.min_iou.mean is the mean of all classes, and a class has that name"
            )

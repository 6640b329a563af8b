"""The configuration of a training run: every setting once, with its type, limits and meaning.

The checks, the JSON Schema (`beamseg train --schema`) and the table of settings in the
documentation follow from this declaration.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar, get_type_hints

import numpy as np
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    InstanceOf,
    StrictBool,
    StrictInt,
    Tag,
    TypeAdapter,
    WithJsonSchema,
)

from segmodel.errors import ConfigurationError
from segmodel.labels.class_settings import ClassConfig, class_table
from segmodel.labels.classes import ClassTable
from segmodel.networks.variants import PRECISIONS, VARIANTS
from segmodel.savedmodel.contract import DTYPES
from segmodel.settings import (
    LIST,
    WORD,
    Amount,
    Count,
    Integers,
    Numbers,
    OneOf,
    Positive,
    Share,
    ShareBelow1,
    Whole,
    Words,
    as_list,
    settings,
    table_of_settings,
)

# Seeds of stateless operations are 32-bit integers, and each stage has one of its own.
MAX_SEED = 2**31 - 1 - len(VARIANTS)
# Words for weights that are no files.
NO_FILES = ("none", "imagenet")

Weights = TypeVar("Weights", tuple[float, ...], Mapping[str, float])


def _one_group(pattern: str) -> str:
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from None
    if pattern and groups != 1:
        raise ValueError(f"needs one group in brackets, got {pattern!r}")
    return pattern


def _different(names: tuple[str, ...]) -> tuple[str, ...]:
    if not names or len(set(names)) != len(names):
        raise ValueError(f"must be different names, got {names}")
    return names


def _rising(values: tuple[float, ...]) -> tuple[float, ...]:
    if len(values) != 2 or not 0 < values[0] <= values[1] < math.inf:
        raise ValueError(f"must be two rising positive numbers, got {list(values)}")
    return values


def _coarse_to_fine(stages: tuple[str, ...]) -> tuple[str, ...]:
    strides = [VARIANTS[stage] for stage in stages]
    if strides != sorted(set(strides), reverse=True):
        raise ValueError(f"must go from coarse to fine, each once, got {list(stages)}")
    return stages


def _one_above_0(weights: Weights) -> Weights:
    values = weights.values() if isinstance(weights, Mapping) else weights or [1]
    if not any(values):
        raise ValueError("needs one weight above 0")
    return weights


Variant = Annotated[str, OneOf(VARIANTS)]
ClassWeights = Annotated[
    Annotated[str, OneOf(("median_frequency", "inverse_log")), Tag(WORD)]
    | Annotated[
        tuple[Amount, ...],
        AfterValidator(_one_above_0),
        BeforeValidator(as_list, json_schema_input_type=list[Amount]),
        Tag(LIST),
    ],
    Discriminator(lambda value: WORD if isinstance(value, str) else LIST),
]


@settings("data")
class DataConfig:
    """Where pairs of image and mask are; paths are relative to the configuration file."""

    images: Words = ()
    """Folders of images for training."""
    masks: Words = ()
    """For each of `data.images`, the folder of masks."""
    shards: Words = ()
    """Shards for training, as `beamseg pack` writes them: files, folders or patterns."""
    validation_images: Words = ()
    """Folders of images for validation."""
    validation_masks: Words = ()
    """For each of `data.validation_images`, the folder of masks."""
    validation_shards: Words = ()
    """Shards for validation."""
    mask_encoding: Annotated[str, OneOf(("color", "palette", "id"))] = "color"
    """What masks hold: `color` (red, green, blue of the class table), `palette` (indices of an
    indexed image) or `id` (grey levels); label maps in shards always hold ids."""
    ignore_colors: Words = ()
    """Colors of pixels that count nowhere, such as `#000000`."""
    ignore_ids: Integers = ()
    """Ids of pixels that count nowhere."""
    allow_empty_classes: StrictBool = False
    """Whether a class may be without a pixel in the training data."""
    group: Annotated[str, AfterValidator(_one_group)] = ""
    """Regular expression with one group, searched in the path of an image; what the group
    matches is the region that `--folds_by group` leaves out; empty: the folder of the image, or
    its shard."""
    cache_mb: Count = 1024
    """Memory for decoded pairs, in MiB."""
    about: str = ""
    """What the data are, for the model contract and the card."""

    def __post_init__(self) -> None:
        for what in ("", "validation_"):
            images, masks = getattr(self, f"{what}images"), getattr(self, f"{what}masks")
            if len(images) != len(masks):
                raise ConfigurationError(
                    f"data.{what}images and data.{what}masks must name equally many folders, "
                    f"got {len(images)} and {len(masks)}"
                )

    @property
    def has_training(self) -> bool:
        """Whether there is anything to train on."""
        return bool(self.images or self.shards)

    @property
    def has_validation(self) -> bool:
        """Whether there is anything to validate on."""
        return bool(self.validation_images or self.validation_shards)


@settings("model")
class ModelConfig:
    """The network and what its contract says of the input."""

    name: Annotated[str, Field(min_length=1)]
    """Name of the model."""
    variant: Variant = "fcn-8s"
    """`fcn-32s`, `fcn-16s` and `fcn-8s` are those of the paper (Long, Shelhamer and Darrell
    2015); `fcn-4s` adds one more skip by the same rule."""
    backbone: str = "mobilenet_v2"
    """`vgg16`, `vgg19`, `resnet50`, `resnet101`, `resnet152`, `resnet50_v2`, `resnet101_v2`,
    `resnet152_v2`, `mobilenet_v2` or `efficientnet_v2_s`, which looks at the whole window and
    so fixes its size."""
    backbone_weights: str = "none"
    """`none`, `imagenet` or the path of a file of `keras.applications` without top."""
    init_from: str = ""
    """Model that beamseg exported, or output folder of a training run, whose weights are where
    to start; score layers of other classes start anew."""
    width: Positive = 1.0
    """Multiplier of the channels of every layer of the backbone."""
    fc_layers: StrictBool = False
    """Whether fc6 and fc7 of the classification network follow the backbone as convolutions, as
    in the paper."""
    fc_channels: Count = 4096
    """Channels of fc6 and fc7."""
    bands: Annotated[Words, AfterValidator(_different)] = ("red", "green", "blue")
    """Names of the bands, in order."""
    dtype: Annotated[str, OneOf(DTYPES)] = "uint8"
    """Sample type of the images: `uint8`, `uint16`, `int16` or `float32`."""
    value_range: Numbers = ()
    """Least and greatest raw value; empty is 0 to 255, for uint8 only."""
    gsd_range_m: Annotated[Numbers, AfterValidator(lambda gsd: _rising(gsd) if gsd else ())] = ()
    """Least and greatest ground sample distance in metres, of both sides of a pixel; `segment`
    refuses scenes outside; empty: none is refused. Pixels of 10 m in a map have 9.98 to 10.02 m on
    the ground, so leave room."""
    batch_norm_momentum: ShareBelow1 = 0.9
    """Momentum of the moving statistics of batch normalization."""

    def __post_init__(self) -> None:
        if not self.value_range and self.dtype != "uint8":
            raise ConfigurationError(
                f"model.value_range is missing: two numbers, such as the least and the greatest "
                f"value of most {self.dtype} pixels; the network sees them scaled"
            )
        limits = self.value_range or (0.0, 255.0)
        low, high = (*limits, math.nan)[:2]
        if len(limits) != 2 or not -math.inf < low < high < math.inf:
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

    @property
    def limits(self) -> tuple[float, float]:
        """Least and greatest raw value."""
        low, high = self.value_range or (0.0, 255.0)
        return low, high


@settings("training")
class TrainingConfig:
    """How the network is trained."""

    steps: Count = 2000
    """Number of optimizer steps, of all stages together."""
    stages: Annotated[
        tuple[Variant, ...],
        AfterValidator(_coarse_to_fine),
        BeforeValidator(as_list, json_schema_input_type=Variant | list[Variant]),
    ] = ()
    """Variants trained one after another, such as `["fcn-32s", "fcn-16s", "fcn-8s"]`, each from
    the weights of the last, with about equal numbers of steps; the last is `model.variant`;
    empty: that variant all at once."""
    batch: Count = 8
    """Crops in one step."""
    crop: Count = 256
    """Side of a crop in pixels, a multiple of 32 (the network's stride)."""
    class_balance: Share = 0.0
    """Share of crops laid around a pixel of a class drawn evenly; the others are laid
    anywhere."""
    loss: Annotated[
        Mapping[Annotated[str, OneOf(("cross_entropy", "focal", "dice"))], Amount],
        AfterValidator(_one_above_0),
    ] = Field(default_factory=lambda: {"cross_entropy": 1.0})
    """Weight of each of `cross_entropy`, `focal`, `dice`; their weighted sum is the loss."""
    class_weights: ClassWeights = ()
    """How much a pixel of each class counts in cross-entropy and focal loss: one number a
    class, in the order of the classes, or `median_frequency` or `inverse_log`; empty: all
    alike."""
    label_smoothing: ShareBelow1 = 0.0
    """Share of the truth spread over all classes, in cross-entropy."""
    focal_gamma: Amount = 2.0
    """Exponent of the focal loss."""
    optimizer: Annotated[str, OneOf(("adamw", "sgd"))] = "adamw"
    """`adamw` or `sgd`."""
    momentum: ShareBelow1 = 0.9
    """Momentum of `sgd`."""
    learning_rate: Positive = 0.001
    """Greatest learning rate, after warm-up."""
    schedule: Annotated[str, OneOf(("cosine", "poly", "constant"))] = "cosine"
    """`cosine` or `poly` down to 0, or `constant`."""
    poly_power: Amount = 0.9
    """Exponent of the `poly` schedule."""
    warmup_steps: Whole = 100
    """Steps over which the learning rate rises from 0, in each stage."""
    weight_decay: Amount = 0.0001
    """Decoupled weight decay; not of biases and batch normalization."""
    clip_norm: Amount = 1.0
    """Greatest norm of all gradients together; 0 for no limit."""
    ema: ShareBelow1 = 0.0
    """Decay of the moving average of weights that is validated and exported; 0 for the weights
    themselves."""
    precision: Annotated[str, OneOf(PRECISIONS)] = "float32"
    """`float32`, `mixed_float16` or `mixed_bfloat16`."""
    devices: Words = ()
    """Devices that share each batch, such as `["GPU:0", "GPU:1"]`; empty: all GPUs."""
    validate_every: Count = 250
    """Steps between two validations."""
    keep: Annotated[str, OneOf(("best", "last"))] = "best"
    """Weights that are exported: those of the `best` validation of the last stage, by mean IoU
    of the classes that its truth has, or those after the `last` step; scores on what chose the
    weights are a little too good."""
    patience: Whole = 0
    """Validations without a better such mean after which a stage ends; 0 for never."""
    checkpoint_every: Count = 250
    """Steps between two checkpoints, from which a killed run resumes."""
    seed: Annotated[StrictInt, Field(ge=0, le=MAX_SEED)] = 0
    """Seed of first weights, crops and augmentation."""


@settings("augmentation")
class AugmentationConfig:
    """How training crops are changed; image and truth are moved alike, validation never is."""

    flips: StrictBool = True
    """Whether crops are mirrored left and right."""
    quarter_turns: StrictBool = False
    """Whether crops are turned and mirrored top to bottom too; right for views from above."""
    scale: Annotated[Numbers, AfterValidator(_rising)] = (1.0, 1.0)
    """Least and greatest factor by which crops are enlarged."""
    brightness: Amount = 0.05
    """Greatest change of brightness, as a share of the value range."""
    contrast: ShareBelow1 = 0.1
    """Greatest relative change of contrast."""
    color: ShareBelow1 = 0.0
    """Greatest relative change of each band by itself."""
    blur: Amount = 0.0
    """Greatest standard deviation of a Gaussian blur, in pixels."""
    noise: Amount = 0.0
    """Greatest standard deviation of noise, as a share of the value range."""


@settings("export")
class ExportConfig:
    """What is exported, and what is not good enough to be."""

    calibrate: StrictBool = True
    """Whether a temperature is fitted on validation, so that confidence is the share of pixels
    that are right."""
    min_iou: Mapping[str, Share] = Field(default_factory=dict)
    """Least IoU on validation by class name, or `mean`; below it nothing is exported."""


@settings("")
class Configuration:
    """A whole training run."""

    data: DataConfig
    model: ModelConfig
    classes: Annotated[
        InstanceOf[ClassTable],
        BeforeValidator(class_table),
        WithJsonSchema({"type": "array", "items": TypeAdapter(ClassConfig).json_schema()}),
    ]
    training: TrainingConfig = Field(default_factory=TrainingConfig)
    augmentation: AugmentationConfig = Field(default_factory=AugmentationConfig)
    export: ExportConfig = Field(default_factory=ExportConfig)

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
        known = (*self.classes.names, "mean")
        for name in self.export.min_iou:
            if name not in known:
                raise ConfigurationError(
                    f"export.min_iou must be one of {', '.join(known)}, got {name!r}"
                )
        if "mean" in self.export.min_iou and "mean" in self.classes.names:
            raise ConfigurationError(
                "export.min_iou.mean is the mean of all classes, and a class has that name"
            )


# Tables of a configuration file, beside `[[classes]]`.
TABLES = {name: kind for name, kind in get_type_hints(Configuration).items() if name != "classes"}


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a configuration file, by which an editor checks and completes it."""
    schema = TypeAdapter(Configuration).json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def settings_table() -> str:
    """All settings as rows of a Markdown table: key, type, default and meaning."""
    return table_of_settings(TABLES)

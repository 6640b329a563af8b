"""How a network is trained, and how its training crops are changed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from segmodel.errors import ConfigurationError
from segmodel.networks.variants import PRECISIONS, VARIANTS
from segmodel.training.limits import at_least, one_of

LOSSES = ("cross_entropy", "focal", "dice")
CLASS_WEIGHTS = ("median_frequency", "inverse_log")
OPTIMIZERS = ("adamw", "sgd")
SCHEDULES = ("cosine", "poly", "constant")
# Seeds of stateless operations are 32-bit integers, and each stage has one of its own.
MOST_SEED = 2**31 - 1 - len(VARIANTS)
KEPT = ("best", "last")


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
        if self.seed > MOST_SEED:
            raise ConfigurationError(f"training.seed must be at most {MOST_SEED}, got {self.seed}")
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

"""Settings of training and of augmentation."""

from __future__ import annotations

import math

import pytest

from segmodel.errors import ConfigurationError
from segmodel.training.configuration import MAX_SEED, AugmentationConfig, TrainingConfig


@pytest.mark.parametrize("name", ["steps", "batch", "crop", "validate_every", "checkpoint_every"])
def test_counts_are_at_least_one(name):
    assert getattr(TrainingConfig(**{name: 1}), name) == 1
    for value in (0, -1):
        with pytest.raises(ConfigurationError, match=rf"training\.{name} must be at least 1, got"):
            TrainingConfig(**{name: value})


@pytest.mark.parametrize(
    "name",
    [
        "warmup_steps",
        "weight_decay",
        "clip_norm",
        "patience",
        "seed",
        "focal_gamma",
        "poly_power",
    ],
)
def test_amounts_are_at_least_nothing(name):
    assert getattr(TrainingConfig(**{name: 0}), name) == 0
    with pytest.raises(ConfigurationError, match=rf"training\.{name} must be at least 0, got -1"):
        TrainingConfig(**{name: -1})


@pytest.mark.parametrize("name", ["warmup_steps", "patience", "seed"])
def test_numbers_of_steps_are_whole(name):
    for value in (0.5, math.inf, math.nan):
        with pytest.raises(ConfigurationError, match=rf"training\.{name} must be a valid integer"):
            TrainingConfig(**{name: value})


@pytest.mark.parametrize("name", ["weight_decay", "clip_norm", "focal_gamma", "poly_power"])
def test_amounts_are_finite(name):
    for value in (math.inf, math.nan):
        with pytest.raises(ConfigurationError, match=rf"training\.{name} must be a finite number"):
            TrainingConfig(**{name: value})


@pytest.mark.parametrize(
    ("value", "limit"),
    [
        (0.0, "greater than 0"),
        (-1.0, "greater than 0"),
        (math.inf, "a finite number"),
        (math.nan, "a finite number"),
    ],
)
def test_a_learning_rate_is_positive(value, limit):
    with pytest.raises(ConfigurationError, match=rf"training\.learning_rate must be {limit}, got"):
        TrainingConfig(learning_rate=value)


@pytest.mark.parametrize("name", ["label_smoothing", "momentum", "ema"])
def test_shares_that_must_leave_something_are_less_than_one(name):
    assert getattr(TrainingConfig(**{name: 0.0}), name) == 0.0
    assert getattr(TrainingConfig(**{name: 0.9999}), name) == 0.9999
    for value, limit in ((1.0, "less than 1"), (-0.1, "at least 0"), (math.nan, "a finite number")):
        with pytest.raises(ConfigurationError, match=rf"training\.{name} must be {limit}, got"):
            TrainingConfig(**{name: value})


def test_a_class_balance_is_a_share():
    assert TrainingConfig(class_balance=1.0).class_balance == 1.0
    limits = ((1.001, "at most 1"), (-0.1, "at least 0"), (math.nan, "a finite number"))
    for value, limit in limits:
        with pytest.raises(ConfigurationError, match=rf"training\.class_balance must be {limit}"):
            TrainingConfig(class_balance=value)


def test_a_seed_fits_into_32_bits_in_every_stage():
    assert TrainingConfig(seed=MAX_SEED).seed == MAX_SEED
    with pytest.raises(ConfigurationError, match=r"training\.seed must be at most 2147483643"):
        TrainingConfig(seed=MAX_SEED + 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": "adam"}, r"training\.optimizer must be 'adamw' or 'sgd', got 'adam'"),
        ({"schedule": "step"}, r"training\.schedule must be 'cosine', 'poly' or 'constant'"),
        ({"precision": "float16"}, r"training\.precision must be 'float32', 'mixed_float16' or"),
        ({"stages": ("fcn-2s",)}, r"training\.stages\[0\] must be 'fcn-32s', .* got 'fcn-2s'"),
        ({"class_weights": "sqrt"}, r"training\.class_weights must be 'median_frequency' or"),
        (
            {"loss": {"hinge": 1.0}},
            r"training\.loss must be 'cross_entropy', 'focal' or",
        ),
        ({"loss": {}}, r"training\.loss needs one weight above 0"),
        ({"loss": {"dice": 0.0}}, r"training\.loss needs one weight above 0"),
        ({"loss": {"dice": 1.0, "focal": -1.0}}, r"training\.loss\.focal must be at least 0"),
        ({"loss": {"dice": math.inf}}, r"training\.loss\.dice must be a finite number, got inf"),
        ({"class_weights": (1.0, -1.0)}, r"training\.class_weights\[1\] must be at least 0"),
        (
            {"class_weights": (math.nan, 1.0)},
            r"training\.class_weights\[[01]\] must be a finite",
        ),
        (
            {"class_weights": (1.0, math.inf)},
            r"training\.class_weights\[[01]\] must be a finite",
        ),
        ({"class_weights": (0.0, 0.0)}, r"training\.class_weights needs one weight above 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ConfigurationError, match=message):
        TrainingConfig(**settings)


@pytest.mark.parametrize("scale", [(), (1.0,), (1.0, 2.0, 3.0), (2.0, 1.0), (0.0, 1.0)])
def test_a_scale_has_two_rising_positive_ends(scale):
    with pytest.raises(ConfigurationError, match=r"augmentation\.scale must be two rising"):
        AugmentationConfig(scale=scale)


def test_a_scale_is_finite():
    assert AugmentationConfig(scale=(0.5, 0.5)).scale == (0.5, 0.5)
    for scale in ((1.0, math.inf), (math.nan, 1.0), (1.0, math.nan)):
        with pytest.raises(ConfigurationError, match=r"augmentation\.scale"):
            AugmentationConfig(scale=scale)


@pytest.mark.parametrize("name", ["brightness", "contrast", "color", "blur", "noise"])
def test_changes_of_crops_are_at_least_nothing(name):
    assert getattr(AugmentationConfig(**{name: 0.0}), name) == 0.0
    finite = "a finite number"
    for value, limit in ((-0.1, "at least 0"), (math.inf, finite), (math.nan, finite)):
        with pytest.raises(ConfigurationError, match=rf"augmentation\.{name} must be {limit}, got"):
            AugmentationConfig(**{name: value})


@pytest.mark.parametrize("name", ["contrast", "color"])
def test_changes_that_would_turn_values_round_are_refused(name):
    assert getattr(AugmentationConfig(**{name: 0.99}), name) == 0.99
    with pytest.raises(ConfigurationError, match=rf"augmentation\.{name} must be less than 1"):
        AugmentationConfig(**{name: 1.0})

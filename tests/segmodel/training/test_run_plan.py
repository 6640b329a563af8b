"""Stages of a run, its network, and what makes it another run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from segmodel.errors import ConfigurationError
from segmodel.pairs.pairs import TrainingData
from segmodel.pairs.stats import collect_stats
from segmodel.training.configuration import ExportConfig
from segmodel.training.trainer import TrainingStage, network_configuration, run_digest, stages
from tests.segmodel.made_pairs import CLASSES, ArrayPair, configuration, halves

DATA = TrainingData(halves(2, 0), halves(1, 1))
CONFIG = configuration()


def digest(config=CONFIG, data=DATA) -> str:
    stats = tuple(collect_stats(p, CLASSES, True) for p in (data.training, data.validation))
    return run_digest(config, data, stats)


def test_without_stages_the_variant_of_the_model_has_all_steps():
    assert list(stages(CONFIG)) == [TrainingStage(0, "fcn-4s", 1, 40)]


@pytest.mark.parametrize(
    ("steps", "expected"),
    [(3, [(1, 1), (2, 2), (3, 3)]), (10, [(1, 3), (4, 6), (7, 10)])],
)
def test_stages_share_the_steps_and_leave_none_out(steps, expected):
    variants = ("fcn-32s", "fcn-16s", "fcn-4s")
    found = list(stages(configuration(steps=steps, stages=variants)))
    assert [(stage.first, stage.last) for stage in found] == expected
    assert tuple(stage.variant for stage in found) == variants
    assert [stage.number for stage in found] == [0, 1, 2]


def test_the_network_is_the_one_that_is_asked_for():
    model = {
        "variant": "fcn-16s",
        "backbone": "vgg16",
        "width": 0.5,
        "fc_layers": True,
        "fc_channels": 12,
        "bands": ("a", "b"),
        "dtype": "int16",
        "value_range": (-5.0, 7.0),
        "batch_norm_momentum": 0.5,
    }
    network = network_configuration(configuration(model=model, precision="mixed_bfloat16"))
    for name, value in model.items():
        if name != "dtype":
            assert getattr(network, name) == value, name
    assert (network.classes, network.precision) == (2, "mixed_bfloat16")


@pytest.mark.parametrize("crop", [1, 31, 48, 65])
def test_a_crop_that_is_no_multiple_of_the_stride_is_refused(crop):
    with pytest.raises(ConfigurationError, match=f"training.crop must be .* 32, got {crop}"):
        network_configuration(configuration(crop=crop))


@pytest.mark.parametrize(
    "changed",
    [
        replace(CONFIG, data=replace(CONFIG.data, cache_mb=7)),
        replace(CONFIG, data=replace(CONFIG.data, images=("/x/a/b",), masks=("/x/a/c",))),
        configuration(checkpoint_every=7),
        replace(CONFIG, export=ExportConfig(min_iou={"red": 0.5})),
    ],
    ids=["cache", "folders", "checkpoints", "floors"],
)
def test_what_changes_no_weight_makes_no_other_run(changed):
    like = CONFIG
    if changed.data.images:
        like = replace(CONFIG, data=replace(CONFIG.data, images=("/y/a/b",), masks=("/y/a/c",)))
    assert digest(changed) == digest(like)


def test_settings_make_another_run():
    others = [
        configuration(seed=1),
        configuration(ema=0.5),
        configuration(validate_every=7),
        configuration(loss={"dice": 1.0}),
        configuration(model={"batch_norm_momentum": 0.5}),
        replace(CONFIG, export=ExportConfig(calibrate=False)),
        replace(CONFIG, augmentation=replace(CONFIG.augmentation, noise=0.1)),
    ]
    assert len({digest(), *map(digest, others)}) == 8


def test_data_make_another_run():
    def with_first(pair: ArrayPair, side: str) -> TrainingData:
        return replace(DATA, **{side: (pair, *getattr(DATA, side)[1:])})

    found = {digest()}
    for side in ("training", "validation"):
        first = getattr(DATA, side)[0]
        other = first.indices.copy()
        other[0] = 1 - other[0]
        found.add(digest(data=with_first(replace(first, name="other"), side)))
        found.add(digest(data=with_first(replace(first, indices=other), side)))
        found.add(digest(data=replace(DATA, **{side: getattr(DATA, side) + halves(1, 5)})))
    swapped = replace(DATA, training=DATA.training[::-1])
    found.add(digest(data=swapped))
    found.add(digest(data=TrainingData(DATA.training + DATA.validation, halves(1, 5))))
    assert len(found) == 9


def test_the_same_run_has_the_same_digest():
    again = TrainingData(halves(2, 0), halves(1, 1))
    assert digest(data=again) == digest()
    assert np.array_equal(again.training[0].image, DATA.training[0].image)

"""Compute types: which machines have them, and whose calls they shape."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from threading import Barrier

import numpy as np
import pytest
import tensorflow as tf

from segmodel.devices import compute
from segmodel.devices.compute import as_bfloat16, begin_compute, check_device, compute_types
from segmodel.errors import ConfigurationError
from tests.compute_types import needs_bfloat16
from tests.fake_gpus import FakeConfig, gpu


@pytest.fixture
def cpu(monkeypatch):
    """Has the processor be one with some flags."""
    return lambda *flags: monkeypatch.setattr(compute, "cpu_flags", lambda: frozenset(flags))


@pytest.fixture
def no_onednn(monkeypatch):
    monkeypatch.setattr(compute, "_has_onednn", lambda: False)


@pytest.mark.parametrize("flag", ["avx512_bf16", "amx_bf16"])
def test_processors_that_multiply_bfloat16_have_it(cpu, flag):
    cpu("avx2", "avx512f", flag)
    assert compute_types(has_gpu=False) == ("float32", "bfloat16")


def test_other_processors_have_float32_alone(cpu):
    cpu("avx2", "avx512f")
    assert compute_types(has_gpu=False) == ("float32",)
    with pytest.raises(
        ConfigurationError, match="--compute bfloat16: the CPU needs avx512_bf16 or"
    ):
        check_device("bfloat16", has_gpu=False)


def test_gpus_have_tf32_and_no_bfloat16(cpu):
    cpu("avx512_bf16")
    assert compute_types(has_gpu=True) == ("float32", "tf32")
    with pytest.raises(ConfigurationError, match="on CPUs only, and this machine has a GPU"):
        check_device("bfloat16", has_gpu=True)


def test_without_a_gpu_tf32_is_refused():
    with pytest.raises(ConfigurationError, match="--compute tf32: only GPUs have it"):
        check_device("tf32", has_gpu=False)


def test_without_onednn_bfloat16_is_refused_and_is_never_float32_in_silence(cpu, no_onednn):
    cpu("amx_bf16")
    with pytest.raises(ConfigurationError, match="TF_ENABLE_ONEDNN_OPTS has turned off"):
        begin_compute(FakeConfig([]), "bfloat16")


@pytest.mark.parametrize(("kind", "expected"), [("float32", False), ("tf32", True), (None, True)])
def test_tf32_is_on_only_where_it_is_asked_for_or_was_on_before(kind, expected):
    config = FakeConfig([gpu(0)], tf32=not expected)
    begin_compute(config, kind)
    assert config.tf32 is expected


def test_a_refused_type_changes_nothing():
    config = FakeConfig([])
    with pytest.raises(ConfigurationError):
        begin_compute(config, "tf32")
    assert config.tf32


def test_training_finds_tf32_as_it_was():
    config = FakeConfig([gpu(0)])
    with compute.tf32_kept(config):
        begin_compute(config, "float32")
        assert not config.tf32
    assert config.tf32


@pytest.fixture(scope="module")
def sums():
    """A function that multiplies what bfloat16 has not enough digits for."""
    weights = np.random.default_rng(0).uniform(0.1, 1, (3, 3, 8, 8)).astype(np.float32)
    values = np.random.default_rng(1).uniform(0.1, 1, (1, 16, 16, 8)).astype(np.float32)
    spec = [tf.TensorSpec((None, None, None, 8))]
    function = tf.function(lambda x: tf.nn.conv2d(x, weights, 1, "SAME"), input_signature=spec)
    return lambda: function(values).numpy()


@needs_bfloat16
def test_a_call_multiplies_bfloat16_and_the_next_one_float32(sums):
    exact = sums()
    with as_bfloat16():
        short = sums()
    away = np.abs(short / exact - 1).max()
    assert 2**-12 < away < 2**-6
    np.testing.assert_array_equal(sums(), exact)


@needs_bfloat16
def test_threads_that_call_at_the_same_time_each_have_their_own_type(sums):
    exact, both = sums(), Barrier(2)

    def call(kind: AbstractContextManager[None]) -> np.ndarray:
        with kind:
            both.wait(30)
            found = sums()
            both.wait(30)
            return found

    with ThreadPoolExecutor(2) as pool:
        plain, short = pool.map(call, [nullcontext(), as_bfloat16()])
    np.testing.assert_array_equal(plain, exact)
    assert not np.array_equal(short, exact)

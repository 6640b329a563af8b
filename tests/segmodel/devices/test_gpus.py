"""GPUs as TensorFlow sees them; and memory that runs out in TensorFlow."""

from __future__ import annotations

import numpy as np
import pytest

from segmodel.devices.gpus import enable_memory_growth, is_out_of_memory, use_single_gpu
from segmodel.engine.engine import Engine
from segmodel.engine.read_ahead import Job
from segmodel.errors import OutOfMemoryError, TransientError
from segmodel.savedmodel.predictor import Predictor
from segmodel.tiling.raster import ArrayRaster
from segmodel.tiling.windows import Layout
from tests.fake_gpus import FakeConfig, gpu
from tests.fakes import brightness_labels


def test_memory_of_all_gpus_grows():
    config = FakeConfig([gpu(0), gpu(1)])
    enable_memory_growth(config)
    assert config.growing == {gpu(0): True, gpu(1): True}


def test_without_gpus_nothing_is_set(caplog):
    config = FakeConfig([], started=True)
    enable_memory_growth(config)
    assert (config.growing, caplog.messages) == ({}, [])


def test_what_cannot_be_set_any_more_is_a_warning(caplog):
    enable_memory_growth(FakeConfig([gpu(0), gpu(1)], started=True))
    (message,) = caplog.messages
    assert message.startswith("TensorFlow was started before this model was loaded")
    assert "TF_FORCE_GPU_ALLOW_GROWTH=true" in message


def test_a_second_model_is_loaded_without_a_warning(caplog):
    config = FakeConfig([gpu(0)])
    enable_memory_growth(config)
    config.started = True
    enable_memory_growth(config)
    assert caplog.messages == []


def test_a_limit_of_the_user_stays():
    config = FakeConfig([gpu(0), gpu(1)], limited=(gpu(0),))
    enable_memory_growth(config)
    assert config.growing == {gpu(1): True}


def test_other_gpus_are_out_of_sight_unless_tensorflow_uses_them():
    config = FakeConfig([gpu(0), gpu(1)])
    assert use_single_gpu(config, gpu(1))
    assert config.visible == [gpu(1)]
    started = FakeConfig([gpu(0), gpu(1)], started=True)
    assert not use_single_gpu(started, gpu(1))
    assert started.visible == [gpu(0), gpu(1)]
    assert use_single_gpu(FakeConfig([gpu(0)], started=True), gpu(0))


def test_the_fake_has_the_functions_of_tensorflow():
    import tensorflow as tf

    names = ["list_physical_devices", "get_visible_devices", "set_visible_devices"]
    for name in [*names, "get_logical_device_configuration"]:
        assert callable(getattr(tf.config, name))
    assert callable(tf.config.experimental.set_memory_growth)
    enable_memory_growth(tf.config)


@pytest.mark.parametrize(
    ("kind", "message", "expected"),
    [
        ("ResourceExhaustedError", "OOM when allocating tensor with shape[1]", True),
        (
            "InternalError",
            "Failed copying input tensor from CPU:0 to GPU:0 in order to run _EagerConst: Dst "
            "tensor is not initialized.",
            True,
        ),
        ("InternalError", "CUDA_ERROR_OUT_OF_MEMORY: out of memory", True),
        (
            "NotFoundError",
            "No algorithm worked!  Error messages: UNKNOWN: CUDNN_STATUS_ALLOC_FAILED",
            True,
        ),
        ("UnknownError", "CUDNN failed to allocate the scratch space for the runner", True),
        ("NotFoundError", "No algorithm worked!", False),
        ("InternalError", "Blas GEMM launch failed", False),
        ("InvalidArgumentError", "out of memory is what the user calls this", False),
    ],
)
def test_errors_of_tensorflow_that_mean_memory_are_known(kind, message, expected):
    import tensorflow as tf

    error = getattr(tf.errors, kind)(None, None, message)
    assert is_out_of_memory(error) is expected


def images(count: int) -> list[np.ndarray]:
    random = np.random.default_rng(1)
    return [random.integers(0, 256, (32, 32, 3), np.uint8) for _ in range(count)]


# TensorFlow waits ten seconds for memory before it gives up.
def test_memory_that_runs_out_in_tensorflow_is_an_error_of_its_own(greedy_savedmodel):
    predictor = Predictor.load(greedy_savedmodel)
    with pytest.raises(OutOfMemoryError, match=r"batch of shape \(3, 32, 32, 3\)") as caught:
        predictor.labels(np.stack(images(3)))
    assert isinstance(caught.value, MemoryError)
    assert isinstance(caught.value, TransientError)
    np.testing.assert_array_equal(
        predictor.labels(np.stack(images(2))), brightness_labels(np.stack(images(2)))
    )


def test_batches_that_tensorflow_has_no_memory_for_are_done_by_halves(greedy_savedmodel):
    engine = Engine(Predictor.load(greedy_savedmodel), Layout(32, 0, 32, batch=4), confidence=True)
    given = images(6)
    jobs = [Job(str(n), lambda image=image: ArrayRaster(image)) for n, image in enumerate(given)]
    for outcome, image in zip(engine.run(jobs), given, strict=True):
        np.testing.assert_array_equal(outcome.labels, brightness_labels(image))
        assert outcome.confidence.shape == (32, 32)
    assert engine.batch_sizes.reduced == {(32, 32): 2}

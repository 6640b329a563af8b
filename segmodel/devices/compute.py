"""Compute types: what a network multiplies and adds in, on CPUs and on GPUs.

By itself TensorFlow multiplies float32 numbers as TF32 on GPUs that can, which keep 10 of 23 bits
of a factor and so change labels. Here float32 means float32, and the others are asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

from segmodel.errors import ConfigurationError

COMPUTE_TYPES = FLOAT32, TF32, BFLOAT16 = "float32", "tf32", "bfloat16"
# Flags of x86 processors that multiply bfloat16; others would be slower than with float32.
BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}


@cache
def cpu_flags() -> frozenset[str]:
    """Flags of the processor, as Linux tells them; empty elsewhere."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            lines = (line.partition(":") for line in file)
            return next(
                (frozenset(v.split()) for k, _, v in lines if k[:5] == "flags"), frozenset()
            )
    except OSError:
        return frozenset()


def check_device(compute: str, has_gpu: bool) -> None:
    """Refuse a compute type that this machine does not have.

    Args:
        compute: One of `COMPUTE_TYPES`.
        has_gpu: Whether the network runs on a GPU.

    Raises:
        ConfigurationError: Says what is missing.
    """
    missing = None
    if compute == TF32 and not has_gpu:
        missing = "only GPUs have it, and TensorFlow sees none here"
    elif compute == BFLOAT16 and has_gpu:
        missing = "TensorFlow has it on CPUs only, and this machine has a GPU, where tf32 is"
    elif compute == BFLOAT16 and BFLOAT16_FLAGS.isdisjoint(cpu_flags()):
        missing = "the CPU needs avx512_bf16 or amx_bf16, and this one has neither"
    elif compute == BFLOAT16 and not _has_onednn():
        missing = "TensorFlow needs oneDNN for it, which TF_ENABLE_ONEDNN_OPTS has turned off"
    if missing is not None:
        raise ConfigurationError(
            f"--compute {compute}: {missing}: run where it is, or leave --compute out and name "
            f"another --output"
        )


def compute_types(has_gpu: bool) -> tuple[str, ...]:
    """The compute types that this machine has; float32 is the first.

    Args:
        has_gpu: Whether the network runs on a GPU.
    """

    def has(compute: str) -> bool:
        with suppress(ConfigurationError):
            check_device(compute, has_gpu)
            return True
        return False

    return tuple(filter(has, COMPUTE_TYPES))


def _has_onednn() -> bool:
    """Whether TensorFlow uses oneDNN; without it, it would leave graphs as they are: float32."""
    from tensorflow.python.util import _pywrap_util_port

    return bool(_pywrap_util_port.IsMklEnabled())


def begin_compute(config: Any, compute: str | None) -> None:
    """Have TensorFlow compute by a type in this process, as far as that is one setting for all.

    Args:
        config: `tf.config`.
        compute: One of `COMPUTE_TYPES`; None for what TensorFlow does by itself, as in runs of
            releases that did not set it.

    Raises:
        ConfigurationError: If this machine does not have the type.
    """
    if compute is not None:
        check_device(compute, bool(config.get_visible_devices("GPU")))
    config.experimental.enable_tensor_float_32_execution(compute in (None, TF32))


@contextmanager
def tf32_kept(config: Any) -> Iterator[None]:
    """Put back after the block whether TensorFlow uses TF32, for those who train in this process.

    Args:
        config: `tf.config`.
    """
    kept = config.experimental.tensor_float_32_execution_enabled()
    try:
        yield
    finally:
        config.experimental.enable_tensor_float_32_execution(kept)


@contextmanager
def as_bfloat16() -> Iterator[None]:
    """Have functions that this thread calls in the block rewritten by oneDNN's mixed precision.

    The options of a call hold its configuration, and TensorFlow compiles a function once for each,
    so that calls of other threads and models stay as they are. The public setting,
    `tf.config.optimizer.set_experimental_options`, holds for all of them.
    """
    from tensorflow.core.protobuf import config_pb2, rewriter_config_pb2
    from tensorflow.python.eager import context

    eager = context.context()
    kept = eager.function_call_options
    config = config_pb2.ConfigProto.FromString(kept.config_proto_serialized)
    rewriting = config.graph_options.rewrite_options
    rewriting.auto_mixed_precision_onednn_bfloat16 = rewriter_config_pb2.RewriterConfig.ON
    eager.function_call_options = context.FunctionCallOptions(kept.executor_type, config)
    try:
        yield
    finally:
        eager.function_call_options = kept

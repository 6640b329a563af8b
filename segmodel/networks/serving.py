"""The functions that run for the signatures of a SavedModel: frozen where that changes no label."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from segmodel.networks.freezing import FreezingError, freeze

# Probabilities that differ by less are equal but for rounding.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class ServedFunction:
    """What runs for a signature.

    Args:
        function: Function of `images`, that gives outputs by name.
        why_loaded: Why it is the one that was loaded; None if its weights are computed once.
    """

    function: Callable[..., dict[str, Any]]
    why_loaded: str | None = None


def serve(signature: Any, pictures: np.ndarray) -> ServedFunction:
    """The function that runs for a signature.

    Args:
        signature: Signature of a SavedModel, or another function of `images`.
        pictures: A batch that it takes, for which both have to give the same.
    """
    if not isinstance(signature, tf.types.experimental.ConcreteFunction):
        return ServedFunction(signature, "it is no graph of TensorFlow")
    if not signature.captured_inputs:
        return ServedFunction(signature, "its weights are constants already")
    images = tf.constant(pictures)
    try:
        # Before it is frozen: what both calls need in passing is the same memory.
        expected = signature(images=images)
        frozen = freeze(signature)
        if not _are_equal(frozen(images=images), expected):
            return ServedFunction(signature, "it gives other labels with weights computed once")
    except FreezingError as error:
        return ServedFunction(signature, str(error))
    except Exception as error:
        # Of any kind, as TensorFlow follows the graph, and graphs can be anything.
        return ServedFunction(signature, f"TensorFlow cannot freeze it ({type(error).__name__})")
    return ServedFunction(frozen)


def _are_equal(actual: Mapping[str, tf.Tensor], expected: Mapping[str, tf.Tensor]) -> bool:
    """Whether labels are equal, and what is no whole number but for rounding."""
    return all(
        np.array_equal(actual[name], values)
        if values.dtype.is_integer
        else np.allclose(actual[name], values, rtol=0, atol=TOLERANCE)
        for name, values in expected.items()
    )

"""Weights of trained networks, read by name and transferred to other networks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from segmodel.errors import ConfigurationError

# Layers whose shape follows from the number of classes.
_OF_CLASSES = re.compile(r"(score|upsample)_\d+/")
# How TensorFlow spells an entry of the dictionary `weights` of the object that was saved.
_CHECKPOINT_KEY = re.compile(r"weights/([^/]+)/\.ATTRIBUTES/VARIABLE_VALUE")


def read_weights(path: str | Path) -> dict[str, np.ndarray]:
    """Weights of a network.

    Args:
        path: Folder of a SavedModel that beamseg exported from a Keras network, or output folder of
            a training run, whose `model` it is.

    Returns:
        Arrays by the path of their variable, such as `score_32/kernel`.

    Raises:
        ConfigurationError: If there is no such model, or it does not name its weights.
    """
    folder = Path(path)
    if not (folder / "saved_model.pb").is_file():
        folder = folder / "model"
    if not (folder / "saved_model.pb").is_file():
        raise ConfigurationError(
            f"{path} must be a model that beamseg exported, or the output folder of a finished "
            f"training run: found no saved_model.pb in it, nor in its folder model"
        )
    try:
        reader = tf.train.load_checkpoint(str(folder / "variables" / "variables"))
        keys = {key: _CHECKPOINT_KEY.fullmatch(key) for key in reader.get_variable_to_shape_map()}
        weights = {_unescaped(m[1]): reader.get_tensor(key) for key, m in keys.items() if m}
    # TensorFlow raises each of these for files that are missing or damaged.
    except (tf.errors.OpError, RuntimeError, ValueError, IndexError) as error:
        raise ConfigurationError(f"{folder}: its weights cannot be read: {error}") from error
    if not weights:
        raise ConfigurationError(
            f"{folder} holds no weights by name, as it was exported from another function than a "
            f"Keras network, or by an older beamseg: train it again, or name another model"
        )
    return weights


def _unescaped(key: str) -> str:
    """What TensorFlow escaped in one part of a checkpoint key.

    >>> _unescaped("a..b.Skernel")
    'a.b/kernel'
    """
    return re.sub(r"\.(.)", lambda match: "/" if match[1] == "S" else match[1], key)


def transfer_weights(
    source: Mapping[str, np.ndarray], network: keras.Model, classes_equal: bool
) -> list[str]:
    """Give a network the weights of another variant, or of a network for other classes.

    With equal classes the score layers are transferred too, and skip connections that the source
    does not have start with scores of 0, so that the network begins as the coarser one did (Long,
    Shelhamer and Darrell 2015, section 4.2). Otherwise all score layers start with new weights.

    Args:
        source: Weights by the path of their variable, as `read_weights` returns them.
        network: Network from `build_network`; changed only if all weights fit.
        classes_equal: Whether both networks have the same classes in the same order.

    Returns:
        Paths of variables of the network that got no weights from `source`, in its order.

    Raises:
        ConfigurationError: If another layer is missing, left over or of another shape.
    """
    variables = {variable.path: variable for variable in network.weights}
    kept = set(source) if classes_equal else set()
    untrained = [p for p in variables if _OF_CLASSES.match(p) and p not in kept]
    transferred = [path for path in variables if path not in untrained]
    missing = [path for path in transferred if path not in source]
    left_over = [p for p in source if p not in variables and not _OF_CLASSES.match(p)]
    shapes = {p: (source[p].shape, tuple(variables[p].shape)) for p in transferred if p in source}
    unlike = [f"{p} {given} for {taken}" for p, (given, taken) in shapes.items() if given != taken]
    for what, paths in (("lack", missing), ("have no place for", left_over), ("have", unlike)):
        if paths:
            raise ConfigurationError(
                f"the weights to start from {what} {_first_names(paths)}: model.backbone, width, "
                f"fc_layers, fc_channels and the number of bands must be those of that model"
            )
    for path in transferred:
        variables[path].assign(source[path])
    if any(_OF_CLASSES.match(path) for path in transferred):
        for path in untrained:
            if path.startswith("score_"):
                variables[path].assign(np.zeros(variables[path].shape, np.float32))
    return untrained


def _first_names(paths: Iterable[str], most: int = 3) -> str:
    """The first few names of many, and how many more there are.

    >>> _first_names(["a", "b"], most=1)
    'a and 1 more'
    """
    paths = list(paths)
    more = f" and {len(paths) - most} more" if len(paths) > most else ""
    return ", ".join(paths[:most]) + more

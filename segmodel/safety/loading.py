"""Loads a SavedModel, after it was looked at: the only way by which models of others come in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from segmodel.devices.gpus import is_out_of_memory
from segmodel.errors import ContractError, OutOfMemoryError
from segmodel.escaping import on_one_line
from segmodel.safety.check import refuse_unsafe


def load_savedmodel(model: str | Path, trust: bool, tags: Sequence[str] = ()) -> Any:
    """A SavedModel as TensorFlow loads it.

    Args:
        model: Folder of the SavedModel.
        trust: Whether to load a model that `refuse_unsafe` refuses.
        tags: Tags of its graph; without any its only graph.

    Raises:
        ContractError: If it is no SavedModel, or TensorFlow cannot load it.
        ExportError: If it could do more than compute, and is not trusted.
        OutOfMemoryError: If memory does not suffice for its weights.
    """
    if not trust:
        refuse_unsafe(model)
    try:
        return tf.saved_model.load(str(model), tags=list(tags) or None)
    except Exception as error:
        # Of any kind: TensorFlow follows what the file says, and files can say anything.
        is_memory = isinstance(error, tf.errors.OpError) and is_out_of_memory(error)
        if is_memory or isinstance(error, MemoryError):
            raise OutOfMemoryError("out of memory while the model was loaded") from error
        raise ContractError(
            f"{Path(model).name} cannot be loaded by TensorFlow {tf.__version__} "
            f"({error_line(error)}): copy it again if files are damaged or missing; else export it "
            f"again with operations of TensorFlow itself"
        ) from error


def error_line(error: BaseException) -> str:
    r"""The line of an error's text that says what is wrong, as TensorFlow's have many.

    >>> error_line(ValueError("Graph execution error:\n\nDetected at node x\n<stack>\nno\n[[x]]"))
    'no'
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if lines and lines[0].startswith("Graph execution error"):
        around = ("Graph execution error", "Detected at node", "<stack", "[[", "File ")
        lines = [line for line in lines if not line.startswith(around)][-1:]
    return on_one_line(lines[0]) if lines else type(error).__name__

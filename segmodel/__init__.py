"""Images, models and training: fully convolutional networks as TensorFlow SavedModels, no Beam.

What is named here is the public face. Its modules are imported when a name is first used, so that
`import segmodel` costs neither numpy nor TensorFlow.

>>> import segmodel
>>> segmodel.Window(row=0, column=0, height=512, width=512).pixels
262144
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from segmodel.engine.engine import Engine
    from segmodel.labels.classes import ClassTable, LabelClass
    from segmodel.savedmodel.contract import Contract, MeasuredHalo
    from segmodel.savedmodel.export import export_savedmodel
    from segmodel.savedmodel.halo import Measuring
    from segmodel.savedmodel.predictor import Predictor
    from segmodel.tiling.windows import Window

__version__ = "0.1.0"
__all__ = [
    "ClassTable",
    "Contract",
    "Engine",
    "LabelClass",
    "MeasuredHalo",
    "Measuring",
    "Predictor",
    "Window",
    "export_savedmodel",
]

_MODULES = {
    "ClassTable": "labels.classes",
    "Contract": "savedmodel.contract",
    "Engine": "engine.engine",
    "LabelClass": "labels.classes",
    "MeasuredHalo": "savedmodel.contract",
    "Measuring": "savedmodel.halo",
    "Predictor": "savedmodel.predictor",
    "Window": "tiling.windows",
    "export_savedmodel": "savedmodel.export",
}


def __getattr__(name: str) -> object:
    """A public name, imported when it is first used (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module 'segmodel' has no attribute {name!r}")
    value = getattr(import_module(f"segmodel.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""The configuration of a training run: a TOML file, checked in full before anything is read."""

from __future__ import annotations

import dataclasses
import difflib
import math
import tomllib
import types
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segmodel.classes import ClassTable, LabelClass, parse_color
from segmodel.errors import BeamsegError, ConfigurationError

SECTIONS = {"data", "model", "classes", "training"}


@dataclass(frozen=True)
class DataConfig:
    """Where pairs of image and mask are; paths are relative to the configuration file.

    Args:
        images: Folders of images for training.
        masks: For each, the folder of masks with the same stems.
        validation_images: Folders of images for validation.
        validation_masks: For each, the folder of masks.
        mask_encoding: `color` (red, green, blue of the class table) or `id`.
        ignore_colors: Colours of pixels that count nowhere.
        ignore_ids: Ids of pixels that count nowhere.
        about: What the data are, for the model contract.
    """

    images: tuple[str, ...]
    masks: tuple[str, ...]
    validation_images: tuple[str, ...]
    validation_masks: tuple[str, ...]
    mask_encoding: str = "color"
    ignore_colors: tuple[str, ...] = ()
    ignore_ids: tuple[int, ...] = ()
    about: str = ""


@dataclass(frozen=True)
class ModelConfig:
    """The network and what its contract says of the input.

    Args:
        name: Name of the model.
        variant: `fcn-32s`, `fcn-16s`, `fcn-8s` or `fcn-4s`.
        backbone: `vgg16`, `resnet50` or `mobilenet_v2`.
        backbone_weights: `none`, `imagenet` or the path of a weights file.
        width: Width multiplier of MobileNetV2.
        bands: Names of the bands, in order.
        gsd_range_m: Least and greatest ground sample distance in metres, or empty.
    """

    name: str
    variant: str = "fcn-8s"
    backbone: str = "mobilenet_v2"
    backbone_weights: str = "none"
    width: float = 1.0
    bands: tuple[str, ...] = ("red", "green", "blue")
    gsd_range_m: tuple[float, ...] = ()


@dataclass(frozen=True)
class TrainingConfig:
    """How the network is trained.

    Args:
        steps: Number of optimizer steps.
        batch: Crops in one step.
        crop: Side of a crop in pixels; a multiple of the network's stride.
        learning_rate: Greatest learning rate, after warm-up.
        warmup_steps: Steps over which the learning rate rises from 0.
        weight_decay: Decoupled weight decay of AdamW.
        class_weights: How much a pixel of each class counts in the loss, in the order of the
            classes; all alike if empty.
        validate_every: Steps between two validations.
        flips: Whether crops are mirrored left and right.
        quarter_turns: Whether crops are turned and mirrored top to bottom too.
        brightness: Greatest change of brightness, as a share of the value range.
        contrast: Greatest relative change of contrast.
        seed: Of weights, crops and augmentation.
    """

    steps: int = 2000
    batch: int = 8
    crop: int = 256
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    weight_decay: float = 1e-4
    class_weights: tuple[float, ...] = ()
    validate_every: int = 250
    flips: bool = True
    quarter_turns: bool = False
    brightness: float = 0.05
    contrast: float = 0.1
    seed: int = 0


@dataclass(frozen=True)
class Configuration:
    """A whole training run."""

    data: DataConfig
    model: ModelConfig
    classes: ClassTable
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        data, training = self.data, self.training
        for images, masks, what in (
            (data.images, data.masks, ""),
            (data.validation_images, data.validation_masks, "validation_"),
        ):
            if not images or len(images) != len(masks):
                raise ConfigurationError(
                    f"data.{what}images and data.{what}masks must name equally many folders, "
                    f"got {len(images)} and {len(masks)}"
                )
        if data.mask_encoding not in ("color", "id"):
            raise ConfigurationError(
                f"data.mask_encoding must be 'color' or 'id', got {data.mask_encoding!r}"
            )
        if len(self.model.gsd_range_m) not in (0, 2):
            raise ConfigurationError("model.gsd_range_m must be two numbers or empty")
        if len(training.class_weights) not in (0, len(self.classes.ids)):
            raise ConfigurationError(
                f"training.class_weights needs one number for each of {len(self.classes.ids)} "
                f"classes, got {len(training.class_weights)}"
            )
        positive = {
            "steps": training.steps,
            "batch": training.batch,
            "crop": training.crop,
            "learning_rate": training.learning_rate,
            "validate_every": training.validate_every,
        }
        for name, value in positive.items():
            if not 0 < value < math.inf:
                raise ConfigurationError(f"training.{name} must be positive, got {value}")
        at_least_0 = {
            "warmup_steps": (training.warmup_steps,),
            "weight_decay": (training.weight_decay,),
            "brightness": (training.brightness,),
            "contrast": (training.contrast,),
            "seed": (training.seed,),
            "class_weights": training.class_weights,
        }
        for name, values in at_least_0.items():
            if not all(0 <= value < math.inf for value in values):
                raise ConfigurationError(f"training.{name} must be at least 0, got {values}")


@dataclass(frozen=True)
class MaskConfig:
    """What values of masks mean, as in `DataConfig`; no encoding where the file names none."""

    classes: ClassTable
    mask_encoding: str | None = None
    ignore_colors: tuple[str, ...] = ()
    ignore_ids: tuple[int, ...] = ()


def load_mask_config(path: str | Path) -> MaskConfig:
    """What values of masks mean, of a TOML file with `[[classes]]` and what `[data]` ignores.

    A configuration of a training run is such a file: the rest of it is not read.

    Raises:
        ConfigurationError: As for `load_configuration`.
    """
    with _named_errors(Path(path)):
        document = tomllib.loads(Path(path).read_text("utf-8"))
        _only_known(document, SECTIONS, "")
        declared = typing.get_type_hints(DataConfig)
        data = document.get("data", {})
        _only_known(data, set(declared), "data.")
        known = {"mask_encoding", "ignore_colors", "ignore_ids"} & set(data)
        values = {key: _typed(data[key], declared[key], f"data.{key}") for key in known}
        for color in values.get("ignore_colors", ()):
            parse_color(color)
        return MaskConfig(_class_table(document.get("classes", [])), **values)


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """Errors of a configuration file, with its name."""
    try:
        yield
    except FileNotFoundError:
        raise ConfigurationError(f"{path}: no such file") from None
    except (BeamsegError, tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ConfigurationError(f"{path}: {error}") from error


def load_configuration(path: str | Path, overrides: dict[str, str] | None = None) -> Configuration:
    """The configuration in a TOML file, with values replaced by dotted name.

    Args:
        path: The file; relative folders in it are taken from its own folder.
        overrides: Values as TOML text by dotted name, such as `{"training.steps": "10"}`.

    Raises:
        ConfigurationError: If the file cannot be read, or a key or a value is wrong; the text
            names the file and the key.
    """
    path = Path(path)
    with _named_errors(path):
        document = tomllib.loads(path.read_text("utf-8"))
        for name, text in (overrides or {}).items():
            _override(document, name, text)
        return parse_configuration(document, path.parent)


def parse_configuration(document: dict[str, Any], folder: Path = Path()) -> Configuration:
    """The configuration of a parsed TOML document; see `load_configuration`."""
    _only_known(document, SECTIONS, "")
    data = _section(DataConfig, document.get("data", {}), "data")
    folders = ("images", "masks", "validation_images", "validation_masks")
    located = {key: tuple(str(folder / name) for name in getattr(data, key)) for key in folders}
    model = _section(ModelConfig, document.get("model", {}), "model")
    if model.backbone_weights not in ("none", "imagenet"):
        weights = str(folder / model.backbone_weights)
        model = dataclasses.replace(model, backbone_weights=weights)
    return Configuration(
        data=dataclasses.replace(data, **located),
        model=model,
        classes=_class_table(document.get("classes", [])),
        training=_section(TrainingConfig, document.get("training", {}), "training"),
    )


_CLASS = {"id": int, "name": str, "color": str}


def _class_table(entries: Any) -> ClassTable:
    if not isinstance(entries, list):
        raise ConfigurationError("classes must be [[classes]], one table for each class")
    classes = []
    for entry in entries:
        _only_known(entry, {"id", "name", "color"}, "classes.")
        missing = {"id", "name", "color"} - set(entry)
        if missing:
            raise ConfigurationError(f"classes: {', '.join(sorted(missing))} is missing in {entry}")
        values = {key: _typed(entry[key], kind, f"classes.{key}") for key, kind in _CLASS.items()}
        classes.append(LabelClass(values["id"], values["name"], parse_color(values["color"])))
    return ClassTable(tuple(classes))


def _override(document: dict[str, Any], name: str, text: str) -> None:
    section, _, key = name.partition(".")
    if not key or not isinstance(document.setdefault(section, {}), dict):
        raise ConfigurationError(f"--set needs SECTION.KEY=VALUE, got {name!r}")
    try:
        document[section][key] = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        document[section][key] = text


def _only_known(given: Any, known: set[str], prefix: str) -> None:
    if not isinstance(given, dict):
        raise ConfigurationError(f"{prefix.rstrip('.') or 'the file'} must be a table")
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"known: {sorted(known)}"
            raise ConfigurationError(f"unknown key {prefix}{key}: {hint}")


def _section(kind: type, given: dict[str, Any], name: str) -> Any:
    """One section as its dataclass, with every value of the declared type."""
    declared = typing.get_type_hints(kind)
    _only_known(given, set(declared), f"{name}.")
    required = {f.name for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING}
    if missing := sorted(required - set(given)):
        raise ConfigurationError(f"{name}.{missing[0]} is missing")
    return kind(
        **{key: _typed(value, declared[key], f"{name}.{key}") for key, value in given.items()}
    )


def _typed(value: Any, kind: Any, name: str) -> Any:
    if isinstance(kind, types.GenericAlias):
        values = value if isinstance(value, list) else [value]
        return tuple(_typed(item, typing.get_args(kind)[0], name) for item in values)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise ConfigurationError(f"{name} must be {kind.__name__}, got {value!r}")
    return value

"""TOML files of training runs and of class tables, and the same as JSON."""

from __future__ import annotations

import dataclasses
import tomllib
import typing
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segmodel.errors import BeamsegError, ConfigurationError
from segmodel.labels.classes import ClassTable, LabelClass, format_color, parse_color
from segmodel.training.configuration import (
    AugmentationConfig,
    Configuration,
    DataConfig,
    ExportConfig,
    ModelConfig,
    TrainingConfig,
)
from segmodel.training.toml_tables import only_known, override, read_table, typed

TABLES = {
    "data": DataConfig,
    "model": ModelConfig,
    "training": TrainingConfig,
    "augmentation": AugmentationConfig,
    "export": ExportConfig,
}
SECTIONS = {*TABLES, "classes"}
FOLDERS = (
    "images",
    "masks",
    "shards",
    "validation_images",
    "validation_masks",
    "validation_shards",
)
# Words for weights that are no files.
NO_FILES = ("none", "imagenet")


def load_configuration(
    path: str | Path, overrides: Mapping[str, str] | None = None
) -> Configuration:
    """The configuration in a TOML file.

    Args:
        path: The file; relative paths in it are taken from its own folder.
        overrides: Values as TOML text by dotted name, such as `{"training.steps": "10"}`.

    Raises:
        ConfigurationError: If the file cannot be read, or a key or a value is wrong; the text
            names the file and the key.
    """
    path = Path(path)
    with named_errors(path):
        document = tomllib.loads(path.read_text("utf-8"))
        for name, text in (overrides or {}).items():
            override(document, name, text)
        return parse_configuration(document, path.parent)


def parse_configuration(document: dict[str, Any], folder: Path = Path()) -> Configuration:
    """The configuration of a parsed TOML document; see `load_configuration`."""
    only_known(document, SECTIONS, "")
    tables = {name: read_table(kind, document.get(name, {}), name) for name, kind in TABLES.items()}
    data, model = tables["data"], tables["model"]
    located = {key: tuple(str(folder / name) for name in getattr(data, key)) for key in FOLDERS}
    tables["data"] = dataclasses.replace(data, **located)
    if model.backbone_weights not in NO_FILES:
        weights = str(folder / model.backbone_weights)
        model = dataclasses.replace(model, backbone_weights=weights)
    if model.init_from:
        model = dataclasses.replace(model, init_from=str(folder / model.init_from))
    tables["model"] = model
    return Configuration(classes=_class_table(document.get("classes", [])), **tables)


def to_document(config: Configuration) -> dict[str, Any]:
    """A configuration as JSON holds it, without the folders that lead to data on this machine."""
    document: dict[str, Any] = {name: dataclasses.asdict(getattr(config, name)) for name in TABLES}
    for key in FOLDERS:
        document["data"][key] = [_short(path) for path in document["data"][key]]
    model = document["model"]
    for key in ("backbone_weights", "init_from"):
        if model[key] and model[key] not in NO_FILES:
            model[key] = _short(model[key])
    document["classes"] = [
        {"id": entry.id, "name": entry.name, "color": format_color(entry.color)}
        for entry in config.classes.classes
    ]
    return document


def _short(path: str) -> str:
    """The last two parts of a path: enough to tell folders apart, too little to tell of machines.

    >>> _short("/disk/streets/training/images")
    'training/images'
    """
    return "/".join(part for part in Path(path).parts[-2:] if part != "/")


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
    with named_errors(Path(path)):
        document = tomllib.loads(Path(path).read_text("utf-8"))
        only_known(document, SECTIONS, "")
        declared = typing.get_type_hints(DataConfig)
        data = document.get("data", {})
        only_known(data, set(declared), "data.")
        known = {"mask_encoding", "ignore_colors", "ignore_ids"} & set(data)
        values = {key: typed(data[key], declared[key], f"data.{key}") for key in known}
        for color in values.get("ignore_colors", ()):
            parse_color(color)
        return MaskConfig(_class_table(document.get("classes", [])), **values)


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Errors of a configuration file, with its name."""
    try:
        yield
    except FileNotFoundError:
        raise ConfigurationError(f"{path}: no such file") from None
    except (BeamsegError, tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ConfigurationError(f"{path}: {error}") from error


_CLASS = {"id": int, "name": str, "color": str}


def _class_table(entries: Any) -> ClassTable:
    if not isinstance(entries, list):
        raise ConfigurationError("classes must be [[classes]], one table for each class")
    classes = []
    for entry in entries:
        only_known(entry, _CLASS, "classes.")
        missing = set(_CLASS) - set(entry)
        if missing:
            raise ConfigurationError(f"classes: {', '.join(sorted(missing))} is missing in {entry}")
        values = {key: typed(entry[key], kind, f"classes.{key}") for key, kind in _CLASS.items()}
        classes.append(LabelClass(values["id"], values["name"], parse_color(values["color"])))
    return ClassTable(tuple(classes))

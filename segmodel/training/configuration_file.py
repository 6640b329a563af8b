"""TOML files of training runs and of class tables, and the same as JSON."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segmodel.errors import ConfigurationError
from segmodel.labels.class_settings import class_table
from segmodel.labels.classes import ClassTable, format_color, parse_color
from segmodel.settings import check_keys, keys_of, parsed_toml
from segmodel.training.configuration import NO_FILES, TABLES, Configuration, DataConfig

FOLDERS = [
    f"{side}{kind}" for side in ("", "validation_") for kind in ("images", "masks", "shards")
]


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
    with parsed_toml(path) as document:
        for name, text in (overrides or {}).items():
            override(document, name, text)
        return parse_configuration(document, Path(path).parent)


def parse_configuration(document: dict[str, Any], folder: Path = Path()) -> Configuration:
    """The configuration of a parsed TOML document.

    Args:
        document: Parsed TOML.
        folder: Folder that relative paths in it are taken from.

    Raises:
        ConfigurationError: If a key or a value is wrong; the text names the key.
    """
    config = Configuration(**{name: {} for name in TABLES} | {"classes": []} | document)
    data, model = config.data, config.model
    located: dict[str, Any] = {
        key: tuple(str(folder / name) for name in getattr(data, key)) for key in FOLDERS
    }
    weights, start = model.backbone_weights, model.init_from
    model = dataclasses.replace(
        model,
        backbone_weights=weights if weights in NO_FILES else str(folder / weights),
        init_from=str(folder / start) if start else "",
    )
    return dataclasses.replace(config, data=dataclasses.replace(data, **located), model=model)


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
    with parsed_toml(path) as document:
        check_keys(document, keys_of(Configuration), "")
        data = document.get("data", {})
        check_keys(data, keys_of(DataConfig), "data")
        read = {"mask_encoding", "ignore_colors", "ignore_ids"} & set(data)
        found = DataConfig(**{key: data[key] for key in read})
        for color in found.ignore_colors:
            parse_color(color)
        values = {key: getattr(found, key) for key in read}
        return MaskConfig(class_table(document.get("classes", [])), **values)


def override(document: dict[str, Any], name: str, text: str) -> None:
    """Replace one value of a parsed document by TOML text, or by the text itself.

    Args:
        document: Changed in place.
        name: `SECTION.KEY` or longer, as TOML writes dotted keys.
        text: The value.

    Raises:
        ConfigurationError: If the name is no such key.

    >>> document = {}
    >>> override(document, 'export.min_iou."bare soil"', "0.5")
    >>> document
    {'export': {'min_iou': {'bare soil': 0.5}}}
    """
    wrong = ConfigurationError(f"--set needs SECTION.KEY=VALUE, got {name!r}")
    try:
        ((key, inner),) = tomllib.loads(f"{name} = 0").items()
    except (ValueError, RecursionError):
        raise wrong from None
    table: Any = document
    if not inner:
        raise wrong
    while inner:
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            raise wrong
        ((key, inner),) = inner.items()
    try:
        table[key] = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        table[key] = text

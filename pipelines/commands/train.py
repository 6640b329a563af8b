"""Train a fully convolutional network on pairs of image and mask, and export the best weights.

Writes to the output folder: model/ (a SavedModel with its contract, for `segment`), card.md (what
the model is and how good it is, with pictures), scores, curves, and history.jsonl. A run that was
interrupted resumes where it stopped when the same command is given again.

Examples:
  beamseg train --config streets.toml --output training/streets
  beamseg train --config streets.toml --output training/short --set training.steps=200
  beamseg train --config streets.toml --output training/more --init_from training/streets
  beamseg train --config streets.toml --output training/folds --folds_by group
  beamseg train --config streets.toml --output training/good --min_iou road=0.5 --min_iou mean=0.6
  beamseg train --schema > train.schema.json
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from pipelines.cli.parser import Parser, parse
from segmodel.errors import ConfigurationError

if TYPE_CHECKING:
    from tqdm import tqdm


def parser() -> Parser:
    """The command's parser."""
    command = Parser(prog="beamseg train", doc=__doc__)
    command.add_argument("--config", metavar="FILE", help="TOML file; see docs/training.md")
    command.add_argument("--output", metavar="DIR", help="folder for all that the run makes")
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="replace a value of the configuration; repeatable",
    )
    command.add_argument(
        "--backbone_weights",
        metavar="imagenet|none|PATH",
        help="where the backbone starts: instead of model.backbone_weights",
    )
    command.add_argument(
        "--init_from",
        metavar="PATH",
        help="an exported model or a training run, whose weights are where to start",
    )
    command.add_argument(
        "--min_iou",
        action="append",
        default=[],
        metavar="CLASS=VALUE",
        help="export nothing if the IoU of a class, or the mean, is below; repeatable",
    )
    command.add_argument(
        "--folds_by",
        choices=["group"],
        help="a run for each region (data.group), trained on the others and scored on it",
    )
    command.add_argument(
        "--overwrite", action="store_true", help="replace a run with other settings or data"
    )
    command.add_argument(
        "--schema",
        action="store_true",
        help="print the JSON Schema of configuration files, by which editors complete them",
    )
    return command


def run(arguments: Sequence[str]) -> int:
    """Train; returns the exit status."""
    parsed, _ = parse(parser(), arguments, with_beam=False)
    if parsed.schema:
        from segmodel.training.configuration import json_schema

        print(json.dumps(json_schema(), indent=2))
        return 0
    for name in ("config", "output"):
        if not getattr(parsed, name):
            raise ConfigurationError(f"--{name} is missing: see beamseg train --help")
    changes = overrides(parsed)

    from segmodel.training.configuration_file import load_configuration

    config = load_configuration(parsed.config, changes)

    from pipelines.datasets.training import read_data
    from segmodel.devices.startup import import_quietly

    with import_quietly():
        from segmodel.training.folds import cross_validate, folds_table
        from segmodel.training.trainer import Hooks, train

    with read_data(config, bool(parsed.folds_by)) as data, _bar(config.training.steps) as bar:
        hooks = Hooks(bar.write, bar.step)
        if parsed.folds_by:
            folds = cross_validate(config, data, parsed.output, hooks, parsed.overwrite)
        else:
            contract = train(config, data, parsed.output, hooks, parsed.overwrite)
    if parsed.folds_by:
        print(folds_table(folds, config.classes.names))
        return 0
    mean = contract.metrics["mean_iou"]
    print(f"model with mean IoU {mean:.3f} in {parsed.output}/model, described in card.md there")
    return 0


def overrides(parsed: argparse.Namespace) -> dict[str, str]:
    """Values of options by their dotted names in the configuration.

    Raises:
        ConfigurationError: If an option is not of the form `NAME=VALUE`.
    """
    changes = dict(_setting(text) for text in parsed.set)
    if parsed.backbone_weights:
        known = parsed.backbone_weights in ("none", "imagenet")
        weights = parsed.backbone_weights if known else os.path.abspath(parsed.backbone_weights)
        changes["model.backbone_weights"] = _quoted(weights)
    if parsed.init_from:
        changes["model.init_from"] = _quoted(os.path.abspath(parsed.init_from))
    for text in parsed.min_iou:
        name, least = _floor(text)
        changes[f"export.min_iou.{_quoted(name)}"] = repr(least)
    return changes


def _setting(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise ConfigurationError(f"--set needs SECTION.KEY=VALUE, got {text!r}")
    return key, value


def _floor(text: str) -> tuple[str, float]:
    # A class may have the sign in its name, a number has not.
    name, equals, least = text.rpartition("=")
    if not equals:
        raise ConfigurationError(f"--min_iou needs CLASS=VALUE, got {text!r}")
    try:
        return name, float(least)
    except ValueError:
        raise ConfigurationError(f"--min_iou {name} must be a number, got {least!r}") from None


def _quoted(text: str) -> str:
    """A TOML string, which is escaped as one of JSON is."""
    return json.dumps(text, ensure_ascii=False)


class _Bar:
    """Steps as a progress bar on a terminal, and lines above it.

    Args:
        bar: Bar of `tqdm`.
    """

    def __init__(self, bar: "tqdm[NoReturn]") -> None:
        self._bar = bar

    def write(self, line: str) -> None:
        self._bar.clear()
        print(line, flush=True)

    def step(self, step: int, loss: float) -> None:
        self._bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
        self._bar.update(step - self._bar.n)


@contextmanager
def _bar(steps: int) -> Iterator[_Bar]:
    from tqdm import tqdm

    # Without a terminal the lines of the validations are enough.
    with tqdm(total=steps, unit="step", disable=not sys.stderr.isatty(), leave=False) as bar:
        yield _Bar(bar)

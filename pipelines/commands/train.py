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

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.cli.options import Option, add_options, parse_options
from pipelines.cli.parser import Parser, parse
from segmodel.errors import ConfigurationError

if TYPE_CHECKING:
    from segmodel.training.trainer import Hooks


@dataclass(frozen=True)
class TrainOptions:
    """What the user asked for; each field is declared with its option."""

    config: str | None = Option("FILE").field()
    """TOML file; see docs/training.md"""
    output: str | None = Option("DIR").field()
    """folder for all that the run makes"""
    values: tuple[str, ...] = Option("SECTION.KEY=VALUE", is_repeatable=True, name="set").field()
    """replace a value of the configuration; repeatable"""
    backbone_weights: str | None = Option("imagenet|none|PATH").field()
    """where the backbone starts: instead of model.backbone_weights"""
    init_from: str | None = Option("PATH").field()
    """an exported model or a training run, whose weights are where to start"""
    min_iou: tuple[str, ...] = Option("CLASS=VALUE", is_repeatable=True).field()
    """export nothing if the IoU of a class, or the mean, is below; repeatable"""
    folds_by: str | None = Option("{group}", choices=("group",)).field()
    """a run for each region (data.group), trained on the others and scored on it"""
    overwrite: bool = Option().field()
    """replace a run with other settings or data"""
    trust_inputs: bool = Option().field()
    """read what images and masks such as VRTs name, wherever it is"""
    schema: bool = Option().field()
    """print the JSON Schema of configuration files, by which editors complete them"""


def parser() -> Parser:
    """The command's parser."""
    command = Parser(prog="beamseg train", doc=__doc__)
    add_options(command, TrainOptions)
    return command


def run(arguments: Sequence[str]) -> int:
    """Train; returns the exit status."""
    options = parse_options(TrainOptions, parse(parser(), arguments, with_beam=False)[0])
    if options.schema:
        from segmodel.training.configuration import json_schema

        print(json.dumps(json_schema(), indent=2))
        return 0
    if not options.config or not options.output:
        missing = "output" if options.config else "config"
        raise ConfigurationError(f"--{missing} is missing: see beamseg train --help")
    from pipelines.storage.locations import check_local_output

    check_local_output(options.output)
    changes = overrides(options)

    from segmodel.training.configuration_file import load_configuration

    config = load_configuration(options.config, changes)

    from pipelines.datasets.training import read_data
    from segmodel.devices.disks import room
    from segmodel.devices.startup import import_quietly

    with import_quietly():
        from segmodel.training.folds import cross_validate, folds_table
        from segmodel.training.trainer import train

    where, overwrite = options.output, options.overwrite
    with (
        room(where),
        read_data(config, bool(options.folds_by), options.trust_inputs) as data,
        _hooks(config.training.steps) as hooks,
    ):
        if options.folds_by:
            folds = cross_validate(config, data, where, hooks, overwrite)
            result = folds_table(folds, config.classes.names)
        else:
            mean = train(config, data, where, hooks, overwrite).metrics["mean_iou"]
            result = f"model with mean IoU {mean:.3f} in {where}/model, described in card.md there"
    print(result)
    return 0


def overrides(options: TrainOptions) -> dict[str, str]:
    """Values of options by their dotted names in the configuration.

    Raises:
        ConfigurationError: If an option is not of the form `NAME=VALUE`.
    """
    changes: dict[str, str] = {}
    for text in options.values:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigurationError(f"--set needs SECTION.KEY=VALUE, got {text!r}")
        changes[key] = value
    if weights := options.backbone_weights:
        known = weights in ("none", "imagenet")
        changes["model.backbone_weights"] = _quoted(weights if known else os.path.abspath(weights))
    if options.init_from:
        changes["model.init_from"] = _quoted(os.path.abspath(options.init_from))
    for text in options.min_iou:
        # A class may have the sign in its name, a number has not.
        name, equals, least = text.rpartition("=")
        if not equals:
            raise ConfigurationError(f"--min_iou needs CLASS=VALUE, got {text!r}")
        try:
            changes[f"export.min_iou.{_quoted(name)}"] = repr(float(least))
        except ValueError:
            raise ConfigurationError(f"--min_iou {name} must be a number, got {least!r}") from None
    return changes


def _quoted(text: str) -> str:
    """A TOML string, which is escaped as one of JSON is."""
    return json.dumps(text, ensure_ascii=False)


@contextmanager
def _hooks(steps: int) -> Iterator["Hooks"]:
    """Functions that show the steps of a run as a progress bar on a terminal, and lines above."""
    from tqdm import tqdm

    from segmodel.training.trainer import Hooks

    # Without a terminal the lines of the validations are enough.
    with tqdm(total=steps, unit="step", disable=not sys.stderr.isatty(), leave=False) as bar:

        def log(line: str) -> None:
            bar.clear()
            print(line, flush=True)

        def on_step(step: int, loss: float) -> None:
            bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
            bar.update(step - bar.n)

        yield Hooks(log, on_step)

"""`beamseg train`: a configuration in, a SavedModel with its contract out."""

from collections.abc import Sequence

from pipelines.command_line import Parser, parse
from segmodel.errors import ConfigurationError

HELP = """\
Train a fully convolutional network on pairs of image and mask, and export the best weights.

Writes to the output folder: model/ (a SavedModel with its contract, for `segment`), history.jsonl
with the scores of every validation, and best.weights.h5.
"""

EXAMPLES = """\
examples:
  beamseg train --config streets.toml --output training/streets
  beamseg train --config streets.toml --output training/short --set training.steps=200
"""


def parser() -> Parser:
    """The command's parser."""
    command = Parser(prog="beamseg train", description=HELP, epilog=EXAMPLES)
    command.add_argument("--config", metavar="FILE", help="TOML file; see docs/training.md")
    command.add_argument("--output", metavar="DIR", help="folder for the model and its history")
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="replace a value of the configuration; repeatable",
    )
    return command


def run(arguments: Sequence[str]) -> int:
    """Train; returns the exit status."""
    parsed, _ = parse(parser(), arguments, with_beam=False)
    for name in ("config", "output"):
        if not getattr(parsed, name):
            raise ConfigurationError(f"--{name} is missing: see beamseg train --help")
    overrides = {}
    for text in parsed.set:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigurationError(f"--set needs SECTION.KEY=VALUE, got {text!r}")
        overrides[key] = value

    from segmodel.configuration_file import load_configuration

    config = load_configuration(parsed.config, overrides)

    from segmodel.quiet import quiet_start

    with quiet_start():
        from segmodel.trainer import train

    contract = train(config, parsed.output, lambda line: print(line, flush=True))
    mean = contract.metrics["mean_iou"]
    print(f"model with mean IoU {mean:.3f} in {parsed.output}/model: see beamseg inspect")
    return 0

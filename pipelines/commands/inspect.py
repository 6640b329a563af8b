"""Print what a SavedModel says about itself: input, classes, window and halo, scores, versions.

Examples:
  beamseg inspect models/land
"""

from collections.abc import Sequence

from pipelines.cli.parser import Parser, parse


def parser() -> Parser:
    """The command's parser."""
    command = Parser(prog="beamseg inspect", doc=__doc__)
    command.add_argument("model", metavar="MODEL", help="SavedModel folder with a model contract")
    return command


def run(arguments: Sequence[str]) -> int:
    """Print the contract; returns the exit status."""
    parsed, _ = parse(parser(), arguments, with_beam=False)
    from pipelines.storage.copies import open_model
    from segmodel.savedmodel.description import describe

    model = open_model(parsed.model)
    for line in describe(model.contract, model.fingerprint):
        print(line)
    return 0

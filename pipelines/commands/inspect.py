"""`beamseg inspect`: a model contract as a person wants to read it."""

from collections.abc import Sequence

from pipelines.cli.parser import Parser, parse

HELP = """\
Print what a SavedModel says about itself: input, classes, window and halo, scores, versions.
"""

EXAMPLES = """\
example:
  beamseg inspect models/land
"""


def parser() -> Parser:
    """The command's parser."""
    command = Parser(prog="beamseg inspect", description=HELP, epilog=EXAMPLES)
    command.add_argument("model", metavar="MODEL", help="SavedModel folder with a model contract")
    return command


def run(arguments: Sequence[str]) -> int:
    """Print the contract; returns the exit status."""
    parsed, _ = parse(parser(), arguments, with_beam=False)
    from pipelines.storage.copies import contract_of, local_model
    from segmodel.savedmodel.description import describe
    from segmodel.savedmodel.folder import fingerprint

    for line in describe(contract_of(parsed.model), fingerprint(local_model(parsed.model))):
        print(line)
    return 0

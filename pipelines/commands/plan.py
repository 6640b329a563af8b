"""Print the units, pixels, windows, bytes, memory and disk space of a run, without starting it.

Takes the options of `segment`. Reads listings, headers and the model contract; loads no model and
writes nothing.

Examples:
  beamseg plan --input scenes/ --model models/land --output runs/may --window 1024
"""

from collections.abc import Sequence

from pipelines.cli.options import add_options
from pipelines.cli.parser import Parser, parse
from pipelines.segment.options import SegmentOptions, segment_options
from segmodel.escaping import on_one_line


def parser() -> Parser:
    """The command's parser."""
    command = Parser(prog="beamseg plan", doc=__doc__)
    add_options(command, SegmentOptions, without=("output",))
    command.add_argument(
        "--output",
        metavar="RUN",
        default="run",
        help="run directory of the run; what is in it is no input (default: run)",
    )
    return command


def run(arguments: Sequence[str]) -> int:
    """Print the plan; returns the exit status."""
    parsed, _ = parse(parser(), arguments, with_beam=True)
    options = segment_options(parsed)

    from pipelines.segment.plan_report import report

    for line in report(options):
        print(on_one_line(line))
    return 0

"""Estimate accuracy and areas of a finished map from its labelled sample.

Takes the table that `beamseg sample` wrote, after people have filled its column `class`: CSV,
GeoPackage or GeoJSON. The design of the sample lies beside it, or is named by --design. A sample
of another map, a point that was not drawn, stands twice or was moved, and a class that the map does
not know are refused.

Writes accuracy.csv, accuracy.json and accuracy.png beside the design: user's, producer's and
overall accuracy, and the area of each class, with standard errors and intervals; by zone as well
where zones were strata. Nothing of the run is changed: areas.csv stays the table of the map.

Examples:
  beamseg sample runs/may --total 500 --output sample
  beamseg assess runs/may sample/sample.csv            # after people have filled its classes
  beamseg assess runs/may labelled.gpkg --design sample/design.json --output signed

exit status:
    0  estimated
    2  usage error: the table, the design or the run is not what it must be; says what helps
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from pipelines.cli.exit_status import ExitStatus
from pipelines.cli.options import Option, add_options, parse_options
from pipelines.cli.parser import Parser, parse
from pipelines.cli.values import parse_share


@dataclass(frozen=True)
class AssessOptions:
    """What the user asked for; each field is declared with its option."""

    design: str | None = Option("FILE", default_help="design.json beside LABELLED").field()
    """design of the sample, as `beamseg sample` wrote it"""
    output: str | None = Option("DIR", default_help="the folder of the design").field()
    """folder for the results"""
    interval: str = Option(
        "METHOD", default="wilson", choices=("wilson", "jeffreys", "clopper-pearson")
    ).field()
    """intervals of shares: wilson, jeffreys or clopper-pearson; the last two need scipy"""
    level: Fraction = Option("SHARE", parse=parse_share, default="95%").field()
    """how often intervals hold, such as 95% or 0.9"""
    missing: str = Option("HOW", default="refuse", choices=("refuse", "drop")).field()
    """points without a class: refuse, or drop, as if they had not been drawn; that is right only if
    they lack a class for reasons that have nothing to do with what is there"""


def parser() -> Parser:
    """The command's parser."""
    command = Parser(prog="beamseg assess", doc=__doc__)
    command.add_argument("run", metavar="RUN", help="--output of segment")
    command.add_argument("labelled", metavar="LABELLED", help="the labelled points of the sample")
    add_options(command, AssessOptions)
    return command


def run(arguments: Sequence[str]) -> int:
    """Print the estimates and write them; returns the exit status."""
    parsed, _ = parse(parser(), arguments, with_beam=False)
    options = parse_options(AssessOptions, parsed)

    from pipelines.accuracy.accuracy_tables import accuracy_text
    from pipelines.accuracy.assess_run import assess_run, design_path, write_assessment
    from segmodel.evaluation.intervals import Intervals

    design = options.design or design_path(parsed.labelled)
    assessment = assess_run(
        parsed.run,
        parsed.labelled,
        design,
        Intervals(float(options.level), options.interval),
        options.missing == "drop",
    )
    folder = options.output or os.path.dirname(design) or "."
    write_assessment(folder, assessment, {"design": design, "labelled": parsed.labelled})
    print(*accuracy_text(assessment), sep="\n")
    print(f"\nwritten to {folder}: accuracy.csv, accuracy.json, accuracy.png")
    return ExitStatus.COMPLETE

"""Options of `layers`, which `segment` has too."""

import argparse
from dataclasses import dataclass

from pipelines.cli.options import Option, parse_options, positive
from pipelines.cli.values import MAX_FAILURES, FailureBudget
from segmodel.errors import ConfigurationError


@dataclass(frozen=True)
class LayersOptions:
    """What the user asked for; each field is declared with its option."""

    mosaic: bool = Option().field()
    """make one map of all label maps of a reference system, in files of equal size and an index
    over them; of scenes that show the same ground, the one that takes precedence shows"""
    cell: float | None = Option(
        "SIZE", float, positive, default_help="100 km or 3 degrees, less where pixels are small"
    ).field()
    """with --mosaic: side of a file, in units of the reference system"""
    minimum_area: float | None = Option("M2", float, positive).field()
    """generalize the label maps: what hangs together in less than this area, in m² of ground, takes
    the class that it has the longest border with"""
    max_failures: FailureBudget = MAX_FAILURES.field()


def layers_options(parsed: argparse.Namespace) -> LayersOptions:
    """Checked options.

    Raises:
        ConfigurationError: If one is not possible; names it.
    """
    options = parse_options(LayersOptions, parsed)
    if options.cell is not None and not options.mosaic:
        raise ConfigurationError("--cell is the side of the files of --mosaic: give both")
    return options

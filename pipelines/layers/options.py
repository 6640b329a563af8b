"""Options of `layers`, which `segment` has too."""

import argparse
from dataclasses import dataclass

from pipelines.cli.options import Option, parse_options, positive
from pipelines.cli.values import MAX_FAILURES, FailureBudget


@dataclass(frozen=True)
class LayersOptions:
    """What the user asked for; each field is declared with its option."""

    minimum_area: float | None = Option("M2", float, positive).field()
    """generalize the label maps: what hangs together in less than this area, in m² of ground, takes
    the class that it has the longest border with"""
    max_failures: FailureBudget = MAX_FAILURES.field()


def layers_options(parsed: argparse.Namespace) -> LayersOptions:
    """Checked options.

    Raises:
        ConfigurationError: If one is not possible; names it.
    """
    return parse_options(LayersOptions, parsed)

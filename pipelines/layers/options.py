"""Options of `layers`, which `segment` has too."""

import argparse
from dataclasses import dataclass

from pipelines.cli.options import parse_options
from pipelines.cli.values import MAX_FAILURES, FailureBudget


@dataclass(frozen=True)
class LayersOptions:
    """What the user asked for; each field is declared with its option."""

    max_failures: FailureBudget = MAX_FAILURES.field()


def layers_options(parsed: argparse.Namespace) -> LayersOptions:
    """Checked options.

    Raises:
        ConfigurationError: If one is not possible; names it.
    """
    return parse_options(LayersOptions, parsed)

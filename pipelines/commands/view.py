"""Look at a finished run in a browser: the map with its classes, and what is at each place.

Serves a page on this machine alone, until Ctrl-C: the label maps as web tiles, areas and shares of
the classes, outlines of scenes, overlaps, failures, the sample and its scores. Click the map for
class, scene, row, column and confidence. The run may be in a bucket; nothing is written.

Tiles are drawn from the label maps when the page asks for them. Where there are very many scenes,
make them once by `beamseg layers RUN --tiles png`, and the page shows those.

Examples:
  beamseg view runs/may
  beamseg view gs://survey/may --port 8000

exit status:
    0  ended by Ctrl-C
    2  usage error: there is no such run, or nothing of it has a place on a map; says what helps
"""

import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from pipelines.cli.exit_status import ExitStatus
from pipelines.cli.options import Option, add_options, parse_options
from pipelines.cli.parser import Parser, parse
from pipelines.layers.options import check_packages
from segmodel.escaping import on_one_line


def _port(value: int) -> int:
    if not 1 <= value <= 65535:
        raise ValueError("must be from 1 to 65535")
    return value


@dataclass(frozen=True)
class ViewOptions:
    """What the user asked for; each field is declared with its option."""

    port: int | None = Option("N", int, _port, default_help="a free one").field()
    """port of the page on this machine"""


def parser() -> Parser:
    """The command's parser."""
    command = Parser(prog="beamseg view", doc=__doc__)
    command.add_argument("run", metavar="RUN", help="--output of segment")
    add_options(command, ViewOptions)
    return command


def run(arguments: Sequence[str]) -> int:
    """Serve the page until a signal; returns the exit status."""
    parsed, _ = parse(parser(), arguments, with_beam=False)
    options = parse_options(ViewOptions, parsed)
    check_packages()

    from pipelines.layers.view.run_page import viewed_run
    from pipelines.layers.view.server import PageServer, Site

    with PageServer(Site(viewed_run(parsed.run)), options.port or 0) as server:
        # A signal is how this command ends well.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler)
        with suppress(KeyboardInterrupt):
            print(on_one_line(f"{parsed.run}: {server.address} (Ctrl-C ends it)"), flush=True)
            server.serve_forever()
    return ExitStatus.COMPLETE

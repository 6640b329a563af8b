"""Make layers of the label maps of a finished run, for maps, the web and the survey.

--mosaic makes one map of all label maps, in files of equal size with an index over them.
--minimum_area writes label maps in which what is smaller has the class around it, and tables of
what moved. --polygons makes polygons that are the label maps, pixel for pixel, and --simplify
smoother ones beside them. --tiles makes web tiles and a page to look at, --stac a catalogue.

The model is not needed, and the run stays as it is: layers lie in RUN/layers. What is there already
is not made again: other options add other layers. Run the same command again to continue an
interrupted one.

Examples:
  beamseg layers runs/may --mosaic
  beamseg layers runs/may --minimum_area 500 --polygons parquet,gpkg --simplify 1
  beamseg layers runs/may --tiles png --stac
  beamseg layers gs://survey/may --mosaic --cell 50000 --max_failures 1%
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.cli import process
from pipelines.cli.exit_status import PIPELINE_HELP, ExitStatus
from pipelines.cli.options import add_options
from pipelines.cli.parser import Parser, only_beam, parse
from pipelines.layers.options import LayersOptions, layers_options
from segmodel.errors import counted
from segmodel.escaping import on_one_line


def parser() -> Parser:
    """The command's parser."""
    command = Parser(prog="beamseg layers", doc=__doc__, epilog=PIPELINE_HELP)
    command.add_argument("run", metavar="RUN", help="--output of segment")
    add_options(command, LayersOptions)
    add_options(command, process.ProcessOptions)
    return command


def run(arguments: Sequence[str]) -> int:
    """Make layers as the words of a command line say; returns the exit status."""
    parsed, words = parse(parser(), arguments, with_beam=True)
    options = layers_options(parsed)
    if parsed.stop_with_parent:
        process.stop_with_parent()

    from pipelines.runners.runner_options import check_paths

    check_paths(words, (parsed.run,))
    summary = make_layers(parsed.run, options, only_beam(words))
    process.record_result(summary)
    return int(summary["exit_status"])


def make_layers(root: str, options: LayersOptions, beam_words: Sequence[str]) -> dict[str, Any]:
    """Make layers of a finished run, and print how that ended.

    Args:
        root: Run directory.
        options: Which layers.
        beam_words: Options of Beam.

    Returns:
        Content of `layers/summary.json`.
    """
    from pipelines.layers.launch import check_layers, prepare_layers

    resolved = check_layers(root, options)

    from pipelines.layers.graph import run_layers
    from pipelines.runners.execute import waiting_options

    beam_options = waiting_options(beam_words, "layers")
    run_layers(resolved, prepare_layers(resolved), options.max_failures, beam_options)
    summary = resolved.folder.read_json("summary.json")
    if summary is None:
        raise RuntimeError(f"{resolved.folder.root} has no summary: the pipeline did not end")
    _print_result(summary, resolved.folder.root, options)
    return summary


def _print_result(summary: Mapping[str, Any], folder: str, options: LayersOptions) -> None:
    from pipelines.runners.execute import print_result

    attempt = summary["this_attempt"]
    print(
        f"{counted(summary['images'], 'label map')} read, {summary['failed_images']:,} failed; "
        f"{counted(summary['units'], 'unit')}, {attempt['units_skipped']:,} done before; "
        f"{attempt['seconds']:.0f} s"
    )
    for name in summary["out_of_date"]:
        print(f"{name} is of an earlier map: make it again with --{name}", file=sys.stderr)
    for name, part in summary["layers"].items():
        for note in (", ".join(part["files"]), *part.get("notes", ())):
            print(on_one_line(f"{name}: {note}"))
    texts = {
        ExitStatus.COMPLETE: f"complete: layers in {folder}",
        ExitStatus.INCOMPLETE: f"{counted(summary['unfinished_units'], 'unit')} could not be "
        f"finished: run the same command again to do the rest",
    }
    print_result(summary, texts, f"{folder}/failures.csv", options.max_failures)

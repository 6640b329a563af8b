r"""Label every pixel of images, shards of images and georeferenced scenes with a SavedModel.

Shards are TFRecord files, WebDataset tar files or Parquet files. Writes to the run directory: label
maps under labels/, rows per image under areas/, totals in areas.csv, failed images in failures.csv,
a preview in preview.png, and _SUCCESS when the run is complete. Run the same command again to
continue an interrupted run. Inputs, model and run directory may be in object stores (gs://, s3://).
Layers, such as --mosaic, are made when the run is complete, as by beamseg layers.

Examples:
  beamseg segment --input 'photos/**/*.jpg' --model models/street --output runs/photos
  beamseg segment --input scenes/ --input shards/ --model models/land --output runs/may \
      --confidence --max_failures 1% --mosaic
  beamseg segment --input 'web/*.tar' --model models/street --output runs/web --image_field rgb.png
  beamseg segment --input scenes/ --model models/land --output look --limit 5
  beamseg segment --input 'gs://survey/**/*.tif' --model gs://survey/land --output gs://survey/may
"""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipelines.cli import process
from pipelines.cli.exit_status import PIPELINE_HELP, ExitStatus
from pipelines.cli.options import add_options
from pipelines.cli.parser import Parser, only_beam, parse
from pipelines.layers.options import LayersOptions, layers_options
from pipelines.segment.options import SegmentOptions, segment_options
from pipelines.storage import locations
from segmodel.errors import ConfigurationError

if TYPE_CHECKING:
    from pipelines.segment.launch import ResolvedRun

_NO_END = (
    "layers are made when the run has ended, and this command does not wait for that: leave their "
    "options out, then run `beamseg layers {}` with them"
)


def parser() -> Parser:
    """The command's parser."""
    command = Parser(prog="beamseg segment", doc=__doc__, epilog=PIPELINE_HELP)
    add_options(command, SegmentOptions)
    add_options(command, LayersOptions, without=("max_failures",))
    add_options(command, process.ProcessOptions)
    return command


def run(arguments: Sequence[str]) -> int:
    """Segment as the words of a command line say; returns the exit status."""
    parsed, words = parse(parser(), arguments, with_beam=True)
    options, layers = segment_options(parsed), layers_options(parsed)
    if parsed.stop_with_parent:
        process.stop_with_parent()

    from pipelines.runners.runner_options import check_paths, runs_elsewhere

    places = (*options.inputs, options.model, options.output)
    check_paths(words, places)
    if any(locations.scheme_of(place) in locations.BEAM_SCHEMES for place in places):
        # Beam's file systems have options of their own, which it notes when it reads them.
        from pipelines.runners.execute import pipeline_options

        pipeline_options(process.without_process_options(words))

    from pipelines.inputs.gone import some_of
    from pipelines.inputs.numbered import warning_of
    from pipelines.segment.launch import check_run, prepare_run

    resolved = check_run(options)

    from pipelines.runners.dataflow import check_options, is_detached
    from pipelines.runners.execute import pipeline_options
    from pipelines.segment.graph import print_run_result, run_segment

    beam_options = pipeline_options(process.without_process_options(words))
    if layers.has_any and is_detached(beam_options):
        raise ConfigurationError(_NO_END.format(options.output))
    check_options(options.accelerator, beam_options)
    if not runs_elsewhere(words):
        _check_here(resolved)
    prepared = prepare_run(resolved)
    if resolved.gone:
        print(f"gone: {some_of(resolved.gone)}; --gone {options.gone}", file=sys.stderr)
    if resolved.inputs.left_aside:
        print(resolved.inputs.left_aside.line(), file=sys.stderr)
    if resolved.inputs.missing:
        print(warning_of(resolved.inputs.missing.to_json()), file=sys.stderr)
    if prepared.shortage is not None:
        print(f"room: the run may take more than there is: {prepared.shortage}")
    submitted = run_segment(prepared, options, beam_options)
    if submitted is not None:
        print(submitted)
        process.record_result({"reason": "submitted"})
        return 0
    status = print_run_result(prepared.work.run, options)
    if status != ExitStatus.COMPLETE or not layers.has_any:
        return status
    return _make_layers(options.output, layers, words)


def _check_here(resolved: "ResolvedRun") -> None:
    """Refuse what workers on this machine would refuse, before anything is written."""
    from pipelines.worker.model import MODELS, check_compute_here

    options = resolved.options
    check_compute_here(options.compute)
    if resolved.is_new and not options.trust_model:
        MODELS.check(resolved.model)


def _make_layers(root: str, layers: LayersOptions, words: Sequence[str]) -> int:
    """Make layers of the run that has just ended; returns the exit status."""
    from pipelines.commands.layers import make_layers

    summary = make_layers(root, layers, only_beam(words))
    process.record_result({"reason": summary["reason"]})
    return int(summary["exit_status"])

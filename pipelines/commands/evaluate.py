r"""Compare the label maps of a finished run with what is true, pixel by pixel.

References are masks, under the paths of the inputs but for the suffix (image files and scenes), or
the names of images in shards; shards with masks, under the paths of the shards; one raster with a
place, which all scenes lie on; or polygons or points of a file (GeoPackage, GeoJSON, CSV with lon,
lat and class). A scene takes what a raster on another grid has nearest to the centres of its
pixels, and the polygon in which a centre lies. What is ignored in a mask, and what no reference
covers, counts nowhere; where the run has nodata, a pixel counts as unlabelled.

Writes to DIR: scores.csv and scores.json (IoU, F1, precision, recall and accuracy, in pixels and,
where there is ground, by area; in all, by group and by zone), images.csv (a row for each image or
scene), matrices.parquet (all confusion matrices), confusion.png, failures.csv, and reliability.png
if the run has confidence. The run stays as it is. Run the same command again to continue an
interrupted evaluation.

With --model and --input, the run is made first, or continued, as segment does.

Examples:
  beamseg evaluate runs/photos --reference masks/ --classes street.toml --output scores/photos
  beamseg evaluate runs/may --reference landcover.tif --output scores/may --boundary_px 2
  beamseg evaluate runs/may --reference plots.gpkg --class_field class --output scores/plots \
      --zones districts.gpkg
  beamseg evaluate runs/test --model models/land --input test/images --confidence \
      --reference test/masks --output scores/test --group_by 'tile_(\d+)'
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.accuracy.evaluation.options import EvaluateOptions, evaluate_options
from pipelines.cli import process
from pipelines.cli.exit_status import PIPELINE_HELP, ExitStatus
from pipelines.cli.options import add_options
from pipelines.cli.parser import Parser, only_beam, parse
from segmodel.errors import ConfigurationError, counted


def parser() -> Parser:
    """The command's parser."""
    command = Parser(prog="beamseg evaluate", doc=__doc__, epilog=PIPELINE_HELP)
    command.add_argument("run", metavar="RUN", help="--output of segment")
    add_options(command, EvaluateOptions)
    add_options(command, process.ProcessOptions)
    return command


def run(arguments: Sequence[str]) -> int:
    """Evaluate as the words of a command line say; returns the exit status."""
    parsed, words = parse(parser(), arguments, with_beam=True)
    options = evaluate_options(parsed)
    if parsed.stop_with_parent:
        process.stop_with_parent()

    from pipelines.runners.runner_options import check_paths

    places = (parsed.run, options.reference, options.output)
    check_paths(words, (*places, *options.inputs))
    if options.model is not None and (status := _segment(parsed.run, options, words)):
        return status

    from pipelines.accuracy.evaluation.launch import check_evaluation, prepare_evaluation

    resolved = check_evaluation(parsed.run, options)

    from pipelines.accuracy.evaluation.graph import run_evaluation
    from pipelines.runners.execute import waiting_options

    beam_options = waiting_options(only_beam(words), "evaluate")
    matched = resolved.matched
    if matched.without_reference:
        print(
            f"{counted(matched.without_reference, 'label map')} without a reference",
            file=sys.stderr,
        )
    if matched.unused:
        print(f"{counted(matched.unused, 'reference')} without a label map", file=sys.stderr)
    prepared = prepare_evaluation(resolved)
    run_evaluation(prepared, options, beam_options)
    summary = prepared.work.run.read_json("summary.json")
    if summary is None:
        raise RuntimeError(f"{options.output} has no summary: the pipeline did not reach its end")
    process.record_result(summary)
    if summary["exit_status"] == ExitStatus.COMPLETE and not summary["images"]:
        raise ConfigurationError(
            f"--reference {options.reference} says nothing of any label map of {parsed.run}: check "
            f"its coordinate reference system, and what is ignored in it"
        )
    return _print_result(summary, prepared.work.run.read_json("scores.json"), options)


def _segment(root: str, options: EvaluateOptions, words: Sequence[str]) -> int:
    """Make the run, or continue it; returns the exit status."""
    from pipelines.commands import segment

    assert options.model is not None
    asked = [f"--input={pattern}" for pattern in options.inputs]
    asked += [f"--model={options.model}", f"--output={root}"]
    asked += ["--confidence"] * options.confidence
    return segment.run([*asked, *only_beam(words)])


def _print_result(
    summary: Mapping[str, Any], scores: Mapping[str, Any] | None, options: EvaluateOptions
) -> int:
    from pipelines.runners.execute import print_result

    output, attempt = options.output, summary["this_attempt"]
    print(
        f"{counted(summary['images'], 'image')} compared, {summary['failed_images']:,} failed; "
        f"{counted(summary['units'], 'unit')}, {attempt['units_skipped']:,} done before; "
        f"{attempt['seconds']:.0f} s"
    )
    if scores is not None:
        for row in scores["compared"]:
            print(f"{counted(row['images'], row['kind'])} against {row['reference']}")
        found = scores["all"]["scores"]
        accuracy, iou = _share(found["pixel_accuracy"]), _share(found["mean_iou"])
        print(f"accuracy {accuracy}, mean IoU {iou}")
    texts = {
        ExitStatus.COMPLETE: f"complete: scores in {output}/scores.csv, pictures beside it",
        ExitStatus.INCOMPLETE: f"{counted(summary['unfinished_units'], 'unit')} could not be "
        f"finished: run the same command again to do the rest",
    }
    return print_result(summary, texts, f"{output}/failures.csv", options.max_failures)


def _share(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"

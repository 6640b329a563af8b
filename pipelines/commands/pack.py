r"""Pack image files, with their masks if there are any, into TFRecord, tar or Parquet shards.

Many small files are slow to list and to read; a shard of a thousand images is not. Images are
stored byte for byte; each is decoded once to check that it is complete. TIFFs have 1, 3 or 4 bands
of uint8 or uint16, as models get no others from shards. Masks become PNG label maps
with class ids, and nodata where they are ignored. The name of an image is its path below the folder
that all --images have in common.

The place of an image follows from hashes of its group and its name: the same files give the same
shards in any order, shards are shuffled, images of a group stay in one split, and added images move
no others. Writes DIR/SPLIT/SPLIT-00000-of-00012.tfrecord and, last, DIR/pack.json with counts. Run
the same command again to continue an interrupted pack.

Examples:
  beamseg pack --images photos/ --output shards
  beamseg pack --images streets/images --masks streets/masks --classes streets.toml \
      --output shards --format tar --split train=0.8,validation=0.1,test=0.1
  beamseg pack --images 'aerial/**/*.jpg' --output shards --split train=0.9,test=0.1 \
      --group_by 'tile_(\d+)'
  beamseg segment --input shards/ --model models/street --output runs/shards

A file for --classes, if there is no configuration of a training run:
  [data]
  ignore_colors = ["#000000"]
  [[classes]]
  id = 0
  name = "road"
  color = "#6EC1E4"
"""

import sys
from collections.abc import Sequence

from pipelines.cli import process
from pipelines.cli.exit_status import PIPELINE_HELP, ExitStatus
from pipelines.cli.options import add_options
from pipelines.cli.parser import Parser, parse
from pipelines.datasets.options import PackOptions, pack_options
from segmodel.errors import counted


def parser() -> Parser:
    """The command's parser."""
    command = Parser(prog="beamseg pack", doc=__doc__, epilog=PIPELINE_HELP)
    add_options(command, PackOptions)
    add_options(command, process.ProcessOptions)
    return command


def run(arguments: Sequence[str]) -> int:
    """Pack as the words of a command line say; returns the exit status."""
    parsed, words = parse(parser(), arguments, with_beam=True)
    options = pack_options(parsed)
    if parsed.stop_with_parent:
        process.stop_with_parent()

    from pipelines.datasets.launch import check_pack, prepare_pack
    from pipelines.runners.runner_options import check_paths

    check_paths(words, (*options.images, *options.masks, options.output))
    resolved = check_pack(options)

    from pipelines.datasets.graph import run_pack
    from pipelines.runners.execute import print_result, waiting_options

    beam_options = waiting_options(process.without_process_options(words), "pack")
    if resolved.inputs.left_aside:
        print(resolved.inputs.left_aside.line(), file=sys.stderr)
    if resolved.inputs.unused_masks:
        print(f"{counted(resolved.inputs.unused_masks, 'mask')} without an image", file=sys.stderr)
    prepared = prepare_pack(resolved)
    run_pack(prepared, options.max_failures, beam_options)
    summary = prepared.work.run.read_json("summary.json")
    if summary is None:
        raise RuntimeError(f"{options.output} has no summary: the pipeline did not reach its end")
    # A shard is the work unit of a pack.
    units = {"units": summary["shards"], "unfinished_units": summary["unfinished_shards"]}
    process.record_result(summary | units)
    attempt, output = summary["this_attempt"], options.output
    print(
        f"{counted(summary['images'], 'image')} packed, {summary['failed_images']:,} failed; "
        f"{counted(summary['shards'], 'shard')}, {attempt['shards_skipped']:,} done before; "
        f"{attempt['seconds']:.0f} s"
    )
    texts = {
        ExitStatus.COMPLETE: f"complete: shards in {output}, counts in {output}/pack.json",
        ExitStatus.INCOMPLETE: f"{counted(summary['unfinished_shards'], 'shard')} could not be "
        f"finished: run the same command again to do the rest",
    }
    return print_result(summary, texts, f"{output}/.beamseg/failures.csv", options.max_failures)

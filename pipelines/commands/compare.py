"""Lay training runs side by side.

Shows settings that differ, scores with their difference to the first run, and the validation images
on which the runs disagree most.

With --output, writes compare.md, compare.json, curves.png with the curves of all runs, and
pictures/ of the most disputed images: image, truth, and the labels of each run.

Examples:
  beamseg compare training/plain training/dice
  beamseg compare training/plain training/dice training/sgd --output compared
"""

from collections.abc import Sequence

from pipelines.cli.parser import Parser, parse


def parser() -> Parser:
    """The command's parser."""
    command = Parser(prog="beamseg compare", doc=__doc__)
    command.add_argument(
        "runs", nargs="+", metavar="RUN", help="two or more folders, --output of train"
    )
    command.add_argument("--output", metavar="DIR", help="folder for tables and pictures")
    return command


def run(arguments: Sequence[str]) -> int:
    """Print the comparison, and write it if asked; returns the exit status."""
    parsed, _ = parse(parser(), arguments, with_beam=False)

    from pipelines.storage.locations import check_local_output
    from segmodel.devices.disks import writing
    from segmodel.reports.comparison import compare_runs, comparison_text, write_comparison

    if parsed.output:
        check_local_output(parsed.output)
    comparison = compare_runs(parsed.runs)
    print(comparison_text(comparison))
    if parsed.output:
        with writing(parsed.output):
            write_comparison(parsed.output, comparison)
        print(f"\nwritten to {parsed.output}: see compare.md")
    return 0

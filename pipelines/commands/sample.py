r"""Draw a stratified random sample of a finished run, for people to label.

Counting the pixels of a map is biased, as the errors of the map are in the count. A sample that
people label, and beamseg assess, give areas and accuracies with intervals instead.

Points are drawn in each stratum with a probability in proportion to ground area: from scenes with a
place on the ground, where a pixel has a class and counts in the totals of the run. A point is the
centre of a pixel. Pixels are drawn with replacement, so that two points may lie in one.

Writes DIR/sample.gpkg, whose form in QGIS offers the classes, the same as DIR/sample.csv, DIR/chips
with a picture around each point, and DIR/design.json. Label one of the tables: fill its column
class with the name of a class. Neither shows the class of the map, which would sway who labels.
Keep design.json from them: it holds that class, the strata with their areas, and what map it is.

The same seed draws the same points. Tables that are there keep their rows, so the same command can
be given again, and --add gives a labelled sample more points.

For --buffer_px a pipeline reads all label maps once, and keeps in DIR/.beamseg what it has counted:
the same command continues it after an interruption. Options of Beam are for it alone.

Examples:
  beamseg sample runs/may --total 500
  beamseg sample runs/may --total 600 --allocation "water=100,built up=75"
  beamseg sample runs/may --standard_error 0.01 --expected_accuracy "water=0.95,forest=0.8"
  beamseg sample runs/may --total 900 --strata "class*zone" --output samples/may
  beamseg sample runs/may --total 500 --buffer_px 3 --buffer_class water \
      --allocation "water=60,around water=100"
  beamseg sample runs/may --add 200
"""

from collections.abc import Sequence

from pipelines.accuracy.sample_options import SampleOptions, sample_options
from pipelines.cli import process
from pipelines.cli.exit_status import PIPELINE_HELP, ExitStatus
from pipelines.cli.options import add_options
from pipelines.cli.parser import Parser, only_beam, parse
from segmodel.errors import counted
from segmodel.escaping import on_one_line


def parser() -> Parser:
    """The command's parser."""
    command = Parser(prog="beamseg sample", doc=__doc__, epilog=PIPELINE_HELP)
    command.add_argument("run", metavar="RUN", help="--output of segment")
    add_options(command, SampleOptions)
    add_options(command, process.ProcessOptions)
    return command


def run(arguments: Sequence[str]) -> int:
    """Draw the sample and print its strata; returns the exit status."""
    parsed, words = parse(parser(), arguments, with_beam=True)
    options = sample_options(parsed)
    if parsed.stop_with_parent:
        process.stop_with_parent()

    from pipelines.accuracy.accuracy_tables import area_unit
    from pipelines.accuracy.sample import sample_run
    from pipelines.runners.runner_options import check_paths
    from segmodel.reports.interval_chart import number_text

    check_paths(words, (parsed.run, options.output or parsed.run))
    result = sample_run(parsed.run, options, only_beam(words))
    strata = result.design.strata
    names = [on_one_line(stratum.name) for stratum in strata]
    width = max(map(len, names))
    sign, _, size = area_unit(sum(stratum.area_m2 for stratum in strata))
    for name, stratum in zip(names, strata, strict=True):
        area = f"{number_text(stratum.area_m2 / size, 0.0)} {sign}"
        print(f"{name:<{width}}  {area:>14}  {stratum.points:>6,}")
    if result.unplaced:
        print(f"left out: {counted(result.unplaced, 'image')} without a place on the ground")
    if result.without_chips:
        print(f"without a chip: {counted(result.without_chips, 'point')} in scenes that are gone")
    for line in result.repeated:
        print(line)
    points = counted(len(result.design.points), "point")
    print(on_one_line(f"{points} in {result.folder}: label sample.gpkg or sample.csv"))
    return ExitStatus.COMPLETE

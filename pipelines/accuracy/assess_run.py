"""`beamseg assess`: from a run and its labelled sample to files of estimates."""

import posixpath

from pipelines.accuracy.accuracy_tables import accuracy_csv, accuracy_json, accuracy_picture
from pipelines.accuracy.assessment import Assessment, assess_sample, read_map_areas
from pipelines.accuracy.design import (
    ACCURACY_CSV,
    ACCURACY_JSON,
    ACCURACY_PNG,
    DESIGN_JSON,
    read_design,
    run_digest_of,
)
from pipelines.accuracy.labelled import read_labelled
from pipelines.results.verify import open_run
from pipelines.run.directory import RUN_JSON, RunDirectory
from pipelines.storage import filesystem, locations
from segmodel.errors import ConfigurationError
from segmodel.evaluation.intervals import Intervals


def design_path(labelled: str) -> str:
    """Where the design of a labelled sample lies unless it is named: beside it.

    >>> design_path("gs://bucket/sample/points.csv"), design_path("points.csv")
    ('gs://bucket/sample/design.json', './design.json')
    """
    return posixpath.join(posixpath.dirname(labelled) or ".", DESIGN_JSON)


def assess_run(
    root: str, labelled: str, design_file: str, intervals: Intervals, drop_missing: bool
) -> Assessment:
    """Estimate accuracy and areas of the map of a run.

    Args:
        root: Run directory.
        labelled: The labelled table of the sample, see `read_labelled`.
        design_file: Its design.
        intervals: Level and method of the intervals.
        drop_missing: Whether points without a class are left out.

    Raises:
        ConfigurationError: If there is no such run, the sample is of another map, or the table, the
            design or the numbers of points do not allow an estimate; says what helps.
    """
    design = read_design(locations.checked(design_file))
    work = open_run(root)
    if run_digest_of(work.run.read_run() or {}, work.log) != design.run_digest:
        raise ConfigurationError(
            f"{design_file} is the design of a sample of another map than that of {root}: name the "
            f"run that was sampled, as it was then, or draw a sample of this one"
        )
    labels = read_labelled(labelled, design)
    return assess_sample(design, labels, read_map_areas(work.run), intervals, drop_missing)


def write_assessment(folder: str, assessment: Assessment, sources: dict[str, str]) -> None:
    """Write `accuracy.csv`, `accuracy.json` and `accuracy.png`.

    Args:
        folder: Where; made if it is not there.
        assessment: What was estimated.
        sources: Files that it was estimated from, by what they are; their SHA-256 is written.

    Raises:
        ConfigurationError: If the folder is a run directory, or cannot be written.
    """
    output = RunDirectory(locations.checked(folder))
    if filesystem.exists(output.path(RUN_JSON)):
        raise ConfigurationError(
            f"{folder} is a run directory, in which only its own tables are: name another --output"
        )
    digests = {f"{what}_sha256": filesystem.sha256(path) for what, path in sources.items()}
    output.make()
    output.write(ACCURACY_CSV, accuracy_csv(assessment))
    output.write_json(ACCURACY_JSON, accuracy_json(assessment, digests), is_sealed=True)
    output.write(ACCURACY_PNG, accuracy_picture(assessment))
    output.clear_scratch()

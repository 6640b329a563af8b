"""`beamseg assess`: from a run and its labelled sample to files of estimates."""

import math
import posixpath
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec

import numpy as np

from pipelines.accuracy.accuracy_tables import accuracy_csv, accuracy_json, accuracy_picture
from pipelines.accuracy.assessment import Assessment, assess_sample, read_map_areas
from pipelines.accuracy.design import DESIGN_JSON, SampleDesign, Stratum, read_design
from pipelines.accuracy.labelled import read_labelled
from pipelines.accuracy.map_blocks import is_placed
from pipelines.accuracy.sample_options import CLASS
from pipelines.formats.work import Work
from pipelines.results.verify import open_run
from pipelines.run.areas import Sums, TallySum
from pipelines.run.commits import Commit
from pipelines.run.directory import RUN_JSON, RunDirectory
from pipelines.run.plan import SCENE
from pipelines.run.polygons import ZONES, stored
from pipelines.run.soft_areas import SOFT_M2, sums_of_zones
from pipelines.scenes.finished import complete_summary, label_uri, run_digest_of
from pipelines.scenes.results import OUTSIDE, finished_counts, repeated_ground
from pipelines.storage import filesystem, locations
from segmodel.errors import ConfigurationError
from segmodel.evaluation.intervals import Intervals

# How far the ground of a stratum by probabilities may be from that by labels, relatively.
WHOLE = 1e-5


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
    soft = SoftGround(work)
    if run_digest_of(work.run.read_run() or {}, work.log, soft.add) != design.run_digest:
        raise ConfigurationError(
            f"{design_file} is the design of a sample of another map than that of {root}: name the "
            f"run that was sampled, as it was then, or draw a sample of this one"
        )
    summary = complete_summary(work)
    labels = read_labelled(labelled, design)
    found = assess_sample(
        design,
        labels,
        read_map_areas(work.run, {s.zone for s in design.strata if s.zone is not None}),
        intervals,
        drop_missing,
        soft.mean_probabilities(design),
    )
    return replace(found, repeated=tuple(repeated_ground(summary)))


class SoftGround:
    """Sums of the probabilities of all ground that a sample is drawn from, by the label it has.

    Args:
        work: What all units of the run had in common.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._total = TallySum()

    def add(self, commit: Commit) -> None:
        """Add the scene whose label map a unit wrote; other units count for nothing."""
        maps = commit.outputs_in("labels") if commit.unit.startswith(f"{SCENE}-") else []
        work = self._work
        if self._is_wanted and maps and is_placed(work.run.path(maps[0]), commit.tally, work):
            self._total.add(commit.tally)

    @property
    def _is_wanted(self) -> bool:
        """Whether a run has sums, and of ground that counts wherever a scene shows it."""
        return self._work.soft_areas and not self._work.counts_once

    def mean_probabilities(self, design: SampleDesign) -> np.ndarray | None:
        """What probabilities are on average over all ground of each stratum.

        Args:
            design: Design of a sample of the map.

        Returns:
            `(classes, strata)` float64; None if there is a buffer, a point has no probabilities,
            the run has no soft areas of all ground of a stratum, or scipy is not there, without
            which they tell no interval.
        """
        has_levels = all(point.probabilities is not None for point in design.points)
        is_known = has_levels and design.buffer is None and self._work.soft_areas
        if not is_known or find_spec("scipy") is None:
            return None
        is_counted = design.strata_by != CLASS or self._work.counts_once
        of_zones = self._counted(design.strata_by) if is_counted else self._of_scenes()
        found = np.array(
            [
                [_class_m2(stratum, class_id, of_zones) for stratum in design.strata]
                for class_id, _ in design.classes
            ]
        )
        whole = np.array([stratum.area_m2 for stratum in design.strata])
        if not np.allclose(found.sum(axis=0), whole, rtol=WHOLE):
            return None
        return np.asarray(found / found.sum(axis=0))

    def _of_scenes(self) -> dict[str | None, Sums]:
        return {None: self._total.exact().sums}

    def _counted(self, strata_by: str) -> dict[str | None, Sums]:
        """Sums of counts, by name of the zone where strata are in zones; else under None."""
        work, total = self._work, TallySum()
        for unit, commit, _ in finished_counts(work.run, work.log):
            if is_placed(label_uri(unit.file, work), commit.tally, work):
                total.add(commit.tally)
        if strata_by == CLASS:
            return {None: total.exact().sums}
        assert work.counting is not None
        assert work.counting.zones is not None
        names = stored(work.run, ZONES, work.counting.zones).names
        by_number = sums_of_zones(total.exact())
        return {OUTSIDE if n is None else names[n]: sums for n, sums in by_number.items()}


def _class_m2(stratum: Stratum, class_id: int, of_zones: Mapping[str | None, Sums]) -> float:
    """Ground of a class in a stratum by probabilities, in m²."""
    sums = of_zones.get(stratum.zone, {}).get(SOFT_M2, {})
    labels = {pair.partition(":")[0] for pair in sums}
    if stratum.class_id is not None:
        labels = {str(stratum.class_id)}
    return math.fsum(float(sums.get(f"{label}:{class_id}", 0)) for label in labels)


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
    output.write("accuracy.csv", accuracy_csv(assessment))
    output.write_json("accuracy.json", accuracy_json(assessment, digests), is_sealed=True)
    output.write("accuracy.png", accuracy_picture(assessment))
    output.clear_scratch()

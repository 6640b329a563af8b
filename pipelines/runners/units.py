"""Work units in a Beam graph: done one by one, counted, and summed up for the summary."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.metrics.metric import Metrics

from pipelines.run import plan, progress
from pipelines.run.attempts import UnitReport
from pipelines.run.plan import UnitReference, WorkUnit


class DoUnit(beam.DoFn):
    """Does one work unit of a plan: references come in, counts go out, and pixels stay inside.

    Args:
        action: Does a unit, given the unit, `work` and, as `on_pixels`, a function to call with
            the pixels that are done.
        work: Work that all units share.
        units: Name of Beam's counter of units.
        pixels: Name of Beam's counter of pixels.
    """

    def __init__(
        self, action: Callable[..., UnitReport], work: Any, units: str, pixels: str
    ) -> None:
        self.action, self.work = action, work
        self.units = Metrics.counter("beamseg", units)
        self.pixels = Metrics.counter("beamseg", pixels)

    def process(self, reference: UnitReference) -> Iterator[UnitReport]:
        """Do the unit that a reference names."""
        unit = plan.read_unit(self.work.run.plan, reference, WorkUnit)
        report = self.action(unit, self.work, on_pixels=progress.add_pixels)
        self.units.inc(report.done)
        self.pixels.inc(report.computed_pixels)
        yield report


def attempt_counts(report: UnitReport, units: str, pixels: str, started: float) -> dict[str, Any]:
    """What one attempt did, for `summary.json`.

    Args:
        report: Sum of the reports of all units.
        units: Name of the units in the keys, such as `shards`.
        pixels: Key of the number of pixels.
        started: Time at which the graph was built, in seconds.

    Returns:
        Counts by key, as in `this_attempt`.
    """
    return {
        f"{units}_done": report.done - report.skipped,
        f"{units}_skipped": report.skipped,
        f"{units}_unfinished": report.incomplete,
        pixels: report.computed_pixels,
        "seconds": round(time.time() - started, 3),
    }

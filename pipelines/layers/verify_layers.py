"""Whether the layers of a run are what their commit records say: size and SHA-256 of every file."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from pipelines.layers.stages import stage_log
from pipelines.results.verify import INVALIDATED, Verdict
from pipelines.results.verify_units import AGAIN, CheckedUnit, Finding, check_unit
from pipelines.run import plan
from pipelines.run.commits import CommitLog
from pipelines.run.directory import (
    LAYERS,
    LAYERS_DIR,
    METADATA_DIR,
    RUN_JSON,
    RunDirectory,
)
from pipelines.run.plan import WorkUnit
from pipelines.storage import filesystem, locations
from pipelines.storage.threads import in_order
from segmodel.errors import ConfigurationError


def verify_layers(
    root: str, on_finding: Callable[[Finding], None], invalidate: bool = False
) -> Verdict:
    """Check all that units of layers wrote.

    Args:
        root: The run directory.
        on_finding: Called with every finding.
        invalidate: Whether the record of a unit is removed if one of its files is missing or
            damaged, so that `layers` does the unit again. `_SUCCESS` of the layers is removed
            before.

    Returns:
        Counts of units, files, bytes and findings; 0 in a run without layers.
    """
    folder = RunDirectory(f"{locations.checked(root)}/{LAYERS_DIR}", LAYERS)
    found = _Checked(folder, on_finding, invalidate)
    for name in filesystem.names_below(folder.path(METADATA_DIR)):
        stage, _, file = name.rpartition("/")
        if file == RUN_JSON and not stage.endswith("/plan"):
            found.add_stage(stage)
    return found.verdict


@dataclass
class _Checked:
    """Findings and counts so far; arguments as of `verify_layers`."""

    folder: RunDirectory
    on_finding: Callable[[Finding], None]
    invalidate: bool
    verdict: Verdict = Verdict(0, 0, 0, 0, 0)

    def add_stage(self, stage: str) -> None:
        """Check the units of a stage."""
        kept = RunDirectory(self.folder.path(f"{METADATA_DIR}/{stage}"), LAYERS)
        try:
            begun = kept.read_run() or {}
        except ConfigurationError:
            self._damaged(f"{METADATA_DIR}/{stage}/{RUN_JSON}")
            return
        log = stage_log(self.folder.root, stage, begun.get("shape", ""))
        parts = f"{METADATA_DIR}/{stage}/plan"
        planned = plan.read_units(
            kept.plan, WorkUnit, lambda name: self._damaged(f"{parts}/{name}")
        )
        for checked in in_order(partial(check_unit, log=log, is_assembled=False), planned):
            self._add(checked, log)

    def _damaged(self, path: str) -> None:
        self.verdict += Verdict(0, 0, 0, 0, 1)
        self._report(Finding(path, "is damaged", AGAIN))

    def _add(self, checked: CheckedUnit, log: CommitLog) -> None:
        outputs, missing = checked.outputs, checked.unfinished
        faults = 0 if missing else len(checked.findings)
        size = sum(output.size for output in outputs)
        self.verdict += Verdict(1, len(outputs), size, int(missing), faults)
        if self.invalidate and checked.must_be_invalidated:
            self.folder.remove("_SUCCESS")
            log.invalidate(checked.unit)
            checked = checked.invalidated(INVALIDATED)
        for finding in checked.findings:
            self._report(finding)

    def _report(self, finding: Finding) -> None:
        remedy = finding.remedy.replace("beamseg segment", "beamseg layers")
        path = f"{LAYERS_DIR}/{finding.path}"
        self.on_finding(replace(finding, path=path, remedy=remedy))

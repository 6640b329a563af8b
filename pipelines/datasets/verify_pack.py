"""Whether a pack holds what its commit records say, and its folders of shards nothing else."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from pipelines.datasets.launch import RESULT
from pipelines.datasets.work import log_of, metadata_directory, split_name
from pipelines.results.verify import INVALIDATED, REMOVE, Verdict
from pipelines.results.verify_units import AGAIN, MALFORMED, CheckedUnit, Finding, check_unit
from pipelines.run import plan
from pipelines.run.areas import NODATA, Tally, TallySum
from pipelines.run.commits import CommitLog
from pipelines.run.directory import COPY, METADATA_DIR, RUN_JSON, SEALED, RunDirectory
from pipelines.run.plan import WorkUnit
from pipelines.run.seals import unsealed
from pipelines.storage import filesystem, locations
from pipelines.storage.digests import digest
from pipelines.storage.threads import in_order
from segmodel.errors import ConfigurationError


def is_pack(root: str) -> bool:
    """Whether there is a pack in a folder."""
    run = metadata_directory(locations.checked(root))
    return any(filesystem.exists(run.path(name)) for name in (RUN_JSON, COPY))


@dataclass
class _Pack:
    """A pack that is verified, and what was found so far."""

    root: str
    run: RunDirectory
    log: CommitLog
    on_finding: Callable[[Finding], None]
    totals: dict[str, TallySum] = field(default_factory=dict)
    recorded: set[str] = field(default_factory=set)
    shards: int = 0
    files: int = 0
    size: int = 0
    unfinished: int = 0
    faults: int = 0

    def add(self, checked: CheckedUnit) -> None:
        assert isinstance(checked.unit, WorkUnit)
        total = self.totals.setdefault(split_name(checked.unit), TallySum())
        self.shards += 1
        self.unfinished += checked.unfinished
        self.faults += 0 if checked.unfinished else len(checked.findings)
        for finding in checked.findings:
            self.report(finding)
        if checked.commit is not None:
            total.add(checked.commit.tally)
        self.recorded.update(output.path for output in checked.outputs)
        self.files += len(checked.outputs)
        self.size += sum(output.size for output in checked.outputs)

    def fault(self, path: str, wrong: str, remedy: str) -> None:
        self.faults += 1
        self.report(Finding(path, wrong, remedy))

    def report(self, finding: Finding) -> None:
        remedy = finding.remedy.replace("beamseg segment", "beamseg pack")
        self.on_finding(replace(finding, remedy=remedy))


def verify_pack(
    root: str, on_finding: Callable[[Finding], None], invalidate: bool = False
) -> Verdict:
    """Check size and SHA-256 of all shards of a pack, and its counts.

    Args:
        root: Folder of the pack.
        on_finding: Called with every finding.
        invalidate: Whether the record of a shard that is missing or damaged is removed, so that
            `pack` writes it again. `pack.json` is removed before.

    Returns:
        Counts of shards, files, bytes and findings.

    Raises:
        ConfigurationError: If the folder is no pack, or its `run.json` is damaged.
    """
    root = locations.checked(root)
    run = metadata_directory(root)
    begun = run.read_run()
    if begun is None:
        raise ConfigurationError(f"{root} holds no pack: name --output of `beamseg pack`")
    log = log_of(root, digest(begun["shape"]), SEALED in begun)
    pack = _Pack(root, run, log, on_finding)
    _check_sealed(pack)
    for checked in in_order(partial(check_unit, log=log, is_assembled=False), _planned(pack)):
        pack.add(_invalidated(checked, pack) if invalidate else checked)
    if not pack.shards:
        pack.fault(f"{METADATA_DIR}/plan", "has no shards", AGAIN)
    if not (pack.unfinished or pack.faults):
        _check_counts(pack, begun["shape"])
    _check_names(pack)
    return Verdict(pack.shards, pack.files, pack.size, pack.unfinished, pack.faults)


def _check_sealed(pack: _Pack) -> None:
    """Check files of a pack that begin and end it, each by itself."""
    for name in (RUN_JSON, COPY) if pack.log.is_sealed else ():
        try:
            pack.run.sound_run(name)
        except (FileNotFoundError, ValueError):
            pack.fault(f"{METADATA_DIR}/{name}", "is not there, or damaged", AGAIN)
    try:
        pack.run.read_json("summary.json", pack.log.is_sealed)
    except ValueError:
        pack.fault(f"{METADATA_DIR}/summary.json", "is not what the end of a pack writes", AGAIN)


def _planned(pack: _Pack) -> Iterator[WorkUnit]:
    def report(name: str) -> None:
        pack.fault(f"{METADATA_DIR}/plan/{name}", "is damaged", AGAIN)

    return plan.read_units(pack.run.plan, WorkUnit, report)


def _invalidated(checked: CheckedUnit, pack: _Pack) -> CheckedUnit:
    """Remove the record of a shard if it must be written again, and say so in the remedies."""
    if not checked.must_be_invalidated:
        return checked
    filesystem.remove(f"{pack.root}/{RESULT}")
    pack.log.invalidate(checked.unit)
    return checked.invalidated(INVALIDATED)


def _check_names(pack: _Pack) -> None:
    """Report files among the shards that no record names."""
    remedy = AGAIN if pack.unfinished or pack.faults else REMOVE
    for split in pack.totals:
        for name in filesystem.names_below(f"{pack.root}/{split}"):
            if f"{split}/{name}" not in pack.recorded:
                pack.fault(f"{split}/{name}", "is an unknown file: no record names it", remedy)


def _check_counts(pack: _Pack, shape: dict[str, Any]) -> None:
    """Report a `pack.json` with other counts than the records; one over its budget has none."""
    totals = {split: total.rounded() for split, total in pack.totals.items()}
    try:
        content = filesystem.read_bytes(f"{pack.root}/{RESULT}")
    except FileNotFoundError:
        if not any(total.failed_images for total in totals.values()):
            pack.fault(RESULT, "is not there although all shards are", AGAIN)
        return
    try:
        document, is_sealed = unsealed(content)
        agrees = is_sealed or not pack.log.is_sealed
        for split, total in totals.items():
            agrees &= _counts(shape, total).items() <= document["splits"].pop(split).items()
        agrees &= not document["splits"]
    except MALFORMED:
        agrees = False
    if not agrees:
        pack.fault(RESULT, "is not what the commit records add up to", AGAIN)


def _counts(shape: dict[str, Any], total: Tally) -> dict[str, Any]:
    """What `pack.json` says of a split by its records."""
    found = {"images": total.images, "failed_images": total.failed_images}
    if "classes" not in shape:
        return found
    pixels = {entry["name"]: total.pixels.get(str(entry["id"]), 0) for entry in shape["classes"]}
    return found | {"pixels": pixels, "nodata_pixels": total.pixels.get(NODATA, 0)}

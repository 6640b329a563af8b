"""Some mutants through the real path from files to commit records, and each of them checked."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.formats.work import ReadOptions, Work
from pipelines.results.part_sums import sum_plan
from pipelines.results.totals import Totals
from pipelines.run.commits import CommitLog
from tests.pipelines.corpus import make_work, run_unit, units_in, write
from tests.shard_kinds import KnownShard
from tools.fuzzing.checks import check_image, check_shard
from tools.fuzzing.mutations import Mutant
from tools.fuzzing.oracle import MAX_PIXELS


@dataclass
class Outcome:
    """What some mutants have come to.

    Args:
        labelled: Label maps by kind of the mutant.
        failed: Rows of failures by reason without numbers.
        findings: What is not as it must be, by number of the mutant.
    """

    labelled: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    findings: list[tuple[int, str]] = field(default_factory=list)


def run_batch(mutants: Sequence[Mutant], folder: Path) -> Outcome:
    """Write mutants to a folder, run all units of it, and check every one."""
    for mutant in mutants:
        write(folder / "in" / mutant.name, mutant.content)
    work = make_work(folder / "run", reading=ReadOptions(max_pixels=MAX_PIXELS))
    by_key = {f"in/{mutant.name}": mutant for mutant in mutants}
    outcome = Outcome()
    units = units_in(work, folder / "in")
    for unit in units:
        done = run_unit(unit, work).done
        if not done or CommitLog(work.run.root, work.options).read(unit) is None:
            number = by_key[unit.files[0].key].number
            outcome.findings.append((number, f"{unit.id} has no commit record"))
    rows = _failure_rows(work)
    outcome.failed.update(without_numbers(r["reason"]) for lines in rows.values() for r in lines)
    for unit in units:
        for file in unit.files:
            mutant = by_key.pop(file.key)
            check = check_shard if isinstance(mutant.start, KnownShard) else check_image
            checked = check(unit, mutant, work, rows[file.key])
            outcome.labelled[mutant.kind] += checked.labelled
            outcome.findings += [(mutant.number, finding) for finding in checked.findings]
    outcome.findings += [(mutant.number, "is in no unit") for mutant in by_key.values()]
    _check_totals(work, outcome, sum(map(len, rows.values())), mutants)
    return outcome


def without_numbers(reason: str) -> str:
    """A reason without what differs from file to file.

    >>> without_numbers("a record of 7000 bytes: chunk 'tEXt' at 0x1f")
    'a record of N bytes: chunk Q at N'
    """
    plain = re.sub(r"'.*?'", "Q", reason)
    return re.sub(r"0x[0-9a-f]+|-?[0-9]+(\.[0-9]+)?", "N", plain)[:120]


def _failure_rows(work: Work) -> dict[str, list[dict]]:
    """Rows of failures by input file."""
    rows = defaultdict(list)
    folder = Path(work.run.path("failures"))
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_bytes().splitlines():
            row = json.loads(line)
            rows[row["uri"]].append(row)
    return rows


def _check_totals(work: Work, outcome: Outcome, rows: int, mutants: Sequence[Mutant]) -> None:
    """The end of a run counts what is there."""
    tally = Totals.of(sum_plan(work), work).tally
    expected = (sum(outcome.labelled.values()), rows)
    if (tally.images, tally.failed_images) != expected:
        found = f"totals say {tally.images} and {tally.failed_images}, there are {expected}"
        outcome.findings.append((mutants[0].number, found))

"""Whether what became of a mutant is what must become of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pipelines.formats.shards import ShardFormat, ShardSample, printable_name
from pipelines.formats.work import Work
from pipelines.run.plan import Unit
from pipelines.worker.formats import find_format
from tests.known_images import Known
from tests.pipelines.corpus import read_png
from tests.shard_entries import read_entries
from tests.shard_kinds import KnownShard
from tools.fuzzing import oracle
from tools.fuzzing.mutations import Mutant


@dataclass
class Checked:
    """How many label maps a mutant has, and what is wrong with them."""

    labelled: int
    findings: list[str] = field(default_factory=list)


def check_image(unit: Unit, mutant: Mutant, work: Work, rows: list[dict]) -> Checked:
    """Either a label map or a row of failures, and the right one of the two."""
    suffix = "" if unit.format == "scene" else ".png"
    path = Path(work.run.path(f"labels/in/{mutant.name}{suffix}"))
    if path.exists() + len(rows) != 1:
        found = [f"{path.exists():d} label maps and {len(rows)} rows of failures"]
        return Checked(int(path.exists()), found)
    assert isinstance(mutant.start, Known)
    if rows:
        failed = failed_rightly(mutant.content, [mutant.start], rows[0]["reason"])
        return Checked(0, list(failed))
    return Checked(1, list(labelled_rightly(mutant.content, [mutant.start], read_png(path))))


def labelled_rightly(encoded: bytes, known: list[Known], labels: np.ndarray) -> Iterator[str]:
    """What is wrong with a label map."""
    expected = next((k.labels for k in known if k.encoded == encoded), None)
    if expected is None:
        decoded = oracle.labels_of(encoded)
        if isinstance(decoded, str):
            yield f"is labelled, although it cannot be decoded: {decoded}"
            return
        expected = decoded
    size = oracle.stated_size(encoded)
    if size is None or labels.shape not in (size, size[::-1]):
        yield f"labels have {labels.shape}, the header says {size}"
    if labels.shape != expected.shape:
        yield f"labels have {labels.shape}, decoded are {expected.shape}"
    elif not np.array_equal(labels, expected):
        yield f"{(labels != expected).sum()} of {labels.size} labels are wrong"


def failed_rightly(encoded: bytes, known: list[Known], reason: str) -> Iterator[str]:
    """What is wrong with a failure."""
    if any(k.encoded == encoded for k in known):
        yield f"is intact and failed: {reason}"
    elif not oracle.STRICTER.search(reason) and not isinstance(oracle.labels_of(encoded), str):
        yield f"can be decoded and failed: {reason}"


def check_shard(unit: Unit, mutant: Mutant, work: Work, rows: list[dict]) -> Checked:
    """Every sample has either a label map or a row of failures; what is intact has its labels."""
    assert isinstance(mutant.start, KnownShard)
    shards = find_format(unit.format)
    assert isinstance(shards, ShardFormat)
    path = Path(work.run.path(f"labels/in/{mutant.name}"))
    entries = {entry.record: entry for entry in read_entries(path)}
    reasons = {row["key"]: row["reason"] for row in rows}
    known = list(mutant.start.images)
    findings = []
    if len(reasons) != len(rows):
        findings.append("keys of failures are there twice")
    samples = list(shards.read(unit.files[0], work.reading))
    if len(samples) != len(entries) + len(rows):
        findings.append(f"{len(samples)} samples, {len(entries)} maps, {len(rows)} failures")
    for sample in samples:
        entry, reason = entries.get(sample.number), reasons.get(sample.key)
        if not isinstance(sample, ShardSample):
            if reason != sample.reason:
                findings.append(f"{sample.key}: {sample.reason}: is not among the failures")
        elif (entry is None) == (reason is None):
            findings.append(f"{sample.key} has label map {entry} and failure {reason}")
        elif entry is not None:
            wrong = labelled_rightly(sample.encoded, known, entry.labels)
            findings += [f"{sample.key} {finding}" for finding in wrong]
            if (entry.name, entry.height, entry.width) != (
                printable_name(sample.name),
                *entry.labels.shape,
            ):
                findings.append(f"{sample.key} stands as {entry.name}, {entry.height} high")
        elif reason is not None:
            wrong = failed_rightly(sample.encoded, known, reason)
            findings += [f"{sample.key} {finding}" for finding in wrong]
    for number in intact_images(mutant.start, mutant.content):
        entry, expected = entries.get(number), mutant.start.images[number].labels
        if entry is None or not np.array_equal(entry.labels, expected):
            findings.append(f"#{number} is intact and has not its labels: {reasons}")
    return Checked(len(entries), findings)


def intact_images(start: KnownShard, content: bytes) -> list[int]:
    """Images that no change of a shard can have reached, by the bytes that they depend on."""
    if content == start.encoded:
        return list(range(len(start.images)))
    both = min(len(content), len(start.encoded))
    before = np.frombuffer(start.encoded, np.uint8, both)
    differs = np.flatnonzero(before != np.frombuffer(content, np.uint8, both))
    changed = differs[0] if differs.size else both
    if start.suffix != ".parquet":
        return [number for number, (_, last) in enumerate(start.spans) if last <= changed]
    # Where all is depends on the footer, and groups of rows do not depend on each other.
    data_end = max(last for _, last in start.spans)
    if len(content) != len(start.encoded) or (differs >= data_end).any():
        return []
    return [
        number
        for number, (first, last) in enumerate(start.spans)
        if not ((differs >= first) & (differs < last)).any() and changed >= 4
    ]

"""Mutated images and shards through the real path: no crash, no hang, no growth of memory.

    python tools/fuzz.py --mutants 10000 --seed 1 --keep build/mutants

Every mutant is labelled or among the failures, and what is labelled has the right labels. The same
numbers give the same mutants. What is not as it must be is printed with the number of its mutant,
the files are kept where `--keep` says, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import json
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[1]
PROGRAM = ("-m", "tools.fuzzing.child")
BATCH = 50
SILENCE_SECONDS = 60.0
# Memory may be compared once so many mutants have gone by.
WARM_MUTANTS = 2000
# What the allocator may take or give back, whatever comes in.
GROWTH_BYTES = 64 << 20


@dataclass
class Summary:
    """What a series of mutants has come to.

    Args:
        labelled: Label maps by kind of the mutant.
        failed: Rows of failures by reason without numbers.
        findings: What is not as it must be, by number of the mutant.
        mutants: How many were done.
        early_bytes: In memory after the first ones, now and at most.
        late_bytes: In memory after the last ones, now and at most.
        seconds: Of all.
    """

    labelled: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    findings: list[tuple[int, str]] = field(default_factory=list)
    mutants: int = 0
    early_bytes: tuple[int, int] = (0, 0)
    late_bytes: tuple[int, int] = (0, 0)
    seconds: float = 0.0

    def add(self, line: dict[str, Any]) -> None:
        """The line of a batch."""
        self.labelled.update(line["labelled"])
        self.failed.update(line["failed"])
        self.findings += [(number, finding) for number, finding in line["findings"]]
        self.mutants += line["last"] - line["first"]
        self.late_bytes = (line["now_bytes"], line["peak_bytes"])
        if self.mutants <= WARM_MUTANTS:
            self.early_bytes = self.late_bytes

    def check_memory(self) -> None:
        """Memory after the last mutants is what it was after the first ones."""
        growth = self.late_bytes[0] - self.early_bytes[0]
        if growth > GROWTH_BYTES:
            self.findings.append((-1, f"memory grew by {growth >> 20} MiB"))

    def __str__(self) -> str:
        early, late = ([n >> 20 for n in pair] for pair in (self.early_bytes, self.late_bytes))
        lines = [f"{self.mutants} mutants in {self.seconds:.0f} s"]
        lines += [f"  {count:6d} label maps of {kind}" for kind, count in self.labelled.items()]
        lines += [f"  {sum(self.labelled.values()):6d} label maps"]
        lines += [f"  {count:6d} failed: {reason}" for reason, count in self.failed.most_common()]
        lines += [f"  {sum(self.failed.values()):6d} failed"]
        lines += [f"memory: {early[0]} MiB early, {late[0]} MiB late"]
        lines += [f"at most: {early[1]} MiB early, {late[1]} MiB late"]
        lines += [f"FOUND: mutant {number}: {finding}" for number, finding in self.findings]
        return "\n".join(lines)


def fuzz(mutants: int, series: int, keep: Path | None = None) -> Summary:
    """Run the mutants of a series in processes of their own.

    Args:
        mutants: How many.
        series: Which.
        keep: Folder for the mutants that are found out.
    """
    summary, begun = Summary(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        first = 0
        while first < mutants:
            first = _run(summary, series, first, mutants, Path(folder))
        summary.check_memory()
        if keep is not None:
            for number, _ in summary.findings:
                _keep(series, number, keep, Path(folder))
    summary.seconds = time.monotonic() - begun
    return summary


def _run(summary: Summary, series: int, first: int, last: int, folder: Path) -> int:
    """Add what a process does; returns the first mutant that is still to be done."""
    with _Child(series, first, last, min(BATCH, last - first), folder) as child:
        for line in child.lines():
            summary.add(line)
            first = line["last"]
    if first == last:
        return last
    found, behind = len(summary.findings), min(first + BATCH, last)
    _isolate(summary, series, range(first, behind), folder)
    if len(summary.findings) == found:
        summary.findings.append((first, f"and those behind it, once and not again: {child.fault}"))
    return behind


def _isolate(summary: Summary, series: int, numbers: range, folder: Path) -> None:
    """Find out whose fault it is that the process of some mutants ended."""
    with _Child(series, numbers[0], numbers[-1] + 1, len(numbers), folder) as child:
        for line in child.lines():
            summary.add(line)
    if not child.fault:
        return
    if len(numbers) == 1:
        summary.findings.append((numbers[0], child.fault))
        return
    half = len(numbers) // 2
    _isolate(summary, series, numbers[:half], folder)
    _isolate(summary, series, numbers[half:], folder)


def _keep(series: int, number: int, keep: Path, folder: Path) -> None:
    """Save one mutant under its numbers."""
    if number < 0:
        return
    with _Child(series, number, number + 1, 1, folder) as child:
        list(child.lines())
    keep.mkdir(parents=True, exist_ok=True)
    for path in (folder / "in").iterdir():
        shutil.copy(path, keep / f"{series}-{path.name}")


class _Child:
    """A process that runs mutants, watched for silence and a bad end."""

    def __init__(self, series: int, first: int, last: int, batch: int, folder: Path) -> None:
        numbers = {"series": series, "first": first, "last": last, "batch": batch}
        words = [word for name, n in numbers.items() for word in (f"--{name}", str(n))]
        command = [sys.executable, *PROGRAM, *words, "--folder", str(folder)]
        self.fault = ""
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed in __exit__
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=self._errors
        )

    def __enter__(self) -> _Child:
        return self

    def __exit__(self, *caught: object) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._errors.close()

    def lines(self) -> Iterator[dict[str, Any]]:
        """What it says of its batches; at the end `fault` tells how it ended."""
        assert self._process.stdout is not None
        said: queue.Queue[bytes] = queue.Queue()
        reader = threading.Thread(target=_forward, args=(self._process.stdout, said), daemon=True)
        reader.start()
        while True:
            try:
                line = said.get(timeout=SILENCE_SECONDS)
            except queue.Empty:
                self.fault = f"no progress for {SILENCE_SECONDS:.0f} s"
                self._process.kill()
                break
            if not line:
                break
            yield json.loads(line)
        reader.join()
        status = self._process.wait()
        if status and not self.fault:
            self._errors.seek(0)
            last = self._errors.read()[-2000:].decode("utf-8", "replace")
            self.fault = f"ended with status {status}: {last}"


def _forward(stream: IO[bytes], said: queue.Queue[bytes]) -> None:
    for line in stream:
        said.put(line)
    said.put(b"")


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--mutants", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1, help="which mutants")
    parser.add_argument("--keep", type=Path, help="folder for mutants that are found out")
    options = parser.parse_args()
    summary = fuzz(options.mutants, options.seed, options.keep)
    print(summary)
    return 1 if summary.findings else 0


if __name__ == "__main__":
    sys.exit(main())

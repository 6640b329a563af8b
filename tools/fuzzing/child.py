"""Runs batches of mutants in a process that may crash, hang or run out of memory."""

from __future__ import annotations

import argparse
import gc
import json
import resource
import shutil
import sys
import warnings
from pathlib import Path

from pipelines.run import attempts
from tools.fuzzing.batches import run_batch
from tools.fuzzing.mutations import mutant

# What a process may take beyond what it has before the first mutant.
ROOM_BYTES = 2 << 30
PAGE_BYTES = resource.getpagesize()


def main() -> None:
    """Mutants of the numbers given, in batches; one line of JSON after each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--series", type=int, required=True)
    parser.add_argument("--first", type=int, required=True)
    parser.add_argument("--last", type=int, required=True)
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    attempts.RETRY_SECONDS = 0.0
    warnings.simplefilter("ignore")
    limit_memory()
    for first in range(options.first, options.last, options.batch):
        numbers = range(first, min(first + options.batch, options.last))
        shutil.rmtree(options.folder, ignore_errors=True)
        outcome = run_batch([mutant(options.series, n) for n in numbers], options.folder)
        gc.collect()
        line = {"first": first, "last": numbers[-1] + 1, **vars(outcome), **memory()}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


def limit_memory() -> None:
    """Have requests for much memory fail, as they do where there is none."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * PAGE_BYTES + ROOM_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def memory() -> dict[str, int]:
    """Bytes that the process has in memory now and had at most."""
    now = int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"now_bytes": now, "peak_bytes": peak}


if __name__ == "__main__":
    main()

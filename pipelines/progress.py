"""Progress of a run: a bar on a terminal, plain lines in a log."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tqdm import tqdm

from pipelines import storage

_LINE_SECONDS = 30.0
# Where workers are elsewhere, each look lists the commit records.
_BAR_SECONDS = 1.0

_lock = threading.Lock()
_pixels = 0


def add_pixels(pixels: int) -> None:
    """Count pixels that this process has finished."""
    global _pixels
    with _lock:
        _pixels += pixels


@dataclass(frozen=True)
class Watch:
    """What is done of a run, seen from the launcher.

    Pixels are counted in this process; while none is, as with workers elsewhere, they are
    estimated from the share of units that have a commit record.

    Args:
        total_pixels: Of the plan, estimated where the listing does not know.
        units: Of the plan.
        commits: Folder of commit records.
        before: Pixels that this process had counted when the run began.
        command: That runs.
    """

    total_pixels: int
    units: int
    commits: str
    before: int
    command: str = "segment"

    def units_done(self) -> int:
        """Units with a commit record."""
        return min(self.units, sum(1 for _ in storage.names_below(self.commits)))

    def pixels_done(self) -> int:
        """Pixels finished so far."""
        here = _pixels - self.before
        return here or self.total_pixels * self.units_done() // max(1, self.units)


@contextmanager
def shown(total_pixels: int, units: int, commits: str, command: str = "segment") -> Iterator[None]:
    """Show progress on the error stream while the block runs; see `Watch`."""
    watch = Watch(total_pixels, units, commits, _pixels, command)
    stop = threading.Event()
    follow = _follow_bar if sys.stderr.isatty() else _follow_lines
    thread = threading.Thread(target=follow, args=(watch, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _follow_bar(watch: Watch, stop: threading.Event) -> None:
    with tqdm(total=watch.total_pixels, unit="px", unit_scale=True, desc=watch.command) as bar:
        stopped = False
        while not stopped:
            stopped = stop.wait(_BAR_SECONDS)
            done = watch.pixels_done()
            bar.total = done if stopped else max(watch.total_pixels, done)
            bar.update(done - bar.n)
            bar.refresh()


def _follow_lines(watch: Watch, stop: threading.Event) -> None:
    started = time.monotonic()
    while not stop.wait(_LINE_SECONDS):
        text = line(watch, time.monotonic() - started)
        print(text, file=sys.stderr, flush=True)


def line(watch: Watch, seconds: float) -> str:
    """Progress as a line of a log."""
    done, total = watch.pixels_done(), watch.total_pixels
    rate = done / seconds if seconds else 0.0
    left = f", about {max(0.0, total - done) / rate / 60:.0f} min left" if rate else ""
    return (
        f"{watch.command}: {done / 1e6:.1f} of about {total / 1e6:.1f} Mpx, "
        f"{rate / 1e6:.2f} Mpx/s{left}, {watch.units_done()} of {watch.units} units"
    )

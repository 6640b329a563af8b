"""Progress of a run: a bar on a terminal, plain lines in a log; lines while it is planned."""

import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

from tqdm import tqdm

from pipelines.storage import filesystem
from segmodel.errors import TransientError, counted

_LINE_SECONDS = 30.0
# Where workers are elsewhere, each look lists the commit records.
_BAR_SECONDS = 1.0
_LOOK_SHARE = 20
# Between lines about what is done before the work, and before the first of them.
_PLAN_SECONDS = 5.0

T = TypeVar("T")

_lock = threading.Lock()
_pixels = 0


def add_pixels(pixels: int) -> None:
    """Count pixels that this process has finished."""
    global _pixels
    with _lock:
        _pixels += pixels


@dataclass
class Watch:
    """What is done of a run, seen from the launcher.

    Pixels are counted in this process; while none is, as with workers elsewhere, they are
    estimated from the share of units that have a commit record.

    Args:
        total_pixels: Number of pixels of the plan, estimated where the listing does not tell.
        units: Number of units of the plan.
        commits: Folder of commit records.
        before: Number of pixels that this process had counted when the run began.
        command: Name of the command that runs.
    """

    total_pixels: int
    units: int
    commits: str
    before: int
    command: str = "segment"
    _next_look: float = 0.0
    _found: int = 0

    def units_done(self) -> int:
        """Units with a commit record, as of the last look.

        A look at a store lists them all: looking takes one part in `_LOOK_SHARE` of the time.
        """
        now = time.monotonic()
        if now >= self._next_look:
            # The run itself reports that the store is out of reach.
            with suppress(OSError, TransientError):
                found = sum(1 for _ in filesystem.unsorted_names(self.commits))
                self._found = min(self.units, found)
            self._next_look = now + _LOOK_SHARE * (time.monotonic() - now)
        return self._found

    def pixels_done(self) -> int:
        """Pixels finished so far."""
        here = _pixels - self.before
        return here or self.total_pixels * self.units_done() // max(1, self.units)


@contextmanager
def progress_bar(
    total_pixels: int, units: int, commits: str, command: str = "segment"
) -> Iterator[None]:
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
        print(line(watch, time.monotonic() - started), file=sys.stderr, flush=True)


def amount_of_pixels(pixels: int) -> str:
    """A number of pixels in megapixels, or as it is where that would be 0.

    >>> amount_of_pixels(2_340_000), amount_of_pixels(1), amount_of_pixels(49_000)
    ('2.3 Mpx', '1 pixel', '49,000 pixels')
    """
    return f"{pixels / 1e6:,.1f} Mpx" if pixels >= 50_000 else counted(pixels, "pixel")


def line(watch: Watch, seconds: float) -> str:
    """Progress as a line of a log."""
    done, total = watch.pixels_done(), watch.total_pixels
    rate = done / seconds if seconds else 0.0
    left = f", about {max(0.0, total - done) / rate / 60:.0f} min left" if rate else ""
    return (
        f"{watch.command}: {amount_of_pixels(done)} of about {amount_of_pixels(total)}, "
        f"{rate / 1e6:.2f} Mpx/s{left}, {watch.units_done():,} of {counted(watch.units, 'unit')}"
    )


class ProgressLines:
    """Lines on the error stream about a number that grows; none where that is quick.

    Args:
        text: Text of a line with a place for the number, such as `"listed {:,} files"`.
    """

    def __init__(self, text: str) -> None:
        self._text, self._count, self._last = text, 0, time.monotonic()

    def add(self, count: int = 1) -> None:
        """Count, and print a line if none was printed for some seconds."""
        self._count += count
        now = time.monotonic()
        if now - self._last >= _PLAN_SECONDS:
            self._last = now
            print(self._text.format(self._count), file=sys.stderr, flush=True)


def with_progress(items: Iterable[T], text: str) -> Iterator[T]:
    """The items as they are, counted in `ProgressLines`."""
    lines = ProgressLines(text)
    for item in items:
        lines.add()
        yield item

"""Standard streams that may be closed or full."""

import io
import os
import sys
from typing import Any

from segmodel.escaping import on_one_line, without_credentials


class _Stream(io.FileIO):
    """A standard stream that may be full, or closed by its reader, which ends no work."""

    error: OSError | None = None

    def write(self, content: Any) -> int:
        try:
            return super().write(content)
        except OSError as error:
            self.error = error
            return memoryview(content).nbytes


_output: _Stream | None = None


def open_streams() -> None:
    """Have all standard streams, and none that fails; see `output_fault`.

    A file that is opened later must not get the number of a stream that is closed: libraries write
    their messages to 2, and so into an output.
    """
    global _output
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free.
            os.open(os.devnull, os.O_RDWR)
    # What a notebook or a test has put in their place stays.
    if sys.stdout in (None, sys.__stdout__):
        _output = _Stream(1, "w", closefd=False)
        sys.stdout = _text(_output, sys.stdout)
    if sys.stderr in (None, sys.__stderr__):
        sys.stderr = _text(_Stream(2, "w", closefd=False), sys.stderr)


class _Screen(io.TextIOWrapper):
    """Text by which no name controls the terminal, and without credentials in addresses."""

    def write(self, text: str) -> int:
        # As progress bars begin.
        start = text.startswith("\r")
        lines = without_credentials(text[start:]).split("\n")
        return super().write(text[:start] + "\n".join(map(on_one_line, lines)))


def _text(stream: _Stream, former: Any) -> io.TextIOWrapper:
    """A stream of text, as the former one if there was one."""
    kept = ("encoding", "errors", "line_buffering", "write_through")
    options = {} if former is None else {name: getattr(former, name) for name in kept}
    return _Screen(io.BufferedWriter(stream), **options)


def output_fault() -> OSError | None:
    """Why standard output has not taken all that was printed; None if nobody misses anything.

    A reader that has closed it has read what it wanted.
    """
    sys.stdout.flush()
    error = None if _output is None else _output.error
    return None if isinstance(error, BrokenPipeError) else error

"""TensorFlow imported without the messages of its C++ start, which tell a user nothing."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

_CHATTER = re.compile(
    rb"^([IWE]0000 |WARNING: All log messages before absl|To enable the following)"
)


@contextmanager
def quiet_start() -> Iterator[None]:
    """Hold back the error stream while the block runs; then print all of it but TensorFlow's.

    TF_CPP_MIN_LOG_LEVEL does not reach messages from before its logging is set up, nor does
    anything in Python, so the file descriptor itself is redirected. Without one, or once
    TensorFlow is imported, nothing is changed.
    """
    if "tensorflow" in sys.modules:
        yield
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        kept = os.dup(2)
    except OSError:
        yield
        return
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            held.seek(0)
            for line in held:
                if not _CHATTER.match(line):
                    os.write(2, line)

"""What programs that start a command ask of it: how it ended, as JSON, and to end with them."""

import json
import os
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import segmodel
from pipelines.cli.exit_status import ExitStatus
from pipelines.cli.options import Option, options_of


@dataclass(frozen=True)
class ProcessOptions:
    """Options of the process that starts a pipeline, for programs that start a command."""

    json: bool = Option(
        "print how the command ended as one line of JSON, the last on standard output"
    ).field()
    stop_with_parent: bool = Option(
        "end, as if interrupted, when the process that started this one has ended"
    ).field()


# What the line has of `summary.json`, under the same names.
_OF_SUMMARY = (
    "images",
    "failed_images",
    "pixels",
    "units",
    "unfinished_units",
    "this_attempt",
)
_LOOK_SECONDS = 0.5

# Of the one command that a process runs.
_words: Sequence[str] = ()
_started = time.monotonic()
_known: dict[str, Any] = {}


def without_process_options(words: Sequence[str]) -> list[str]:
    """The words of a command line that a pipeline may see.

    >>> without_process_options(["--input=a", "--json=true", "--runner=FlinkRunner"])
    ['--input=a', '--runner=FlinkRunner']
    """
    own = {f"--{name}" for name in options_of(ProcessOptions)}
    return [word for word in words if word.partition("=")[0] not in own]


def begin(words: Sequence[str]) -> None:
    """Note the command line of this process, before anything of it is checked."""
    global _words, _started
    _words, _started = words, time.monotonic()
    _known.clear()


def wants_json() -> bool:
    """Whether the command line asks for a line of JSON, even if something else of it is wrong."""
    return any(word.lower() in ("--json", "--json=true") for word in _words)


def record_result(facts: Mapping[str, Any]) -> None:
    """Note what is known of the end, such as a `summary.json` that this attempt has written."""
    _known.update(facts)


def result_json(status: int, error: str | None = None) -> str:
    """How the command ended, as JSON on one line.

    Args:
        status: Exit status.
        error: What was wrong, if that is not in `summary.json`.
    """
    document = {
        "beamseg": segmodel.__version__,
        "run": _value_of("--output"),
        "exit_status": status,
        "reason": _known.get("reason", ExitStatus(status).reason),
        "error": error,
        **{name: _known.get(name) for name in _OF_SUMMARY},
        "seconds": round(time.monotonic() - _started, 3),
    }
    return json.dumps(document)


def _value_of(option: str) -> str | None:
    """The last value of an option; the command line may not be one that a parser takes."""
    found = None
    for word, following in zip(_words, [*_words[1:], None], strict=True):
        name, equals, value = word.partition("=")
        if name == option:
            found = value if equals else following
    return found


def end_interrupted(number: int) -> None:
    """End the process at once: what is under a final name is whole, and the next run goes on there.

    Nothing is printed through Python's streams, which a signal may have found in the middle of a
    line, and locked.
    """
    status = 128 + number
    _write(2, "\nbeamseg: interrupted; run the same command again to go on\n")
    if wants_json():
        _write(1, f"\n{result_json(status)}\n")
    os._exit(status)


def stop_with_parent() -> None:
    """End this process when the one that started it is gone, even if that was killed.

    Looking is better than the signal that Linux can send: that comes when the thread that started
    us ends, and only on Linux.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_SECONDS)
        end_interrupted(signal.SIGTERM)

    threading.Thread(target=watch, name="stop_with_parent", daemon=True).start()


def _write(stream: int, text: str) -> None:
    try:
        os.write(stream, text.encode())
    except OSError:
        # Whoever read it is gone.
        return

"""Commands that another program starts: a line of JSON about their end, and ending with it."""

import json
import os
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import segmodel
from pipelines.cli.exit_status import ExitStatus
from pipelines.cli.options import Option, options_of
from pipelines.cli.parser import last_value


@dataclass(frozen=True)
class ProcessOptions:
    """Options of the process that starts a pipeline, for programs that start a command."""

    json: bool = Option().field()
    """print how the command ended as one line of JSON, the last on standard output"""
    stop_with_parent: bool = Option().field()
    """end, as if interrupted, when the process that started this one has ended"""


# Entries of `summary.json` that the line repeats, under the same names.
_SUMMARY_KEYS = ("images", "failed_images", "pixels", "units", "unfinished_units", "this_attempt")
_POLL_SECONDS = 0.5
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Until then, the handler of a signal has its turn.
_GRACE_SECONDS = 2.0

# State of the one command that a process runs.
_words: Sequence[str] = ()
_started = time.monotonic()
_result: dict[str, Any] = {}


def without_process_options(words: Sequence[str]) -> list[str]:
    """The words of a command line that a pipeline may see.

    >>> without_process_options(["--input=a", "--json=true", "--runner=FlinkRunner"])
    ['--input=a', '--runner=FlinkRunner']
    """
    own = {f"--{name}" for name in options_of(ProcessOptions)}
    return [word for word in words if word.partition("=")[0] not in own]


def begin(words: Sequence[str]) -> None:
    """Store the command line of this process, before it is checked."""
    global _words, _started
    _words, _started = words, time.monotonic()
    _result.clear()


def wants_json() -> bool:
    """Whether the command line asks for a line of JSON, even if the rest of it is wrong."""
    return any(word.lower() in ("--json", "--json=true") for word in _words)


def record_result(facts: Mapping[str, Any]) -> None:
    """Store what is known of the result, such as the `summary.json` that this attempt wrote.

    Args:
        facts: Entries for the line of JSON.
    """
    _result.update(facts)


def result_json(status: int, error: str | None = None) -> str:
    """How the command ended, as JSON on one line.

    Args:
        status: Exit status.
        error: Message of the error that ended the command, if one did.

    Returns:
        An object in JSON; numbers are null where the command did not get that far.
    """
    document = {
        "beamseg": segmodel.__version__,
        "run": last_value(_words, "--output"),
        "exit_status": status,
        "reason": _result.get("reason", ExitStatus(status).reason),
        "error": error,
        **{name: _result.get(name) for name in _SUMMARY_KEYS},
        "seconds": round(time.monotonic() - _started, 3),
    }
    return json.dumps(document)


def end_interrupted(number: int) -> None:
    """End the process at once: files under final names are complete, and the next run continues.

    Nothing is printed through Python's streams, which a signal may have found in the middle of a
    line, and locked.
    """
    status = 128 + number
    _write(2, "\nbeamseg: interrupted; run the same command again to continue\n")
    if wants_json():
        _write(1, f"\n{result_json(status)}\n")
    os._exit(status)


def end_at_signals() -> None:
    """Have signals end this process, also while its main thread hangs in a call.

    SIGHUP does if the terminal is closed, and not under nohup, which has it ignored.
    """
    for number in _SIGNALS:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda number, _: end_interrupted(number))
    _watch_signals(os.getpid())


@cache
def _watch_signals(_: int) -> None:
    """Start the thread that ends a process, once in each, where the main thread does not.

    Python calls handlers in the main thread, between two steps of its own, and a call of a model is
    one step. Before that, it writes the number of the signal to a file, at once.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def watch() -> None:
        while (number := os.read(reader, 1)[0]) not in _SIGNALS:
            continue
        time.sleep(_GRACE_SECONDS)
        end_interrupted(number)

    threading.Thread(target=watch, name="beamseg-signals", daemon=True).start()


def stop_with_parent() -> None:
    """End this process when the one that started it has ended, even if that was killed.

    Polling is better than the signal that Linux can send: that signal comes when the thread that
    started this process ends, and only on Linux.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_POLL_SECONDS)
        end_interrupted(signal.SIGTERM)

    threading.Thread(target=watch, name="stop_with_parent", daemon=True).start()


def _write(stream: int, text: str) -> None:
    try:
        os.write(stream, text.encode())
    except OSError:
        # The reader has closed the stream.
        return

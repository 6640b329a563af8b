"""`beamseg`: finds the command and turns errors into exit statuses."""

import errno
import importlib
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence

import segmodel
from pipelines.cli import process, streams
from pipelines.cli.exit_status import ExitStatus
from segmodel.errors import BeamsegError, ConfigurationError, explained, is_transient
from segmodel.escaping import holds_credentials, on_one_line

_NO_MEMORY = "out of memory: free some, or lower --memory, then run the same command again"
COMMANDS = {
    "segment": ("pipelines.commands.segment", "label images, shards and scenes"),
    "pack": ("pipelines.commands.pack", "image files and masks into shards"),
    "evaluate": ("pipelines.commands.evaluate", "a run against what is true: scores"),
    "layers": (
        "pipelines.commands.layers",
        "a finished run as mosaic, polygons, web tiles, catalogue",
    ),
    "view": ("pipelines.commands.view", "a finished run in a browser"),
    "plan": ("pipelines.commands.plan", "what a run would do, without starting it"),
    "train": ("pipelines.commands.train", "train a network and export it"),
    "compare": ("pipelines.commands.compare", "training runs side by side"),
    "ensemble": ("pipelines.commands.ensemble", "several models, or views, as one model"),
    "wrap": ("pipelines.commands.wrap", "a SavedModel from elsewhere as a model"),
    "sample": ("pipelines.commands.sample", "points of a finished run for people to label"),
    "inspect": (
        "pipelines.commands.inspect",
        "print a model contract, or the signatures of others",
    ),
    "verify": (
        "pipelines.commands.verify",
        "check size and SHA-256 of all that a run or a pack wrote",
    ),
    "assess": ("pipelines.commands.assess", "accuracy and areas of a map from a labelled sample"),
    "demo": ("pipelines.commands.demo", "how much of the Earth is ocean, land and lake?"),
}


def usage() -> str:
    """Help of `beamseg` itself."""
    commands = "\n".join(f"  {name:<9} {what}" for name, (_, what) in COMMANDS.items())
    return f"""usage: beamseg COMMAND [options]

Label every pixel of image collections too large for a notebook, and report the
ground area of every class.

{commands}

beamseg COMMAND --help prints the options; beamseg --version prints the version."""


def main() -> None:
    """Entry point of the console script."""
    sys.exit(guarded(dispatch, sys.argv[1:]))


def dispatch(arguments: Sequence[str]) -> int:
    """Run the command that the first word names; returns the exit status.

    Raises:
        ConfigurationError: If there is no such command.
    """
    if not arguments:
        raise ConfigurationError(f"name a command: {', '.join(COMMANDS)}; see beamseg --help")
    if arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return ExitStatus.COMPLETE
    if arguments[0] == "--version":
        print(f"beamseg {segmodel.__version__}")
        return ExitStatus.COMPLETE
    if arguments[0] not in COMMANDS:
        import difflib

        near = difflib.get_close_matches(arguments[0], COMMANDS, 1)
        hint = f"did you mean {near[0]}?" if near else f"commands: {', '.join(COMMANDS)}"
        raise ConfigurationError(f"unknown command {arguments[0]!r}: {hint}")
    module = importlib.import_module(COMMANDS[arguments[0]][0])
    status: int = module.run(arguments[1:])
    return status


class _Lines(logging.Formatter):
    """Messages of one line, whatever names are in them."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - of the library
        return on_one_line(super().formatMessage(record))


def guarded(command: Callable[[Sequence[str]], int], arguments: Sequence[str]) -> int:
    """Run a command, and turn its errors into messages and exit statuses.

    Args:
        command: Takes the words after its name, and returns its exit status.
        arguments: Words of the command line.

    Returns:
        The exit status; see `ExitStatus`.
    """
    streams.open_streams()
    # TensorFlow's C++ messages tell a user nothing; they must be silenced before it is imported.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # What libraries log tells a user nothing: what is wrong, they raise, and we print.
    warnings.showwarning = _show_nothing
    messages = logging.StreamHandler()
    messages.setFormatter(_Lines("%(levelname)s %(name)s: %(message)s"))
    messages.addFilter(logging.Filter("beamseg"))
    # It has a handler of its own.
    logging.getLogger("tensorflow").addFilter(logging.Filter("beamseg"))
    logging.basicConfig(level=logging.WARNING, handlers=[messages])
    process.begin(arguments)
    is_help = False
    try:
        status, error = _outcome(command, arguments)
    except SystemExit as end:
        status, error, is_help = int(end.code or 0), None, True
    fault = streams.output_fault()
    if fault is not None:
        # What is not printed has not arrived, whatever became of the work.
        error = f"standard output cannot be written ({fault.strerror}): run the same command again"
        status = ExitStatus.INCOMPLETE
    if error is not None:
        print(f"beamseg: {on_one_line(error)}", file=sys.stderr)
    if process.wants_json() and not is_help:
        print(process.result_json(status, error), flush=True)
    return status


def _show_nothing(*words: object, **more: object) -> None:
    """In place of what shows warnings of Python, which are for who writes programs."""


def _outcome(
    command: Callable[[Sequence[str]], int], arguments: Sequence[str]
) -> tuple[int, str | None]:
    """The exit status of a command, and what to say of the error that ended it, if one did."""
    try:
        process.end_at_signals()
        _check_secrets(arguments)
        return command(arguments), None
    except (BeamsegError, OSError) as error:
        reason = explained(error) if isinstance(error, OSError) else str(error)
        # A transient error is worth a retry; everything else that we refuse, the user must change.
        return ExitStatus.INCOMPLETE if is_transient(error) else ExitStatus.USAGE, reason
    except MemoryError:
        return ExitStatus.INCOMPLETE, _NO_MEMORY
    except Exception as error:
        if str(error) == "can't start new thread":
            refused = OSError(errno.EAGAIN, "no thread can be started")
            return ExitStatus.INCOMPLETE, explained(refused)
        if not process.wants_json():
            raise
        # Before the line of JSON, which is the last even where both streams are one.
        traceback.print_exc()
        return ExitStatus.INTERNAL_ERROR, f"{type(error).__name__}: {error}"


def _check_secrets(arguments: Sequence[str]) -> None:
    """Refuse addresses with credentials, which would stand in plans, tables and messages.

    Raises:
        ConfigurationError: Names the option, and not the address.
    """
    for before, word in zip(["", *arguments], arguments, strict=False):
        if holds_credentials(word):
            option = word.partition("=")[0] if word.startswith("-") else before
            raise ConfigurationError(
                f"{option or 'the command line'}: an address holds credentials, and addresses are "
                f"written to files: write it without user and signature, and give credentials as "
                f"the store or server has them (environment, .netrc, GDAL_HTTP_HEADER_FILE)"
            )

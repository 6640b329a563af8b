"""`beamseg`: finds the command and turns errors into exit statuses."""

import importlib
import logging
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence

import segmodel
from pipelines.cli import process
from segmodel.errors import BeamsegError, ConfigurationError, TransientError

COMMANDS = {
    "segment": ("pipelines.commands.segment", "label images, shards and scenes"),
    "pack": ("pipelines.commands.pack", "image files and masks into shards"),
    "plan": ("pipelines.commands.plan", "what a run would do, without starting it"),
    "train": ("pipelines.commands.train", "train a network and export it"),
    "compare": ("pipelines.commands.compare", "training runs side by side"),
    "ensemble": ("pipelines.commands.ensemble", "several models, or views, as one model"),
    "inspect": ("pipelines.commands.inspect", "print a model contract"),
    "verify": ("pipelines.commands.verify", "check size and SHA-256 of all that a run wrote"),
    "demo": ("pipelines.commands.demo", "how much of the Earth is ocean, land and lake?"),
}


# What the user must change; any other fault of a file may pass.
PERMANENT = (FileExistsError, FileNotFoundError, NotADirectoryError, PermissionError)


def usage() -> str:
    """Help of `beamseg` itself."""
    lines = [f"  {name:<9} {what}" for name, (_, what) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: beamseg COMMAND [options]",
            "",
            "Label every pixel of image collections too large for a notebook, and report the",
            "ground area of every class.",
            "",
            *lines,
            "",
            "beamseg COMMAND --help tells more; beamseg --version prints the version.",
        ]
    )


def main() -> None:
    """Entry point of the console script."""
    sys.exit(guarded(dispatch, sys.argv[1:]))


def dispatch(arguments: Sequence[str]) -> int:
    """Run the command that the first word names; returns the exit status.

    Raises:
        ConfigurationError: If there is no such command.
    """
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        print(f"beamseg {segmodel.__version__}")
        return 0
    if arguments[0] not in COMMANDS:
        import difflib

        near = difflib.get_close_matches(arguments[0], COMMANDS, 1)
        hint = f"did you mean {near[0]}?" if near else f"commands: {', '.join(COMMANDS)}"
        raise ConfigurationError(f"unknown command {arguments[0]!r}: {hint}")
    module = importlib.import_module(COMMANDS[arguments[0]][0])
    return module.run(arguments[1:])


def guarded(command: Callable[[Sequence[str]], int], arguments: Sequence[str]) -> int:
    """Run a command with our exit statuses: see the help of `segment`."""
    # TensorFlow's C++ messages tell a user nothing; they must be stilled before it is imported.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Our own limit refuses what is too large; Pillow's warning begins at half of it.
    warnings.filterwarnings("ignore", "Image size .* could be decompression bomb")
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    process.begin(arguments)
    signal.signal(signal.SIGINT, _interrupted)
    signal.signal(signal.SIGTERM, _interrupted)
    try:
        return _told(command(arguments))
    except BeamsegError as error:
        # What can pass is worth a retry; everything else that we refuse, the user must change.
        return _refused(str(error), 4 if isinstance(error, TransientError) else 2)
    except BrokenPipeError:
        _hush()
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        status = 2 if isinstance(error, PERMANENT) else 4
        return _refused(f"{where}{error.strerror or error}", status)
    except SystemExit as end:
        return int(end.code or 0)
    except Exception as error:
        if not process.wants_json():
            raise
        # Before the line of JSON, which is the last even where both streams are one.
        traceback.print_exc()
        return _told(1, f"{type(error).__name__}: {error}")


def _refused(reason: str, status: int) -> int:
    print(f"beamseg: {reason}", file=sys.stderr)
    return _told(status, reason)


def _told(status: int, error: str | None = None) -> int:
    """The exit status, after it was said to a program if that has asked."""
    if process.wants_json():
        try:
            print(process.result_json(status, error), flush=True)
        except BrokenPipeError:
            _hush()
    return status


def _hush() -> None:
    """Whoever read our output has seen enough; nothing more may be written to it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _interrupted(number: int, frame: object) -> None:
    process.end_interrupted(number)

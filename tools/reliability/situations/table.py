"""What a situation is, and the lines of commands that situations change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.cli.exit_status import ExitStatus

USAGE, OVER, INCOMPLETE = ExitStatus.USAGE, ExitStatus.OVER_BUDGET, ExitStatus.INCOMPLETE

GIVEN = "--model=model --output=run"
PHOTOS = f"segment --input=photos {GIVEN}"
SCENES = f"segment --input=scenes {GIVEN}"
SHARDS = f"segment --input=shards {GIVEN}"
PLAN = "plan --input=scenes --model=model"
TRAIN = "train --config=train.toml --output=trained"
PACK = "pack --images=photos --output=packed"
MASKED = f"{PACK} --masks=masks --classes=classes.toml --mask_encoding=id"
WRAP = "wrap foreign --contract=wrap.toml --output=wrapped"
ENSEMBLE = "ensemble model --flips --output=both"


def nothing(folder: Path) -> None:
    """Leave the folder as it is."""


@dataclass(frozen=True)
class Situation:
    """A command that cannot do what it is asked.

    Args:
        name: What is wrong; no two have the same.
        line: Words of the command, as a shell takes them; `$name` is an address of `ANSWERS`.
        at: Name of the option or file at fault, which the message has.
        says: Another part of the message: what must hold, or the remedy.
        status: Exit status.
        make: Changes the folder in which the command runs, a copy of the kit.
        before: Lines of commands that run first, and end with 0.
        hook: Python code that runs in the process before the command.
        variables: Of the environment; `$name` as in `line`.
    """

    name: str
    line: str
    at: str
    says: str
    status: ExitStatus = USAGE
    make: Callable[[Path], object] = nothing
    before: tuple[str, ...] = ()
    hook: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)

"""The situations as a harm: each is a command in a folder of its own."""

from __future__ import annotations

import random
import shlex
import shutil
import sys
from contextlib import ExitStack
from pathlib import Path
from string import Template
from typing import Self

from tests import forked
from tests.end_to_end.conftest import environment
from tools.reliability.bench import Bench, Ended, Harm, Outcome
from tools.reliability.situations import (
    accuracy,
    areas,
    contents,
    contracts,
    exports,
    files,
    layers,
    options,
    packing,
    runs,
    stores,
    surroundings,
    training,
)
from tools.reliability.situations.table import Situation

SUBJECTS = (
    options,
    files,
    contracts,
    contents,
    areas,
    runs,
    stores,
    surroundings,
    training,
    packing,
    exports,
    accuracy,
    layers,
)
TABLE: dict[str, Situation] = {
    situation.name: situation for subject in SUBJECTS for situation in subject.SITUATIONS
}
MAKE = """
import sys
from pathlib import Path
from tools.reliability.situations import kit
kit.write_kit(Path(sys.argv[1]))
"""


class Situations(Harm):
    """A trial is a command that cannot do what it is asked; the seed gives the order of trials."""

    name, count, trials = "situations", len(TABLE), len(TABLE)

    def __init__(self, bench: Bench, seed: int) -> None:
        super().__init__(bench, seed)
        self._folder = bench.folder / "situations"
        self._names = list(TABLE)
        random.Random(seed).shuffle(self._names)
        self._stack = ExitStack()
        self._addresses: dict[str, str] = {}

    def __enter__(self) -> Self:
        self._addresses = self._stack.enter_context(stores.addresses())
        kit = self._folder / "kit"
        kit.mkdir(parents=True, exist_ok=True)
        line = [sys.executable, "-c", MAKE, str(kit)]
        forked.run(line, env=environment(), check=True, capture_output=True)
        return self

    def __exit__(self, *caught: object) -> None:
        self._stack.close()
        shutil.rmtree(self._folder)

    def trial(self, number: int) -> list[Outcome]:
        """Run the command of a situation."""
        situation = TABLE[self._names[number]]
        ended = self.ended(situation, number)
        return [Outcome(situation.name, f"status {ended.status}", faults_of(situation, ended))]

    def ended(self, situation: Situation, number: int) -> Ended:
        """How the command of a situation ends.

        Raises:
            RuntimeError: If a command that runs before it fails.
        """
        folder = self._folder / str(number)
        shutil.copytree(self._folder / "kit", folder, symlinks=True)
        bench = Bench(folder)
        for line in situation.before:
            done = bench.run(shlex.split(line))
            if done.status:
                raise RuntimeError(f"{situation.name}: {line}: {done.errors}")
        situation.make(folder)
        known = self._addresses | {"PWD": str(folder)}
        variables = {
            name: Template(text).safe_substitute(known)
            for name, text in situation.variables.items()
        }
        words = shlex.split(Template(situation.line).safe_substitute(known))
        ended = bench.run(words, situation.hook, variables)
        _remove(folder)
        return ended


def faults_of(situation: Situation, ended: Ended) -> list[str]:
    """What is not as the table says, beside what is wrong with any end."""
    faults = list(ended.faults)
    if ended.status != situation.status:
        faults.append(f"status {ended.status}, expected {situation.status:d}: {ended.errors}")
    faults += [
        f"does not say {text!r}: {ended.errors}"
        for text in (situation.at, situation.says)
        if text not in ended.errors
    ]
    return faults


def _remove(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o700)
    shutil.rmtree(folder)

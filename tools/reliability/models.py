"""SavedModels that are damaged, or changed to do harm: refused in one line, or only compute."""

from __future__ import annotations

import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Self

from segmodel.devices.startup import import_quietly
from tests import forked
from tests.end_to_end.conftest import environment, files_of
from tools.reliability.bench import INPUTS, Bench, Outcome

# Each fourth mutant is a hostile change of its graph, the others are damaged files.
HOSTILE_EVERY = 4
BASES = ("base", "base_v1")
MAKE = """
import sys
from pathlib import Path
from tests.segmodel.safety import base_models
for name in ("base", "base_v1"):
    getattr(base_models, f"save_{name}")(Path(sys.argv[1]) / name)
"""


def flip(content: bytearray, draw: random.Random) -> None:
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)


def cut(content: bytearray, draw: random.Random) -> None:
    del content[draw.randrange(len(content)) :]


def clear(content: bytearray, draw: random.Random) -> None:
    start = draw.randrange(len(content))
    size = min(draw.randrange(1, 64), len(content) - start)
    content[start : start + size] = bytes(size)


def remove(content: bytearray, draw: random.Random) -> None:
    start = draw.randrange(len(content))
    del content[start : start + draw.randrange(1, 64)]


def repeat(content: bytearray, draw: random.Random) -> None:
    start = draw.randrange(len(content))
    content[start:start] = content[start : start + draw.randrange(1, 512)]


DAMAGES: dict[str, Callable[[bytearray, random.Random], None]] = {
    "a bit is flipped": flip,
    "the end is missing": cut,
    "bytes are zero": clear,
    "bytes are missing": remove,
    "bytes are there twice": repeat,
}


class Models:
    """A trial is a run over image files with a mutant of a SavedModel.

    Args:
        bench: Inputs.
        seed: Of the mutants.
    """

    name, count, is_parallel = "models", 400, True
    trials: int | None = None

    def __init__(self, bench: Bench, seed: int) -> None:
        self._bench, self._seed = bench, seed

    def __enter__(self) -> Self:
        with import_quietly():
            from tests.segmodel.safety import hostile_models
        self._hostile_models = hostile_models
        line = [sys.executable, "-c", MAKE, str(self._bench.folder)]
        forked.run(line, env=environment(), check=True, capture_output=True)
        return self

    def __exit__(self, *caught: object) -> None:
        pass

    def trial(self, number: int) -> list[Outcome]:
        """Run with a mutant."""
        draw = random.Random(f"{self._seed}-{number}")
        model = self._bench.folder / f"model-{number}"
        is_hostile = number % HOSTILE_EVERY == 0
        change = self._hostile if is_hostile else self._damaged
        harm = change(model, draw)
        photos, run = INPUTS[1], model.with_suffix(".run")
        line = ["segment", f"--input={photos}", f"--model={model.name}", f"--output={run.name}"]
        ended = self._bench.run(line)
        outcome = Outcome(harm, f"status {ended.status}", ended.faults)
        if is_hostile and "--trust_model" not in ended.errors:
            outcome.faults.append(f"it is not refused: {ended.errors}")
        if (self._bench.folder / self._hostile_models.WRITTEN).exists():
            outcome.faults.append("it has written a file")
        for folder in (model, run):
            shutil.rmtree(folder, ignore_errors=True)
        return [outcome]

    def _damaged(self, model: Path, draw: random.Random) -> str:
        """Make a model of which a file is damaged; says how."""
        shutil.copytree(self._bench.folder / "model", model)
        path = draw.choice([path for path, content in files_of(model).items() if content])
        kind = draw.choice(list(DAMAGES))
        content = bytearray((model / path).read_bytes())
        DAMAGES[kind](content, draw)
        (model / path).write_bytes(content)
        return f"{Path(path).suffix.strip('.').partition('-')[0]} file: {kind}"

    def _hostile(self, model: Path, draw: random.Random) -> str:
        """Make a model that would do harm; says that."""
        chosen = draw.choice(self._hostile_models.HOSTILE)
        base = self._bench.folder / BASES[chosen.is_v1]
        shutil.copytree(base, model)
        graphs = model / "saved_model.pb"
        graphs.write_bytes(self._hostile_models.build(chosen, graphs.read_bytes()))
        contract = self._bench.folder / "model" / "assets.extra"
        shutil.copytree(contract, model / "assets.extra", dirs_exist_ok=True)
        return "a graph that does harm"

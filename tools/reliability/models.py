"""SavedModels that are damaged, or changed to do harm: refused in one line, or only compute."""

from __future__ import annotations

import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Self

from tests import forked
from tests.end_to_end.conftest import environment, files_of
from tools.reliability.bench import INPUTS, Harm, Outcome

# Each fourth mutant is a hostile change of its graph, the others are damaged files.
HOSTILE_EVERY = 4
# Makes the hostile ones, and prints what they would write.
MAKE = """
import shutil, sys
from pathlib import Path
from tests.segmodel.safety import base_models, hostile_models
folder = Path(sys.argv[1])
for name in ("base", "base_v1"):
    getattr(base_models, f"save_{name}")(folder / name)
for number, hostile in enumerate(hostile_models.HOSTILE):
    model = folder / "hostile" / str(number)
    shutil.copytree(folder / ("base_v1" if hostile.is_v1 else "base"), model)
    graphs = model / "saved_model.pb"
    graphs.write_bytes(hostile_models.build(hostile, graphs.read_bytes()))
    shutil.copytree(folder / "model" / "assets.extra", model / "assets.extra", dirs_exist_ok=True)
print(hostile_models.WRITTEN, end="")
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


class Models(Harm):
    """A trial is a run over image files with a mutant of a SavedModel."""

    name, count = "models", 400

    def __enter__(self) -> Self:
        line = [sys.executable, "-c", MAKE, str(self.bench.folder)]
        made = forked.run(line, env=environment(), check=True, capture_output=True, text=True)
        self._written = self.bench.folder / made.stdout
        self._hostile = sorted((self.bench.folder / "hostile").iterdir())
        return self

    def trial(self, number: int) -> list[Outcome]:
        """Run with a mutant."""
        draw = self.draw(number)
        model = self.bench.folder / f"model-{number}"
        is_hostile = number % HOSTILE_EVERY == 0
        if is_hostile:
            harm = "a graph that does harm"
            shutil.copytree(draw.choice(self._hostile), model)
        else:
            harm = self._damaged(model, draw)
        photos, run = INPUTS[1], model.with_suffix(".run")
        line = ["segment", f"--input={photos}", f"--model={model.name}", f"--output={run.name}"]
        ended = self.bench.run(line)
        outcome = Outcome(harm, f"status {ended.status}", ended.faults)
        if is_hostile and "--trust_model" not in ended.errors:
            outcome.faults.append(f"it is not refused: {ended.errors}")
        if self._written.exists():
            outcome.faults.append("it has written a file")
        for folder in (model, run):
            shutil.rmtree(folder, ignore_errors=True)
        return [outcome]

    def _damaged(self, model: Path, draw: random.Random) -> str:
        """Make a model of which a file is damaged; says how."""
        shutil.copytree(self.bench.folder / "model", model)
        path = draw.choice([path for path, content in files_of(model).items() if content])
        kind = draw.choice(list(DAMAGES))
        content = bytearray((model / path).read_bytes())
        DAMAGES[kind](content, draw)
        (model / path).write_bytes(content)
        return f"{Path(path).suffix.strip('.').partition('-')[0]} file: {kind}"

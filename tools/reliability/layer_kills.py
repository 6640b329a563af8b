"""Layers of a run that are killed while they are made, continued, killed again, and continued."""

from __future__ import annotations

import shutil
import signal
from typing import Self

from tests.end_to_end.conftest import files_of
from tools.reliability.bench import Ended, Harm, Outcome, differences
from tools.reliability.kills import hook

# An attempt is killed, then the next, at most so often.
CHAIN = 4
WORKERS = (1, 8)
_POLYGONS = "--polygons=parquet,gpkg,fgb,geojson"
# Trials take them in turn.
OPTIONS = (
    ("--mosaic", "--cell=0.005", "--minimum_area=2000", _POLYGONS, "--tiles=png", "--stac"),
    ("--minimum_area=2000", _POLYGONS, "--by_scene", "--stac"),
    (_POLYGONS, "--simplify=2", "--max_vertices=100", "--stac"),
)


class LayerKills(Harm):
    """A trial makes all layers of a copy of a run: killed, continued, in the end left alone."""

    name, count, per_trial = "layers", 200, 3

    def __enter__(self) -> Self:
        assert self.bench.whole.status == 0
        self._unharmed = [
            self._made(f"layers/{place}", asked) for place, asked in enumerate(OPTIONS)
        ]
        return self

    def _made(self, folder: str, options: tuple[str, ...]) -> tuple[int, dict[str, bytes]]:
        """Points at which layers may be killed, and their files if they are not."""
        notes = self.bench.folder / "points"
        notes.unlink(missing_ok=True)
        ended = self._make(f"{folder}/run", options, hook(0, notes, links=True))
        if ended.status:
            raise RuntimeError(ended.errors)
        return len(notes.read_text().splitlines()), self._files(f"{folder}/run")

    def _make(self, run: str, options: tuple[str, ...], before: str, workers: int = 1) -> Ended:
        if not (self.bench.folder / run).exists():
            shutil.copytree(self.bench.folder / "whole", self.bench.folder / run)
        threads = ["--direct_running_mode=multi_threading", f"--direct_num_workers={workers}"]
        return self.bench.run(["layers", run, *options, *threads], before)

    def _files(self, run: str) -> dict[str, bytes]:
        """Files of the layers but plans, which say where the run is."""
        found = files_of(self.bench.folder / run / "layers")
        return {name: content for name, content in found.items() if "/plan/part-" not in name}

    def trial(self, number: int) -> list[Outcome]:
        """Layers that are killed up to `CHAIN` times, then finished."""
        # A catalogue is called as its run.
        draw, run = self.draw(number), f"layers-{number}/run"
        options = OPTIONS[number % len(OPTIONS)]
        points, expected = self._unharmed[number % len(OPTIONS)]
        notes = self.bench.folder / f"layers-{number}.points"
        outcomes = []
        for attempt in range(CHAIN + 1):
            point = 1 + int(points * draw.random() ** (1 if not attempt else 2))
            notes.unlink(missing_ok=True)
            before = hook(point if attempt < CHAIN else 0, notes, links=True)
            ended = self._make(run, options, before, draw.choice(WORKERS))
            if ended.status != -signal.SIGKILL:
                break
            outcomes.append(Outcome(f"killed {notes.read_text().strip()}", "continued"))
        outcomes = outcomes or [Outcome("no kill: layers of fewer calls", "same bytes")]
        faults = ended.faults
        if ended.status:
            faults.append(f"not killed: {ended.status}: {ended.errors}")
        outcomes[-1].faults += faults + differences(self._files(run), expected)
        shutil.rmtree((self.bench.folder / run).parent)
        notes.unlink(missing_ok=True)
        return outcomes

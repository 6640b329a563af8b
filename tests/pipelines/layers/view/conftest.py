"""A run to look at: two scenes that overlap, one of them half lost, with names that are no text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from affine import Affine

from pipelines.layers.options import LayersOptions
from pipelines.layers.tiles.tile_stages import TILES
from segmodel.labels.classes import ClassTable, LabelClass
from tests.fakes import BRIGHT, DARK, MIDDLE
from tests.pipelines.corpus import pixels, spoil_strip, write_model_folder, write_scene
from tests.pipelines.counted_scenes import ANY, holes, place
from tests.pipelines.layers.made_layers import make
from tests.pipelines.scene_runs import run_scenes

HOSTILE = "</script><script>document.title=1</script>\"'&,{{ 7 * 7 }}\U0001f333" + "x" * 300
SCENE = "<img src=x onerror=\"document.title='2'\">&'.tif"
CLASSES = ClassTable(
    (
        LabelClass(DARK, "dark", (10, 20, 30)),
        LabelClass(MIDDLE, HOSTILE, (0, 200, 10)),
        LabelClass(BRIGHT, "bright", (250, 240, 10)),
    )
)


FAR_APART = (("alaska", -150, 61), ("fiji", 179.99, -17), ("kamchatka", 160, 55))


@dataclass(frozen=True)
class Looked:
    """A run with web tiles.

    Args:
        root: The run directory.
        labels: Label map of each scene by its key.
    """

    root: Path
    labels: dict[str, np.ndarray]


@pytest.fixture(scope="session")
def looked(tmp_path_factory) -> Looked:
    """The run; not to be changed."""
    folder = tmp_path_factory.mktemp("looked")
    first, second = folder / "in" / "a.tif", folder / "in" / SCENE
    write_scene(first, pixels(128, 128, 0), place(), mask=holes(128, 128, 0))
    write_scene(second, pixels(128, 118, 1), place(40, 30), compress="deflate", blockysize=64)
    spoil_strip(second, 1)
    model = write_model_folder(folder / "model", classes=CLASSES)
    found = run_scenes(
        folder / "run",
        model,
        folder / "in",
        max_failures=ANY,
        overlap="first",
        confidence=True,
    )
    make(found.root, TILES, options=LayersOptions(tiles="png"))
    labels = {f"in/{path.name}": found.labels(f"in/{path.name}") for path in (first, second)}
    return Looked(found.root, labels)


@pytest.fixture(scope="session")
def far_apart(tmp_path_factory) -> Path:
    """A run over small scenes around the Pacific, one of them across the antimeridian."""
    folder = tmp_path_factory.mktemp("far_apart")
    for name, west, north in FAR_APART:
        transform = Affine(0.0002, 0, west, 0, -0.0002, north)
        path = folder / "in" / f"{name}.tif"
        write_scene(path, pixels(100, 100, 0), ("EPSG:4326", transform))
    model = write_model_folder(folder / "model", classes=CLASSES)
    root = run_scenes(folder / "run", model, folder / "in").root
    make(root, TILES, options=LayersOptions(tiles="png"))
    return root

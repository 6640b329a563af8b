"""What the label maps of a run say of a place."""

from __future__ import annotations

import numpy as np
import pytest
from pyproj import Transformer

from pipelines.layers.view.places import PlaceIndex
from pipelines.layers.view.run_page import viewed_run
from tests.pipelines.corpus import UTM
from tests.pipelines.layers.view.conftest import CLASSES, SCENE

NAMES = {entry.id: entry.name for entry in CLASSES.classes}
FIRST, SECOND = "in/a.tif", f"in/{SCENE}"


def degrees(row: int, column: int) -> tuple[float, float]:
    """The centre of a pixel of the grid that all scenes are on."""
    x, y = UTM[1] @ (column + 0.5, row + 0.5)
    return Transformer.from_crs(UTM[0], "EPSG:4326", always_xy=True).transform(x, y)


@pytest.fixture(scope="module")
def index(looked) -> PlaceIndex:
    return PlaceIndex(viewed_run(str(looked.root)).maps)


def test_a_place_has_the_class_of_the_first_scene_that_has_one(index, looked):
    order = [found.key for found in viewed_run(str(looked.root)).maps]
    shifts = {FIRST: (0, 0), SECOND: (30, 40)}
    rng = np.random.default_rng(3)
    kinds = set()
    for row, column in rng.integers(-5, 165, (60, 2)).tolist():
        expected, name = [], "no class"
        for key in order:
            down, across = row - shifts[key][0], column - shifts[key][1]
            height, width = looked.labels[key].shape
            if 0 <= down < height and 0 <= across < width:
                found = NAMES.get(int(looked.labels[key][down, across]))
                expected.append((key, down, across, found))
                name = found if name == "no class" and found else name
        lines = index.lines(*degrees(row, column))
        kinds.add((len(expected), name == "no class"))
        if not expected:
            assert lines == ["no scene"]
            continue
        assert lines[0] == name
        for key, down, across, found in expected:
            (line,) = [at for at in lines[1:] if at.startswith(f"{key}, row {down}, ")]
            assert f"column {across}" in line
            assert ("confidence" in line) == (found is not None)
    assert kinds == {(0, True), (1, True), (1, False), (2, True), (2, False)}


def test_confidence_is_that_of_the_pixel(index, looked):
    from tests.pipelines.corpus import read_band

    confidence = read_band(looked.root / "confidence" / "in" / "a.tif")
    row, column = np.argwhere(looked.labels[FIRST] != 255)[0].tolist()
    (_, line, *_) = index.lines(*degrees(row, column))
    assert (
        line
        == f"{FIRST}, row {row}, column {column}, confidence {confidence[row, column] / 255:.2f}"
    )

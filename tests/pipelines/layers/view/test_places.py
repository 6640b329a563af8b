"""What the label maps of a run say of a place."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import scipy.ndimage
from pyproj import Transformer

from pipelines.layers.generalized.generalization import MINIMUM_AREA
from pipelines.layers.options import LayersOptions
from pipelines.layers.tracing.polygon_layer import POLYGONS
from pipelines.layers.view.places import PlaceIndex
from pipelines.layers.view.run_page import viewed_run
from pipelines.layers.view.server import Site
from pipelines.scenes.results import area_text
from tests.fakes import BRIGHT
from tests.pipelines.corpus import UTM, read_band
from tests.pipelines.layers.made_layers import make
from tests.pipelines.layers.view.conftest import CLASSES, SCENE

NAMES = {entry.id: entry.name for entry in CLASSES.classes}
FIRST, SECOND = "in/a.tif", f"in/{SCENE}"


def degrees(row: int, column: int) -> tuple[float, float]:
    """The centre of a pixel of the grid that all scenes are on."""
    x, y = UTM[1] @ (column + 0.5, row + 0.5)
    return Transformer.from_crs(UTM[0], "EPSG:4326", always_xy=True).transform(x, y)


def index_of(root: Path | str) -> PlaceIndex:
    run = viewed_run(str(root))
    return PlaceIndex(run.placed, CLASSES, run.polygons_of)


def lines_at(index: PlaceIndex, row: int, column: int) -> list[str]:
    return [line.text for line in index.lines(*degrees(row, column))]


@pytest.fixture(scope="module")
def index(looked) -> PlaceIndex:
    return index_of(looked.root)


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
        lines = lines_at(index, row, column)
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
    confidence = read_band(looked.root / "confidence" / "in" / "a.tif")
    row, column = np.argwhere(looked.labels[FIRST] != 255)[0].tolist()
    (_, line, *_) = lines_at(index, row, column)
    assert (
        line
        == f"{FIRST}, row {row}, column {column}, confidence {confidence[row, column] / 255:.2f}"
    )


@pytest.mark.parametrize("by_scene", [False, True])
def test_a_place_has_the_area_of_its_polygon(looked, tmp_path, by_scene):
    run = shutil.copytree(looked.root, tmp_path / "run")
    make(run, POLYGONS, options=LayersOptions(polygons=("parquet",), by_scene=by_scene))
    index = index_of(run)
    labels = looked.labels[FIRST]
    components, _ = scipy.ndimage.label(labels == BRIGHT)
    (table,) = (run / "layers").glob("polygons/in/a.tif.parquet" if by_scene else "*.parquet")
    areas = {
        (row["scene"], row["component"]): row["area_m2"]
        for row in pq.read_table(table, columns=["scene", "component", "area_m2"]).to_pylist()
    }
    for number in (1, components.max()):
        pixels = np.argwhere(components == number)
        lines = lines_at(index, *pixels[-1].tolist())
        (line,) = [line for line in lines[1:] if line.startswith(FIRST)]
        row, column = pixels[0].tolist()
        area = area_text(areas[FIRST, f"{FIRST}#{row},{column}"])
        assert line.removesuffix(": bright").endswith(f", in a polygon of {area}")


def test_a_polygon_of_a_generalized_map_has_its_own_class(looked, tmp_path):
    run = shutil.copytree(looked.root, tmp_path / "run")
    options = LayersOptions(polygons=("parquet",), minimum_area=400.0)
    make(run, MINIMUM_AREA, POLYGONS, options=options)
    before, after = (read_band(run / path / FIRST) for path in ("labels", "layers/generalized"))
    row, column = np.argwhere((before != after) & (after == BRIGHT))[0].tolist()
    lines = lines_at(index_of(run), row, column)
    (line,) = [line for line in lines[1:] if line.startswith(f"{FIRST}, row {row}, ")]
    assert " in a polygon of " in line
    assert " of bright" in line


def test_a_run_in_a_store_is_looked_at_by_ranges(looked, client):
    client.put_all(looked.root, "gs://bucket/run")
    site = Site(viewed_run("gs://bucket/run"))
    archive = (looked.root / "layers" / "labels.pmtiles").read_bytes()
    answer = site.answer("/labels.pmtiles", "localhost", "bytes=7-99")
    assert (answer.status, b"".join(answer.content)) == (206, archive[7:100])
    client.fails = lambda method, uri: method in ("stat", "read")
    answer = site.answer("/labels.pmtiles", "localhost")
    assert (answer.status, b"the store is down" in b"".join(answer.content)) == (503, True)


def test_a_run_in_a_store_says_the_same_as_one_here(looked, tmp_path, client):
    run = shutil.copytree(looked.root, tmp_path / "run", ignore=shutil.ignore_patterns("layers"))
    make(run, POLYGONS, options=LayersOptions(polygons=("parquet",)))
    client.put_all(run, "gs://bucket/run")
    here, there = (Site(viewed_run(str(root))) for root in (run, "gs://bucket/run"))
    (_, extent) = viewed_run(str(run)).placed.extents
    side = 1 << extent.zoom
    tile = f"/tile/{extent.zoom}/{int(extent.west * side)}/{int(extent.north * side)}"
    clicks = [f"/place?lon={lon}&lat={lat}" for lon, lat in map(degrees, (20, 60), (20, 60))]
    contents = {}
    for target in ("/", *clicks, tile, "/scenes", "/image/1"):
        expected, actual = (site.answer(target, "localhost") for site in (here, there))
        contents[target] = b"".join(actual.content)
        assert (expected.status, b"".join(expected.content)) == (200, contents[target])
        assert (actual.status, actual.headers) == (200, expected.headers)
    assert contents[tile].startswith(b"\x89PNG")
    assert contents[clicks[1]].count(b"in a polygon of") == 2


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ("down", "gs://bucket/run/labels/in/a.tif: the store is down: "),
        ("gone", "labels/in/a.tif: the scene cannot be opened: No such file or directory: "),
    ],
)
def test_a_label_map_that_a_store_does_not_give_is_told(looked, client, harm, said):
    client.put_all(looked.root, "gs://bucket/run")
    site, uri = Site(viewed_run("gs://bucket/run")), "gs://bucket/run/labels/in/a.tif"
    if harm == "gone":
        del client.objects[uri]
    client.fails = lambda method, at: harm == "down" and at == uri
    lon, lat = degrees(10, 10)
    answer = site.answer(f"/place?lon={lon}&lat={lat}", "localhost")
    assert answer.status == 503
    assert json.loads(b"".join(answer.content))["error"].startswith(said)


def test_a_store_is_asked_what_the_archive_is_when_that_is_not_known(looked, client):
    client.put_all(looked.root, "gs://bucket/run")
    site, uri = Site(viewed_run("gs://bucket/run")), "gs://bucket/run/layers/labels.pmtiles"

    def asked() -> tuple[int, bytes, str, list[str]]:
        client.asked.clear()
        answer = site.answer("/labels.pmtiles", "localhost", "bytes=0-6")
        assert {at for _, at in client.asked} == {uri}
        methods = [method for method, _ in client.asked]
        return answer.status, b"".join(answer.content), answer.headers.get("ETag", ""), methods

    size = len(client.objects[uri])
    assert asked() == (206, b"PMTiles", f'"{size}-v1"', ["stat", "read"])
    assert asked() == (206, b"PMTiles", f'"{size}-v1"', ["read"])
    client.version, client.objects[uri] = "v2", b"another one"
    assert asked() == (206, b"another", '"11-v2"', ["read", "stat", "read"])
    assert asked() == (206, b"another", '"11-v2"', ["read"])
    del client.objects[uri]
    status, content, _, methods = asked()
    assert (status, b"is not there any more" in content, methods) == (404, True, ["read", "stat"])

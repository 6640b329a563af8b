"""What lies on the labels: all of it is found, within a box, and few at a time."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import shapely

from pipelines.commands import sample as sample_command
from pipelines.layers.view import overlays as module
from pipelines.layers.view.overlays import NamedShape, Overlay, Overlays, OverlayStyle
from pipelines.layers.view.run_page import viewed_run
from tests.pipelines.layers.view.conftest import SCENE

WORLD = (-180.0, -90.0, 540.0, 90.0)
KEYS = {"in/a.tif", f"in/{SCENE}"}


def overlays_of(run) -> Overlays:
    viewed = viewed_run(str(run))
    return Overlays(viewed.maps, viewed.placed)


def shapes_in(overlay: Overlay, box=WORLD) -> list[tuple[str, shapely.Geometry]]:
    features = json.loads(json.dumps(overlay.meeting(box)))
    return [
        (one["properties"]["name"], shapely.geometry.shape(one["geometry"])) for one in features
    ]


def points(places: np.ndarray) -> Overlay:
    return Overlay(
        OverlayStyle("points", "#000000"),
        "point",
        np.hstack([places, places]),
        lambda number: NamedShape(shapely.Point(places[number]), str(number)),
    )


def test_outlines_overlaps_and_failed_blocks_are_where_they_are(looked):
    found = overlays_of(looked.root).by_name
    assert list(found) == ["scenes", "overlaps", "failed"]
    assert found["scenes"].style.title == "outlines of 2 scenes"
    assert found["failed"].style.title == "2 failed blocks"
    outlines = dict(shapes_in(found["scenes"]))
    assert outlines.keys() == KEYS
    ((name, shared),) = shapes_in(found["overlaps"])
    first, second = sorted(KEYS)
    assert name == f"{first}, {second}"
    assert shared.equals(outlines[first] & outlines[second])
    failed = shapes_in(found["failed"])
    assert [name for name, _ in failed] == [
        f"in/{SCENE}: rows from 64, columns from {column}, could not be read" for column in (0, 64)
    ]
    lost = shapely.union_all([shape for _, shape in failed])
    # The lower half of the scene.
    assert lost.area == pytest.approx(outlines[f"in/{SCENE}"].area / 2, rel=1e-3)
    assert lost.within(outlines[f"in/{SCENE}"].buffer(1e-6))


def test_boxes_are_around_what_they_stand_for(looked):
    for overlay in overlays_of(looked.root).by_name.values():
        shapes = [overlay.shape(number).shape for number in range(len(overlay.bounds))]
        # Of shared ground it is what the boxes of both scenes share.
        tolerance = 2e-4 if overlay.noun == "overlap" else 1e-5
        np.testing.assert_allclose(overlay.bounds, shapely.bounds(shapes), atol=tolerance)


def test_a_scene_across_the_antimeridian_is_one_shape_to_the_east_of_the_others(far_apart):
    scenes = overlays_of(far_apart).by_name["scenes"]
    found = {name: shape.bounds for name, shape in shapes_in(scenes)}
    assert found == {
        "in/alaska.tif": pytest.approx((210, 60.98, 210.02, 61)),
        "in/fiji.tif": pytest.approx((179.99, -17.02, 180.01, -17)),
        "in/kamchatka.tif": pytest.approx((160, 54.98, 160.02, 55)),
    }
    ((name, fiji),) = shapes_in(scenes, (179, -20, 181, -10))
    assert (name, fiji.geom_type) == ("in/fiji.tif", "Polygon")
    assert shapes_in(scenes, (-181, -20, -179, -10)) == []


def test_points_of_a_sample_are_without_the_class_of_the_map(looked, tmp_path):
    run = shutil.copytree(looked.root, tmp_path / "run")
    assert sample_command.run([str(run), "--total", "30", "--chip_px", "0"]) == 0
    design = json.loads((run / "sample" / "design.json").read_text())
    found = [
        (name, shape.x, shape.y) for name, shape in shapes_in(overlays_of(run).by_name["sample"])
    ]
    assert found == [(point["id"], point["lon"], point["lat"]) for point in design["points"]]

    (run / "sample" / "design.json").write_text("{}")
    assert "sample" not in overlays_of(run).by_name


def test_what_a_box_touches_is_within_it():
    overlay = points(np.array([[0.0, 0], [1, 0], [2, 0], [1, 3]]))
    assert [name for name, _ in shapes_in(overlay, (1, 0, 2, 2))] == ["1", "2"]


def test_what_is_too_much_to_draw_is_counted_where_it_is(monkeypatch):
    monkeypatch.setattr(module, "MAX_DRAWN", 3)
    overlay = points(np.array([[1.0, 1], [2, 1], [3, 1], [11.5, 11], [50, 50]]))
    assert [name for name, _ in shapes_in(overlay, (0, 0, 5, 5))] == ["0", "1", "2"]
    sums = overlay.meeting((0, 0, 12 * 4, 12 * 4))
    assert [(one["properties"], one["geometry"]["coordinates"]) for one in sums] == [
        ({"name": "3 points", "count": "3"}, (2, 1)),
        ({"name": "1 point", "count": "1"}, (11.5, 11)),
    ]


def test_a_hundred_thousand_shapes_are_at_most_as_many_features_as_there_are_cells():
    overlay = points(np.random.default_rng(0).uniform((-180, -80), (180, 80), (100_000, 2)))
    sums = overlay.meeting(WORLD)
    counts = [int(one["properties"]["count"].replace(",", "")) for one in sums]
    assert sum(counts) == 100_000
    # All are in the first half of a box that goes around twice.
    assert len(counts) <= module.CELLS**2 / 2

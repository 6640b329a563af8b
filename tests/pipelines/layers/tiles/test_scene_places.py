"""Where scenes are on a page: all of them, few places, across the antimeridian."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.layers.tiles import scene_places as module
from pipelines.layers.tiles.scene_places import ScenePlace, scene_places


def test_scenes_on_both_sides_of_the_antimeridian_are_beside_each_other():
    bounds = np.array([[-150, 60, -149, 61], [179, -18, 181, -17], [160, 54, 161, 55]], float)
    found = scene_places(["alaska", "fiji", "kamchatka"], bounds)
    assert found.bounds == (160, -18, 211, 61)
    assert found.places == (
        ScenePlace("alaska", (210, 60, 211, 61)),
        ScenePlace("fiji", (179, -18, 181, -17)),
        ScenePlace("kamchatka", (160, 54, 161, 55)),
    )


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ([[10.25, 50, 11.5, 51]], (10.25, 50, 11.5, 51)),
        ([[-10, 0, -9, 1], [20, 0, 21, 1]], (-10, 0, 21, 1)),
        ([[179, 0, 180, 1]], (179, 0, 180, 1)),
        ([[-180, 0, -179, 1]], (-180, 0, -179, 1)),
        ([[-180, -85, 180, 85], [3, 4, 5, 6]], (-180, -85, 180, 85)),
    ],
)
def test_scenes_elsewhere_are_where_they_are(bounds, expected):
    keys = [str(number) for number in range(len(bounds))]
    found = scene_places(keys, np.array(bounds, float))
    assert found.bounds == expected
    assert [place.bounds for place in found.places] == list(map(tuple, bounds))


def test_many_scenes_are_few_places_that_hold_them(monkeypatch):
    monkeypatch.setattr(module, "MAX_PLACES", 4)
    west, south = np.meshgrid([10.0, 10.25, 60.0], [50.0, 50.25, 20.0])
    corner = np.stack([west.ravel(), south.ravel()], axis=1)
    keys = [f"in/{number}.tif" for number in range(9)]
    found = scene_places(keys, np.hstack([corner, corner + 0.125]))
    assert found.places == (
        ScenePlace("in/0.tif and 3 more scenes", (10, 50, 10.375, 50.375)),
        ScenePlace("in/2.tif and 1 more scene", (60, 50, 60.125, 50.375)),
        ScenePlace("in/6.tif and 1 more scene", (10, 20, 10.375, 20.125)),
        ScenePlace("in/8.tif", (60, 20, 60.125, 20.125)),
    )


def test_a_hundred_thousand_scenes_are_at_most_as_many_places_as_a_page_shows():
    random = np.random.default_rng(0)
    corner = random.uniform((-180, -80), (179, 79), (100_000, 2))
    keys = [f"in/{number}.tif" for number in range(len(corner))]
    found = scene_places(keys, np.hstack([corner, corner + 0.01]))
    assert 100 < len(found.places) <= 500


def test_a_name_is_that_of_tables():
    found = scene_places(["=in/\u202egpj.tif"], np.array([[0.0, 0, 1, 1]]))
    assert found.places[0].name == "'=in/\\u202egpj.tif"

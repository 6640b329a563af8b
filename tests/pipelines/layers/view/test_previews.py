"""Pictures of scenes below their labels."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image
from pyproj import Transformer

from pipelines.layers.view.previews import Previews
from pipelines.layers.view.run_page import viewed_run
from pipelines.layers.view.server import Site
from tests.pipelines.corpus import UTM, pixels
from tests.pipelines.counted_scenes import holes
from tests.pipelines.layers.view.conftest import SCENE


@pytest.fixture(scope="module")
def previews(looked) -> Previews:
    return Previews(viewed_run(str(looked.root)).maps)


def test_a_picture_shows_the_pixels_of_the_scene_at_their_place(looked, previews):
    keys = [found.key for found in viewed_run(str(looked.root)).maps]
    number = keys.index("in/a.tif")
    image = np.asarray(Image.open(io.BytesIO(previews.png(number))))
    west, south, east, north = previews.bounds[number]
    to_mercator = Transformer.from_crs("EPSG:4326", "EPSG:3857", always_xy=True)
    (left, right), (bottom, top) = to_mercator.transform([west, east], [south, north])
    to_degrees = Transformer.from_crs(UTM[0], "EPSG:4326", always_xy=True)
    values, valid = pixels(128, 128, 0), holes(128, 128, 0)
    found = 0
    for row, column in np.random.default_rng(1).integers(2, 126, (50, 2)).tolist():
        x, y = to_mercator.transform(*to_degrees.transform(*(UTM[1] @ (column + 0.5, row + 0.5))))
        across = int((x - left) / (right - left) * image.shape[1])
        down = int((top - y) / (top - bottom) * image.shape[0])
        # A pixel of the picture shows the scene at its own centre, up to a pixel away.
        near = np.s_[row - 1 : row + 2, column - 1 : column + 2]
        colors = {
            (*color, 255 * ok)
            for color, ok in zip(
                values[near].reshape(-1, 3).tolist(), valid[near].ravel().tolist(), strict=True
            )
            for color in [tuple(color)]
            if ok
        }
        if image[down, across, 3]:
            found += tuple(image[down, across].tolist()) in colors
        else:
            found += not valid[near].all()
    assert found == 50
    assert image[0, 0].tolist() == [0, 0, 0, 0]


def test_pictures_are_given_by_number_and_no_other_way(looked):
    run = viewed_run(str(looked.root))
    number, site = [found.key for found in run.maps].index("in/a.tif"), Site(run)
    answer = site.answer(f"/image/{number}", "localhost")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "image/png")
    for target in ("/image/2", "/image/-1", "/image/", "/image/1/..", "/image/a"):
        assert site.answer(target, "localhost").status == 404


@pytest.mark.parametrize("key", ["in/a.tif", f"in/{SCENE}"])
def test_a_scene_that_cannot_be_read_is_told(looked, key):
    run = viewed_run(str(looked.root))
    number = [found.key for found in run.maps].index(key)
    site = Site(run)
    name = looked.root.parent / "in" / "a.tif"
    other = name.with_suffix(".gone")
    name.rename(other)
    try:
        # A strip of the other one is damaged.
        answer = site.answer(f"/image/{number}", "localhost")
    finally:
        other.rename(name)
    assert answer.status == 503
    assert json.loads(b"".join(answer.content))["error"]

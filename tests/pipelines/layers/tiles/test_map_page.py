"""`map.html`: what it holds, and what a browser makes of it."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from pmtiles.tile import zxy_to_tileid

from pipelines.layers.tiles import map_page
from pipelines.layers.tiles.archive import ArchiveHead, zoom_ranges
from pipelines.layers.tiles.map_page import EmbeddedTiles, low_zooms
from pipelines.layers.tiles.scene_places import ScenePlace, ScenePlaces
from pipelines.layers.tiles.tile_images import tile_image
from pipelines.layers.tiles.tile_parts import TilePart, index_file, write_images
from segmodel.labels.classes import ClassTable, LabelClass, format_color
from tests.browser import needs_chromium

HOSTILE = "</script><script>document.title=1</script>\"'&,\U0001f333" + "x" * 300
CLASSES = ClassTable((LabelClass(1, "water", (0, 0, 250)), LabelClass(2, HOSTILE, (0, 200, 10))))
AREAS = (2_000_000.0, 6_000_000.0)
HEAD = ArchiveHead(
    "png",
    3,
    (0.0, -40.0, 80.0, 0.0),
    {
        "classes": [
            {"id": c.id, "name": c.name, "color": format_color(c.color), "area_m2": area}
            for c, area in zip(CLASSES.classes, AREAS, strict=True)
        ]
    },
)
SCENES = ScenePlaces(HEAD.bounds, (ScenePlace(HOSTILE, HEAD.bounds),))
# What a person does, and what the page is asked for afterwards.
SCRIPT = """<script>
const problems = [];
document.addEventListener("securitypolicyviolation", (event) => problems.push(event.blockedURI));
setTimeout(() => {
  const map = document.getElementById("map"), box = map.getBoundingClientRect();
  const at = { clientX: box.x + box.width / 2, clientY: box.y + box.height / 2, bubbles: true };
  for (const kind of ["mousedown", "mouseup", "click"]) {
    map.dispatchEvent(new MouseEvent(kind, at));
  }
  const opacity = document.getElementById("opacity");
  opacity.value = 0.25;
  opacity.dispatchEvent(new Event("input"));
}, 500);
setTimeout(() => {
  const text = (query) => [...document.querySelectorAll(query)].map((one) => one.textContent);
  const layer = document.querySelector(".leaflet-layer");
  const found = {
    popup: text(".leaflet-popup-content"),
    rows: [...document.querySelectorAll("tbody tr")].map((row) =>
      [...row.children].map((cell) => cell.textContent)),
    scenes: text("#scenes option"),
    opacity: layer.style.opacity,
    images: [...layer.querySelectorAll("img")].map((one) => one.naturalWidth),
    requests: performance.getEntriesByType("resource").map((one) => one.name)
      .filter((name) => !name.startsWith("data:")),
    problems: problems,
    title: document.title,
    background: getComputedStyle(document.body).backgroundColor,
  };
  document.body.textContent = "FOUND" + JSON.stringify(found) + "END";
}, 1500);
</script>"""


def parts_of_world(folder: Path) -> list[TilePart]:
    """Zooms 0 to 3 of a world that is of the second class in the south-east, else without one."""
    labels = np.full((256, 256), 2, np.uint8)
    labels[:9] = 1
    image, tiles = tile_image(labels, CLASSES, "png"), {}
    for zoom in range(1, 4):
        half = 1 << (zoom - 1)
        for x in range(half, 2 * half):
            tiles |= {(zoom, x, y): image + bytes([zoom, x, y]) for y in range(half, 2 * half)}
    part = TilePart(str(folder), "all")
    with open(part.images, "wb") as stream:
        index = write_images(stream, sorted((zxy_to_tileid(*at), c) for at, c in tiles.items()))
    Path(part.index).write_bytes(index_file(index, labels))
    return [part]


def embedded(folder: Path) -> EmbeddedTiles:
    parts = parts_of_world(folder)
    return low_zooms((zoom, zoom_ranges(zoom, parts)) for zoom in range(4))


def data_of(page: bytes) -> dict:
    (text,) = re.findall(rb'<script type="application/json" id="data">(.*?)</script>', page)
    return json.loads(text)


def test_a_page_has_the_tiles_of_all_zooms_that_fit(tmp_path, monkeypatch):
    whole = embedded(tmp_path)
    assert whole.zooms == [1, 2, 3]
    page = map_page.map_page(whole, HEAD, SCENES)
    data = data_of(page)
    assert (data["minZoom"], data["zoom"], len(data["tiles"])) == (1, 3, 1 + 4 + 16)
    image = base64.b64decode(data["images"][data["tiles"]["3/4/7"]].partition(",")[2])
    assert image.endswith(bytes([3, 4, 7]))
    assert b"This page has zooms up to" not in page

    monkeypatch.setattr(map_page, "EMBEDDED_BYTES", whole.size - 1)
    less = embedded(tmp_path)
    assert (less.zooms, len(less.tiles)) == ([1, 2], 5)
    page = map_page.map_page(less, HEAD, SCENES)
    assert b"This page has zooms up to 2; labels.pmtiles has them up to 3." in page


def test_what_tiles_take_in_a_page_is_not_underestimated(tmp_path):
    whole = embedded(tmp_path)
    empty = len(map_page.map_page(EmbeddedTiles(), HEAD, SCENES))
    assert len(map_page.map_page(whole, HEAD, SCENES)) - empty <= whole.size
    assert empty + map_page.EMBEDDED_BYTES < 5_000_000


def test_a_page_names_no_file_and_no_host_that_a_browser_would_ask(tmp_path):
    page = map_page.map_page(embedded(tmp_path), HEAD, SCENES).decode()
    assert not re.findall(r"<(?:script|img|link|iframe)[^>]+(?:src|href)=", page)
    assert "default-src 'none'; img-src data:" in page
    assert "sourceMappingURL" not in page


@needs_chromium
@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_the_map_from_disk_and_asks_for_nothing(tmp_path, scheme):
    page = map_page.map_page(embedded(tmp_path), HEAD, SCENES).decode()
    path = tmp_path / "map.html"
    path.write_text(page.replace("</body>", SCRIPT + "</body>"), encoding="utf-8")
    command = ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=4000"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", "--window-size=1200,800"]
    command += ["--blink-settings=preferredColorScheme=" + ("0" if scheme == "dark" else "1")]
    shown = subprocess.run([*command, path.as_uri()], capture_output=True, check=True, timeout=60)
    (text,) = re.findall(r"FOUND(.*?)END", shown.stdout.decode())
    found = json.loads(text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    assert found["popup"] == [HOSTILE]
    assert found["rows"] == [["water", "2.00 km²", "25.0%"], [HOSTILE, "6.00 km²", "75.0%"]]
    assert found["scenes"] == ["all scenes", HOSTILE]
    assert found["opacity"] == "0.25"
    assert {*found["images"]} == {256}
    assert (found["requests"], found["problems"], found["title"]) == ([], [], "Label map")
    dark, light = "rgb(34, 39, 46)", "rgb(255, 255, 255)"
    assert found["background"] == (dark if scheme == "dark" else light)

"""The page of a run as people use it, in a browser."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from affine import Affine

from pipelines.layers.options import LayersOptions
from pipelines.layers.tiles.tile_stages import TILES
from pipelines.layers.view import overlays
from pipelines.layers.view.run_page import viewed_run
from pipelines.layers.view.server import PageServer, Site
from tests.browser import Browser, browser, needs_chromium
from tests.pipelines.corpus import pixels, write_model_folder, write_scene
from tests.pipelines.layers.made_layers import make
from tests.pipelines.layers.view.conftest import CLASSES, HOSTILE, SCENE
from tests.pipelines.scene_runs import run_scenes

pytestmark = [needs_chromium, pytest.mark.browser]

UP, RIGHT, DOWN, ENTER = "\ue013", "\ue014", "\ue015", "\ue007"
READY = "document.querySelectorAll('.leaflet-tile-loaded[src^=\"blob:\"]').length"
STATUS = "document.getElementById('status').textContent"
# The place of a class that is shown in the window: of a pixel whose neighbours are like it.
FIND = """
const [red, green, blue] = arguments[0];
for (const tile of document.querySelectorAll('.leaflet-tile-loaded')) {
  const canvas = document.createElement('canvas');
  canvas.width = canvas.height = 256;
  const context = canvas.getContext('2d');
  context.drawImage(tile, 0, 0);
  const values = context.getImageData(0, 0, 256, 256).data, box = tile.getBoundingClientRect();
  for (let i = 0; i < values.length; i += 4) {
    const x = box.x + (i / 4 % 256 + 0.5) * box.width / 256;
    const y = box.y + (Math.floor(i / 1024) + 0.5) * box.height / 256;
    const like = values[i] === red && values[i + 1] === green && values[i + 2] === blue;
    if (like && values[i + 3] === 255 && document.elementFromPoint(x, y)?.closest('#map')) {
      return [x, y];
    }
  }
}
"""


@contextmanager
def served(root: Path) -> Iterator[PageServer]:
    with PageServer(Site(viewed_run(str(root)))) as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def server(looked) -> Iterator[PageServer]:
    with served(looked.root) as found:
        yield found


@pytest.fixture(scope="module")
def session(tmp_path_factory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("browser")) as found:
        yield found


@pytest.fixture
def page(session, server) -> Browser:
    session.addresses(), session.messages()
    session.open(server.address)
    session.wait_for(READY)
    return session


def test_legend_click_and_opacity_work_and_nothing_leaves_this_machine(page, server):
    rows = page.run(
        "return [...document.querySelectorAll('tbody tr')].map((row) =>"
        "  [...row.children].map((cell) => cell.textContent))"
    )
    assert [name for name, _, _ in rows] == ["dark", HOSTILE, "bright"]
    assert sum(float(share.rstrip("%")) for _, _, share in rows) == pytest.approx(100, abs=0.2)
    fill = "return getComputedStyle(document.querySelector('tbody rect')).fill"
    assert page.run(fill) == "rgb(10, 20, 30)"

    for color, name in (((0, 200, 10), HOSTILE), ((250, 240, 10), "bright")):
        page.wait_for("!document.querySelector('.leaflet-pan-anim, .leaflet-zoom-anim')")
        page.click(*page.run(FIND, color))
        shown = page.wait_for(f"{STATUS}.startsWith(arguments[0]) && {STATUS}", name)
        assert "in/" in shown
        assert "confidence 0." in shown or "confidence 1." in shown
        popups = "document.querySelectorAll('.leaflet-popup-content')"
        popup = page.run(f"return [...{popups}].at(-1).firstChild.firstChild.textContent")
        assert popup == name
    link = page.run(f"return [...{popups}].at(-1).querySelector('a').getAttribute('href')")
    assert link in ("scenes?from=0#scene-0", "scenes?from=0#scene-1")

    page.run("document.getElementById('opacity').focus()")
    page.keys("\ue012" * 4)
    assert page.run("return document.querySelector('.leaflet-layer').style.opacity") == "0.8"

    # Of its own, Chromium loads pages of `chrome:`.
    asked = [at for at in page.addresses() if at.startswith(("http", "ws", "file"))]
    assert {f"{server.address}{name}" for name in ("labels.pmtiles", "map.css")} <= {*asked}
    assert any(at.startswith(f"{server.address}place?") for at in asked)
    assert [at for at in asked if not at.startswith(server.address)] == []
    assert page.messages() == []
    assert page.run("return document.title") == "run"


def test_keys_move_the_map_and_ask_for_the_middle(page):
    page.run("document.getElementById('map').focus()")
    page.keys(ENTER)
    before = page.wait_for(f"{STATUS}.match(/row \\d+, column \\d+/g)")
    page.run("document.querySelector('.leaflet-popup-close-button').click()")
    page.run("document.getElementById('map').focus()")
    page.keys(RIGHT)
    page.wait_for("!document.querySelector('.leaflet-pan-anim')")
    page.keys(ENTER)
    page.wait_for(f"!{STATUS}.includes(arguments[0])", before[0])
    after = page.run(f"return {STATUS}.match(/row \\d+, column \\d+/g)")
    columns = [int(text[0].rpartition(" ")[2]) for text in (before, after)]
    # To the east: the map goes to the west.
    assert columns[1] > columns[0]


def test_the_whole_earth_is_shown_once(session, tmp_path):
    degrees = "EPSG:4326", Affine(2, 0, -180, 0, -2, 90)
    write_scene(tmp_path / "in" / "earth.tif", pixels(90, 180, 0), degrees)
    model = write_model_folder(tmp_path / "model", classes=CLASSES)
    run = run_scenes(tmp_path / "run", model, tmp_path / "in")
    make(run.root, TILES, options=LayersOptions(tiles="png"))
    with served(run.root) as server:
        session.open(server.address)
        session.wait_for(READY)
        session.wait_for("!document.querySelector('.leaflet-tile:not(.leaflet-tile-loaded)')")
        assert session.run(f"return {READY}") == 1
        assert session.run(f"return {STATUS}") == ""


@pytest.mark.parametrize("where", ["disk", "server"])
def test_scenes_that_are_smaller_than_a_pixel_are_found(session, far_apart, where):
    chosen = "document.getElementById('scenes').selectedOptions[0].textContent"
    centre = "(box) => [box.left + box.width / 2, box.top + box.height / 2]"
    boxes = "[...document.querySelectorAll('path.marker')].map((m) => m.getBoundingClientRect())"
    classes = "document.querySelectorAll('.leaflet-tile-loaded:is([src^=blob], [src*=png])').length"
    with served(far_apart) as server:
        session.open(
            (far_apart / "layers/map.html").as_uri() if where == "disk" else server.address
        )
        session.wait_for(f"{boxes}.length === 3")
        assert session.run(f"return {boxes}.map((box) => box.width)") == [14, 14, 14]
        alaska, fiji, kamchatka = session.run(f"return {boxes}.map({centre})")
        # Across the antimeridian, as that is the shorter way.
        assert kamchatka[0] < fiji[0] < alaska[0]
        assert session.run(f"return {classes}") == 0

        session.click(*fiji)
        session.wait_for(f"{boxes}.length === 0 && {classes}")
        # Both sides of the antimeridian are beside each other, in the middle of the map.
        fiji_px = session.run("return document.getElementById('map').clientWidth") / 2
        session.wait_for("!document.querySelector('.leaflet-tile:not(.leaflet-tile-loaded)')")
        session.wait_for("!document.querySelector('.leaflet-zoom-anim')")
        for column in (fiji_px - 100, fiji_px + 100):
            session.run(f"{STATUS} = ''")
            session.click(column, 300)
            session.wait_for(f"{STATUS}.match(/^(dark|<.script>|bright)/)")

        session.run("document.getElementById('scenes').focus()")
        assert session.run(f"return {chosen}") == "in/fiji.tif"
        session.keys(UP * 2)
        assert session.run(f"return {chosen}") == "all scenes"
        session.wait_for(f"{boxes}.length === 3")
        session.wait_for("!document.querySelector('.leaflet-zoom-anim')")
        session.keys(DOWN)
        session.wait_for(f"{boxes}.length === 0")


def test_a_run_without_web_tiles_is_drawn_and_tells_what_it_leaves_out(session, looked, tmp_path):
    run = shutil.copytree(looked.root, tmp_path / "run", ignore=shutil.ignore_patterns("layers"))
    with served(run) as server:
        path = run / "labels" / "in" / SCENE
        path.write_bytes(path.read_bytes()[:300] + bytes(path.stat().st_size - 300))
        session.addresses(), session.messages()
        session.open(server.address)
        session.wait_for(READY)
        session.wait_for(f"{STATUS}.startsWith('Tiles cannot be read: labels/in/<img src=x')")
        session.click(*session.run(FIND, (250, 240, 10)))
        session.wait_for(f"{STATUS}.startsWith('bright')")
        asked = [at for at in session.addresses() if at.startswith(("http", "ws", "file"))]
        assert [at for at in asked if not at.startswith(server.address)] == []
        assert session.messages() == []
    assert session.run("return document.title") == "run"


def test_outlines_overlaps_and_failed_blocks_can_be_hidden(page):
    paths = "document.querySelectorAll('.leaflet-overlay-pane path').length"
    boxes = "document.querySelectorAll('[data-overlay]')"
    assert page.run(f"return [...{boxes}].map((box) => box.dataset.overlay)") == [
        "scenes",
        "overlaps",
        "failed",
    ]
    # Two outlines and two blocks; then what scenes share alone.
    page.wait_for(f"{paths} === 4")
    page.run(f"{boxes}.forEach((box) => box.click())")
    page.wait_for(f"{paths} === 1")
    # The page has what is in view.
    page.run("document.getElementById('map').focus()")
    page.addresses()
    page.keys(RIGHT)
    page.wait_for("!document.querySelector('.leaflet-pan-anim')")
    (asked,) = [at for at in page.addresses() if "/overlays?" in at]
    assert "/overlays?name=overlaps&bbox=11.9" in asked


def test_what_is_too_much_to_draw_is_counted_and_a_click_goes_there(session, server, monkeypatch):
    monkeypatch.setattr(overlays, "MAX_DRAWN", 1)
    session.open(server.address)
    sums = "[...document.querySelectorAll('.sum')]"
    session.wait_for(f"{sums}.length === 4")
    assert session.run(f"return {sums}.map((one) => one.textContent)") == ["1"] * 4
    scale = "document.querySelector('.leaflet-control-scale-line').textContent"
    before = session.run(f"return {scale}")
    session.click(
        *session.run(
            f"const box = {sums}[0].firstChild.getBoundingClientRect(); "
            "return [box.x + box.width / 2, box.y + box.height / 2]"
        )
    )
    session.wait_for(f"{scale} !== arguments[0]", before)


def test_what_scenes_show_lies_below_the_classes(page):
    pane = "document.querySelectorAll('.leaflet-images-pane img')"
    assert page.run(f"return {pane}.length") == 0
    page.run("document.getElementById('images').click()")
    page.wait_for(f"[...{pane}].some((image) => image.naturalWidth > 0)")
    # A strip of the other scene is damaged.
    page.wait_for(f"{STATUS}.startsWith('A scene cannot be read')")
    assert "503" in "".join(page.messages())
    assert page.run(f"return {pane}.length") == 1
    below, above = (
        int(
            page.run(
                f"return getComputedStyle(document.querySelector('.leaflet-{name}-pane')).zIndex"
            )
        )
        for name in ("images", "tile")
    )
    assert below < above


@pytest.mark.parametrize(
    ("scheme", "background"), [("light", "rgb(255, 255, 255)"), ("dark", "rgb(34, 39, 46)")]
)
def test_the_page_follows_the_scheme_of_the_system(page, scheme, background):
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    page.command("Emulation.setEmulatedMedia", features=features)
    assert page.run("return getComputedStyle(document.body).backgroundColor") == background


def test_a_phone_shows_the_map_above_the_legend_without_scrolling_sideways(page):
    size = {"width": 360, "height": 640, "deviceScaleFactor": 1, "mobile": True}
    page.command("Emulation.setDeviceMetricsOverride", **size)
    boxes = page.run(
        "return ['#map', 'aside'].map((name) => {"
        "  const box = document.querySelector(name).getBoundingClientRect();"
        "  return [box.left, box.top, box.right, box.bottom] })"
    )
    page.run("document.querySelector('a[href=scenes]').click()")
    page.wait_for("document.getElementById('rows')")
    widths = page.run("return [document.documentElement.scrollWidth, innerWidth]")
    page.run("document.getElementById('rows').focus()")
    assert page.run("return document.activeElement.id") == "rows"
    page.command("Emulation.clearDeviceMetricsOverride")
    assert widths == [360, 360]
    assert page.run("return document.querySelector('#scene-0 th').textContent") == f"in/{SCENE}"
    (left, top, right, bottom), (aside_left, aside_top, aside_right, aside_bottom) = boxes
    assert (left, top, right, aside_left, aside_right) == (0, 0, 360, 0, 360)
    assert bottom > 640 / 2
    assert bottom <= aside_top
    assert aside_bottom <= 640

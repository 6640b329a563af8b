"""`map.html`: low zooms of web tiles in a page that opens from disk and asks for no other file."""

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup
from pmtiles.tile import tileid_to_zxy

from pipelines.layers.tiles.archive import ArchiveHead, StoredRange
from pipelines.layers.tiles.scene_places import ScenePlaces
from pipelines.scenes.results import area_text

# Most bytes of tiles in a page, which has 5 MB at most with all else.
EMBEDDED_BYTES = 4_500_000
# Characters of the place of a tile and of what is around an image.
_AROUND_TILE, _AROUND_IMAGE = 24, 32


@dataclass
class EmbeddedTiles:
    """Tiles in a page.

    Attributes:
        zooms: Zooms of them.
        tiles: Place in `images` by zoom, column and row, `3/4/5`.
        images: Encoded tiles, each content once.
        size: Bytes that they take in a page.
    """

    zooms: list[int] = field(default_factory=list)
    tiles: dict[str, int] = field(default_factory=dict)
    images: dict[bytes, int] = field(default_factory=dict)
    size: int = 0

    @property
    def max_zoom(self) -> int:
        """Deepest zoom; 0 if there is none."""
        return max(self.zooms, default=0)

    def with_zoom(self, zoom: int, ranges: Iterable[StoredRange]) -> "EmbeddedTiles | None":
        """These tiles and those of the next zoom; None if they are more than a page holds.

        Args:
            zoom: The zoom.
            ranges: Its tiles.
        """
        grown = EmbeddedTiles([*self.zooms], self.tiles.copy(), self.images.copy(), self.size)
        for stored in ranges:
            for row, image in stored.contents():
                if image not in grown.images:
                    grown.images[image] = len(grown.images)
                    grown.size += 4 * -(-len(image) // 3) + _AROUND_IMAGE
                place = "/".join(map(str, tileid_to_zxy(int(row["id"]))))
                grown.tiles[place] = grown.images[image]
                grown.size += len(place) + _AROUND_TILE
                if grown.size > EMBEDDED_BYTES:
                    return None
        if len(grown.tiles) > len(self.tiles):
            grown.zooms.append(zoom)
        return grown


def low_zooms(zooms: Iterable[tuple[int, Iterable[StoredRange]]]) -> EmbeddedTiles:
    """The tiles of as many zooms as a page holds.

    Args:
        zooms: Zooms, rising, and the tiles of each.
    """
    found = EmbeddedTiles()
    for zoom, ranges in zooms:
        grown = found.with_zoom(zoom, ranges)
        if grown is None:
            break
        found = grown
    return found


def map_page(embedded: EmbeddedTiles, head: ArchiveHead, scenes: ScenePlaces) -> bytes:
    """The page.

    Args:
        embedded: Its tiles.
        head: Classes.
        scenes: Where scenes are.
    """
    kind = f"data:image/{head.form};base64,"
    classes = head.metadata["classes"]
    data = {
        "scenes": scenes.data,
        "minZoom": min(embedded.zooms, default=0),
        "zoom": embedded.max_zoom,
        "classes": {entry["color"]: entry["name"] for entry in reversed(classes)},
        "tiles": embedded.tiles,
        "images": [kind + base64.b64encode(image).decode() for image in embedded.images],
    }
    return render_page("Label map", classes, data, ("embedded.js",), max_zoom=head.max_zoom)


def render_page(
    title: str,
    classes: Sequence[Mapping[str, Any]],
    data: Mapping[str, Any],
    sources: Sequence[str],
    **more: Any,
) -> bytes:
    """A page with a map and what is beside it.

    Args:
        title: What it shows.
        classes: Name, colour and area of each class.
        data: What its scripts read; `scenes` in it says where scenes are.
        sources: Scripts by which it gets labels.
        more: What else the template shows: `max_zoom`, the deepest zoom there is; `served`, if all
            that the page asks for lies beside it; `images`, how many pictures of scenes there are;
            `overlays`, `accuracy` and `failures`.
    """
    areas = [entry["area_m2"] or 0.0 for entry in classes]
    rows = [
        {
            "color": entry["color"],
            "name": entry["name"],
            "area": area_text(area),
            "share": f"{area / sum(areas):.1%}" if sum(areas) else "",
        }
        for entry, area in zip(classes, areas, strict=True)
    ]
    # Within a script nothing is escaped but what could end it.
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    optional = {"served": False, "images": 0, "overlays": {}, "accuracy": None, "failures": []}
    known = {"title": title, "rows": rows, "data": Markup(text), "zoom": data["zoom"]}
    scripts = ("leaflet.js", *sources, "map.js")
    names = {"scripts": scripts, "asset": lambda name: Markup(page_asset(name).decode())}
    return filled("map.html.jinja", optional | known | names | more)


def filled(name: str, values: Mapping[str, Any]) -> bytes:
    """A page of which a template is filled with values, each escaped.

    Args:
        name: Name of the template.
        values: What it shows, by name.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(page_asset(name).decode()).render(values).encode()


@cache
def page_asset(name: str) -> bytes:
    """A file that pages are made of, without the address of its source map."""
    folder = resources.files("pipelines.layers.tiles") / "page"
    return (folder / name).read_bytes().partition(b"//# sourceMappingURL")[0]

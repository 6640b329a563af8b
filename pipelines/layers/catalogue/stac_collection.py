"""The STAC collection of a run, and the catalogs between it and many items."""

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipelines.geodesy.longitudes import longitude_span
from pipelines.layers.catalogue import stac_fields as stac
from pipelines.layers.catalogue.item_outlines import wrapped_box
from pipelines.layers.catalogue.stac_items import CatalogueText
from segmodel.escaping import on_one_line

WORLD = (-180.0, -90.0, 180.0, 90.0)


@dataclass
class CatalogueExtent:
    """What items cover in space and time; grows with them.

    Attributes:
        boxes: West, south, east and north of each item with a place, one behind the other.
        times: When scenes were taken, as their items say it.
        codes: Codes of reference systems.
    """

    boxes: "array[float]" = field(default_factory=lambda: array("d"))
    times: set[str] = field(default_factory=set)
    codes: set[str] = field(default_factory=set)

    def add(self, item: Mapping[str, Any]) -> None:
        """Add an item."""
        if "bbox" in item:
            self.boxes.extend(item["bbox"])
        properties = item["properties"]
        times = (properties.get(name) for name in ("datetime", "start_datetime", "end_datetime"))
        found = {time for time in times if time is not None} | self.times
        self.times = {min(found), max(found)}
        if code := properties.get("proj:code"):
            self.codes.add(code)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """The box of all; the world where none has a place, as a collection must have one."""
        if not self.boxes:
            return WORLD
        boxes = np.frombuffer(self.boxes).reshape(-1, 4)
        west, east = longitude_span(boxes[:, [0, 2]])
        south, north = boxes[:, 1].min(), boxes[:, 3].max()
        return wrapped_box((west, float(south), east, float(north)))

    def to_json(self) -> dict[str, Any]:
        """As in a collection; a time that is not known is an open end."""
        open_ends = {stac.LONG_AGO, stac.FAR_AHEAD}
        times = [None if time in open_ends else time for time in sorted(self.times)] or [None]
        interval = [times[0], times[-1]]
        return {"spatial": {"bbox": [list(self.box)]}, "temporal": {"interval": [interval]}}


def collection_document(
    text: CatalogueText,
    extent: CatalogueExtent,
    assets: Mapping[str, Any],
    links: Iterable[dict[str, Any]] = (),
) -> dict[str, Any]:
    """The collection of all label maps of a run.

    Args:
        text: What all documents of the catalogue say.
        extent: What its items cover.
        assets: Files of all scenes together, by name.
        links: To its items, or to catalogs of them.

    Source: STAC 1.1.0, collection specification.
    """
    document = {
        "type": "Collection",
        "id": text.collection,
        "title": on_one_line(f"Label maps of {text.model_name}"),
        "description": on_one_line(
            f"A class for each pixel, given by the model {text.model_name} with fingerprint "
            f"{text.fingerprint}"
        ),
        "license": "other",
        "extent": extent.to_json(),
        **({"summaries": {"proj:code": sorted(extent.codes)}} if extent.codes else {}),
        "links": [
            stac.link("root", "./collection.json"),
            stac.link("derived_from", "./model.json", stac.GEOJSON, text.model_name),
            *links,
        ],
        "assets": dict(assets),
    }
    return stac.stac_document(document)


def catalog_document(name: str, text: CatalogueText, items: Iterable[str]) -> dict[str, Any]:
    """A catalog of the items in its folder, which is two folders below the collection.

    Args:
        name: Name of the folder.
        text: What all documents of the catalogue say.
        items: Ids of the items.
    """
    links = [
        stac.link("root", "../../collection.json"),
        stac.link("parent", "../../collection.json"),
        *(stac.link("item", f"./{found}.json", stac.GEOJSON) for found in items),
    ]
    document = {
        "type": "Catalog",
        "id": f"{text.collection}-{name}",
        "description": f"Label maps whose digest begins with {name}",
        "links": links,
    }
    return stac.stac_document(document)

"""The STAC item of a label map: where it lies, what its values mean, how it was made."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any

from pyproj import CRS
from pyproj.exceptions import CRSError

from pipelines.geodesy.ground import GroundGrid
from pipelines.layers.catalogue import stac_fields as stac
from pipelines.layers.catalogue.item_outlines import item_outline
from pipelines.layers.generalized.generalize import MAPS
from pipelines.run.commits import Output
from pipelines.run.directory import LAYERS_DIR
from segmodel.errors import GroundError
from segmodel.escaping import on_one_line, without_credentials
from segmodel.labels.classes import ClassTable
from segmodel.rasters.grid import Grid

# Maps of shares have 8 bits, in which 1.0 is 255.
_SHARE = {"data_type": "uint8", "raster:scale": 1 / 255}


@dataclass(frozen=True)
class CatalogueText:
    """What all documents of a catalogue say.

    Args:
        collection: Id of the collection.
        classes: Classes of the label maps.
        model_name: Name of the model.
        fingerprint: Digest of the model.
    """

    collection: str
    classes: ClassTable
    model_name: str
    fingerprint: str


@dataclass(frozen=True)
class LabelledScene:
    """A label map as its item says it.

    Args:
        id: Id of the item, which no other scene has.
        key: Folder and name of the scene.
        grid: Size and place.
        outputs: Files of the scene in the run directory.
        pixels: Pixels by class id and, by its value, of nodata.
        software: Versions of the programs that labelled, by name.
        of_layers: Files of it that other layers wrote, by what they are called; paths are relative
            to `layers/`.
        acquired: When the scene was taken, or None.
        source: Address of the scene, or None if it is on a machine.
    """

    id: str
    key: str
    grid: Grid
    outputs: Sequence[Output]
    pixels: Mapping[int, int]
    software: Mapping[str, str]
    acquired: datetime | None = None
    source: str | None = None
    of_layers: Mapping[str, Output] = field(default_factory=dict)


@dataclass(frozen=True)
class ItemPlace:
    """Relative references from an item to other documents.

    Args:
        root: To the folder of the collection, such as `../`.
        run: To the run directory.
        parent: To what lists the item.
    """

    root: str
    run: str
    parent: str


def item_document(scene: LabelledScene, text: CatalogueText, place: ItemPlace) -> dict[str, Any]:
    """The item of a scene.

    Args:
        scene: The scene.
        text: What all documents of the catalogue say.
        place: Where other documents are, as seen from the item.

    Source: STAC 1.1.0, item specification, and the extensions that `stac_extensions` names.
    """
    ground = _ground(scene.grid)
    outline = None if ground is None else item_outline(ground)
    lineage = f"labelled by the model {text.model_name} with fingerprint {text.fingerprint}"
    properties = {
        "title": on_one_line(scene.key),
        **stac.time_fields(scene.acquired),
        **_sample_distance(ground),
        **projection_fields(scene.grid),
        "processing:lineage": on_one_line(lineage),
        "processing:software": dict(scene.software),
    }
    document = {
        "type": "Feature",
        "id": scene.id,
        "collection": text.collection,
        "geometry": None if outline is None else outline.geometry,
        **({} if outline is None else {"bbox": list(outline.bbox)}),
        "properties": properties,
        "links": _links(scene, text, place),
        "assets": _assets(scene, text, place.run),
    }
    return stac.stac_document(document)


def _links(scene: LabelledScene, text: CatalogueText, place: ItemPlace) -> list[dict[str, Any]]:
    collection, model = f"{place.root}collection.json", f"{place.root}model.json"
    links = [
        stac.link("root", collection),
        stac.link("parent", place.parent),
        stac.link("collection", collection),
        stac.link("derived_from", model, stac.GEOJSON, text.model_name),
    ]
    if scene.source is not None:
        source = without_credentials(stac.address(scene.source))
        links.append({"rel": "derived_from", "href": source, "title": on_one_line(scene.key)})
    return links


def _assets(scene: LabelledScene, text: CatalogueText, to_run: str) -> dict[str, Any]:
    """The files of a scene, with the sizes and checksums of commit records."""
    classes = text.classes
    values = {
        "type": stac.COG,
        "roles": ["data"],
        "data_type": classes.label_dtype.name,
        "nodata": classes.nodata,
    }
    known: dict[str, dict[str, Any]] = {
        "labels": {
            "title": "Classes",
            **values,
            "classification:classes": stac.class_objects(classes, scene.pixels),
        },
        MAPS: {
            "title": "Classes without small areas",
            **values,
            "classification:classes": stac.class_objects(classes),
        },
        "confidence": {
            "title": "Confidence",
            "type": stac.COG,
            "roles": ["data"],
            **_SHARE,
        },
        "probabilities": {
            "title": "Probabilities of the classes",
            "type": stac.COG,
            "roles": ["data"],
            **_SHARE,
            "bands": [{"name": on_one_line(entry.name)} for entry in classes.classes],
        },
        "areas": {
            "title": "Pixels and ground area by class",
            "type": stac.PARQUET,
            "roles": ["metadata"],
        },
    }
    assets = {}
    for output in scene.outputs:
        folder, _, name = output.path.partition("/")
        if folder in known and not name.endswith(".aux.xml"):
            href = stac.relative_href(to_run, output.path)
            assets[folder] = {"href": href} | known[folder] | stac.checks(output)
    for name, output in scene.of_layers.items():
        file = stac.file_asset(stac.relative_href(to_run, LAYERS_DIR, "/", output.path), output)
        assets[name] = file | known.get(name, {})
    return assets


def projection_fields(grid: Grid) -> dict[str, Any]:
    """Size and place in the reference system of a scene itself.

    An authority's code where there is one, else WKT 2; a code of null where it has no system.
    """
    corners = [grid.transform @ place for place in _corners(grid)]
    x, y = zip(*corners, strict=True)
    fields = {
        "proj:shape": [grid.height, grid.width],
        "proj:transform": list(grid.transform)[:6],
        "proj:bbox": [min(x), min(y), max(x), max(y)],
    }
    return _reference_system(grid.crs.to_wkt() if grid.crs else "") | fields


def _corners(grid: Grid) -> list[tuple[float, float]]:
    right, down = float(grid.width), float(grid.height)
    return [(0.0, 0.0), (right, 0.0), (right, down), (0.0, down)]


@lru_cache(64)
def _reference_system(wkt: str) -> dict[str, Any]:
    try:
        crs = CRS.from_wkt(wkt)
    except CRSError:
        return {"proj:code": None}
    found = crs.to_authority(min_confidence=100)
    return {"proj:wkt2": crs.to_wkt()} if found is None else {"proj:code": ":".join(found)}


def _ground(grid: Grid) -> GroundGrid | None:
    """Where a scene is on the ground, or None if it has no such place."""
    if grid.crs is None:
        return None
    try:
        return GroundGrid.of(grid.transform, grid.crs.to_wkt(), grid.height, grid.width)
    except GroundError:
        return None


def _sample_distance(ground: GroundGrid | None) -> dict[str, Any]:
    """The longer side of a pixel in metres, where a scene is on the Earth."""
    with suppress(GroundError):
        return {} if ground is None else {"gsd": max(ground.pixel_size_m())}
    return {}

"""Documents of a catalogue: what they say, and that names which anybody chose are inert in them."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from affine import Affine
from rasterio.crs import CRS
from stac_model.schema import MLModelProperties

from pipelines.layers.catalogue.stac_collection import CatalogueExtent, collection_document
from pipelines.layers.catalogue.stac_fields import class_objects
from pipelines.layers.catalogue.stac_items import (
    CatalogueText,
    ItemPlace,
    LabelledScene,
    item_document,
)
from pipelines.layers.catalogue.stac_model import model_document
from pipelines.run.commits import Output
from segmodel.labels.classes import ClassTable, LabelClass
from segmodel.rasters.grid import Grid
from tests.fakes import CLASSES, contract
from tests.pipelines.layers.catalogue.stac_rules import faults

UTM = CRS.from_epsg(32633)
GRID = Grid(100, 200, Affine(10, 0, 300_000, 0, -10, 6_000_000), UTM)
PLACE = ItemPlace("../", "../../../", "../collection.json")
HOSTILE = "<script>alert('x')</script>, \"ü\" & 🌲" + "long " * 60
PRINT = "0123456789abcdef" * 4


def text(classes: ClassTable = CLASSES, name: str = "trees") -> CatalogueText:
    return CatalogueText("may-0123", classes, name, PRINT)


def scene(grid: Grid = GRID, key: str = "in/a.tif", **changes) -> LabelledScene:
    fields = {
        "id": "a-0123",
        "key": key,
        "grid": grid,
        "outputs": [
            Output(f"labels/{key}", 5, "a" * 64),
            Output(f"labels/{key}.aux.xml", 6, "b" * 64),
            Output(f"confidence/{key}", 7, "c" * 64),
            Output("areas/a.parquet", 8, "d" * 64),
        ],
        "pixels": {0: 15_000, 3: 4_000, 7: 500, 255: 500},
        "software": {"beamseg": "0.2.0"},
    }
    return LabelledScene(**(fields | changes))


def document(*arguments, **changes) -> dict:
    """An item as it is read, and sound."""
    found = json.loads(json.dumps(item_document(scene(*arguments, **changes), text(), PLACE)))
    assert faults(found) == []
    return found


def test_files_have_the_sizes_and_checksums_of_the_record_and_references_from_the_item():
    files = {
        name: (file["href"], file["file:size"], file["file:checksum"])
        for name, file in document()["assets"].items()
    }
    assert files == {
        "labels": ("../../../labels/in/a.tif", 5, "1220" + "a" * 64),
        "confidence": ("../../../confidence/in/a.tif", 7, "1220" + "c" * 64),
        "areas": ("../../../areas/a.parquet", 8, "1220" + "d" * 64),
    }


def test_classes_have_values_names_colors_counts_and_shares_and_so_has_nodata():
    labels = document()["assets"]["labels"]
    assert (labels["data_type"], labels["nodata"]) == ("uint8", 255)
    assert labels["classification:classes"] == [
        {
            "value": value,
            "name": name,
            "title": name,
            **more,
            "count": count,
            "percentage": count / 200,
        }
        for value, name, more, count in (
            (0, "dark", {"color_hint": "0A0A50"}, 15_000),
            (3, "middle", {"color_hint": "5AA046"}, 4_000),
            (7, "bright", {"color_hint": "F0E6C8"}, 500),
            (255, "nodata", {"nodata": True}, 500),
        )
    ]


def test_an_item_says_which_programs_and_which_model_made_it():
    found = document()["properties"]
    assert found["processing:software"] == {"beamseg": "0.2.0"}
    assert found["processing:lineage"] == f"labelled by the model trees with fingerprint {PRINT}"


def test_a_scene_is_placed_by_its_own_grid_and_by_longitude_and_latitude():
    found = document()
    fields = {key: value for key, value in found["properties"].items() if key.startswith("proj:")}
    assert fields == {
        "proj:code": "EPSG:32633",
        "proj:shape": [100, 200],
        "proj:transform": [10.0, 0.0, 300_000.0, 0.0, -10.0, 6_000_000.0],
        "proj:bbox": [300_000.0, 5_999_000.0, 302_000.0, 6_000_000.0],
    }
    assert found["bbox"] == pytest.approx([11.9404, 54.1002, 11.9716, 54.1100], abs=1e-4)
    assert found["properties"]["gsd"] == pytest.approx(10, rel=1e-3)


def test_a_reference_system_that_no_authority_has_is_given_as_wkt():
    own = CRS.from_proj4("+proj=laea +lat_0=51 +lon_0=11.5 +datum=WGS84 +units=m")
    properties = document(Grid(10, 10, Affine(10, 0, 0, 0, -10, 0), own))["properties"]
    assert "proj:code" not in properties
    assert properties["proj:wkt2"].startswith("PROJCRS[")


@pytest.mark.parametrize(
    "grid",
    [
        Grid(10, 10, Affine.identity(), None),
        Grid(10, 10, Affine(1, 0, 0, 0, -1, 0), CRS.from_wkt('LOCAL_CS["x",UNIT["metre",1]]')),
    ],
    ids=["no system", "a local one"],
)
def test_a_scene_without_a_place_on_the_earth_has_no_geometry_and_no_box(grid):
    found = document(grid)
    assert found["geometry"] is None
    assert "bbox" not in found
    assert "gsd" not in found["properties"]


def test_a_time_is_in_utc_and_one_that_is_not_known_may_be_any():
    known = document(acquired=datetime(2026, 5, 1, 10, 30, tzinfo=UTC))["properties"]
    assert known["datetime"] == "2026-05-01T10:30:00Z"
    assert "start_datetime" not in known
    names = ("datetime", "start_datetime", "end_datetime")
    assert [document()["properties"][name] for name in names] == [
        None,
        "1858-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
    ]


def test_the_source_is_named_without_what_opens_it():
    links = document(source="https://me:secret@a.org/b c.tif?sig=5")["links"]
    assert links[-1] == {
        "rel": "derived_from",
        "href": "https://a.org/b%20c.tif",
        "title": "in/a.tif",
    }


def test_names_of_scenes_are_inert_and_can_be_read():
    found = document(key=f"in/{HOSTILE}.tif")
    assert found["properties"]["title"] == f"in/{HOSTILE}.tif"
    href = found["assets"]["labels"]["href"]
    assert href.startswith(
        "../../../labels/in/%3Cscript%3Ealert%28%27x%27%29%3C/script%3E%2C%20%22"
    )


def test_names_of_classes_are_names_for_machines_and_titles_for_people():
    names = [HOSTILE, "a b", "a/b", "a-b-2", "🌲", "nodata!", "\u202ex"]
    table = ClassTable(tuple(LabelClass(n, name, (1, 2, 3)) for n, name in enumerate(names)))
    found = class_objects(table)
    document = {"type": "Catalog", "stac_version": "1.1.0", "id": "x", "description": "x"}
    uri = "https://stac-extensions.github.io/classification/v2.0.0/schema.json"
    document |= {"stac_extensions": [uri], "links": [], "classification:classes": found}
    assert faults(document) == []
    assert [entry["title"] for entry in found] == [*names[:-1], "\\u202ex", "nodata"]
    assert [entry["name"] for entry in found][1:] == [
        *("a-b-1", "a-b-2-2", "a-b-2", "class-4", "nodata-5", "x", "nodata"),
    ]


def test_a_collection_covers_its_items_in_space_and_time():
    extent = CatalogueExtent()
    for year, west in ((2024, 175), (2026, -179)):
        grid = Grid(2, 2, Affine(1, 0, west, 0, -1, 10), CRS.from_epsg(4326))
        extent.add(document(grid, acquired=datetime(year, 1, 1, tzinfo=UTC)))
    found = collection_document(text(), extent, {})
    assert faults(found) == []
    assert found["extent"] == {
        "spatial": {"bbox": [[175.0, 8.0, -177.0, 10.0]]},
        "temporal": {"interval": [["2024-01-01T00:00:00Z", "2026-01-01T00:00:00Z"]]},
    }
    assert found["summaries"] == {"proj:code": ["EPSG:4326"]}


def test_a_collection_of_scenes_without_a_place_and_time_may_be_anywhere_at_any_time():
    extent = CatalogueExtent()
    extent.add(document(Grid(10, 10, Affine.identity(), None)))
    found = collection_document(text(name=HOSTILE), extent, {})
    assert faults(found) == []
    assert found["extent"] == {
        "spatial": {"bbox": [[-180.0, -90.0, 180.0, 90.0]]},
        "temporal": {"interval": [[None, None]]},
    }
    assert "summaries" not in found


@pytest.mark.parametrize(
    ("name", "expected"),
    [("trees 2", "trees 2"), (HOSTILE, None), ("a", "model-0123456789abcdef")],
)
def test_a_model_is_described_as_its_contract_is(name, expected):
    made = contract(name=name, parameters=7, versions={"tensorflow": "2.21.0"})
    found = json.loads(json.dumps(model_document(made, PRINT)))
    assert faults(found) == []
    properties = found["properties"]
    # stac-model refuses what the extension does not allow.
    MLModelProperties(**properties)
    assert expected in (None, properties["mlm:name"])
    assert properties["mlm:total_parameters"] == 7
    assert properties["mlm:framework_version"] == "2.21.0"
    assert properties["mlm:input"][0]["bands"] == ["red", "green", "blue"]
    assert properties["mlm:input"][0]["input"] == {
        "shape": [-1, -1, -1, 3],
        "dim_order": ["batch", "height", "width", "bands"],
        "data_type": "uint8",
    }
    assert properties["mlm:output"][0]["classification:classes"][1] == {
        "value": 3,
        "name": "middle",
        "description": "middle",
        "color_hint": "5AA046",
    }
    assert found["assets"]["model"]["href"] == f"urn:sha256:{PRINT}"
    assert found["assets"]["model"]["roles"] == ["mlm:model"]

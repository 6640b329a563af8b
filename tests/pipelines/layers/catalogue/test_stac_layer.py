"""The catalogue of a run, as programs that read STAC and GeoParquet find it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from urllib.parse import unquote, urljoin

import duckdb
import geopandas
import numpy as np
import pyarrow.parquet as pq
import pystac
import pytest
import rasterio
import shapely

import segmodel
from pipelines.layers.catalogue import stac
from pipelines.layers.catalogue.stac import stac_layer
from pipelines.layers.catalogue.stac_fields import relative_href, slug
from pipelines.layers.generalized.generalization import MINIMUM_AREA
from pipelines.layers.kinds import LAYER_KINDS
from pipelines.layers.options import LayersOptions
from pipelines.layers.stages import Layer
from pipelines.run.seals import json_file
from pipelines.storage import filesystem
from segmodel.labels.classes import ClassTable, LabelClass
from tests.fakes import BRIGHT, DARK, MIDDLE
from tests.pipelines.corpus import (
    DEGREES,
    UTM,
    pixels,
    spoil_strip,
    tree,
    write_model_folder,
    write_scene,
)
from tests.pipelines.layers.catalogue.stac_rules import faults
from tests.pipelines.layers.made_layers import layer, make
from tests.pipelines.scene_runs import run_scenes

NAME = "b <&> '\"#%,🌲 é.tif"
CLASSES = ClassTable(
    (
        LabelClass(DARK, "<script>alert(1)</script>", (10, 10, 80)),
        LabelClass(MIDDLE, "middle, 🌲" * 30, (90, 160, 70)),
        LabelClass(BRIGHT, "bright \"'", (240, 230, 200)),
    )
)


def written_scenes(folder: Path) -> Path:
    """Three scenes: one of May 2026, one with a name that anybody chose, one in degrees."""
    inputs = folder / "in"
    values = pixels(128, 128)
    write_scene(inputs / "a.tif", values, tiled=True, blockxsize=64, blockysize=64)
    with rasterio.open(inputs / "a.tif", "r+") as target:
        target.update_tags(TIFFTAG_DATETIME="2026:05:01 10:30:00")
    write_scene(inputs / NAME, pixels(64, 90, 1), UTM, mask=np.eye(64, 90, dtype=np.uint8) * 255)
    write_scene(inputs / "c.tif", pixels(40, 40, 2), DEGREES)
    return inputs


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A run over three scenes; not to be changed."""
    folder = tmp_path_factory.mktemp("catalogued")
    model = write_model_folder(folder / "model", classes=CLASSES)
    inputs = written_scenes(folder)
    run = run_scenes(folder / "run", model, inputs, confidence=True, probabilities=True)
    assert run.status == 0
    return run.root


@pytest.fixture(scope="module")
def made(finished, tmp_path_factory) -> Path:
    """The run with its catalogue; not to be changed."""
    run = Path(shutil.copytree(finished, tmp_path_factory.mktemp("made") / "may"))
    summary = catalogue(run)
    assert summary["layers"]["stac"] == {
        "files": ["stac/collection.json", "stac/items.parquet"],
        "items": 3,
    }
    return run


def catalogue(run: Path | str, *others: Layer) -> dict:
    """Make the catalogue, after other layers; its summary."""
    kinds = (*others, stac_layer(others))
    return make(run, *kinds, options=LayersOptions(stac=True))


def documents(run: Path) -> dict[str, dict]:
    """All documents of the catalogue, by their path."""
    found = (run / "layers" / "stac").rglob("*.json")
    return {str(path.relative_to(run)): json.loads(path.read_text()) for path in sorted(found)}


def references(path: str, document: dict) -> list[str]:
    """Where the relative references of a document lead to, below the run directory."""
    entries = [*document["links"], *document.get("assets", {}).values()]
    hrefs = [entry["href"] for entry in entries if entry["href"].startswith(".")]
    return [unquote(urljoin(f"/{path}", href)).lstrip("/") for href in hrefs]


def test_all_documents_are_sound_and_each_reference_leads_to_a_file(made):
    found = documents(made)
    assert len(found) == 5
    for path, document in found.items():
        assert faults(document) == [], path
        for target in references(path, document):
            assert (made / target).is_file(), (path, target)


def test_nothing_in_the_catalogue_names_a_place_of_this_machine(made, finished):
    for path, content in tree(made / "layers" / "stac").items():
        for place in (made.parent, finished.parent):
            assert str(place).encode() not in content, path


def test_pystac_walks_from_the_collection_to_each_item_and_its_files(made):
    collection = pystac.Collection.from_file(str(made / "layers/stac/collection.json"))
    items = {item.properties["title"]: item for item in collection.get_items()}
    assert set(items) == {"in/a.tif", f"in/{NAME}", "in/c.tif"}
    software = items["in/a.tif"].properties["processing:software"]
    assert software["beamseg"] == segmodel.__version__
    assert set(software) == {"beamseg", "tensorflow"}
    assert items["in/a.tif"].datetime.isoformat() == "2026-05-01T10:30:00+00:00"
    assert items["in/c.tif"].datetime is None
    assert items["in/c.tif"].bbox == [10.0, 49.6, 10.4, 50.0]
    assert items["in/a.tif"].get_collection() is collection
    assert set(items["in/c.tif"].assets) == {"labels", "confidence", "probabilities", "areas"}
    (model,) = items["in/a.tif"].get_links("derived_from")
    assert model.resolve_stac_object().target.properties["mlm:name"] == "brightness"


def test_sizes_checksums_and_counts_are_those_of_the_files(made):
    for path, document in documents(made).items():
        for file in document.get("assets", {}).values():
            target = made / unquote(urljoin(f"/{path}", file["href"])).lstrip("/")
            if "file:size" in file:
                assert file["file:size"] == target.stat().st_size
            if "file:checksum" in file:
                assert file["file:checksum"] == f"1220{filesystem.sha256(str(target))}"
    item = next(d for d in documents(made).values() if d["id"].startswith("b-"))
    counts = {c["value"]: c["count"] for c in item["assets"]["labels"]["classification:classes"]}
    assert counts[255] == 64 * 90 - 64
    assert sum(counts.values()) == 64 * 90


def test_the_table_has_a_row_for_each_item_with_references_from_where_it_lies(made):
    path = made / "layers" / "stac" / "items.parquet"
    table = geopandas.read_parquet(path).set_index("id")
    items = {d["id"]: d for p, d in documents(made).items() if "/items/" in p}
    assert table.crs == "OGC:CRS84"
    for name, item in items.items():
        row = table.loc[name]
        assert row.geometry.equals(shapely.geometry.shape(item["geometry"]))
        assert row["title"] == item["properties"]["title"]
        labels = row["assets"]["labels"]
        assert (path.parent / unquote(labels["href"])).is_file()
        assert labels["file:checksum"] == item["assets"]["labels"]["file:checksum"]
        for link in row["links"]:
            assert (path.parent / unquote(link["href"])).is_file()
    metadata = json.loads(pq.read_metadata(path).metadata[b"stac-geoparquet"])
    (collection,) = metadata["collections"].values()
    assert collection["id"] == documents(made)["layers/stac/collection.json"]["id"]
    assert faults(collection) == []


def test_a_database_finds_scenes_by_their_box_and_time(made):
    path = made / "layers" / "stac" / "items.parquet"
    query = f"SELECT title FROM '{path}' WHERE bbox.xmax > 11 AND datetime > '2026-01-01'"
    assert duckdb.sql(query).fetchall() == [("in/a.tif",)]


def test_many_items_lie_in_folders_with_a_catalog_each(finished, tmp_path, monkeypatch):
    run = Path(shutil.copytree(finished, tmp_path / "may"))
    monkeypatch.setattr(stac, "MAX_TOGETHER", 2)
    catalogue(run)
    found = documents(run)
    for path, document in found.items():
        assert faults(document) == [], path
        for target in references(path, document):
            assert (run / target).is_file(), (path, target)
    collection = pystac.Collection.from_file(str(run / "layers/stac/collection.json"))
    assert {link.rel for link in collection.links} >= {"child"}
    items = list(collection.get_items(recursive=True))
    assert {item.properties["title"] for item in items} == {"in/a.tif", f"in/{NAME}", "in/c.tif"}
    assert all(item.get_parent().get_parent() is collection for item in items)
    table = geopandas.read_parquet(run / "layers" / "stac" / "items.parquet")
    for row in table.itertuples():
        for link in row.links:
            assert (run / "layers" / "stac" / unquote(link["href"])).is_file()
    # Few again: what was in folders is no longer there.
    monkeypatch.undo()
    catalogue(run)
    assert [path for path in documents(run) if "/items/" in path and path.count("/") != 3] == []
    assert len(documents(run)) == 5


def test_another_scene_adds_an_item_and_leaves_the_others_as_they_are(tmp_path):
    inputs, model = written_scenes(tmp_path), write_model_folder(tmp_path / "model")
    root = run_scenes(tmp_path / "run", model, inputs).root
    catalogue(root)
    write_scene(inputs / "d.tif", pixels(40, 40, 3), DEGREES)
    run_scenes(tmp_path / "run", model, inputs)
    attempt = catalogue(root)["this_attempt"]
    assert (attempt["units_done"], attempt["units_skipped"]) == (1, 3)
    (inputs / "c.tif").unlink()
    run_scenes(tmp_path / "run", model, inputs, gone="prune")
    assert catalogue(root)["layers"]["stac"]["items"] == 3
    titles = [d["properties"]["title"] for p, d in documents(root).items() if "/items/" in p]
    assert sorted(titles) == sorted(["in/a.tif", f"in/{NAME}", "in/d.tif"])


def test_the_collection_names_tables_accuracy_and_other_layers_of_this_map(finished, tmp_path):
    run = Path(shutil.copytree(finished, tmp_path / "may"))
    digest = catalogue(run)["map"]
    before = set(documents(run)["layers/stac/collection.json"]["assets"])
    assert before >= {"areas-csv", "failures-csv", "labels-json", "items"}
    (run / "sample").mkdir()
    for name in ("accuracy.csv", "accuracy.json"):
        (run / "sample" / name).write_text(json.dumps({"run_digest": digest}))
    catalogue(run, layer("bright"))
    found = documents(run)["layers/stac/collection.json"]
    assert faults(found) == []
    added = {name: entry["href"] for name, entry in found["assets"].items() if name not in before}
    assert added == {
        "accuracy-csv": "../../sample/accuracy.csv",
        "accuracy-json": "../../sample/accuracy.json",
        "bright-in-a-tif-txt": "../bright/in/a.tif.txt",
        "bright-in-c-tif-txt": "../bright/in/c.tif.txt",
        slug(f"bright/in/{NAME}.txt"): relative_href(f"../bright/in/{NAME}.txt"),
    }
    # Of another map.
    (run / "sample" / "accuracy.json").write_text(json.dumps({"run_digest": "0" * 64}))
    part = run / "layers" / ".beamseg" / "bright" / "summary.json"
    found = json.loads(part.read_bytes())
    part.write_bytes(json_file(found | {"map": "0" * 64}, is_sealed=True))
    make(run, stac_layer([layer()]), options=LayersOptions(stac=True))
    assert set(documents(run)["layers/stac/collection.json"]["assets"]) == before


def files_named(run: Path) -> set[str]:
    """Files below the run directory that the documents of the catalogue have as assets."""
    return {
        unquote(urljoin(f"/{path}", file["href"])).lstrip("/")
        for path, document in documents(run).items()
        for file in document.get("assets", {}).values()
        if file["href"].startswith(".")
    }


def test_each_file_that_layers_made_is_named_with_its_size_and_checksum(finished, tmp_path):
    run = Path(shutil.copytree(finished, tmp_path / "may"))
    tiles = {"tiles": "png", "max_zoom": 7}
    asked = tiles | {"mosaic": True, "minimum_area": 4000.0, "stac": True}
    of_scenes = {"polygons": ("gpkg", "parquet"), "by_scene": True, "simplify": 1.0}
    make(run, *LAYER_KINDS, options=LayersOptions(**asked, **of_scenes))

    found = documents(run)
    assert [faults(document) for document in found.values()] == [[]] * 5
    made = {f"layers/{name}" for name in tree(run / "layers") if not name.startswith(".beamseg/")}
    notes = {f"layers/{name}" for name in ("_SUCCESS", "summary.json", "failures.csv")}
    # Names of classes stand beside a label map, which is all that its item names.
    beside = {name for name in made if name.endswith(".tif.aux.xml") and "/generalized/" in name}
    named = {*files_named(run), *found}
    assert {name for name in named if name.startswith("layers/")} == made - notes - beside
    kinds = {
        f["type"]
        for document in found.values()
        for f in document.get("assets", {}).values()
        if "type" in f
    }
    assert "application/octet-stream" not in kinds
    (item,) = (document for document in found.values() if document["id"].startswith("b-"))
    key = f"in/{NAME}"
    assert {name: unquote(file["href"]) for name, file in item["assets"].items()} == {
        **{name: f"../../../{name}/{key}" for name in ("labels", "confidence", "probabilities")},
        "areas": item["assets"]["areas"]["href"],
        "generalized": f"../../../layers/generalized/{key}",
        **{
            f"{name}-{kind}": f"../../../layers/{name}/{key}.{kind}"
            for name in ("polygons", "polygons_simplified")
            for kind in ("gpkg", "parquet")
        },
    }
    kinds = {name: (file["type"], file["roles"]) for name, file in item["assets"].items()}
    assert kinds["polygons-parquet"] == ("application/vnd.apache.parquet", ["data"])
    assert kinds["generalized"] == kinds["labels"]
    table = geopandas.read_parquet(run / "layers" / "stac" / "items.parquet").set_index("id")
    row = table.loc[item["id"]]["assets"]["polygons-gpkg"]
    assert row["file:checksum"] == item["assets"]["polygons-gpkg"]["file:checksum"]


def test_an_item_follows_the_layers_that_have_files_of_its_scene(finished, tmp_path):
    run = Path(shutil.copytree(finished, tmp_path / "may"))
    kinds = MINIMUM_AREA, stac_layer([MINIMUM_AREA])

    def made(**options) -> tuple[int, set[str]]:
        """Units that were done, and names of the assets of all items."""
        summary = make(run, *kinds, options=LayersOptions(**options))
        items = [document for path, document in documents(run).items() if "/items/" in path]
        return summary["this_attempt"]["units_done"], {n for i in items for n in i["assets"]}

    own = {"labels", "confidence", "probabilities", "areas"}
    assert made(stac=True) == (3, own)
    assert made(minimum_area=4000.0) == (3, own)
    assert made(stac=True) == (3, own | {"generalized"})
    assert made(stac=True) == (0, own | {"generalized"})
    assert made(stac=True, minimum_area=4000.0) == (0, own | {"generalized"})
    assert made(stac=True, minimum_area=5000.0) == (6, own | {"generalized"})
    assert [faults(document) for document in documents(run).values()] == [[]] * 5


def test_an_item_whose_generalized_map_failed_is_made_again_with_it(finished, tmp_path):
    run = Path(shutil.copytree(finished, tmp_path / "may"))
    kinds, options = (MINIMUM_AREA, stac_layer([MINIMUM_AREA])), {"minimum_area": 4000.0}
    broken = run / "labels" / "in" / "a.tif"
    whole = broken.read_bytes()
    spoil_strip(broken, 0)
    summary = make(run, *kinds, options=LayersOptions(stac=True, **options), budget=1)
    assert (summary["exit_status"], summary["failed_images"]) == (0, 1)

    def generalized() -> dict[str, bool]:
        items = (document for path, document in documents(run).items() if "/items/" in path)
        return {item["properties"]["title"]: "generalized" in item["assets"] for item in items}

    assert generalized() == {"in/a.tif": False, f"in/{NAME}": True, "in/c.tif": True}
    broken.write_bytes(whole)
    summary = make(run, *kinds, options=LayersOptions(stac=True, **options))
    assert summary["this_attempt"]["units_done"] == 2
    assert set(generalized().values()) == {True}


def test_the_catalogue_of_a_run_in_a_store_is_that_of_one_here(finished, made, client):
    client.put_all(finished, "gs://bucket/may")
    catalogue("gs://bucket/may")
    prefix = "gs://bucket/may/"
    found = {name.removeprefix(prefix): content for name, content in client.objects.items()}
    here = tree(made / "layers" / "stac")
    assert len(here) == 6
    assert {name: found[f"layers/stac/{name}"] for name in here} == here

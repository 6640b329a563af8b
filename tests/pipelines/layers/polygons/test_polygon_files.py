"""Polygons as GeoParquet, GeoPackage, FlatGeobuf and GeoJSON, read by other programs."""

from __future__ import annotations

import hashlib
import json
import sqlite3

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio
import pytest
import shapely
from pyproj import CRS, Transformer

from pipelines.layers.polygons import parts as parts_module
from pipelines.layers.polygons.feature_files import write_features
from pipelines.layers.polygons.geojson import write_geojson
from pipelines.layers.polygons.geoparquet import write_geoparquet
from pipelines.layers.polygons.parts import PARTS, polygons_of, row_groups
from tests.pipelines.layers.polygons.part_tables import HOSTILE, parts_of, squares

geopandas = pytest.importorskip("geopandas", reason="GeoPandas, which reads the files back")
UTM = CRS("EPSG:32640").to_wkt()
ATTRIBUTES = ["scene", "component", "part", "class_id", "class", "pixels", "area_m2", "confidence"]
KINDS = ("parquet", "gpkg", "fgb")


def write(path, kind, table, crs_wkt=UTM, rows=7):
    batches = table.to_batches(max_chunksize=rows)
    if kind == "parquet":
        write_geoparquet(str(path), table.schema, batches, crs_wkt)
    elif kind == "geojson":
        write_geojson(str(path), table.schema, batches, crs_wkt)
    else:
        write_features(str(path), kind, table.schema, batches, crs_wkt)
    return path


def read(path, kind):
    if kind == "parquet":
        return geopandas.read_parquet(path)
    return pyogrio.read_dataframe(path, layer=None if kind == "geojson" else "polygons")


def sorted_rows(frame):
    """Attributes and normalized geometry of each feature, by component: FlatGeobuf sorts them."""
    frame = frame.sort_values(["scene", "component"], ignore_index=True)
    rows = frame[ATTRIBUTES].astype(object).where(frame[ATTRIBUTES].notna(), None)
    shapes = shapely.to_wkb(shapely.normalize(frame.geometry.values), byte_order=1)
    return [(*row, shape) for row, shape in zip(rows.values.tolist(), shapes, strict=True)]


def rows_of_parts(table):
    frame = geopandas.GeoDataFrame(
        table.select(ATTRIBUTES).to_pandas(), geometry=polygons_of(table)
    )
    return sorted_rows(frame)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_read_back_is_what_was_written(tmp_path, kind):
    table = parts_of(squares(20))

    frame = read(write(tmp_path / f"a.{kind}", kind, table), kind)

    assert sorted_rows(frame) == rows_of_parts(table)
    assert frame.crs == CRS("EPSG:32640")
    assert [*frame.columns.drop(["geometry", "bbox"], errors="ignore")] == ATTRIBUTES


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_names_are_right_in_every_file(tmp_path, kind):
    named = {"scene": [f"in/{name}.tif" for name in HOSTILE], "class": list(HOSTILE)}
    table = parts_of(squares(len(HOSTILE)), **named)

    frame = read(write(tmp_path / f"a.{kind}", kind, table), kind)

    assert sorted_rows(frame) == rows_of_parts(table)


@pytest.mark.parametrize("kind", [*KINDS, "geojson"])
def test_bytes_do_not_depend_on_how_rows_come(tmp_path, kind):
    table = parts_of(squares(20))

    digests = {
        hashlib.sha256(
            write(tmp_path / f"{rows}.{kind}", kind, table, UTM, rows).read_bytes()
        ).hexdigest()
        for rows in (1, 7, 20)
    }

    assert len(digests) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_may_have_marks_of_addresses_in_its_name(tmp_path, kind):
    folder = tmp_path / "well!;no?#%"
    folder.mkdir()
    table = parts_of(squares(3))

    found = write(folder / "a", kind, table)

    assert found.read_bytes() == write(tmp_path / "a", kind, table).read_bytes()
    assert [path.name for path in folder.iterdir()] == ["a"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_without_reference_system_has_none(tmp_path, kind):
    table = parts_of(squares(3))

    frame = read(write(tmp_path / f"a.{kind}", kind, table, ""), kind)

    assert frame.crs is None
    assert sorted_rows(frame) == rows_of_parts(table)


@pytest.mark.parametrize("kind", [*KINDS, "geojson"])
def test_no_polygons_are_a_file_that_can_be_opened(tmp_path, kind):
    frame = read(write(tmp_path / f"a.{kind}", kind, parts_of([])), kind)

    assert len(frame) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_in_what_is_written_is_raised_as_it_is_and_leaves_no_file(tmp_path, kind):
    def rows():
        yield from parts_of(squares(3)).to_batches()
        raise FileNotFoundError("the file of a scene is gone")

    writer = write_geoparquet if kind == "parquet" else write_features
    words = () if kind == "parquet" else (kind,)
    with pytest.raises(FileNotFoundError, match="the file of a scene is gone"):
        writer(str(tmp_path / "a"), *words, PARTS, rows(), UTM)

    assert kind == "parquet" or not [*tmp_path.iterdir()]


def test_geoparquet_says_what_version_1_1_of_its_specification_wants(tmp_path):
    path = write(tmp_path / "a.parquet", "parquet", parts_of(squares(5)))

    geo = json.loads(pq.read_metadata(path).metadata[b"geo"])

    sides = ("xmin", "ymin", "xmax", "ymax")
    assert geo == {
        "version": "1.1.0",
        "primary_column": "geometry",
        "columns": {
            "geometry": {
                "encoding": "WKB",
                "geometry_types": ["Polygon"],
                "crs": CRS.from_wkt(UTM).to_json_dict(),
                "covering": {"bbox": {side: ["bbox", side] for side in sides}},
                "bbox": [0.0, 0.0, 5.0, 1.0],
            }
        },
    }


def test_geoparquet_is_read_in_parts_by_place(tmp_path, monkeypatch):
    monkeypatch.setattr(parts_module, "GROUP_ROWS", 4)
    path = write(tmp_path / "a.parquet", "parquet", parts_of(squares(20)))

    some = geopandas.read_parquet(path, bbox=(9.25, 0.25, 10.75, 0.75))

    assert some["component"].tolist() == ["scenes/a.tif#9,0", "scenes/a.tif#10,0"]
    about = pq.ParquetFile(path)
    assert about.num_row_groups == 5
    column = about.schema_arrow.get_field_index("geometry")
    groups = [about.metadata.row_group(number) for number in range(5)]
    west = [
        next(g.column(i) for i in range(g.num_columns) if g.column(i).path_in_schema == "bbox.xmin")
        for g in groups
    ]
    assert [side.statistics.min for side in west] == [0.0, 4.0, 8.0, 12.0, 16.0]
    assert not groups[0].column(column).is_stats_set


def test_duckdb_reads_what_geoparquet_holds(tmp_path):
    duckdb = pytest.importorskip("duckdb", reason="DuckDB, which reads the file")
    path = write(tmp_path / "a.parquet", "parquet", parts_of(squares(20)))

    found = duckdb.sql(
        f"SELECT class, sum(pixels) FROM '{path}' WHERE bbox.xmin < 6 GROUP BY ALL ORDER BY class"
    ).fetchall()

    assert found == [("forest", 2 + 5), ("town", 3 + 6), ("water", 1 + 4)]


def test_tables_in_groups_hold_all_rows_in_order_and_have_bounded_size(monkeypatch):
    monkeypatch.setattr(parts_module, "GROUP_ROWS", 3)
    table = parts_of(squares(10))
    size = len(table["geometry"][1].as_py())
    monkeypatch.setattr(parts_module, "GROUP_BYTES", 2 * size + 1)

    groups = [*row_groups(table.to_batches(max_chunksize=4))]

    # The first square has a hole, and no room for another one.
    assert [group.num_rows for group in groups] == [1, 2, 2, 2, 2, 1]
    assert pa.concat_tables(groups).combine_chunks() == table.combine_chunks()


def test_geojson_follows_rfc_7946(tmp_path):
    corner = shapely.box(500_000, 4_000_000, 500_030, 4_000_020)
    hole = shapely.box(500_010, 4_000_010, 500_020, 4_000_015)
    table = parts_of([shapely.difference(corner, hole)], **{"class": [HOSTILE[0]]})

    path = write(tmp_path / "a.geojson", "geojson", table)

    (feature,) = json.loads(path.read_text("ascii"))["features"]
    shape = shapely.geometry.shape(feature["geometry"])
    assert feature["properties"] == table.select(ATTRIBUTES).to_pylist()[0]
    assert shape.is_valid
    assert shape.exterior.is_ccw
    assert not shape.interiors[0].is_ccw
    west, south = Transformer.from_crs(UTM, "OGC:CRS84").transform(500_000, 4_000_000)
    assert shape.bounds[:2] == pytest.approx((west, south), abs=1e-9)


def test_a_feature_that_leaves_its_projection_has_no_geometry(tmp_path):
    off_the_earth = shapely.box(-18_000_000, 8_000_000, -17_000_000, 9_000_000)
    here = shapely.box(0, 0, 1000, 1000)
    mollweide = CRS("ESRI:54009").to_wkt()

    path = write(tmp_path / "a.geojson", "geojson", parts_of([off_the_earth, here]), mollweide)

    lost, found = json.loads(path.read_text())["features"]
    assert lost["geometry"] is None
    assert found["geometry"]["type"] == "Polygon"


def test_a_geopackage_is_sound_and_has_no_clock(tmp_path):
    path = write(tmp_path / "a.gpkg", "gpkg", parts_of(squares(5)))

    with sqlite3.connect(path) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        times = database.execute("SELECT last_change FROM gpkg_contents").fetchall()
    database.close()

    assert times == [("2000-01-01T00:00:00.000Z",)]
    assert np.asarray(pyogrio.read_info(path, layer="polygons")["total_bounds"]).tolist() == [
        *(0.0, 0.0, 5.0, 1.0)
    ]

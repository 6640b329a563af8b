"""What lies outside an area of interest is told from nodata of the source, in every table."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipelines.run.area_tables import area_table
from pipelines.run.seals import sealed, unsealed
from pipelines.storage import filesystem
from segmodel.errors import InputError
from tests.fakes import brightness_labels
from tests.pipelines.corpus import pixels, png, write, write_scene
from tests.pipelines.counted_scenes import ANY, box, holes, lines, parts_of, place
from tests.pipelines.scene_runs import PARTS, Finished, run_scenes, write_polygons

HEIGHT, WIDTH = 150, 130
# Columns and rows of the area of interest on the grid of the scenes.
LEFT, TOP, RIGHT, BOTTOM = 30, 20, 110, 140


def aoi_of(tmp_path: Path, *corners: int) -> str:
    shape = box(*(corners or (LEFT, TOP, RIGHT, BOTTOM)))
    return write_polygons(tmp_path / "aoi.geojson", "EPSG:32633", [("a", shape)])


def inside_of(height: int, width: int, column: int = 0, row: int = 0) -> np.ndarray:
    inside = np.zeros((height, width), bool)
    top, left = max(0, TOP - row), max(0, LEFT - column)
    inside[top : max(0, BOTTOM - row), left : max(0, RIGHT - column)] = True
    return inside


def parts_in(run: Finished) -> dict[str, int]:
    """Lines of `areas.csv` that have pixels."""
    return {name: run.pixels[name] for name in (*PARTS, "outside") if run.pixels.get(name)}


def balanced(run: Finished) -> None:
    """Pixels and areas of the lines add up to the footprint, and the run verifies."""
    names = (*PARTS, "outside")
    summed = math.fsum(run.area_m2.get(name, 0.0) for name in names)
    assert summed == pytest.approx(run.area_m2["footprint"], rel=1e-9)
    assert sum(run.pixels.get(name, 0) for name in names) == run.pixels["footprint"]
    assert run.verified()[1] == []


@pytest.mark.usefixtures("several_tiles_and_blocks")
@pytest.mark.parametrize("options", [{}, {"resample_to": 20.0}, {"zones": True}], ids=str)
def test_outside_is_apart_from_nodata_of_a_scene_also_where_the_source_has_some(
    tmp_path, model_folder, options
):
    values, valid = pixels(HEIGHT, WIDTH), holes(HEIGHT, WIDTH, 1)
    path = write_scene(tmp_path / "in" / "a.tif", values, place(), mask=valid)
    if "zones" in options:
        shapes = [("west", box(0, 0, 60, HEIGHT)), ("east", box(60, 0, WIDTH, HEIGHT))]
        options = {"zones": write_polygons(tmp_path / "zones.geojson", "EPSG:32633", shapes)}

    run = run_scenes(tmp_path / "run", model_folder, path, aoi=aoi_of(tmp_path), **options)

    inside = inside_of(HEIGHT, WIDTH)
    labels = run.labels("in/a.tif")
    assert (labels[~inside] == 255).all()
    expected = lines(labels, inside) | {"outside": int((~inside).sum())}
    assert expected["nodata"] == (inside & ~valid).sum()
    assert parts_in(run) == expected
    balanced(run)
    (table,) = (run.root / "areas").glob("*.parquet")
    rows = {row["class"]: row for row in pq.read_table(table).to_pylist()}
    assert {name: row["pixels"] for name, row in rows.items() if row["pixels"]} == expected
    assert rows["outside"]["class_id"] is None
    assert rows["outside"]["area_m2"] == pytest.approx(expected["outside"] * 100, rel=2e-3)
    if "zones" in options:
        west = np.arange(WIDTH) < 60
        for zone, chosen in (("west", west), ("east", ~west)):
            there = np.broadcast_to(chosen, inside.shape)
            count = int((~inside & there).sum())
            assert run.zones()[zone] == lines(labels, inside & there) | {"outside": count}


@pytest.mark.usefixtures("several_tiles_and_blocks")
def test_outside_comes_before_failed_windows_and_after_all_else_where_scenes_overlap(
    tmp_path, model_folder
):
    folder, parts = parts_of(tmp_path, [(0, 0), (40, 30), (200, 200)], failing={1})
    everywhere = write_polygons(
        tmp_path / "zones.geojson", "EPSG:32633", [("all", box(-9, -9, 400, 400))]
    )
    fields = {"aoi": aoi_of(tmp_path), "zones": everywhere, "overlap": "first"}

    run = run_scenes(tmp_path / "run", model_folder, folder, max_failures=ANY, **fields)

    state = np.full((3, 400, 400), 99)
    for number, part in enumerate(parts):
        height, width = part.labels.shape
        inside = inside_of(height, width, part.column, part.row)
        found = np.where(part.failed, 2, np.where(part.labels == 255, 1, 0))
        at = np.s_[part.row : part.row + height, part.column : part.column + width]
        state[number][at] = np.where(inside, found, 3)
    best = state.min(axis=0)
    counts = {name: int((best == n).sum()) for n, name in ((1, "nodata"), (2, "failed"))}
    counts["outside"] = int((best == 3).sum())
    counts["elsewhere"] = int((state < 99).sum() - (best < 99).sum())
    assert {name: run.pixels[name] for name in counts} == counts
    assert min(counts.values()) > 0
    balanced(run)
    assert run.zones()["all"] == parts_in(run)
    # By scene the third is all outside.
    rows = pq.read_table(run.root / "areas").to_pylist()
    third = {row["class"]: row["pixels"] for row in rows if row["source"] == "in/2.tif"}
    assert {name: n for name, n in third.items() if n} == {"outside": parts[2].labels.size}


def test_what_is_outside_of_a_scene_that_does_not_fit_is_not_failed(tmp_path, model_folder):
    write_scene(tmp_path / "in" / "a.tif", pixels(HEIGHT, WIDTH), place())
    write_scene(tmp_path / "in" / "b.tif", pixels(HEIGHT, WIDTH, bands=2), place())
    write_scene(tmp_path / "in" / "c.tif", pixels(HEIGHT, WIDTH).astype(np.uint16), place(300, 300))

    run = run_scenes(
        tmp_path / "run", model_folder, tmp_path / "in", aoi=aoi_of(tmp_path), max_failures=ANY
    )

    inside = int(inside_of(HEIGHT, WIDTH).sum())
    assert run.pixels["failed"] == inside
    assert run.pixels["outside"] == 3 * HEIGHT * WIDTH - 2 * inside
    assert (run.summary["images"], run.summary["failed_images"]) == (1, 2)
    balanced(run)


def test_an_area_of_interest_that_holds_all_has_a_line_of_zero(tmp_path, model_folder):
    write_scene(tmp_path / "in" / "a.tif", pixels(50, 40), place())
    run = run_scenes(
        tmp_path / "run", model_folder, tmp_path / "in", aoi=aoi_of(tmp_path, -5, -5, 99, 99)
    )
    rows = [row["class"] for row in run.rows("areas.csv")]
    assert rows[3:6] == ["nodata", "outside", "failed"]
    assert run.pixels["outside"] == 0


def test_without_an_area_of_interest_there_is_no_such_line(tmp_path, model_folder):
    write(tmp_path / "in" / "a.png", png(pixels(50, 40)))
    run = run_scenes(tmp_path / "run", model_folder, tmp_path / "in")
    assert "outside" not in [row["class"] for row in run.rows("areas.csv")]


def test_records_that_have_what_is_outside_in_nodata_stay_and_are_counted_alike(
    tmp_path, model_folder
):
    values, valid = pixels(HEIGHT, WIDTH), holes(HEIGHT, WIDTH, 1)
    path = write_scene(tmp_path / "in" / "a.tif", values, place(), mask=valid)
    aoi = aoi_of(tmp_path)
    first = run_scenes(tmp_path / "run", model_folder, path, aoi=aoi)
    (record,) = (first.root / "commits").glob("*.json")
    document, _ = unsealed(record.read_bytes())
    for name in ("pixels", "ground_pixels"):
        document["tally"][name]["nodata"] += document["tally"][name].pop("outside")
    area = document["tally"]["area_m2"]
    area["nodata"] = str(Fraction(area["nodata"]) + Fraction(area.pop("outside")))
    (table,) = (first.root / "areas").iterdir()
    rows = pq.read_table(table).to_pylist()
    beyond = rows.pop(next(n for n, row in enumerate(rows) if row["class"] == "outside"))
    nodata = next(row for row in rows if row["class"] == "nodata")
    nodata |= {"pixels": nodata["pixels"] + beyond["pixels"]}
    nodata |= {"area_m2": float(Fraction(area["nodata"]))}
    with area_table(str(table)) as stream:
        stream.add(rows)
    (output,) = (o for o in document["outputs"] if o["path"].startswith("areas/"))
    output |= {"size": table.stat().st_size, "sha256": filesystem.sha256(str(table))}
    record.write_bytes(sealed(json.dumps(document)))
    zones = write_polygons(
        tmp_path / "zones.geojson", "EPSG:32633", [("all", box(-9, -9, 400, 400))]
    )

    again = run_scenes(tmp_path / "run", model_folder, path, aoi=aoi, zones=zones)

    assert [report.skipped for report in again.reports] == [1]
    inside = inside_of(HEIGHT, WIDTH)
    labels = np.where(valid & inside, brightness_labels(values), 255)
    assert parts_in(again) == again.zones()["all"] == lines(labels)
    balanced(again)


def test_an_area_of_interest_that_names_files_elsewhere_ends_the_run(tmp_path, model_folder):
    path = write_scene(tmp_path / "in" / "a.tif", pixels(HEIGHT, WIDTH), place())
    aoi = aoi_of(tmp_path)
    linked = tmp_path / "areas" / "aoi.vrt"
    linked.parent.mkdir()
    linked.write_text(
        f'<OGRVRTDataSource><OGRVRTLayer name="{Path(aoi).stem}"><SrcDataSource>{aoi}'
        "</SrcDataSource></OGRVRTLayer></OGRVRTDataSource>"
    )

    with pytest.raises(InputError, match=r"--aoi aoi\.vrt: .*lies below no --aoi"):
        run_scenes(tmp_path / "run", model_folder, path, aoi=str(linked))
    trusted = run_scenes(tmp_path / "run", model_folder, path, aoi=str(linked), trust_inputs=True)

    assert trusted.pixels == run_scenes(tmp_path / "other", model_folder, path, aoi=aoi).pixels

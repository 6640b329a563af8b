"""The page of a run: what it holds of it, and what is no run to look at."""

from __future__ import annotations

import csv
import json
import re
import shutil

import pytest
from affine import Affine
from markupsafe import escape

from pipelines.commands import assess as assess_command
from pipelines.commands import sample as sample_command
from pipelines.layers import maps
from pipelines.layers.maps import LabelMaps, grid_of
from pipelines.layers.view import run_page
from pipelines.layers.view.overlays import Overlays
from pipelines.layers.view.run_page import viewed_run
from pipelines.layers.view.sample import accuracy_of
from pipelines.results.verify import open_run
from segmodel.errors import ConfigurationError
from tests.pipelines.corpus import pixels, write_model_folder, write_scene
from tests.pipelines.layers.view.conftest import HOSTILE
from tests.pipelines.scene_runs import run_scenes

POLE = ("EPSG:3413", Affine(10, 0, 0, 0, -10, 0))


def data_of(page: bytes) -> dict:
    (text,) = re.findall(rb'<script type="application/json" id="data">(.*?)</script>', page)
    return json.loads(text)


@pytest.fixture
def run(looked, tmp_path):
    """A copy of the run."""
    return shutil.copytree(looked.root, tmp_path / "run")


def page_of(run) -> bytes:
    viewed = viewed_run(str(run))
    return run_page.run_page(
        viewed, run_page.archive_tiles(viewed.archive), Overlays(viewed.maps, viewed.placed), []
    )


def test_a_page_says_how_to_show_what_lies_on_the_labels_and_why_blocks_failed(looked):
    page = page_of(looked.root)
    style = {"title": "2 failed blocks", "color": "#d1242f", "named": True, "visible": True}
    assert data_of(page)["overlays"]["failed"] == style
    assert b' data-overlay="failed" checked> 2 failed blocks' in page
    assert b' data-overlay="overlaps"> ground of two scenes' in page
    assert page.count(b"rows 64 to 127, columns 0 to 63: ") == 1


def test_accuracy_by_class_shows_if_it_is_that_of_this_map(run):
    viewed = viewed_run(str(run))
    none = {"value": None, "low": None, "high": None}
    classes = [
        {
            "name": HOSTILE,
            "users_accuracy": {"value": 0.8725, "low": 0.8, "high": 0.92},
            "producers_accuracy": none,
        },
        {"name": "bright", "users_accuracy": {**none, "value": 1.0}, "producers_accuracy": none},
    ]
    overall = {"value": 0.9, "low": 0.85, "high": 0.93}
    found = {"level": 0.95, "whole": {"overall_accuracy": overall, "classes": classes}}
    (run / "sample").mkdir()
    rows = [
        [str(escape(HOSTILE)), "87.2%\n80.0 to 92.0%", "unknown"],
        ["bright", "100.0%", "unknown"],
        ["overall", "90.0%\n85.0 to 93.0%"],
    ]
    for digest, expected in ((viewed.maps.digest, rows), ("0" * 64, [])):
        viewed.maps.work.run.write_json(
            "sample/accuracy.json", {"run_digest": digest, **found}, is_sealed=True
        )
        _, _, table = page_of(run).decode().partition('<table id="accuracy">')
        shown = re.findall('<tr><th scope="row">.*?</tr>', table, re.DOTALL)
        cells = re.compile("<t[hd][^>]*>(.*?)</t[hd]>", re.DOTALL)
        assert [cells.findall(row) for row in shown] == expected


def test_the_page_reads_what_assess_writes(run):
    assert sample_command.run([str(run), "--total", "30", "--chip_px", "0"]) == 0
    sample = run / "sample" / "sample.csv"
    rows = list(csv.DictReader(sample.open(encoding="utf-8", newline="")))
    with sample.open("w", encoding="utf-8", newline="") as stream:
        table = csv.DictWriter(stream, rows[0])
        table.writeheader()
        table.writerows({**row, "class": "bright"} for row in rows)
    assert assess_command.run([str(run), str(sample)]) == 0
    accuracy = accuracy_of(viewed_run(str(run)).maps)
    assert accuracy.level == "95%"
    users = {name: users for name, users, _ in accuracy.classes}
    assert list(users) == ["dark", HOSTILE, "bright"]
    assert users["dark"].startswith("0.0%\n0.0 to ")
    assert users["bright"].startswith("100.0%\n")
    assert accuracy.classes[0][2] == "unknown"


@pytest.mark.parametrize("name", ["labels.pmtiles", "summary.json"])
def test_a_run_without_tiles_has_no_archive(run, name):
    assert viewed_run(str(run)).archive == str(run / "layers" / "labels.pmtiles")
    (run / "layers" / name).unlink()
    assert viewed_run(str(run)).archive is None


def test_tiles_of_an_earlier_map_are_not_shown(run):
    path = run / "layers" / "summary.json"
    summary = json.loads(path.read_text())
    path.write_text(json.dumps({**summary, "map": "0" * 64}))
    assert viewed_run(str(run)).archive is None


def test_a_run_without_a_place_on_the_map_is_refused(tmp_path):
    write_scene(tmp_path / "in" / "pole.tif", pixels(64, 64), POLE)
    model = write_model_folder(tmp_path / "model")
    run = run_scenes(tmp_path / "run", model, tmp_path / "in")
    with pytest.raises(ConfigurationError, match=r"no label map with a place between 85\.05° S"):
        viewed_run(str(run.root))


def test_no_label_map_is_opened_before_somebody_looks_at_it(run, monkeypatch):
    expected = [(found.key, found.grid) for found in LabelMaps(open_run(str(run)))]
    opened = []
    monkeypatch.setattr(maps, "grid_of", lambda file: opened.append(file.key) or grid_of(file))
    assert [(found.key, found.grid) for found in viewed_run(str(run)).maps] == expected
    assert opened == []

    # A list that is not the one that the end of the run wrote.
    path = run / "labels.json"
    path.write_bytes(path.read_bytes().replace(b"300000", b"400000"))
    assert [(found.key, found.grid) for found in viewed_run(str(run)).maps] == expected
    assert sorted(opened) == sorted(key for key, _ in expected)
    path.unlink()
    assert [(found.key, found.grid) for found in viewed_run(str(run)).maps] == expected

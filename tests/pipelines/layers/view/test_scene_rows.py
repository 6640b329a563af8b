"""Areas scene by scene, as a browser shows them."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from html.parser import HTMLParser

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipelines.layers.view import scene_rows
from pipelines.layers.view.run_page import viewed_run
from pipelines.layers.view.server import Site
from tests.pipelines.layers.view.conftest import CLASSES, FAR_APART, HOSTILE, SCENE
from tests.pipelines.layers.view.test_places import FIRST, SECOND, degrees

NAMES = [entry.name for entry in CLASSES.classes]


class _Tables(HTMLParser):
    """Rows of a page, each with the cells in it, by id of the part of the table."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: dict[str, list[list[str]]] = {}
        self.links: list[str] = []
        self._part, self._in_cell = "", False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        if tag in ("thead", "tbody"):
            self._part = named.get("id", tag)
            self.rows[self._part] = []
        elif tag == "tr":
            self.rows[self._part].append([])
        elif tag in ("th", "td"):
            self.rows[self._part][-1].append("")
            self._in_cell = True
        elif tag == "a":
            self.links.append(named["href"])

    def handle_endtag(self, tag):
        self._in_cell = self._in_cell and tag not in ("th", "td")

    def handle_data(self, data):
        if self._in_cell:
            self.rows[self._part][-1][-1] += data


def shown(site: Site, target: str = "/scenes") -> _Tables:
    answer = site.answer(target, "localhost")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    return _Tables(b"".join(answer.content).decode())


@pytest.fixture(scope="module")
def site(looked) -> Site:
    return Site(viewed_run(str(looked.root)))


def number_of(text: str) -> float:
    return float(text.replace(",", "").replace("%", "e-2") or "nan")


def test_each_scene_has_the_rows_of_its_table(site, looked):
    page = shown(site)
    assert page.rows.pop("thead") == [
        ["class", "pixels", "m²", "share", "confidence", "pixels counted once", "m² counted once"]
    ]
    tables = {
        rows[0]["source"]: rows
        for path in (looked.root / "areas").glob("*.parquet")
        for rows in [pq.read_table(path).to_pylist()]
    }
    assert [rows[0] for rows in page.rows.values()] == [[SECOND], [FIRST]]
    for (key,), *lines in page.rows.values():
        whole = [line for line in lines if line[1]]
        assert [line[0] for line in whole] == [row["class"] for row in tables[key]]
        for line, row in zip(whole, tables[key], strict=True):
            area, share, confidence = row["area_m2"], row["share"], row["mean_confidence"]
            assert line[1:5] == [
                f"{row['pixels']:,}",
                f"{area:,.2f}",
                "" if share is None else f"{share:.2%}",
                "" if confidence is None else f"{confidence:.3f}",
            ]
        for entry, line in zip(CLASSES.classes, lines, strict=False):
            assert line[0] == entry.name
            assert number_of(line[1]) == np.count_nonzero(looked.labels[key] == entry.id)


def test_what_counts_once_adds_up_to_the_table_of_the_run(site, looked):
    pixels, areas = Counter(), Counter()
    for _, *lines in shown(site).rows.values():
        for name, *_, once, once_m2 in lines:
            if name != "class":
                pixels[name] += number_of(once)
                areas[name] += number_of(once_m2)
    with (looked.root / "areas.csv").open(encoding="utf-8", newline="") as stream:
        rows = {row["class"]: row for row in csv.DictReader(stream)}
    names = {"elsewhere": "counted in other scenes"}
    for name in (*NAMES, "nodata", "failed", "elsewhere"):
        assert pixels[names.get(name, name)] == int(rows[name]["pixels"])
        # Cells have two digits.
        assert areas[names.get(name, name)] == pytest.approx(float(rows[name]["area_m2"]), abs=0.05)
    assert pixels["counted in other scenes"] > 0


def test_a_run_without_confidence_that_counts_in_each_scene_has_four_columns(far_apart):
    page = shown(Site(viewed_run(str(far_apart))))
    assert page.rows.pop("thead") == [["class", "pixels", "m²", "share"]]
    keys = [lines[0][0] for lines in page.rows.values()]
    assert keys == [f"in/{name}.tif" for name, _, _ in FAR_APART]
    for _, *lines in page.rows.values():
        assert [line[0] for line in lines] == [*NAMES, "nodata"]
        assert {len(line) for line in lines} == {4}
        assert sum(number_of(line[1]) for line in lines) == 100 * 100


def test_a_page_has_some_scenes_and_leads_to_the_others(far_apart, monkeypatch):
    monkeypatch.setattr(scene_rows, "PORTION", 2)
    site = Site(viewed_run(str(far_apart)))
    first, last = shown(site), shown(site, "/scenes?from=2")
    assert list(first.rows) == ["thead", "scene-0", "scene-1"]
    assert list(last.rows) == ["thead", "scene-2"]
    assert first.links == last.links == ["./", "scenes?from=0", "scenes?from=2"] * 2
    assert shown(site, "/scenes?from=1").rows == first.rows
    assert site.answer("/scenes?from=3", "localhost").status == 404


@pytest.mark.parametrize("query", ["from=", "from=-1", "from=a", "from=1&from=2", "to=1"])
def test_what_is_no_number_of_a_scene_is_refused(site, query):
    assert site.answer(f"/scenes?{query}", "localhost").status == 400


def test_a_place_leads_to_the_rows_of_its_scenes(looked, monkeypatch):
    monkeypatch.setattr(scene_rows, "PORTION", 1)
    site = Site(viewed_run(str(looked.root)))
    lon, lat = degrees(60, 60)
    answer = site.answer(f"/place?lon={lon}&lat={lat}", "localhost")
    (_, *lines) = json.loads(b"".join(answer.content))["lines"]
    assert {line["row"] for line in lines} == {"scenes?from=0#scene-0", "scenes?from=1#scene-1"}
    for line in lines:
        target, _, anchor = line["row"].partition("#")
        assert line["text"].startswith(f"{shown(site, f'/{target}').rows[anchor][0][0]}, row ")


def test_names_that_are_no_text_are_inert(site):
    content = b"".join(site.answer("/scenes", "localhost").content)
    assert b"<script" not in content
    assert b"<img" not in content
    text = content.decode()
    assert HOSTILE not in text
    assert SCENE not in text


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda path: path.write_bytes(b"PAR1"), " is not what its commit record says: "),
        (lambda path: path.unlink(), ": No such file or directory"),
    ],
)
def test_a_table_that_cannot_be_read_costs_its_scene_only(looked, tmp_path, site, harm, reason):
    run = shutil.copytree(looked.root, tmp_path / "run")
    (path,) = (run / "areas").glob("*-a-*.parquet")
    harm(path)
    page = shown(Site(viewed_run(str(run)))).rows
    key, said = page["scene-1"]
    assert key == [FIRST]
    assert said[0].startswith(f"cannot be read: areas/{path.name}{reason}")
    assert page["scene-0"] == shown(site).rows["scene-0"]


def test_a_record_that_cannot_be_read_costs_its_scene_only(looked, tmp_path, site):
    run = shutil.copytree(looked.root, tmp_path / "run")
    (path,) = (run / "commits").glob("counts-a-*.json")
    path.unlink()
    page = shown(Site(viewed_run(str(run)))).rows
    assert page["scene-1"] == [[FIRST], ["cannot be read: no record says what of it counts"]]
    assert page["scene-0"] == shown(site).rows["scene-0"]

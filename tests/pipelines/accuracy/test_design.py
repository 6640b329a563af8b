"""`design.json`: what it keeps, and what is none."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from pipelines.accuracy.design import (
    SampleDesign,
    SamplePoint,
    Stratum,
    read_design,
)
from pipelines.run.seals import sealed
from pipelines.scenes.finished import run_digest_of
from segmodel.errors import ConfigurationError, DamagedError
from tests.pipelines.corpus import UTM, pixels, write_scene
from tests.pipelines.counted_scenes import box, one_scene
from tests.pipelines.scene_runs import run_scenes, write_polygons

FOREST = Stratum("forest", 1, None, False, 1234.5, 2)
WATER = Stratum("water", 0, None, False, 0.1, 1)
POINTS = (
    SamplePoint("p1", 13.25, 52.5, "forest", 1, "in/a.tif", 3, 4),
    SamplePoint("p2", 13.5, 52.5, "water", 0, "in/b.tif", 0, 0, (255, 0)),
    SamplePoint("p3", -0.1, -0.2, "forest", 1, "in/a.tif", 9, 1),
)
DESIGN = SampleDesign("ab" * 32, 7, "class", ((0, "water"), (1, "forest")), (FOREST, WATER), POINTS)


def test_a_design_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "design.json"
    path.write_bytes(DESIGN.to_bytes())
    assert read_design(str(path)) == DESIGN
    assert SampleDesign.from_bytes(DESIGN.to_bytes()).to_bytes() == DESIGN.to_bytes()


@pytest.mark.parametrize(
    ("before", "after"),
    [(b'"seed": 7', b'"seed": 8'), (b"1234.5", b"1234.6"), (b'"row": 3', b'"row": 4')],
)
def test_a_changed_design_is_refused(tmp_path, before, after):
    path = tmp_path / "design.json"
    path.write_bytes(DESIGN.to_bytes().replace(before, after))
    with pytest.raises(ConfigurationError, match="not as `beamseg sample` wrote it"):
        read_design(str(path))


def test_a_design_that_is_not_there_is_named_with_the_remedy(tmp_path):
    with pytest.raises(ConfigurationError, match=r"design\.json is not there: name the"):
        read_design(str(tmp_path / "design.json"))


@pytest.mark.parametrize(
    "content",
    [b"[]", b"{}", b"4", b"", sealed('{"a": 1}'), sealed('{"format": "beamseg sample"}')],
)
def test_other_documents_are_no_designs(content):
    with pytest.raises(ValueError, match=r".+"):
        SampleDesign.from_bytes(content)


def test_a_design_with_an_unknown_entry_is_refused():
    document = json.loads(DESIGN.to_bytes())
    del document["seal"]
    with pytest.raises(ValueError, match="more"):
        SampleDesign.from_bytes(sealed(json.dumps(document | {"more": 1})))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"points": POINTS[:2]}, "not as many as their strata say"),
        ({"points": (POINTS[0], *POINTS[:2])}, "points called 'p1'"),
        ({"strata": (FOREST, WATER, WATER)}, "strata called 'water'"),
        ({"strata": (FOREST, replace(WATER, area_m2=0.0))}, "without ground"),
        ({"classes": ((1, "forest"),)}, "unknown class"),
        ({"strata_by": "colour"}, "colour"),
        ({"strata": (), "points": ()}, "no strata"),
    ],
)
def test_strata_and_points_that_do_not_agree_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(DESIGN, **change)


def run_digest(finished) -> str:
    return run_digest_of(finished.work.run.read_run(), finished.work.log)


def test_the_digest_of_a_run_is_that_of_its_map_and_not_of_its_zones(tmp_path, model_folder):
    path, _ = one_scene(tmp_path)
    shape = [("all", box(0, 0, 130, 150))]
    zones = write_polygons(tmp_path / "zones.geojson", UTM[0], shape)
    first = run_scenes(tmp_path / "first", model_folder, path)
    repeated = run_scenes(tmp_path / "repeated", model_folder, path)
    zoned = run_scenes(tmp_path / "zoned", model_folder, path, zones=zones)
    once = run_scenes(tmp_path / "once", model_folder, path, overlap="first")
    write_scene(path, pixels(150, 130, seed=1))
    other = run_scenes(tmp_path / "other", model_folder, path)
    assert run_digest(first) == run_digest(repeated) == run_digest(zoned)
    assert len({run_digest(run) for run in (first, other, once)}) == 3


def test_a_damaged_commit_record_is_named(tmp_path, model_folder):
    path, _ = one_scene(tmp_path)
    run = run_scenes(tmp_path / "run", model_folder, path)
    (record,) = (run.root / "commits").iterdir()
    record.write_bytes(record.read_bytes().replace(b'"images": 1', b'"images": 2'))
    with pytest.raises(DamagedError, match=f"commits/{record.name} is damaged"):
        run_digest(run)

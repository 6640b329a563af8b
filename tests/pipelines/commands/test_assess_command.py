"""`beamseg assess` as a user runs it, over a small run and a sample of it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.accuracy.design import SampleDesign
from pipelines.commands import assess
from pipelines.commands.main import guarded
from pipelines.results.verify import open_run
from pipelines.run.seals import unsealed
from pipelines.scenes.finished import run_digest_of
from tests.fakes import BRIGHT, DARK, MIDDLE
from tests.pipelines.accuracy.made_samples import OLOFSSON_COUNTS, class_sample
from tests.pipelines.corpus import pixels, write_scene
from tests.pipelines.scene_runs import run_scenes

COUNTS = np.array([[18, 2, 0], [1, 19, 0], [0, 4, 16]])
CLASSES = ((DARK, "dark"), (MIDDLE, "middle"), (BRIGHT, "bright"))
AREAS = (1000.0, 3000.0, 6000.0)


def write_sample(folder: Path, design: SampleDesign, labels: dict[str, int]) -> Path:
    """The files of a sample, with its classes filled in by name."""
    folder.mkdir(exist_ok=True)
    (folder / "design.json").write_bytes(design.to_bytes())
    names = dict(design.classes)
    with (folder / "sample.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["id", "lon", "lat", "order", "class"])
        for number, point in enumerate(design.points):
            seen = names[labels[point.id]] if point.id in labels else ""
            table.writerow([point.id, point.lon, point.lat, number, seen])
    return folder / "sample.csv"


@pytest.fixture
def run(tmp_path, model_folder) -> Path:
    """A finished run of one small scene."""
    scene = write_scene(tmp_path / "in" / "a.tif", pixels(1, 40, 50))
    return run_scenes(tmp_path / "run", model_folder, scene).root


def sample_of(run: Path) -> tuple[SampleDesign, dict[str, int]]:
    work = open_run(str(run))
    return class_sample(COUNTS, AREAS, CLASSES, run_digest_of(work.run.read_run(), work.log))


def test_estimates_are_printed_and_written_beside_the_design(run, tmp_path, capsys):
    before = (run / "areas.csv").read_bytes()
    table = write_sample(tmp_path / "sample", *sample_of(run))

    assert assess.run([str(run), str(table)]) == 0

    assert (
        capsys.readouterr().out
        == f"""\
60 points in 3 strata; 95 % Wilson intervals
estimators of Olofsson et al. (2014): strata are the classes of the map

class   map m²  estimate m²        interval  usual interval (Wald)
dark     1,000        1,050    814 to 2,169           727 to 1,373
middle   3,000        4,150  3,239 to 5,467         3,023 to 5,277
bright   6,000        4,800  3,504 to 5,679         3,721 to 5,879

class    user's accuracy %      interval  producer's accuracy %       interval
dark                  90.0  69.9 to 97.2                   85.7   40.8 to 97.1
middle                95.0  76.4 to 99.1                   68.7   51.2 to 83.1
bright                80.0  58.4 to 91.9                  100.0  90.1 to 100.0
overall               85.5  71.2 to 92.8

share of the area in %: a line is a class of the map, a column what was seen

         dark  middle  bright
dark    9.000   1.000   0.000
middle  1.500  28.500   0.000
bright  0.000  12.000  48.000

written to {table.parent}: accuracy.csv, accuracy.json, accuracy.png
"""
    )
    assert sorted(path.name for path in table.parent.iterdir()) == [
        *("accuracy.csv", "accuracy.json", "accuracy.png", "design.json", "sample.csv")
    ]
    assert (run / "areas.csv").read_bytes() == before
    assert Image.open(table.parent / "accuracy.png").size == (1180, 64 + 3 * 62 + 12)


def test_tables_hold_the_same_numbers(run, tmp_path):
    table = write_sample(tmp_path / "sample", *sample_of(run))

    assess.run([str(run), str(table), "--level", "0.9", "--output", str(tmp_path / "signed")])

    document, is_sealed = unsealed((tmp_path / "signed" / "accuracy.json").read_bytes())
    assert is_sealed
    assert document["points"] == {"drawn": 60, "unlabelled": 0}
    assert (document["level"], document["interval"]) == (0.9, "wilson")
    ids = [class_id for class_id, _ in CLASSES]
    assert {
        (pair["class_id"], pair["reference_id"]): pair["points"]
        for pair in document["whole"]["pairs"]
    } == {(ids[row], ids[column]): n for (row, column), n in np.ndenumerate(COUNTS) if n}
    assert document["whole"]["area_m2"] == 10_000
    with (tmp_path / "signed" / "accuracy.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 1 + 3 * 5 + np.count_nonzero(COUNTS)
    of_bright = {row["quantity"]: row for row in rows if row["class"] == "bright"}
    in_json = document["whole"]["classes"][2]
    for name in ("users_accuracy", "producers_accuracy", "area_share", "area_m2"):
        row = of_bright[name]
        assert row["class_id"] == "7"
        for key, value in in_json[name].items():
            assert row[key] == ("" if value is None else repr(value)), (name, key)
    assert of_bright["map_area_m2"]["value"] == "6000.0"
    shares = {(r["class"], r["reference"]): r["value"] for r in rows if r["reference"]}
    assert float(shares["bright", "middle"]) == pytest.approx(0.12)
    assert ("middle", "bright") not in shares


def test_the_same_files_give_the_same_bytes(run, tmp_path):
    table = write_sample(tmp_path / "sample", *sample_of(run))

    for name in ("one", "two"):
        assess.run([str(run), str(table), f"--output={tmp_path / name}"])

    for name in ("accuracy.csv", "accuracy.json", "accuracy.png"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_sample_of_another_map_is_refused(run, tmp_path, model_folder, capsys):
    table = write_sample(tmp_path / "sample", *sample_of(run))
    scene = write_scene(tmp_path / "in" / "b.tif", pixels(2, 40, 50))
    other = run_scenes(tmp_path / "other", model_folder, scene).root

    assert guarded(assess.run, [str(other), str(table)]) == 2

    assert (
        f"is the design of a sample of another map than that of {other}" in capsys.readouterr().err
    )
    assert not (tmp_path / "sample" / "accuracy.csv").exists()


def test_a_changed_design_is_refused(run, tmp_path, capsys):
    table = write_sample(tmp_path / "sample", *sample_of(run))
    design = table.parent / "design.json"
    design.write_bytes(design.read_bytes().replace(b'"area_m2": 1000.0', b'"area_m2": 2000.0'))

    assert guarded(assess.run, [str(run), str(table)]) == 2

    assert "design.json is not as `beamseg sample` wrote it" in capsys.readouterr().err


def test_points_without_a_class_are_counted_and_left_out_if_asked(run, tmp_path, capsys):
    design, labels = sample_of(run)
    for point in design.points[:2]:
        del labels[point.id]
    table = write_sample(tmp_path / "sample", design, labels)

    assert guarded(assess.run, [str(run), str(table)]) == 2
    assert "2 points of 60 without a class (p00000, p00001)" in capsys.readouterr().err
    assert assess.run([str(run), str(table), "--missing", "drop"]) == 0

    assert "60 points (2 of them without a class, and dropped) in 3" in capsys.readouterr().out
    document = json.loads((table.parent / "accuracy.json").read_bytes())
    assert document["points"] == {"drawn": 60, "unlabelled": 2}
    assert [stratum["labelled"] for stratum in document["whole"]["strata"]] == [18, 20, 20]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{run}", "{table}", "--interval", "wald"], "--interval must be one of wilson, jeffreys"),
        (["{run}", "{table}", "--level", "95"], "--level must be a share such as 0.25"),
        (["{run}", "{table}", "--level", "1"], "must be between 0 and 1"),
        (["{run}", "{table}", "--design", "no.json"], "no.json is not there"),
        (["{run}", "{run}/areas.csv"], "run/design.json is not there: name the design.json"),
        (["{run}", "{table}", "--output", "{run}"], "run is a run directory, in which only its"),
        (["no", "{table}"], "no is no folder"),
    ],
)
def test_what_cannot_be_assessed_is_a_usage_error(run, tmp_path, capsys, words, message):
    table = write_sample(tmp_path / "sample", *sample_of(run))

    assert guarded(assess.run, [word.format(run=run, table=table) for word in words]) == 2

    assert message in capsys.readouterr().err


def test_the_published_example_is_printed_to_its_digits(run, tmp_path, capsys):
    classes = ((DARK, "deforestation"), (MIDDLE, "gain"), (BRIGHT, "forest"), (9, "other"))
    work = open_run(str(run))
    digest = run_digest_of(work.run.read_run(), work.log)
    areas = [ha * 1e4 for ha in (18000, 13500, 288000, 580500)]
    design, labels = class_sample(OLOFSSON_COUNTS, areas, classes, digest)

    assess.run([str(run), str(write_sample(tmp_path / "sample", design, labels))])

    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[3] == "class map ha estimate ha interval usual interval (Wald)"
    assert lines[4] == "deforestation 18,000 21,158 17,758 to 33,417 15,000 to 27,315"
    assert lines[5] == "gain 13,500 11,686 9,600 to 22,292 7,930 to 15,442"
    assert lines[10] == "deforestation 88.0 78.7 to 93.6 74.9 47.3 to 87.1"

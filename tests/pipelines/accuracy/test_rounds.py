"""Whole rounds: a sample is drawn, labelled by a truth that is known, and assessed."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from affine import Affine

from pipelines.accuracy.assess_run import SoftGround
from pipelines.accuracy.design import read_design
from pipelines.commands import assess, sample
from pipelines.run.commits import CommitLog
from pipelines.scenes.results import OUTSIDE, repeated_ground
from segmodel.errors import ConfigurationError
from segmodel.evaluation.stratified import class_strata
from tests.fakes import BRIGHT, DARK, MIDDLE
from tests.pipelines.corpus import UTM, small_blocks, write_model_folder, write_scene
from tests.pipelines.counted_scenes import box, parts_of
from tests.pipelines.scene_runs import Finished, run_scenes, write_polygons

IDS, NAMES = (DARK, MIDDLE, BRIGHT), ("dark", "middle", "bright")
# Share of the map's pixels of a class that are of the next one in truth.
WRONG = 0.1
ROUNDS = 20


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Finished:
    """A run of a scene with three classes, of which the last is rare."""
    folder = tmp_path_factory.mktemp("rounds")
    levels = np.full((100, 120, 3), 40, np.uint8)
    levels[:, 60:] = 120
    levels[:5, :40] = 220
    scene = write_scene(folder / "in" / "a.tif", levels)
    return run_scenes(folder / "run", write_model_folder(folder / "model"), scene)


def truth_of(labels: np.ndarray) -> np.ndarray:
    """A truth of which the map has 10 % of each class wrong."""
    places = np.searchsorted(IDS, labels)
    is_wrong = np.random.default_rng(5).random(labels.shape) < WRONG
    return np.array(IDS, np.uint8)[np.where(is_wrong, (places + 1) % 3, places)]


def label(table: Path, seen: dict[str, str]) -> None:
    """Fill in the classes of a sample, as people would."""
    with table.open(newline="") as stream:
        rows = [row | {"class": seen[row["id"]]} for row in csv.DictReader(stream)]
    with table.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def test_rounds_through_the_commands_equal_arrays_and_cover_the_truth(finished, tmp_path, capsys):
    labels = finished.labels("in/a.tif")
    truth = truth_of(labels)
    names = dict(zip(IDS, NAMES, strict=True))
    areas = [finished.area_m2[name] for name in NAMES]
    true_areas = [(truth == class_id).mean() * sum(areas) for class_id in IDS]
    covered = np.zeros(3, int)
    for seed in range(ROUNDS):
        folder = tmp_path / str(seed)
        words = f"--total=120 --allocation=equal --seed={seed} --chip_px=0 --output={folder}"
        assert sample.run([str(finished.root), *words.split()]) == 0
        points = read_design(str(folder / "design.json")).points
        truths = {point.id: truth[point.row, point.column] for point in points}
        label(folder / "sample.csv", {name: names[value] for name, value in truths.items()})
        assert assess.run([str(finished.root), str(folder / "sample.csv")]) == 0

        document = json.loads((folder / "accuracy.json").read_bytes())
        counts = np.zeros((3, 3), int)
        for point in points:
            assert point.map_class == labels[point.row, point.column]
            counts[IDS.index(point.map_class), IDS.index(truths[point.id])] += 1
        expected = class_strata(counts, np.array(areas))
        pairs = {
            (p["class_id"], p["reference_id"]): p["points"] for p in document["whole"]["pairs"]
        }
        assert pairs == {(IDS[m], IDS[r]): n for (m, r), n in np.ndenumerate(counts) if n}
        assert counts.sum(1).tolist() == [40, 40, 40]
        for place, entry in enumerate(document["whole"]["classes"]):
            for key, estimates in (
                ("area_m2", expected.areas),
                ("users_accuracy", expected.users_accuracy),
                ("producers_accuracy", expected.producers_accuracy),
            ):
                assert entry[key] == pytest.approx(vars(estimates[place]), rel=1e-12), key
            limits = entry["area_m2"]
            covered[place] += limits["low"] <= true_areas[place] <= limits["high"]
    capsys.readouterr()
    # Of 20 intervals that hold in 95 %, fewer than 16 do once in 400 times.
    assert (covered >= 16).all(), covered


def test_an_assessed_sample_can_be_enlarged_and_is_refused_until_its_new_points_are_labelled(
    finished, tmp_path, capsys
):
    folder, run = tmp_path / "sample", str(finished.root)
    names = dict(zip(IDS, NAMES, strict=True))
    assert sample.run([run, "--total=30", "--chip_px=0", f"--output={folder}"]) == 0
    first = read_design(str(folder / "design.json")).points
    label(folder / "sample.csv", {point.id: names[point.map_class] for point in first})
    assert assess.run([run, str(folder / "sample.csv")]) == 0

    assert sample.run([run, "--add=10", "--chip_px=0", f"--output={folder}"]) == 0

    with pytest.raises(ConfigurationError, match="10 points of 40 without a class"):
        assess.run([run, str(folder / "sample.csv")])
    assert assess.run([run, str(folder / "sample.csv"), "--missing=drop"]) == 0
    assert "40 points (10 of them without a class, and dropped)" in capsys.readouterr().out


def test_ground_that_several_scenes_show_is_told_where_it_counts_in_each(
    tmp_path, model_folder, capsys
):
    folder, _ = parts_of(tmp_path, [(0, 0), (40, 30)])
    run = run_scenes(tmp_path / "run", model_folder, folder)
    (told,) = repeated_ground(run.summary)

    for overlap in (None, "first"):
        if overlap:
            run = run_scenes(tmp_path / "run", model_folder, folder, overlap=overlap)
        output = tmp_path / f"sample {overlap}"
        sample.run([str(run.root), "--total=30", "--chip_px=0", f"--output={output}"])
        drawn = capsys.readouterr().out
        points = read_design(str(output / "design.json")).points
        label(output / "sample.csv", {point.id: str(point.map_class) for point in points})
        assess.run([str(run.root), str(output / "sample.csv")])
        assessed = capsys.readouterr().out

        assert [told in drawn, told in assessed] == [overlap is None] * 2
        stored = json.loads((output / "accuracy.json").read_bytes())["repeated_ground"]
        assert stored == ([told] if overlap is None else [])


@pytest.fixture
def soft_run(tmp_path, model_folder, monkeypatch) -> Finished:
    """A run with soft areas and probabilities, which a label fixes: 0.8, and 0.2 of the next.

    It has a scene of four blocks, and one without a place.
    """
    small_blocks(monkeypatch, 64)
    levels = np.full((80, 120, 3), 40, np.uint8)
    levels[:, 40:] = 120
    levels[:, 100:] = 220
    write_scene(tmp_path / "in" / "b.tif", levels)
    write_scene(tmp_path / "in" / "plain.tif", levels, (None, Affine(1, 0, 5, 0, -1, 9)))
    options = {"soft_areas": True, "probabilities": True, "pixel_size": 2.0}
    return run_scenes(tmp_path / "soft", model_folder, tmp_path / "in", **options)


def read_records(monkeypatch) -> list[str]:
    """Names of the commit records that are read from now on; grows."""
    names: list[str] = []
    load = CommitLog.load

    def noted(log: CommitLog, name: str):
        names.append(name)
        return load(log, name)

    monkeypatch.setattr(CommitLog, "load", noted)
    return names


def test_areas_by_probabilities_are_estimated_where_a_run_has_them(
    soft_run, tmp_path, capsys, monkeypatch
):
    pytest.importorskip("scipy", reason="the difference estimator needs scipy")
    folder, run = tmp_path / "sample", str(soft_run.root)
    words = ["--total=90", "--allocation=equal", "--chip_px=0", f"--output={folder}"]
    assert sample.run([run, *words]) == 0
    sampled = capsys.readouterr().out
    points = read_design(str(folder / "design.json")).points
    place = {class_id: n for n, class_id in enumerate(IDS)}
    for point in points:
        expected = [0, 0, 0]
        expected[place[point.map_class]] += 204
        expected[(place[point.map_class] + 1) % 3] += 51
        assert point.probabilities == tuple(expected)
    # One point in ten is of the next class.
    seen = {p.id: NAMES[(place[p.map_class] + (n % 10 == 0)) % 3] for n, p in enumerate(points)}
    label(folder / "sample.csv", seen)

    records = read_records(monkeypatch)

    assert assess.run([run, str(folder / "sample.csv")]) == 0

    # Four blocks each, and the scene that they make.
    assert len(records) == len(set(records)) == 2 * 5
    printed = capsys.readouterr().out
    assert "corrected by the sample\n\nclass " in printed
    # Both commands print areas in one unit.
    assert (sampled.split()[:3], f"map {sampled.split()[2]} " in printed) == (
        ["dark", "32.0", "ha"],
        True,
    )
    classes = json.loads((folder / "accuracy.json").read_bytes())["whole"]["classes"]
    for entry in classes:
        # Probabilities that a label fixes add nothing to it: the estimate is that of the strata.
        plain, corrected = entry["area_m2"], entry["area_by_probabilities_m2"]
        for key in ("value", "standard_error", "wald_low", "wald_high"):
            assert corrected[key] == pytest.approx(plain[key], rel=1e-9)
        assert corrected["low"] < plain["value"] < corrected["high"]


@pytest.mark.parametrize("options", [{"soft_areas": True}, {"probabilities": True}])
def test_no_area_is_corrected_by_probabilities_that_a_run_has_in_part(
    tmp_path, model_folder, options
):
    scene = write_scene(tmp_path / "in" / "b.tif", np.full((40, 60, 3), 40, np.uint8))
    run = str(run_scenes(tmp_path / "part", model_folder, scene, **options).root)
    folder = tmp_path / "sample"
    assert sample.run([run, "--total=20", "--chip_px=0", f"--output={folder}"]) == 0
    points = read_design(str(folder / "design.json")).points
    label(folder / "sample.csv", {point.id: "dark" for point in points})

    assert assess.run([run, str(folder / "sample.csv")]) == 0

    document = json.loads((folder / "accuracy.json").read_bytes())
    assert "area_by_probabilities_m2" not in document["whole"]["classes"][0]


@pytest.mark.parametrize(
    ("strata", "options"),
    [
        ("class*zone", {}),
        ("zone", {}),
        ("class", {"overlap": "first"}),
        ("zone", {"overlap": "first"}),
        ("zone", {"resample_to": 17.0}),
    ],
)
def test_probabilities_are_known_of_strata_by_zone_and_of_ground_that_counts_once(
    tmp_path, model_folder, monkeypatch, strata, options
):
    pytest.importorskip("scipy", reason="the difference estimator needs scipy")
    folder, _ = parts_of(tmp_path, [(0, 0), (40, 30)])
    boxes = [("east", box(60, 0, 300, 300)), ("north", box(0, 0, 60, 50))]
    zones = write_polygons(tmp_path / "zones.geojson", UTM[0], boxes)
    options = {"soft_areas": True, "probabilities": True, "zones": zones, **options}
    run = run_scenes(tmp_path / "run", model_folder, folder, **options)
    output = tmp_path / "sample"
    words = [f"--strata={strata}", "--total=90", "--allocation=equal", "--chip_px=0"]
    assert sample.run([str(run.root), *words, f"--output={output}"]) == 0
    design = read_design(str(output / "design.json"))

    found = SoftGround(run.work)
    for name in run.work.log.names():
        found.add(run.work.log.load(name))
    means = found.mean_probabilities(design)

    area_m2 = run.zones("area_m2") if strata != "class" else {None: run.area_m2}
    for stratum, mean in zip(design.strata, means.T, strict=True):
        of_zone = area_m2[stratum.zone]
        of_label = np.array([of_zone.get(name, 0.0) for name in NAMES])
        if stratum.class_id is not None:
            of_label = of_label * (np.array(IDS) == stratum.class_id)
        # The fake gives 0.8 to the label and 0.2 to the next class.
        expected = 0.8 * of_label + 0.2 * np.roll(of_label, 1)
        np.testing.assert_allclose(mean, expected / of_label.sum(), rtol=1e-5, atol=1e-12)
    zones_of_strata = {stratum.zone for stratum in design.strata}
    assert zones_of_strata == {None} if strata == "class" else {"east", "north", OUTSIDE}

    label(output / "sample.csv", {p.id: NAMES[IDS.index(p.map_class)] for p in design.points})
    assert assess.run([str(run.root), str(output / "sample.csv")]) == 0
    document = json.loads((output / "accuracy.json").read_bytes())
    areas = [
        [entry["area_by_probabilities_m2"]["value"] for entry in ground["classes"]]
        for ground in (document["whole"], *document["zones"])
    ]
    assert len(areas) == 1 + (strata != "class") * 3
    if strata != "class":
        np.testing.assert_allclose(np.sum(areas[1:], axis=0), areas[0])


def test_probabilities_that_are_not_known_of_all_ground_of_a_zone_correct_nothing(
    tmp_path, model_folder
):
    folder, _ = parts_of(tmp_path, [(0, 0), (40, 30)])
    options = {"soft_areas": True, "probabilities": True}
    run = run_scenes(tmp_path / "run", model_folder, folder, **options)
    output = tmp_path / "sample"
    assert sample.run([str(run.root), "--total=30", "--chip_px=0", f"--output={output}"]) == 0
    design = read_design(str(output / "design.json"))
    found = SoftGround(run.work)
    for name in run.work.log.names():
        found.add(run.work.log.load(name))
    assert found.mean_probabilities(design) is not None
    more = tuple(replace(s, area_m2=1.001 * s.area_m2) for s in design.strata)
    assert found.mean_probabilities(replace(design, strata=more)) is None

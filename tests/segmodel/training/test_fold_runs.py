"""Folds: which pairs each has, where it is, what is written of all."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from segmodel.errors import ConfigurationError
from segmodel.labels.confusion import Scores
from segmodel.pairs.pairs import TrainingData
from segmodel.training import folds as module
from segmodel.training.folds import cross_validate, folds_table, region_folders
from segmodel.training.run_folder import RunFolder
from segmodel.training.trainer import Hooks
from tests.segmodel.made_pairs import CLASSES, files_of, halves
from tests.segmodel.made_runs import narrow

REGIONS = ("tile/1", "tile 1", "..")
MATRICES = {
    "..": [[5, 1], [0, 4]],
    "tile 1": [[3, 0], [2, 9]],
    "tile/1": [[7, 7], [0, 0]],
}


def pairs_of(regions=REGIONS):
    return tuple(
        replace(pair, group=region, name=f"{region} {pair.name}")
        for number, region in enumerate(regions)
        for pair in halves(2, number)
    )


@pytest.fixture
def trainings(monkeypatch) -> list:
    """Trainings that only write down the scores of the region that they left out."""
    found: list = []

    def train(config, data, output, hooks, overwrite, *stats):
        (region,) = {pair.group for pair in data.validation}
        found.append((data, overwrite))
        output.mkdir(parents=True, exist_ok=True)
        RunFolder(output).write_json("scores.json", {"confusion": MATRICES[region]})

    monkeypatch.setattr(module, "train", train)
    return found


def test_each_region_is_left_out_once_and_validated_on(tmp_path, trainings):
    pairs = pairs_of()
    logged: list[str] = []
    # What was for validation is dealt anew; a pair that is on both sides counts once.
    data = TrainingData(pairs[:5], pairs[4:])

    cross_validate(narrow(), data, tmp_path, Hooks(log=logged.append))

    assert [line for line in logged if line.startswith("fold")] == [
        "fold 1 of 3: .. left out",
        "fold 2 of 3: tile 1 left out",
        "fold 3 of 3: tile/1 left out",
    ]
    names = sorted(pair.name for pair in pairs)
    for (fold, _), region in zip(trainings, ("..", "tile 1", "tile/1"), strict=True):
        assert {pair.group for pair in fold.validation} == {region}
        assert region not in {pair.group for pair in fold.training}
        assert sorted(pair.name for pair in (*fold.training, *fold.validation)) == names


def test_each_region_has_a_folder_of_its_own(tmp_path, trainings):
    cross_validate(narrow(), TrainingData(pairs_of(), ()), tmp_path / "folds")
    assert files_of(tmp_path) == {"folds"}
    expected = {"region", "tile-1", "tile-1-2", "folds.json", "folds.txt"}
    assert files_of(tmp_path / "folds") == expected


def test_all_regions_are_pooled_by_pixels(tmp_path, trainings):
    folds = cross_validate(narrow(), TrainingData(pairs_of(), ()), tmp_path)

    pooled = Scores.of(np.array([[15, 8], [2, 13]]))
    assert folds.pooled == pooled
    assert folds.by_group == {name: Scores.of(np.array(m)) for name, m in MATRICES.items()}
    document = json.loads((tmp_path / "folds.json").read_text())
    assert document["pooled"] == pooled.to_json(CLASSES.names)
    assert list(document["folds"]) == ["..", "tile 1", "tile/1"]
    assert document["folds"]["tile/1"]["iou"] == {"red": 0.5, "blue": 0.0}
    text = (tmp_path / "folds.txt").read_text()
    assert text == folds_table(folds, CLASSES.names) + "\n"


@pytest.mark.parametrize("overwrite", [False, True])
def test_overwriting_reaches_every_fold(tmp_path, trainings, overwrite):
    cross_validate(narrow(), TrainingData(pairs_of(), ()), tmp_path, overwrite=overwrite)
    assert [given for _, given in trainings] == [overwrite] * 3


def test_one_region_is_refused(tmp_path, trainings):
    with pytest.raises(ConfigurationError, match=r"needs two regions, found tile/1: data\.group"):
        cross_validate(narrow(), TrainingData(pairs_of(REGIONS[:1]), ()), tmp_path / "folds")
    assert not (tmp_path / "folds").exists()


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        (["a", "b"], ["a", "b"]),
        (["a b", "a b-3", "a-b"], ["a-b", "a-b-3", "a-b-2"]),
        (["A", "a"], ["A", "a-2"]),
        (["/", "..", "", "-"], ["region", "region-2", "region-3", "region-4"]),
        (["folds.json", ".hidden"], ["folds.json-2", "hidden"]),
        (["../../etc", "C:\\x", "a\nb"], ["etc", "C-x", "a-b"]),
        (["Århus", "東京"], ["Århus", "東京"]),
    ],
)
def test_regions_have_names_of_folders(groups, expected):
    assert region_folders(groups) == expected


def test_long_names_of_regions_fit_into_file_systems(tmp_path):
    names = region_folders(["東" * 400, "東" * 400 + "京", "x" * 400])
    assert len(set(names)) == 3
    for name in names:
        (tmp_path / name).mkdir()


def test_folds_that_were_interrupted_go_on(tmp_path):
    data = TrainingData(pairs_of(("a", "b")), ())
    config = narrow(steps=1)
    logged: list[str] = []

    class KilledError(Exception):
        pass

    def stop(step: int, loss: float) -> None:
        if (tmp_path / "b").exists():
            raise KilledError

    with pytest.raises(KilledError):
        cross_validate(config, data, tmp_path, Hooks(on_step=stop))
    assert files_of(tmp_path) == {"a", "b"}
    folds = cross_validate(config, data, tmp_path, Hooks(log=logged.append))

    assert "a is finished: nothing to do" in logged
    assert "b is finished: nothing to do" not in logged
    total = sum(RunFolder(tmp_path / name).confusion() for name in ("a", "b"))
    assert total.sum() == 4 * 64 * 64
    assert folds.pooled == Scores.of(total)

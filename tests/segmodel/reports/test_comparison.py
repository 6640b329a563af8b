"""Made-up runs side by side."""

from __future__ import annotations

import json

import numpy as np
import pytest

from segmodel.errors import ConfigurationError
from segmodel.labels.classes import ClassTable, LabelClass
from segmodel.reports.comparison import compare_runs, comparison_text, write_comparison
from tests.fakes import CLASSES
from tests.segmodel.made_pairs import ArrayPair
from tests.segmodel.scored_pairs import random_pair
from tests.segmodel.scored_runs import made_run


def test_settings_that_differ_are_listed_by_dotted_name(tmp_path):
    one = made_run(tmp_path / "one", loss={"cross_entropy": 1.0}, seed=1)
    two = made_run(tmp_path / "two", loss={"cross_entropy": 1.0, "dice": 0.5}, seed=1)
    actual = compare_runs([one, two])
    assert actual.settings == {"training.loss.dice": (None, 0.5)}
    assert actual.notes == ()


def test_scores_stand_beside_their_difference_to_the_first(tmp_path):
    pair = ArrayPair("a", np.full((10, 10, 3), 80, np.uint8), np.zeros((10, 10), np.int16))
    runs = [made_run(tmp_path / name, more, [pair]) for name, more in (("a", 0), ("b", 40))]
    lines = comparison_text(compare_runs(runs)).splitlines()
    assert "all settings are equal" in lines[0]
    assert lines[2].split() == ["score", "a", "b"]
    assert lines[3].split() == ["mean", "IoU", "1.000", "0.000", "(-1.000)"]
    assert "IoU middle                  -           0.000" in lines
    assert "IoU bright                  -               -" in lines


def test_images_are_ranked_by_the_share_of_counted_pixels_at_which_not_all_agree(tmp_path):
    def pair(name, rows):
        image = np.full((10, 10, 3), 200, np.uint8)
        image[:rows] = 80
        truth = np.zeros((10, 10), np.int16)
        truth[9] = -1
        return ArrayPair(name, image, truth)

    pairs = [pair("few", 1), pair("none", 0), pair("many", 10)]
    runs = [made_run(tmp_path / str(more), more, pairs) for more in (0, 0 + 1, 40)]
    actual = compare_runs(runs).disagreements
    assert [(d.name, d.share) for d in actual] == [("many", 1.0), ("few", 10 / 90), ("none", 0.0)]


def test_all_is_written_and_linked(tmp_path):
    runs = [made_run(tmp_path / name, more) for name, more in (("a", 0), ("b", 40), ("c", 90))]
    comparison = compare_runs(runs)
    out = tmp_path / "out"
    (out / "pictures").mkdir(parents=True)
    (out / "pictures" / "disagreement-5.png").write_bytes(b"old")
    write_comparison(out, comparison)
    text = (out / "compare.md").read_text()
    assert sorted(path.name for path in (out / "pictures").iterdir()) == [
        f"disagreement-{n}.png" for n in range(1, 5)
    ]
    for link in ("curves.png", *(f"pictures/disagreement-{n}.png" for n in range(1, 5))):
        assert f"({link})" in text
        assert (out / link).is_file()
    document = json.loads((out / "compare.json").read_text())
    assert [run["name"] for run in document["runs"]] == ["a", "b", "c"]
    assert len(document["disagreements"]) == 4
    assert document["runs"][0]["scores"]["mean_iou"] > document["runs"][2]["scores"]["mean_iou"]


def test_an_unfinished_run_is_compared_without_its_scores(tmp_path):
    one, two = made_run(tmp_path / "one"), made_run(tmp_path / "two")
    (two / "scores.json").unlink()
    (two / "history.jsonl").unlink()
    (two / "validation" / "index.json").unlink()
    actual = compare_runs([one, two])
    assert actual.notes == (
        "two is not finished: it has no scores.json, so its scores are left out",
        "two has no validation yet",
        "no validation image was kept by all runs: pictures are left out",
    )
    assert "note: two is not finished" in comparison_text(actual)
    write_comparison(tmp_path / "out", actual)
    assert "> two is not finished" in (tmp_path / "out" / "compare.md").read_text()


def test_runs_of_different_classes_are_compared_by_the_names_they_share(tmp_path):
    others = ClassTable((*CLASSES.classes[:2], LabelClass(7, "light", (1, 2, 3))))
    runs = [made_run(tmp_path / "one"), made_run(tmp_path / "two", classes=others)]
    actual = compare_runs(runs)
    assert actual.notes == ("the runs have different classes: pictures are left out",)
    text = comparison_text(actual)
    assert "IoU bright" in text
    assert "IoU light" in text
    write_comparison(tmp_path / "out", actual)


def test_runs_that_were_validated_on_other_images_or_truth_are_told_apart(tmp_path):
    pair = random_pair("a")
    other = ArrayPair("a", pair.image, np.zeros_like(pair.indices))
    runs = [made_run(tmp_path / "one", 0, [pair]), made_run(tmp_path / "two", 0, [other])]
    actual = compare_runs(runs)
    assert actual.notes == (
        "the runs were validated on different images or truth: scores do not compare",
        "a: the runs have different truth for it: left out",
    )
    assert actual.disagreements == ()


def test_runs_of_equal_folder_names_are_told_apart(tmp_path):
    runs = [made_run(tmp_path / name / "run") for name in ("may", "june")]
    assert [run.name for run in compare_runs(runs).runs] == ["may/run", "june/run"]


@pytest.mark.parametrize("names", [[], ["one"], ["one", "one"], ["one", "./one"]])
def test_two_different_runs_are_needed(tmp_path, names):
    made_run(tmp_path / "one")
    with pytest.raises(ConfigurationError, match=r"two or more|named twice"):
        compare_runs([tmp_path / name for name in names])


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    made_run(tmp_path / "one")
    with pytest.raises(ConfigurationError, match=r"nothing is no training run: .* --output of"):
        compare_runs([tmp_path / "one", tmp_path / "nothing"])
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "configuration.json").write_text('{"classes": [{"id": 1}]}')
    with pytest.raises(ConfigurationError, match="classes: 'name'"):
        compare_runs([tmp_path / "one", tmp_path / "bad"])


def test_a_comparison_is_not_written_into_a_run(tmp_path):
    runs = [made_run(tmp_path / name) for name in ("one", "two")]
    with pytest.raises(ConfigurationError, match="needs a folder of its own"):
        write_comparison(runs[0], compare_runs(runs))


def test_text_of_users_is_escaped_wherever_a_comparison_shows_it(tmp_path):
    hostile = "<b>|_x"
    pair = ArrayPair(hostile, np.full((10, 10, 3), 80, np.uint8), np.zeros((10, 10), np.int16))
    runs = [
        made_run(tmp_path / f"{hostile}{n}", n, [pair], **{hostile: f"{hostile}{n}"})
        for n in (1, 2)
    ]
    (runs[1] / "history.jsonl").unlink()
    write_comparison(tmp_path / "out", compare_runs(runs))
    text = (tmp_path / "out" / "compare.md").read_text()
    assert "<b>" not in text
    # Title, note, names of columns, setting and its values, the first run, the image.
    assert text.count("\\<b\\>\\|\\_x") == 12

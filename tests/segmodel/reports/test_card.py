"""The model card of a made-up run."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from segmodel.errors import ConfigurationError
from segmodel.labels.classes import ClassTable, LabelClass
from segmodel.reports.card import write_card
from segmodel.savedmodel.contract import Calibration, MeasuredCompute, MeasuredHalo
from segmodel.tiling.borders import BorderCurve
from tests.fakes import CLASSES, contract
from tests.segmodel.made_pairs import ArrayPair
from tests.segmodel.scored_runs import made_run

GIVEN = contract(
    name="Brightness | of <things>",
    parameters=134_268_741,
    halo=MeasuredHalo(64, 512, 0.9994),
    gsd_range_m=(0.2, 0.5),
    calibration=Calibration(1.5, 0.08, 0.02, 12_345),
    training_data={"about": "made-up squares", "images": 4},
)


def test_a_card_says_what_the_model_is_and_what_it_is_worth(tmp_path):
    run = made_run(tmp_path / "run", more=40)
    write_card(run, GIVEN)
    text = (run / "card.md").read_text()
    scores = json.loads((run / "scores.json").read_text())
    for expected in (
        "# Brightness \\| of \\<things\\>",
        "| middle | 3 | \\#5AA046 |",
        "| bands | red, green, blue |",
        "| weights | 134,268,741 |",
        "| ground sample distance | 0.2 to 0.5 m a pixel |",
        "64 pixels (99.94% of labels as without windows of 512 pixels)",
        "| about | made-up squares |",
        f"| mean IoU | {scores['mean_iou']:.3f} |",
        "divided by 1.500 before the softmax, fitted on 12,345 validation pixels",
        "measured on the other, the expected calibration error is 0.0200; it was 0.0800 before",
        "| training.loss.cross\\_entropy | 1.0 |",
        "## Limits",
    ):
        assert expected in text
    assert "| run |" not in text


def test_all_pictures_that_a_card_links_are_there(tmp_path):
    run = made_run(tmp_path / "run", more=40)
    write_card(run, GIVEN)
    links = re.findall(r"!\[.*\]\((.*)\)", (run / "card.md").read_text())
    assert links == [
        "pictures/classes.png",
        "confusion.png",
        "curves.png",
        "pictures/best-1.png",
        "pictures/best-2.png",
        "pictures/worst-1.png",
        "pictures/worst-2.png",
    ]
    assert all((run / link).is_file() for link in links)


def test_limits_name_weak_classes_and_those_that_validation_lacks(tmp_path):
    image = np.zeros((20, 20, 3), np.uint8)
    image[:, 10:] = 100
    truth = np.zeros((20, 20), np.int16)
    truth[:, 18:] = 1
    run = made_run(tmp_path / "run", pairs=[ArrayPair("a", image, truth)])
    write_card(run, contract(gsd_range_m=None, calibration=None))
    text = (run / "card.md").read_text()
    assert "IoU is below 0.5 for middle (0.20)." in text
    assert "Validation has no pixel of bright: nothing is known of it." in text
    assert "No range of ground sample distances was given" in text
    assert "it was not calibrated" in text
    assert "all the same" not in text


def test_limits_name_what_was_given_to_pixels_though_validation_lacks_it(tmp_path):
    image = np.full((20, 20, 3), 100, np.uint8)
    image[:, 19:] = 200
    run = made_run(tmp_path / "run", pairs=[ArrayPair("a", image, np.full((20, 20), 1, np.int16))])
    write_card(run, GIVEN)
    text = (run / "card.md").read_text()
    assert "Validation has no pixel of dark, bright: nothing is known of it." in text
    assert (
        "Some pixels were given bright all the same, which is an IoU of 0 in the mean: of the "
        "classes that validation has, it is 0.950."
    ) in text


def test_limits_say_what_chose_the_weights_and_what_was_not_measured(tmp_path):
    run = made_run(tmp_path / "run")
    path = run / "configuration.json"
    found = {}
    for keep in ("best", "last"):
        document = json.loads(path.read_text())
        document["training"]["keep"] = keep
        path.write_text(json.dumps(document))
        write_card(run, contract(halo=MeasuredHalo(96, 512, None)))
        found[keep] = (run / "card.md").read_text()
    assert "weights are those of the best validation, so its scores are a little" in found["best"]
    assert "weights are those of the best validation" not in found["last"]
    assert "| halo | 96 pixels (not measured) |" in found["last"]
    assert "halo for windows" not in found["last"]
    assert "- The halo is not measured, as validation images are too small" in found["last"]


def test_the_card_says_which_halo_larger_windows_need(tmp_path):
    run = made_run(tmp_path / "run")
    curve = BorderCurve(32, (0.1, 0.003, 0.0))
    write_card(run, contract(halo=MeasuredHalo(64, 512, 1.0, curve)))
    row = "| halo for windows of 1024, 2048, 4096 pixels | 32, 32, 32 pixels |"
    assert row in (run / "card.md").read_text()


def test_the_card_says_what_compute_types_change(tmp_path):
    run = made_run(tmp_path / "run")
    changes = {"dark": 0.0014, "grey": -0.02, "bright": None}
    write_card(run, contract(computing=(MeasuredCompute("bfloat16", 1000, 0.9953, changes),)))
    labels, areas = (
        "99.53% of labels as by float32",
        "areas of classes change by up to -2.00% (grey)",
    )
    assert f"| by bfloat16 | {labels}; {areas} |" in (run / "card.md").read_text()


def test_a_second_card_leaves_no_picture_of_the_first(tmp_path):
    run = made_run(tmp_path / "run")
    (run / "pictures").mkdir()
    (run / "pictures" / "worst-3.png").write_bytes(b"old")
    write_card(run, GIVEN)
    assert not (run / "pictures" / "worst-3.png").exists()


def test_a_card_needs_no_kept_images(tmp_path):
    run = made_run(tmp_path / "run")
    (run / "validation" / "index.json").unlink()
    write_card(run, GIVEN)
    assert "validation images" not in (run / "card.md").read_text().split("## Limits")[0].split(
        "## Training\n"
    )[1].replace("validation_images", "")


@pytest.mark.parametrize("name", ["configuration.json", "scores.json", "history.jsonl"])
def test_a_missing_file_is_named(tmp_path, name):
    run = made_run(tmp_path / "run")
    (run / name).unlink()
    with pytest.raises(ConfigurationError, match=f"{name}: cannot be read"):
        write_card(run, GIVEN)


def test_text_of_users_is_escaped_wherever_a_card_shows_it(tmp_path):
    hostile = "<b>|_x\n"
    classes = ClassTable((LabelClass(0, f"{hostile}0", (0, 0, 0)), *CLASSES.classes[1:]))
    image = np.full((20, 20, 3), 100, np.uint8)
    pair = ArrayPair(hostile, image, np.zeros((20, 20), np.int16))
    run = made_run(tmp_path / "run", pairs=[pair], classes=classes, **{hostile: hostile})
    described = contract(
        name=hostile,
        architecture=hostile,
        bands=(hostile, "green", "blue"),
        classes=classes,
        training_data={"about": hostile, hostile: hostile},
    )
    write_card(run, described)
    text = (run / "card.md").read_text().replace("<details><summary>", "").replace("</summary>", "")
    assert "<b>" not in text
    # Name, classes, architecture, band, data, scores, setting, caption, limits.
    assert text.count("\\<b\\>\\|\\_x ") == 12

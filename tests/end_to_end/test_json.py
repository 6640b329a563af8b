"""`--json`: the last line of standard output is what programs are told, however a run ends."""

from __future__ import annotations

import json
from pathlib import Path

from tests.end_to_end.conftest import write_images
from tests.end_to_end.passing_fault import unreachable_for_an_attempt
from tests.end_to_end.watched import write_shards

NAMES = ("exit_status", "reason", "images", "failed_images", "pixels", "units")
NAMES += ("unfinished_units", "this_attempt")


def words(model: Path, *more: str, inputs: str = "photos") -> list[str]:
    asked = [f"--input={inputs}", f"--model={model}", "--output=run", "--json"]
    return ["segment", *asked, *more]


def last_line(printed: str) -> dict:
    return json.loads(printed.splitlines()[-1])


def summary_of(folder: Path) -> dict:
    return json.loads((folder / "run" / "summary.json").read_text())


def test_complete_over_budget_and_usage(tmp_path, beamseg, brightness_savedmodel):
    write_images(tmp_path / "photos", 5)
    (tmp_path / "photos" / "text.png").write_text("this is no image")

    over = beamseg(*words(brightness_savedmodel))
    said, written = last_line(over.stdout), summary_of(tmp_path)

    assert (over.returncode, said["exit_status"], said["reason"]) == (3, 3, "over_budget")
    assert {name: said[name] for name in NAMES} == {name: written[name] for name in NAMES}
    assert (said["images"], said["failed_images"], said["unfinished_units"]) == (5, 1, 0)
    assert (said["run"], said["error"]) == ("run", None)

    refused = beamseg(*words(brightness_savedmodel, "--window=0"))
    said = last_line(refused.stdout)
    assert (refused.returncode, said["reason"], said["images"]) == (2, "usage", None)
    assert said["error"] == "--window must be greater than 0, got 0"

    done = beamseg(*words(brightness_savedmodel, "--max_failures=1"))
    said = last_line(done.stdout)
    assert (done.returncode, said["exit_status"], said["reason"]) == (0, 0, "complete")
    assert said["this_attempt"]["units_skipped"] == said["units"]
    assert len(done.stdout.splitlines()) == 3


def test_incomplete_and_then_the_rest(tmp_path, beamseg, brightness_savedmodel):
    (path, *_) = write_images(tmp_path / "photos", 3)
    write_shards(tmp_path / "shards", 2)
    asked = words(brightness_savedmodel, "--input=shards")

    with unreachable_for_an_attempt(path, tmp_path / "run"):
        first = beamseg(*asked)
    said, written = last_line(first.stdout), summary_of(tmp_path)
    second = beamseg(*asked)

    assert (first.returncode, said["exit_status"], said["reason"]) == (4, 4, "incomplete")
    assert {name: said[name] for name in NAMES} == {name: written[name] for name in NAMES}
    assert (said["images"], said["units"], said["unfinished_units"]) == (8, 3, 1)
    said = last_line(second.stdout)
    assert (second.returncode, said["reason"], said["images"]) == (0, "complete", 11)
    assert (said["this_attempt"]["units_done"], said["this_attempt"]["units_skipped"]) == (1, 2)


def test_a_transient_error_before_any_work_has_no_numbers(tmp_path, beamseg, brightness_savedmodel):
    done = beamseg(*words(brightness_savedmodel, inputs="http://127.0.0.1:9/scene.tif"))

    said = last_line(done.stdout)
    assert (done.returncode, said["exit_status"], said["reason"]) == (4, 4, "incomplete")
    assert said["error"].startswith("http://127.0.0.1:9/scene.tif cannot be reached")
    assert (said["images"], said["this_attempt"]) == (None, None)


def test_pack_says_its_end_too(tmp_path, beamseg):
    write_images(tmp_path / "photos", 3)

    done = beamseg("pack", "--images=photos", "--output=shards", "--json")

    said = last_line(done.stdout)
    assert (done.returncode, said["run"], said["reason"]) == (0, "shards", "complete")
    assert (said["images"], said["units"], said["unfinished_units"]) == (3, 1, 0)
    assert said["this_attempt"]["shards_done"] == 1

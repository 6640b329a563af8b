"""`beamseg pack` as a user meets it: encodings, failures, groups, refusals, and resuming."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import forked
from tests.end_to_end.conftest import command, environment, files_of
from tests.end_to_end.pack_corpus import COUNT, run, samples, words, write_data


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_data(tmp_path)
    return tmp_path


def test_colours_indices_and_grey_levels_give_the_same_shards(data):
    contents = []
    for encoding in ("color", "palette", "id"):
        done = run(data, words(encoding + "-shards", "--format=parquet", encoding=encoding))
        assert done.returncode == 0, done.stderr
        contents.append(
            {n: c for n, c in files_of(data / f"{encoding}-shards").items() if n[:5] == "train"}
        )
    assert len(contents[0]) == 1
    assert contents[0] == contents[1] == contents[2]


def test_a_pack_in_a_process_of_its_own_prints_no_warning_of_beam(data):
    done = subprocess.run(
        words("shards"), cwd=data, env=environment(), capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_bad_image_and_a_bad_mask_cost_themselves_and_name_file_and_value(data):
    whole = (data / "images" / "image-003.jpg").read_bytes()
    (data / "images" / "image-003.jpg").write_bytes(whole[: len(whole) * 2 // 3])
    strange = np.array(Image.open(data / "color" / "image-005.png"))
    strange[7, 9] = (1, 2, 3)
    Image.fromarray(strange).save(data / "color" / "image-005.png")

    over = run(data, words("shards"))
    within = run(data, words("shards", "--max_failures=2"))

    assert over.returncode == 3
    told = [line for line in over.stderr.splitlines() if line.startswith("failed: ")]
    assert sorted(told)[0] == (
        "failed: color/image-005.png: mask has color #010203, which is neither a class nor ignored"
    )
    assert sorted(told)[1].startswith("failed: images/image-003.jpg: ")
    assert "2 of 12 images failed, more than --max_failures 0 allows" in over.stderr
    assert within.returncode == 0, within.stderr
    (split,) = json.loads((data / "shards/pack.json").read_text())["splits"].values()
    assert (split["images"], split["failed_images"]) == (10, 2)
    (shard,) = (data / "shards" / "train").iterdir()
    names = set(samples(shard, "tfrecord", None))
    assert names == {f"image-{n:03d}" for n in range(COUNT) if n not in (3, 5)}


def test_images_of_a_group_stay_in_one_split(data):
    for path in sorted((data / "images").iterdir()):
        number = int(path.stem.removeprefix("image-"))
        target = data / "tiles" / f"tile_{number % 6}" / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    splits = ["--split=train=0.5,test=0.5", r"--group_by=tile_(\d+)"]

    done = run(
        data,
        command("pack", "--images=tiles", "--output=shards", "--format=tar", *splits),
    )

    assert done.returncode == 0, done.stderr
    groups = {
        split: {
            int(name.removeprefix("image-")) % 6
            for path in (data / "shards" / split).iterdir()
            for name in samples(path, "tar", None)
        }
        for split in ("train", "test")
    }
    assert groups["train"] | groups["test"] == {0, 1, 2, 3, 4, 5}
    assert not groups["train"] & groups["test"]
    document = json.loads((data / "shards/pack.json").read_text())
    assert {s: entry["groups"] for s, entry in document["splits"].items()} == {
        s: len(found) for s, found in groups.items()
    }


def test_a_missing_mask_is_named_before_anything_is_written(data):
    (data / "color" / "image-004.png").unlink()

    done = run(data, words("shards"))

    assert done.returncode == 2
    assert done.stderr.startswith("beamseg: images/image-004.png has no mask image-004.* in color")
    assert not (data / "shards").exists()


def test_a_killed_pack_goes_on_and_ends_byte_for_byte_as_an_uninterrupted_one(data):
    shards = 40
    options = ["--images_per_shard=1", "--split=train=1"]
    paths = sorted((data / "images").iterdir())
    for number in range(shards):
        source = paths[number % COUNT]
        (data / "images" / f"more-{number:03d}{source.suffix}").write_bytes(source.read_bytes())
        mask = (data / "color" / f"{source.stem}.png").read_bytes()
        (data / "color" / f"more-{number:03d}.png").write_bytes(mask)
    whole = run(data, words("whole", *options))
    assert whole.returncode == 0, whole.stderr
    expected = files_of(data / "whole")

    process = forked.Popen(words("killed", *options), cwd=data, env=environment())
    commits = data / "killed" / ".beamseg" / "commits"
    while process.poll() is None and len(list(commits.glob("*.json"))) < 5:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=60)
    finished = {path.name: path.stat().st_mtime_ns for path in commits.iterdir()}
    assert 5 <= len(finished) < shards + COUNT
    assert not (data / "killed" / "pack.json").exists()
    done = run(data, words("killed", *options))

    assert done.returncode == 0, done.stderr
    actual = files_of(data / "killed")
    assert set(actual) == set(expected)
    clocked = {".beamseg/summary.json"}
    assert [n for n in actual if actual[n] != expected[n] and n not in clocked] == []
    for name, modified in finished.items():
        assert (commits / name).stat().st_mtime_ns == modified
    assert f"{len(finished)} done before" in done.stdout


def test_it_is_a_module_too_and_its_help_tells_the_whole_story(data):
    program = [sys.executable, "-m", "pipelines.pack"]
    done = run(data, [*program, "--images=images", "--output=shards"])
    told = run(data, command("pack", "--help"))

    assert done.returncode == 0, done.stderr
    assert (data / "shards" / "train" / "train-00000-of-00001.tfrecord").exists()
    assert told.returncode == 0
    assert "--group_by" in told.stdout
    assert "[[classes]]" in told.stdout

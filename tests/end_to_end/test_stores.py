"""Runs whose inputs, model and run directory are in stores give what runs on disk give."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import forked
from tests.end_to_end.conftest import files_of, noise, write_corpus, write_scene
from tests.services.buckets import Bucket
from tests.services.faults import KINDS, Plan

# What a run in a store has in common with one on disk to the last byte.
SAME = ("labels", "confidence", "areas", "failures", "areas.csv", "failures.csv", "zones.csv")

Run = Callable[..., subprocess.CompletedProcess[str]]

ZONES = {
    "type": "FeatureCollection",
    "features": [
        {
            "type": "Feature",
            "properties": {"name": "west"},
            "geometry": {
                "type": "Polygon",
                "coordinates": [[[15, 54.1], [15.01, 54.1], [15.01, 54.2], [15, 54.2], [15, 54.1]]],
            },
        }
    ],
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, one of them broken, shards, a scene, and one of two blocks; with zones."""
    folder = tmp_path_factory.mktemp("stores") / "in"
    write_corpus(folder)
    (folder / "photos" / "broken.jpg").write_bytes(b"\xff\xd8 no image")
    write_scene(folder / "scenes" / "strip.tif", noise(5, 96, 4500))
    (folder / "zones.geojson").write_text(json.dumps(ZONES))
    return folder


def words(root: str, model: str, output: str) -> list[str]:
    inputs = [f"--input={root}/{name}" for name in ("photos", "shards/*.tfrecord", "scenes")]
    options = ["--window=256", "--confidence", "--max_failures=1", f"--zones={root}/zones.geojson"]
    return ["segment", *inputs, "--model", model, "--output", output, *options]


@pytest.fixture(scope="module")
def expected(corpus, brightness_savedmodel, tmp_path_factory) -> dict[str, bytes]:
    """Files of the run on disk."""
    from tests.end_to_end.conftest import command, environment

    run = tmp_path_factory.mktemp("expected") / "run"
    line = command(*words(str(corpus), str(brightness_savedmodel), str(run)))
    forked.run(line, env=environment(), check=True, capture_output=True, timeout=300)
    return compared(files_of(run))


def compared(files: dict[str, bytes]) -> dict[str, bytes]:
    """What runs have in common: results, and records without digests of inputs and seals."""
    chosen = {name: content for name, content in files.items() if name.split("/")[0] in SAME}
    for name, content in files.items():
        folder, _, base = name.partition("/")
        if folder == "commits":
            record = json.loads(content) | {"digest": "", "seal": ""}
            chosen[f"commits/{base.rpartition('-')[0]}"] = json.dumps(record).encode()
    return chosen


def put_all(bucket: Bucket, corpus: Path, model: Path) -> None:
    for folder, prefix in ((corpus, "in"), (model, "models/brightness")):
        for name, content in files_of(folder).items():
            bucket.put(f"{prefix}/{name}", content)


def run_of(bucket: Bucket, name: str = "run") -> dict[str, bytes]:
    """Files of a run directory in a bucket."""
    names = bucket.names(f"{name}/")
    return {found.removeprefix(f"{name}/"): bucket.get(found) for found in names}


@pytest.fixture
def temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder for temporary files of the commands."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def segment_there(beamseg: Run, bucket: Bucket, *more: str) -> subprocess.CompletedProcess[str]:
    line = words(f"{bucket.uri}/in", f"{bucket.uri}/models/brightness", f"{bucket.uri}/run")
    return beamseg(*line, *more)


def test_a_run_in_a_store_gives_the_bytes_of_a_run_on_disk(
    bucket, beamseg, corpus, brightness_savedmodel, expected, temporary_files
):
    put_all(bucket, corpus, brightness_savedmodel)
    done = segment_there(beamseg, bucket)
    assert done.returncode == 0, done.stderr
    files = run_of(bucket)
    assert compared(files) == expected
    assert files["_SUCCESS"] == b""
    assert not [name for name in files if name.startswith("blocks/")]
    left = [path for path in temporary_files.rglob("*") if path.is_file()]
    assert all("folders" in path.parts for path in left), left
    said = done.stdout + done.stderr + "".join(str(content) for content in files.values())
    for secret in ("testing", str(temporary_files)):
        assert secret not in said

    again = segment_there(beamseg, bucket)
    assert again.returncode == 0, again.stderr
    assert "5 done before" in again.stdout
    assert beamseg("verify", f"{bucket.uri}/run").returncode == 0


@pytest.mark.parametrize("storage_service", ["gs"], indirect=True)
def test_objects_that_have_expired_keep_their_results(
    bucket, beamseg, corpus, brightness_savedmodel, expected, temporary_files
):
    put_all(bucket, corpus, brightness_savedmodel)
    assert segment_there(beamseg, bucket).returncode == 0
    first = {Path(name).parent: name for name in reversed(bucket.names("in/")) if "." in name}
    for folder in ("in/photos", "in/shards", "in/scenes"):
        bucket.remove(first[Path(folder)])
    before = run_of(bucket)

    refused = segment_there(beamseg, bucket)
    assert refused.returncode == 2
    assert "not found, empty or unusable now: 3 inputs" in refused.stderr
    assert run_of(bucket) == before

    for more in ((), ("--overlap=first",)):
        done = segment_there(beamseg, bucket, "--gone=keep", *more)
        assert done.returncode == 0, done.stderr
        after = compared(run_of(bucket))
        kinds = (
            ("labels/", "confidence/") if more else ("labels/", "confidence/", "zones", "areas.c")
        )
        stays = [name for name in expected if name.startswith(kinds)]
        assert [name for name in stays if after[name] != expected[name]] == []
        assert beamseg("verify", f"{bucket.uri}/run").returncode == 0


def test_a_run_is_the_same_while_every_fifth_request_fails(
    faulty_bucket, beamseg, corpus, brightness_savedmodel, expected, temporary_files
):
    put_all(faulty_bucket, corpus, brightness_savedmodel)
    done = segment_there(beamseg, faulty_bucket)
    assert done.returncode == 0, done.stderr
    assert compared(run_of(faulty_bucket)) == expected
    assert faulty_bucket.faults.count(*KINDS) > 10


@pytest.mark.parametrize("storage_service", ["s3"], indirect=True)
def test_a_store_that_stays_down_leaves_its_unit_for_the_next_run(
    faulty_bucket, beamseg, corpus, brightness_savedmodel, expected, temporary_files
):
    bucket = faulty_bucket
    put_all(bucket, corpus, brightness_savedmodel)
    bucket.faults.follow(Plan(share=0, permanent="in/shards/part-00001"))
    done = segment_there(beamseg, bucket)
    assert done.returncode == 4, done.stderr
    assert "run the same command again" in done.stderr
    files = run_of(bucket)
    assert "_SUCCESS" not in files
    assert json.loads(files["summary.json"])["unfinished_units"] == 1
    bucket.faults.off()
    assert segment_there(beamseg, bucket).returncode == 0
    assert compared(run_of(bucket)) == expected


@pytest.mark.parametrize("storage_service", ["gs"], indirect=True)
def test_a_store_that_refuses_access_is_named_with_the_remedy(
    faulty_bucket, beamseg, corpus, brightness_savedmodel, temporary_files
):
    bucket = faulty_bucket
    put_all(bucket, corpus, brightness_savedmodel)
    bucket.faults.follow(Plan(share=0, permanent="/run/labels/", permanent_status=403))
    done = segment_there(beamseg, bucket)
    assert done.returncode == 2, done.stderr
    assert f"{bucket.uri}/run/labels/" in done.stderr
    assert "refuses access" in done.stderr
    assert "Traceback" not in done.stderr
    bucket.faults.off()
    assert segment_there(beamseg, bucket).returncode == 0

"""Runs, packs and training runs of earlier releases are accepted and continued.

Each archive in `tests/kept_runs` was made by the release that it is named after: inputs, a model,
and what these commands left:

    beamseg segment --input photos --input broken --input shards --input scenes --model model \
        --output run --confidence --zones zones.geojson --overlap first --check_seams \
        --pixel_size 0.5 --max_failures 1
    beamseg pack --images photos --masks masks --classes classes.toml --mask_encoding id \
        --output packed --images_per_shard 2
    beamseg train --config train.toml --output training

Weights and pictures of the training run are left out, as they are large and nothing reads them.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import tarfile
import xml.etree.ElementTree as ET
from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipelines.commands.main import dispatch
from segmodel.errors import ConfigurationError
from tests.end_to_end.conftest import files_of

ARCHIVES = sorted((Path(__file__).parents[1] / "kept_runs").glob("*.tar.gz"))
ROOTS = ("photos", "broken", "shards", "scenes")
SEGMENT = [
    "segment",
    *(f"--input={root}" for root in ROOTS),
    *("--model=model", "--output=run", "--confidence", "--zones=zones.geojson"),
    *("--overlap=first", "--check_seams", "--pixel_size=0.5", "--max_failures=1"),
]
PACK = ["pack", "--images=photos", "--masks=masks", "--classes=classes.toml"]
PACK += ["--mask_encoding=id", "--output=packed", "--images_per_shard=2"]
# How long an attempt took, the versions of packages, the picture, which is drawn anew, and what old
# runs lack: the list of label maps, the style of their mosaic, and the list of parts of the plan.
CHANGING = {"summary.json", "run.json", "preview.png", "labels.json", "labels.qml", "parts.json"}
# Areas in records are fractions.
NUMBER = re.compile(r"[0-9]+([.][0-9]+|/[0-9]+)?")


@pytest.fixture(params=ARCHIVES, ids=lambda path: path.name.removesuffix(".tar.gz"))
def kept(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an earlier release, as if it had been made here."""
    with tarfile.open(request.param) as archive:
        archive.extractall(tmp_path, filter="data")
    # The folder of an input root in the run directory goes by a digest of where the root is.
    document = tmp_path / "run" / "run.json"
    run = json.loads(document.read_text())
    places = {root: str((tmp_path / root).resolve()).encode() for root in ROOTS}
    run["folders"] = {hashlib.sha256(place).hexdigest()[:16]: r for r, place in places.items()}
    document.write_text(json.dumps(run, indent=2))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lasting(folder: Path, changing: set[str] = CHANGING) -> dict[str, Any]:
    return {
        name: comparable(name, content)
        for name, content in files_of(folder).items()
        if Path(name).name not in changing
    }


def comparable(name: str, content: bytes) -> Any:
    """What of a file depends neither on the processor nor on what 0.1.0 did not have.

    Processors differ in the last digits of areas, and 0.1.0 had no codes of failures, no shares and
    no attribute tables.
    """
    if name.endswith("failures.csv"):
        rows = csv.DictReader(io.StringIO(content.decode()))
        return [{k: v for k, v in row.items() if k != "code"} for row in rows]
    if name.startswith("failures/"):
        lines = map(json.loads, content.splitlines())
        return [{k: v for k, v in row.items() if k != "code"} for row in lines]
    if name.endswith(".csv"):
        rows = csv.reader(io.StringIO(content.decode()))
        return rounded([row[:4] if name == "overlaps.csv" else row for row in rows])
    if name.endswith(".aux.xml"):
        return [entry.text for entry in ET.fromstring(content).iter("Category")]
    if name.startswith("areas/"):
        return rounded(pq.read_table(io.BytesIO(content)).to_pylist())
    if name.startswith("counts/"):
        return rounded(json.loads(content))
    if name.startswith("commits/"):
        record = rounded(json.loads(content))
        for output in record["outputs"]:
            is_table = output["path"].startswith(("areas/", "counts/", "failures/"))
            if is_table or output["path"].endswith(".aux.xml"):
                output.update(size=None, sha256=None)
        return record
    return content


def rounded(value: Any) -> Any:
    """A document with its numbers, also those in texts, to ten digits."""
    if isinstance(value, dict):
        return {key: rounded(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [rounded(entry) for entry in value]
    if isinstance(value, str) and NUMBER.fullmatch(value):
        return rounded(float(Fraction(value)))
    return float(f"{value:.10g}") if isinstance(value, float) else value


def packed_files(kept: Path) -> dict[str, Any]:
    return lasting(kept / "packed", CHANGING - {"run.json"})


def attempt(kept: Path) -> dict[str, int]:
    return json.loads((kept / "run" / "summary.json").read_text())["this_attempt"]


def test_a_finished_run_is_left_as_it_is(kept):
    expected, before = lasting(kept / "run"), json.loads((kept / "run" / "run.json").read_text())

    status = dispatch(SEGMENT)

    assert status == 0
    assert (attempt(kept)["units_skipped"], attempt(kept)["units_done"]) == (7, 0)
    assert lasting(kept / "run") == expected
    after = json.loads((kept / "run" / "run.json").read_text())
    assert {name for name in before if before[name] != after[name]} <= {"versions"}
    listed = json.loads((kept / "run" / "labels.json").read_text())
    assert [len(system["maps"]) for system in listed["systems"]] == [3]


@pytest.mark.parametrize(
    "lost",
    [
        "commits/images-*",
        "commits/tfrecord-*",
        "commits/scene-long-*.json",
        "commits/counts-*",
        "areas/scene-west-*",
    ],
)
def test_an_unfinished_run_goes_on_and_ends_with_the_same_results(kept, lost):
    expected = lasting(kept / "run")
    (kept / "run" / "_SUCCESS").unlink()
    gone = list((kept / "run").glob(lost))
    for path in gone:
        path.unlink()

    status = dispatch(SEGMENT)

    assert gone
    assert status == 0
    assert lasting(kept / "run") == expected


def test_results_whose_inputs_are_gone_can_be_kept(kept):
    before = lasting(kept / "run")
    for name in ("photos/image-0.png", "scenes/east.tif", "scenes/long.tif"):
        (kept / name).unlink()
    with pytest.raises(ConfigurationError, match="3 inputs"):
        dispatch(SEGMENT)
    assert lasting(kept / "run") == before

    status = dispatch([*SEGMENT, "--gone=keep"])

    assert status == 0
    assert attempt(kept)["units_done"] == 0
    actual, tables = (
        lasting(kept / "run"),
        ("areas.csv", "zones.csv", "overlaps.csv", "failures.csv"),
    )
    stays = [
        name for name in before if name.startswith(("labels/", "confidence/")) or name in tables
    ]
    assert [name for name in stays if actual[name] != before[name]] == []
    assert dispatch(["verify", "run"]) == 0


def test_verify_finds_nothing_wrong(kept, capsys):
    status = dispatch(["verify", "run"])

    assert status == 0
    assert capsys.readouterr().out.startswith("7 units, 25 files, ")


def test_verify_says_that_inputs_were_not_recorded(kept, capsys):
    (kept / "photos" / "image-0.png").unlink()

    status = dispatch(["verify", "run", "--inputs"])

    first, second = capsys.readouterr().out.splitlines()
    assert status == 0
    assert first == (
        "7 units without checksums of inputs, or with inputs that are gone: not compared"
    )
    assert second.startswith("7 units, 25 files, ")
    assert second.endswith(", 0 inputs: all as recorded")


def test_a_finished_pack_is_left_as_it_is(kept, capsys):
    expected = packed_files(kept)

    status = dispatch(PACK)

    assert status == 0
    assert "2 done before" in capsys.readouterr().out
    assert packed_files(kept) == expected


def test_a_finished_training_run_is_recognized(kept, capsys):
    expected = files_of(kept / "training")

    status = dispatch(["train", "--config=train.toml", "--output=training"])

    assert status == 0
    assert "training is finished: nothing to do" in capsys.readouterr().out
    assert files_of(kept / "training") == expected


def test_a_training_run_with_another_setting_is_another_one(kept):
    words = ["train", "--config=train.toml", "--output=training", "--set=training.seed=1"]

    with pytest.raises(ConfigurationError, match="holds a run with other settings or data"):
        dispatch(words)

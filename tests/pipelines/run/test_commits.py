"""Commit records: the last thing a unit writes, and the first that is believed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest

from pipelines.run.areas import Tally, TallySum
from pipelines.run.commits import Commit, CommitLog, Output
from pipelines.run.plan import InputFile, WorkUnit
from pipelines.storage import filesystem
from tests.pipelines.corpus import write

UNIT = WorkUnit("images-0", "images", (InputFile("/x/a.jpg", "x", "a.jpg", 3, "1"),))
TALLY = Tally(
    images=2,
    failed_images=1,
    pixels={"0": 5, "nodata": 1},
    area_m2={"0": 0.1 + 0.2},
    footprint_m2=1e300,
)


@pytest.fixture
def log(tmp_path) -> CommitLog:
    return CommitLog(str(tmp_path), "options")


def commit(log: CommitLog, tally: Tally = TALLY, outputs=()) -> Commit:
    return log.write(UNIT, outputs, tally, f"{log.run}/tmp")


def test_a_unit_without_a_record_is_not_done(log):
    assert not log.is_done(UNIT)
    assert log.read(UNIT) is None


def test_a_record_survives_the_way_to_disk_bit_for_bit(log):
    written = commit(log)
    assert log.is_done(UNIT)
    assert log.read(UNIT) == written
    assert log.read(UNIT).tally == TALLY
    assert Commit.from_bytes(written.to_bytes()).to_bytes() == written.to_bytes()


def test_the_name_of_a_record_carries_the_unit_and_the_digest_of_input_and_options(log, tmp_path):
    commit(log)
    (path,) = (tmp_path / "commits").iterdir()
    assert path.name == f"images-0-{UNIT.digest('options')}.json"


def test_a_record_holds_size_and_sha256_of_each_output(log, tmp_path):
    a, b = tmp_path / "a.draft", tmp_path / "b.draft"
    write(a, b"abc")
    write(b, b"")
    outputs = [
        Output.of(
            "labels/x/a.jpg.png", filesystem.publish(str(a), f"{log.run}/labels/x/a.jpg.png")
        ),
        Output.of(
            "areas/images-0.parquet",
            filesystem.publish(str(b), f"{log.run}/areas/images-0.parquet"),
        ),
    ]
    commit(log, outputs=outputs)
    expected = (
        Output("labels/x/a.jpg.png", 3, hashlib.sha256(b"abc").hexdigest()),
        Output("areas/images-0.parquet", 0, hashlib.sha256(b"").hexdigest()),
    )
    assert log.read(UNIT).outputs == expected


def test_an_output_that_was_not_published_cannot_be_committed(log):
    with pytest.raises(AssertionError, match=r"missing.png was not published"):
        Output.of("labels/missing.png", filesystem.Draft("missing").written)


def test_of_two_attempts_the_first_record_stays(log):
    commit(log)
    commit(log, tally=replace(TALLY, images=99))
    assert log.read(UNIT).tally == TALLY


@pytest.mark.parametrize(
    "other",
    [
        replace(UNIT, files=(replace(UNIT.files[0], size=4),)),
        replace(UNIT, files=(replace(UNIT.files[0], version="2"),)),
        replace(UNIT, records=1),
        replace(UNIT, id="images-1"),
    ],
)
def test_a_record_is_not_believed_for_another_input(log, other):
    commit(log)
    assert not log.is_done(other)
    assert log.read(other) is None


def test_a_record_is_not_believed_for_other_options(log):
    commit(log)
    assert not CommitLog(log.run, "other").is_done(UNIT)


def test_a_forgotten_unit_is_done_again(log):
    commit(log)
    log.invalidate(UNIT)
    assert not log.is_done(UNIT)
    log.invalidate(UNIT)


def test_a_record_is_json_that_a_person_can_read(log, tmp_path):
    commit(log)
    (path,) = (tmp_path / "commits").iterdir()
    document = json.loads(path.read_bytes())
    assert document["unit"] == "images-0"
    assert document["tally"]["pixels"] == {"0": 5, "nodata": 1}
    assert document["tally"]["area_m2"] == {"0": 0.30000000000000004}


def test_sums_of_a_record_are_exact_so_that_no_packing_matters(tmp_path):
    areas = [0.1 * n for n in range(1, 40)]
    tallies = [Tally(images=1, area_m2={"0": area}, footprint_m2=area) for area in areas]
    expected = Tally.sum(tallies)
    for size in (1, 3, 39):
        parts = []
        for first in range(0, len(tallies), size):
            part = TallySum()
            for tally in tallies[first : first + size]:
                part.add(tally)
            commit = Commit("u", "d", (), part.exact())
            assert Commit.from_bytes(commit.to_bytes()) == commit
            parts.append(Commit.from_bytes(commit.to_bytes()).tally)
        assert Tally.sum(parts) == expected

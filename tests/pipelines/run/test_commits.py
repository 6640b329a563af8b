"""Commit records: the last thing a unit writes, and the first that is believed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.run.area_tables import area_table, rows_of
from pipelines.run.areas import Tally, TallySum
from pipelines.run.commits import Commit, CommitLog, Output
from pipelines.run.plan import InputFile, WorkUnit
from pipelines.run.seals import unsealed
from pipelines.storage import filesystem
from segmodel.labels.classes import ClassTable, LabelClass
from tests.pipelines.corpus import flipped, write

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
    return log.write(UNIT, outputs, tally)


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


def damage(log: CommitLog) -> None:
    path = Path(log.path(UNIT))
    path.write_bytes(path.read_bytes().replace(b'"0": 5', b'"0": 6', 1))


def without_seal(log: CommitLog, **tally: object) -> CommitLog:
    """The log of a run that began without seals, with the record as 0.1.0 wrote it."""
    path = Path(log.path(UNIT))
    document, _ = unsealed(path.read_bytes())
    document["tally"] |= tally
    path.write_text(json.dumps(document, indent=1) + "\n")
    return replace(log, is_sealed=False, nodata=255)


def test_a_damaged_record_counts_as_absent_and_is_replaced(log):
    commit(log)
    damage(log)
    assert (log.is_done(UNIT), log.read(UNIT), log.read_only(UNIT.id)) == (False, None, None)
    assert not log.is_valid(UNIT, retry_failures=False)
    again = replace(TALLY, images=3)
    commit(log, tally=again)
    assert log.read(UNIT).tally == again


def test_every_changed_bit_of_a_record_is_found(log):
    content = commit(log).to_bytes()
    path, believed = Path(log.path(UNIT)), []
    for place in range(len(content)):
        for bit in range(8):
            path.write_bytes(flipped(content, place, bit))
            believed += [(place, bit)] if log.is_done(UNIT) else []
    assert believed == []


def test_a_record_without_a_seal_is_that_of_a_run_that_began_without(log):
    written = commit(log)
    old = without_seal(log)
    assert log.read(UNIT) is None
    assert old.read(UNIT) == written
    assert old.read(UNIT).to_bytes() == Path(log.path(UNIT)).read_bytes()


def test_a_record_without_a_seal_that_was_rewritten_with_one_is_checked(log):
    commit(log)
    damage(log)
    assert replace(log, is_sealed=False).read(UNIT) is None


@pytest.mark.parametrize(
    ("tally", "is_valid"),
    [
        ({}, True),
        ({"pixels": {"0": 6, "nodata": 1}}, False),
        ({"pixels": {"0": 5}}, False),
        ({"pixels": {"0": 5, "1": 1, "nodata": 1}}, False),
        ({"area_m2": {"0": 1.0}}, False),
        ({"area_m2": {"0": "5404319552844596/18014398509481984"}}, False),
        ({"images": 3}, False),
        ({"failed_images": 2}, False),
        ({"out_of_range": {"0": 1}}, False),
    ],
)
def test_a_record_without_a_seal_is_compared_with_the_rows_of_its_unit(log, tally, is_valid):
    classes = ClassTable((LabelClass(0, "a", (0, 0, 0)), LabelClass(1, "b", (1, 1, 1))))
    images = [
        Tally(images=1, pixels={"0": n, "nodata": 3 - n}, area_m2={"0": n / 10}) for n in (2, 3)
    ]
    table, rows = Path(log.run) / "areas" / "images-0.parquet", "areas/images-0.parquet"
    table.parent.mkdir()
    with area_table(str(table)) as stream:
        for number, image in enumerate(images):
            stream.add(rows_of("x/a.jpg", str(number), image, classes))
    failures = "failures/images-0.jsonl"
    written = filesystem.write_bytes(f"{log.run}/{failures}", b"{}\n", f"{log.run}/tmp")
    outputs = [Output(rows, table.stat().st_size, filesystem.sha256(str(table)))]
    summed = replace(Tally.sum(images), failed_images=1)
    commit(log, tally=summed, outputs=[*outputs, Output.of(failures, written)])
    assert without_seal(log, **tally).is_valid(UNIT, retry_failures=False) is is_valid


@pytest.mark.parametrize("content", [b"{}", b"{}\n{}\n", b"[]\n", None])
def test_rows_of_failures_are_read_at_the_end_so_they_must_be_the_recorded_ones(log, content):
    path = "failures/images-0.jsonl"
    written = filesystem.write_bytes(f"{log.run}/{path}", b"{}\n", f"{log.run}/tmp")
    commit(log, outputs=[Output.of(path, written)])
    assert log.is_valid(UNIT, retry_failures=False)
    (Path(log.run) / path).unlink()
    if content is not None:
        write(Path(log.run) / path, content)
    assert not log.is_valid(UNIT, retry_failures=False)


@pytest.mark.parametrize(
    "path", ["labels/../../precious", "labels/link/precious", "labels/x/../../../precious"]
)
def test_nothing_outside_the_run_directory_is_removed_with_a_record(tmp_path, path):
    write(tmp_path / "precious", b"mine")
    log = CommitLog(str(tmp_path / "run"), "options")
    write(tmp_path / "run" / "labels" / "x" / "a.png", b"ours")
    (tmp_path / "run" / "labels" / "link").symlink_to(tmp_path)
    size, sha256 = 4, hashlib.sha256(b"mine").hexdigest()
    outputs = [Output("labels/x/a.png", size, sha256), Output(path, size, sha256)]
    log.write(UNIT, outputs, TALLY)

    log.discard(log.name(UNIT))

    assert (tmp_path / "precious").read_bytes() == b"mine"
    assert list(log.names()) == []
    # A record that names what is not the run's is not believed at all.
    assert (tmp_path / "run" / "labels" / "x" / "a.png").exists() is (".." in path)

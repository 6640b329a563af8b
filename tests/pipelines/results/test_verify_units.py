"""What is found of one unit: its record is its own, and its files are as the record says."""

from __future__ import annotations

import errno
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.results.verify_units import INVALIDATE, UNREADABLE, Finding, check_unit, path_key
from pipelines.run.areas import Tally
from pipelines.run.commits import CommitLog, Output
from pipelines.run.plan import InputFile, WorkUnit
from pipelines.run.seals import sealed, unsealed
from pipelines.storage import filesystem
from tests.pipelines.corpus import write

UNIT = WorkUnit("images-0", "images", (InputFile("/x/a.jpg", "x", "a.jpg", 3, "1"),))
PATHS = ("labels/x/a.jpg.png", "areas/images-0.parquet", "failures/images-0.jsonl")
TALLY = Tally(
    images=1, failed_images=1, pixels={"0": 5}, ground_pixels={"0": 5}, area_m2={"0": 0.5}
)


@pytest.fixture
def log(tmp_path) -> CommitLog:
    """Of a run with one unit that has written three files."""
    outputs = [
        Output.of(path, filesystem.write_bytes(str(tmp_path / path), b"abc", str(tmp_path / "tmp")))
        for path in PATHS
    ]
    log = CommitLog(str(tmp_path), "options")
    log.write(UNIT, outputs, TALLY)
    return log


def rewrite(log: CommitLog, change: Callable[[bytes], bytes]) -> str:
    """Change the unit's record; gives its path in the run."""
    path = Path(log.path(UNIT))
    before = path.read_bytes()
    path.write_bytes(change(before))
    assert path.read_bytes() != before
    return f"commits/{path.name}"


def with_seal(change: Callable[[dict], object]) -> Callable[[bytes], bytes]:
    """A change after which the record has the right seal again."""

    def changed(content: bytes) -> bytes:
        document, _ = unsealed(content)
        change(document)
        return sealed(json.dumps(document, indent=1))

    return changed


def with_tally(**fields: object) -> Callable[[bytes], bytes]:
    return with_seal(lambda document: document["tally"].update(fields))


def with_output(**fields: object) -> Callable[[bytes], bytes]:
    return with_seal(lambda document: document["outputs"][0].update(fields))


def test_a_unit_that_is_as_recorded_has_no_findings_and_names_its_files(log):
    actual = check_unit(UNIT, log, is_assembled=False)
    assert actual.findings == ()
    assert (actual.unfinished, actual.must_be_invalidated) == (False, False)
    assert actual.commit == log.read(UNIT)
    assert tuple(output.path for output in actual.outputs) == PATHS
    assert actual.names == tuple(map(path_key, (f"commits/{log.name(UNIT)}", *PATHS)))


def test_of_a_block_of_a_finished_scene_only_the_failures_are_left(log, tmp_path):
    for path in PATHS[:2]:
        (tmp_path / path).unlink()
    actual = check_unit(UNIT, log, is_assembled=True)
    assert actual.findings == ()
    assert [output.path for output in actual.outputs] == [PATHS[2]]
    assert actual.names == tuple(map(path_key, (f"commits/{log.name(UNIT)}", PATHS[2])))
    assert actual.commit == log.read(UNIT)


def test_a_unit_without_a_record_is_unfinished_and_need_not_be_invalidated(log):
    log.invalidate(UNIT)
    actual = check_unit(UNIT, log, is_assembled=False)
    assert (actual.unfinished, actual.must_be_invalidated) == (True, False)
    assert [f.path for f in actual.findings] == [f"commits/{log.name(UNIT)}"]
    assert (actual.commit, actual.outputs) == (None, ())


@pytest.mark.parametrize(
    "change",
    [
        lambda content: b"",
        lambda content: b"\xff",
        lambda content: b"[]",
        lambda content: b"3",
        lambda content: b"{}",
        lambda content: content[:-9],
        lambda content: content.replace(b'"0": 5', b'"0": 6', 1),
        lambda content: content.replace(b" ", b"", 1),
        lambda content: json.dumps(unsealed(content)[0], indent=1).encode() + b"\n",
        with_seal(lambda document: document.update(unit="images-1")),
        with_seal(lambda document: document.update(digest="0123456789abcdef")),
        with_seal(lambda document: document.update(weight=3)),
        with_seal(lambda document: document.pop("lost")),
        with_seal(lambda document: document.update(inputs=[])),
        with_seal(lambda document: document.update(inputs=None)),
        with_seal(lambda document: document.update(inputs="0123abcd")),
        with_seal(lambda document: document.update(inputs={"0123abcd": 1})),
        with_seal(lambda document: document.update(inputs=[7])),
        with_seal(lambda document: document.update(inputs=["0123ABCD"])),
        with_seal(lambda document: document.update(inputs=["0123abcd\n"])),
        with_seal(lambda document: document.update(inputs=["0123abcd", None])),
        with_output(size=0.5),
        with_output(size=-1),
        with_output(size=True),
        with_output(path=3),
        with_output(md5="0"),
        with_output(sha256="0"),
        with_output(path="/labels/x"),
        with_output(path="labels/../../x"),
        with_output(path="labels/a\0b"),
        with_output(path="plan/part-00000.jsonl"),
        with_output(path="commits/images-1-0123456789abcdef.json"),
        with_output(path="areas/images-1.parquet"),
        with_output(path="run.json"),
        with_tally(images=None),
        with_tally(images=-1),
        with_tally(pixels={"0": "many"}),
        with_tally(pixels={"0": 0.5}),
        with_tally(pixels=[5]),
        with_tally(pixels=5),
        with_tally(footprint_m2="x"),
        with_tally(footprint_m2="1e4503599627370496"),
        with_tally(footprint_m2="1/0"),
        with_tally(footprint_m2=math.inf),
        with_tally(footprint_m2=math.nan),
        with_tally(area_m2={"0": -1.0}),
        with_tally(weight=3),
    ],
)
def test_a_record_that_is_not_the_units_must_be_invalidated(log, change):
    path = rewrite(log, change)
    actual = check_unit(UNIT, log, is_assembled=False)
    assert actual.findings == (Finding(path, "is no commit record of images-0", INVALIDATE),)
    assert (actual.commit, actual.unfinished, actual.must_be_invalidated) == (None, False, True)
    assert actual.names == (path_key(path),)


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        (b"", "has 0 bytes, 3 are recorded"),
        (b"abcd", "has 4 bytes, 3 are recorded"),
        (b"abd", "has the recorded size, but not the recorded SHA-256"),
        (None, "is not there"),
    ],
)
@pytest.mark.parametrize("path", PATHS)
def test_a_file_that_is_not_as_recorded_is_named(log, tmp_path, path, content, wrong):
    (tmp_path / path).unlink()
    if content is not None:
        write(tmp_path / path, content)
    actual = check_unit(UNIT, log, is_assembled=False)
    assert actual.findings == (Finding(path, wrong, INVALIDATE),)
    assert actual.must_be_invalidated
    assert actual.commit is not None


@pytest.mark.parametrize("function", ["sha256", "read_bytes"])
def test_what_cannot_be_read_now_is_not_invalidated(log, monkeypatch, function):
    def deny(uri: str) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied", uri)

    monkeypatch.setattr(filesystem, function, deny)
    actual = check_unit(UNIT, log, is_assembled=False)
    paths = PATHS if function == "sha256" else [f"commits/{log.name(UNIT)}"]
    wrong = "cannot be read (Permission denied)"
    assert actual.findings == tuple(Finding(path, wrong, UNREADABLE) for path in paths)
    assert (actual.unfinished, actual.must_be_invalidated) == (False, False)


def test_keys_tell_apart_what_python_can_name_and_utf8_cannot():
    keys = {path_key(name) for name in ("a", "A", "a/", "ä", "a\u0308", "\udc80", "")}
    assert len(keys) == 7
    assert all(0 <= key < 2**64 for key in keys)

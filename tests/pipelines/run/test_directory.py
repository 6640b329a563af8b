"""The run directory: made, continued, cleared, and never taken from others."""

from __future__ import annotations

import json
import shutil

import pytest

from pipelines.run.directory import (
    COPY,
    FOLDERS,
    MARK,
    RESULTS,
    RUN_JSON,
    SEALED,
    DamagedRunError,
    RunDirectory,
    check_unchanged,
    lies_in_run,
)
from pipelines.storage import filesystem
from pipelines.storage.digests import digest
from segmodel.errors import ConfigurationError
from tests.pipelines.corpus import flipped, tree, write


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    return RunDirectory(str(tmp_path / "run"))


def fill(root) -> None:
    for name in (*RESULTS, "run.json"):
        write(root / name, json.dumps(MARK).encode())
    for name in FOLDERS:
        write(root / name / "sub" / "x", b"x")


def test_a_new_folder_is_made_with_its_parents(tmp_path):
    run = RunDirectory(str(tmp_path / "a" / "b"))
    assert run.earlier() is None
    run.begin()
    assert (tmp_path / "a" / "b").is_dir()


def test_an_empty_folder_is_taken(tmp_path, run):
    (tmp_path / "run").mkdir()
    assert run.earlier() is None


def test_an_earlier_run_is_continued_with_all_it_holds_but_its_results(tmp_path, run):
    fill(tmp_path / "run")
    run.write_json("run.json", MARK | {"labels": {"batch": 1}})
    before = tree(tmp_path / "run")
    assert run.earlier() == MARK | {"labels": {"batch": 1}}
    assert tree(tmp_path / "run") == before
    run.begin()
    assert tree(tmp_path / "run") == {n: c for n, c in before.items() if n not in RESULTS}


def test_clearing_removes_what_a_run_wrote_and_nothing_else(tmp_path, run):
    fill(tmp_path / "run")
    write(tmp_path / "run" / "notes.txt", b"mine")
    write(tmp_path / "run" / "extra" / "labels" / "x", b"mine")
    run.clear()
    assert tree(tmp_path / "run") == {"notes.txt": b"mine", "extra/labels/x": b"mine"}


def test_a_run_that_is_cleared_stays_a_run_until_all_is_gone(tmp_path, run, monkeypatch):
    fill(tmp_path / "run")
    removed = []
    monkeypatch.setattr(filesystem, "remove", removed.append)
    run.clear()
    assert removed[-1] == run.path("run.json")


def test_a_run_that_was_cleared_begins_beside_its_sample(tmp_path, run):
    fill(tmp_path / "run")
    write(tmp_path / "run" / "sample" / "design.json", b"drawn")
    run.clear()
    assert run.earlier() is None
    assert tree(tmp_path / "run") == {"sample/design.json": b"drawn"}


def test_a_folder_of_someone_else_is_refused(tmp_path, run):
    write(tmp_path / "run" / "thesis.doc", b"mine")
    with pytest.raises(ConfigurationError, match=r"holds files but no run.json: name an empty"):
        run.earlier()


@pytest.mark.parametrize("content", [b'{"wandb": 1}', b"[]", b"not json", b"\xff"])
def test_a_run_json_of_someone_else_is_refused(tmp_path, run, content):
    write(tmp_path / "run" / "run.json", content)
    with pytest.raises(ConfigurationError, match=r"was not written by this beamseg"):
        run.earlier()


@pytest.mark.parametrize("name", ["labels/truth.png", "plan/house.dwg", "areas.csv"])
def test_a_folder_whose_names_only_look_like_a_run_is_refused(tmp_path, run, name):
    write(tmp_path / "run" / name, b"mine")
    with pytest.raises(ConfigurationError, match=r"no run.json"):
        run.earlier()


def test_a_start_that_got_no_further_than_its_scratch_is_begun_again(tmp_path, run):
    write(tmp_path / "run" / "tmp" / "half", b"half")
    assert run.earlier() is None


def test_a_file_in_place_of_the_folder_is_refused(tmp_path, run):
    write(tmp_path / "run", b"")
    with pytest.raises(ConfigurationError, match="run is a file: name a folder"):
        run.earlier()


def test_files_in_any_run_directory_are_known_as_such(tmp_path):
    fill(tmp_path / "in" / "run")
    write(tmp_path / "in" / "a.png", b"")
    write(tmp_path / "in" / "other" / "run.json", b"{}")
    root, known = str(tmp_path / "in"), {}

    def lies(name: str) -> bool:
        return lies_in_run(str(tmp_path / "in" / name), root, known)

    assert lies("run/labels/sub/x")
    assert lies("run/labels/sub/y")
    assert not lies("a.png")
    assert not lies("other/a.png")


def test_a_run_json_that_cannot_be_read_is_not_taken_for_none(tmp_path):
    # Its own memory gives a process an I/O error.
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").symlink_to("/proc/self/mem")
    with pytest.raises(OSError, match="Input/output error"):
        lies_in_run(str(tmp_path / "run" / "a.png"), str(tmp_path), {})


def test_a_json_file_survives_the_way_to_disk_and_back(tmp_path, run):
    run.begin()
    document = {"a": [1, 2.5, None, "é"], "b": {"c": True}}
    run.write_json("summary.json", document)
    assert run.read_json("summary.json") == document
    assert (tmp_path / "run" / "summary.json").read_bytes().endswith(b"}\n")
    assert run.read_json("missing.json") is None


def test_digests_depend_on_values_and_not_on_the_order_of_names():
    document = {"window_px": 512, "halo_px": 0}
    assert digest(document) == digest(dict(reversed(document.items())))
    assert digest(document) != digest(document | {"halo_px": 32})
    assert len(digest(document)) == 16
    assert digest(json.loads(json.dumps(document))) == digest(document)


def test_the_same_label_options_may_continue():
    check_unchanged({"labels": {"a": 1, "b": None}}, {"b": None, "a": 1}, "run")


def test_each_changed_label_option_is_named_with_both_values_and_the_remedies():
    earlier = {"labels": {"window_px": 512, "batch": 1, "confidence": False}}
    labels = {"window_px": 256, "batch": 1, "confidence": True}
    with pytest.raises(ConfigurationError) as caught:
        check_unchanged(earlier, labels, "runs/may")
    assert str(caught.value) == (
        "runs/may was begun with other options: confidence was False and is True; window_px was "
        "512 and is 256. Give the former ones, another --output, or --overwrite to begin again"
    )


def test_a_label_option_that_is_new_or_gone_is_named():
    with pytest.raises(ConfigurationError, match="a was 1 and is None; b was None and is 2"):
        check_unchanged({"labels": {"a": 1}}, {"b": 2}, "run")


SEALED_RUN = MARK | {SEALED: True, "labels": {"batch": 1}, "digests": {}}


@pytest.mark.parametrize("name", [RUN_JSON, COPY])
@pytest.mark.parametrize("damaged", [b"", b"{}", b"x", None])
def test_a_damaged_run_json_is_read_from_its_copy(tmp_path, run, name, damaged):
    run.begin()
    run.write_run(SEALED_RUN)
    path = tmp_path / "run" / name
    content = path.read_bytes()
    if damaged is None:
        path.unlink()
    else:
        path.write_bytes(damaged or flipped(content, content.index(b"batch")))
    assert run.earlier() == SEALED_RUN


def test_a_run_json_that_is_damaged_with_its_copy_is_refused_but_for_overwriting(tmp_path, run):
    run.begin()
    run.write_run(SEALED_RUN)
    for name in (RUN_JSON, COPY):
        path = tmp_path / "run" / name
        path.write_bytes(flipped(path.read_bytes(), 60))
    remedy = "run.json is damaged: put it back from a copy, or begin again with `--overwrite`"
    with pytest.raises(DamagedRunError, match=remedy):
        run.earlier()
    assert run.earlier(overwrite=True) == {}


def test_options_of_a_run_without_seals_are_compared_with_their_digests(run):
    sound = MARK | {"labels": {"batch": 1}, "digests": {"labels": digest({"batch": 1})}}
    run.begin()
    run.write_run(sound)
    assert run.earlier() == sound
    run.write_run(sound | {"labels": {"batch": 2}})
    with pytest.raises(DamagedRunError, match=r"run.json: labels are not those that the run was"):
        run.earlier()


def test_a_run_without_seals_gets_none(tmp_path, run):
    run.begin()
    run.write_run(MARK)
    assert tree(tmp_path / "run") == {RUN_JSON: (json.dumps(MARK, indent=2) + "\n").encode()}


def test_what_links_in_a_run_lead_to_elsewhere_is_not_removed(tmp_path, run):
    fill(tmp_path / "run")
    write(tmp_path / "precious" / "a", b"mine")
    (tmp_path / "run" / "labels" / "link").symlink_to(tmp_path / "precious")
    run.remove("labels/link/a")
    with pytest.raises(ValueError, match="not a path below a folder"):
        run.remove("labels/../../precious/a")
    run.clear()
    assert tree(tmp_path / "precious") == {"a": b"mine"}


@pytest.mark.parametrize("name", ["labels", "labels/in", "commits/a/b", "tmp", "plan"])
@pytest.mark.parametrize("target", ["elsewhere", "nowhere"])
def test_links_to_folders_where_a_run_writes_are_refused(name, target, tmp_path, run):
    (tmp_path / "elsewhere").mkdir()
    fill(tmp_path / "run")
    link = tmp_path / "run" / name
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.exists():
        shutil.rmtree(link)
    link.symlink_to(tmp_path / target)
    for overwrite in (False, True):
        with pytest.raises(ConfigurationError, match=f"^{link}: is a link in a folder that is"):
            run.earlier(overwrite)


def test_a_run_may_be_behind_a_link_and_have_links_where_nothing_is_written(tmp_path):
    fill(tmp_path / "disk")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "disk" / "notes").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "disk" / "labels" / "a.png").symlink_to(write(tmp_path / "a.png", b""))
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    assert RunDirectory(str(tmp_path / "run")).earlier() == MARK

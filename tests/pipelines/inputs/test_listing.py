"""Input files are listed without surprises."""

from __future__ import annotations

import errno
import glob
import os
from pathlib import Path

import pytest

from pipelines.inputs import listing
from pipelines.inputs.find import list_inputs
from pipelines.inputs.listing import find_files, root_of
from segmodel.errors import ConfigurationError
from tests.pipelines.corpus import make_files as make


def names(pattern: Path | str) -> list[str]:
    return [file.name for file in find_files(str(pattern))]


def test_a_folder_gives_all_files_below_it_in_order_of_name(tmp_path):
    make(tmp_path, "b.txt", "a/z.txt", "a/b/c.txt")
    assert names(tmp_path) == ["a/b/c.txt", "a/z.txt", "b.txt"]


def test_hidden_files_and_folders_are_left_out(tmp_path):
    make(tmp_path, "seen.jpg", ".hidden.jpg", ".cache/x.jpg", "sub/.DS_Store", "sub/y.jpg")
    assert names(tmp_path) == ["seen.jpg", "sub/y.jpg"]
    assert names(tmp_path / "**" / "*.jpg") == ["seen.jpg", "sub/y.jpg"]


def test_globs_match_one_level_and_two_stars_match_any(tmp_path):
    make(tmp_path, "a.jpg", "sub/b.jpg", "sub/deep/c.jpg", "sub/d.png")
    assert names(tmp_path / "*.jpg") == ["a.jpg"]
    assert names(tmp_path / "**" / "*.jpg") == ["a.jpg", "sub/b.jpg", "sub/deep/c.jpg"]
    assert names(tmp_path / "*" / "[bd].*") == ["sub/b.jpg", "sub/d.png"]


def test_a_file_is_found_by_its_own_name_whatever_its_characters(tmp_path):
    make(tmp_path, "a[1]*.jpg")
    (file,) = find_files(str(tmp_path / "a[1]*.jpg"))
    assert (file.name, file.size) == ("a[1]*.jpg", 9)
    assert file.version == str(os.stat(file.uri).st_mtime_ns)


def test_a_folder_with_brackets_in_its_name_gives_its_files(tmp_path):
    make(tmp_path / "may [2024]", "a.jpg")
    assert names(tmp_path / "may [2024]") == ["a.jpg"]


def test_a_link_that_leads_nowhere_is_a_file_without_bytes_unless_it_is_named(tmp_path):
    make(tmp_path, "a.jpg")
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere")
    assert [(f.name, f.size) for f in find_files(str(tmp_path))][1:] == [("gone.jpg", 0)]
    assert names(tmp_path / "gone.jpg") == []


def test_what_vanishes_while_it_is_listed_is_left_out(tmp_path, monkeypatch):
    make(tmp_path, "a.jpg", "b.jpg", "gone.jpg", "gone/b.jpg")
    matching = listing._matching

    def vanishing(*arguments):
        for path in matching(*arguments):
            (tmp_path / "b.jpg").unlink(missing_ok=True)
            yield path

    monkeypatch.setattr(listing, "_matching", vanishing)
    monkeypatch.setattr(listing, "_is_looked_into", lambda entry: entry.name.startswith("gone"))
    assert names(tmp_path) == ["a.jpg", "gone/b.jpg"]


@pytest.mark.parametrize("pattern", ["", "**/*.jpg", "**/b*/**"])
def test_files_of_a_large_folder_come_in_order_without_being_sorted_in_memory(
    tmp_path, monkeypatch, pattern
):
    make(tmp_path, "b.jpg", "a-1.jpg", "a/b.jpg", "a.jpg", "a0/b/b.jpg", "a0/b.jpg", "a0/b-.jpg")
    expected = names(tmp_path / pattern)
    monkeypatch.setattr(listing, "NAMES_SORTED", 1)
    assert names(tmp_path / pattern) == expected == sorted(set(expected))
    assert len(expected) == {"": 7, "**/*.jpg": 7, "**/b*/**": 1}[pattern]


GLOBS = ("**", "*", "*.jpg", "**/*.jpg", "sub/**", "sub/*/*", "*/deep/*.jpg", "**/deep/**/*.jpg")
GLOBS += ("s?b/*", "[s]ub/b.jpg", "**/**/c.jpg", ".h*/*", "link/*.jpg", "*/b.jpg", "sub/none*")


@pytest.mark.parametrize("pattern", [*GLOBS, "a.jpg/*", "f[[]1].jpg", "./*/b.jpg"])
def test_a_glob_finds_what_that_of_the_standard_library_does(tmp_path, monkeypatch, pattern):
    make(tmp_path, "a.jpg", "sub/b.jpg", "sub/deep/c.jpg", "sub/deep/er/d.jpg", ".h/e.jpg")
    make(tmp_path, "f[1].jpg")
    (tmp_path / "link").symlink_to(tmp_path / "sub", target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    found = {os.path.normpath(path) for path in glob.glob(pattern, recursive=True)}
    expected = [path for path in sorted(found) if os.path.isfile(path)]
    assert [file.uri for file in find_files(pattern)] == expected


CLOSED = ("", "**/*.jpg", "*/*.jpg", "closed", "closed/*.jpg", "closed/a.jpg")


@pytest.mark.parametrize("pattern", CLOSED)
@pytest.mark.parametrize(
    ("number", "expected"), [(errno.EACCES, ConfigurationError), (errno.EIO, OSError)]
)
def test_what_cannot_be_listed_is_no_empty_folder(tmp_path, monkeypatch, pattern, number, expected):
    make(tmp_path, "a.jpg", "closed/a.jpg")
    scandir, status = os.scandir, os.stat

    def refuse(path: str) -> None:
        if "closed" in str(path):
            raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr("os.scandir", lambda path: refuse(path) or scandir(path))
    if pattern.endswith("/a.jpg"):
        monkeypatch.setattr("os.stat", lambda path, **how: refuse(path) or status(path, **how))
    with pytest.raises(expected, match=os.strerror(number)):
        names(tmp_path / pattern)


def test_a_folder_that_is_left_out_need_not_be_readable(tmp_path, monkeypatch):
    make(tmp_path, "a.jpg", "lost+found/b.jpg")
    scandir = os.scandir

    def refusing(path):
        if "lost+found" in str(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr("os.scandir", refusing)
    (file,) = list_inputs([str(tmp_path)], "no-run", exclude=["lost+found"])
    assert file.name == "a.jpg"
    with pytest.raises(ConfigurationError, match=r"lost\+found may not be read: Permission denied"):
        list_inputs([str(tmp_path)], "no-run", exclude=["*.png"])


@pytest.mark.skipif(os.getuid() != 0, reason="drops rights, which only root has")
def test_a_folder_without_the_right_to_read_it_ends_the_command(tmp_path):
    make(tmp_path, "photos/a.jpg", "photos/closed/b.jpg")
    (tmp_path / "photos" / "closed").chmod(0)
    for folder in (tmp_path, *tmp_path.parents):
        if "pytest-of-" in str(folder):
            folder.chmod(0o755)
    process = os.fork()
    if process == 0:
        os.setuid(65534)
        try:
            names(tmp_path / "photos")
        except ConfigurationError as error:
            os._exit(7 if "photos/closed may not be read" in str(error) else 8)
        os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 7


def test_a_pattern_without_files_gives_none(tmp_path):
    assert names(tmp_path) == []
    assert names(tmp_path / "missing" / "*.jpg") == []


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("photos/*.jpg", "photos"),
        ("./photos/*.jpg", "photos"),
        ("/data/photos/**/*.jpg", "/data/photos"),
        ("*.jpg", "."),
        ("a.jpg", "."),
        ("a*/b/c.jpg", "."),
        ("a/b?/c/d.jpg", "a"),
    ],
)
def test_the_root_of_a_pattern_is_the_folder_below_which_it_varies(pattern, expected):
    assert root_of(pattern) == expected


def test_the_root_of_a_folder_is_the_folder_itself(tmp_path):
    assert root_of(f"{tmp_path}/") == str(tmp_path)


@pytest.mark.parametrize("pattern", ["", "a\0b"])
def test_a_pattern_that_no_file_can_have_matches_none(pattern):
    assert list(find_files(pattern)) == []


def test_folders_that_link_to_each_other_have_a_bound(tmp_path, monkeypatch):
    for name in "abc":
        make(tmp_path / name, "1.jpg")
        for other in sorted({*"abc"} - {name}):
            (tmp_path / name / other).symlink_to(tmp_path / other, target_is_directory=True)
    found = {file.name for file in find_files(str(tmp_path))}
    assert {"a/1.jpg", "a/b/1.jpg", "a/b/c/1.jpg", "c/a/b/1.jpg"} <= found
    monkeypatch.setattr(listing, "MAX_NESTED_LINKS", 3)
    with pytest.raises(ConfigurationError, match="in more than 3 ways: name the folders"):
        list(find_files(str(tmp_path)))

"""Input files are listed without surprises."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipelines.inputs.listing import find_files, root_of
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
    make(tmp_path, "a.jpg", "gone.jpg")
    monkeypatch.setattr(
        "glob.glob", lambda *_, **__: [str(tmp_path / name) for name in ("a.jpg", "vanished.jpg")]
    )
    assert names(tmp_path) == ["a.jpg"]


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

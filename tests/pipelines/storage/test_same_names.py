"""What names are one name on a disk, as it tells itself."""

from __future__ import annotations

import os

import pytest

from pipelines.storage import same_names
from pipelines.storage.same_names import fold_of
from tools.reliability.disks import can_mount, mounted

COMPOSED, DECOMPOSED = "\u00e9", "e\u0301"


def fake_disk(monkeypatch, *pairs: tuple[str, str]) -> None:
    """Have a disk on which these names are one."""
    monkeypatch.setattr(same_names, "_is_one", lambda folder, one, other: (one, other) in pairs)


def test_a_disk_that_tells_all_names_apart_folds_none(tmp_path):
    assert fold_of(str(tmp_path)) is None
    assert os.listdir(tmp_path) == []


def test_letters_are_folded_as_the_disk_folds_them(monkeypatch):
    fake_disk(monkeypatch, ("a", "A"))
    fold = fold_of("anywhere")
    assert fold("in/A.jpg") == fold("in/a.jpg") == fold("IN/a.JPG")
    assert fold("ß") != fold("ss")
    assert fold(COMPOSED) != fold(DECOMPOSED)


def test_a_disk_that_folds_a_sharp_s_folds_all_case(monkeypatch):
    fake_disk(monkeypatch, ("a", "A"), ("ß", "ss"))
    fold = fold_of("anywhere")
    assert fold("STRASSE") == fold("straße") == fold("Strasse")


def test_composed_letters_are_those_that_are_not(monkeypatch):
    fake_disk(monkeypatch, (COMPOSED, DECOMPOSED))
    fold = fold_of("anywhere")
    assert fold(COMPOSED) == fold(DECOMPOSED)
    assert fold("a") != fold("A")
    fake_disk(monkeypatch, (COMPOSED, DECOMPOSED), ("a", "A"))
    fold = fold_of("anywhere")
    assert fold(DECOMPOSED) == fold(COMPOSED.upper())


def test_exfat_folds_letters_one_by_one_and_composes_none(tmp_path):
    if not can_mount("exfat", tmp_path / "probe"):
        pytest.skip("disks are not tested: this process may not mount file systems")
    disk = tmp_path / "disk"
    with mounted("exfat", disk):
        fold = fold_of(str(disk))
        assert os.listdir(disk) == []
        names = ["a.jpg", "A.jpg", "straße", "STRAßE", "strasse", COMPOSED, "É", DECOMPOSED]
        for name in names:
            (disk / name).write_text(name)
        left = len(os.listdir(disk))
    assert len({fold(name) for name in names}) == left == 5

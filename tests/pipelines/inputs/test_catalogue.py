"""Input files on disk: each once, in order, by format and by group."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.inputs import catalogue as catalogue_module
from pipelines.inputs.catalogue import Catalogue, Database, Files, NameSet, in_groups
from pipelines.run.plan import InputFile
from segmodel.errors import TransientError

COUNT = 2500  # more than two pages


def file(name: str, **fields) -> InputFile:
    return InputFile(
        **({"uri": name, "folder": "in", "name": name, "size": 1, "version": "1"} | fields)
    )


def catalogue_of(*names: str) -> Catalogue:
    made = Catalogue()
    for name in names:
        made.add(name, file(name))
    return made


def by_suffix(files: list[InputFile]) -> Iterator[tuple[str, str] | None]:
    for entry in files:
        suffix = entry.name.rpartition(".")[2]
        yield None if suffix == "txt" else (suffix, entry.version + "+")


def numbered(count: int = COUNT) -> tuple[Catalogue, Files]:
    """Files of two formats in turn; gives those of one."""
    made = catalogue_of(*(f"{number}.{'ab'[number % 2]}" for number in range(2 * count)))
    assert len(made.sort(by_suffix)) == 0
    return made, made.of_format("a")


def test_files_come_in_the_order_in_which_they_were_added_each_once():
    made = catalogue_of("b", "a", "b", "c", "a")
    made.add("a", file("another name of it"))
    assert [entry.name for entry in made] == ["b", "a", "c"]
    assert len(made) == 3


@pytest.mark.parametrize("uri", ["a b.png", "日本.png", "caf\udce9.png", "\ud800", "'; --", "😀"])
def test_a_file_comes_back_as_it_was(uri):
    entry = InputFile(uri, "folder", "a\nb/'é'.png", (1 << 63) - 1, "17")
    for place in (uri, "elsewhere"):
        made = Catalogue()
        made.add(place, entry)
        assert list(made) == [entry]


def test_files_are_sorted_by_format_with_the_version_that_was_found():
    made = catalogue_of("1.b", "2.a", "3.txt", "4.b")
    assert len(made.sort(by_suffix)) == 1
    assert [(e.name, e.version) for e in made.of_format("b")] == [("1.b", "1+"), ("4.b", "1+")]
    assert [e.name for e in made.of_format("a")] == ["2.a"]
    assert list(made.of_format("c")) == []


def test_files_of_a_format_are_a_sequence():
    _, files = numbered()
    expected = [f"{number}.a" for number in range(0, 2 * COUNT, 2)]
    assert [entry.name for entry in files] == expected
    assert len(files) == COUNT
    assert (files[0].name, files[-1].name, files[1234].name) == ("0.a", expected[-1], "2468.a")
    assert [entry.name for entry in files[::500]] == expected[::500]
    assert [entry.name for entry in files[:3]] == expected[:3]
    for place in (COUNT, -COUNT - 1):
        with pytest.raises(IndexError):
            files[place]


def test_no_files_are_an_empty_sequence():
    files = Catalogue().of_format("a")
    assert not files
    assert (list(files), files[::5], list(files.in_groups(4)), list(files.by_records())) == (
        [],
        [],
        [],
        [],
    )
    with pytest.raises(IndexError):
        files[0]


def test_a_limit_keeps_the_first_files_with_their_numbers_of_records():
    made, files = numbered(10)
    assert made.limit("a", iter([3, 0, 3, 1])) == 7
    assert [entry.name for entry in files] == ["0.a", "2.a", "4.a", "6.a"]
    found = [(count, [e.name for e in chosen]) for count, chosen in files.by_records()]
    assert found == [(0, ["2.a"]), (1, ["6.a"]), (3, ["0.a", "4.a"])]
    (_, chosen) = list(files.by_records())[2]
    assert (len(chosen), chosen[1].name, chosen[-2].name) == (2, "4.a", "0.a")
    with pytest.raises(IndexError):
        chosen[2]
    assert len(made.of_format("b")) == 10


def test_files_without_a_limit_are_all_of_all_records():
    _, files = numbered(10)
    ((count, chosen),) = files.by_records()
    assert count is None
    assert list(chosen) == list(files)


def test_groups_of_a_list_are_those_of_a_catalogue():
    _, files = numbered(100)
    assert list(in_groups(list(files)[::-1], 7)) == list(files.in_groups(7))


def test_two_readers_of_groups_do_not_disturb_each_other():
    _, files = numbered(100)
    expected = list(files.in_groups(4))
    pairs = list(zip(files.in_groups(4), files.in_groups(4), strict=True))
    assert pairs == list(zip(expected, expected, strict=True))


def test_names_are_a_set_whatever_they_are():
    names = NameSet(["a", "b/é", "caf\udce9", "a"])
    names.update(f"{number}" for number in range(3000))
    names.difference_update(iter(["2999", "none"]))
    assert "caf\udce9" in names
    assert "2999" not in names
    assert set(names) == {"a", "b/é", "caf\udce9", *map(str, range(2999))}
    assert not NameSet()


CHILD = """
import os, sys
from pipelines.inputs.catalogue import NameSet
names = NameSet(str(number) * 20 for number in range(300_000))
paths = [f"/proc/self/fd/{number}" for number in range(3, 50)]
files = [os.stat(path) for path in paths if os.path.exists(path)]
print(len(os.listdir(sys.argv[1])), max(f.st_size for f in files if not f.st_nlink) >> 20)
os.kill(os.getpid(), 9)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_table_larger_than_its_cache_is_in_a_file_without_a_name(tmp_path):
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    environment.pop("SQLITE_TMPDIR", None)
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path)],
        capture_output=True,
        text=True,
        env=environment,
        cwd=Path(catalogue_module.__file__).parents[2],
    )
    assert done.returncode == -9
    names, unnamed_mib = map(int, done.stdout.split())
    assert names == 0
    assert unnamed_mib >= 10
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_named_with_its_remedy():
    tables = Database("PRAGMA max_page_count = 4", "CREATE TABLE names (name TEXT)")
    with pytest.raises(TransientError, match=r"temporary files .* full.*TMPDIR"):
        tables.run_each("INSERT INTO names VALUES (?)", (("x" * 1000,) for _ in range(100)))

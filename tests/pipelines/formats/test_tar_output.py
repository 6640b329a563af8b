"""Archives of label maps: read with the library alone, as others would."""

from __future__ import annotations

import gzip
import io
import json
import struct
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipelines.formats.shards import ShardEntry
from pipelines.formats.tar import TarFormat, safe_key
from pipelines.formats.work import ReadOptions
from tests.fakes import CLASSES, WIDE_CLASSES, WideModel, brightness_labels, contract
from tests.pipelines.archives import (
    END_MARK,
    IMAGES,
    PNGS,
    archive,
    header,
    label_archive,
    members_of,
    padded,
    png_values,
    read,
    write_archive,
)
from tests.pipelines.corpus import failure_rows, make_work, tree

NAMES = ["a.png", "cats/v1.0/b.png", "c.png"]
MEMBERS = list(zip(NAMES, PNGS, strict=False))

# Not in the first releases of Python 3.11.
SAFELY = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}


def entries_of(output: Path) -> list[tuple[str, dict, dict[str, bytes]]]:
    """Key, what its JSON file says, and its other members, of each sample of an archive."""
    samples: list[tuple[str, dict, dict[str, bytes]]] = []
    parts: dict[str, bytes] = {}
    for name, content in members_of(output):
        folder, _, base = name.rpartition("/")
        stem, _, extension = base.partition(".")
        parts[extension] = content
        if extension == "json":
            samples.append((f"{folder}/{stem}".lstrip("/"), json.loads(parts.pop("json")), parts))
            parts = {}
    assert parts == {}
    return samples


@pytest.mark.parametrize("name", ["s.tar", "s.tar.gz", "s.tgz", "S.TAR", "S.TAR.GZ"])
def test_an_archive_in_gives_an_archive_of_the_same_name_and_keys_out(tmp_path, work, name):
    output, tally = label_archive(work, write_archive(tmp_path / "in" / name, archive(MEMBERS)))
    assert output == tmp_path / "run" / "labels" / "in" / name
    assert output.is_file()
    keys = ["a", "cats/v1.0/b", "c"]
    assert [key for key, _, _ in entries_of(output)] == keys
    for number, (_, about, parts) in enumerate(entries_of(output)):
        height, width = IMAGES[number].shape[:2]
        expected = {"record": number, "filename": NAMES[number], "height": height, "width": width}
        assert about == expected
        assert list(parts) == ["labels.png"]
        expected_labels = brightness_labels(IMAGES[number])
        np.testing.assert_array_equal(png_values(parts["labels.png"]), expected_labels)
    assert (tally.images, tally.failed_images) == (3, 0)


def test_label_maps_have_the_palette_of_the_classes_and_their_provenance(tmp_path, work):
    output, _ = label_archive(work, write_archive(tmp_path / "in" / "s.tar", archive(MEMBERS)))
    image = Image.open(io.BytesIO(members_of(output)[0][1]))
    assert image.mode == "P"
    assert image.getpalette() == CLASSES.palette().ravel().tolist()
    assert image.text == {"BEAMSEG_VERSION": "test"}


def test_confidence_stands_beside_the_labels(tmp_path):
    work = make_work(tmp_path / "run", confidence=True)
    white = Image.fromarray(np.full((3, 4, 3), 255, np.uint8))
    buffer = io.BytesIO()
    white.save(buffer, "PNG")
    path = write_archive(tmp_path / "in" / "s.tar", archive([("a.png", buffer.getvalue())]))
    output, _ = label_archive(work, path)
    names = [name for name, _ in members_of(output)]
    assert names == ["a.labels.png", "a.confidence.png", "a.json"]
    assert png_values(members_of(output)[1][1]).tolist() == [[255] * 4] * 3


def test_ids_above_255_are_16_bit_label_maps(tmp_path):
    wide = contract(classes=WIDE_CLASSES)
    work = make_work(tmp_path / "run", contract=wide)
    path = write_archive(tmp_path / "in" / "s.tar", archive(MEMBERS))
    output, _ = label_archive(work, path, WideModel())
    for (_, _, parts), image in zip(entries_of(output), IMAGES, strict=False):
        actual = png_values(parts["labels.png"])
        np.testing.assert_array_equal(actual, np.where(image[..., 0] > 99, 300, 5))


@pytest.mark.parametrize("name", ["s.tar", "s.tar.gz"])
def test_two_runs_write_the_same_bytes(tmp_path, name):
    path = write_archive(tmp_path / "in" / name, archive(MEMBERS))
    first, _ = label_archive(make_work(tmp_path / "one"), path)
    second, _ = label_archive(make_work(tmp_path / "two"), path)
    assert first.read_bytes() == second.read_bytes()


def test_members_have_neither_time_nor_owner_and_gzip_has_neither_time_nor_name(tmp_path, work):
    path = write_archive(tmp_path / "in" / "s.tar.gz", archive(MEMBERS))
    output, _ = label_archive(work, path)
    magic, method, flags, seconds = struct.unpack("<HBBI", output.read_bytes()[:8])
    assert (magic, method, flags, seconds) == (0x8B1F, 8, 0, 0)
    with tarfile.open(output) as source:
        for member in source:
            owner = (member.uid, member.gid, member.uname, member.gname)
            assert (member.mtime, member.mode, owner) == (0, 0o644, (0, 0, "", ""))
    assert gzip.decompress(output.read_bytes())[-1024:] == END_MARK


def test_images_that_failed_leave_no_gap_that_others_fall_into(tmp_path, work):
    members = [("a.png", PNGS[0]), ("b.png", b"text"), ("c.cls", b"1"), ("d.png", PNGS[1])]
    output, tally = label_archive(work, write_archive(tmp_path / "in" / "s.tar", archive(members)))
    assert [(key, about["record"]) for key, about, _ in entries_of(output)] == [("a", 0), ("d", 3)]
    assert (tally.images, tally.failed_images) == (2, 2)
    assert sorted(row["key"] for row in failure_rows(work)) == ["#1 b.png", "#2 c"]


HOSTILE = [
    *["../../x.png", "/etc/passwd.png", "C:\\x.png", "..\\x.png", "a\nb.png", "a\0b.png"],
    *["x" * 300 + ".png", "y/../../z.png", " .png", "caf\udce9.png", "a/./b.png", "a//b.png"],
]


def test_hostile_names_stay_names_and_never_become_paths(tmp_path, work):
    # Others cannot stand in an archive, or are hidden.
    names = [name for name in HOSTILE if ("\0" not in name and name[0] not in ". ") or "/" in name]
    members = [(name, PNGS[number % 6]) for number, name in enumerate(names)]
    output, tally = label_archive(work, write_archive(tmp_path / "in" / "s.tar", archive(members)))
    assert (tally.images, tally.failed_images) == (len(names), 0)
    for number, (key, about, parts) in enumerate(entries_of(output)):
        shown = names[number].replace("\udce9", "\\xe9")
        assert (about["record"], about["filename"]) == (number, shown)
        assert key == f"sample-{number:08d}"
        expected = brightness_labels(IMAGES[number % 6])
        np.testing.assert_array_equal(png_values(parts["labels.png"]), expected)
    assert [name for name in tree(tmp_path) if not name.startswith(("run/", "in/"))] == []
    with tarfile.open(output) as source:
        source.extractall(tmp_path / "out", **SAFELY)
    files = len(names) * 2
    assert len(list((tmp_path / "out").glob("sample-*"))) == files == len(tree(tmp_path / "out"))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_key_is_never_a_path_that_leads_elsewhere(name):
    assert safe_key(name, 7) == "sample-00000007"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.png", "a"),
        ("./a.png", "./a"),
        ("a/b/c.tar.png", "a/b/c_tar"),
        ("v1.0/a", "v1.0/a"),
        (".png", "_png"),
        ("é ü.png", "é ü"),
        ("x" * 200 + ".png", "x" * 200),
        ("x" * 201 + ".png", "sample-00000007"),
        ("é" * 101 + ".png", "sample-00000007"),
    ],
)
def test_a_harmless_name_is_its_own_key(name, expected):
    assert safe_key(name, 7) == expected


def test_equal_keys_do_not_overwrite_each_other_when_unpacked(tmp_path, work):
    names = ["a.png", "a.png", "sample-00000004.png", "./a.png", "../x.png", "a.png"]
    members = [(name, PNGS[number]) for number, name in enumerate(names)]
    path = write_archive(tmp_path / "in" / "s.tar", archive(members))
    output, tally = label_archive(work, path)
    keys = [key for key, _, _ in entries_of(output)]
    expected = ["a", "a-00000001", "sample-00000004", "./a-00000003", "sample-00000004-00000004"]
    assert keys == [*expected, "a-00000005"]
    with tarfile.open(output) as source:
        source.extractall(tmp_path / "out", **SAFELY)
    assert len(tree(tmp_path / "out")) == 2 * tally.images == 12


def test_the_key_is_that_of_the_sample_whatever_the_extension_of_the_image(tmp_path):
    members = [("x/a.jpg", b"text"), ("x/a.rgb.png", PNGS[0]), ("x/b.rgb.png", PNGS[1])]
    work = make_work(tmp_path / "run", reading=ReadOptions(image_field="rgb.png"))
    output, _ = label_archive(work, write_archive(tmp_path / "in" / "s.tar", archive(members)))
    assert [(key, about["filename"]) for key, about, _ in entries_of(output)] == [
        ("x/a", "x/a.rgb.png"),
        ("x/b", "x/b.rgb.png"),
    ]


def test_files_that_are_packed_keep_all_of_their_stem_as_key(tmp_path):
    with TarFormat().writer(str(tmp_path / "s.tar"), False, ("image", "labels")) as writer:
        for number, name in enumerate(["x/a.v1.png", "x/a.v2.png"]):
            writer.add(ShardEntry(number, name, 1, 1, (b"image", "png"), b"map"))
    assert [key for key, _, _ in entries_of(tmp_path / "s.tar")] == ["x/a_v1", "x/a_v2"]


def test_keys_that_are_taken_by_others_are_told_apart(tmp_path):
    target = tmp_path / "s.tar"
    names = ["sample-00000001.png", "../x.png", "b-00000004.png", "b.png", "b.png"]
    with TarFormat().writer(str(target), False, ("labels",)) as writer:
        for number, name in enumerate(names):
            writer.add(ShardEntry(number, name, 1, 1, None, b"map"))
    keys = [key for key, _, _ in entries_of(target)]
    assert keys == [
        *["sample-00000001", "sample-00000001-00000001", "b-00000004", "b", "b-00000004-00000004"]
    ]


def test_archives_of_one_name_in_two_folders_stay_two(tmp_path, work):
    for folder, number in (("one", 0), ("two", 1)):
        path = write_archive(tmp_path / folder / "s.tar", archive([("a.png", PNGS[number])]))
        output, _ = label_archive(work, path)
        ((_, _, parts),) = entries_of(output)
        np.testing.assert_array_equal(
            png_values(parts["labels.png"]), brightness_labels(IMAGES[number])
        )
    assert len(list(Path(work.run.root).rglob("s.tar"))) == 2


def test_rows_name_archive_number_and_member(tmp_path, work):
    members = [("a.png", PNGS[0]), ("x/\nb.png", PNGS[1])]
    label_archive(work, write_archive(tmp_path / "in" / "s.tar", archive(members)))
    (table,) = (Path(work.run.root) / "areas").glob("*.parquet")
    rows = pq.read_table(table).to_pylist()
    keys = {(row["source"], row["key"]) for row in rows}
    assert keys == {("in/s.tar", "#0 a.png"), ("in/s.tar", "#1 x/\nb.png")}


def test_our_archives_are_read_by_their_own_format(tmp_path, work):
    output, _ = label_archive(work, write_archive(tmp_path / "in" / "s.tar", archive(MEMBERS)))
    again = make_work(tmp_path / "again", reading=ReadOptions(image_field=TarFormat.label_field))
    _, tally = label_archive(again, output)
    assert (tally.images, tally.failed_images) == (3, 0)


def test_memory_does_not_grow_with_the_number_of_members(tmp_path, monkeypatch):
    kept = []
    following = tarfile.TarFile.next

    def watched(self):
        kept.append(len(self.members))
        return following(self)

    monkeypatch.setattr(tarfile.TarFile, "next", watched)
    content = b"".join(
        header(f"{number}.{kind}", 3) + padded(b"abc")
        for number in range(10_000)
        for kind in ("txt", "png")
    )
    path = write_archive(tmp_path / "s.tar", content + END_MARK)
    assert len(read(path)) == 10_000
    assert len(kept) > 20_000
    assert max(kept) <= 1


def test_memory_of_the_writer_does_not_grow_with_the_number_of_members(tmp_path):
    entry = ShardEntry(0, "", 1, 1, None, b"map")
    with TarFormat().writer(str(tmp_path / "s.tar"), False, ("labels",)) as writer:
        for number in range(10_000):
            writer.add(replace(entry, number=number, name=f"{number}.png"))
            assert len(writer._archive.members) == 0
    with tarfile.open(tmp_path / "s.tar") as source:
        assert sum(1 for _ in source) == 20_000

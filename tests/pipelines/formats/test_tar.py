"""Tar archives: which members are a sample, and which of them is its image."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
import zlib

import pytest

from pipelines.formats import tar_members
from pipelines.formats.shards import ShardSample, UnreadableSample
from pipelines.formats.tar import TarFormat, _Members
from pipelines.formats.work import ReadOptions
from segmodel.errors import FailureCode
from tests.pipelines.archives import (
    END_MARK,
    IMAGES,
    PNGS,
    archive,
    extended,
    header,
    label_archive,
    names_and_reasons,
    padded,
    pax,
    read,
    special,
    write_archive,
)
from tests.pipelines.corpus import encoded, failure_rows

JPEG = encoded(IMAGES[0], "JPEG")
LONG = "x" * 300


@pytest.mark.parametrize("name", ["a.tar", "a.TAR", "a.tar.gz", "a.tgz", "b/000-of-9.Tar.Gz"])
def test_archives_are_known_by_their_name(name):
    assert TarFormat().matches(name)


@pytest.mark.parametrize("name", ["a.png", "tar", "a.tar.bz2", "a.tar.txt", "a.gz", "a.zip"])
def test_other_files_are_no_archives(name):
    assert not TarFormat().matches(name)


def found(tmp_path, members, image_field=None, layout=tarfile.PAX_FORMAT, name="s.tar"):
    """Number, name and reason of each sample; its image must be the one that was put in."""
    path = write_archive(tmp_path / name, archive(members, layout))
    entries = read(path, ReadOptions(image_field=image_field))
    contents = {str(name): content for name, content in members if isinstance(name, str)}
    for entry in entries:
        if hasattr(entry, "encoded"):
            assert entry.encoded == contents[entry.name]
    return names_and_reasons(entries)


@pytest.mark.parametrize("name", ["s.tar", "s.tar.gz", "s.tgz", "S.TAR.GZ"])
def test_members_of_one_key_are_one_sample(tmp_path, name):
    members = [
        *[("a.jpg", JPEG), ("a.cls", b"7"), ("a.json", b"{}")],
        *[("b.cls", b"1"), ("b.png", PNGS[1]), ("c.webp", encoded(IMAGES[2], "WEBP"))],
    ]
    actual = found(tmp_path, members, name=name)
    assert actual == [(0, "a.jpg", None), (1, "b.png", None), (2, "c.webp", None)]


def test_the_key_ends_at_the_first_dot_of_the_base_name_and_not_in_a_folder(tmp_path):
    members = [
        ("v1.0/cats/001.png", PNGS[0]),
        ("v1.0/cats/001.seg.png", PNGS[1]),
        ("v1.0/cats/001.a.json", b"{}"),
        ("v1.0/cats/002.png", PNGS[2]),
        ("v1.0/dogs/002.png", PNGS[3]),
        ("./003.png", PNGS[4]),
    ]
    names = [members[number][0] for number in (0, 3, 4, 5)]
    actual = found(tmp_path, members)
    assert actual == [(number, name, None) for number, name in enumerate(names)]


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("jpg", "a.jpg"),
        (".jpg", "a.jpg"),
        ("JPG", "a.jpg"),
        ("png", "a.PNG"),
        ("rgb.png", "a.rgb.png"),
        ("Rgb.PNG", "a.rgb.png"),
        ("bin", "a.bin"),
    ],
)
def test_the_user_says_which_extension_is_that_of_the_image(tmp_path, field, expected):
    members = [("a.jpg", JPEG), ("a.PNG", PNGS[0]), ("a.rgb.png", PNGS[1]), ("a.bin", PNGS[2])]
    assert found(tmp_path, members, field) == [(0, expected, None)]


def test_a_sample_with_two_images_is_not_guessed(tmp_path):
    members = [("a.jpg", JPEG), ("a.png", PNGS[0]), ("a.cls", b"1"), ("b.png", PNGS[1])]
    reason = (
        "the sample has 2 members with extension jpg, jpeg, png, webp or tif (jpg, png, cls): "
        "choose one with --image_field"
    )
    assert found(tmp_path, members) == [(0, "a", reason), (1, "b.png", None)]


def test_a_sample_without_an_image_is_a_failure_that_says_what_there_is(tmp_path):
    members = [("a.cls", b"1"), ("a.json", b"{}"), ("b.png", PNGS[1]), ("README", b"hello")]
    reason = "the sample has 0 members with extension {} ({}): choose one with --image_field"
    usual = "jpg, jpeg, png, webp or tif"
    assert found(tmp_path, members) == [
        (0, "a", reason.format(usual, "cls, json")),
        (1, "b.png", None),
        (2, "README", reason.format(usual, "none")),
    ]
    assert found(tmp_path, members[:3], "jpg") == [
        (0, "a", reason.format("jpg", "cls, json")),
        (1, "b", reason.format("jpg", "png")),
    ]


def test_an_extension_that_is_no_utf_8_is_written_out(tmp_path, work):
    name = b"a.\xff\xfe".decode("utf-8", "surrogateescape")
    members = [(name, b"text"), ("b.png", PNGS[0])]
    _, tally = label_archive(work, write_archive(tmp_path / "in" / "s.tar", archive(members)))
    assert (tally.images, tally.failed_images) == (1, 1)
    (row,) = failure_rows(work)
    assert "(\\xff\\xfe): choose one" in row["reason"]


def test_of_a_sample_with_several_images_none_is_kept():
    sample = _Members(0, "a")
    for extension in ("jpg", "png", "tif"):
        sample.add(f"a.{extension}", extension, bytes(1 << 20))
        held = sum(len(part) for part in vars(sample).values() if isinstance(part, bytes))
        assert held == (1 << 20 if extension == "jpg" else 0)
    lost = sample.finished(ReadOptions())
    assert lost.reason.startswith("the sample has 3 members with extension")


def test_members_that_are_no_files_are_told_from_images(tmp_path):
    members = [
        (special("a", tarfile.DIRTYPE), b""),
        (special("a/x.jpg", tarfile.DIRTYPE), b""),
        ("a/0.png", PNGS[0]),
        (special("a/1.png", tarfile.FIFOTYPE), b""),
        (special("a/2.png", tarfile.CHRTYPE), b""),
        ("a/5.png", PNGS[1]),
        (special("a/5.json", tarfile.SYMTYPE, "/etc/passwd"), b""),
    ]
    reason = "is a device, a pipe or the like in the archive: leave it out"
    expected = [(0, "a/0.png", None), *[(n, f"a/{n}.png", reason) for n in (1, 2)]]
    assert found(tmp_path, members) == [*expected, (3, "a/5.png", None)]


@pytest.mark.parametrize("name", ["s.tar", "s.tar.gz"])
def test_a_link_is_the_member_that_it_leads_to_before_or_behind_it(tmp_path, name):
    members = [
        (special("a/behind.png", tarfile.SYMTYPE, "../b/0.png"), b""),
        ("./b/0.png", PNGS[0]),
        ("b/.content", PNGS[1]),
        (special("a/hard.png", tarfile.LNKTYPE, "b/0.png"), b""),
        (special("a/soft.png", tarfile.SYMTYPE, "./../b//.content"), b""),
        (special("a/chain.png", tarfile.SYMTYPE, "soft.png"), b""),
        (special("a/again.png", tarfile.LNKTYPE, "a/hard.png"), b""),
        (special("a/.folder", tarfile.SYMTYPE, "../b"), b""),
        (special("through.png", tarfile.SYMTYPE, "a/.folder/0.png"), b""),
        ("c.png", PNGS[2]),
    ]
    entries = read(write_archive(tmp_path / name, archive(members)))
    actual = [(entry.name, PNGS.index(entry.encoded)) for entry in entries]
    assert actual == [
        ("a/behind.png", 0),
        ("./b/0.png", 0),
        ("a/hard.png", 0),
        ("a/soft.png", 1),
        ("a/chain.png", 1),
        ("a/again.png", 0),
        ("through.png", 0),
        ("c.png", 2),
    ]


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        (tarfile.SYMTYPE, "gone.png"),
        (tarfile.SYMTYPE, "/etc/passwd"),
        (tarfile.SYMTYPE, "../../a/0.png"),
        (tarfile.SYMTYPE, "1.png"),
        (tarfile.SYMTYPE, "folder"),
        (tarfile.LNKTYPE, "0.png"),
        (tarfile.LNKTYPE, ""),
    ],
)
def test_a_link_out_of_the_archive_or_in_a_circle_costs_itself(tmp_path, kind, target):
    members = [
        (special("a/folder", tarfile.DIRTYPE), b""),
        ("a/0.png", PNGS[0]),
        (special("a/1.png", kind, target), b""),
        ("a/2.png", PNGS[1]),
    ]
    first, lost, last = read(write_archive(tmp_path / "s.tar", archive(members)))
    assert [first.encoded, last.encoded] == PNGS[:2]
    assert (lost.name, lost.code) == ("a/1.png", FailureCode.BROKEN_LINK)
    assert "pack the files themselves" in lost.reason


def test_a_link_to_what_is_no_image_says_why_and_links_of_others_are_not_followed(tmp_path):
    members = [
        ("big.png", b"\0" * ((1 << 20) + 8001)),
        (special(".pipe", tarfile.FIFOTYPE), b""),
        (special("a.png", tarfile.LNKTYPE, "big.png"), b""),
        (special("a.json", tarfile.SYMTYPE, "/etc/passwd"), b""),
        (special("b.png", tarfile.SYMTYPE, ".pipe"), b""),
    ]
    entries = read(
        write_archive(tmp_path / "s.tar", archive(members)), ReadOptions(max_pixels=1000)
    )
    expected = [FailureCode.TOO_LARGE, FailureCode.TOO_LARGE, FailureCode.UNSUPPORTED]
    assert [entry.code for entry in entries] == expected


def sparse_archives() -> dict[str, bytes]:
    """A sparse file between two others, in the four ways that the library knows."""
    first = header("a.png", len(PNGS[0])) + padded(PNGS[0])
    last = header("c.png", len(PNGS[1])) + padded(PNGS[1]) + END_MARK
    old = header("b.png", 4, tarfile.GNUTYPE_SPARSE, map=(386, b"00000000000\x0000000000004\0"))
    plain = header("b.png", 4) + padded(b"data")
    v00 = extended(pax("GNU.sparse.size", "4") + pax("GNU.sparse.numblocks", "1"))
    v01 = extended(pax("GNU.sparse.map", "0,4") + pax("GNU.sparse.size", "4"))
    major = pax("GNU.sparse.major", "1") + pax("GNU.sparse.minor", "0")
    v10 = extended(major + pax("GNU.sparse.name", "b.png") + pax("GNU.sparse.realsize", "4"))
    mapped = header("GNUSparseFile.0/b.png", 516) + padded(b"1\n0\n4\n") + padded(b"data")
    return {
        "old": first + old + padded(b"data") + last,
        "0.0": first + v00 + plain + last,
        "0.1": first + v01 + plain + last,
        "1.0": first + v10 + mapped + last,
    }


@pytest.mark.parametrize("kind", ["old", "0.0", "0.1", "1.0"])
def test_a_sparse_file_costs_itself(tmp_path, kind):
    content = sparse_archives()[kind]
    actual = names_and_reasons(read(write_archive(tmp_path / "s.tar", content)))
    reason = "is a sparse file in the archive, which is not read: pack it without tar --sparse"
    assert actual == [(0, "a.png", None), (1, "b.png", reason), (2, "c.png", None)]


LAYOUTS = {"pax": tarfile.PAX_FORMAT, "gnu": tarfile.GNU_FORMAT}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "name",
    [
        f"{LONG}.png",
        f"folder/{LONG}/{LONG}.png",
        "a\nb.png",
        " a b .png",
        "é/ü.png",
        "../../x.png",
        "/etc/x.png",
        "C:\\x.png",
        "a/./b//c.png",
        "caf\udce9.png",
    ],
)
def test_names_come_out_as_they_went_in(tmp_path, name, layout):
    members = [("0.png", PNGS[0]), (name, PNGS[1]), ("9.png", PNGS[2])]
    actual = found(tmp_path, members, layout=LAYOUTS[layout])
    assert actual == [(0, "0.png", None), (1, name, None), (2, "9.png", None)]


@pytest.mark.parametrize("name", ["", "png", "a/png"])
def test_a_name_without_an_extension_is_no_image(tmp_path, name):
    content = header("a.png", len(PNGS[0])) + padded(PNGS[0])
    content += header(name, len(PNGS[1])) + padded(PNGS[1]) + END_MARK
    first, second = read(write_archive(tmp_path / "s.tar", content))
    assert first.name == "a.png"
    assert (second.number, second.name) == (1, name)
    assert second.reason.startswith("the sample has 0 members with extension jpg")


def test_hidden_members_are_left_out_and_do_not_part_a_sample(tmp_path):
    members = [
        *[("._a.png", b"x"), ("a.png", PNGS[0]), ("._a.json", b"x"), ("a.json", b"{}")],
        *[(".DS_Store", b"x"), ("b/.png", PNGS[1]), ("b/._c.png", b"x"), ("b/c.png", PNGS[2])],
    ]
    assert found(tmp_path, members) == [(0, "a.png", None), (1, "b/c.png", None)]


def test_equal_names_are_as_many_samples(tmp_path):
    members = [("a.png", PNGS[0]), ("a.png", PNGS[1]), ("b.png", PNGS[2]), ("a.png", PNGS[3])]
    entries = read(write_archive(tmp_path / "s.tar", archive(members)))
    assert names_and_reasons(entries) == [
        *[(0, "a.png", None), (1, "a.png", None), (2, "b.png", None), (3, "a.png", None)]
    ]
    assert [entry.encoded for entry in entries] == PNGS[:4]


def test_an_image_larger_than_any_within_the_limit_costs_itself(tmp_path):
    members = [("a.png", b"\0" * (1 << 20) + b"\0" * 8001), ("b.png", PNGS[0])]
    path = write_archive(tmp_path / "s.tar", archive(members))
    first, second = read(path, ReadOptions(max_pixels=1000))
    reason = "1056577 bytes are more than any image within --max_pixels has"
    assert (first.name, first.reason) == ("a.png", reason)
    assert second.encoded == PNGS[0]


@pytest.mark.parametrize("name", ["s.tar", "s.tgz"])
def test_an_archive_without_members_has_no_sample(tmp_path, name):
    for content in (archive([]), END_MARK, b"\0" * 512):
        assert read(write_archive(tmp_path / name, content)) == []


@pytest.mark.parametrize("name", ["s.tar", "s.tar.gz", "s.tgz"])
def test_the_content_says_whether_an_archive_is_compressed_and_not_its_name(tmp_path, name):
    content = archive([("a.png", PNGS[0]), ("b.png", PNGS[1])])
    for stored in (content, gzip.compress(content)):
        (tmp_path / name).write_bytes(stored)
        assert [entry.encoded for entry in read(tmp_path / name)] == PNGS[:2]


@pytest.mark.parametrize("name", ["\x1f\udc8b\x08.png", "BZh.png", "x\u0001.png", "PK\x03\x04.png"])
def test_a_name_that_begins_as_compressed_data_do_is_a_name(tmp_path, name):
    path = write_archive(tmp_path / "s.tar", archive([(name, PNGS[0])], tarfile.GNU_FORMAT))
    (entry,) = read(path)
    assert entry.encoded == PNGS[0]


COMPRESSED = {
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zlib": zlib.compress,
    "zstd": lambda content: b"\x28\xb5\x2f\xfd" + content,
    "zip": lambda content: b"PK\x03\x04" + content,
}


@pytest.mark.parametrize("kind", COMPRESSED)
@pytest.mark.parametrize("name", ["s.tar", "s.tar.gz"])
def test_another_compression_is_named_with_the_remedy(tmp_path, kind, name):
    (tmp_path / name).write_bytes(COMPRESSED[kind](archive([("a.png", PNGS[0])])))
    (lost,) = read(tmp_path / name)
    assert lost.reason.startswith(f"the shard is compressed with {kind}, which is not read: ")
    assert (lost.number, lost.code) == (0, FailureCode.UNSUPPORTED)


def test_links_that_take_too_long_to_look_up_lead_nowhere(tmp_path, monkeypatch):
    links = [special(f"b/{number}.png", tarfile.SYMTYPE, "../a.png") for number in range(3)]
    content = archive([("a.png", PNGS[0]), *((link, b"") for link in links)])
    path = write_archive(tmp_path / "a.tar", content)
    assert [type(sample) for sample in read(path)] == [ShardSample] * 4
    # Each name is looked up as the link that it is, and as what that leads to.
    monkeypatch.setattr(tar_members, "MAX_LOOKED_UP_CHARACTERS", 50)
    found = read(path)
    assert [type(sample) for sample in found] == [ShardSample] * 1 + [UnreadableSample] * 3
    assert {sample.code for sample in found[1:]} == {FailureCode.BROKEN_LINK}

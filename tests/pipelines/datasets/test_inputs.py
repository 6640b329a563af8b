"""Images and masks: paired by path, named by it, and refused where they cannot be told apart."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pipelines.datasets.inputs import PackInputs, find_pack_inputs
from pipelines.run.directory import MARK
from segmodel.errors import ConfigurationError
from tests.pipelines.corpus import make_files, write


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data"


def touch(root: Path, *names: str) -> None:
    for name in names:
        write(root / name, name.encode())


def found(root: Path, images, masks=()) -> PackInputs:
    patterns = [[str(root / pattern) for pattern in patterns] for patterns in (images, masks)]
    return find_pack_inputs(*patterns, str(root / "packed"))


def names(pairs: PackInputs) -> list[tuple[str, str | None]]:
    return [(pair.name, pair.mask and pair.mask.key) for pair in pairs.items]


def test_masks_are_found_by_the_path_without_suffix(root):
    touch(root, "images/a/b/001.jpg", "images/a/001.jpg", "images/x.RGB.tif")
    touch(root, "masks/a/b/001.png", "masks/a/001.webp", "masks/x.RGB.png")

    actual = found(root, ["images"], ["masks"])

    assert names(actual) == [
        ("a/001.jpg", "masks/a/001.webp"),
        ("a/b/001.jpg", "masks/a/b/001.png"),
        ("x.RGB.tif", "masks/x.RGB.png"),
    ]
    assert (len(actual.left_aside), actual.unused_masks) == (0, 0)


def test_images_and_masks_may_lie_side_by_side(root):
    touch(root, "1.jpg", "1.png", "2.jpg", "2.png", "3.png")

    actual = found(root, ["*.jpg"], ["*.png"])

    assert names(actual) == [("1.jpg", "data/1.png"), ("2.jpg", "data/2.png")]
    assert actual.unused_masks == 1


def test_images_of_several_roots_are_named_from_the_one_they_have_in_common(root):
    for tile in ("tile1", "tile2"):
        touch(root, f"{tile}/images/1.jpg", f"{tile}/masks/1.png")

    actual = found(root, ["tile1/images", "tile2/images"], ["tile1/masks", "tile2/masks"])

    assert names(actual) == [
        ("tile1/images/1.jpg", "data/tile1/masks/1.png"),
        ("tile2/images/1.jpg", "data/tile2/masks/1.png"),
    ]
    assert [pair.image.key for pair in actual.items] == [
        "data/tile1/images/1.jpg",
        "data/tile2/images/1.jpg",
    ]


def test_an_image_that_two_patterns_match_is_packed_once(root):
    touch(root, "a/1.jpg", "a/b/2.jpg")
    (root / "link.jpg").symlink_to(root / "a" / "1.jpg")

    actual = found(root, ["a", "a/b", "link.jpg"])

    assert [pair.name for pair in actual.items] == ["a/1.jpg", "a/b/2.jpg"]


def test_several_images_may_have_one_mask_by_links(root):
    touch(root, "images/1.jpg", "images/2.jpg", "masks/1.png")
    (root / "masks" / "2.png").symlink_to("1.png")

    assert names(found(root, ["images"], ["masks"])) == [
        ("1.jpg", "masks/1.png"),
        ("2.jpg", "masks/2.png"),
    ]


def test_files_of_other_kinds_and_hidden_ones_are_left_aside(root):
    touch(root, "1.jpg", "notes.txt", ".hidden.jpg", ".thumbnails/1.jpg")

    actual = found(root, ["."])

    assert names(actual) == [("1.jpg", None)]
    assert len(actual.left_aside) == 1


def test_neither_its_own_output_nor_that_of_a_run_is_input(root):
    touch(root, "1.jpg", "packed/train/x.jpg", "run/labels/1.jpg.png")
    write(root / "run" / "run.json", json.dumps(MARK).encode())

    assert names(found(root, ["."])) == [("1.jpg", None)]


def test_label_maps_of_a_run_may_be_masks(root):
    touch(root, "images/1.jpg", "run/labels/images/1.png")
    write(root / "run" / "run.json", json.dumps(MARK).encode())

    actual = found(root, ["images"], ["run/labels/images"])

    assert names(actual) == [("1.jpg", "images/1.png")]


def test_a_name_that_is_no_utf_8_is_written_out(root):
    root.mkdir()
    (root / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"x")

    ((name, _),) = names(found(root, ["."]))

    assert name == "caf\\xe9.jpg"


def test_missing_masks_are_named_and_counted(root):
    touch(root, "images/a/1.jpg", "images/2.jpg", "images/3.jpg", "masks/3.png")

    with pytest.raises(ConfigurationError) as caught:
        found(root, ["images"], ["masks"])

    assert str(caught.value) == (
        f"images/2.jpg has no mask 2.* in {root}/masks, and 1 more have none: add what is missing, "
        f"or name fewer images"
    )


def test_two_masks_for_an_image_are_named(root):
    touch(root, "images/1.jpg", "masks/1.png", "masks/1.tif")
    with pytest.raises(ConfigurationError, match=r"found masks/1\.png and masks/1\.tif: remove"):
        found(root, ["images"], ["masks"])


def test_two_images_for_a_mask_are_named(root):
    touch(root, "images/1.jpg", "images/1.tif", "masks/1.png")
    with pytest.raises(ConfigurationError, match=r"images/1\.jpg and images/1\.tif would have the"):
        found(root, ["images"], ["masks"])


def test_names_may_differ_by_their_suffix_alone(root):
    touch(root, "1.jpg", "1.png")
    assert names(found(root, ["."])) == [("1.jpg", None), ("1.png", None)]


def test_a_pattern_without_images_is_refused(root):
    touch(root, "images/1.jpg", "masks/readme.txt")
    with pytest.raises(ConfigurationError, match=r"--masks .*masks matches no image"):
        found(root, ["images"], ["masks"])
    with pytest.raises(ConfigurationError, match=r"--images .*missing matches no image"):
        found(root, ["missing"])


def test_an_unknown_store_is_refused():
    with pytest.raises(ConfigurationError, match="swift:// locations cannot be read"):
        find_pack_inputs(["swift://bucket/images"], [], "packed")


def test_excluded_images_and_masks_are_not_packed(tmp_path):
    make_files(tmp_path, "images/a.png", "images/draft/b.png", "masks/a.png", "masks/draft/b.png")
    patterns = ([str(tmp_path / "images")], [str(tmp_path / "masks")])
    found = find_pack_inputs(*patterns, "packed", ["draft"])
    assert [(item.image.name, item.mask.name) for item in found.items] == [("a.png", "a.png")]

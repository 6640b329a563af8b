"""Pairs of image and mask, and crops of them."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from PIL import Image

from segmodel.classes import ClassTable, LabelClass
from segmodel.confusion import IGNORED
from segmodel.dataset import MaskCode, Pair, find_pairs, random_crops, read_folders, read_pair
from segmodel.errors import ConfigurationError, InputError

CLASSES = ClassTable((LabelClass(4, "road", (9, 9, 9)), LabelClass(0, "water", (0, 0, 255))))
COLOR = MaskCode(CLASSES, "color", ignore_colors=("#000000", "#FFFFFF"))
ID = MaskCode(CLASSES, "id", ignore_ids=(255,))
ROAD, WATER = 0, 1


def write(path, values, palette: bytes | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(values, np.uint8))
    if palette:
        image.putpalette(palette)
    image.save(path)


@pytest.fixture
def folders(tmp_path):
    images, masks = tmp_path / "images", tmp_path / "masks"
    for number, stem in enumerate("ab"):
        write(images / f"{stem}.png", np.full((2, 3, 3), number))
        write(masks / f"{stem}.png", np.full((2, 3, 3), 9))
    return images, masks


def test_pairs_are_found_by_stem_whatever_the_suffix(folders):
    images, masks = folders
    write(images / "C.JPG", np.zeros((2, 3, 3)))
    write(masks / "C.tif", np.zeros((2, 3, 3)))
    (images / "notes.txt").write_text("not an image")
    actual = [(image.name, mask.name) for image, mask in find_pairs(str(images), str(masks))]
    assert actual == [("C.JPG", "C.tif"), ("a.png", "a.png"), ("b.png", "b.png")]


def test_an_image_without_mask_is_named(folders):
    images, masks = folders
    (masks / "b.png").unlink()
    with pytest.raises(ConfigurationError, match=r"b\.png needs one mask .* found 0"):
        find_pairs(str(images), str(masks))


def test_an_image_with_two_masks_is_named(folders):
    images, masks = folders
    write(masks / "a.tif", np.zeros((2, 3, 3)))
    with pytest.raises(ConfigurationError, match=r"a\.png needs one mask .* found 2"):
        find_pairs(str(images), str(masks))


def test_two_images_of_equal_stem_are_refused(folders):
    images, masks = folders
    write(images / "a.tif", np.zeros((2, 3, 3)))
    with pytest.raises(ConfigurationError, match="a"):
        find_pairs(str(images), str(masks))


def test_a_missing_or_empty_folder_is_named(folders, tmp_path):
    images, _ = folders
    with pytest.raises(ConfigurationError, match="absent is not a folder"):
        find_pairs(str(images), str(tmp_path / "absent"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigurationError, match="empty holds no image"):
        find_pairs(str(tmp_path / "empty"), str(images))


def test_several_folders_are_read_in_order(folders):
    images, masks = map(str, folders)
    pairs = read_folders([images, images], [masks, masks], 3, COLOR)
    assert [pair.name for pair in pairs] == ["a", "b", "a", "b"]
    assert [pair.image[0, 0, 0] for pair in pairs] == [0, 1, 0, 1]
    assert (pairs[0].truth == ROAD).all()


def test_a_mask_of_another_size_is_refused_with_both_sizes(folders):
    images, masks = folders
    write(masks / "a.png", np.zeros((3, 2, 3)))
    with pytest.raises(InputError, match=r"a\.png is 2x3, its image 3x2"):
        read_pair(images / "a.png", masks / "a.png", 3, COLOR)


@pytest.mark.parametrize("broken", ["images", "masks"])
def test_a_file_that_cannot_be_decoded_is_named(folders, broken):
    images, masks = folders
    (images.parent / broken / "a.png").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"a\.png: not a JPEG"):
        read_pair(images / "a.png", masks / "a.png", 3, COLOR)


def test_strange_colours_are_named_with_the_file(folders):
    images, masks = folders
    values = np.full((2, 3, 3), 9)
    values[0, 0] = (1, 2, 255)
    write(masks / "a.png", values)
    with pytest.raises(InputError, match=r"a\.png: mask has color #0102FF, which is neither"):
        read_pair(images / "a.png", masks / "a.png", 3, COLOR)


def test_strange_ids_are_named():
    with pytest.raises(InputError, match="mask has id 1, 2, which"):
        ID.decode(np.array([[4, 0, 2, 1, 255]], np.uint8))


def test_colours_become_indices_and_ignored_ones_count_nowhere():
    mask = np.array([[[9, 9, 9], [0, 0, 255], [0, 0, 0], [255, 255, 255]]], np.uint8)
    actual = COLOR.decode(mask)
    assert actual.tolist() == [[ROAD, WATER, IGNORED, IGNORED]]
    assert actual.dtype == np.int16


def test_ids_become_indices_and_ignored_ones_count_nowhere():
    actual = ID.decode(np.array([[4, 0], [255, 4]], np.uint8))
    assert actual.tolist() == [[ROAD, WATER], [IGNORED, ROAD]]


def test_a_palette_mask_is_read_by_colour_or_by_index(folders):
    images, masks = folders
    palette = bytes([0, 0, 255] + [0] * 9 + [9, 9, 9] + [1] * 753)
    write(masks / "a.png", [[0, 4, 0], [4, 4, 0]], palette)
    expected = [[WATER, ROAD, WATER], [ROAD, ROAD, WATER]]
    for code in (COLOR, ID):
        pair = read_pair(images / "a.png", masks / "a.png", 3, code)
        assert pair.truth.tolist() == expected


def test_two_classes_of_one_colour_are_refused_for_masks_of_colours():
    twice = ClassTable((LabelClass(0, "a", (1, 1, 1)), LabelClass(1, "b", (1, 1, 1))))
    with pytest.raises((ConfigurationError, InputError), match="#010101"):
        MaskCode(twice, "color").decode(np.ones((2, 2, 3), np.uint8))


def pair(height: int, width: int, offset: int = 0) -> Pair:
    """An image whose values are the truth."""
    truth = (np.arange(height * width).reshape(height, width) + offset).astype(np.int16)
    return Pair("p", np.repeat(truth[..., None] % 251, 3, -1).astype(np.uint8), truth)


def test_crop_n_depends_on_seed_and_n_alone():
    pairs = [pair(20, 30), pair(9, 9)]
    first = list(islice(random_crops(pairs, 8, (0, 0, 0), 5), 10))
    later = list(islice(random_crops(pairs, 8, (0, 0, 0), 5, start=4), 6))
    for (image, truth), (expected_image, expected_truth) in zip(later, first[4:], strict=True):
        np.testing.assert_array_equal(image, expected_image)
        np.testing.assert_array_equal(truth, expected_truth)
    other = list(islice(random_crops(pairs, 8, (0, 0, 0), 6), 10))
    assert any((a[1] != b[1]).any() for a, b in zip(first, other, strict=True))


def test_image_and_truth_are_cropped_alike():
    for image, truth in islice(random_crops([pair(20, 30)], 8, (0, 0, 0), 0), 30):
        assert image.shape == (8, 8, 3)
        np.testing.assert_array_equal(image[..., 0], truth % 251)


def test_crops_reach_every_corner():
    corners = {
        (int(truth[0, 0]) // 4, int(truth[0, 0]) % 4)
        for _, truth in islice(random_crops([pair(4, 4)], 2, (0, 0, 0), 0), 200)
    }
    assert corners == {(row, column) for row in range(3) for column in range(3)}


def test_what_lies_beyond_a_small_image_is_filled_and_ignored():
    ((image, truth),) = islice(random_crops([pair(2, 3)], 4, (7, 8, 9), 0), 1)
    expected = np.full((4, 4), IGNORED)
    expected[:2, :3] = pair(2, 3).truth
    np.testing.assert_array_equal(truth, expected)
    assert (image[expected == IGNORED] == (7, 8, 9)).all()
    np.testing.assert_array_equal(image[:2, :3], pair(2, 3).image)


def test_images_are_drawn_by_their_area():
    pairs = [pair(10, 10), pair(10, 90, offset=1000)]
    crops = islice(random_crops(pairs, 2, (0, 0, 0), 1), 500)
    large = sum(int(truth[0, 0]) >= 1000 for _, truth in crops)
    assert 420 < large < 480

"""The survey: everything wrong is found before training, and every pixel is counted once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segmodel.errors import ConfigurationError, InputError
from segmodel.labels.classes import ClassTable, LabelClass
from segmodel.labels.confusion import IGNORED
from segmodel.labels.masks import MaskReader
from segmodel.pairs import stats
from segmodel.pairs.pairs import PairSource
from segmodel.pairs.stats import BLOCK_PX, collect_stats
from segmodel.tiling.windows import Window
from tests.segmodel.folder_pairs import read_folders
from tests.segmodel.made_pairs import ArrayPair, table
from tests.segmodel.pairs.test_pairs import geotiff

CLASSES = ClassTable((LabelClass(4, "road", (9, 9, 9)), LabelClass(0, "water", (0, 0, 255))))


def pair(truth: np.ndarray, name: str = "p") -> ArrayPair:
    image = np.zeros((*truth.shape, 1), np.uint8)
    return ArrayPair(name, image, truth.astype(np.int16))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Twelve good pairs with colours."""
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    mask = np.full((4, 5, 3), 9, np.uint8)
    mask[0] = (0, 0, 255)
    for number in range(12):
        save(tmp_path / "images" / f"{number:02d}.png", np.zeros((4, 5, 3), np.uint8))
        save(tmp_path / "masks" / f"{number:02d}.png", mask)
    return tmp_path


def save(path: Path, values: np.ndarray) -> None:
    Image.fromarray(values).save(path)


def surveyed(root: Path, encoding: str = "color", classes: ClassTable = CLASSES, empty=False):
    source = PairSource(("red", "green", "blue"), "uint8", MaskReader.of(classes, encoding))
    pairs = read_folders([str(root / "images")], [str(root / "masks")], source, None)
    return collect_stats(pairs, classes, empty)


def test_some_pairs_of_a_survey_have_what_a_survey_of_them_finds():
    random = np.random.default_rng(0)
    truths = [random.integers(IGNORED, 3, (2, BLOCK_PX + n)) for n in range(4)]
    pairs = [pair(truth, str(n)) for n, truth in enumerate(truths)]
    found = collect_stats(pairs, table(3), True).subset([3, 1])
    expected = collect_stats([pairs[3], pairs[1]], table(3), True)
    assert (found.images, found.counts.tolist()) == (2, expected.counts.tolist())
    for one, other in zip(found.blocks, expected.blocks, strict=True):
        assert (one.pair, one.window) == (other.pair, other.window)
        assert (one.classes.tolist(), one.counts.tolist()) == (
            other.classes.tolist(),
            other.counts.tolist(),
        )


def test_every_pixel_is_counted_once_in_the_block_it_is_in():
    random = np.random.default_rng(0)
    shapes = [(1, 1), (BLOCK_PX, BLOCK_PX), (BLOCK_PX + 1, 2 * BLOCK_PX - 1), (3, 9 * BLOCK_PX)]
    truths = [random.integers(IGNORED, 3, shape) for shape in shapes]
    pairs = [pair(truth, str(n)) for n, truth in enumerate(truths)]

    survey = collect_stats(pairs, table(3), allow_empty=False)

    assert survey.images == 4
    for index in range(3):
        assert survey.counts[index] == sum((truth == index).sum() for truth in truths)
    covered = [np.zeros(shape, int) for shape in shapes]
    for block in survey.blocks:
        covered[block.pair][block.window.slices] += 1
        part = truths[block.pair][block.window.slices]
        values, counts = np.unique(part[part != IGNORED], return_counts=True)
        assert block.classes.tolist() == values.tolist()
        assert block.counts.tolist() == counts.tolist()
        assert max(block.window.height, block.window.width) <= BLOCK_PX
    assert all((times == 1).all() for times in covered)
    assert [block.pair for block in survey.blocks] == [0, 1, *[2] * 4, *[3] * 9]


def test_classes_are_counted_by_image_as_far_as_they_are_there():
    truths = [np.zeros((2, 3)), np.full((2, 2), IGNORED), np.zeros((2, 2 * BLOCK_PX))]
    truths[2][:, -5:], truths[2][:, 0] = 2, 1
    survey = collect_stats([pair(truth, str(n)) for n, truth in enumerate(truths)], table(4), True)

    assert [(c.tolist(), n.tolist()) for c, n in survey.per_image()] == [
        ([0], [6]),
        ([], []),
        ([0, 1, 2], [4 * BLOCK_PX - 12, 2, 10]),
    ]
    size = 4 * BLOCK_PX
    assert survey.image_pixels.tolist() == [6 + size, size, size, 0]


def test_good_pairs_are_counted(root):
    survey = surveyed(root)
    assert survey.counts.tolist() == [12 * 15, 12 * 5]
    assert (survey.images, len(survey.blocks)) == (12, 12)


def test_every_faulty_file_is_in_one_error_with_its_value(root):
    masks, images = root / "masks", root / "images"
    save(masks / "01.png", np.full((4, 5, 3), 7, np.uint8))
    save(masks / "03.png", np.full((5, 4, 3), 9, np.uint8))
    save(masks / "04.png", np.full((4, 5), 9, np.uint16))
    content = (images / "06.png").read_bytes()
    (images / "06.png").write_bytes(content[:-16])
    (images / "08.png").write_bytes(b"")
    (masks / "10.png").write_bytes(b"text")

    with pytest.raises(InputError) as caught:
        surveyed(root)

    title, _, faults = str(caught.value).partition(": ")
    assert title == "6 pairs that cannot be used"
    lines = faults.split("; ")
    expected = [
        "masks/01.png: mask has color #070707, which is neither a class nor ignored",
        "masks/03.png: the mask is 4x5, its image 5x4",
        "masks/04.png: the mask has 16 bits a sample",
        "images/06.png: truncated or corrupt PNG",
        "images/08.png: empty file",
        "masks/10.png: not a JPEG, PNG, WebP or TIFF image",
    ]
    assert len(lines) == len(expected)
    for line, words in zip(lines, expected, strict=True):
        assert words in line


def test_the_first_ten_faulty_files_end_the_survey(root):
    for number in range(12):
        save(root / "masks" / f"{number:02d}.png", np.full((4, 5, 3), number + 50, np.uint8))
    with pytest.raises(InputError) as caught:
        surveyed(root)
    title, _, faults = str(caught.value).partition(": ")
    assert title == "the first 10 pairs that cannot be used"
    lines = faults.split("; ")
    assert [line.split(": ")[0][-6:] for line in lines] == [f"{n:02d}.png" for n in range(10)]
    assert "09.png: mask has color #3B3B3B" in lines[9]


def test_an_image_whose_header_says_no_pixels_is_refused(root):
    content = bytearray((root / "images" / "00.png").read_bytes())
    content[16:20] = bytes(4)
    (root / "images" / "00.png").write_bytes(content)
    with pytest.raises(InputError, match=r"1 pair that cannot be used: .*images/00\.png: "):
        surveyed(root)


def test_a_pair_without_pixels_is_refused():
    with pytest.raises(InputError, match="p: the image has no pixels"):
        collect_stats([pair(np.zeros((0, 5)))], table(1), allow_empty=False)


def test_ids_out_of_range_are_refused(root):
    for number in range(12):
        save(root / "masks" / f"{number:02d}.png", np.full((4, 5), 4 + number // 11, np.uint8))
    with pytest.raises(InputError, match=r"masks/11\.png: mask has id 5, which is neither"):
        surveyed(root, "id")


def test_a_raster_that_is_cut_off_is_found(root):
    values = np.random.default_rng(0).integers(0, 255, (3, 64, 64)).astype(np.uint8)
    path = geotiff(root / "images" / "x.tif", values)
    path.write_bytes(path.read_bytes()[:-5000])
    save(root / "masks" / "x.png", np.full((64, 64, 3), 9, np.uint8))
    with pytest.raises(InputError, match=r"images/x\.tif: pixels of .* cannot be read"):
        surveyed(root)


def test_a_class_without_a_pixel_is_named_unless_it_may_be_empty(root):
    more = ClassTable((*CLASSES.classes, LabelClass(7, "field", (1, 1, 1))))
    with pytest.raises(ConfigurationError, match=r"no .* mask has a pixel of 'field' \(id 7\)"):
        surveyed(root, classes=more)
    assert surveyed(root, classes=more, empty=True).counts.tolist() == [180, 60, 0]


def test_masks_without_any_class_are_refused_even_if_classes_may_be_empty():
    with pytest.raises(ConfigurationError, match="all of them are ignored"):
        collect_stats([pair(np.full((3, 3), IGNORED))], table(2), allow_empty=True)


def test_nothing_to_survey_is_refused():
    with pytest.raises(ConfigurationError, match="there is no image with a mask"):
        collect_stats([], table(2), allow_empty=True)


def test_progress_is_told(monkeypatch):
    monkeypatch.setattr(stats, "_LOG_SECONDS", 0.0)
    lines: list[str] = []
    collect_stats([pair(np.zeros((2, 2)))] * 2, table(1), allow_empty=False, log=lines.append)
    assert lines == [f"checked {n} of 2 images with masks" for n in (1, 2)]


def test_a_fault_of_ours_is_not_taken_for_one_of_the_files():
    class Broken(ArrayPair):
        def truth(self, window: Window) -> np.ndarray:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        collect_stats([Broken("p", np.zeros((2, 2, 1)), np.zeros((2, 2)))], table(1), True)

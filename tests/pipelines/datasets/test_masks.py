"""Masks to label maps: three encodings, and what is no mask."""

from __future__ import annotations

import io
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines import earth
from pipelines.datasets.launch import read_masks
from segmodel.errors import ConfigurationError, InputError
from segmodel.labels import masks
from segmodel.labels.masks import MaskReader
from segmodel.training.configuration_file import load_mask_config
from tests.pipelines.corpus import encoded, png, write

CLASSES = """\
[data]
ignore_colors = ["#000000"]
ignore_ids = [9]

[[classes]]
id = 4
name = "road"
color = "#102030"

[[classes]]
id = 2
name = "field"
color = "#405060"
"""
IDS = np.array([[4, 2, 9], [2, 2, 4]], np.uint8)
LABELS = np.array([[4, 2, 255], [2, 2, 4]], np.uint8)
COLORS = {4: (0x10, 0x20, 0x30), 2: (0x40, 0x50, 0x60), 9: (0, 0, 0)}
MAX = 1000


def reader(folder: Path, encoding: str | None, text: str = CLASSES) -> MaskReader:
    file = write(folder / "classes.toml", text.encode())
    found = read_masks(str(file), encoding)
    assert found is not None
    return found


def indexed(ids: np.ndarray) -> bytes:
    image = Image.fromarray(ids)
    image.putpalette([value for i in range(256) for value in COLORS.get(i, (i, i, i))])
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def colored(ids: np.ndarray) -> np.ndarray:
    return np.array([[COLORS[int(i)] for i in row] for row in ids], np.uint8)


@pytest.mark.parametrize(
    ("encoding", "content"),
    [
        ("color", png(colored(IDS))),
        ("color", encoded(colored(IDS), "TIFF")),
        ("color", indexed(IDS)),
        (None, png(colored(IDS))),
        ("palette", indexed(IDS)),
        ("id", png(IDS[..., None])),
        ("id", png(IDS.astype(np.uint16))),
    ],
)
def test_each_encoding_gives_class_ids_and_nodata_where_ignored(tmp_path, encoding, content):
    actual = reader(tmp_path, encoding).read(content, (2, 3), MAX)

    np.testing.assert_array_equal(actual, LABELS)
    assert actual.dtype == np.uint8


def test_label_maps_are_encoded_with_class_ids_and_colours(tmp_path):
    mask_reader = reader(tmp_path, "id")

    with Image.open(io.BytesIO(mask_reader.encode(LABELS))) as image:
        np.testing.assert_array_equal(np.asarray(image), LABELS)
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), colored(IDS))


def test_ids_of_16_bits_are_kept(tmp_path):
    wide = CLASSES.replace("id = 4", "id = 300")
    mask_reader = reader(tmp_path, "id", wide)

    actual = mask_reader.read(png(np.array([[300, 2, 9]], np.uint16)), (1, 3), MAX)

    np.testing.assert_array_equal(actual, np.array([[300, 2, 65535]], np.uint16))
    with Image.open(io.BytesIO(mask_reader.encode(actual))) as image:
        np.testing.assert_array_equal(np.asarray(image), actual)


def test_strips_make_no_difference(tmp_path, monkeypatch):
    monkeypatch.setattr(masks, "STRIP_PIXELS", 3)
    ids = np.random.default_rng(0).choice(np.array([2, 4, 9], np.uint8), (10, 7))

    actual = reader(tmp_path, "id").read(png(ids[..., None]), (10, 7), MAX)

    np.testing.assert_array_equal(actual, np.where(ids == 9, 255, ids))


@pytest.mark.parametrize("shape", [(1, 1 << 20), (1 << 20, 1), (1024, 1024)])
def test_strips_take_little_memory_whatever_the_shape(tmp_path, shape):
    values = np.full(shape, 4, np.uint8)
    mapping = reader(tmp_path, "id").mapping
    tracemalloc.start()
    try:
        masks.label_map(values, mapping)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 12 * values.size


def test_the_limit_of_pixels_is_that_of_the_user_and_not_that_of_pillow(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    ids = np.full((30, 7), 4, np.uint8)
    actual = reader(tmp_path, "id").read(png(ids[..., None]), ids.shape, MAX)
    np.testing.assert_array_equal(actual, ids)


STRANGE_COLOR = colored(IDS)
STRANGE_COLOR[1, 1] = (1, 2, 3)


@pytest.mark.parametrize(
    ("encoding", "content", "reason"),
    [
        ("color", png(STRANGE_COLOR), "mask has color #010203, which is neither a class nor"),
        ("id", png(IDS[..., None] + 1), "mask has id 3, 5, 10, which is neither"),
        ("palette", indexed(IDS + 1), "mask has id 3, 5, 10, which is neither"),
        ("id", indexed(IDS), "indexed image: mask_encoding palette takes its indices"),
        ("palette", png(IDS[..., None]), "no indexed image: mask_encoding id takes grey levels"),
        ("id", png(colored(IDS)), "a mask of ids has one band, got mode RGB"),
        ("color", png(colored(IDS))[:60], "truncated or corrupt PNG"),
        ("color", b"", "empty file"),
        ("color", b"text", "not a JPEG, PNG, WebP or TIFF image"),
        ("color", png(colored(IDS[:, :2])), "the mask is 2x2, its image 3x2"),
        ("color", png(np.zeros((40, 40, 3), np.uint8)), "the mask is 40x40, its image 3x2"),
    ],
)
def test_what_is_no_mask_says_why(tmp_path, encoding, content, reason):
    with pytest.raises(InputError, match=reason):
        reader(tmp_path, encoding).read(content, (2, 3), MAX)


def test_a_configuration_of_a_training_run_will_do():
    config = load_mask_config(Path(earth.__file__).with_name("train.toml"))
    assert config.classes.names == ("ocean", "land", "lake")
    assert config.mask_encoding is None


def test_the_file_may_name_the_encoding_and_the_option_comes_first(tmp_path):
    text = CLASSES.replace("[data]", '[data]\nmask_encoding = "id"\nimages = "training/images"')
    assert reader(tmp_path, None, text).encoding == "id"
    assert reader(tmp_path, "color", text).encoding == "color"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('"#405060"', '"#102030"', "color #102030 stands for more than one class"),
        ('"#000000"', '"black"', "color must look like #8429F6, got 'black'"),
        ("ignore_ids", "ignored_ids", "unknown key data.ignored_ids: did you mean data.ignore_ids"),
        ("[[classes]]", "[[klasses]]", "unknown key klasses: did you mean classes"),
        ("id = 2", "id = 4", "id 4 occurs more than once"),
        (
            "[data]",
            '[data]\nmask_encoding = "rgb"',
            "data.mask_encoding must be 'color', ",
        ),
        ("[data]", "[data", "classes.toml: "),
        (CLASSES, "", "at least one class is needed"),
    ],
)
def test_a_malformed_file_is_named_with_what_is_wrong(tmp_path, old, new, reason):
    with pytest.raises(ConfigurationError, match=f"classes.toml: .*{reason}|{reason}") as caught:
        reader(tmp_path, None, CLASSES.replace(old, new))
    assert "classes.toml" in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"missing\.toml: no such file"):
        load_mask_config(tmp_path / "missing.toml")

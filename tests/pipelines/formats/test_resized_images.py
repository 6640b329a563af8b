"""Runs that scale images for the model: maps, counts and ground are those of the images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipelines.formats.work import ReadOptions
from pipelines.run.commits import CommitLog
from segmodel.images.encoded import decode_pixels
from segmodel.tiling.resampling import SourceGrid, resize_image, resize_valid
from segmodel.tiling.windows import Layout
from tests.fakes import WIDE_CLASSES, BrightnessModel, WideModel, brightness_labels, contract
from tests.pipelines.corpus import (
    encoded,
    failure_rows,
    make_work,
    pixels,
    png,
    read_png,
    run_unit,
    units_in,
    write,
)


def images() -> dict[str, bytes]:
    clear = np.dstack([pixels(50, 70, 1), (pixels(50, 70, 2, 1) > 60) * np.uint8(255)])
    return {
        "a.png": png(pixels(100, 90, 0)),
        "b.png": png(clear),
        "c.jpg": encoded(pixels(33, 200, 3), "JPEG"),
        "d.png": png(pixels(1, 1, 4)),
        "e.png": png(pixels(64, 96, 5)),
    }


def expected_labels(content: bytes, size: tuple[int, int]) -> np.ndarray:
    """Labels of the scaled image, brought back."""
    whole = decode_pixels(content, 3)
    labels = brightness_labels(resize_image(whole.values, size))
    if whole.valid is not None:
        labels[~resize_valid(whole.valid, size)] = 255
    height, width = whole.values.shape[:2]
    return SourceGrid(height, width, True, whole.valid).to_source_grid(labels, 255)


@pytest.mark.parametrize("size", [(64, 96), (16, 16), (1, 1), (200, 150)])
def test_labels_of_scaled_images_have_the_size_of_the_images(tmp_path, size):
    work = make_work(tmp_path / "run", reading=ReadOptions(resize=size), pixel_size_m=2.0)
    for name, content in images().items():
        write(tmp_path / "in" / name, content)
    (unit,) = units_in(work, tmp_path / "in")
    report = run_unit(unit, work)
    total = 0
    for name, content in images().items():
        actual = read_png(Path(work.run.root) / "labels" / "in" / f"{name}.png")
        expected = expected_labels(content, size)
        np.testing.assert_array_equal(actual, expected)
        assert actual.shape == decode_pixels(content, 3).values.shape[:2]
        total += expected.size
    assert report.computed_pixels == total
    tally = CommitLog(work.run.root, work.options).read(unit).tally
    assert sum(tally.pixels.values()) == total
    (table,) = (Path(work.run.root) / "areas").glob("*.parquet")
    rows = pq.read_table(table).to_pylist()
    assert sum(row["pixels"] for row in rows) == total
    assert sum(row["area_m2"] for row in rows) == 4.0 * total


def test_images_that_are_as_large_as_they_are_scaled_to_keep_their_labels(tmp_path):
    values = pixels(64, 96, 5)
    write(tmp_path / "in" / "e.png", png(values))
    work = make_work(tmp_path / "run", reading=ReadOptions(resize=(64, 96)))
    (unit,) = units_in(work, tmp_path / "in")
    run_unit(unit, work)
    actual = read_png(Path(work.run.root) / "labels" / "in" / "e.png.png")
    np.testing.assert_array_equal(actual, brightness_labels(values))


def test_all_scaled_images_share_batches(tmp_path):
    for name, content in images().items():
        write(tmp_path / "in" / name, content)
    layout = Layout(64, 0, 32, batch=5)
    work = make_work(tmp_path / "run", reading=ReadOptions(resize=(64, 64)), layout=layout)
    (unit,) = units_in(work, tmp_path / "in")
    model = BrightnessModel()
    run_unit(unit, work, model)
    assert model.batches == [(5, 64, 64, 3)]


def test_maps_of_16_bits_are_scaled_back(tmp_path):
    values = np.zeros((4, 8, 4), np.uint8)
    values[:, 4:, 0], values[..., 3], values[0, 0, 3] = 200, 255, 0
    write(tmp_path / "in" / "a.png", png(values))
    wide = contract(classes=WIDE_CLASSES)
    work = make_work(tmp_path / "run", contract=wide, reading=ReadOptions(resize=(2, 4)))
    (unit,) = units_in(work, tmp_path / "in")
    run_unit(unit, work, WideModel())
    actual = read_png(Path(work.run.root) / "labels" / "in" / "a.png.png")
    expected = np.repeat([[5, 300]], 4, axis=1).repeat(4, axis=0)
    expected[0, 0] = 65535
    np.testing.assert_array_equal(actual, expected)


def test_images_above_the_greatest_number_of_pixels_fail_by_themselves(tmp_path):
    write(tmp_path / "in" / "a.png", png(pixels(10, 10)))
    write(tmp_path / "in" / "b.png", png(pixels(10, 11)))
    work = make_work(tmp_path / "run", reading=ReadOptions(max_pixels=100))
    (unit,) = units_in(work, tmp_path / "in")
    run_unit(unit, work)
    (row,) = failure_rows(work)
    assert (row["uri"], row["stage"]) == ("in/b.png", "open")
    assert row["reason"].startswith("11x10 pixels exceed the limit of 100: raise --max_pixels")
    assert (Path(work.run.root) / "labels" / "in" / "a.png.png").exists()
    assert not (Path(work.run.root) / "labels" / "in" / "b.png.png").exists()

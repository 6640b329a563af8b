"""Seams: what is labelled twice, and whether the two labels differ."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segmodel.engine.engine import Engine
from segmodel.engine.read_ahead import Job
from segmodel.errors import ConfigurationError
from segmodel.tiling.raster import ArrayRaster
from segmodel.tiling.seams import NEAR_PX, border_tiles, near_px, seam_pixels
from segmodel.tiling.windows import Layout, Window, spans
from tests.examples import examples
from tests.fakes import BRIGHT, DARK, MIDDLE, BrightnessModel

many = settings(max_examples=examples(200), deadline=None)


@st.composite
def cases(draw) -> tuple[Window, Window, Layout]:
    """A raster, an area of it and a layout with a halo that may be larger than a core."""
    stride = draw(st.sampled_from([1, 2, 4, 8]))
    layout = Layout(stride * draw(st.integers(1, 5)), draw(st.integers(0, 12)), stride)
    height, width = draw(st.integers(1, 70)), draw(st.integers(1, 70))
    row = stride * draw(st.integers(0, (height - 1) // stride))
    column = stride * draw(st.integers(0, (width - 1) // stride))
    area = Window(
        row, column, draw(st.integers(1, height - row)), draw(st.integers(1, width - column))
    )
    return Window(0, 0, height, width), area, layout


def borders(start: int, length: int, whole: int, layout: Layout) -> list[int]:
    """Where cores along an axis meet each other or the rest of the raster."""
    cores = list(spans(start, length, layout))
    edges = [first for first, _ in cores] + [start + length]
    return [edge for edge in edges if 0 < edge < whole]


@many
@given(cases())
def test_what_is_labelled_again_is_all_within_reach_of_a_border_and_nothing_else(case):
    raster, area, layout = case
    near_row = np.zeros(raster.height, bool)
    near_column = np.zeros(raster.width, bool)
    for near, start, length in (
        (near_row, area.row, area.height),
        (near_column, area.column, area.width),
    ):
        for border in borders(start, length, len(near), layout):
            first = max(0, border - near_px(layout))
            # The area may end beside the stride; what is read may not begin there.
            near[first - first % layout.stride_px : border + near_px(layout)] = True
    inside = np.zeros((raster.height, raster.width), bool)
    inside[area.slices] = True
    expected = inside & (near_row[:, None] | near_column)
    actual = np.zeros_like(expected)
    for tile in border_tiles(raster, area, layout):
        actual[tile.core.slices] = True
    np.testing.assert_array_equal(actual, expected)


@many
@given(cases())
def test_cores_lie_within_the_area_and_reads_within_the_raster(case):
    raster, area, layout = case
    for tile in border_tiles(raster, area, layout):
        core, read = tile.core, tile.read
        assert area.row <= core.row
        assert area.column <= core.column
        assert core.row + core.height <= area.row + area.height
        assert core.column + core.width <= area.column + area.width
        assert min(read.row, read.column) >= 0
        assert read.row + read.height <= raster.height
        assert read.column + read.width <= raster.width
        assert (tile.height, tile.width) == (read.height, read.width)


@many
@given(cases())
def test_reads_have_the_halo_around_cores_and_begin_on_the_stride(case):
    raster, area, layout = case
    for tile in border_tiles(raster, area, layout):
        core, read = tile.core, tile.read
        assert (read.row % layout.stride_px, read.column % layout.stride_px) == (0, 0)
        assert read.row <= max(0, core.row - layout.halo_px)
        assert read.column <= max(0, core.column - layout.halo_px)
        bottom = min(raster.height, core.row + core.height + layout.halo_px)
        right = min(raster.width, core.column + core.width + layout.halo_px)
        assert read.row + read.height >= bottom
        assert read.column + read.width >= right


def test_a_border_lies_in_the_middle_of_what_is_read_across_it():
    layout = Layout(64, 16, 16)
    raster = Window(0, 0, 128, 128)
    tiles = list(border_tiles(raster, raster, layout))
    assert [tile.core for tile in tiles] == [
        Window(48, 0, 32, 64),
        Window(48, 64, 32, 64),
        Window(0, 48, 64, 32),
        Window(64, 48, 64, 32),
    ]
    assert [tile.read for tile in tiles] == [
        Window(32, 0, 80, 96),
        Window(32, 48, 80, 80),
        Window(0, 32, 96, 80),
        Window(48, 32, 80, 80),
    ]


def test_a_border_that_the_area_shares_with_the_rest_of_the_raster_is_among_them():
    layout = Layout(64, 16, 16)
    raster = Window(0, 0, 64, 192)
    cores = [tile.core for tile in border_tiles(raster, Window(0, 64, 64, 64), layout)]
    assert cores == [Window(0, 64, 64, 16), Window(0, 112, 64, 16)]


@pytest.mark.parametrize("halo", [0, 16])
def test_one_window_has_no_seam(halo):
    raster = Window(0, 0, 64, 64)
    assert list(border_tiles(raster, raster, Layout(64, halo, 16))) == []


def test_without_a_halo_labels_near_borders_are_compared_all_the_same():
    raster = Window(0, 0, 64, 256)
    (tile,) = border_tiles(raster, raster, Layout(128, 0, 16))
    assert tile.core == Window(0, 128 - NEAR_PX, 64, 2 * NEAR_PX)
    assert (tile.read.column, tile.read.width) == (128 - 2 * NEAR_PX, 4 * NEAR_PX + 16)


@pytest.mark.parametrize(("halo", "near"), [(0, 32), (1, 16), (16, 16), (17, 32), (48, 48)])
def test_labels_are_compared_within_the_halo_or_32_pixels_where_there_is_none(halo, near):
    assert near_px(Layout(64, halo, 16)) == near


def test_a_model_without_a_halo_has_seams_where_it_sees_its_neighbours():
    values = image(64, 128)
    assert compared(BrightnessModel(), values, Layout(64, 0, 16)) == (64 * 64, 0)
    pixels, differences = compared(Blurs(2), values, Layout(64, 0, 16))
    # Two columns on either side of the border see beyond it.
    assert pixels == 64 * 64
    assert 0 < differences <= 64 * 4


def test_fixed_windows_cannot_be_moved():
    raster = Window(0, 0, 128, 128)
    with pytest.raises(ConfigurationError, match="fixed window cannot be moved"):
        list(border_tiles(raster, raster, Layout(32, 16, 16, fixed_px=64)))


class SeesEdges(BrightnessModel):
    """Labels bright what is at most so far from the edge of its window, and dark the rest."""

    def __init__(self, reach: int) -> None:
        super().__init__()
        self.reach = reach

    def labels(self, images):
        labels = np.full(images.shape[:3], BRIGHT, np.uint8)
        inner = slice(self.reach, -self.reach)
        labels[:, inner, inner] = DARK
        return labels


class Blurs(BrightnessModel):
    """Labels by the sum of all pixels at most so far away, zeros beyond the window."""

    def __init__(self, reach: int) -> None:
        super().__init__()
        self.reach = reach

    def labels(self, images):
        sums = images[..., 0].astype(np.int64)
        for axis in (1, 2):
            pad = [(0, 0)] * 3
            pad[axis] = (self.reach, self.reach)
            wide = np.pad(sums, pad)
            size = sums.shape[axis]
            sums = sum(
                np.take(wide, range(at, at + size), axis) for at in range(2 * self.reach + 1)
            )
        return np.array([DARK, MIDDLE, BRIGHT], np.uint8)[sums % 3]


def compared(model, values: np.ndarray, layout: Layout, valid=None) -> tuple[int, int]:
    """Seam pixels of an image by a model."""
    raster = Window(0, 0, *values.shape[:2])
    near = list(border_tiles(raster, raster, layout))
    jobs = [
        Job("once", lambda: ArrayRaster(values, valid)),
        Job("again", lambda: ArrayRaster(values, valid), tiling=lambda *_: near),
    ]
    once, again = Engine(model, layout).run(jobs)
    return seam_pixels(once.labels, again.labels, [tile.core for tile in near], 255)


def image(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


@settings(max_examples=examples(30), deadline=None)
@given(height=st.integers(1, 60), width=st.integers(1, 60), reach=st.integers(1, 8), data=st.data())
def test_a_local_model_with_enough_halo_has_no_differences(height, width, reach, data):
    layout = Layout(16, reach, data.draw(st.sampled_from([1, 4, 8])))
    pixels, differences = compared(Blurs(reach), image(height, width), layout)
    assert differences == 0
    assert (pixels > 0) is (max(height, width) > 16)


def test_a_model_that_sees_further_than_the_halo_has_differences():
    pixels, differences = compared(Blurs(8), image(64, 64), Layout(16, 4, 4))
    # Within 4 pixels of one of three borders: 64² less (4 * 8 - 4 - 4 + ...)² that are not.
    assert pixels == 64**2 - (64 - 3 * 8) ** 2
    assert 0 < differences < pixels


def test_a_model_that_sees_the_edges_of_windows_differs_where_it_does():
    layout = Layout(32, 8, 8)
    pixels, differences = compared(SeesEdges(9), image(64, 64), layout)
    # Cores of 32 begin at the edge or 8 pixels from it: the ring of 9 is one pixel of the core
    # along the border, and not of the window across it; at the rim both are at the edge.
    assert pixels == 64**2 - 48**2
    assert 0 < differences < pixels
    assert compared(SeesEdges(8), image(64, 64), layout) == (pixels, 0)


class ShiftsWithSize(BrightnessModel):
    """Looks a column to the left in windows of an odd width, as networks that halve them do."""

    def labels(self, images):
        return np.roll(super().labels(images), images.shape[2] % 2, axis=2)


def test_labels_that_depend_on_the_size_of_the_window_differ():
    values = np.repeat(image(64, 96)[..., :1], 3, axis=2)
    pixels, differences = compared(ShiftsWithSize(), values, Layout(32, 8, 1))
    assert differences > pixels / 4
    assert compared(ShiftsWithSize(), values, Layout(32, 8, 2))[1] == 0


def test_nodata_has_no_seam():
    valid = np.ones((64, 64), bool)
    valid[:, 30:34] = False
    values = image(64, 64)
    pixels, _ = compared(Blurs(4), values, Layout(32, 4, 4), valid)
    assert pixels == 64**2 - 56**2 - 4 * 64


def test_only_pixels_with_two_labels_near_a_border_are_compared():
    labels = np.array([[1, 2, 3, 255, 5, 6]])
    again = np.array([[9, 9, 3, 4, 255, 9]])
    near = [Window(0, 1, 1, 4), Window(0, 2, 1, 2)]
    assert seam_pixels(labels, again, near, 255) == (2, 1)
    assert seam_pixels(labels, again, [], 255) == (0, 0)

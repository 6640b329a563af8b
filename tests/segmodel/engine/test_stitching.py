"""Bounded memory, fixed windows and halos: what the engine holds and what it writes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from segmodel.engine.engine import Engine, MemoryLimits
from segmodel.engine.read_ahead import Job
from segmodel.tiling.raster import ArrayRaster, Pixels
from segmodel.tiling.windows import MAX_BATCH_SIZE, Layout, Window
from tests.fakes import BrightnessModel, brightness_labels

SMALL = Layout(window_px=8, halo_px=0, stride_px=4, batch=2)


class Counter:
    """Counts jobs that were asked for, rasters that were opened and pixels that were read."""

    def __init__(self) -> None:
        self.pulled = self.opened = self.windows = 0

    def jobs(self, shapes) -> Iterator[Job]:
        for number, shape in enumerate(shapes):
            self.pulled += 1
            yield Job(str(number), lambda shape=shape: self._open(shape))

    def _open(self, shape) -> ArrayRaster:
        self.opened += 1
        counter = self

        class Counted(ArrayRaster):
            def read(self, window: Window) -> Pixels:
                counter.windows += 1
                return super().read(window)

        return Counted(np.zeros((*shape, 3), np.uint8))


@pytest.mark.parametrize(
    ("threads", "side", "most"), [(1, 8, 12), (2, 8, 16), (2, 16, 12), (2, 1, 140)]
)
def test_jobs_are_not_taken_far_ahead_of_the_first_outcome(threads, side, most):
    counter = Counter()
    outcomes = Engine(BrightnessModel(), SMALL, threads).run(counter.jobs([(side, side)] * 2000))
    assert next(outcomes).key == "0"
    assert counter.pulled <= most
    outcomes.close()
    assert counter.opened <= most


def test_jobs_are_not_taken_far_ahead_of_any_outcome():
    counter = Counter()
    shapes = [(1 + n % 7, 1 + n % 5) for n in range(1500)]
    furthest = 0
    outcomes = Engine(BrightnessModel(), SMALL).run(counter.jobs(shapes))
    for number, outcome in enumerate(outcomes):
        assert outcome.key == str(number)
        furthest = max(furthest, counter.pulled - number)
    assert number == 1499
    assert furthest <= 4 * MAX_BATCH_SIZE + 20


@pytest.mark.parametrize("side", [1, 4, 8])
def test_a_rare_shape_at_the_head_does_not_hold_all_later_maps(side):
    counter = Counter()
    shapes = [(5, 3)] + [(side, side)] * 3000
    outcomes = Engine(BrightnessModel(), SMALL).run(counter.jobs(shapes))
    assert next(outcomes).key == "0"
    assert counter.pulled <= 4 * MAX_BATCH_SIZE + 20
    outcomes.close()


def test_large_maps_do_not_pile_up_behind_a_rare_shape():
    counter = Counter()
    shapes = [(5, 3)] + [(64, 64)] * 200
    outcomes = Engine(BrightnessModel(), SMALL).run(counter.jobs(shapes))
    assert next(outcomes).key == "0"
    assert counter.pulled <= 14
    outcomes.close()


@pytest.mark.parametrize(("threads", "batch"), [(1, 1), (8, 1), (8, 2)])
def test_windows_are_read_ahead_of_calls_by_bytes(threads, batch):
    counter = Counter()
    ahead = []

    class Watching(BrightnessModel):
        def labels(self, images):
            ahead.append(counter.windows - sum(shape[0] for shape in self.batches))
            return super().labels(images)

    layout = Layout(window_px=8, halo_px=0, stride_px=4, batch=batch)
    limits = MemoryLimits(read_ahead_bytes=3 * 8 * 8 * 3)
    engine = Engine(Watching(), layout, threads, limits=limits)
    list(engine.run(counter.jobs([(80, 80)])))
    assert counter.windows == 100
    # Windows with a call of their own wait for it: two for each thread.
    called = batch if batch > 1 else 2 * threads
    assert max(ahead) <= 3 + called


def test_leaving_the_stream_early_ends_it():
    counter = Counter()
    outcomes = Engine(BrightnessModel(), SMALL).run(counter.jobs([(8, 8)] * 100))
    next(outcomes)
    outcomes.close()
    before = counter.opened
    with pytest.raises(StopIteration):
        next(outcomes)
    assert counter.opened == before < 100


class SeesAll(BrightnessModel):
    """Remembers the batches themselves; labels as the brightness model."""

    def __init__(self) -> None:
        super().__init__()
        self.images: list[np.ndarray] = []
        self.fill = np.array([7, 8, 9], np.uint8)

    def labels(self, images):
        self.images.append(images.copy())
        return super().labels(images)


def run(values: np.ndarray, layout: Layout, valid: np.ndarray | None = None):
    model = SeesAll()
    (outcome,) = Engine(model, layout).run([Job("a", lambda: ArrayRaster(values, valid))])
    return model, outcome


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * 99 + width).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 16), (15, 3)])
def test_a_raster_smaller_than_the_fixed_window_is_filled_right_and_below(height, width):
    values = noise(height, width)
    model, outcome = run(values, Layout(8, 4, 4, 1, fixed_px=16))
    for images in model.images:
        assert images.shape == (1, 16, 16, 3)
        np.testing.assert_array_equal(images[0, :height, :width], values)
        assert (images[0, height:] == model.fill).all()
        assert (images[0, :, width:] == model.fill).all()
    np.testing.assert_array_equal(outcome.labels, brightness_labels(values))


@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 40), (100, 23)])
def test_a_model_of_fixed_window_never_sees_another_size(height, width):
    values = noise(height, width)
    valid = np.random.default_rng(3).random((height, width)) < 0.7
    model, outcome = run(values, Layout(8, 4, 4, 2, fixed_px=16), valid)
    assert {images.shape[1:] for images in model.images} == {(16, 16, 3)}
    expected = np.where(valid, brightness_labels(values), 255)
    np.testing.assert_array_equal(outcome.labels, expected)


def test_the_halo_is_read_and_never_written():
    values = noise(16, 16)

    class CoreOnly(SeesAll):
        """Marks all it does not see whole with class 7, so a written halo would show."""

        def labels(self, images):
            labels = super().labels(images)
            return np.where(np.arange(images.shape[2]) < 4, 7, labels).astype(np.uint8)

    model = CoreOnly()
    layout = Layout(window_px=8, halo_px=4, stride_px=4, batch=1)
    (outcome,) = Engine(model, layout).run([Job("a", lambda: ArrayRaster(values))])
    expected = brightness_labels(values)
    expected[:, :4] = 7
    np.testing.assert_array_equal(outcome.labels, expected)
    assert [images.shape[1:3] for images in model.images] == [(12, 12)] * 4


def test_uint16_maps_have_their_own_nodata():
    from segmodel.labels.classes import ClassTable, LabelClass

    class Wide(BrightnessModel):
        def __init__(self):
            super().__init__()
            self.classes = ClassTable(
                (LabelClass(255, "a", (0, 0, 0)), LabelClass(300, "b", (1, 1, 1)))
            )

        def labels(self, images):
            return np.where(images[..., 0] > 9, 300, 255).astype(np.uint16)

    values = np.array([[[0] * 3, [10] * 3, [10] * 3]], np.uint8)
    raster = ArrayRaster(values, np.array([[True, True, False]]))
    (outcome,) = Engine(Wide(), SMALL).run([Job("a", lambda: raster)])
    assert outcome.labels.dtype == np.uint16
    assert outcome.labels.tolist() == [[255, 300, 65535]]

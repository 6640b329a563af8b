"""Windows that are labelled one by one are computed several at a time, and nothing shows it."""

from __future__ import annotations

import threading
from functools import partial

import numpy as np
import pytest

from segmodel.engine.engine import Engine
from segmodel.engine.read_ahead import Job
from segmodel.engine.stitching import Labelled
from segmodel.errors import OutOfMemoryError, TransientError
from segmodel.savedmodel.predictor import Predictor
from segmodel.tiling.raster import ArrayRaster
from segmodel.tiling.windows import Layout
from tests.fakes import BrightnessModel, brightness_labels

SHAPES = [(20, 31), (64, 8), (33, 33), (20, 31), (1, 1), (47, 60), (12, 64), (64, 8)]


def noise(seed: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def jobs(shapes: list[tuple[int, int]]) -> list[Job]:
    images = [noise(number, *shape) for number, shape in enumerate(shapes)]
    return [Job(str(n), partial(ArrayRaster, image)) for n, image in enumerate(images)]


class Meeting(BrightnessModel):
    """Its calls wait until so many run at the same time; counts the pixels of those that do."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.barrier = threading.Barrier(calls)
        self.lock, self.pixels, self.most = threading.Lock(), 0, 0

    def labels(self, images):
        pixels = images.shape[1] * images.shape[2]
        with self.lock:
            self.pixels += pixels
            self.most = max(self.most, self.pixels)
        self.barrier.wait(10)
        with self.lock:
            self.pixels -= pixels
        return super().labels(images)


def test_as_many_single_windows_are_computed_at_a_time_as_there_are_threads():
    model = Meeting(3)
    outcomes = list(Engine(model, Layout(64, 0, 4), threads=3).run(jobs([(8, 8)] * 9)))
    assert model.batches == [(1, 8, 8, 3)] * 9
    assert [outcome.key for outcome in outcomes] == [str(number) for number in range(9)]
    for number, outcome in enumerate(outcomes):
        np.testing.assert_array_equal(outcome.labels, brightness_labels(noise(number, 8, 8)))


@pytest.mark.parametrize(
    ("side", "together"), [(512, 1), (363, 1), (362, 2), (256, 2)], ids=lambda value: str(value)
)
def test_windows_computed_at_a_time_have_no_more_pixels_than_the_largest(side, together):
    model = Meeting(together)
    list(Engine(model, Layout(512, 0, 1), threads=2).run(jobs([(side, side)] * 4)))
    assert model.most == together * side**2
    assert model.most <= 512**2


def test_a_window_that_did_not_fit_beside_others_is_computed_alone():
    class Crowded(BrightnessModel):
        """Has memory for one call at a time."""

        def __init__(self):
            super().__init__()
            self.barrier, self.lock, self.failed = threading.Barrier(2), threading.Lock(), 0

        def labels(self, images):
            if not self.lock.acquire(blocking=False):
                self.failed += 1
                self.barrier.wait(10)
                raise OutOfMemoryError("no room")
            try:
                if not self.failed:
                    self.barrier.wait(10)
                return super().labels(images)
            finally:
                self.lock.release()

    model = Crowded()
    outcomes = list(Engine(model, Layout(64, 0, 4), threads=2).run(jobs([(8, 8)] * 2)))
    assert (model.failed, model.batches) == (1, [(1, 8, 8, 3)] * 2)
    for number, outcome in enumerate(outcomes):
        np.testing.assert_array_equal(outcome.labels, brightness_labels(noise(number, 8, 8)))


def test_only_the_window_that_memory_ran_out_at_is_computed_again():
    class Small(BrightnessModel):
        """Has no memory for the first call."""

        def __init__(self):
            super().__init__()
            self.lock, self.attempts = threading.Lock(), 0

        def labels(self, images):
            with self.lock:
                self.attempts += 1
                if self.attempts == 1:
                    raise MemoryError
            return super().labels(images)

    model = Small()
    outcomes = list(Engine(model, Layout(64, 0, 4), threads=4).run(jobs(SHAPES)))
    assert (model.attempts, len(model.batches)) == (9, 8)
    for number, outcome in enumerate(outcomes):
        np.testing.assert_array_equal(
            outcome.labels, brightness_labels(noise(number, *SHAPES[number]))
        )


def test_a_window_that_does_not_fit_alone_is_an_error_that_names_the_remedy():
    class Full(BrightnessModel):
        def labels(self, images):
            raise MemoryError

    expected = r"^out of memory for one window of 8x12 pixels: lower --window, or use"
    with pytest.raises(TransientError, match=expected):
        list(Engine(Full(), Layout(64, 0, 4)).run(jobs([(8, 12)] * 3)))


def test_an_error_of_one_of_several_calls_ends_the_stream():
    class Broken(BrightnessModel):
        def labels(self, images):
            if images.shape[1] == 33:
                raise RuntimeError("broken")
            return super().labels(images)

    with pytest.raises(RuntimeError, match=r"^broken$"):
        list(Engine(Broken(), Layout(64, 0, 4), threads=4).run(jobs(SHAPES)))


@pytest.mark.parametrize("is_soft", [False, True])
def test_a_network_gives_an_image_the_bytes_that_it_has_alone(neighbourhood_savedmodel, is_soft):
    model = Predictor.load(neighbourhood_savedmodel)
    soft = model if is_soft else None

    def labelled(given: list[Job], threads: int) -> list[Labelled]:
        engine = Engine(model, Layout(64, 0, 4), threads, True, soft=soft, probabilities=is_soft)
        return [outcome for outcome in engine.run(given) if isinstance(outcome, Labelled)]

    together = labelled(jobs(SHAPES), 4)
    alone = [labelled([job], 1)[0] for job in jobs(SHAPES)]
    assert [outcome.key for outcome in together] == [str(n) for n in range(len(SHAPES))]
    for actual, expected in zip(together, alone, strict=True):
        np.testing.assert_array_equal(actual.labels, expected.labels)
        np.testing.assert_array_equal(actual.confidence, expected.confidence)
        if is_soft:
            np.testing.assert_array_equal(actual.probabilities, expected.probabilities)
            np.testing.assert_array_equal(actual.soft.whole.areas, expected.soft.whole.areas)
            np.testing.assert_array_equal(actual.soft.bins, expected.soft.bins)

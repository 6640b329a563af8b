"""Batches that memory has no room for are done by halves, and what was learned is kept."""

from __future__ import annotations

import numpy as np
import pytest

from segmodel.engine.calls import BatchSizes
from segmodel.engine.engine import Engine, MemoryLimits
from segmodel.engine.read_ahead import Job
from segmodel.errors import OutOfMemoryError, TransientError
from segmodel.tiling.raster import ArrayRaster
from segmodel.tiling.windows import AUTO, Layout
from tests.fakes import BrightnessModel, brightness_labels


class Greedy(BrightnessModel):
    """Has memory for so many windows; keeps sizes of calls, and the images of those done."""

    def __init__(self, room: int, error: type[Exception] = MemoryError) -> None:
        super().__init__()
        self.room, self.error = room, error
        self.tried: list[int] = []
        self.contents: list[bytes] = []

    def labels(self, images):
        self.tried.append(len(images))
        if len(images) > self.room:
            raise self.error("no room")
        self.contents += [image.tobytes() for image in images]
        return super().labels(images)


def noise(seed: int, height: int = 8, width: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 256, (height, width, 3), dtype=np.uint8)


def jobs(count: int, first: int = 0, **shape: int) -> list[Job]:
    given = [noise(first + number, **shape) for number in range(count)]
    return [Job(str(n), lambda image=image: ArrayRaster(image)) for n, image in enumerate(given)]


def layout(batch) -> Layout:
    return Layout(window_px=8, halo_px=0, stride_px=4, batch=batch)


@pytest.mark.parametrize("error", [MemoryError, OutOfMemoryError])
def test_a_batch_is_halved_until_it_fits_and_all_its_windows_are_labelled(error):
    model, seen = Greedy(3, error), []
    engine = Engine(model, layout(8), on_pixels=seen.append)
    outcomes = list(engine.run(jobs(8)))
    assert model.tried == [8, 4, 2, 2, 2, 2]
    assert model.contents == [noise(number).tobytes() for number in range(8)]
    for number, outcome in enumerate(outcomes):
        np.testing.assert_array_equal(outcome.labels, brightness_labels(noise(number)))
    assert sum(seen) == 8 * 64
    assert engine.batch_sizes.reduced == {(8, 8): 2}


def test_a_smaller_batch_that_is_not_full_is_filled_up_and_never_all_filling():
    model = Greedy(4)
    list(Engine(model, layout(7)).run(jobs(9)))
    # Seven windows, then the two that are left.
    assert model.tried == [7, 4, 4, 4]
    filled = bytes(8 * 8 * 3)
    expected = [noise(number).tobytes() for number in range(9)]
    assert model.contents == [*expected[:7], filled, *expected[7:], filled, filled]


def test_what_was_learned_of_a_shape_is_used_by_the_next_and_by_no_other_shape():
    learned: dict[tuple[int, int], int] = {}
    first, second = Greedy(2), Greedy(99)
    list(
        Engine(first, layout(8), limits=MemoryLimits(batch_sizes=BatchSizes(learned))).run(jobs(8))
    )
    assert learned == {(8, 8): 2}
    sizes = BatchSizes(learned)
    engine = Engine(second, layout(8), limits=MemoryLimits(batch_sizes=sizes))
    list(engine.run([*jobs(2), *jobs(8, height=4)]))
    assert sorted(second.tried) == [2, 8]
    assert sizes.reduced == {(8, 8): 2}


def test_what_was_learned_does_not_make_small_batches_larger():
    sizes = BatchSizes({(8, 8): 4})
    assert (sizes.limit(8, 8, 2), sizes.reduced) == (2, {})


def test_one_window_that_does_not_fit_is_a_fault_that_may_pass_and_names_the_remedy():
    model = Greedy(0)
    with pytest.raises(
        TransientError, match=r"^out of memory for one window of 8x8 pixels: lower --window, or use"
    ) as caught:
        list(Engine(model, layout(4)).run(jobs(4)))
    assert model.tried == [4, 2, 1]
    assert type(caught.value) is TransientError


def test_confidence_is_halved_with_the_labels():
    engine = Engine(Greedy(1), layout(4), confidence=True)
    for number, outcome in enumerate(engine.run(jobs(4))):
        expected = noise(number).astype(np.float32).mean(axis=-1) / 255
        np.testing.assert_array_equal(outcome.confidence, expected.astype(np.float32))
    assert engine.batch_sizes.reduced == {(8, 8): 1}


@pytest.mark.parametrize("threads", [1, 4])
def test_calls_do_not_depend_on_the_number_of_threads(threads):
    expected, model = Greedy(3), Greedy(3)
    mixed = [*jobs(7), *jobs(5, 50, height=4), *jobs(9, 90)]
    list(Engine(expected, layout(5), threads=2).run(mixed))
    list(Engine(model, layout(5), threads=threads).run(mixed))
    assert (model.tried, model.contents) == (expected.tried, expected.contents)


def test_without_want_of_memory_nothing_is_smaller():
    model = Greedy(8)
    engine = Engine(model, layout(8))
    list(engine.run(jobs(8)))
    assert (model.tried, engine.batch_sizes.reduced) == ([8], {})


def test_a_call_has_at_most_the_pixels_that_memory_holds():
    model = Greedy(99)
    sizes = BatchSizes(max_pixels=200)
    list(Engine(model, layout(8), limits=MemoryLimits(batch_sizes=sizes)).run(jobs(8)))
    assert model.tried == [2, 2, 2, 2]
    assert sizes.reduced == {(8, 8): 2}
    # A window that is larger is tried all the same.
    assert BatchSizes(max_pixels=1).limit(8, 8, 1) == 1


def test_automatic_batches_have_the_pixels_of_a_usual_window():
    assert layout(AUTO).batch_size(2048, 2048) == layout(AUTO).batch_size(4096, 4096) == 1
    assert layout(AUTO).batch_size(1024, 1024) == 4
    assert layout(AUTO).batch_size(480, 640) == 13
    assert layout(AUTO).batch_size(256, 256) == layout(AUTO).batch_size(8, 8) == 64
    assert layout(AUTO).max_batch_pixels == 2048**2
    assert layout(AUTO).max_batch_pixels_on_cpu == layout(None).max_batch_pixels == 512**2
    assert layout(3).max_batch_pixels_on_cpu == layout(3).max_batch_pixels == 3 * 64

"""The engine: order, batches, failures, and how far it runs ahead."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from segmodel.engine.engine import Engine
from segmodel.engine.read_ahead import Job
from segmodel.engine.stitching import Failed, Labelled
from segmodel.errors import ContractError, InputError
from segmodel.tiling.raster import ArrayRaster, Pixels
from segmodel.tiling.windows import Layout, Tile, Window
from tests.fakes import BrightnessModel, brightness_labels

SMALL = Layout(window_px=8, halo_px=0, stride_px=4, batch=2)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def job(key: str, values: np.ndarray, area: Window | None = None) -> Job:
    return Job(key, lambda: ArrayRaster(values), area)


class SleepyRaster(ArrayRaster):
    """Takes a random time for every read."""

    def read(self, window):
        time.sleep(np.random.default_rng().uniform(0, 0.004))
        return super().read(window)


class BrokenRaster(ArrayRaster):
    """Cannot be read."""

    def read(self, window):
        raise OSError("the disk is gone")


def broken_open():
    raise InputError("truncated")


def sleepy_jobs() -> list[Job]:
    shapes = [(8, 8), (3, 20), (17, 9), (8, 8), (1, 1), (30, 30), (8, 9)] * 3
    images = [noise(*shape, seed) for seed, shape in enumerate(shapes)]

    def opener(image):
        def open_late():
            time.sleep(np.random.default_rng().uniform(0, 0.01))
            return SleepyRaster(image)

        return open_late

    return [Job(str(number), opener(image)) for number, image in enumerate(images)]


def test_outcomes_keep_the_order_of_jobs_whatever_the_timing():
    outcomes = list(Engine(BrightnessModel(), SMALL, threads=4).run(sleepy_jobs()))
    assert [outcome.key for outcome in outcomes] == [str(n) for n in range(21)]


def test_the_composition_of_batches_does_not_depend_on_timing():
    runs = []
    for _ in range(2):
        model = Remembering()
        list(Engine(model, SMALL, threads=4).run(sleepy_jobs()))
        runs.append((model.batches, model.contents))
    assert runs[0] == runs[1]
    assert len(runs[0][0]) > 10


class Remembering(BrightnessModel):
    """Keeps the bytes of every batch, in order."""

    def __init__(self):
        super().__init__()
        self.contents: list[bytes] = []

    def labels(self, images):
        self.contents.append(images.tobytes())
        return super().labels(images)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_batches_do_not_depend_on_the_number_of_threads(threads):
    model, expected = Remembering(), Remembering()
    list(Engine(expected, SMALL, threads=3).run(sleepy_jobs()))
    list(Engine(model, SMALL, threads=threads).run(sleepy_jobs()))
    assert model.contents == expected.contents


def test_labels_are_those_of_each_whole_image():
    jobs = [job(str(n), noise(5 + n, 40 - n, n)) for n in range(12)]
    for number, outcome in enumerate(Engine(BrightnessModel(), SMALL).run(jobs)):
        expected = brightness_labels(noise(5 + number, 40 - number, number))
        np.testing.assert_array_equal(outcome.labels, expected)
        assert outcome.labels.dtype == np.uint8


def test_small_images_share_batches_of_equal_shape():
    model = BrightnessModel()
    jobs = [job(str(n), noise(64, 64, n)) for n in range(65)] + [job("b", noise(128, 64))]
    list(Engine(model, Layout(512, 0, 4, batch=None)).run(jobs))
    assert model.batches == [(64, 64, 64, 3), (64, 64, 64, 3), (32, 128, 64, 3)]


def test_labels_do_not_depend_on_what_shares_a_batch():
    class Aware(BrightnessModel):
        """Gives the size of the batch, as the last bits of a convolution do."""

        def labels(self, images):
            return np.full(images.shape[:3], len(images), np.uint8)

    jobs = [job(str(n), noise(64, 64, n)) for n in range(3)]
    layout = Layout(512, 0, 4, batch=None)
    alone = [next(iter(Engine(Aware(), layout).run([entry]))).labels for entry in jobs]
    together = [outcome.labels for outcome in Engine(Aware(), layout).run(jobs)]
    np.testing.assert_array_equal(alone, together)


def test_what_finishes_maps_runs_in_threads_and_keeps_the_order():
    def finish(labelled):
        time.sleep(np.random.default_rng().uniform(0, 0.01))
        return labelled.key, threading.current_thread() is threading.main_thread()

    outcomes = Engine(BrightnessModel(), SMALL, threads=4).run_and_finish(sleepy_jobs(), finish)
    assert list(outcomes) == [(str(number), False) for number in range(21)]


def test_an_error_of_what_finishes_maps_ends_the_stream():
    def finish(labelled):
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        list(Engine(BrightnessModel(), SMALL).run_and_finish([job("a", noise(8, 8))], finish))


def test_full_windows_come_in_batches_of_the_layout():
    model = BrightnessModel()
    list(Engine(model, SMALL).run([job("a", noise(16, 24))]))
    assert model.batches == [(2, 8, 8, 3)] * 3


def test_no_job_gives_no_outcome():
    assert list(Engine(BrightnessModel(), SMALL).run([])) == []


def test_an_area_gives_the_labels_of_the_area_alone():
    values = noise(20, 20)
    (outcome,) = Engine(BrightnessModel(), SMALL).run([job("a", values, Window(8, 4, 11, 9))])
    np.testing.assert_array_equal(outcome.labels, brightness_labels(values[8:19, 4:13]))


@pytest.mark.parametrize("shape", [(0, 5), (5, 0)])
def test_an_empty_raster_has_an_outcome_like_any_other(shape):
    jobs = [job("a", noise(*shape)), job("b", noise(4, 4))]
    outcomes = list(Engine(BrightnessModel(), SMALL).run(jobs))
    assert [outcome.key for outcome in outcomes] == ["a", "b"]


def test_nodata_stands_exactly_where_input_is_not_valid():
    values = np.zeros((20, 20, 3), np.uint8)
    valid = np.random.default_rng(1).random((20, 20)) < 0.5
    (outcome,) = Engine(BrightnessModel(), SMALL).run(
        [Job("a", lambda: ArrayRaster(values, valid))]
    )
    np.testing.assert_array_equal(outcome.labels, np.where(valid, 0, 255))


def test_a_window_without_valid_pixels_never_reaches_the_model():
    valid = np.zeros((16, 8), bool)
    valid[9, 3] = True
    model = BrightnessModel()
    values = noise(16, 8)
    (outcome,) = Engine(model, SMALL).run([Job("a", lambda: ArrayRaster(values, valid))])
    assert model.batches == [(2, 8, 8, 3)]
    assert (outcome.labels != 255).sum() == 1
    assert outcome.labels[9, 3] == brightness_labels(values)[9, 3]


def test_a_window_that_is_valid_in_its_halo_alone_never_reaches_the_model():
    valid = np.zeros((16, 8), bool)
    valid[9] = True
    model = BrightnessModel()
    layout = Layout(window_px=8, halo_px=4, stride_px=4, batch=1)
    list(Engine(model, layout).run([Job("a", lambda: ArrayRaster(noise(16, 8), valid))]))
    assert model.batches == [(1, 12, 8, 3)]


def test_an_image_without_valid_pixels_is_all_nodata():
    model, seen = BrightnessModel(), []
    raster = ArrayRaster(noise(10, 10), np.zeros((10, 10), bool))
    (outcome,) = Engine(model, SMALL, on_pixels=seen.append).run([Job("a", lambda: raster)])
    assert model.batches == []
    assert (outcome.labels == 255).all()
    assert sum(seen) == 100


def test_the_model_sees_the_fill_where_input_is_not_valid():
    model = Remembering()
    model.fill = np.array([1, 2, 3], np.uint8)
    raster = ArrayRaster(np.full((1, 2, 3), 9, np.uint8), np.array([[True, False]]))
    list(Engine(model, Layout(8, 0, 4, batch=1)).run([Job("a", lambda: raster)]))
    assert model.contents == [bytes([9, 9, 9, 1, 2, 3])]


def test_nan_that_is_not_valid_never_reaches_the_model():
    model = BrightnessModel()
    model.fill = np.zeros(3, np.float32)
    values = np.full((4, 4, 3), 200, np.float32)
    values[1, 2] = np.nan
    raster = ArrayRaster(values, ~np.isnan(values[..., 0]))
    with np.errstate(invalid="raise"):
        (outcome,) = Engine(model, SMALL, confidence=True).run([Job("a", lambda: raster)])
    expected = np.full((4, 4), 7)
    expected[1, 2] = 255
    np.testing.assert_array_equal(outcome.labels, expected)
    assert np.isfinite(outcome.confidence).all()


def test_confidence_is_stitched_and_zero_at_nodata():
    values = noise(19, 21)
    valid = np.random.default_rng(2).random((19, 21)) < 0.9
    engine = Engine(BrightnessModel(), SMALL, confidence=True)
    (outcome,) = engine.run([Job("a", lambda: ArrayRaster(values, valid))])
    expected = (values.astype(np.float32).mean(axis=-1) / 255) * valid
    np.testing.assert_array_equal(outcome.confidence, expected)
    assert outcome.confidence.dtype == np.float32


def test_without_confidence_none_is_given():
    (outcome,) = Engine(BrightnessModel(), SMALL).run([job("a", noise(4, 4))])
    assert outcome.confidence is None


def test_a_failure_in_open_or_read_costs_only_its_own_job():
    jobs = [
        job("a", noise(20, 8)),
        Job("b", broken_open),
        Job("c", lambda: BrokenRaster(noise(30, 30))),
        job("d", noise(8, 20)),
    ]
    a, b, c, d = Engine(BrightnessModel(), SMALL).run(jobs)
    assert (b.key, b.stage, str(b.error)) == ("b", "open", "truncated")
    assert (c.key, c.stage, str(c.error)) == ("c", "read", "the disk is gone")
    assert isinstance(b.error, InputError)
    np.testing.assert_array_equal(a.labels, brightness_labels(noise(20, 8)))
    np.testing.assert_array_equal(d.labels, brightness_labels(noise(8, 20)))


def test_jobs_that_all_fail_all_have_an_outcome():
    outcomes = list(
        Engine(BrightnessModel(), SMALL).run(Job(str(n), broken_open) for n in range(9))
    )
    assert [(type(o), o.key) for o in outcomes] == [(Failed, str(n)) for n in range(9)]


class WrongSize(ArrayRaster):
    """Gives fewer rows than it was asked for."""

    def read(self, window):
        return super().read(Window(window.row, window.column, window.height // 2, window.width))


def test_a_read_of_another_size_than_asked_for_fails():
    (outcome,) = Engine(BrightnessModel(), SMALL).run([Job("a", lambda: WrongSize(noise(8, 8)))])
    assert isinstance(outcome, Failed)


def test_an_image_of_other_bands_than_the_models_costs_only_itself():
    valid = np.eye(8, dtype=bool)
    jobs = [
        Job("a", lambda: ArrayRaster(np.zeros((8, 8, 4), np.uint8), valid)),
        job("b", noise(8, 8)),
    ]
    a, b = Engine(BrightnessModel(), SMALL).run(jobs)
    assert isinstance(a, Failed)
    assert isinstance(b, Labelled)


def test_an_error_of_the_model_ends_the_stream():
    class BrokenModel(BrightnessModel):
        def labels(self, images):
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        list(Engine(BrokenModel(), SMALL).run([job("a", noise(8, 8)), job("b", noise(8, 8))]))


def test_pixels_told_are_those_of_the_cores():
    seen = []
    layout = Layout(window_px=8, halo_px=4, stride_px=4, batch=3)
    list(Engine(BrightnessModel(), layout, on_pixels=seen.append).run([job("a", noise(21, 19))]))
    assert sum(seen) == 21 * 19


class PartlyBroken(ArrayRaster):
    """Cannot be read where the first pixel of a window is 255; remembers what was read."""

    def __init__(self, values, valid=None):
        super().__init__(values, valid)
        object.__setattr__(self, "reads", [])

    def read(self, window):
        self.reads.append(window)
        if self.values[window.row, window.column, 0] == 255:
            raise OSError("damaged")
        return super().read(window)


def broken_in(values: np.ndarray, *places: tuple[int, int]) -> np.ndarray:
    values = np.minimum(values, 254)
    for row, column in places:
        values[row, column] = 255
    return values


def lone(values: np.ndarray, allow_partial: bool, layout: Layout = SMALL, raster=PartlyBroken):
    """The outcome of one job between two others, which have theirs."""
    jobs = [
        job("before", noise(9, 9)),
        Job("a", lambda: raster(values), allow_partial=allow_partial),
        job("after", noise(9, 9, 1)),
    ]
    before, outcome, after = Engine(BrightnessModel(), layout, confidence=True).run(jobs)
    np.testing.assert_array_equal(before.labels, brightness_labels(noise(9, 9)))
    np.testing.assert_array_equal(after.labels, brightness_labels(noise(9, 9, 1)))
    return outcome


def test_a_window_that_cannot_be_read_costs_itself_where_the_job_goes_on():
    values = broken_in(noise(16, 24), (0, 8), (8, 16))
    outcome = lone(values, allow_partial=True)
    expected = brightness_labels(values)
    expected[:8, 8:16] = expected[8:, 16:] = 255
    np.testing.assert_array_equal(outcome.labels, expected)
    assert [part.core for part in outcome.lost] == [Window(0, 8, 8, 8), Window(8, 16, 8, 8)]
    assert {str(part.error) for part in outcome.lost} == {"damaged"}
    np.testing.assert_array_equal(outcome.confidence[expected == 255], 0)


def test_a_window_that_cannot_be_read_costs_the_job_where_it_does_not_go_on():
    outcome = lone(broken_in(noise(16, 24), (0, 8), (8, 16)), allow_partial=False)
    assert isinstance(outcome, Failed)
    assert (outcome.stage, str(outcome.error)) == ("read", "damaged")


@pytest.mark.parametrize("width", [8, 24])
def test_a_job_that_loses_all_its_windows_fails(width):
    values = broken_in(noise(8, width), *((0, column) for column in range(0, width, 8)))
    outcome = lone(values, allow_partial=True)
    assert isinstance(outcome, Failed)
    assert (outcome.key, outcome.stage) == ("a", "read")


def test_a_job_that_lost_nothing_says_so():
    assert lone(noise(16, 24) // 2, allow_partial=True).lost == ()


class Wanting(PartlyBroken):
    """Wants what lies left of column 12."""

    def wants(self, core):
        return core.column < 12

    def read(self, window):
        found = super().read(window)
        columns = np.arange(window.column, window.column + window.width)
        wanted = np.broadcast_to(columns < 12, (window.height, window.width))
        return Pixels(found.values, found.valid, wanted)


def test_what_no_pixel_is_wanted_of_is_never_read_and_is_nodata():
    values = broken_in(noise(16, 40), (0, 24), (8, 32))
    rasters = []
    told = []
    jobs = [Job("a", lambda: rasters.append(Wanting(values)) or rasters[0])]
    (outcome,) = Engine(BrightnessModel(), SMALL, on_pixels=told.append).run(jobs)
    expected = brightness_labels(values)
    expected[:, 12:] = 255
    np.testing.assert_array_equal(outcome.labels, expected)
    assert {window.column for window in rasters[0].reads} == {0, 8}
    assert sum(told) == 16 * 40


def test_context_is_seen_and_gets_no_label():
    seen = []

    class Remembers(BrightnessModel):
        def labels(self, images):
            seen.append(images)
            return super().labels(images)

    values = noise(8, 16)
    layout = Layout(8, 4, 4, batch=1)
    (outcome,) = Engine(Remembers(), layout).run([Job("a", lambda: Wanting(values))])
    assert (outcome.labels[:, 12:] == 255).all()
    np.testing.assert_array_equal(outcome.labels[:, :12], brightness_labels(values)[:, :12])
    np.testing.assert_array_equal(seen[0][0], values[:, :12])
    np.testing.assert_array_equal(seen[1][0], values[:, 4:])


def test_what_is_not_wanted_has_no_confidence_and_what_is_not_valid_neither():
    values = noise(8, 16)
    valid = np.ones((8, 16), bool)
    valid[3] = False
    jobs = [Job("a", lambda: Wanting(values, valid))]
    (outcome,) = Engine(BrightnessModel(), SMALL, confidence=True).run(jobs)
    labelled = valid & (np.arange(16) < 12)
    np.testing.assert_array_equal(outcome.labels != 255, labelled)
    assert (outcome.confidence[~labelled] == 0).all()


def test_a_raster_that_wants_nothing_is_all_nodata_without_a_read():
    values = np.full((16, 24, 3), 255, np.uint8)

    class WantsNothing(PartlyBroken):
        def wants(self, core):
            return False

    outcome = lone(values, allow_partial=False, raster=WantsNothing)
    assert (outcome.labels == 255).all()
    assert outcome.labels.shape == (16, 24)
    assert (outcome.confidence == 0).all()


def test_a_mask_of_another_shape_than_asked_for_fails():
    class Wrong(ArrayRaster):
        def read(self, window):
            return Pixels(self.values[window.slices], None, np.ones((1, 1), bool))

    (outcome,) = Engine(BrightnessModel(), SMALL).run([Job("a", lambda: Wrong(noise(8, 8)))])
    assert isinstance(outcome, Failed)
    assert "wanted (1, 1)" in str(outcome.error)


def test_a_job_may_say_how_it_is_tiled():
    values = noise(16, 16)
    core = Window(4, 4, 4, 8)
    tile = Tile(core, Window(0, 0, 16, 16), 16, 16)
    for tiles in ([tile], [tile, Tile(Window(0, 0, 4, 4), Window(0, 0, 8, 8), 8, 8)]):
        jobs = [Job("a", lambda: ArrayRaster(values), tiling=lambda *_, tiles=tiles: tiles)]
        (outcome,) = Engine(BrightnessModel(), SMALL).run(jobs)
        expected = np.full((16, 16), 255)
        for entry in tiles:
            expected[entry.core.slices] = brightness_labels(values)[entry.core.slices]
        np.testing.assert_array_equal(outcome.labels, expected)


class WrongModel(BrightnessModel):
    """A model whose outputs are changed before anybody sees them."""

    def __init__(self, change) -> None:
        super().__init__()
        self.change = change

    def labels_and_confidence(self, images):
        confidence = (images.astype(np.float32).mean(axis=-1) / 255).astype(np.float32)
        return self.change(brightness_labels(images), confidence)

    def labels(self, images):
        return self.labels_and_confidence(images)[0]


WRONG_LABELS = {
    "height": (
        lambda y, c: (y[:, :4], c),
        r"uint8 of shape \(2, 8, 8\) .* uint8 of shape \(2, 4, 8\)",
    ),
    "width": (lambda y, c: (y[:, :, 1:], c), r"gives uint8 of shape \(2, 8, 7\)"),
    "batch": (lambda y, c: (y[:1], c), r"gives uint8 of shape \(1, 8, 8\)"),
    "rank": (lambda y, c: (y[..., None], c), r"gives uint8 of shape \(2, 8, 8, 1\)"),
    "dtype": (
        lambda y, c: (y.astype(np.int64), c),
        "labels: the model must give uint8 .* gives int64",
    ),
}
WRONG_CONFIDENCE = {
    "NaN": (lambda y, c: (y, np.where(y == 3, np.nan, c)), "values from 0 to 1, and gives nan"),
    "percent": (lambda y, c: (y, c * 100), "from 0 to 1, and gives 0 to 100"),
    "dtype": (lambda y, c: (y, c.astype(np.float64)), "confidence: .* float32 .* gives float64"),
    "shape": (lambda y, c: (y, c[..., :1]), r"confidence: .* gives float32 of shape \(2, 8, 1\)"),
}


@pytest.mark.parametrize("confidence", [False, True])
@pytest.mark.parametrize("kind", WRONG_LABELS)
def test_labels_that_are_not_as_promised_end_the_work_at_the_first_batch(kind, confidence):
    change, message = WRONG_LABELS[kind]
    engine = Engine(WrongModel(change), SMALL, confidence=confidence)
    with pytest.raises(ContractError, match=message):
        list(engine.run([job("a", noise(16, 16))]))


@pytest.mark.parametrize("kind", WRONG_CONFIDENCE)
def test_confidence_that_is_no_probability_ends_the_work(kind):
    change, message = WRONG_CONFIDENCE[kind]
    values = np.tile(np.array([0, 100, 255], np.uint8)[:, None, None], (6, 16, 3))[:16]
    engine = Engine(WrongModel(change), SMALL, confidence=True)
    with pytest.raises(ContractError, match=message):
        list(engine.run([job("a", values)]))
    list(Engine(WrongModel(change), SMALL).run([job("a", values)]))

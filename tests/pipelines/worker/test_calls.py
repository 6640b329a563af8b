"""A model that never returns costs its unit and a thread; the run goes on."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from pipelines.run.attempts import UnitReport
from pipelines.worker.calls import MAX_GIVEN_UP, Calls, TimedModel, timed
from segmodel.errors import CallTimeoutError
from tests.fakes import BrightnessModel, brightness_labels
from tests.pipelines.corpus import make_work, photos, png, run_unit, units_in, write

LONG, SHORT = 60.0, 0.05


class HangingModel(BrightnessModel):
    """Hangs where the first pixel is white, until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = threading.Event()
        self.asked = 0

    def labels(self, images):
        self.asked += 1
        if images[0, 0, 0, 0] == 255:
            self.let_go.wait(LONG)
        return super().labels(images)


@pytest.fixture
def hanging():
    model = HangingModel()
    yield model
    model.let_go.set()


WHITE = np.full((1, 8, 8, 3), 255, np.uint8)
GREY = np.full((1, 8, 8, 3), 99, np.uint8)


def test_a_call_in_time_gives_what_the_model_gives():
    model = TimedModel(BrightnessModel(), LONG, Calls())
    labels, confidence = model.labels_and_confidence(GREY)
    np.testing.assert_array_equal(model.labels(GREY), brightness_labels(GREY))
    np.testing.assert_array_equal(labels, brightness_labels(GREY))
    assert confidence.shape == labels.shape
    assert (model.classes, model.fill.tolist()) == (BrightnessModel().classes, [0, 0, 0])


def test_without_a_time_the_model_itself_is_called_in_the_same_thread():
    model = BrightnessModel()
    assert timed(model, None) is model
    assert Calls().run(threading.get_ident, None) == threading.get_ident()
    assert Calls().run(threading.get_ident, LONG) != threading.get_ident()


@pytest.mark.parametrize("error", [MemoryError("all"), TimeoutError("the model's own"), KeyError()])
def test_an_error_of_the_model_is_raised_as_it_is(error):
    def fail():
        raise error

    with pytest.raises(type(error)) as raised:
        Calls().run(fail, LONG)
    assert raised.value is error


def test_a_call_that_does_not_return_is_given_up_and_others_are_made(hanging):
    model = TimedModel(hanging, SHORT, Calls())
    with pytest.raises(CallTimeoutError, match=r"did not return within 0\.05 s: .*--call_timeout"):
        model.labels(WHITE)
    np.testing.assert_array_equal(model.labels(GREY), brightness_labels(GREY))


def test_after_too_many_calls_that_hang_no_more_are_made_until_one_returns(hanging):
    calls = Calls()
    model = TimedModel(hanging, SHORT, calls)
    for _ in range(MAX_GIVEN_UP):
        with pytest.raises(CallTimeoutError, match="did not return"):
            model.labels(WHITE)
    with pytest.raises(CallTimeoutError, match="2 calls of the model have not returned"):
        model.labels(GREY)
    assert hanging.asked == MAX_GIVEN_UP

    hanging.let_go.set()
    for thread in threading.enumerate():
        if thread.name == "beamseg-call":
            thread.join(LONG)
    np.testing.assert_array_equal(model.labels(GREY), brightness_labels(GREY))


def test_a_unit_whose_call_hangs_stays_unfinished_and_is_not_tried_at_once(
    tmp_path, hanging, caplog
):
    work = make_work(tmp_path, call_timeout=SHORT)
    folder = tmp_path / "in"
    write(folder / "white.png", png(np.full((40, 40, 3), 255, np.uint8)))
    (unit,) = units_in(work, folder)
    assert run_unit(unit, work, hanging) == UnitReport(incomplete=1)
    assert hanging.asked == 1
    assert "attempt 1 of 1: the model did not return within 0.05 s" in caplog.text


def test_a_unit_whose_calls_return_in_time_is_done(tmp_path):
    work = make_work(tmp_path, call_timeout=LONG)
    (unit,) = units_in(work, photos(tmp_path))
    assert run_unit(unit, work, BrightnessModel()).done == 1

"""Calls of a model that are given up after a time: a model is a program, which may never return."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from functools import partial
from typing import Any, TypeVar

import numpy as np

from segmodel.engine.calls import SoftModel
from segmodel.engine.soft import BatchWeights, SoftBatch
from segmodel.errors import CallTimeoutError

# Nothing ends a call that TensorFlow is in, and each keeps a thread and the memory of its batch.
MAX_GIVEN_UP = 2

T = TypeVar("T")


class Calls:
    """The calls of a process that were given up and still run.

    A process has one, `CALLS`.
    """

    def __init__(self) -> None:
        self._given_up: list[Future[Any]] = []
        # Several calls run at a time.
        self._lock = threading.Lock()

    def run(self, function: Callable[[], T], seconds: float | None) -> T:
        """What a function returns.

        Args:
            function: Function that may never return.
            seconds: Time after which its result is not waited for any more, or None to wait.

        Raises:
            CallTimeoutError: If it did not return in time, or too many before it did not.
        """
        if seconds is None:
            return function()
        with self._lock:
            self._given_up = [call for call in self._given_up if not call.done()]
            running = len(self._given_up)
        if running >= MAX_GIVEN_UP:
            raise CallTimeoutError(
                f"{running} calls of the model have not returned, and this process makes no "
                f"further ones"
            )
        result: Future[T] = Future()

        def call() -> None:
            try:
                result.set_result(function())
            except BaseException as error:
                result.set_exception(error)

        # A daemon, or the process could not end before it.
        threading.Thread(target=call, name="beamseg-call", daemon=True).start()
        if not wait([result], seconds).done:
            with self._lock:
                self._given_up.append(result)
            raise CallTimeoutError(
                f"the model did not return within {seconds:g} s: raise --call_timeout if it needs "
                f"longer; else leave out what it hangs on, or use another model"
            )
        return result.result()


CALLS = Calls()


class TimedModel:
    """A model whose calls are given up after a time.

    Args:
        model: Model that is called.
        seconds: Time of a call in seconds.
        calls: What makes the calls.
    """

    def __init__(self, model: SoftModel, seconds: float, calls: Calls = CALLS) -> None:
        self.classes, self.fill = model.classes, model.fill
        self._model, self._seconds, self._calls = model, seconds, calls

    def labels(self, images: np.ndarray) -> np.ndarray:
        """Labels of a batch, as of the model."""
        return self._calls.run(lambda: self._model.labels(images), self._seconds)

    def labels_and_confidence(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Labels of a batch and the probability of each, as of the model."""
        return self._calls.run(lambda: self._model.labels_and_confidence(images), self._seconds)

    def soft_sums(
        self, images: np.ndarray, weights: BatchWeights, has_maps: bool = False
    ) -> SoftBatch:
        """Labels and soft sums of a batch, as of the model."""
        call = partial(self._model.soft_sums, images, weights, has_maps)
        return self._calls.run(call, self._seconds)


def timed(model: SoftModel, seconds: float | None) -> SoftModel:
    """A model whose calls are given up after a time; the model itself for None."""
    return model if seconds is None else TimedModel(model, seconds)

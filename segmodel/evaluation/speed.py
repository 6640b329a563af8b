"""How fast a model labels windows on this machine."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from segmodel.devices.compute import compute_types
from segmodel.savedmodel.predictor import Predictor


def speeds(
    predictor: Predictor,
    sides_px: Sequence[int],
    seconds: float = 1.0,
    max_seconds: float = 20.0,
) -> Iterator[tuple[int, dict[str, float]]]:
    """Megapixels that a model labels in a second, by the size of windows and the compute type.

    Args:
        predictor: The model.
        sides_px: Sides of windows in pixels.
        seconds: Calls of a size are timed until so much time has passed; one always is.
        max_seconds: Time after which no further size begins.

    Yields:
        Side in pixels, and by each compute type of this machine megapixels a second.
    """
    import tensorflow as tf

    kinds = compute_types(bool(tf.config.get_visible_devices("GPU")))
    begun = time.perf_counter()
    for side_px in sides_px:
        if time.perf_counter() - begun > max_seconds:
            return
        window = predictor.contract.sample(side_px)[None]
        rates = {}
        for kind in kinds:
            model = predictor.computing(kind)
            # The first call compiles.
            model.labels(window)
            calls, start = 0, time.perf_counter()
            while not calls or time.perf_counter() - start < seconds:
                model.labels(window)
                calls += 1
            rates[kind] = calls * side_px**2 / (time.perf_counter() - start) / 1e6
        yield side_px, rates

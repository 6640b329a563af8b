"""How much a pixel of each class counts in the losses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from segmodel.errors import ConfigurationError

# Bounds the weight of the rarest class to 1 / ln(1.02), about 50; of ENet.
_LOG_OFFSET = 1.02


def resolve(
    setting: str | Sequence[float], counts: np.ndarray, around: np.ndarray | None = None
) -> tuple[float, ...]:
    """Weights of `training.class_weights` for the data at hand.

    Args:
        setting: `median_frequency`, `inverse_log`, the weights themselves, or nothing.
        counts: Pixels of each class in the training data, `(classes,)`; or `(images, classes)`.
        around: For each class the pixels of any class in the images that have it; without it they
            follow from `counts`, as if all were one image where those are not by image.

    Returns:
        A weight for each class; empty where all count alike. A class without a pixel has 0,
        because no pixel asks for its weight.

    Raises:
        ConfigurationError: If weights are asked for by frequency and no pixel counts.

    >>> resolve((), np.array([3, 1]))
    ()
    >>> resolve("median_frequency", np.array([50, 25, 25, 0]))
    (0.5, 1.0, 1.0, 0.0)
    >>> [round(weight, 3) for weight in resolve("inverse_log", np.array([75, 25, 0]))]
    [1.751, 4.184, 0.0]
    """
    if not isinstance(setting, str):
        return tuple(float(weight) for weight in setting)
    by_image = np.atleast_2d(np.asarray(counts, np.float64))
    if not by_image.sum():
        raise ConfigurationError(
            f"training.class_weights is {setting}, which needs pixels that count; the training "
            f"masks have none: check data.ignore_colors and data.ignore_ids, or name the weights"
        )
    pixels = by_image.sum(axis=0)
    if setting == "inverse_log":
        return tuple(_inverse_log(pixels).tolist())
    if around is None:
        around = (by_image > 0).T @ by_image.sum(axis=1)
    return tuple(_median_frequency(pixels, around).tolist())


def _median_frequency(pixels: np.ndarray, around: np.ndarray) -> np.ndarray:
    """The median of all frequencies over the own, which is the share in images with the class.

    Source: Eigen and Fergus, Predicting Depth, Surface Normals and Semantic Labels with a Common
    Multi-Scale Convolutional Architecture (2015), section 6.3.2.
    """
    present = pixels > 0
    frequency = np.divide(pixels, around, out=np.zeros_like(pixels), where=present)
    median = np.median(frequency[present])
    return np.divide(median, frequency, out=np.zeros_like(pixels), where=present)


def _inverse_log(pixels: np.ndarray) -> np.ndarray:
    """Source: Paszke et al., ENet (2016), section 5.2."""
    weights = 1 / np.log(_LOG_OFFSET + pixels / pixels.sum())
    return np.where(pixels > 0, weights, 0.0)

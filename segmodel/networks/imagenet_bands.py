"""How networks that were trained on red, green and blue take any bands.

The rule: a band called red, green or blue takes its own filters; every other band takes the mean
of the three. Three bands without one of these names are read as red, green, blue in order. All
filters are multiplied by 3 / bands, so that activations keep their magnitude. What is subtracted
from a band before follows the same rule.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

IMAGENET_BANDS = ("red", "green", "blue")


def imagenet_sources(bands: Sequence[str]) -> tuple[int | None, ...]:
    """For each band its position in `IMAGENET_BANDS`, or None for the mean of the three.

    Args:
        bands: Names of the bands, in order.

    >>> imagenet_sources(["blue", "green", "red", "nir"])
    (2, 1, 0, None)
    >>> imagenet_sources(["a", "b", "c"])
    (0, 1, 2)
    """
    names = [band.lower() for band in bands]
    known = [IMAGENET_BANDS.index(n) if n in IMAGENET_BANDS else None for n in names]
    if len(known) == 3 and known == [None] * 3:
        return 0, 1, 2
    return tuple(known)


def band_means(bands: Sequence[str], means: Sequence[float]) -> tuple[float, ...]:
    """Mean that is subtracted from each band.

    Args:
        bands: Names of the bands, in order.
        means: Means of red, green and blue.

    >>> band_means(["blue", "nir"], [1.0, 2.0, 6.0])
    (6.0, 3.0)
    """
    middle = sum(means) / 3
    return tuple(middle if s is None else means[s] for s in imagenet_sources(bands))


def band_filters(bands: Sequence[str], kernel: np.ndarray) -> np.ndarray:
    """Filters of the first convolution for these bands.

    Args:
        bands: Names of the bands, in order.
        kernel: `(height, width, 3, filters)` filters of red, green and blue.

    Returns:
        `(height, width, bands, filters)` of the same dtype.

    >>> band_filters(["nir", "red"], np.float32([[[[2], [4], [6]]]]))[0, 0, :, 0].tolist()
    [6.0, 3.0]
    """
    mean = kernel.mean(axis=2)
    filters = [mean if s is None else kernel[:, :, s] for s in imagenet_sources(bands)]
    return (np.stack(filters, axis=2) * (3 / len(bands))).astype(kernel.dtype)

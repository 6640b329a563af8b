"""Pixels of one window, and where they are valid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Pixels:
    """Pixels of one window.

    Args:
        values: `(height, width, bands)` raw values.
        valid: `(height, width)` bool, False for nodata; None where all are valid.
        wanted: `(height, width)` bool, False where a pixel is context that gets no label; None
            where all get one.
    """

    values: np.ndarray
    valid: np.ndarray | None = None
    wanted: np.ndarray | None = None

    @property
    def finite(self) -> np.ndarray | None:
        """`(height, width)` bool, where they are valid and no band is NaN or infinite."""
        if not np.issubdtype(self.values.dtype, np.floating):
            return self.valid
        return both(np.isfinite(self.values).all(axis=-1), self.valid)

    def filled(self, fill: np.ndarray) -> np.ndarray:
        """The values, with `fill`, `(bands,)` of their dtype, where a pixel is not finite."""
        finite = self.finite
        if finite is None:
            return self.values
        return np.where(finite[..., None], self.values, fill).astype(self.values.dtype)


def both(one: np.ndarray | None, other: np.ndarray | None) -> np.ndarray | None:
    """Where two masks hold; None holds everywhere.

    >>> both(None, np.array([True, False]))
    array([ True, False])
    """
    if one is None or other is None:
        return one if other is None else other
    return np.asarray(one & other)

"""Images scaled for the model, and label maps back on the grid of the image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image


def nearest(to: int, of: int, start: int = 0, length: int | None = None) -> np.ndarray:
    """Nearest neighbour along a side: for each of `to` pixels the one of `of` with its centre.

    Args:
        to: Pixels of the side that is filled.
        of: Pixels of the side that values are taken from.
        start: First pixel that is wanted.
        length: Number of pixels that are wanted; None for all.

    Returns:
        `(length,)` int64.

    >>> nearest(4, 2), nearest(2, 4), nearest(4, 2, 1, 2)
    (array([0, 0, 1, 1]), array([1, 3]), array([0, 1]))
    """
    wanted = np.arange(start, to if length is None else start + length, dtype=np.int64)
    return (2 * wanted + 1) * of // (2 * to)


def resize_image(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An image scaled to another size, band by band: bilinear, with antialias where it shrinks.

    Args:
        values: `(height, width, bands)` uint8.
        size: New height and width.

    Returns:
        `(height, width, bands)` uint8 of the new size.
    """
    height, width = size
    scaled = np.empty((height, width, values.shape[2]), np.uint8)
    for band in range(values.shape[2]):
        # Pillow would take a fourth band for alpha and weight the others with it.
        image = Image.fromarray(np.ascontiguousarray(values[..., band]))
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        scaled[..., band] = np.asarray(image)
    return scaled


def resize_valid(valid: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Where a scaled image is valid: where any pixel is that takes its label from there.

    Args:
        valid: `(height, width)` bool, False for nodata.
        size: New height and width.

    Returns:
        `(height, width)` bool of the new size.

    >>> resize_valid(np.array([[False, True, False, False]]), (1, 2))
    array([[ True, False]])
    """
    return _merge_rows(_merge_rows(valid, size[0]).T, size[1]).T


def _merge_rows(valid: np.ndarray, rows: int) -> np.ndarray:
    """Rows merged to a number of rows; one that none is merged into is as the nearest of them."""
    merged: np.ndarray = valid[nearest(rows, len(valid))]
    for row, target in zip(valid, nearest(len(valid), rows), strict=True):
        merged[target] |= row
    return merged


@dataclass
class SourceGrid:
    """The grid of an image that the model may see scaled; keeps no pixels.

    Args:
        height: Rows of the image.
        width: Columns of the image.
        scaled: Whether the model sees another size.
        valid: `(height, width)` bool, False for nodata; None where all are valid.
    """

    height: int
    width: int
    scaled: bool
    valid: np.ndarray | None = None

    def to_source_grid(self, values: np.ndarray, nodata: int) -> np.ndarray:
        """A map of what the model saw, on the grid of the image: nearest, and nodata exact.

        Args:
            values: `(height, width)` labels or confidence, as large as the model saw the image.
            nodata: Value of pixels that are not valid.

        Returns:
            `(height, width)` of the image, of the same dtype; `values` itself if nothing is scaled.
        """
        if not self.scaled:
            return values
        rows, columns = nearest(self.height, values.shape[0]), nearest(self.width, values.shape[1])
        labels: np.ndarray = values[rows[:, None], columns]
        if self.valid is not None:
            labels[~self.valid] = nodata
        return labels

"""Images scaled for the model, and maps brought back to the grid of the image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image


def nearest(to: int, of: int) -> np.ndarray:
    """For each of `to` pixels along a side, the one of `of` pixels in which its centre lies.

    >>> nearest(4, 2), nearest(2, 4)
    (array([0, 0, 1, 1]), array([1, 3]))
    """
    return (2 * np.arange(to) + 1) * of // (2 * to)


def scaled_image(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """`(height, width, bands)` uint8 scaled to another height and width, band by band.

    Bilinear, and where it gets smaller over all pixels that one takes the place of.
    """
    height, width = size
    scaled = np.empty((height, width, values.shape[2]), np.uint8)
    for band in range(values.shape[2]):
        # Pillow would take a fourth band for alpha and weight the others with it.
        image = Image.fromarray(np.ascontiguousarray(values[..., band]))
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        scaled[..., band] = np.asarray(image)
    return scaled


def scaled_valid(valid: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Where a scaled image is valid: where any pixel is that takes its label from there.

    >>> scaled_valid(np.array([[False, True, False, False]]), (1, 2))
    array([[ True, False]])
    """
    return _joined(_joined(valid, size[0]).T, size[1]).T


def _joined(valid: np.ndarray, rows: int) -> np.ndarray:
    """Rows put together to so many; those that none goes to are as the nearest."""
    joined = valid[nearest(rows, len(valid))]
    for row, target in zip(valid, nearest(len(valid), rows), strict=True):
        joined[target] |= row
    return joined


@dataclass
class OwnGrid:
    """The grid of an image that the model may see scaled; keeps no pixels.

    Args:
        height: Of the image.
        width: Of the image.
        scaled: Whether the model sees another size.
        valid: `(height, width)` bool, False for nodata; None where all are valid.
    """

    height: int
    width: int
    scaled: bool
    valid: np.ndarray | None = None

    def bring(self, values: np.ndarray, nodata: int) -> np.ndarray:
        """A map of what the model saw, on the grid of the image: nearest, and nodata exact."""
        if not self.scaled:
            return values
        rows, columns = nearest(self.height, values.shape[0]), nearest(self.width, values.shape[1])
        own = values[rows[:, None], columns]
        if self.valid is not None:
            own[~self.valid] = nodata
        return own

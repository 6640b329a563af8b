"""What is known of the pixels of a component, as whole numbers: sums of them are exact.

So neither blocks nor the order in which they are added matter. A ground area is cut at 2^-48 of the
mean of the label map, and kept as two numbers, so that billions of pixels fit.
"""

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from pipelines.geodesy.ground import GroundGrid
from pipelines.layers.pixel_areas import areas_by_squares
from pipelines.layers.polygons.components import Components
from segmodel.tiling.windows import Window

# Columns of the sums of components.
MEASURES = ("pixels", "area_high", "area_low", "counted_high", "counted_low", "confidence")
AREA, COUNTED = slice(1, 3), slice(3, 5)
_BITS, _LOW_BITS = 48, 26


@dataclass(frozen=True)
class WholeAreas:
    """Ground areas of pixels as whole numbers of a unit, which is a power of two of a m².

    Args:
        ground: Where the label map is on the ground; or the area of each pixel in m².
        exponent: Power of two that is the unit.
    """

    ground: GroundGrid | float
    exponent: int

    @classmethod
    def of(cls, ground: GroundGrid | float) -> "WholeAreas":
        """The areas of a label map; see `ground`."""
        if isinstance(ground, GroundGrid):
            mean = ground.footprint_m2() / (ground.height * ground.width)
        else:
            mean = ground
        return cls(ground, math.frexp(mean)[1] - _BITS)

    def in_window(self, window: Window) -> np.ndarray:
        """`(2, height, 1 or width)` int64, the high and the low number of each pixel."""
        return self._whole(areas_by_squares(self.ground, window))

    def _whole(self, areas_m2: np.ndarray) -> np.ndarray:
        whole = np.rint(np.ldexp(areas_m2, -self.exponent)).astype(np.int64)
        return np.stack([whole >> _LOW_BITS, whole & ((1 << _LOW_BITS) - 1)])

    def square_metres(self, sums: np.ndarray) -> np.ndarray:
        """`(components,)` float64 m², given `(components, 2)` sums of both numbers."""
        high, low = sums.T.astype(np.float64)
        return np.asarray(np.ldexp(np.ldexp(high, _LOW_BITS) + low, self.exponent))

    def exact(self, sums: np.ndarray) -> Fraction:
        """The same, exactly, of one component."""
        whole = (int(sums[0]) << _LOW_BITS) + int(sums[1])
        return whole * Fraction(2) ** self.exponent


def measures_of(
    components: Components,
    areas: np.ndarray | None,
    elsewhere: np.ndarray | None,
    confidence: np.ndarray | None,
) -> np.ndarray:
    """Sums over the pixels of components.

    Args:
        components: Components of a block.
        areas: Areas of its pixels as `WholeAreas.in_window` has them; None without ground.
        elsewhere: `(height, width)` bool, pixels that count in another scene; None for no pixel.
        confidence: `(height, width)` uint8, in which 255 is 1.0, or None.

    Returns:
        `(components, 6)` int64 by `MEASURES`; 0 for what is None.
    """
    sums = np.zeros((len(components.first), len(MEASURES)), np.int64)
    sums[:, 0] = components.pixels
    if areas is not None:
        sums[:, AREA] = np.stack([components.sums(part) for part in areas], axis=1)
        sums[:, COUNTED] = sums[:, AREA]
        if elsewhere is not None and elsewhere.any():
            there = np.stack([components.sums(part * elsewhere) for part in areas], axis=1)
            sums[:, COUNTED] -= there
    if confidence is not None:
        sums[:, -1] = components.sums(confidence)
    return sums

"""Views of an image for test-time augmentation: mirrored, turned and scaled."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from segmodel.errors import ConfigurationError

MIN_SCALE, MAX_SCALE = Fraction(1, 4), Fraction(4)
MAX_STRIDE_PX = 512


@dataclass(frozen=True)
class Orientation:
    """An image turned by quarters counterclockwise, then perhaps mirrored.

    Args:
        quarters: Number of quarter turns, 0 to 3.
        mirrored: Whether it is mirrored left to right, after the turn.
    """

    quarters: int
    mirrored: bool


@dataclass(frozen=True)
class Views:
    """Views of each image that a model labels: every orientation at every scale.

    Args:
        flips: Whether to mirror images left to right, top to bottom, and both.
        turns: Whether to turn images by quarters; with `flips` all eight symmetries of the square.
        scales: Factors of height and width in 0.25..4, each once; exact, as windows start at
            places that follow from them.

    Raises:
        ConfigurationError: If a scale is not possible.
    """

    flips: bool = False
    turns: bool = False
    scales: tuple[Fraction, ...] = (Fraction(1),)

    def __post_init__(self) -> None:
        if not self.scales:
            raise ConfigurationError("--scales: at least one is needed, such as 1")
        for scale in self.scales:
            if not MIN_SCALE <= scale <= MAX_SCALE:
                raise ConfigurationError(f"--scales: must be in 0.25..4, got {float(scale):g}")
            if self.scales.count(scale) > 1:
                raise ConfigurationError(f"--scales: {float(scale):g} occurs more than once")

    @property
    def orientations(self) -> tuple[Orientation, ...]:
        """Orientations, in an order in which symmetry keeps sums of halves, of quarters and so on.

        Each such part is a right coset of a subgroup: a mirrored or turned image exchanges the two
        parts of a sum as wholes, and a sum of two numbers does not depend on their order.

        >>> [(o.quarters, o.mirrored) for o in Views(flips=True).orientations]
        [(0, False), (0, True), (2, False), (2, True)]
        """
        mirrors = (False, True) if self.flips else (False,)
        halves = (0, 2) if self.flips or self.turns else (0,)
        quarters = (0, 1) if self.turns else (0,)
        return tuple(
            Orientation(half + quarter, mirrored)
            for quarter in quarters
            for half in halves
            for mirrored in mirrors
        )

    @property
    def count(self) -> int:
        """Number of views of one image."""
        return len(self.orientations) * len(self.scales)

    def stride(self, strides: Iterable[int]) -> int:
        """Least stride at which all models see windows on the grids of the whole image.

        Args:
            strides: Strides of the models.

        Raises:
            ConfigurationError: If it is greater than 512.

        >>> Views(scales=(Fraction("0.75"), Fraction(1), Fraction("1.25"))).stride([32])
        128
        """
        strides = tuple(strides)
        denominators = [scale.denominator for scale in self.scales]
        # k * s * p / q is a multiple of s only where q, which has no factor of p, divides k.
        stride = math.lcm(*(s * part for s in strides for part in denominators))
        if stride > MAX_STRIDE_PX:
            scales = ", ".join(f"{float(scale):g}" for scale in self.scales)
            raise ConfigurationError(
                f"--scales: {scales} with models of stride {', '.join(map(str, strides))} need "
                f"windows on multiples of {stride} pixels, more than {MAX_STRIDE_PX}: use scales "
                f"that are halves, quarters or eighths"
            )
        return stride

    def context_px(self, pixels: int) -> int:
        """Context that an output pixel of the ensemble uses, in pixels of the image.

        Args:
            pixels: Context that an output pixel of a model uses, in pixels of its view.

        >>> Views(scales=(Fraction("0.5"), Fraction(2))).context_px(10)
        24
        """
        return max(math.ceil(pixels / scale + 2 * _margin(scale)) for scale in self.scales)

    def __str__(self) -> str:
        """Such as `8 views: flips, turns, scale 0.5`."""
        parts = [name for name in ("flips", "turns") if getattr(self, name)]
        if self.scales != (Fraction(1),):
            many = "s" if len(self.scales) > 1 else ""
            parts.append(f"scale{many} {' '.join(f'{float(scale):g}' for scale in self.scales)}")
        count = f"{self.count} view{'s' if self.count > 1 else ''}"
        return f"{count}: {', '.join(parts)}" if parts else count


def parse_scales(text: str) -> tuple[Fraction, ...]:
    """Scales of a list with commas, as exact fractions.

    Args:
        text: Numbers or fractions, such as `0.75,1,4/3`.

    Raises:
        ConfigurationError: If one is no number.

    >>> parse_scales("0.75, 1,4/3")
    (Fraction(3, 4), Fraction(1, 1), Fraction(4, 3))
    """
    try:
        return tuple(Fraction(part.strip()) for part in text.split(","))
    except (ValueError, ZeroDivisionError):
        raise ConfigurationError(
            f"--scales: must be numbers with commas between them, such as 0.75,1,1.25, got {text!r}"
        ) from None


def _margin(scale: Fraction) -> Fraction:
    """Pixels of the image that a resize uses beyond those of its output, forth or back."""
    return Fraction(0) if scale == 1 else max(Fraction(1), 1 / scale)


def resize_taps(scale: Fraction) -> tuple[np.ndarray, np.ndarray]:
    """Input pixels and weights of each pixel of a resized row: bilinear, with antialias.

    Pixel centres are aligned. Output pixel `i = n * p + r`, with `scale = p / q`, is the sum over
    `t` of `weights[r, t]` times input pixel `n * q + first[r] + t`. So the weights follow from
    integers alone, at every place of an image of any size. `tf.image.resize` computes them from
    float32 coordinates, which are coarser the farther they are from the window's origin.

    Returns:
        `first`, `(p,)` int32, and `weights`, `(p, taps)` float32.

    >>> first, weights = resize_taps(Fraction(1, 2))
    >>> first, weights
    (array([-1], dtype=int32), array([[0.125, 0.375, 0.375, 0.125]], dtype=float32))
    """
    radius = max(Fraction(1), 1 / scale)
    taps = math.ceil(2 * radius)
    first, weights = [], []
    for phase in range(scale.numerator):
        center = (phase + Fraction(1, 2)) / scale - Fraction(1, 2)
        begin = math.floor(center - radius) + 1
        row = [max(Fraction(0), 1 - abs(begin + t - center) / radius) for t in range(taps)]
        first.append(begin)
        weights.append([float(weight / sum(row)) for weight in row])
    return np.array(first, np.int32), np.array(weights, np.float32)

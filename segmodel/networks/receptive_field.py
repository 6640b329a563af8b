"""Receptive field of a network, layer by layer, as exact intervals of input pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class ReceptiveField:
    """Which input pixels an output pixel can see, along one axis.

    Output `i` depends on input pixels `i * scale + low` to `i * scale + high`, ends included.

    Args:
        scale: Input pixels per output pixel.
        low: First input pixel that output pixel 0 sees.
        high: Last input pixel that output pixel 0 sees.

    Source: Araujo, Norris and Sim, Computing Receptive Fields of Convolutional Neural Networks
    (2019), eq. 1 to 4, extended to transposed convolutions.

    >>> pixel = ReceptiveField()
    >>> pixel.convolve(kernel=3, stride=2, before=0).convolve(kernel=3, stride=1, before=1)
    ReceptiveField(scale=Fraction(2, 1), low=Fraction(-2, 1), high=Fraction(4, 1))
    """

    scale: Fraction = Fraction(1)
    low: Fraction = Fraction(0)
    high: Fraction = Fraction(0)

    def convolve(self, kernel: int, stride: int, before: int, dilation: int = 1) -> ReceptiveField:
        """Receptive field after a convolution or a pooling.

        Args:
            kernel: Side of the kernel in pixels.
            stride: Stride in pixels.
            before: Pixels of padding in front.
            dilation: Distance of the kernel's pixels.
        """
        extent = (kernel - 1) * dilation
        return ReceptiveField(
            self.scale * stride,
            self.low - before * self.scale,
            self.high + (extent - before) * self.scale,
        )

    def pad(self, before: int) -> ReceptiveField:
        """Receptive field after `before` pixels of padding in front."""
        shift = before * self.scale
        return ReceptiveField(self.scale, self.low - shift, self.high - shift)

    def transpose(self, kernel: int, stride: int) -> ReceptiveField:
        """Receptive field after a transposed convolution with padding SAME."""
        before = max(kernel - stride, 0) // 2
        return ReceptiveField(
            self.scale / stride,
            self.low + self.scale * Fraction(before - kernel + 1, stride),
            self.high + self.scale * Fraction(before, stride),
        )

    def interpolate(self, factor: int) -> ReceptiveField:
        """Receptive field after bilinear upsampling by an even factor, with pixel centres aligned.

        Output `factor * q + r` mixes inputs `q - 1` and `q` in the first half of its source
        pixel, `q` and `q + 1` in the second.
        """
        return ReceptiveField(
            self.scale / factor,
            self.low - self.scale * (Fraction(3, 2) - Fraction(1, factor)),
            self.high + self.scale * Fraction(1, 2),
        )

    def join(self, other: ReceptiveField) -> ReceptiveField:
        """Receptive field of two branches of equal scale that are added or concatenated.

        Raises:
            ValueError: If their scales differ.
        """
        if self.scale != other.scale:
            raise ValueError(f"branches of scale {self.scale} and {other.scale} cannot be joined")
        return ReceptiveField(self.scale, min(self.low, other.low), max(self.high, other.high))

    @property
    def halo_px(self) -> int:
        """Pixels on each side that the output can see."""
        return max(0, -math.floor(self.low), math.ceil(self.high))

    @property
    def size_px(self) -> int:
        """Side of the symmetric square that holds all an output pixel can see."""
        return 2 * self.halo_px + 1

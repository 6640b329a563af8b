"""Borders of windows: the share of labels that differ from untiled ones, by distance to them."""

from __future__ import annotations

from dataclasses import dataclass

# Of the 0.1 % that 99.9 % of equal labels allow, a quarter is kept for scenes whose labels depend
# more on context than those of the samples: means of four tiles of Dubai were 0.7 to 1.4 times that
# of the tile that was measured, and windows at the edge of a scene end at fewer borders.
MAX_UNEQUAL = 0.00075


@dataclass(frozen=True)
class BorderCurve:
    """How labels of a window depend on where it ends.

    Args:
        step_px: Width in pixels of the rings that a window is divided into.
        unequal_labels: Share in [0, 1] of the labels of each ring that differ from those of the
            whole image, from the border inwards; the last ring is all of the window that is
            further from its border.
    """

    step_px: int
    unequal_labels: tuple[float, ...]

    @property
    def halos_px(self) -> range:
        """Halos that the curve can tell apart, in pixels."""
        return range(0, len(self.unequal_labels) * self.step_px, self.step_px)

    def unequal_share(self, halo_px: int, height: int, width: int) -> float:
        """Share in [0, 1] of labels of a core that differ from untiled ones.

        Args:
            halo_px: Context in pixels on all four sides of the core.
            height: Rows of the core.
            width: Columns of the core.

        >>> BorderCurve(4, (0.5, 0.0)).unequal_share(0, 16, 16)
        0.375
        >>> BorderCurve(4, (0.5, 0.0)).unequal_share(4, 16, 16)
        0.0
        """
        share = 0.0
        for number, unequal in enumerate(self.unequal_labels):
            outer = max(0, number * self.step_px - halo_px)
            is_last = number + 1 == len(self.unequal_labels)
            inner = max(0, (number + 1) * self.step_px - halo_px)
            inside = 0 if is_last else _inset(height, width, inner)
            share += unequal * (_inset(height, width, outer) - inside)
        return share / (height * width)

    def least_halo_px(self, side_px: int) -> int | None:
        """The least halo that is enough for square cores of a side; None if none is.

        >>> BorderCurve(4, (0.5, 0.0)).least_halo_px(64)
        4
        """
        return next(
            (
                halo
                for halo in self.halos_px
                if self.unequal_share(halo, side_px, side_px) <= MAX_UNEQUAL
            ),
            None,
        )


def _inset(height: int, width: int, px: int) -> int:
    """Pixels of a rectangle that are at least so many pixels away from its border."""
    return max(0, height - 2 * px) * max(0, width - 2 * px)

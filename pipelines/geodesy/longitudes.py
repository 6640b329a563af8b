"""Spans of longitudes, which go around the Earth."""

import numpy as np

# West, south, east and north in degrees.
Bounds = tuple[float, float, float, float]
# Degrees by which a place may lie before the west of a span that was found from few places.
_MARGIN = 0.5


def longitude_span(spans: np.ndarray) -> tuple[float, float]:
    """The shortest span of longitudes that holds all of some.

    Args:
        spans: `(n, 2)` degrees: west and east of each; a west that is greater than its east means a
            span across the antimeridian.

    Returns:
        West in -180..180, and east at most 360 more.

    >>> longitude_span(np.array([[170.0, -175.0], [-178.0, -170.0]]))
    (170.0, 190.0)
    """
    length = spans[:, 1] - spans[:, 0]
    length = np.where(length >= 360, 360, length % 360)
    west = (spans[:, 0] + 180) % 360 - 180
    order = np.argsort(west, kind="stable")
    west, east = west[order], (west + length)[order]
    # How far to the east what begins before each goes, also what comes around from there.
    before = np.maximum.accumulate(np.append(east.max() - 360, east[:-1]))
    gaps = west - before
    widest = int(gaps.argmax())
    if gaps[widest] <= 0:
        return -180.0, 180.0
    return float(west[widest]), float(before[widest] + 360)


def from_west(bounds: np.ndarray, west: float) -> np.ndarray:
    """Boxes to the east of a longitude: those to its west are moved by a turn.

    Args:
        bounds: `(n, 4)` west, south, east and north in degrees; west is in -180..180.
        west: The longitude, in -180..180.

    >>> from_west(np.array([[-175.0, 0, -170, 1]]), 170).tolist()
    [[185.0, 0.0, 190.0, 1.0]]
    """
    is_before = bounds[:, :1] < west - _MARGIN
    return np.asarray(bounds + 360 * is_before * [1, 0, 1, 0])

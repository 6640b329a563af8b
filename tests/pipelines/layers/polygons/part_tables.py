"""Tables of parts from polygons, as stages hand them to each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import shapely

from pipelines.layers.polygons.parts import PARTS, with_geometry

# What anybody may call a class or a scene.
HOSTILE = (
    "<script>alert(1)</script>",
    "'; DROP TABLE polygons; --",
    'a "quoted", name',
    "two\nlines\tand a tab",
    "\U0001f332 пустыня",
    "=1+1",
    "x" * 300,
)


def parts_of(polygons: Sequence[Any], **columns: list[Any]) -> pa.Table:
    """A row for each polygon; `columns` take the place of what rows have otherwise."""
    count = len(polygons)
    rows: dict[str, list[Any]] = {
        "scene": ["scenes/a.tif"] * count,
        "component": [f"scenes/a.tif#{number},0" for number in range(count)],
        "part": [0] * count,
        "class_id": [number % 3 for number in range(count)],
        "class": [("water", "forest", "town")[number % 3] for number in range(count)],
        "pixels": [number + 1 for number in range(count)],
        "area_m2": [100.0 * number for number in range(count)],
        "confidence": [None if number % 2 else 0.75 for number in range(count)],
        "geometry": [b""] * count,
        **{side: [0.0] * count for side in ("minx", "miny", "maxx", "maxy")},
    }
    return with_geometry(pa.table(rows | columns, schema=PARTS), np.asarray(polygons, object))


def squares(count: int) -> list[Any]:
    """Squares of one unit beside each other, the first with a hole."""
    left = np.arange(count)
    made = list(shapely.box(left, 0, left + 1, 1))
    made[0] = shapely.difference(made[0], shapely.box(0.25, 0.25, 0.5, 0.5))
    return made

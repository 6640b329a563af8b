"""Samples made of counts, where no map is needed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipelines.accuracy.design import SampleDesign, SamplePoint, Stratum

# Deforestation, gain, stable forest, stable non-forest: table 8 of Olofsson et al. (2014).
OLOFSSON_COUNTS = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
OLOFSSON_HA = (18000, 13500, 288000, 580500)
OLOFSSON_CLASSES = ((0, "deforestation"), (1, "gain"), (4, "forest"), (9, "other"))


def made_sample(
    counts: np.ndarray,
    strata: Sequence[Stratum],
    classes: Sequence[tuple[int, str]],
    strata_by: str = "class",
    run_digest: str = "d",
) -> tuple[SampleDesign, dict[str, int]]:
    """A design with so many points, and the class that people saw at each.

    Args:
        counts: `(strata, classes, classes)`; of a stratum, rows are the map's class.
        strata: The strata; their numbers of points are filled in.
        classes: Id and name of each class.
        strata_by: What strata are.
        run_digest: Of the map.
    """
    points, labels = [], {}
    for stratum, of_stratum in zip(strata, counts, strict=True):
        for (mapped, seen), number in np.ndenumerate(of_stratum):
            for _ in range(number):
                name = f"p{len(points):05d}"
                points.append(
                    SamplePoint(
                        name,
                        len(points) / 100,
                        len(points) / 1000,
                        stratum.name,
                        classes[mapped][0],
                        "a.tif",
                        0,
                        len(points),
                    )
                )
                labels[name] = classes[seen][0]
    filled = tuple(
        Stratum(s.name, s.class_id, s.zone, s.is_buffer, s.area_m2, int(own.sum()))
        for s, own in zip(strata, counts, strict=True)
    )
    design = SampleDesign(run_digest, 1, strata_by, tuple(classes), filled, tuple(points))
    return design, labels


def class_sample(
    counts: np.ndarray,
    areas_m2: Sequence[float],
    classes: Sequence[tuple[int, str]],
    run_digest: str = "d",
) -> tuple[SampleDesign, dict[str, int]]:
    """A design whose strata are the classes, from a matrix with a row for each stratum.

    Args:
        counts: `(classes, classes)`; classes without an area on the map have no points.
        areas_m2: Area of each class on the map; one of 0 is no stratum.
        classes: Id and name of each class.
        run_digest: Of the map.
    """
    mapped = [place for place, area in enumerate(areas_m2) if area]
    cubes = np.zeros((len(mapped), len(classes), len(classes)), int)
    for stratum, place in enumerate(mapped):
        cubes[stratum, place] = counts[place]
    strata = [
        Stratum(classes[place][1], classes[place][0], None, False, areas_m2[place], 0)
        for place in mapped
    ]
    return made_sample(cubes, strata, classes, run_digest=run_digest)


def olofsson_sample(run_digest: str = "d") -> tuple[SampleDesign, dict[str, int]]:
    """The sample of the published example."""
    areas = [ha * 1e4 for ha in OLOFSSON_HA]
    return class_sample(OLOFSSON_COUNTS, areas, OLOFSSON_CLASSES, run_digest)

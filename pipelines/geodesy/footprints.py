"""Which scenes lie on the same ground, and how much ground that is.

* Scenes of one CRS: exact polygons, also across the antimeridian.
* Scenes of different CRSs: their outlines in each other's pixels, to 1e-4 of the smaller scene
  (5e-4 if it spans 180 degrees of longitude at a pole).
* Scenes without such an outline (they hold a pole, leave their projection, go around the Earth):
  the part that is covered is made of cells of 1/512 of the scene whose centres are covered; areas
  are good to 1e-2 of the scene, and what is smaller than a cell of both scenes may be missed.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import rasterio.features
import shapely
import shapely.geometry
from affine import Affine
from numpy.polynomial import chebyshev
from shapely.geometry.base import BaseGeometry

from pipelines.geodesy import outlines
from pipelines.geodesy.ellipsoid import datum_of
from pipelines.geodesy.ground import GroundGrid

SLIVER_PX = 0.01  # overlaps that are not wider are rounding
SERIES_TERMS = (12, 24, 48)  # of the ground area per pixel, along each axis
TAIL = 1e-8  # share of the largest coefficient below which a series has converged
STEP, STEP_AT_RIM = 1e-4, 1e-7  # half of a difference, in radians on the ground
EDGE = 1 / 8  # straight edges are cut to 1/16 of a side; then Gauss
GAUSS_NODES, GAUSS_WEIGHTS = np.polynomial.legendre.leggauss(8)


def neighbours(grids: Sequence[GroundGrid]) -> list[tuple[int, ...]]:
    """For each scene the others that lie on its ground, by more than a sliver.

    Args:
        grids: Pixel grids of scenes in any CRS.

    Returns:
        Ascending indices by scene. An overlap counts if it is more than `SLIVER_PX` pixels of the
        first scene wide, so tiles that abut are not neighbours. Without outlines it counts if one
        of 512 x 512 points of either scene lies in the other.

    >>> from affine import Affine
    >>> tile = [GroundGrid.of(Affine(1, 0, x, 0, -1, 50), "EPSG:4326", 9, 9) for x in (0, 9, 15)]
    >>> neighbours(tile)
    [(), (2,), (1,)]
    """
    scenes = outlines.SceneArrays(grids)
    first, second = _candidates(scenes)
    ground = outlines.overlaps(scenes, first, second)
    wide = ~shapely.is_empty(shapely.buffer(ground, -SLIVER_PX / 2, join_style="mitre"))
    lost = shapely.is_missing(ground)
    near = set(zip(first[wide & ~lost].tolist(), second[wide & ~lost].tolist(), strict=True))
    for i, j in zip(first[lost].tolist(), second[lost].tolist(), strict=True):
        one, two = grids[i], grids[j]
        sampled = (outlines.cells_inside(*pair).any() for pair in ((one, two), (two, one)))
        if (j, i) in near or any(sampled):
            near.add((i, j))
    others = defaultdict(list)
    for i, j in sorted(near):
        others[i].append(j)
    return [tuple(others[i]) for i in range(len(grids))]


def covered(grid: GroundGrid, others: Sequence[GroundGrid]) -> BaseGeometry:
    """The part of a scene on whose ground at least one of the others lies.

    Args:
        grid: Pixel grid of the scene.
        others: Pixel grids of scenes in any CRS, overlapping or not.

    Returns:
        Polygons in pixel coordinates (column, row) of `grid`; the rectangle of the scene itself if
        no more than 1e-9 of it is left.
    """
    whole = shapely.box(0, 0, grid.width, grid.height)
    scenes = outlines.SceneArrays([grid, *others])
    second = np.arange(1, len(others) + 1)
    second = second[_meet(scenes, caps_of(scenes), np.zeros_like(second), second)]
    parts = outlines.overlaps(scenes, np.zeros_like(second), second)
    lost = second[shapely.is_missing(parts)]
    cells = [outlines.cells_inside(grid, scenes.grids[number]) for number in lost]
    sampled = _polygons(grid, np.any(cells, axis=0)) if cells else []
    part = shapely.intersection(shapely.union_all([*parts, *sampled]), whole)
    return whole if whole.area - part.area <= outlines.ROUNDING * whole.area else part


def covered_m2(grid: GroundGrid, others: Sequence[GroundGrid]) -> float:
    """Ground area of the `covered` part of a scene, in square metres.

    Args:
        grid: Pixel grid of the scene.
        others: Pixel grids of scenes in any CRS, overlapping or not.

    Exact where all or nothing is covered. Else the area of the polygons is good to 1e-6 of the
    footprint of the scene (1e-3 if it leaves its projection), which adds to how well the polygons
    are known: see the head of the module.
    """
    part = covered(grid, others)
    if part.is_empty or grid.height * grid.width - part.area <= outlines.ROUNDING * part.area:
        return 0.0 if part.is_empty else grid.footprint_m2()
    for terms in SERIES_TERMS:
        series = _series(grid, terms)
        tails = np.abs(series[-2:]).max(), np.abs(series[:, -2:]).max()
        if max(tails) <= TAIL * np.abs(series).max():
            return _integral(grid, series, part)
    y, x = (np.indices((outlines.SAMPLES, outlines.SAMPLES)) + 0.5) / outlines.SAMPLES
    weights = np.nan_to_num(_density_m2(grid, x, y, STEP_AT_RIM))
    inside = shapely.contains_xy(part, x * grid.width, y * grid.height)
    return float(grid.footprint_m2() * weights[inside].sum() / weights.sum())


def counted_twice_m2(grids: Sequence[GroundGrid], near: Sequence[Sequence[int]]) -> float:
    """Ground that the sum of all footprints contains more than once, in square metres.

    Args:
        grids: Pixel grids of scenes in any CRS.
        near: For each scene the indices of its `neighbours`.

    Returns:
        Square metres: the sum over scenes of the ground that earlier ones cover. The sum of all
        footprints less this is the ground of all scenes together.
    """
    earlier = ([grids[j] for j in others if j < i] for i, others in enumerate(near))
    pairs = ((grid, before) for grid, before in zip(grids, earlier, strict=True) if before)
    return float(sum(covered_m2(grid, before) for grid, before in pairs))


def caps_of(scenes: outlines.SceneArrays) -> np.ndarray:
    """Caps of the sphere that hold scenes, from 25 points of each.

    Returns:
        `(n, 4)`: unit vector of the middle, and radius in radians; pi for a scene that may lie
        anywhere.
    """
    units = np.empty((len(scenes.crs), 25, 3))
    for number, transformer in enumerate(scenes.transformers):
        own = np.flatnonzero(scenes.crs == number)
        lon, lat = np.moveaxis(transformer.lon_lat(scenes.points(own, outlines.LATTICE)), -1, 0)
        level = np.cos(lat)
        units[own] = np.stack([level * np.cos(lon), level * np.sin(lon), np.sin(lat)], axis=-1)
    lattice = units.reshape(-1, 5, 5, 3)
    steps = (np.linalg.norm(np.diff(lattice, axis=axis), axis=-1) for axis in (1, 2))
    pitch = np.maximum(*(step.max(axis=(1, 2)) for step in steps))
    mean = units.mean(axis=1)
    length = np.linalg.norm(mean, axis=-1)
    lost = ~(pitch < 0.5) | ~(length > 0.1)  # such a scene may lie anywhere
    centre = np.where(lost[:, np.newaxis], [1.0, 0, 0], mean / np.where(lost, 1, length)[:, None])
    chord = np.linalg.norm(units - centre[:, np.newaxis], axis=-1).max(axis=1)
    radius = 2 * np.arcsin(np.minimum(np.where(lost, 2, chord) / 2, 1)) + 0.75 * pitch
    radius = np.where(lost, np.pi, np.minimum(radius, np.pi))
    return np.column_stack([centre, radius])


def _meet(
    scenes: outlines.SceneArrays, caps: np.ndarray, first: np.ndarray, second: np.ndarray
) -> np.ndarray:
    """Whether the caps of pairs of scenes meet, on the same celestial body."""
    a = np.array([transformer.a for transformer in scenes.transformers])[scenes.crs]
    cosine = np.einsum("ij,ij->i", caps[first, :3], caps[second, :3])
    reach = np.minimum(caps[first, 3] + caps[second, 3], np.pi)
    meet = np.arccos(np.clip(cosine, -1, 1)) <= reach + 1e-7
    return np.asarray(meet & outlines.is_same_body(a[first], a[second]))


def _candidates(scenes: outlines.SceneArrays) -> tuple[np.ndarray, np.ndarray]:
    """Ordered pairs of scenes whose caps meet, found by their longitudes and latitudes."""
    count = len(scenes.crs)
    if not count:
        return np.zeros(0, int), np.zeros(0, int)
    caps = caps_of(scenes)
    x, y, z, radius = caps.T
    lon, lat = np.arctan2(y, x), np.arcsin(np.clip(z, -1, 1))
    slope = np.sin(np.minimum(radius, 1.5)) / np.maximum(np.cos(lat), 1e-9)
    polar = np.abs(lat) + radius >= np.pi / 2
    half = np.where(polar, np.pi, np.arcsin(np.minimum(slope, 1)))
    boxes = [
        shapely.box(lon - half + turn, lat - radius, lon + half + turn, lat + radius)
        for turn in (0, -2 * np.pi, 2 * np.pi)
    ]
    tree = shapely.STRtree(boxes[0])
    near = np.concatenate([tree.query(box) for box in boxes], axis=1)
    first, second = np.divmod(np.unique(near[0] * count + near[1]), count)
    kept = (first != second) & _meet(scenes, caps, first, second)
    return first[kept], second[kept]


def _polygons(grid: GroundGrid, cells: np.ndarray) -> list[BaseGeometry]:
    """Cells of a scene as polygons in its pixels."""
    scale = Affine.scale(grid.width / outlines.SAMPLES, grid.height / outlines.SAMPLES)
    shapes = rasterio.features.shapes(cells.astype(np.uint8), mask=cells, transform=scale)
    return [shapely.geometry.shape(outline) for outline, _ in shapes]


def _density_m2(grid: GroundGrid, x: np.ndarray, y: np.ndarray, step: float) -> np.ndarray:
    """Ground area per area of the scene, at points in sides of it; NaN outside its projection."""
    datum = datum_of(grid.crs_wkt)

    def units(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return datum.sphere(*grid.lon_lat(x * grid.width, y * grid.height))

    if datum.geographic:
        e2, unit = 1 - (datum.b / datum.a) ** 2, datum.radians_per_unit
        d, e, f = tuple(grid.transform)[3:6]
        lat = (d * x * grid.width + e * y * grid.height + f) * unit
        level = np.where(np.abs(lat) <= np.pi / 2, np.cos(lat), 0)
        ground = datum.b**2 * level / (1 - e2 * np.sin(lat) ** 2) ** 2 * unit**2
        return np.asarray(ground * abs(grid.transform.determinant) * grid.width * grid.height)
    tiny = 1e-4 * np.eye(2)
    pitch = [np.linalg.norm(units(*(0.5 + t)) - units(*(0.5 - t))) / 2e-4 for t in tiny]
    across, down = (step / p if p > 0 else 1e-4 for p in pitch)
    right = (units(x + across, y) - units(x - across, y)) / (2 * across)
    below = (units(x, y + down) - units(x, y - down)) / (2 * down)
    return np.asarray(datum.sphere_m2 * np.linalg.norm(np.cross(right, below), axis=-1))


def _series(grid: GroundGrid, terms: int) -> np.ndarray:
    """Chebyshev series `(terms, terms)` of the density over x and y; NaN if it is not known."""
    nodes = np.cos(np.pi * (np.arange(terms) + 0.5) / terms)
    x, y = np.meshgrid((nodes + 1) / 2, (nodes + 1) / 2, indexing="ij")
    onto = 2 / terms * chebyshev.chebvander(nodes, terms - 1).T
    onto[0] /= 2
    return np.asarray(onto @ _density_m2(grid, x, y, STEP) @ onto.T)


def _integral(grid: GroundGrid, series: np.ndarray, part: BaseGeometry) -> float:
    """The integral of a series over polygons in pixels, by Green's theorem."""
    scale = 2 / np.array([grid.width, grid.height])
    part = shapely.transform(part, lambda points: points * scale - 1)
    along = chebyshev.chebint(series, axis=0) / 4
    total = 0.0
    for polygon in shapely.get_parts(shapely.segmentize(part, EDGE)):
        if polygon.geom_type != "Polygon":
            continue
        for ring in shapely.get_rings(shapely.normalize(polygon)):
            points = shapely.get_coordinates(ring)
            steps = np.diff(points, axis=0)[:, np.newaxis]
            nodes = points[:-1, np.newaxis] + steps * (GAUSS_NODES[:, np.newaxis] + 1) / 2
            values = chebyshev.chebval2d(nodes[..., 0], nodes[..., 1], along)
            total += float((values @ GAUSS_WEIGHTS / 2) @ steps[:, 0, 1])
    return abs(total)

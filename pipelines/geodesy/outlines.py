"""The outline of one scene in the pixels of another.

Scenes of one CRS are compared in its plane. Between two CRSs the outline goes through longitude and
latitude in `STEPS` straight steps a side, which errs by 1e-4 of the smaller scene (5e-4 if it spans
180 degrees of longitude at a pole). It is used only if points in both scenes confirm it. At poles,
at rims of projections and for whole worlds there is no such outline; `cells_inside` then tells for
`SAMPLES` x `SAMPLES` points of a scene whether they lie in the other. Scenes of different datums
meet on WGS 84, by the operation that PROJ takes for best at each place.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import shapely
from pyproj import CRS, Transformer

from pipelines.geodesy.ellipsoid import datum_of, square, wrap_near
from pipelines.geodesy.ground import GroundGrid

STEPS = 64  # along a side of an outline
SAMPLES = 512  # along a side of a scene without an outline
BATCH = 8192  # pairs at a time, to spare memory
NEAR_EDGE = 0.02  # of a side: points so close to an edge confirm nothing
ROUNDING = 1e-9  # share of a scene that is not missed
EARTH_M, SAME_BODY = 6378137.0, 0.01  # semi-major axis, and how much it may differ
CORNERS = np.stack(square(1, 1), axis=-1)
OUTLINE = np.stack(square(STEPS, STEPS), axis=-1)
LATTICE = np.stack(np.meshgrid(*[np.linspace(0, 1, 5)] * 2), axis=-1).reshape(25, 2)
INNER = 0.05 + 0.87 * LATTICE + np.array([0.013, 0.007])  # not on poles, where longitude is lost


class HubTransformer:
    """From coordinates of one CRS to longitude and latitude that all scenes share, and back.

    Args:
        wkt: CRS as WKT 2.
    """

    def __init__(self, wkt: str) -> None:
        datum, crs = datum_of(wkt), CRS.from_wkt(wkt)
        while crs.is_compound:
            crs = CRS.from_user_input(crs.sub_crs_list[0])
        self.a, self.geographic, self.period = datum.a, datum.geographic, datum.period
        self.tolerance = np.inf if self.geographic else datum.tolerance
        base = crs.source_crs if crs.is_derived and not crs.is_projected else crs.geodetic_crs
        hub = "EPSG:4326" if is_same_body(self.a, EARTH_M) else base
        self.transformer = Transformer.from_crs(crs, hub, always_xy=True)

    def lon_lat(self, points: np.ndarray) -> np.ndarray:
        """`(..., 2)` in radians; NaN outside the projection."""
        angles = self._transform(points)
        if self.geographic:
            lost = np.abs(angles[..., 1]) > 90 + 1e-9
        else:
            back = self._transform(angles, "INVERSE")
            gap = np.stack([self.near(back[..., 0], points[..., 0]), back[..., 1]], -1) - points
            lost = ~(np.abs(gap) < self.tolerance).all(axis=-1)
        return np.radians(np.where(lost[..., np.newaxis], np.nan, angles))

    def coordinates(self, angles: np.ndarray) -> np.ndarray:
        """Coordinates `(..., 2)` of longitude and latitude; NaN where there are none."""
        points = self._transform(np.degrees(angles), "INVERSE")
        gap = np.radians(self._transform(points)) - angles
        gap[..., 0] = np.sin(gap[..., 0] / 2) * np.cos(angles[..., 1])
        return np.where((np.abs(gap) < 1e-6).all(axis=-1, keepdims=True), points, np.nan)

    def near(self, x: np.ndarray, middle: np.ndarray) -> np.ndarray:
        """The same places as near to the middle as maps that go around the Earth show them."""
        return wrap_near(x, middle, self.period)

    def unrolled(self, rings: np.ndarray) -> np.ndarray:
        """Rings `(n, points, 2)` without jumps at the antimeridian; NaN if around a pole."""
        if not np.isfinite(self.period):
            return rings
        steps = np.diff(rings[..., 0], axis=1, append=rings[:, :1, 0])
        turns = np.cumsum(np.round(steps / self.period), axis=1)
        unrolled = rings.copy()
        unrolled[:, 1:, 0] -= self.period * turns[:, :-1]
        unrolled[turns[:, -1] != 0] = np.nan
        return unrolled

    def turns(self, x: np.ndarray, far: np.ndarray) -> Iterator[tuple[float, np.ndarray]]:
        """Shifts by whole turns around the Earth, and which rows of x they bring to rows of far."""
        low, high = x.min(axis=1), x.max(axis=1)
        first = np.ceil((far.min(axis=1) - high) / self.period)
        last = np.floor((far.max(axis=1) - low) / self.period)
        if not len(x) or not np.isfinite([first.min(), last.max()]).all():
            return
        for turn in range(int(first.min()), int(last.max()) + 1):
            shift = turn * self.period if turn else 0.0
            yield shift, (first <= turn) & (turn <= last)

    def _transform(self, points: np.ndarray, direction: str = "FORWARD") -> np.ndarray:
        x, y = np.ascontiguousarray(np.moveaxis(points, -1, 0))
        there = np.stack(self.transformer.transform(x, y, direction=direction), axis=-1)
        return np.where(np.isfinite(there), there, np.nan)


hub_transformer = lru_cache(maxsize=64)(HubTransformer)


class SceneArrays:
    """Scenes as arrays: numbers of CRSs `(n,)`, affine maps `(n, 6)`, sizes `(n, 2)`.

    Args:
        grids: Pixel grids of the scenes.
    """

    def __init__(self, grids: Sequence[GroundGrid]) -> None:
        systems = {wkt: i for i, wkt in enumerate(dict.fromkeys(g.crs_wkt for g in grids))}
        self.grids, self.transformers = grids, [hub_transformer(wkt) for wkt in systems]
        self.crs = np.array([systems[grid.crs_wkt] for grid in grids], int)
        self.affine = np.array([tuple(g.transform)[:6] for g in grids]).reshape(-1, 6)
        self.inverse = np.array([tuple(~g.transform)[:6] for g in grids]).reshape(-1, 6)
        self.size = np.array([(g.width, g.height) for g in grids], float).reshape(-1, 2)

    def points(self, which: np.ndarray, shares: np.ndarray) -> np.ndarray:
        """Coordinates `(n, points, 2)` of points given in sides of the scenes."""
        return apply_affine(self.affine[which], shares * self.size[which, np.newaxis])

    def points_in(self, place: HubTransformer, which: np.ndarray, shares: np.ndarray) -> np.ndarray:
        """As `points`, of scenes of one CRS, in coordinates of another one."""
        own = self.transformers[self.crs[which[0]]]
        once, back = np.unique(which, return_inverse=True)
        return place.coordinates(own.lon_lat(self.points(once, shares)))[back]


def is_same_body(a: np.ndarray | float, b: np.ndarray | float) -> np.ndarray:
    """Whether semi-major axes are of one celestial body."""
    return np.asarray(np.abs(np.divide(a, b) - 1) < SAME_BODY)


def apply_affine(affine: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points `(n, points, 2)`, each row through its own affine map of `(n, 6)`."""
    a, b, c, d, e, f = affine.T[..., np.newaxis]
    x, y = points[..., 0], points[..., 1]
    return np.stack([a * x + b * y + c, d * x + e * y + f], axis=-1)


def overlaps(scenes: SceneArrays, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Ground that pairs of scenes share.

    Args:
        scenes: Scenes as arrays.
        first, second: `(n,)` indices of the scenes of each pair.

    Returns:
        `(n,)` geometries in pixels of the first scene; None where there is no outline.
    """
    ground = np.full(len(first), None, object)
    kinds = scenes.crs[first] * len(scenes.transformers) + scenes.crs[second]
    order = np.argsort(kinds, kind="stable")
    for group in np.split(order, np.flatnonzero(np.diff(kinds[order])) + 1):
        for start in range(0, len(group), BATCH):
            batch = group[start : start + BATCH]
            one, two = first[batch], second[batch]
            ground[batch] = _outlined(scenes, one, two)[0]
            lost = np.flatnonzero(shapely.is_missing(ground[batch]))
            if len(lost):
                ground[batch[lost]] = _all_or_nothing(scenes, one[lost], two[lost])
    return ground


def _all_or_nothing(scenes: SceneArrays, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """As `overlaps` where the outline of the first scene lies wholly inside or outside."""
    back, share = _outlined(scenes, second, first)
    known = ~shapely.is_missing(back)
    ground = np.where(known & (share <= 0), shapely.Polygon(), None)
    whole = shapely.box(0, 0, *scenes.size[first].T)
    return np.where(known & (share >= 1 - ROUNDING), whole, ground)


def _outlined(
    scenes: SceneArrays, first: np.ndarray, second: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """As `overlaps`, of scenes of two CRSs; also the share of the second that is shared."""
    here, there = (scenes.transformers[scenes.crs[side[0]]] for side in (first, second))
    same = here is there
    if same:
        rings = scenes.points(second, CORNERS)
    else:
        rings = here.unrolled(scenes.points_in(here, second, OUTLINE))
    good = np.isfinite(rings).all(axis=(1, 2))
    known = np.flatnonzero(good)
    rough = known[~shapely.is_valid(shapely.polygons(rings[known]))]
    rings[rough] = _rounded(rings[rough])
    good[rough] = shapely.is_valid(shapely.polygons(rings[rough]))
    if not same and good.any():
        good[good] = _holds_inner(scenes, here, second[good], rings[good])
    ground = np.full(len(first), None, object)
    share = np.zeros(len(first))
    one, two, rings = first[good], second[good], rings[good]
    parts = np.full(len(one), shapely.Polygon(), object)
    boxes = shapely.box(0, 0, *scenes.size[one].T)
    for shift, meets in here.turns(rings[..., 0], scenes.points(one, CORNERS)[..., 0]):
        pixels = apply_affine(scenes.inverse[one[meets]], rings[meets] + np.array([shift, 0]))
        turned = shapely.intersection(shapely.polygons(pixels), boxes[meets])
        parts[meets] = shapely.union(parts[meets], turned)
    area = shapely.area(shapely.polygons(apply_affine(scenes.inverse[one], rings)))
    share[good] = shapely.area(parts) / area
    if not same and len(one):
        parts[~_confirmed(scenes, one, two, parts)] = None
    ground[good] = parts
    return ground, share


def _rounded(rings: np.ndarray) -> np.ndarray:
    """Rings with coordinates to 1e-9 of their size, so that an edge at a pole is one point."""
    unit = ROUNDING * np.ptp(rings, axis=1, keepdims=True).max(axis=2, keepdims=True)
    return np.asarray(np.round(rings / unit) * unit)


def _holds_inner(
    scenes: SceneArrays, here: HubTransformer, second: np.ndarray, rings: np.ndarray
) -> np.ndarray:
    """Whether rings in coordinates of a CRS hold the inner points of their scenes."""
    inner = scenes.points_in(here, second, INNER)
    middle = (rings[..., 0].min(axis=1) + rings[..., 0].max(axis=1)) / 2
    x = here.near(inner[..., 0], middle[:, np.newaxis])
    polygons = shapely.polygons(rings)
    shapely.prepare(polygons)
    return np.asarray(shapely.contains_xy(polygons[:, np.newaxis], x, inner[..., 1]).all(axis=1))


def _confirmed(
    scenes: SceneArrays, first: np.ndarray, second: np.ndarray, parts: np.ndarray
) -> np.ndarray:
    """Whether points of the first scenes that lie in the second ones are those in the parts."""
    there = scenes.transformers[scenes.crs[second[0]]]
    points = scenes.points_in(there, first, INNER)
    middle = scenes.points(second, np.array([[0.5, 0.5]]))
    points[..., 0] = there.near(points[..., 0], middle[..., 0])
    shares = apply_affine(scenes.inverse[second], points) / scenes.size[second, np.newaxis]
    depth = np.minimum(shares, 1 - shares).min(axis=-1)
    x, y = np.moveaxis(INNER * scenes.size[first, np.newaxis], -1, 0)
    shapely.prepare(parts)
    inside = shapely.contains_xy(parts[:, np.newaxis], x, y)
    wrong = np.where(inside, ~(depth > -NEAR_EDGE), depth > NEAR_EDGE)
    return np.asarray(~wrong.any(axis=1))


@lru_cache(maxsize=16)
def _samples(grid: GroundGrid, wkt: str) -> np.ndarray:
    """Coordinates `(1, SAMPLES^2, 2)` in a CRS of points of a scene."""
    axis = (np.arange(SAMPLES) + 0.5) / SAMPLES
    shares = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    scenes = SceneArrays([grid])
    if wkt == grid.crs_wkt:
        return scenes.points(np.array([0]), shares)
    return scenes.points_in(hub_transformer(wkt), np.array([0]), shares)


def cells_inside(grid: GroundGrid, other: GroundGrid) -> np.ndarray:
    """`(SAMPLES, SAMPLES)` bool: which cells of a scene have their centre in another scene."""
    scenes, zero = SceneArrays([other]), np.array([0])
    points = _samples(grid, other.crs_wkt)
    found = np.zeros(SAMPLES**2, bool)
    known = points[:, np.isfinite(points).all(axis=(0, 2))]
    if known.size:
        corners = scenes.points(zero, CORNERS)[..., 0]
        for shift, _ in scenes.transformers[0].turns(known[..., 0], corners):
            pixels = apply_affine(scenes.inverse, points + np.array([shift, 0]))[0]
            found |= ((pixels >= 0) & (pixels <= scenes.size)).all(axis=-1)
    return found.reshape(SAMPLES, SAMPLES)

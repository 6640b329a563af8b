"""Size and place of a raster, and whether two rasters lie on each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from rasterio.crs import CRS
from rasterio.transform import Affine

from segmodel.errors import InputError
from segmodel.tiling.windows import Window

# Most pixels between corners of a mask and of its image: coordinates may be rounded.
_MAX_OFFSET_PX = 0.1


@dataclass(frozen=True)
class Grid:
    """Size and place of a raster.

    Args:
        height: Rows.
        width: Columns.
        transform: Transform from columns and rows to coordinates; the identity where there is none.
        crs: Coordinate reference system, or None.
    """

    height: int
    width: int
    transform: Affine
    crs: CRS | None

    @property
    def window(self) -> Window:
        """The window of all pixels."""
        return Window(0, 0, self.height, self.width)


def check_alignment(image: Grid, mask: Grid) -> None:
    """Refuse a mask that lies elsewhere than its image, where both are georeferenced.

    Args:
        image: Grid of the image.
        mask: Grid of its mask, of the same size.

    Raises:
        InputError: Says what differs and by how much.
    """
    remedy = (
        "lay the mask on the grid of the image (gdalwarp -t_srs -te -ts -dstnodata N, with an N "
        "that is no class), or take its place out of the file if its pixels are those of the image "
        "(gdal_edit.py -unsetgt)"
    )
    if image.transform.is_identity or mask.transform.is_identity:
        return
    if image.crs is not None and mask.crs is not None and not _is_same(image.crs, mask.crs):
        raise InputError(
            f"the mask is in {mask.crs.to_string()}, its image in {image.crs.to_string()}: {remedy}"
        )
    if image.transform.is_degenerate:
        return
    corners = np.array([[0, 0], [1, 0], [0, 1], [1, 1]]) * (image.width, image.height)
    offsets = _applied(~image.transform, _applied(mask.transform, corners)) - corners
    worst = offsets[np.abs(offsets).max(axis=1).argmax()]
    if np.abs(worst).max() > _MAX_OFFSET_PX:
        raise InputError(
            f"the mask lies up to {worst[0]:+.1f} columns and {worst[1]:+.1f} rows of pixels away "
            f"from its image: {remedy}"
        )


def _applied(transform: Affine, points: np.ndarray) -> np.ndarray:
    matrix = np.array(tuple(transform)[:6]).reshape(2, 3)
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2])


def _is_same(one: CRS, other: CRS) -> bool:
    # Different texts may be of one system.
    return one == other or (one.to_epsg() is not None and one.to_epsg() == other.to_epsg())

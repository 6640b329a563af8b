"""What the header of a raster says: grid, bands, nodata, palette and masks."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache

import rasterio
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags

from segmodel.errors import FailureCode, InputError
from segmodel.rasters.grid import Grid

# Where a file says when it was taken, by domain; the first that is there counts.
_DATE_TAGS = (
    ("IMAGERY", "ACQUISITIONDATETIME"),
    (None, "ACQUISITIONDATETIME"),
    (None, "datetime"),
    (None, "TIFFTAG_DATETIME"),
)

# Red, green, blue and alpha by value.
Palette = tuple[tuple[int, int, int, int], ...]


@dataclass(frozen=True)
class Band:
    """A band that is not alpha.

    Args:
        index: Index of the band in the file, from 1.
        dtype: Dtype of its samples.
        names: Names of the band in lower case: its description, its colour.
        nodata: Value that stands for nodata, or None.
        scale: Factor from samples to the values that they stand for.
        offset: What is added to the values after that.
    """

    index: int
    dtype: str
    names: tuple[str, ...]
    nodata: float | None
    scale: float
    offset: float

    @property
    def is_scaled(self) -> bool:
        """Whether samples are other numbers than the values that they stand for."""
        return (self.scale, self.offset) != (1.0, 0.0)


@dataclass(frozen=True)
class Header:
    """What the header of a raster says.

    Args:
        grid: Size and place of the raster.
        bands: Bands that are not alpha.
        mask: Where nodata is: `none`, `values` of bands, an `alpha` band, one `mask` for all bands,
            or one for each of the `bands`.
        alpha: Index of the alpha band, or None.
        palette: Red, green, blue and alpha by value, where the only band has one.
        block_px: Height and width of what the file stores as a whole.
        located_by: `gcps` or `rpcs` where that is all that says where it lies, else None.
        acquired: When it was taken, in the file's own words, or None.
        others: Other files that it is read from: sources of a VRT, masks, sidecars.
        has_overviews: Whether it has smaller copies of itself.
        is_compressed: Whether the file says how its pixels are compressed.
        shortage: What is wrong where files end before the pixels do, else None; see `shortage_of`.
    """

    grid: Grid
    bands: tuple[Band, ...]
    mask: str
    alpha: int | None
    palette: Palette | None
    block_px: tuple[int, int]
    located_by: str | None
    acquired: str | None
    others: tuple[str, ...]
    has_overviews: bool = False
    is_compressed: bool = True
    shortage: str | None = None

    def check_complete(self, what: str = "") -> None:
        """Refuse a raster of which a part is missing, which GDAL would read as zeros.

        Args:
            what: Name of the raster in the error.

        Raises:
            InputError: If its files are shorter than it says.
        """
        if self.shortage is not None:
            raise InputError(self.shortage, code=FailureCode.INCOMPLETE, name=what)

    @property
    def is_located(self) -> bool:
        """Whether it says in any way where the scene is."""
        has_transform = not self.grid.transform.is_identity
        return has_transform or self.grid.crs is not None or self.located_by is not None

    @property
    def is_placed(self) -> bool:
        """Whether it says where on the ground every pixel is."""
        return self.grid.crs is not None and not self.grid.transform.is_identity


def header_of(source: rasterio.DatasetReader) -> Header:
    """The header of an open raster.

    Raises:
        InputError: If it has no bands.
    """
    if not source.count:
        raise InputError("it has no bands", code=FailureCode.WRONG_BANDS)
    kinds = zip(source.indexes, source.colorinterp, strict=True)
    alpha = [index for index, kind in kinds if kind == ColorInterp.alpha]
    bands = tuple(_band(source, index) for index in source.indexes if index not in alpha)
    located_by = None
    if source.transform.is_identity and (source.gcps[0] or source.rpcs is not None):
        located_by = "gcps" if source.gcps[0] else "rpcs"
    crs = _shared_crs(source.crs.to_wkt()) if source.crs else None
    first = bands[0].index if bands else source.indexes[0]
    return Header(
        grid=Grid(source.height, source.width, source.transform, crs),
        bands=bands,
        mask=_mask_kind([source.mask_flag_enums[band.index - 1] for band in bands]),
        alpha=alpha[0] if alpha else None,
        palette=_palette(source, bands),
        block_px=source.block_shapes[first - 1],
        located_by=located_by,
        acquired=_acquired(source),
        others=tuple(source.files),
        has_overviews=bool(source.overviews(first)),
        is_compressed=source.compression is not None,
    )


# One object for all scenes of a CRS: parsing it takes longer than the rest of a header.
_shared_crs = lru_cache(1024)(CRS.from_wkt)


def _band(source: rasterio.DatasetReader, index: int) -> Band:
    kind = source.colorinterp[index - 1]
    try:
        names = [source.descriptions[index - 1]]
    except UnicodeDecodeError:
        # Of whatever encoding it is, no option and no contract can name it.
        names = []
    if kind not in (ColorInterp.undefined, ColorInterp.palette):
        names.append(kind.name)
    return Band(
        index=index,
        dtype=source.dtypes[index - 1],
        names=tuple(name.strip().lower() for name in names if name),
        nodata=source.nodatavals[index - 1],
        scale=float(source.scales[index - 1]),
        offset=float(source.offsets[index - 1]),
    )


def _mask_kind(flags: Sequence[Sequence[MaskFlags]]) -> str:
    """Where nodata is, by the flags of all bands; GDAL has masks before values before alpha."""
    flags_of_all = {flag for of_band in flags for flag in of_band}
    if MaskFlags.alpha in flags_of_all:
        return "alpha"
    if MaskFlags.per_dataset in flags_of_all:
        return "mask"
    if not all(flags):
        # A band without any flag has a mask of its own, which for the others is their values.
        return "bands"
    return "values" if MaskFlags.nodata in flags_of_all else "none"


def _palette(source: rasterio.DatasetReader, bands: tuple[Band, ...]) -> Palette | None:
    if len(bands) != 1 or source.colorinterp[bands[0].index - 1] != ColorInterp.palette:
        return None
    colors = source.colormap(bands[0].index)
    return tuple(colors.get(value, (0, 0, 0, 0)) for value in range(max(colors) + 1))


def _acquired(source: rasterio.DatasetReader) -> str | None:
    for domain, name in _DATE_TAGS:
        with suppress(UnicodeDecodeError):
            if found := source.tags(ns=domain).get(name):
                return str(found)
    return None

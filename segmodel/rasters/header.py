"""What the header of a raster says: grid, bands, nodata, palette and masks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import PurePath

import numpy as np
import rasterio
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.transform import Affine

from segmodel.errors import FailureCode, InputError
from segmodel.rasters.grid import Grid
from segmodel.rasters.nodata import is_rounded

# Where a file says when it was taken, by domain; the first that is there counts.
_DATE_TAGS = (
    ("IMAGERY", "ACQUISITIONDATETIME"),
    (None, "ACQUISITIONDATETIME"),
    (None, "datetime"),
    (None, "TIFFTAG_DATETIME"),
)

SUBDATASETS_NAMED = 5
# Descriptions that do not name a band: numbers, and other words for alpha.
_ALPHA_WORDS = "alpha|mask|opacity|transp|coverage|valid|no ?data"
_UNNAMED = re.compile(rf"(?:(?:band|layer|channel|b)?[ _-]*\d*)|.*(?:{_ALPHA_WORDS}).*")
TURNED = (
    "EXIF says that the image is shown turned, and its world file or .aux.xml is about the image "
    "as stored: take the tag out (exiftool -Orientation= FILE) if the image lies right without it, "
    "or turn the image and mend its place"
)
# The least normal number.
_LEAST = float(np.finfo(np.float64).tiny)
_ALPHA = ColorInterp.alpha.name
# Places and colours of bands as GDAL takes them for, whatever they are.
USUAL = frozenset({(1, "red"), (2, "green"), (3, "blue"), (1, "gray")})
_BLACK_WHITE = ((0, 0, 0, 255), (255, 255, 255, 255))

# Red, green, blue and alpha by value.
Palette = tuple[tuple[int, int, int, int], ...]


@dataclass(frozen=True)
class Band:
    """A band of a raster.

    Args:
        index: Index of the band in the file, from 1.
        dtype: Dtype of its samples.
        description: What the file calls the band, in lower case; empty if it does not say.
        nodata: Value that stands for nodata, or None.
        scale: Factor from samples to the values that they stand for.
        offset: What is added to the values after that.
        color: What the band is taken for, such as `red`; empty if for nothing.
        is_color_invented: Whether that is what GDAL takes any bands in this place for, and the band
            has a description that says otherwise.
    """

    index: int
    dtype: str
    description: str
    nodata: float | None
    scale: float
    offset: float
    color: str = ""
    is_color_invented: bool = False

    @property
    def name(self) -> str:
        """The description of the band, or else its colour."""
        return self.description or self.color

    @property
    def is_scaled(self) -> bool:
        """Whether samples are other numbers than the values that they stand for."""
        return (self.scale, self.offset) != (1.0, 0.0)


@dataclass(frozen=True)
class Header:
    """What the header of a raster says.

    Args:
        grid: Size and place of the raster.
        bands: Bands that are not alpha, in order.
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
        is_turned: Whether EXIF says that it is shown turned or mirrored, which its place is not.
        shortage: What is wrong where files end before the pixels do, else None; see `shortage_of`.
        alpha_band: The alpha band as any other, for who asks for it by name or number; or None.
        white_is_zero: Whether its grey is the less the brighter (PhotometricInterpretation 0).
        has_grey_palette: Whether the palette is GDAL's word for grey levels: of one bit, or from
            white to black.
        revision: Grows with rules of reading by which this raster is read otherwise than by release
            0.1.0; 0 for most.
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
    is_turned: bool = False
    shortage: str | None = None
    alpha_band: Band | None = None
    white_is_zero: bool = False
    has_grey_palette: bool = False
    revision: int = 0

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
    def lacks_crs(self) -> bool:
        """Whether it has a transform, to coordinates of a system that it does not name."""
        return self.grid.crs is None and not self.grid.transform.is_identity

    @property
    def is_placed(self) -> bool:
        """Whether it says where on the ground every pixel is."""
        return self.grid.crs is not None and not self.grid.transform.is_identity


def _plain_address(name: str) -> str:
    """An address of a subdataset without the folders of its file.

    >>> _plain_address("netcdf:/data/in/a.nc:ndvi"), _plain_address("HDF5:in/a.h5://data/red")
    ('NETCDF:a.nc:ndvi', 'HDF5:a.h5://data/red')
    """
    driver, _, rest = name.partition(":")
    path, colon, variable = rest.rpartition(":")
    file = PurePath(path.strip('"')).name
    return f"{driver.upper()}:{file}{colon}{variable}"


def at_location(reason: str, name: str, location: str) -> str:
    """A reason of which the address of a subdataset names its file by another location.

    Args:
        reason: A reason.
        name: What it calls the file.
        location: What it is to call the file.

    >>> at_location("such as --input 'HDF5:a.h5://red'", "a.h5", "data/in/a.h5")
    "such as --input 'HDF5:data/in/a.h5://red'"
    """
    return reason.replace(f":{name}:", f":{location}:")


def _without_bands(source: rasterio.DatasetReader) -> InputError:
    """Why a file without bands of its own cannot be read, and what to do."""
    if not source.subdatasets:
        return InputError("it has no bands", code=FailureCode.WRONG_BANDS)
    names = [name.rpartition(":")[2] for name in source.subdatasets]
    some = ", ".join(names[:SUBDATASETS_NAMED]) + (", ..." if names[SUBDATASETS_NAMED:] else "")
    return InputError(
        f"it has no raster of its own, but {len(names)} subdatasets ({some}): name one of them, "
        f"such as --input '{_plain_address(source.subdatasets[0])}'",
        code=FailureCode.SUBDATASETS,
    )


def header_of(source: rasterio.DatasetReader) -> Header:
    """The header of an open raster.

    Raises:
        InputError: If it has no bands.
    """
    if not source.count:
        raise _without_bands(source)
    stated = tuple(_band(source, index) for index in source.indexes)
    every = _with_invented_colors(stated)
    alpha = [band for band in every if band.color == ColorInterp.alpha.name]
    bands = tuple(band for band in every if band not in alpha)
    located_by = None
    if _transform(source).is_identity and (source.gcps[0] or source.rpcs is not None):
        located_by = "gcps" if source.gcps[0] else "rpcs"
    crs = _shared_crs(source.crs.to_wkt()) if source.crs else None
    first = bands[0].index if bands else source.indexes[0]
    white_is_zero = source.tags(ns="IMAGE_STRUCTURE").get("MINISWHITE") == "YES"
    palette = _palette(source, bands, white_is_zero)
    is_one_bit = palette in (_BLACK_WHITE, _BLACK_WHITE[::-1])
    mask = _mask_kind([source.mask_flag_enums[band.index - 1] for band in bands])
    if mask == "alpha" and not alpha:
        mask = values_mask(bands)
    return Header(
        grid=Grid(source.height, source.width, _transform(source), crs),
        bands=bands,
        mask=mask,
        alpha=alpha[0].index if alpha else None,
        palette=palette,
        block_px=source.block_shapes[first - 1],
        located_by=located_by,
        acquired=_acquired(source),
        others=tuple(source.files),
        has_overviews=bool(source.overviews(first)),
        is_compressed=source.compression is not None,
        alpha_band=alpha[0] if alpha else None,
        white_is_zero=white_is_zero,
        has_grey_palette=palette is not None and (white_is_zero or is_one_bit),
        revision=int(white_is_zero or _is_read_anew(stated) or (bool(alpha) and mask != "alpha")),
        is_turned=source.tags().get("EXIF_Orientation", "1") not in ("0", "1"),
    )


def values_mask(bands: Sequence[Band]) -> str:
    """Where nodata of bands without mask and alpha is, as `Header.mask`."""
    return "none" if all(band.nodata is None for band in bands) else "values"


def names_a_band(description: str) -> bool:
    """Whether a description in lower case says more than the number of a band, or alpha.

    >>> names_a_band("nir"), names_a_band("band 4"), names_a_band(""), names_a_band("alpha band")
    (True, False, False, False)
    """
    return _UNNAMED.fullmatch(description) is None


def _with_invented_colors(bands: tuple[Band, ...]) -> tuple[Band, ...]:
    """Bands that say which colours GDAL invents; alpha that has a name of its own is no alpha."""
    is_usual = all((b.index, b.color) in USUAL for b in bands if b.color not in ("", _ALPHA))
    found = []
    for band in bands:
        if names_a_band(band.description) and band.color == _ALPHA:
            band = replace(band, color="")
        elif names_a_band(band.description) and is_usual and band.description != band.color:
            band = replace(band, is_color_invented=True)
        found.append(band)
    return tuple(found)


def _is_read_anew(bands: Sequence[Band]) -> bool:
    """Whether release 0.1.0 took other bands of a raster, or other pixels for nodata."""
    colors = {band.color for band in bands if band.color}
    is_said = any(band.description in colors for band in bands)
    contradicts = is_said and any(
        band.description != band.color
        and names_a_band(band.description)
        and (band.color or band.description in colors)
        for band in bands
    )
    is_named_alpha = any(b.color == _ALPHA and names_a_band(b.description) for b in bands)
    values = {(band.nodata, band.dtype) for band in bands if band.nodata is not None}
    return contradicts or is_named_alpha or any(is_rounded(*value) for value in values)


def _transform(source: rasterio.DatasetReader) -> Affine:
    """The transform of a raster; the identity where rasterio gives what happens to be in memory.

    It does so for PNM without a world file: numbers that are too small for any place.
    """
    stated = source.transform
    return Affine.identity() if any(0 < abs(number) < _LEAST for number in stated) else stated


# One object for all scenes of a CRS: parsing it takes longer than the rest of a header.
_shared_crs = lru_cache(1024)(CRS.from_wkt)


def _band(source: rasterio.DatasetReader, index: int) -> Band:
    kind = source.colorinterp[index - 1]
    try:
        description = source.descriptions[index - 1] or ""
    except UnicodeDecodeError:
        # Of whatever encoding it is, no option and no contract can name it.
        description = ""
    return Band(
        index=index,
        dtype=source.dtypes[index - 1],
        description=description.strip().lower(),
        nodata=source.nodatavals[index - 1],
        scale=float(source.scales[index - 1]),
        offset=float(source.offsets[index - 1]),
        color="" if kind in (ColorInterp.undefined, ColorInterp.palette) else kind.name,
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


def _palette(
    source: rasterio.DatasetReader, bands: tuple[Band, ...], white_is_zero: bool
) -> Palette | None:
    """The colours of the only band; those of grey from white to black, if it is of bytes."""
    if len(bands) != 1:
        return None
    index = bands[0].index
    if white_is_zero:
        last = 2 ** int(source.tags(index, ns="IMAGE_STRUCTURE").get("NBITS", 8)) - 1
        greys = (255 - 255 * value // last for value in range(last + 1))
        return tuple((g, g, g, 255) for g in greys) if bands[0].dtype == "uint8" else None
    if source.colorinterp[index - 1] != ColorInterp.palette:
        return None
    colors = source.colormap(index)
    return tuple(colors.get(value, (0, 0, 0, 0)) for value in range(max(colors) + 1))


def _acquired(source: rasterio.DatasetReader) -> str | None:
    for domain, name in _DATE_TAGS:
        with suppress(UnicodeDecodeError):
            if found := source.tags(ns=domain).get(name):
                return str(found)
    return None

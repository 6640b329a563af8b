"""What pictures are made of: bands as colours, values as 8 bits, text that fits, legends."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from segmodel.reports.documents import one_line

MARGIN = 12
PAPER, INK, QUIET = (255, 255, 255), (40, 44, 52), (110, 116, 128)
# Percentiles of each band that become black and white, as QGIS has them.
STRETCHED = (2, 98)

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Color = tuple[int, int, int]


def color_places(names: Sequence[str]) -> list[int] | None:
    """Places of the bands called red, green and blue; None unless all three are there.

    Args:
        names: Names of all bands, in any case.

    >>> color_places(["nir", "blue", "Green", "red"])
    [3, 2, 1]
    """
    places = {name.lower(): place for place, name in enumerate(names)}
    colors = [places.get(name) for name in ("red", "green", "blue")]
    return None if None in colors else [place for place in colors if place is not None]


def visible_bands(names: Sequence[str]) -> list[int]:
    """Places of red, green and blue; else of the first three bands, or one as grey.

    Args:
        names: Names of all bands, in any case.

    Returns:
        Three places, from 0.

    >>> visible_bands(["a", "b", "c", "d"]), visible_bands(["vv", "vh"])
    ([0, 1, 2], [0, 0, 0])
    """
    return color_places(names) or ([0, 1, 2] if len(names) >= 3 else [0, 0, 0])


def to_8_bits(
    values: np.ndarray, valid: np.ndarray, limits: tuple[float, float], stretch: bool
) -> np.ndarray:
    """Values as brightness.

    Photographs are scaled from the limits of their type. Other values mostly fill a small part of
    their range, so each band is scaled from the 2nd to the 98th percentile of its valid pixels; one
    that is nearly constant from its least to its greatest value, a constant one from the limits.

    Args:
        values: `(height, width, bands)` of any dtype.
        valid: `(height, width)` bool; False for what has no value.
        limits: Values that become black and white where nothing is stretched.
        stretch: Whether bands are stretched.

    Returns:
        `(height, width, bands)` uint8; what is not valid is whatever it is.
    """
    picture = np.zeros(values.shape, np.uint8)
    for band in range(values.shape[2]):
        plane = values[..., band].astype(np.float64)
        seen = plane[valid] if stretch else plane[:0]
        low, high = _ends(seen) or limits
        with np.errstate(invalid="ignore", over="ignore"):
            scaled = np.nan_to_num(np.clip((plane - low) / (high - low), 0, 1))
        picture[..., band] = (scaled * 255 + 0.5).astype(np.uint8)
    return picture


def _ends(seen: np.ndarray) -> tuple[float, float] | None:
    """Values that become black and white; None where all are the same."""
    if not seen.size:
        return None
    low, high = np.percentile(seen, STRETCHED).tolist()
    if low == high:
        low, high = float(seen.min()), float(seen.max())
    return (low, high) if low < high else None


def draw_legend(
    legend: Sequence[tuple[str, Color]], width: int, text_px: int = 13, entry_px: int = 220
) -> Image.Image:
    """Draw swatches with names, in as many rows as they need.

    Args:
        legend: Names and colours.
        width: Width of the picture in pixels.
        text_px: Size of the letters in pixels.
        entry_px: Most room for a name in pixels.
    """
    font, places = ImageFont.load_default(text_px), []
    swatch, line = text_px + 1, text_px + 11
    left = top = MARGIN
    for name, color in legend:
        text = fitted_text(name, font, entry_px)
        needed = swatch + 6 + round(font.getlength(text)) + 22
        if left > MARGIN and left + needed > width:
            left, top = MARGIN, top + line
        places.append((left, top, color, text))
        left += needed
    sheet = Image.new("RGB", (width, top + line + MARGIN), PAPER)
    canvas = ImageDraw.Draw(sheet)
    for left, top, color, text in places:
        canvas.rectangle((left, top, left + swatch, top + swatch), color, QUIET)
        canvas.text((left + swatch + 6, top - 1), text, INK, font)
    return sheet


def fitted_text(text: str, font: Font, width: float) -> str:
    """Shorten text in the middle; letters that the font does not have are written out.

    Args:
        text: Any text.
        font: Font in which the text is drawn.
        width: Room in pixels.
    """
    plain = one_line(text).encode("latin-1", "backslashreplace").decode("latin-1")
    half, fitting = len(plain) // 2, plain
    while half > 1 and font.getlength(fitting) > width:
        half = min(half - 1, round(half * 0.95))
        fitting = f"{plain[:half]}...{plain[-half:]}"
    return fitting

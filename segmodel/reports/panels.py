"""Pictures: image, truth, prediction and errors side by side, and what validation keeps of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from segmodel.labels.classes import ClassTable
from segmodel.pairs.pairs import Pair
from segmodel.savedmodel.contract import Contract
from segmodel.tiling.windows import Window

# Longest side of what is kept of an image, and of one picture in a panel.
KEPT_PX, PICTURE_PX, SMALLEST_PX = 1024, 420, 240
READ_PX = 1024
MARGIN, LINE_PX, SWATCH, LEGEND_ENTRIES = 12, 24, 14, 40
PAPER, INK, QUIET = (255, 255, 255), (40, 44, 52), (110, 116, 128)
WRONG, UNCOUNTED, NODATA = (214, 39, 40), (150, 154, 160), (228, 230, 235)
FADED = 0.7

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class Look:
    """What it takes to show the images and labels of a model.

    Args:
        classes: Names and colours.
        bands: Names of the bands.
        value_range: Least and greatest raw value.
        dtype: Of the raw values.
    """

    classes: ClassTable
    bands: tuple[str, ...]
    value_range: tuple[float, float]
    dtype: str = "uint8"

    @classmethod
    def of(cls, contract: Contract) -> Look:
        """As the contract of a model says."""
        return cls(contract.classes, contract.bands, contract.value_range, contract.dtype)


def visible_bands(bands: Sequence[str]) -> list[int]:
    """Places of red, green and blue; else the first three bands, or one as grey.

    >>> visible_bands(["nir", "blue", "green", "red"])
    [3, 2, 1]
    >>> visible_bands(["a", "b", "c", "d"]), visible_bands(["vv", "vh"])
    ([0, 1, 2], [0, 0, 0])
    """
    places = {name.lower(): place for place, name in enumerate(bands)}
    colors = ("red", "green", "blue")
    if all(name in places for name in colors):
        return [places[name] for name in colors]
    return [0, 1, 2] if len(bands) >= 3 else [0, 0, 0]


def picture_of(pair: Pair, look: Look) -> np.ndarray:
    """The image of a pair in 8-bit colour, `(height, width, 3)`, shrunk to at most 1024 pixels.

    8-bit values are scaled from their range. Others mostly fill a small part of theirs, so within
    it the 1st to the 99th percentile of what is seen is scaled. Nodata is light grey.
    """
    factor = shrinking(pair.height, pair.width)
    height, width = -(-pair.height // factor), -(-pair.width // factor)
    means = np.empty((height, width, 3), np.float32)
    valid = np.empty((height, width), bool)
    bands = visible_bands(look.bands)
    side = max(1, READ_PX // factor) * factor
    for window in Window(0, 0, pair.height, pair.width).subdivide(side, side):
        pixels = pair.pixels(window)
        counted = pixels.finite
        if counted is None:
            counted = np.ones(pixels.values.shape[:2], bool)
        values = np.where(counted[..., None], pixels.values[..., bands], 0).astype(np.float64)
        numbers = _sums(counted.astype(np.int64), factor)
        place = Window(window.row // factor, window.column // factor, *numbers.shape).slices
        means[place] = _sums(values, factor) / np.maximum(numbers, 1)[..., None]
        valid[place] = numbers > 0
    return _in_8_bits(means, valid, look)


def shrinking(height: int, width: int) -> int:
    """By how much an image is shrunk to be kept: a whole number, so that pixels stay in line.

    >>> shrinking(1024, 10), shrinking(1025, 10)
    (1, 2)
    """
    return -(-max(height, width, 1) // KEPT_PX)


def centres(start: int, length: int, whole: int, factor: int) -> np.ndarray:
    """Pixels of a stretch of a side that stand for the shrunk ones whose centres lie in it.

    >>> centres(0, 4, 10, 3), centres(4, 6, 10, 3)
    (array([1]), array([4, 7, 9]))
    """
    places = np.minimum(np.arange(0, whole, factor) + factor // 2, whole - 1)
    return places[(places >= start) & (places < start + length)]


def color_table(classes: ClassTable) -> np.ndarray:
    """`(nodata + 1, 3)` uint8 colours by label; nodata is light grey."""
    table = np.full((classes.nodata + 1, 3), NODATA, np.uint8)
    for entry in classes.classes:
        table[entry.id] = entry.color
    return table


def error_picture(
    image: np.ndarray, truth: np.ndarray, labels: np.ndarray, nodata: int
) -> np.ndarray:
    """Where labels are wrong, in red; the faded image elsewhere, grey where nothing counts."""
    grey = image.mean(axis=2, keepdims=True).repeat(3, axis=2)
    picture = (grey * (1 - FADED) + 255 * FADED).astype(np.uint8)
    picture[truth != labels] = WRONG
    picture[truth == nodata] = UNCOUNTED
    return picture


def draw_errors(
    image: np.ndarray, truth: np.ndarray, labels: np.ndarray, classes: ClassTable, caption: str
) -> Image.Image:
    """Image, truth, prediction and errors side by side, with a legend.

    Args:
        image: `(height, width, 3)` uint8.
        truth: `(height, width)` ids; nodata where it counts nowhere.
        labels: `(height, width)` ids.
        classes: Names and colours.
        caption: Text above.
    """
    colors = color_table(classes)
    pictures = {
        "image": image,
        "truth": colors[truth],
        "prediction": colors[labels],
        "errors": error_picture(image, truth, labels, classes.nodata),
    }
    signs = [("wrong", WRONG), ("not counted", UNCOUNTED)]
    return draw_panel(list(pictures.items()), legend_of(classes, [truth, labels]) + signs, caption)


def legend_of(
    classes: ClassTable, maps: Iterable[np.ndarray]
) -> list[tuple[str, tuple[int, int, int]]]:
    """Names and colours of the classes that occur, at most 40 of them."""
    seen = set().union(*(np.unique(labels).tolist() for labels in maps))
    shown = [(entry.name, entry.color) for entry in classes.classes if entry.id in seen]
    if len(shown) > LEGEND_ENTRIES:
        more = len(shown) - LEGEND_ENTRIES
        shown = [*shown[:LEGEND_ENTRIES], (f"and {more} more", PAPER)]
    return shown


def draw_classes(classes: ClassTable) -> Image.Image:
    """Names and colours of all classes."""
    font = ImageFont.load_default(13)
    whole = 3 * PICTURE_PX
    rows = _legend_rows([(entry.name, entry.color) for entry in classes.classes], font, whole)
    sheet = Image.new("RGB", (whole, 2 * MARGIN + LINE_PX * len(rows)), PAPER)
    _draw_legend(ImageDraw.Draw(sheet), rows, MARGIN, font)
    return sheet


def draw_panel(
    pictures: Sequence[tuple[str, np.ndarray]],
    legend: Sequence[tuple[str, tuple[int, int, int]]],
    caption: str,
) -> Image.Image:
    """Pictures of equal size side by side.

    Args:
        pictures: A title and `(height, width, 3)` uint8 of each.
        legend: Names and colours.
        caption: Text above.
    """
    height, width = _fitted(*pictures[0][1].shape[:2])
    column = max(width, SMALLEST_PX)
    whole = MARGIN + len(pictures) * (column + MARGIN)
    font, small = ImageFont.load_default(16), ImageFont.load_default(13)
    rows = _legend_rows(legend, small, whole)
    top = MARGIN + 2 * LINE_PX
    sheet = Image.new("RGB", (whole, top + height + 2 * MARGIN + LINE_PX * len(rows)), PAPER)
    canvas = ImageDraw.Draw(sheet)
    canvas.text((MARGIN, MARGIN - 2), fitted_text(caption, font, whole - 2 * MARGIN), INK, font)
    for number, (title, values) in enumerate(pictures):
        left = MARGIN + number * (column + MARGIN)
        text = fitted_text(title, small, column)
        canvas.text((left, MARGIN + LINE_PX), text, QUIET, small)
        sheet.paste(_resized(values, height, width), (left, top))
    _draw_legend(canvas, rows, top + height + MARGIN, small)
    return sheet


def fitted_text(text: str, font: Font, width: float) -> str:
    """Text shortened in the middle; letters that the font does not have are written out."""
    plain = "".join(letter if letter.isprintable() else " " for letter in text)
    plain = plain.encode("latin-1", "backslashreplace").decode("latin-1")
    half = len(plain) // 2
    shown = plain
    while half > 1 and font.getlength(shown) > width:
        half = min(half - 1, round(half * 0.95))
        shown = f"{plain[:half]}...{plain[-half:]}"
    return shown


def _sums(values: np.ndarray, factor: int) -> np.ndarray:
    """Sums of squares of so many pixels; what is left at the right and below is its own.

    >>> _sums(np.array([[1, 2, 3]]), 2)
    array([[3, 3]])
    """
    if factor == 1:
        return values
    rows = np.add.reduceat(values, np.arange(0, values.shape[0], factor), axis=0)
    return np.add.reduceat(rows, np.arange(0, values.shape[1], factor), axis=1)


def _in_8_bits(values: np.ndarray, valid: np.ndarray, look: Look) -> np.ndarray:
    low, high = look.value_range
    if look.dtype != "uint8" and valid.any():
        seen = np.clip(np.percentile(values[valid], (1, 99)), low, high)
        low, high = seen if seen[0] < seen[1] else (low, high)
    scaled = np.clip((values - low) / (high - low), 0, 1)
    picture = (scaled * 255 + 0.5).astype(np.uint8)
    picture[~valid] = NODATA
    return picture


def _fitted(height: int, width: int) -> tuple[int, int]:
    """Height and width in a panel: smaller, or a whole number of times larger.

    >>> _fitted(840, 420), _fitted(100, 50), _fitted(1, 1024)
    ((420, 210), (300, 150), (1, 420))
    """
    longest = max(height, width)
    if longest > PICTURE_PX:
        factor = PICTURE_PX / longest
        return max(1, round(height * factor)), max(1, round(width * factor))
    times = max(1, -(-SMALLEST_PX // longest))
    return height * times, width * times


def _resized(values: np.ndarray, height: int, width: int) -> Image.Image:
    """Smoothly smaller, as colours are only looked at; larger in squares."""
    smaller = height < values.shape[0] or width < values.shape[1]
    how = Image.Resampling.BOX if smaller else Image.Resampling.NEAREST
    return Image.fromarray(values).resize((width, height), how)


def _draw_legend(
    canvas: ImageDraw.ImageDraw,
    rows: Sequence[Sequence[tuple[int, tuple[int, int, int], str]]],
    top: int,
    font: Font,
) -> None:
    for number, row in enumerate(rows):
        upper = top + number * LINE_PX
        for left, color, name in row:
            canvas.rectangle((left, upper, left + SWATCH, upper + SWATCH), color, QUIET)
            canvas.text((left + SWATCH + 6, upper - 1), name, INK, font)


def _legend_rows(
    legend: Sequence[tuple[str, tuple[int, int, int]]], font: Font, width: int
) -> list[list[tuple[int, tuple[int, int, int], str]]]:
    """Left edge, colour and text of each entry, in as many rows as they need."""
    rows: list[list[tuple[int, tuple[int, int, int], str]]] = [[]]
    left = MARGIN
    for name, color in legend:
        text = fitted_text(name, font, 220)
        needed = SWATCH + 6 + round(font.getlength(text)) + 22
        if rows[-1] and left + needed > width:
            rows.append([])
            left = MARGIN
        rows[-1].append((left, color, text))
        left += needed
    return rows

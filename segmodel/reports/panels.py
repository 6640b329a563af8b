"""Pictures: image, truth, prediction and errors side by side, and legends of classes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from segmodel.labels.classes import ClassTable
from segmodel.pairs.pairs import Pair
from segmodel.reports.documents import one_line
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
Color = tuple[int, int, int]


def visible_bands(bands: Sequence[str]) -> list[int]:
    """Places of red, green and blue; else of the first three bands, or one as grey.

    Args:
        bands: Names of the bands of an image.

    Returns:
        Three places, from 0.

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


def picture_of(pair: Pair, contract: Contract) -> np.ndarray:
    """The image of a pair in 8-bit colour, shrunk to at most 1024 pixels a side.

    8-bit values are scaled from their range. Others mostly fill a small part of theirs, so within
    it the 1st to the 99th percentile of what is seen is scaled. Nodata is light grey.

    Args:
        pair: Image to show.
        contract: Says which bands the image has, and the range of their values.

    Returns:
        `(height, width, 3)` uint8.
    """
    factor = shrinking(pair.height, pair.width)
    height, width = -(-pair.height // factor), -(-pair.width // factor)
    means = np.empty((height, width, 3), np.float32)
    valid = np.empty((height, width), bool)
    bands = visible_bands(contract.bands)
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
    return _in_8_bits(means, valid, contract)


def shrinking(height: int, width: int) -> int:
    """The factor by which an image is shrunk to be kept, so that no side exceeds 1024 pixels.

    It is a whole number, so that pixels of image and labels stay in line.

    Args:
        height: Height of the image in pixels.
        width: Width of the image in pixels.

    >>> shrinking(1024, 10), shrinking(1025, 10)
    (1, 2)
    """
    return -(-max(height, width, 1) // KEPT_PX)


def centres(start: int, length: int, whole: int, factor: int) -> np.ndarray:
    """Pixels of a part of a side that stand for the shrunk pixels whose centres lie in it.

    Args:
        start: First pixel of the part.
        length: Pixels of the part.
        whole: Pixels of the side.
        factor: Factor by which the image is shrunk.

    Returns:
        `(shrunk pixels,)` int64 places on the side.

    >>> centres(0, 4, 10, 3), centres(4, 6, 10, 3)
    (array([1]), array([4, 7, 9]))
    """
    places = np.minimum(np.arange(0, whole, factor) + factor // 2, whole - 1)
    inside: np.ndarray = places[(places >= start) & (places < start + length)]
    return inside


def error_picture(
    image: np.ndarray, truth: np.ndarray, labels: np.ndarray, nodata: int
) -> np.ndarray:
    """Paint wrong labels red over the faded image, and grey what counts nowhere.

    Args:
        image: `(height, width, 3)` uint8.
        truth: `(height, width)` ids; nodata where it counts nowhere.
        labels: `(height, width)` ids.
        nodata: Label of nodata.

    Returns:
        `(height, width, 3)` uint8.
    """
    grey = image.mean(axis=2, keepdims=True).repeat(3, axis=2)
    picture: np.ndarray = (grey * (1 - FADED) + 255 * FADED).astype(np.uint8)
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
    colors = classes.palette(NODATA)
    pictures = {
        "image": image,
        "truth": colors[truth],
        "prediction": colors[labels],
        "errors": error_picture(image, truth, labels, classes.nodata),
    }
    legend = [*legend_of(classes, [truth, labels]), ("wrong", WRONG), ("not counted", UNCOUNTED)]
    return draw_panel(pictures, legend, caption)


def legend_of(classes: ClassTable, maps: Iterable[np.ndarray]) -> list[tuple[str, Color]]:
    """Choose the entries of a legend: classes that occur, at most 40 of them.

    Args:
        classes: Names and colours.
        maps: Label maps, `(height, width)` ids each.

    Returns:
        Names and colours, in the order of the class table.
    """
    seen = set().union(*(np.unique(labels).tolist() for labels in maps))
    legend = [(entry.name, entry.color) for entry in classes.classes if entry.id in seen]
    if (more := len(legend) - LEGEND_ENTRIES) > 0:
        legend[LEGEND_ENTRIES:] = [(f"and {more} more", PAPER)]
    return legend


def draw_classes(classes: ClassTable) -> Image.Image:
    """Draw a legend of all classes, 1260 pixels wide."""
    return draw_legend([(entry.name, entry.color) for entry in classes.classes], 3 * PICTURE_PX)


def draw_panel(
    pictures: Mapping[str, np.ndarray], legend: Sequence[tuple[str, Color]], caption: str
) -> Image.Image:
    """Draw pictures of equal size side by side, with a caption above and a legend below.

    Args:
        pictures: `(height, width, 3)` uint8 by title.
        legend: Names and colours.
        caption: Text above.
    """
    height, width = _fitted(*next(iter(pictures.values())).shape[:2])
    column = max(width, SMALLEST_PX)
    whole = MARGIN + len(pictures) * (column + MARGIN)
    font, small = ImageFont.load_default(16), ImageFont.load_default(13)
    below, top = draw_legend(legend, whole), MARGIN + 2 * LINE_PX
    sheet = Image.new("RGB", (whole, top + height + below.height), PAPER)
    canvas = ImageDraw.Draw(sheet)
    canvas.text((MARGIN, MARGIN - 2), fitted_text(caption, font, whole - 2 * MARGIN), INK, font)
    for number, (title, values) in enumerate(pictures.items()):
        left = MARGIN + number * (column + MARGIN)
        canvas.text((left, MARGIN + LINE_PX), fitted_text(title, small, column), QUIET, small)
        # Smoothly smaller, as colours are only looked at; larger in squares.
        smaller = height < values.shape[0] or width < values.shape[1]
        how = Image.Resampling.BOX if smaller else Image.Resampling.NEAREST
        sheet.paste(Image.fromarray(values).resize((width, height), how), (left, top))
    sheet.paste(below, (0, top + height))
    return sheet


def draw_legend(legend: Sequence[tuple[str, Color]], width: int) -> Image.Image:
    """Draw swatches with names, in as many rows as they need.

    Args:
        legend: Names and colours.
        width: Width of the picture in pixels.
    """
    font, places = ImageFont.load_default(13), []
    left = top = MARGIN
    for name, color in legend:
        text = fitted_text(name, font, 220)
        needed = SWATCH + 6 + round(font.getlength(text)) + 22
        if left > MARGIN and left + needed > width:
            left, top = MARGIN, top + LINE_PX
        places.append((left, top, color, text))
        left += needed
    sheet = Image.new("RGB", (width, top + LINE_PX + MARGIN), PAPER)
    canvas = ImageDraw.Draw(sheet)
    for left, top, color, text in places:
        canvas.rectangle((left, top, left + SWATCH, top + SWATCH), color, QUIET)
        canvas.text((left + SWATCH + 6, top - 1), text, INK, font)
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


def _sums(values: np.ndarray, factor: int) -> np.ndarray:
    """Sums of squares of `factor` pixels a side; those at the right and below may be smaller.

    >>> _sums(np.array([[1, 2, 3]]), 2)
    array([[3, 3]])
    """
    rows = np.add.reduceat(values, np.arange(0, values.shape[0], factor), axis=0)
    columns: np.ndarray = np.add.reduceat(rows, np.arange(0, values.shape[1], factor), axis=1)
    return columns


def _in_8_bits(values: np.ndarray, valid: np.ndarray, contract: Contract) -> np.ndarray:
    low, high = contract.value_range
    if contract.dtype != "uint8" and valid.any():
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

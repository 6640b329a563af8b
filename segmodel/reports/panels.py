"""Pictures: image, truth, prediction and errors side by side, and legends of classes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from segmodel.labels.classes import ClassTable
from segmodel.pairs.pairs import Pair
from segmodel.reports.drawing import (
    INK,
    MARGIN,
    PAPER,
    QUIET,
    Color,
    draw_legend,
    fitted_text,
    to_8_bits,
    visible_bands,
)
from segmodel.savedmodel.contract import Contract
from segmodel.tiling.windows import Window

# Longest side of what is kept of an image, and of one picture in a panel.
KEPT_PX, PICTURE_PX, SMALLEST_PX = 1024, 420, 240
READ_PX = 1024
LINE_PX, LEGEND_ENTRIES = 24, 40
WRONG, UNCOUNTED, NODATA = (214, 39, 40), (150, 154, 160), (228, 230, 235)
FADED = 0.7


def picture_of(pair: Pair, contract: Contract) -> np.ndarray:
    """The image of a pair in 8-bit colour, shrunk to at most 1024 pixels a side.

    8-bit values are scaled from their range, each band of others from the 2nd to the 98th
    percentile of what is seen. Nodata is light grey.

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
    picture = to_8_bits(means, valid, contract.value_range, stretch=contract.dtype != "uint8")
    picture[~valid] = NODATA
    return picture


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


def _sums(values: np.ndarray, factor: int) -> np.ndarray:
    """Sums of squares of `factor` pixels a side; those at the right and below may be smaller.

    >>> _sums(np.array([[1, 2, 3]]), 2)
    array([[3, 3]])
    """
    rows = np.add.reduceat(values, np.arange(0, values.shape[0], factor), axis=0)
    columns: np.ndarray = np.add.reduceat(rows, np.arange(0, values.shape[1], factor), axis=1)
    return columns


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

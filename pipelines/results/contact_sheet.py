"""`preview.png`: some images beside their label maps, so that a person sees if a run is sane."""

import hashlib
import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pipelines.formats.interface import Thumbnail
from pipelines.formats.work import Work
from pipelines.run.plan import Unit
from pipelines.worker import formats
from segmodel.errors import BeamsegError
from segmodel.labels.classes import ClassTable

TILES, COLUMNS = 24, 4
TILE_PX, MARGIN, CAPTION_PX, LINE_PX, SWATCH = 176, 12, 20, 26, 16
OVERLAY = 0.65
BACKGROUND, TEXT, CAPTION, EMPTY = (255, 255, 255), (40, 44, 52), (110, 116, 128), (228, 230, 235)
CAPTION_CHARACTERS = 52

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
# Left edge, colour and text of each class.
LegendRow = list[tuple[int, tuple[int, int, int], str]]


@dataclass
class UnitSample:
    """The units of a plan that a sheet shows: those of the lowest digests, so always the same."""

    _heap: list[tuple[int, str, Unit]] = field(default_factory=list)

    def offer(self, unit: Unit) -> None:
        """Consider a unit in which an image was labelled."""
        rank = -int.from_bytes(hashlib.sha256(unit.id.encode()).digest()[:8], "big")
        heapq.heappush(self._heap, (rank, unit.id, unit))
        if len(self._heap) > TILES:
            heapq.heappop(self._heap)

    def units(self) -> list[Unit]:
        """The units, in order of their ids."""
        return sorted((unit for _, _, unit in self._heap), key=lambda unit: unit.id)


def thumbnails(sample: UnitSample, work: Work) -> Iterator[Thumbnail]:
    """Images of the sampled units and their label maps; what cannot be read again is left out."""
    units = sample.units()
    for number, unit in enumerate(units):
        share = (number + 1) * TILES // len(units) - number * TILES // len(units)
        try:
            yield from formats.find_format(unit.format).thumbnails(unit, work, share, TILE_PX)
        except (BeamsegError, OSError):
            # An input that is gone since then is no fault of the run.
            continue


def draw_sheet(
    tiles: Sequence[Thumbnail], classes: ClassTable, captions: dict[str, str], lines: Sequence[str]
) -> Image.Image:
    """Draw the contact sheet.

    Args:
        tiles: At most `TILES` images with their label maps.
        classes: Names and colours of the classes.
        captions: Text behind the name of a class in the legend, by that name.
        lines: Lines of text above the images.

    Returns:
        The sheet, in RGB.
    """
    font = ImageFont.load_default(15)
    width = COLUMNS * (2 * TILE_PX + MARGIN) + MARGIN
    legend = _legend_rows(classes, captions, font, width)
    top = MARGIN + LINE_PX * (len(lines) + len(legend)) + MARGIN
    rows = -(-len(tiles) // COLUMNS)
    height = top + rows * (TILE_PX + CAPTION_PX + MARGIN) + MARGIN
    sheet = Image.new("RGB", (width, height), BACKGROUND)
    canvas = ImageDraw.Draw(sheet)
    for number, line in enumerate(lines):
        canvas.text((MARGIN, MARGIN + number * LINE_PX), line, TEXT, font)
    _draw_legend(canvas, legend, MARGIN + len(lines) * LINE_PX, font)
    colors = classes.palette(EMPTY)
    for number, tile in enumerate(tiles):
        left = MARGIN + number % COLUMNS * (2 * TILE_PX + MARGIN)
        upper = top + number // COLUMNS * (TILE_PX + CAPTION_PX + MARGIN)
        _draw_tile(sheet, tile, colors, classes.nodata, (left, upper))
    return sheet


def overlay(tile: Thumbnail, colors: np.ndarray, nodata: int) -> np.ndarray:
    """The colours of labels over the image, `(height, width, 3) uint8`; nodata is not mixed."""
    painted = colors[tile.labels].astype(np.float32)
    share = np.where(tile.labels == nodata, 1.0, OVERLAY)[..., None]
    mixed: np.ndarray = np.rint(painted * share + tile.image * (1 - share)).astype(np.uint8)
    return mixed


def _draw_tile(
    sheet: Image.Image, tile: Thumbnail, colors: np.ndarray, nodata: int, corner: tuple[int, int]
) -> None:
    left, upper = corner
    sheet.paste(Image.fromarray(tile.image), (left, upper))
    sheet.paste(Image.fromarray(overlay(tile, colors, nodata)), (left + TILE_PX, upper))
    font = ImageFont.load_default(11)
    canvas = ImageDraw.Draw(sheet)
    lower = upper + tile.image.shape[0] + 3
    canvas.text((left, lower), shortened(tile.caption), CAPTION, font)


def shortened(text: str, characters: int = CAPTION_CHARACTERS) -> str:
    """A caption that fits, with what cannot be printed written out.

    >>> shortened("photos/a" + "b" * 60)
    'photos/abbbbbbbbbbbbbbbbb...bbbbbbbbbbbbbbbbbbbbbbbb'
    """
    # The font that comes with Pillow has no other letters.
    plain = text.encode("unicode_escape").decode()
    if len(plain) <= characters:
        return plain
    half = (characters - 3) // 2
    return f"{plain[: half + 1]}...{plain[-half:]}"


def _legend_rows(
    classes: ClassTable, captions: dict[str, str], font: Font, width: int
) -> list[LegendRow]:
    """Left edge, colour and text of each class, in as many rows as they need."""
    rows: list[LegendRow] = [[]]
    left = MARGIN
    for entry in classes.classes:
        text = shortened(f"{entry.name}  {captions.get(entry.name, '')}".strip())
        needed = SWATCH + 8 + round(font.getlength(text)) + 28
        if rows[-1] and left + needed > width:
            rows.append([])
            left = MARGIN
        rows[-1].append((left, entry.color, text))
        left += needed
    return rows


def _draw_legend(canvas: ImageDraw.ImageDraw, rows: list[LegendRow], top: int, font: Font) -> None:
    for number, row in enumerate(rows):
        upper = top + number * LINE_PX
        for left, color, text in row:
            canvas.rectangle((left, upper, left + SWATCH, upper + SWATCH), color, TEXT)
            canvas.text((left + SWATCH + 8, upper - 1), text, TEXT, font)

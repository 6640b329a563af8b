"""`preview.png`: some images beside their label maps, so that a person sees if a run is sane."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pipelines.formats.interface import Thumbnail
from pipelines.formats.work import Work
from pipelines.run import plan
from pipelines.run.plan import Unit, UnitReference
from pipelines.worker import formats
from segmodel.errors import BeamsegError
from segmodel.labels.classes import ClassTable
from segmodel.reports.drawing import (
    INK,
    MARGIN,
    PAPER,
    QUIET,
    Color,
    draw_legend,
    fitted_text,
)
from segmodel.reports.panels import legend_of

# As many as a PNG of about 4 MB holds.
TILES = 6
TILE_PX, GAP_PX = 512, 6
TEXT_PX, CAPTION_PX, LINE_PX = 20, 16, 30
# Two pairs of square pictures; one pair; and what a caption needs.
WIDTH_PX, MIN_WIDTH_PX, MIN_CELL_PX = 4 * TILE_PX + 2 * GAP_PX + MARGIN, 2 * TILE_PX + GAP_PX, 320
LEGEND_CLASSES, LEGEND_NAME_PX = 60, 300
# Colours of nodata: the first that no class has, or nearly has.
EMPTY = ((228, 230, 235), (150, 154, 160), (70, 72, 76), (255, 255, 255), (255, 0, 255))
DISTINCT = 40


@dataclass(frozen=True)
class UnitSample:
    """The units of a plan that a sheet shows.

    They are those of the lowest digests, so always the same; what has no label but nodata is shown
    only where there is nothing else.

    Args:
        ranked: Whether a pixel has a class, digest, id and place of each, the last ones first.
    """

    ranked: tuple[tuple[bool, int, str, UnitReference], ...] = ()

    @classmethod
    def of(cls, unit: str, reference: UnitReference, has_classes: bool) -> "UnitSample":
        """The sample of one unit in which an image was labelled.

        Args:
            unit: Id of the unit.
            reference: Where it stands in the plan.
            has_classes: Whether a pixel of it has a class.
        """
        rank = -int.from_bytes(hashlib.sha256(unit.encode()).digest()[:8], "big")
        return cls(((has_classes, rank, unit, reference),))

    @classmethod
    def merged(cls, samples: Iterable["UnitSample"]) -> "UnitSample":
        """The sample of all units of some samples."""
        every = sorted((entry for one in samples for entry in one.ranked), key=lambda e: e[:3])
        return cls(tuple(every[-TILES:]))

    @property
    def references(self) -> list[UnitReference]:
        """Where the units stand in the plan, in order of their ids."""
        return [entry[-1] for entry in sorted(self.ranked, key=lambda entry: entry[2])]


def thumbnails(sample: UnitSample, work: Work) -> Iterator[Thumbnail]:
    """Images of the sampled units and their label maps; what cannot be read again is left out."""
    # Small units first, so that others take the places that they leave.
    found = (
        plan.read_unit(work.run.plan, one, plan.kind_of(one.part)) for one in sample.references
    )
    units = sorted(found, key=lambda unit: len(unit.files))
    room = TILES
    for number, unit in enumerate(units):
        share = -(-room // (len(units) - number))
        tiles = _tiles(unit, work, share)
        room -= len(tiles)
        yield from tiles


def _tiles(unit: Unit, work: Work, limit: int) -> list[Thumbnail]:
    """Images of a unit. An input that is gone since then, asked for twice, is no fault of the run.

    A store that refuses one request would leave its mark on the sheet else.
    """
    tiles: list[Thumbnail] = []
    for _ in range(2):
        tiles = []
        with suppress(BeamsegError, OSError):
            for tile in formats.find_format(unit.format).thumbnails(unit, work, limit, TILE_PX):
                tiles.append(tile)
            break
    return tiles


def draw_sheet(
    tiles: Sequence[Thumbnail],
    classes: ClassTable,
    captions: dict[str, str],
    lines: Sequence[str],
    nodata: str = "nodata",
) -> Image.Image:
    """Draw the contact sheet.

    Args:
        tiles: At most `TILES` images with their label maps.
        classes: Names and colours of the classes.
        captions: Text behind the name of a class in the legend, by that name.
        lines: Lines of text above the images.
        nodata: What the legend calls nodata, where a tile has some.

    Returns:
        The sheet, in RGB.
    """
    rows = _rows(tiles)
    width = max([MIN_WIDTH_PX, *(row[-1].right for row in rows)]) + 2 * MARGIN
    empty = nodata_color(classes)
    legend = _legend(tiles, classes, captions)
    if any(_has_nodata(tile, classes) for tile in tiles):
        legend.append((nodata, empty))
    swatches = draw_legend(legend, width, TEXT_PX - 2, LEGEND_NAME_PX + 120)
    top = MARGIN + LINE_PX * len(lines) + swatches.height
    height = top + sum(_height(row) for row in rows) + MARGIN
    sheet = Image.new("RGB", (width, height), PAPER)
    canvas, font = ImageDraw.Draw(sheet), ImageFont.load_default(TEXT_PX)
    for number, line in enumerate(lines):
        text = fitted_text(line, font, width - 2 * MARGIN)
        canvas.text((MARGIN, MARGIN + number * LINE_PX), text, INK, font)
    sheet.paste(swatches, (0, MARGIN + LINE_PX * len(lines)))
    for row in rows:
        for cell in row:
            _draw_cell(sheet, cell, classes, empty, top)
        top += _height(row)
    return sheet


def nodata_color(classes: ClassTable) -> Color:
    """The colour of nodata in a sheet: light grey, unless that looks like one of the classes."""
    colors = np.array([entry.color for entry in classes.classes])
    apart = [int(np.abs(colors - color).max(axis=1).min()) for color in EMPTY]
    return next((c for c, far in zip(EMPTY, apart, strict=True) if far >= DISTINCT), EMPTY[0])


@dataclass(frozen=True)
class _Cell:
    """A pair of pictures in a row: its left edge and its width in pixels."""

    tile: Thumbnail
    left: int
    width: int

    @classmethod
    def after(cls, left: int, tile: Thumbnail) -> "_Cell":
        width = tile.labels.shape[1]
        pair = width if _is_stacked(tile) else 2 * width + GAP_PX
        return cls(tile, left, max(pair, MIN_CELL_PX))

    @property
    def right(self) -> int:
        return self.left + self.width

    @property
    def height(self) -> int:
        height: int = self.tile.labels.shape[0]
        return 2 * height + GAP_PX if _is_stacked(self.tile) else height


def _is_stacked(tile: Thumbnail) -> bool:
    """Whether the label map is below the image, as both are wide."""
    return bool(tile.labels.shape[1] > TILE_PX)


def _rows(tiles: Sequence[Thumbnail]) -> list[list[_Cell]]:
    """Pairs from left to right, in as many rows as they need."""
    rows: list[list[_Cell]] = []
    for tile in tiles:
        cell = _Cell.after(rows[-1][-1].right + MARGIN if rows else 0, tile)
        if not rows or cell.right > WIDTH_PX:
            cell = _Cell.after(0, tile)
            rows.append([])
        rows[-1].append(cell)
    return rows


def _height(row: Sequence[_Cell]) -> int:
    return max(cell.height for cell in row) + CAPTION_PX + 2 * MARGIN


def _draw_cell(
    sheet: Image.Image, cell: _Cell, classes: ClassTable, empty: Color, top: int
) -> None:
    tile, left = cell.tile, MARGIN + cell.left
    image = tile.image
    if tile.valid is not None:
        image = np.where(tile.valid[..., None], image, np.array(empty, np.uint8))
    height, width = tile.labels.shape
    across, down = (0, height + GAP_PX) if _is_stacked(tile) else (width + GAP_PX, 0)
    sheet.paste(Image.fromarray(image), (left, top))
    labels = Image.fromarray(classes.palette(empty)[tile.labels])
    sheet.paste(labels, (left + across, top + down))
    font = ImageFont.load_default(CAPTION_PX)
    caption = fitted_text(tile.caption, font, cell.width)
    ImageDraw.Draw(sheet).text((left, top + cell.height + 4), caption, QUIET, font)


def _has_nodata(tile: Thumbnail, classes: ClassTable) -> bool:
    is_partial = tile.valid is not None and not tile.valid.all()
    return is_partial or bool((tile.labels == classes.nodata).any())


def _legend(
    tiles: Sequence[Thumbnail], classes: ClassTable, captions: dict[str, str]
) -> list[tuple[str, Color]]:
    """Names, captions and colours of all classes, or of those in the tiles if all are too many."""
    font = ImageFont.load_default(TEXT_PX - 2)
    if len(classes.classes) <= LEGEND_CLASSES:
        legend = [(entry.name, entry.color) for entry in classes.classes]
    else:
        legend = legend_of(classes, [tile.labels for tile in tiles])
    return [
        (f"{fitted_text(name, font, LEGEND_NAME_PX)}  {captions.get(name, '')}".strip(), color)
        for name, color in legend
    ]

"""Image and label map side by side, with a legend."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from segmodel.labels.classes import ClassTable

PANEL_WIDTH, PANEL_HEIGHT = 900, 450
MARGIN, LEGEND_HEIGHT, SWATCH = 16, 56, 22
PAPER, INK = (255, 255, 255), (40, 44, 52)


def draw_picture(
    path: Path, image: np.ndarray, labels: np.ndarray, classes: ClassTable, captions: dict[str, str]
) -> None:
    """Write the picture as PNG.

    Args:
        path: To write.
        image: `(height, width, 3)` uint8.
        labels: `(height, width)` class ids.
        classes: Colours and names.
        captions: What the legend says after the name of a class.
    """
    width = 2 * PANEL_WIDTH + 3 * MARGIN
    height = PANEL_HEIGHT + 2 * MARGIN + LEGEND_HEIGHT
    sheet = Image.new("RGB", (width, height), PAPER)
    for number, pixels in enumerate((image, classes.palette()[labels])):
        panel = Image.fromarray(pixels).resize((PANEL_WIDTH, PANEL_HEIGHT), Image.Resampling.BOX)
        sheet.paste(panel, (MARGIN + number * (PANEL_WIDTH + MARGIN), MARGIN))
    _legend(ImageDraw.Draw(sheet), classes, captions)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, optimize=True)


def _legend(canvas: ImageDraw.ImageDraw, classes: ClassTable, captions: dict[str, str]) -> None:
    font = ImageFont.load_default(22)
    top = PANEL_HEIGHT + 2 * MARGIN + (LEGEND_HEIGHT - MARGIN - SWATCH) // 2
    left = MARGIN
    for entry in classes.classes:
        box = (left, top, left + SWATCH, top + SWATCH)
        canvas.rectangle(box, fill=entry.color, outline=INK)
        text = f"{entry.name}  {captions.get(entry.name, '')}".strip()
        canvas.text((left + SWATCH + 10, top + SWATCH / 2), text, INK, font, anchor="lm")
        left += SWATCH + 10 + round(canvas.textlength(text, font)) + 56

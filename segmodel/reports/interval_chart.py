"""A chart of numbers with their intervals, beside numbers that have none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

from PIL import Image, ImageDraw, ImageFont

from segmodel.reports.drawing import INK, MARGIN, PAPER, QUIET, Font, fitted_text

# Lines that a picture has room for.
MAX_BARS = 40
_WIDTH, _LINE, _NAMES, _VALUES = 1180, 62, 200, 370
_BAR = (0, 114, 178)
# Room of an axis beyond the least and the greatest number on it, as a share of what is between.
_MARGIN_SHARE = 0.08
_TICKS = 4


@dataclass(frozen=True)
class IntervalBar:
    """One line of a chart.

    Args:
        name: What the line is of.
        value: The number that is estimated.
        low: Lower limit of its interval, or None where there is none.
        high: Upper limit of its interval, or None.
        other: The number that it is compared with, or None where there is none.
    """

    name: str
    value: float
    low: float | None
    high: float | None
    other: float | None

    @property
    def numbers(self) -> list[float]:
        """All numbers of the line."""
        return [n for n in (self.value, self.low, self.high, self.other) if n is not None]


def interval_chart(
    title: str, value_name: str, other_name: str, bars: Sequence[IntervalBar]
) -> bytes:
    """Draw a line for each number, on an axis of its own, as numbers may differ a thousandfold.

    Args:
        title: What the numbers are, with their unit.
        value_name: What the estimates and their intervals are called in the legend.
        other_name: What the numbers beside them are called.
        bars: The lines, of which the first 40 are drawn.

    Returns:
        A PNG.
    """
    drawn = bars[:MAX_BARS]
    head = 64
    sheet = Image.new("RGB", (_WIDTH, head + _LINE * len(drawn) + MARGIN), PAPER)
    canvas, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    canvas.text((MARGIN, MARGIN), fitted_text(title, font, _WIDTH - 2 * MARGIN), INK, font)
    _draw_legend(canvas, value_name, other_name, font)
    for number, bar in enumerate(drawn):
        _draw_bar(canvas, bar, head + _LINE * number + _LINE // 2, font)
    stream = BytesIO()
    sheet.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _draw_legend(canvas: ImageDraw.ImageDraw, value_name: str, other_name: str, font: Font) -> None:
    y = MARGIN + 34
    x = MARGIN + 14
    canvas.line((x - 14, y, x + 14, y), _BAR, 3)
    _draw_value(canvas, x, y)
    canvas.text((x + 24, y), value_name, INK, font, anchor="lm")
    x += 24 + round(font.getlength(value_name)) + 36
    _draw_other(canvas, x, y)
    canvas.text((x + 16, y), f"{other_name}; each line has its own scale", INK, font, anchor="lm")


def _draw_bar(canvas: ImageDraw.ImageDraw, bar: IntervalBar, y: int, font: Font) -> None:
    low, high = _ends(bar.numbers)
    left, right = MARGIN + _NAMES, _WIDTH - MARGIN - _VALUES

    def place(number: float) -> float:
        return left + (number - low) / (high - low) * (right - left)

    small = ImageFont.load_default(12)
    canvas.text((MARGIN, y), fitted_text(bar.name, font, _NAMES - 16), INK, font, anchor="lm")
    canvas.line((left, y + 14, right, y + 14), QUIET)
    for tick in _ticks(low, high):
        canvas.line((place(tick), y + 14, place(tick), y + 18), QUIET)
        canvas.text((place(tick), y + 19), f"{tick:,.10g}", QUIET, small, anchor="mt")
    span = 0.0 if bar.low is None or bar.high is None else bar.high - bar.low
    text = number_text(bar.value, span)
    if bar.low is not None and bar.high is not None:
        canvas.line((place(bar.low), y, place(bar.high), y), _BAR, 3)
        for end in (bar.low, bar.high):
            canvas.line((place(end), y - 7, place(end), y + 7), _BAR, 3)
        limits = (number_text(end, span) for end in (bar.low, bar.high))
        text += f"  ({' to '.join(limits)})"
    if bar.other is not None:
        _draw_other(canvas, place(bar.other), y)
    _draw_value(canvas, place(bar.value), y)
    canvas.text((right + 16, y), fitted_text(text, font, _VALUES - 16), INK, font, anchor="lm")


def _draw_value(canvas: ImageDraw.ImageDraw, x: float, y: float) -> None:
    canvas.ellipse((x - 6, y - 6, x + 6, y + 6), _BAR, PAPER)


def _draw_other(canvas: ImageDraw.ImageDraw, x: float, y: float) -> None:
    diamond = [(x, y - 9), (x + 9, y), (x, y + 9), (x - 9, y)]
    canvas.polygon(diamond, PAPER, INK, 2)


def _ends(numbers: Sequence[float]) -> tuple[float, float]:
    """Numbers at the ends of an axis.

    >>> _ends([100.0, 0.0]), _ends([5.0, 5.0])
    ((-8.0, 108.0), (4.6, 5.4))
    """
    low, high = min(numbers), max(numbers)
    room = (high - low or abs(high) or 1.0) * _MARGIN_SHARE
    return low - room, high + room


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers between two, three to eight of them.

    >>> _ticks(0.9, 7.2)
    [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    """
    size = 10.0 ** math.floor(math.log10((high - low) / _TICKS))
    step = next(size * n for n in (1, 2, 5, 10) if (high - low) / (size * n) <= 2 * _TICKS - 1)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [number * step for number in range(first, last + 1)]


def number_text(number: float, span: float) -> str:
    """A number to the third digit of a span, such as the width of its interval.

    >>> number_text(1234.5678, 0.123456), number_text(7.0, 81234.0), number_text(7.0, 0.0)
    ('1,234.568', '7', '7.00')
    """
    digits = 2 - math.floor(math.log10(span or abs(number) or 1.0))
    return f"{number:,.{min(6, max(0, digits))}f}"

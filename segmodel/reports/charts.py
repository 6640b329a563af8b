"""Charts of training and of confusion, by matplotlib; nothing here touches its global state."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segmodel.errors import ConfigurationError
from segmodel.labels.classes import ClassTable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Rows of a matrix that can be read, and panels of classes.
MAX_CLASSES, MAX_PANELS = 40, 20
# Up to so many, cells have room for pixels too.
FEW_CLASSES = 12
# Okabe and Ito (2008): told apart by people with any colour vision.
RUN_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
INK, QUIET, GRID = "#282C34", "#6E7480", "#E4E6EB"
# Lines lighter than this cannot be seen on white.
GREATEST_LUMA = 170
DPI = 110

History = Sequence[Mapping[str, Any]]


def read_history(path: str | Path) -> list[dict[str, Any]]:
    """Validations of a run, in order; a line that a killed run did not finish is left out.

    Raises:
        ConfigurationError: If the file cannot be read.
    """
    try:
        lines = Path(path).read_text("utf-8").splitlines()
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None
    history = []
    for number, line in enumerate(lines, 1):
        try:
            history.append(json.loads(line))
        except ValueError:
            if number < len(lines):
                raise ConfigurationError(f"{path}: line {number} is not JSON") from None
    return history


def write_curves(path: str | Path, history: History, classes: ClassTable) -> None:
    """A PNG of loss, mean IoU and the IoU of each class over the steps of one run.

    Raises:
        ConfigurationError: If matplotlib is missing.
    """
    figure = _figure(13.5, 4.2)
    loss, mean, each = figure.subplots(1, 3)
    steps = [line["step"] for line in history]
    _line(loss, steps, [line.get("loss") for line in history], "loss", RUN_COLORS[0])
    for color, (what, label) in zip(
        RUN_COLORS, (("mean_iou", "mean IoU"), ("pixel_accuracy", "pixel accuracy")), strict=False
    ):
        _line(mean, steps, [line["scores"].get(what) for line in history], label, color)
    for entry in classes.classes[:MAX_PANELS]:
        values = [line["scores"]["iou"].get(entry.name) for line in history]
        _line(each, steps, values, entry.name, _dark_enough(entry.color))
    for axes in (loss, mean, each):
        _mark_stages(axes, history)
    _finish(loss, "loss", share=False)
    _finish(mean, "validation", share=True)
    more = len(classes.classes) - MAX_PANELS
    _finish(each, "IoU" if more <= 0 else f"IoU of the first {MAX_PANELS} classes", share=True)
    mean.legend(frameon=False, fontsize=8, loc="lower right")
    each.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    _save(figure, path)


def write_laid_over(
    path: str | Path, histories: Mapping[str, History], names: Sequence[str]
) -> None:
    """A PNG of the curves of several runs laid over each other, a panel for each class.

    Args:
        path: The file.
        histories: By name of the run.
        names: Of the classes; those without a score in any run are left out.

    Raises:
        ConfigurationError: If matplotlib is missing.
    """
    lines = [line for history in histories.values() for line in history]
    known = [n for n in names if any(line["scores"]["iou"].get(n) is not None for line in lines)]
    names = known[:MAX_PANELS]
    titles = ["loss", "mean IoU", *(f"IoU {name}" for name in names)]
    columns = min(4, len(titles))
    rows = -(-len(titles) // columns)
    figure = _figure(3.6 * columns, 2.9 * rows + 0.5)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for number, (run, history) in enumerate(histories.items()):
        color = RUN_COLORS[number % len(RUN_COLORS)]
        style = ("-", "--", ":")[number // len(RUN_COLORS) % 3]
        steps = [line["step"] for line in history]
        values = [
            [line.get("loss") for line in history],
            [line["scores"].get("mean_iou") for line in history],
            *([line["scores"]["iou"].get(n) for line in history] for n in names),
        ]
        for axes, curve in zip(panels, values, strict=False):
            _line(axes, steps, curve, run, color, style)
    for number, axes in enumerate(panels):
        if number < len(titles):
            _finish(axes, titles[number], share=number > 0)
        else:
            axes.set_axis_off()
    handles, _ = panels[0].get_legend_handles_labels()
    labels = [printable(run, 40) for run in histories]
    figure.legend(handles, labels, loc="outside upper center", frameon=False, ncols=3, fontsize=9)
    _save(figure, path)


def write_confusion(path: str | Path, matrix: np.ndarray, names: Sequence[str]) -> None:
    """A PNG of a confusion matrix: shares of each true class, and pixels.

    Args:
        path: The file.
        matrix: `(classes, classes)` int64, rows are truth.
        names: Of the classes; of more than 40, the most frequent are shown.

    Raises:
        ConfigurationError: If matplotlib is missing.
    """
    shown = most_frequent(matrix)
    counts = matrix[np.ix_(shown, shown)]
    wholes = matrix.sum(axis=1)[shown, None]
    shares = np.divide(counts, wholes, out=np.zeros(counts.shape), where=wholes > 0)
    few = len(shown) <= FEW_CLASSES
    side = max(3.2, (0.72 if few else 0.36) * len(shown))
    figure = _figure(side + 3.2, side + 1.6)
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    labels = [printable(names[place], 24) for place in shown]
    axes.set_xticks(range(len(shown)), labels, rotation=45, ha="right", rotation_mode="anchor")
    sizes = [short_count(int(whole)) for whole in wholes[:, 0]]
    rows = [f"{name}  {size}" for name, size in zip(labels, sizes, strict=True)]
    axes.set_yticks(range(len(shown)), rows)
    axes.set_xlabel("predicted", color=QUIET)
    axes.set_ylabel("truth, with its pixels", color=QUIET)
    title = f"{'share' if few else 'percent'} of the pixels of each true class"
    if len(shown) < len(names):
        title += f"\nthe {len(shown)} most frequent of {len(names)} classes"
    axes.set_title(title, fontsize=10, color=INK, loc="left")
    axes.tick_params(length=0, labelsize=9 if few else 8)
    for spine in axes.spines.values():
        spine.set_visible(False)
    _write_cells(axes, counts, shares, few)
    _save(figure, path)


def most_frequent(matrix: np.ndarray) -> np.ndarray:
    """Places of at most 40 classes with the most true pixels, in the order of the table.

    >>> most_frequent(np.eye(3, dtype=int))
    array([0, 1, 2])
    """
    order = np.argsort(-matrix.sum(axis=1), kind="stable")
    return np.sort(order[:MAX_CLASSES])


def printable(text: str, characters: int) -> str:
    r"""A name as matplotlib shows it as it is, on one line, shortened in the middle.

    >>> printable("grass $ and\ttrees", 20)
    'grass \\$ and trees'
    >>> printable("_" + "x" * 30, 10)
    ' _xxx…xxxx'
    """
    plain = "".join(letter if letter.isprintable() else " " for letter in text)
    # Labels that begin with a line below are left out of legends.
    plain = f" {plain}" if plain.startswith("_") else plain
    if len(plain) > characters:
        half = (characters - 1) // 2
        plain = f"{plain[: characters - 1 - half]}…{plain[-half:]}"
    return plain.replace("$", r"\$")


def short_count(pixels: int) -> str:
    """A number of pixels in at most five characters.

    >>> [short_count(n) for n in (0, 999, 1000, 45_678, 3_999_999, 2_500_000_000)]
    ['0', '999', '1.0k', '46k', '4.0M', '2.5G']
    """
    value, unit = float(pixels), 0
    while value >= 999.5 and unit < 5:
        value, unit = value / 1000, unit + 1
    return f"{value:.{1 if unit and value < 9.95 else 0}f}{('', 'k', 'M', 'G', 'T', 'P')[unit]}"


def _write_cells(axes: Axes, counts: np.ndarray, shares: np.ndarray, few: bool) -> None:
    """Share and pixels in each cell; of many classes the percents that round to 1 or more."""
    for (row, column), share in np.ndenumerate(shares):
        count = int(counts[row, column])
        if not count or (not few and share < 0.005):
            continue
        text = f"{share:.2f}\n{short_count(count)}" if few else f"{100 * share:.0f}"
        color = "white" if share > 0.55 else INK
        axes.text(column, row, text, ha="center", va="center", color=color, fontsize=8)


def _line(
    axes: Axes,
    steps: Sequence[int],
    values: Sequence[float | None],
    label: str,
    color: str,
    style: str = "-",
) -> None:
    """A curve with gaps where there is no value, and a dot where there is only one."""
    heights = [math.nan if value is None else value for value in values]
    marker = "o" if len(steps) < 2 else None
    label = printable(label, 24)
    axes.plot(steps, heights, style, color=color, label=label, lw=1.6, marker=marker, ms=4)


def _finish(axes: Axes, title: str, share: bool) -> None:
    axes.set_title(printable(title, 40), fontsize=10, color=INK, loc="left")
    axes.set_xlabel("step", fontsize=9, color=QUIET)
    axes.tick_params(labelsize=8, colors=QUIET, length=0)
    axes.grid(color=GRID, lw=0.8)
    axes.set_axisbelow(True)
    if share:
        axes.set_ylim(0, 1)
    else:
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    for spine in axes.spines.values():
        spine.set_visible(False)


def _mark_stages(axes: Axes, history: History) -> None:
    """A line where the first validation of another stage is not far."""
    for before, line in pairwise(history):
        if before.get("stage") != line.get("stage"):
            axes.axvline((before["step"] + line["step"]) / 2, color=QUIET, lw=0.8, ls=":")


def _dark_enough(color: tuple[int, int, int]) -> str:
    """A colour that can be seen on white, of the same hue.

    >>> _dark_enough((0, 0, 255)), _dark_enough((255, 255, 255))
    ('#0000ff', '#aaaaaa')
    """
    luma = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]
    factor = min(1.0, GREATEST_LUMA / luma) if luma else 1.0
    return "#" + bytes(round(part * factor) for part in color).hex()


def need_matplotlib() -> None:
    """Say at once that charts cannot be drawn.

    Raises:
        ConfigurationError: If matplotlib is missing.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise ConfigurationError(
            "charts need matplotlib, which is missing: pip install 'beamseg[train]'"
        ) from None


def _figure(width: float, height: float) -> Figure:
    need_matplotlib()
    from matplotlib.figure import Figure

    return Figure((width, height), layout="constrained", facecolor="white")


def _save(figure: Figure, path: str | Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        # Of letters that the font does not have: a box stands for them.
        warnings.filterwarnings("ignore", "Glyph .* missing")
        figure.savefig(path, format="png", dpi=DPI)

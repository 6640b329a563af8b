"""Charts of training and of confusion, by matplotlib; nothing here touches its global state."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle, pairwise, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segmodel.errors import ConfigurationError
from segmodel.evaluation.reliability import expected_calibration_error, reliability_table
from segmodel.labels.classes import ClassTable
from segmodel.reports.documents import one_line

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
MAX_LUMA = 170
DPI = 110

History = Sequence[Mapping[str, Any]]
Curve = Iterable[float | None]


def write_curves(path: str | Path, history: History, classes: ClassTable) -> None:
    """Write a PNG of loss, mean IoU and the IoU of each class over the steps of one run.

    Args:
        path: File to write.
        history: Validations of the run.
        classes: Class table of the model; of more than 20 classes, the first are drawn.

    Raises:
        ConfigurationError: If matplotlib is missing.
    """
    figure = _figure(13.5, 4.2)
    loss, mean, each = figure.subplots(1, 3)
    blue, orange, *_ = RUN_COLORS
    _line(loss, history, (line.get("loss") for line in history), "loss", blue)
    scores = ("mean_iou", "mean IoU", blue), ("pixel_accuracy", "pixel accuracy", orange)
    for key, label, color in scores:
        _line(mean, history, (line["scores"].get(key) for line in history), label, color)
    for entry in classes.classes[:MAX_PANELS]:
        color = _dark_enough(entry.color)
        _line(each, history, _class_iou(history, entry.name), entry.name, color)
    of = f" of the first {MAX_PANELS} classes" if len(classes.classes) > MAX_PANELS else ""
    for axes, title in ((loss, "loss"), (mean, "validation"), (each, f"IoU{of}")):
        # A line where the first validation of another stage is not far.
        for before, line in pairwise(history):
            if before.get("stage") != line.get("stage"):
                axes.axvline((before["step"] + line["step"]) / 2, color=QUIET, lw=0.8, ls=":")
        _finish(axes, title, is_share=axes is not loss)
    mean.legend(frameon=False, fontsize=8, loc="lower right")
    each.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    _save(figure, path)


def write_laid_over(
    path: str | Path, histories: Mapping[str, History], names: Sequence[str]
) -> None:
    """Write a PNG of the curves of several runs laid over each other, a panel for each class.

    Args:
        path: File to write.
        histories: Validations by name of the run.
        names: Names of the classes; those without a score in any run are left out.

    Raises:
        ConfigurationError: If matplotlib is missing.
    """
    lines = [line for history in histories.values() for line in history]
    scored = [n for n in names if any(iou is not None for iou in _class_iou(lines, n))]
    names = scored[:MAX_PANELS]
    titles = ["loss", "mean IoU", *(f"IoU {name}" for name in names)]
    columns = min(4, len(titles))
    rows = -(-len(titles) // columns)
    figure = _figure(3.6 * columns, 2.9 * rows + 0.5)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    looks = cycle(product(("-", "--", ":"), RUN_COLORS))
    for (run, history), (style, color) in zip(histories.items(), looks, strict=False):
        curves: list[Curve] = [
            (line.get("loss") for line in history),
            (line["scores"].get("mean_iou") for line in history),
            *(_class_iou(history, name) for name in names),
        ]
        for axes, curve in zip(panels, curves, strict=False):
            _line(axes, history, curve, run, color, style)
    for axes, title in zip(panels, titles, strict=False):
        _finish(axes, title, is_share=title != "loss")
    for axes in panels[len(titles) :]:
        axes.set_axis_off()
    handles, _ = panels[0].get_legend_handles_labels()
    labels = [label_text(run, 40) for run in histories]
    figure.legend(handles, labels, loc="outside upper center", frameon=False, ncols=3, fontsize=9)
    _save(figure, path)


def write_confusion(path: str | Path, matrix: np.ndarray, names: Sequence[str]) -> None:
    """Write a PNG of a confusion matrix: shares of each true class, and pixels.

    Args:
        path: File to write.
        matrix: `(classes, classes)` int64, rows are truth.
        names: Names of the classes; of more than 40, the most frequent are drawn.

    Raises:
        ConfigurationError: If matplotlib is missing.
    """
    places = most_frequent(matrix)
    counts = matrix[np.ix_(places, places)]
    wholes = matrix.sum(axis=1)[places, None]
    shares = np.divide(counts, wholes, out=np.zeros(counts.shape), where=wholes > 0)
    few = len(places) <= FEW_CLASSES
    side = max(3.2, (0.72 if few else 0.36) * len(places))
    figure = _figure(side + 3.2, side + 1.6)
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    labels = [label_text(names[place], 24) for place in places]
    axes.set_xticks(range(len(places)), labels, rotation=45, ha="right", rotation_mode="anchor")
    sizes = map(short_count, wholes[:, 0].tolist())
    rows = [f"{name}  {size}" for name, size in zip(labels, sizes, strict=True)]
    axes.set_yticks(range(len(places)), rows)
    axes.set_xlabel("predicted", color=QUIET)
    axes.set_ylabel("truth, with its pixels", color=QUIET)
    title = f"{'share' if few else 'percent'} of the pixels of each true class"
    if len(places) < len(names):
        title += f"\nthe {len(places)} most frequent of {len(names)} classes"
    axes.set_title(title, fontsize=10, color=INK, loc="left")
    axes.tick_params(length=0, labelsize=9 if few else 8)
    axes.spines[:].set_visible(False)
    for (row, column), share in np.ndenumerate(shares):
        # Of many classes, the percents that round to 1 or more.
        if (count := int(counts[row, column])) and (few or share >= 0.005):
            text = f"{share:.2f}\n{short_count(count)}" if few else f"{100 * share:.0f}"
            color = "white" if share > 0.55 else INK
            axes.text(column, row, text, ha="center", va="center", color=color, fontsize=8)
    _save(figure, path)


def write_reliability(path: str | Path, counts: np.ndarray) -> None:
    """Write a PNG of a reliability diagram: share of right pixels by confidence, and pixels.

    Args:
        path: File to write.
        counts: `(256, 2)` wrong and right pixels by confidence; see `confidence_counts`.

    Raises:
        ConfigurationError: If matplotlib is missing.
    """
    table, error = reliability_table(counts), expected_calibration_error(counts)
    middles, width = [(row.low + row.high) / 2 for row in table], table[0].high
    total = int(counts.sum())
    figure = _figure(4.8, 5.6)
    share, pixels = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    blue, orange, *_ = RUN_COLORS
    share.bar(middles, [row.accuracy or 0 for row in table], 0.92 * width, color=blue)
    seen = [row for row in table if row.pixels]
    share.plot(
        [row.confidence for row in seen],
        [row.accuracy for row in seen],
        "o",
        color=orange,
        ms=5,
        label="mean confidence of a bin",
    )
    share.plot([0, 1], [0, 1], "--", color=QUIET, lw=1, label="as right as confident")
    share.legend(frameon=False, fontsize=8, loc="upper left")
    share.set_ylabel("share of right pixels", fontsize=9, color=QUIET)
    pixels.bar(middles, [row.pixels / total for row in table], 0.92 * width, color=QUIET)
    pixels.set_ylabel("share of pixels", fontsize=9, color=QUIET)
    pixels.set_xlabel("confidence", fontsize=9, color=QUIET)
    title = f"expected calibration error {error:.3f}, {short_count(total)} pixels"
    share.set_title(title, fontsize=10, color=INK, loc="left")
    for axes in (share, pixels):
        axes.set_xlim(0, 1)
        axes.tick_params(labelsize=8, colors=QUIET, length=0)
        axes.grid(color=GRID, lw=0.8)
        axes.set_axisbelow(True)
        axes.spines[:].set_visible(False)
    share.set_ylim(0, 1)
    _save(figure, path)


def most_frequent(matrix: np.ndarray) -> np.ndarray:
    """Places of at most 40 classes with the most true pixels, in the order of the table.

    Args:
        matrix: `(classes, classes)` int64, rows are truth.

    Returns:
        `(places,)` int64, rising.

    >>> most_frequent(np.eye(3, dtype=int))
    array([0, 1, 2])
    """
    order = np.argsort(-matrix.sum(axis=1), kind="stable")
    return np.sort(order[:MAX_CLASSES])


def label_text(text: str, characters: int) -> str:
    r"""Escape a name so that matplotlib shows it as it is: on one line, shortened in the middle.

    Args:
        text: Any name.
        characters: Greatest length.

    >>> label_text("grass $ and\ttrees", 20)
    'grass \\$ and trees'
    >>> label_text("_" + "x" * 30, 10)
    ' _xxx…xxxx'
    """
    # Labels that begin with a line below are left out of legends.
    plain = f" {one_line(text)}" if text.startswith("_") else one_line(text)
    if len(plain) > characters:
        half = (characters - 1) // 2
        plain = f"{plain[: characters - 1 - half]}…{plain[-half:]}"
    return plain.replace("$", r"\$")


def short_count(pixels: int) -> str:
    """Format a number of pixels in at most five characters.

    >>> [short_count(n) for n in (0, 999, 1000, 45_678, 3_999_999, 2_500_000_000)]
    ['0', '999', '1.0k', '46k', '4.0M', '2.5G']
    """
    value, unit = float(pixels), 0
    while value >= 999.5 and unit < 5:
        value, unit = value / 1000, unit + 1
    return f"{value:.{1 if unit and value < 9.95 else 0}f}{('', 'k', 'M', 'G', 'T', 'P')[unit]}"


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


def _class_iou(history: History, name: str) -> Curve:
    return (line["scores"]["iou"].get(name) for line in history)


def _line(
    axes: Axes, history: History, values: Curve, label: str, color: str, style: str = "-"
) -> None:
    """Draw a curve with gaps where there is no value, and a dot where there is only one."""
    steps = [line["step"] for line in history]
    heights = np.array([*values], float)
    marker = "o" if len(steps) < 2 else None
    label = label_text(label, 24)
    axes.plot(steps, heights, style, color=color, label=label, lw=1.6, marker=marker, ms=4)


def _finish(axes: Axes, title: str, is_share: bool) -> None:
    axes.set_title(label_text(title, 40), fontsize=10, color=INK, loc="left")
    axes.set_xlabel("step", fontsize=9, color=QUIET)
    axes.tick_params(labelsize=8, colors=QUIET, length=0)
    axes.grid(color=GRID, lw=0.8)
    axes.set_axisbelow(True)
    axes.set_ylim(*((0, 1) if is_share else (min(0.0, axes.get_ylim()[0]), None)))
    axes.spines[:].set_visible(False)


def _dark_enough(color: tuple[int, int, int]) -> str:
    """A colour that can be seen on white, of the same hue.

    >>> _dark_enough((0, 0, 255)), _dark_enough((255, 255, 255))
    ('#0000ff', '#aaaaaa')
    """
    luma = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]
    factor = min(1.0, MAX_LUMA / luma) if luma else 1.0
    return "#" + bytes(round(part * factor) for part in color).hex()


def _figure(width: float, height: float) -> Figure:
    need_matplotlib()
    from matplotlib.figure import Figure

    return Figure((width, height), layout="constrained", facecolor="white")


def _save(figure: Figure, path: str | Path) -> None:
    with warnings.catch_warnings():
        # Of letters that the font does not have: a box stands for them.
        warnings.filterwarnings("ignore", "Glyph .* missing")
        figure.savefig(path, format="png", dpi=DPI)

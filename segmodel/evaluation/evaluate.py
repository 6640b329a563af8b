"""Scores of a model over pairs of image and truth, through the engine that production uses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from segmodel.engine.calls import Model
from segmodel.engine.engine import Engine
from segmodel.engine.read_ahead import Job
from segmodel.engine.stitching import Failed, Labelled
from segmodel.errors import BeamsegError, ContractError, InputError, is_transient
from segmodel.labels.confusion import IGNORED, Scores, confusion_matrix
from segmodel.pairs.pairs import Pair
from segmodel.tiling.raster import Pixels, Raster
from segmodel.tiling.windows import Layout, Window

# Longest side of what is labelled and compared in one piece.
BLOCK_PX = 4096


@dataclass(frozen=True)
class ImageScore:
    """The confusion matrix of one image, without its zeros.

    Images have few classes, and there may be many images.

    Args:
        name: Name of the pair.
        classes: Number of classes.
        cells: `(cells,)` int64 places in the flat confusion matrix that are not 0.
        pixels: `(cells,)` int64 numbers of pixels at these places.
    """

    name: str
    classes: int
    cells: np.ndarray
    pixels: np.ndarray

    @classmethod
    def of(cls, name: str, matrix: np.ndarray) -> ImageScore:
        """Keep a confusion matrix, `(classes, classes)` int64, under the name of a pair."""
        cells = np.flatnonzero(matrix)
        return cls(name, len(matrix), cells, matrix.ravel()[cells])

    @property
    def matrix(self) -> np.ndarray:
        """`(classes, classes)` int64, rows are truth."""
        matrix = np.zeros(self.classes**2, np.int64)
        matrix[self.cells] = self.pixels
        return matrix.reshape(self.classes, self.classes)

    @property
    def scores(self) -> Scores:
        """Scores of this image alone."""
        return Scores.of(self.matrix)


@dataclass(frozen=True)
class Evaluation:
    """Scores of a set of pairs.

    Args:
        matrix: `(classes, classes)` int64 of the whole set, rows are truth.
        per_image: Score of each image, in the order of the pairs.
    """

    matrix: np.ndarray
    per_image: tuple[ImageScore, ...]

    @property
    def scores(self) -> Scores:
        """Scores of the whole set, which are no mean of those of its images."""
        return Scores.of(self.matrix)


@dataclass(frozen=True)
class LabelledBlock:
    """A part of an image with its labels, as `evaluate` hands it on.

    Args:
        number: Place of the pair among the pairs.
        pair: Image and truth.
        window: Which part of the image this is.
        labels: `(height, width)` ids; nodata where the model had nothing to see.
        truth: `(height, width)` class indices, `IGNORED` where they count nowhere.
        matrix: Confusion matrix of the image up to here.
        is_last: Whether it ends the image.
    """

    number: int
    pair: Pair
    window: Window
    labels: np.ndarray
    truth: np.ndarray
    matrix: np.ndarray
    is_last: bool


class PairRaster(Raster):
    """A pair as a raster of the engine; the cache of pairs bounds what a pair holds."""

    def __init__(self, pair: Pair) -> None:
        self.pair, self.height, self.width = pair, pair.height, pair.width

    def read(self, window: Window) -> Pixels:
        """Read the pixels of a window."""
        return self.pair.pixels(window)


Keep = Callable[[LabelledBlock], None]


def evaluate(
    model: Model, pairs: Sequence[Pair], layout: Layout, keep: Keep | None = None
) -> Evaluation:
    """Label all pairs as production does and compare with their truth.

    Args:
        model: Labels batches; its classes are in the order of the truth's indices.
        pairs: Images of any size and their truth; they are labelled in blocks, so memory does
            not grow with their size.
        layout: Windows that the model labels.
        keep: Is called with every block, in order, in the thread that calls.

    Raises:
        InputError: If a pair cannot be read; names it.
        ContractError: If the model gives a label that is not in its class table.
    """
    classes = len(model.classes.ids)
    # Class indices by label, -1 where no class is.
    index = np.full(model.classes.nodata + 1, -1, np.int32)
    index[list(model.classes.ids)] = np.arange(classes)
    under_way: dict[str, tuple[int, Window, bool]] = {}

    def jobs() -> Iterator[Job]:
        for number, pair in enumerate(pairs):
            blocks = list(blocks_of(pair, layout))
            for window in blocks:
                key = f"{number} {window.row} {window.column}"
                under_way[key] = number, window, window is blocks[-1]
                yield Job(key, partial(PairRaster, pair), window, open_inline=True)

    def compare(labelled: Labelled) -> LabelledBlock:
        number, window, is_last = under_way.pop(labelled.key)
        pair, labels = pairs[number], labelled.labels
        try:
            truth = np.where(labels == model.classes.nodata, IGNORED, pair.truth(window))
        except Exception as error:
            raise _named(pair, error) from error
        predicted = index[labels]
        if (predicted < 0).any() and (labels[predicted < 0] != model.classes.nodata).any():
            raise ContractError(f"{pair.name}: the model gives labels outside its class table")
        matrix = confusion_matrix(truth, predicted, classes)
        return LabelledBlock(number, pair, window, labels, truth, matrix, is_last)

    total = np.zeros((classes, classes), np.int64)
    of_image, per_image = np.zeros_like(total), []
    for outcome in Engine(model, layout).run_and_finish(jobs(), compare):
        if isinstance(outcome, Failed):
            pair = pairs[under_way[outcome.key][0]]
            raise _named(pair, outcome.error) from outcome.error
        of_image = of_image + outcome.matrix
        if keep is not None:
            keep(replace(outcome, matrix=of_image))
        if outcome.is_last:
            per_image.append(ImageScore.of(outcome.pair.name, of_image))
            total += of_image
            of_image = np.zeros_like(total)
    return Evaluation(total, tuple(per_image))


def blocks_of(pair: Pair, layout: Layout) -> Iterator[Window]:
    """Parts of a pair, at most about 4096 pixels a side; origins are multiples of the stride."""
    side = max(1, BLOCK_PX // layout.window_px) * layout.window_px
    yield from Window(0, 0, pair.height, pair.width).subdivide(side, side)


def _named(pair: Pair, error: Exception) -> Exception:
    """The error with the name of the pair, if it does not say it, or a fault of disk or memory.

    Decoders raise OSError without a number for content that they cannot make sense of.
    """
    text = str(error)
    if isinstance(error, BeamsegError):
        return error if pair.name in text else type(error)(f"{pair.name}: {text}")
    if is_transient(error) and getattr(error, "errno", 0) is not None:
        return error
    return InputError(f"{pair.name}: cannot be read: {text or type(error).__name__}")

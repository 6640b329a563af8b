"""Validation images kept with truth and labels, for the card of a run and for comparison."""

from __future__ import annotations

import hashlib
import heapq
import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from segmodel.engine.engine import Model
from segmodel.errors import ConfigurationError
from segmodel.evaluation.evaluate import Evaluation, LabelledBlock, evaluate
from segmodel.labels.classes import ClassTable
from segmodel.labels.confusion import Scores
from segmodel.labels.label_images import encode_labels
from segmodel.pairs.pairs import Pair
from segmodel.reports.panels import Look, centres, picture_of, shrinking
from segmodel.tiling.windows import Layout

# Images that are kept; of more, some by their names alone, so that two runs keep the same ones,
# and as many of the best and of the worst.
MAX_IMAGES, EXTREMES = 64, 3
NAME_CHARACTERS = 60
INDEX = "index.json"
_FOLDER = re.compile(r"\d{4,}-[A-Za-z0-9._-]+")


@dataclass(frozen=True)
class KeptImage:
    """A validation image as it was kept.

    Args:
        name: Of the pair.
        mean_iou: Of the whole image, or None where nothing counts.
        path: Folder of its files.
    """

    name: str
    mean_iou: float | None
    path: Path

    def image(self) -> np.ndarray:
        """`(height, width, 3)` uint8."""
        with Image.open(self.path / "image.jpg") as image:
            return np.asarray(image.convert("RGB"))

    def truth(self, classes: ClassTable) -> np.ndarray:
        """`(height, width)` ids, nodata where it counts nowhere."""
        return self._labels("truth.png", classes)

    def labels(self, classes: ClassTable) -> np.ndarray:
        """`(height, width)` ids that the model gave."""
        return self._labels("labels.png", classes)

    def _labels(self, name: str, classes: ClassTable) -> np.ndarray:
        with Image.open(self.path / name) as image:
            return np.asarray(image).astype(classes.label_dtype)


def keep_validation(
    folder: str | Path, model: Model, pairs: Sequence[Pair], layout: Layout, look: Look
) -> Evaluation:
    """Evaluate a model and keep what it made of up to 64 images.

    Writes a folder for each image with `image.jpg`, `truth.png` and `labels.png`, shrunk to at
    most 1024 pixels, and `index.json`. What an earlier run kept in the folder is removed.

    Raises:
        InputError: If a pair cannot be read; names it.
    """
    folder = Path(folder)
    remove_kept(folder)
    keeper = _Keeper(folder, look, chosen([pair.name for pair in pairs]))
    evaluation = evaluate(model, pairs, layout, keeper.keep)
    keeper.finish()
    return evaluation


def read_kept(folder: str | Path) -> list[KeptImage]:
    """What `keep_validation` kept, in the order of the pairs; nothing where it kept nothing.

    Raises:
        ConfigurationError: If the index cannot be read.
    """
    index = Path(folder) / INDEX
    if not index.exists():
        return []
    try:
        entries = json.loads(index.read_text("utf-8"))
        return [
            KeptImage(entry["name"], entry["mean_iou"], index.parent / _checked(entry["folder"]))
            for entry in entries
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"{index}: no index of validation images: {error}") from error


def best_and_worst(images: Sequence[KeptImage]) -> tuple[list[KeptImage], list[KeptImage]]:
    """Up to three of the greatest mean IoU and, of the others, three of the least."""
    ranked = sorted(
        (image for image in images if image.mean_iou is not None),
        key=lambda image: (-(image.mean_iou or 0.0), image.name),
    )
    best = ranked[: min(EXTREMES, -(-len(ranked) // 2))]
    return best, ranked[len(best) :][::-1][:EXTREMES]


def chosen(names: Sequence[str]) -> set[int]:
    """Which of many images are kept whatever their scores: those of the lowest digests."""
    if len(names) <= MAX_IMAGES:
        return set(range(len(names)))
    digests = ((hashlib.sha256(name.encode()).digest(), n) for n, name in enumerate(names))
    return {number for _, number in heapq.nsmallest(MAX_IMAGES - 2 * EXTREMES, digests)}


def safe_name(name: str) -> str:
    """What of a name may stand in a path anywhere, and not too much of it.

    >>> safe_name("../../dubai/tile 8/image_part_001.jpg"), safe_name("水")
    ('dubai_tile_8_image_part_001.jpg', 'image')
    """
    plain = re.sub(r"[^A-Za-z0-9.-]+|\.{2,}", "_", name)[-NAME_CHARACTERS:]
    return plain.strip("._-") or "image"


@dataclass
class ShrunkImage:
    """An image whose blocks come in: truth and labels at the centres of its shrunk pixels.

    Args:
        number: Of the pair.
        pair: It.
        factor: By which it is shrunk.
        truth: Ids, nodata where it counts nowhere.
        labels: Ids that the model gave.
        scores: Of the whole image, once it is done.
    """

    number: int
    pair: Pair
    factor: int
    truth: np.ndarray
    labels: np.ndarray
    scores: Scores | None = None

    @property
    def mean_iou(self) -> float:
        """Of the whole image, once it is done; -1 where nothing counts."""
        mean = self.scores.mean_iou if self.scores else None
        return -1.0 if mean is None else mean

    def receive(self, block: LabelledBlock, ids: np.ndarray) -> None:
        """Take from a block what falls on the shrunk grid."""
        window, factor = block.window, self.factor
        rows = centres(window.row, window.height, self.pair.height, factor)
        columns = centres(window.column, window.width, self.pair.width, factor)
        if not rows.size or not columns.size:
            return
        taken = np.ix_(rows - window.row, columns - window.column)
        # The last entry of the ids is nodata, which is where -1 points.
        place = np.ix_(rows // factor, columns // factor)
        self.truth[place] = ids[block.truth[taken]]
        self.labels[place] = block.labels[taken]


class Shrinker:
    """Puts images of an evaluation together from their blocks, which come in order.

    Args:
        classes: Of the model.
    """

    def __init__(self, classes: ClassTable) -> None:
        self._ids = np.array([*classes.ids, classes.nodata], classes.label_dtype)
        self._current: ShrunkImage | None = None

    def receive(self, block: LabelledBlock) -> ShrunkImage | None:
        """Take the next block; gives the image if that was its last."""
        if self._current is None:
            self._current = self._begun(block)
        self._current.receive(block, self._ids)
        if not block.is_last:
            return None
        done, self._current = self._current, None
        done.scores = Scores.of(block.matrix)
        return done

    def _begun(self, block: LabelledBlock) -> ShrunkImage:
        height, width = block.pair.height, block.pair.width
        factor = shrinking(height, width)
        shape = -(-height // factor), -(-width // factor)
        truth, labels = (np.full(shape, self._ids[-1]) for _ in range(2))
        return ShrunkImage(block.number, block.pair, factor, truth, labels)


class _Keeper:
    """Writes chosen images when they are done, and the best and worst of the others at the end."""

    def __init__(self, folder: Path, look: Look, numbers: set[int]) -> None:
        self.folder, self.look, self.numbers = folder, look, numbers
        self.shrinker = Shrinker(look.classes)
        self.extremes: list[ShrunkImage] = []
        self.index: dict[int, dict[str, Any]] = {}

    def keep(self, block: LabelledBlock) -> None:
        """A block of the image under way."""
        done = self.shrinker.receive(block)
        if done is not None:
            self._add(done)

    def finish(self) -> None:
        """Write what is left, and the index."""
        for image in self.extremes:
            if image.number not in self.index:
                self._write(image)
        entries = [self.index[number] for number in sorted(self.index)]
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / INDEX).write_text(json.dumps(entries, indent=1) + "\n", "utf-8")

    def _add(self, image: ShrunkImage) -> None:
        if image.number in self.numbers:
            self._write(image)
        if len(self.numbers) == MAX_IMAGES - 2 * EXTREMES and image.mean_iou >= 0:
            ranked = sorted([*self.extremes, image], key=lambda one: (-one.mean_iou, one.number))
            middle = len(ranked) > 2 * EXTREMES
            self.extremes = ranked[:EXTREMES] + ranked[-EXTREMES:] if middle else ranked

    def _write(self, image: ShrunkImage) -> None:
        name, classes = image.pair.name, self.look.classes
        path = self.folder / f"{image.number:04d}-{safe_name(name)}"
        path.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture_of(image.pair, self.look)).save(path / "image.jpg", quality=92)
        (path / "truth.png").write_bytes(encode_labels(image.truth, classes, {}))
        (path / "labels.png").write_bytes(encode_labels(image.labels, classes, {}))
        assert image.scores is not None
        scores = image.scores.to_json(classes.names)
        self.index[image.number] = {
            "name": name,
            "folder": path.name,
            "mean_iou": scores["mean_iou"],
            "iou": scores["iou"],
            "height": image.pair.height,
            "width": image.pair.width,
            "shrunk_by": image.factor,
        }


def _checked(name: str) -> str:
    """The name of a folder that we may have written."""
    if not _FOLDER.fullmatch(name):
        raise ValueError(f"{name!r} is no folder of a validation image")
    return name


def remove_kept(folder: Path) -> None:
    """Remove what an earlier run kept, and nothing else."""
    for image in read_kept(folder):
        shutil.rmtree(image.path, ignore_errors=True)

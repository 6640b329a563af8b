"""Validation images put together from their blocks: panels of a few, and files of up to 64.

What is kept is for the card of a run and for comparison of runs.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from segmodel.engine.calls import Model
from segmodel.errors import ConfigurationError
from segmodel.evaluation.evaluate import Evaluation, LabelledBlock, evaluate
from segmodel.labels.classes import ClassTable
from segmodel.labels.confusion import Scores
from segmodel.labels.label_images import encode_labels
from segmodel.pairs.pairs import Pair
from segmodel.reports.panels import centres, draw_errors, picture_of, shrinking
from segmodel.savedmodel.contract import Contract
from segmodel.tiling.windows import Layout

# Images that are kept; of more, some by their names alone, so that two runs keep the same ones,
# and as many of the best and of the worst.
MAX_IMAGES, EXTREMES = 64, 3
# Images of a validation that get a panel.
MAX_PANELS = 3
NAME_CHARACTERS = 60
INDEX = "index.json"
_FOLDER = re.compile(r"\d{4,}-[A-Za-z0-9._-]+")


@dataclass(frozen=True)
class KeptImage:
    """A validation image as it was kept.

    Args:
        name: Name of the pair.
        mean_iou: Mean IoU of the whole image, or None where nothing counts.
        path: Folder of its files.
    """

    name: str
    mean_iou: float | None
    path: Path

    def image(self) -> np.ndarray:
        """Read the picture: `(height, width, 3)` uint8."""
        with Image.open(self.path / "image.jpg") as image:
            return np.asarray(image.convert("RGB"))

    def truth(self, classes: ClassTable) -> np.ndarray:
        """Read the true ids: `(height, width)` of the label dtype; nodata counts nowhere."""
        return self._labels("truth.png", classes)

    def labels(self, classes: ClassTable) -> np.ndarray:
        """Read the ids that the model gave: `(height, width)` of the label dtype."""
        return self._labels("labels.png", classes)

    def _labels(self, name: str, classes: ClassTable) -> np.ndarray:
        with Image.open(self.path / name) as image:
            return np.asarray(image).astype(classes.label_dtype)


@dataclass(frozen=True)
class ShrunkImage:
    """A whole image with truth and labels at the centres of its shrunk pixels.

    Args:
        number: Place of the pair in the evaluation.
        pair: The image and its mask.
        truth: `(height, width)` ids of the shrunk image, nodata where truth counts nowhere.
        labels: `(height, width)` ids that the model gave.
        scores: Scores of the whole image.
    """

    number: int
    pair: Pair
    truth: np.ndarray
    labels: np.ndarray
    scores: Scores


class Shrinker:
    """Puts images of an evaluation together from their blocks, which come in order.

    Args:
        classes: Class table of the model.
        receive: Is called with every image when its last block has come.
    """

    def __init__(self, classes: ClassTable, receive: Callable[[ShrunkImage], None]) -> None:
        # The last entry is nodata, which is where -1 points.
        self._ids = np.array([*classes.ids, classes.nodata], classes.label_dtype)
        self._receive = receive
        self._maps: list[np.ndarray] = []

    def keep(self, block: LabelledBlock) -> None:
        """Take the next block: what of it falls on the shrunk grid is kept."""
        window, pair = block.window, block.pair
        factor = shrinking(pair.height, pair.width)
        if not self._maps:
            shape = -(-pair.height // factor), -(-pair.width // factor)
            self._maps = [np.full(shape, self._ids[-1]) for _ in range(2)]
        truth, labels = self._maps
        rows = centres(window.row, window.height, pair.height, factor)
        columns = centres(window.column, window.width, pair.width, factor)
        place = np.ix_(rows // factor, columns // factor)
        source = np.ix_(rows - window.row, columns - window.column)
        truth[place] = self._ids[block.truth[source]]
        labels[place] = block.labels[source]
        if block.is_last:
            self._maps = []
            scores = Scores.of(block.matrix)
            self._receive(ShrunkImage(block.number, pair, truth, labels, scores))


class SamplePanels:
    """Panels of the first images of a validation; `keep` is for `evaluate`.

    Args:
        contract: Contract of the model, also of one that is being trained.

    Attributes:
        pictures: `(height, width, 3)` uint8 panels by name of the pair.
    """

    def __init__(self, contract: Contract) -> None:
        self.pictures: dict[str, np.ndarray] = {}
        self._contract = contract
        self._shrinker = Shrinker(contract.classes, self._draw)

    def keep(self, block: LabelledBlock) -> None:
        """Take a block; the last one of an image completes its panel."""
        if block.number < MAX_PANELS:
            self._shrinker.keep(block)

    def _draw(self, image: ShrunkImage) -> None:
        name, picture = image.pair.name, picture_of(image.pair, self._contract)
        panel = draw_errors(picture, image.truth, image.labels, self._contract.classes, name)
        self.pictures[name] = np.asarray(panel)


def keep_validation(
    folder: str | Path, model: Model, pairs: Sequence[Pair], layout: Layout, contract: Contract
) -> Evaluation:
    """Evaluate a model and keep what it made of up to 64 images.

    Writes a folder for each image with `image.jpg`, `truth.png` and `labels.png`, shrunk to at
    most 1024 pixels, and `index.json`. What an earlier run kept in the folder is removed.

    Args:
        folder: Folder to write; it need not exist.
        model: Labels batches.
        pairs: Pairs of validation.
        layout: Windows that the model labels.
        contract: Contract of the model.

    Raises:
        InputError: If a pair cannot be read; names it.
    """
    folder = Path(folder)
    remove_kept(folder)
    numbers = choose_images([pair.name for pair in pairs])
    extremes: list[ShrunkImage] = []
    index: dict[int, dict[str, Any]] = {}

    def receive(image: ShrunkImage) -> None:
        if image.number in numbers:
            index[image.number] = _write_image(folder, image, contract)
        if len(numbers) < len(pairs) and image.scores.mean_iou is not None:
            extremes.append(image)
            extremes.sort(key=lambda one: (-(one.scores.mean_iou or 0.0), one.number))
            del extremes[EXTREMES:-EXTREMES]

    evaluation = evaluate(model, pairs, layout, Shrinker(contract.classes, receive).keep)
    for image in extremes:
        if image.number not in index:
            index[image.number] = _write_image(folder, image, contract)
    folder.mkdir(parents=True, exist_ok=True)
    entries = [index[number] for number in sorted(index)]
    (folder / INDEX).write_text(json.dumps(entries, indent=1) + "\n", "utf-8")
    return evaluation


def read_kept(folder: str | Path) -> list[KeptImage]:
    """List what `keep_validation` kept; nothing where it kept nothing.

    Args:
        folder: Folder that was given to `keep_validation`.

    Returns:
        The images in the order of the pairs; their pixels are read when they are asked for.

    Raises:
        ConfigurationError: If the index cannot be read.
    """
    index = Path(folder) / INDEX
    if not index.exists():
        return []
    try:
        entries = json.loads(index.read_text("utf-8"))
        for entry in entries:
            # Only names that we may have written: what is kept is also removed.
            if not _FOLDER.fullmatch(entry["folder"]):
                raise ValueError(f"{entry['folder']!r} is no folder of a validation image")
        return [KeptImage(e["name"], e["mean_iou"], index.parent / e["folder"]) for e in entries]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"{index}: no index of validation images: {error}") from error


def remove_kept(folder: Path) -> None:
    """Remove the images that an earlier run kept in a folder, and nothing else."""
    for image in read_kept(folder):
        shutil.rmtree(image.path, ignore_errors=True)


def best_and_worst(images: Sequence[KeptImage]) -> tuple[list[KeptImage], list[KeptImage]]:
    """Choose up to three images of the greatest mean IoU, and of the others three of the least.

    Args:
        images: Kept images; those where nothing counts are left out.

    Returns:
        The best, best first, and the worst, worst first; no image is in both.
    """
    ranked = sorted(
        (image for image in images if image.mean_iou is not None),
        key=lambda image: (-(image.mean_iou or 0.0), image.name),
    )
    best = ranked[: min(EXTREMES, -(-len(ranked) // 2))]
    return best, ranked[len(best) :][::-1][:EXTREMES]


def choose_images(names: Sequence[str]) -> set[int]:
    """Choose the images that are kept whatever their scores: those of the lowest digests.

    Args:
        names: Names of all pairs.

    Returns:
        Places among the names: all of up to 64, or 58 of more.
    """
    if len(names) <= MAX_IMAGES:
        return set(range(len(names)))
    digests = ((hashlib.sha256(name.encode()).digest(), n) for n, name in enumerate(names))
    return {number for _, number in heapq.nsmallest(MAX_IMAGES - 2 * EXTREMES, digests)}


def safe_name(name: str) -> str:
    """Make a file name of any name: at most 60 letters, digits, points, hyphens and underscores.

    >>> safe_name("../../dubai/tile 8/image_part_001.jpg"), safe_name("水")
    ('dubai_tile_8_image_part_001.jpg', 'image')
    """
    plain = re.sub(r"[^A-Za-z0-9.-]+|\.{2,}", "_", name)[-NAME_CHARACTERS:]
    return plain.strip("._-") or "image"


def _write_image(folder: Path, image: ShrunkImage, contract: Contract) -> dict[str, Any]:
    """Write the files of an image; returns its entry in the index."""
    pair, classes = image.pair, contract.classes
    path = folder / f"{image.number:04d}-{safe_name(pair.name)}"
    path.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture_of(pair, contract)).save(path / "image.jpg", quality=92)
    for name, labels in (("truth.png", image.truth), ("labels.png", image.labels)):
        (path / name).write_bytes(encode_labels(labels, classes, {}))
    scores = image.scores.to_json(classes.names)
    return {
        "name": pair.name,
        "folder": path.name,
        "mean_iou": scores["mean_iou"],
        "iou": scores["iou"],
        "height": pair.height,
        "width": pair.width,
        "shrunk_by": shrinking(pair.height, pair.width),
    }

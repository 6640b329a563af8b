"""Pairs of image and mask: found by stem, decoded to arrays, cropped at random."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segmodel.classes import ClassTable, parse_color
from segmodel.confusion import IGNORED
from segmodel.errors import ConfigurationError, InputError
from segmodel.images import IMAGE_SUFFIXES, decode_image


@dataclass(frozen=True)
class Pair:
    """One image and its truth.

    Args:
        name: Stem of the files.
        image: `(height, width, bands)` raw values.
        truth: `(height, width)` int16 class indices; `IGNORED` counts nowhere.
    """

    name: str
    image: np.ndarray
    truth: np.ndarray


@dataclass(frozen=True)
class MaskCode:
    """How values of a mask mean classes.

    Args:
        classes: The class table; index in it is what the network learns.
        encoding: `color` or `id`.
        ignore_colors: Colours that count nowhere.
        ignore_ids: Ids that count nowhere.
    """

    classes: ClassTable
    encoding: str
    ignore_colors: tuple[str, ...] = ()
    ignore_ids: tuple[int, ...] = ()

    def decode(self, mask: np.ndarray) -> np.ndarray:
        """Class indices of a decoded mask.

        Args:
            mask: `(height, width, 3)` colours or `(height, width)` ids.

        Returns:
            `(height, width)` int16.

        Raises:
            InputError: If a value is neither a class nor ignored; names the value.

        >>> from segmodel.classes import LabelClass
        >>> code = MaskCode(ClassTable((LabelClass(4, "road", (9, 9, 9)),)), "id", ignore_ids=(0,))
        >>> code.decode(np.array([[4, 0]], np.uint8))
        array([[ 0, -1]], dtype=int16)
        """
        if self.encoding == "color":
            values = mask.astype(np.uint32) @ np.array([65536, 256, 1], np.uint32)
            known = [_packed(entry.color) for entry in self.classes.classes]
            ignored = [_packed(parse_color(color)) for color in self.ignore_colors]
        else:
            values = mask
            known, ignored = list(self.classes.ids), list(self.ignore_ids)
        twice = sorted({value for value in known if known.count(value) + ignored.count(value) > 1})
        if twice:
            raise ConfigurationError(
                f"{self.encoding} {', '.join(self._shown(twice))} stands for more than one class"
            )
        present, inverse = np.unique(values, return_inverse=True)
        meaning = {value: index for index, value in enumerate(known)}
        meaning |= dict.fromkeys(ignored, IGNORED)
        strange = [int(value) for value in present if int(value) not in meaning]
        if strange:
            raise InputError(
                f"mask has {self.encoding} {', '.join(self._shown(strange[:5]))}, which is neither "
                f"a class nor ignored"
            )
        table = np.array([meaning[int(value)] for value in present], np.int16)
        return table[inverse].reshape(values.shape)

    def _shown(self, values: Sequence[int]) -> list[str]:
        return [f"#{v:06X}" if self.encoding == "color" else str(v) for v in values]


def _packed(color: Sequence[int]) -> int:
    red, green, blue = color
    return red << 16 | green << 8 | blue


def find_pairs(images: str, masks: str) -> list[tuple[Path, Path]]:
    """Images of a folder with the mask of equal stem in another, sorted by name.

    Raises:
        ConfigurationError: If a folder has no image, two images share a stem, or an image has no
            mask or two.
    """
    by_stem: dict[str, list[Path]] = {}
    for path in _image_files(masks):
        by_stem.setdefault(path.stem, []).append(path)
    pairs = []
    files = _image_files(images)
    stems = [path.stem for path in files]
    for path in files:
        if stems.count(path.stem) > 1:
            raise ConfigurationError(f"{images} holds two images named {path.stem}.*: rename one")
        found = by_stem.get(path.stem, [])
        if len(found) != 1:
            raise ConfigurationError(
                f"{path.name} needs one mask named {path.stem}.* in {masks}, found {len(found)}"
            )
        pairs.append((path, found[0]))
    return pairs


def _image_files(folder: str) -> list[Path]:
    if not Path(folder).is_dir():
        raise ConfigurationError(f"{folder} is not a folder")
    files = sorted(p for p in Path(folder).iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise ConfigurationError(f"{folder} holds no image ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return files


def read_pair(image_path: Path, mask_path: Path, bands: int, code: MaskCode) -> Pair:
    """One pair, decoded.

    Raises:
        InputError: If a file cannot be decoded, sizes differ or the mask holds strange values;
            names the file.
    """
    image = _decode(image_path, bands)
    mask = _decode(mask_path, 3 if code.encoding == "color" else 0)
    if image.shape[:2] != mask.shape[:2]:
        raise InputError(
            f"{mask_path.name} is {mask.shape[1]}x{mask.shape[0]}, "
            f"its image {image.shape[1]}x{image.shape[0]}"
        )
    try:
        return Pair(image_path.stem, image, code.decode(mask))
    except InputError as error:
        raise InputError(f"{mask_path.name}: {error}") from None


def _decode(path: Path, bands: int) -> np.ndarray:
    try:
        return decode_image(path.read_bytes(), bands)
    except InputError as error:
        raise InputError(f"{path.name}: {error}") from error


def read_folders(
    images: Sequence[str], masks: Sequence[str], bands: int, code: MaskCode
) -> list[Pair]:
    """All pairs of several folders; see `find_pairs` and `read_pair`."""
    return [
        read_pair(image, mask, bands, code)
        for image_folder, mask_folder in zip(images, masks, strict=True)
        for image, mask in find_pairs(image_folder, mask_folder)
    ]


def random_crops(
    pairs: Sequence[Pair], crop: int, fill: Sequence[float], seed: int, start: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Endless square crops; images are drawn by their area, so every pixel is as likely.

    Args:
        pairs: What to draw from; smaller ones are filled on the right and at the bottom.
        crop: Side in pixels.
        fill: Raw value of each band beyond the image.
        seed: Of the drawing.
        start: Number of the first crop; crop `n` depends on the seed and `n` alone.

    Yields:
        Image `(crop, crop, bands)` and truth `(crop, crop)` int16.
    """
    areas = np.array([pair.truth.size for pair in pairs], float)
    number = start
    while True:
        random = np.random.default_rng((seed, number))
        number += 1
        pair = pairs[random.choice(len(pairs), p=areas / areas.sum())]
        height, width = pair.truth.shape
        row = random.integers(0, max(1, height - crop + 1))
        column = random.integers(0, max(1, width - crop + 1))
        part = (slice(row, row + crop), slice(column, column + crop))
        yield _filled(pair.image[part], pair.truth[part], crop, fill)


def _filled(image: np.ndarray, truth: np.ndarray, crop: int, fill: Sequence[float]):
    height, width = truth.shape
    if (height, width) == (crop, crop):
        return image, truth
    whole = np.empty((crop, crop, image.shape[2]), image.dtype)
    whole[...] = np.asarray(fill, image.dtype)
    whole[:height, :width] = image
    whole_truth = np.full((crop, crop), IGNORED, truth.dtype)
    whole_truth[:height, :width] = truth
    return whole, whole_truth

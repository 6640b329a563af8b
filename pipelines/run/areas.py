"""Pixels and ground area by class: of one label map, and summed."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import numpy as np

from pipelines.geodesy.row_areas import RowAreas
from segmodel.engine.soft import BINS
from segmodel.labels.classes import ClassTable
from segmodel.tiling.windows import Window

NODATA, FAILED = "nodata", "failed"
# Outside the area of interest; in runs with one.
OUTSIDE_AOI = "outside"
# Ground that is counted in another scene that shows it too.
ELSEWHERE = "elsewhere"
# Fields of a tally that are summed as fractions.
_FRACTIONS = {"area_m2", "confidence_sum", "footprint_m2"}
_REST = (NODATA, OUTSIDE_AOI, FAILED, ELSEWHERE)
_STRIP_PIXELS = 1 << 18

# Pixels by label and bin of confidence, among the exact sums of a tally.
CONFIDENCE_BINS = "confidence_bins"

# Exact sums by name and key.
Sums = Mapping[str, Mapping[str, int | float | Fraction]]


@dataclass(frozen=True)
class Tally:
    """Pixels and ground area of some images.

    Args:
        images: Number of images labelled.
        failed_images: Number of images that failed.
        pixels: Number of pixels by class id as text, `nodata`, `failed` and, in runs with an area
            of interest, `outside`. In records of 0.1.0 what is outside is nodata.
        ground_pixels: The same for images whose ground area is known.
        area_m2: Ground area of those pixels in m²; a float, or a fraction where it is a sum to be
            summed again.
        confidence_sum: Confidence summed over pixels by class, where it was computed.
        footprint_m2: Ground area of those images in m², computed from their outlines.
        seam_pixels: Number of pixels near borders of windows that were labelled twice.
        seam_differences: Number of those that got two labels.
        compared_pixels: Number of pixels with a label whose values were compared with the range of
            the model; 0 where no value can be outside it, and in records of 0.1.0.
        out_of_range: Number of those with a value outside the range in some band, by class.
        worst_share: Greatest share of them in an image; a float, or a fraction.
        sums: What else is summed exactly, by name and key; see `pipelines.run.soft_areas`.
    """

    images: int = 0
    failed_images: int = 0
    pixels: dict[str, int] = field(default_factory=dict)
    ground_pixels: dict[str, int] = field(default_factory=dict)
    area_m2: Mapping[str, float | Fraction] = field(default_factory=dict)
    confidence_sum: Mapping[str, float | Fraction] = field(default_factory=dict)
    footprint_m2: float | Fraction = 0.0
    seam_pixels: int = 0
    seam_differences: int = 0
    compared_pixels: int = 0
    out_of_range: dict[str, int] = field(default_factory=dict)
    worst_share: float | Fraction = 0.0
    sums: Sums = field(default_factory=dict)

    @classmethod
    def sum(cls, tallies: Iterable["Tally"]) -> "Tally":
        """The total, exactly rounded, so that no order matters; tallies may be too many to keep."""
        total = TallySum()
        for tally in tallies:
            total.add(tally)
        return total.rounded()


class TallySum:
    """Sums of tallies as whole numbers and fractions, in which floating point is exact."""

    def __init__(self) -> None:
        self._sum = vars(Tally(footprint_m2=Fraction(0), worst_share=Fraction(0)))

    def add(self, tally: Tally) -> None:
        """Add a tally."""
        for name, value in vars(tally).items():
            if name == "worst_share":
                self._sum[name] = max(self._sum[name], Fraction(value))
                continue
            if name == "sums":
                for group, entries in value.items():
                    _add(self._sum[name].setdefault(group, {}), entries)
                continue
            exact = Fraction if name in _FRACTIONS else int
            if isinstance(value, Mapping):
                _add(self._sum[name], {key: exact(number) for key, number in value.items()})
            else:
                self._sum[name] += exact(value)

    def exact(self) -> Tally:
        """The sum so far, with fractions, so that it can be part of another sum."""
        fields: dict[str, Any] = {
            name: dict(sorted(value.items(), key=_rank)) if isinstance(value, Mapping) else value
            for name, value in self._sum.items()
            if name != "sums"
        }
        sums = {
            name: dict(sorted(entries.items(), key=_by_numbers))
            for name, entries in sorted(self._sum["sums"].items())
        }
        return Tally(**fields, sums=sums)

    def rounded(self) -> Tally:
        """The sum so far, exactly rounded."""
        exact = self.exact()
        return replace(
            exact,
            area_m2={key: float(value) for key, value in exact.area_m2.items()},
            confidence_sum={key: float(value) for key, value in exact.confidence_sum.items()},
            footprint_m2=float(exact.footprint_m2),
            worst_share=float(exact.worst_share),
        )


def _add(total: dict[str, Any], numbers: Mapping[str, int | float | Fraction]) -> None:
    """Add numbers to sums by key; whole numbers stay whole, others become fractions."""
    for key, number in numbers.items():
        exact = number if isinstance(number, int) else Fraction(number)
        total[key] = total.get(key, 0) + exact


def _by_numbers(item: tuple[str, Any]) -> list[tuple[bool, int, str]]:
    """Rank of a key such as `3:12`, of which parts that are numbers count as such."""
    parts = item[0].split(":")
    return [(not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]


def _rank(item: tuple[str, Any]) -> tuple[int, int]:
    key = item[0]
    return (0, int(key)) if key.isdigit() else (1 + _REST.index(key), 0)


PixelAreas = Callable[[int, int], np.ndarray | RowAreas] | float


def by_rows(values: np.ndarray) -> PixelAreas:
    """Areas, or other weights, of all pixels as those of some rows."""
    return lambda top, rows: values[top : top + rows]


@dataclass(frozen=True)
class Unlabelled:
    """Pixels of a label map that have no label for another reason than nodata of the source.

    Args:
        lost: What could not be read. It counts as failed.
        inside: `(height, width)` bool, False outside the area of interest, also where the source
            has nodata or could not be read; None where there is no area of interest.
    """

    lost: Sequence[Window] = ()
    inside: np.ndarray | None = None


def measure(
    labels: np.ndarray,
    classes: ClassTable,
    pixel_areas_m2: PixelAreas | None,
    footprint_m2: float = 0.0,
    confidence: np.ndarray | None = None,
    unlabelled: Unlabelled = Unlabelled(),  # a frozen value
) -> Tally:
    """Pixels and ground area of each class in a label map, as the tally of one image.

    Args:
        labels: `(height, width)` of the class table's dtype.
        classes: The class table.
        pixel_areas_m2: Ground area of the pixels of some rows in m², `(rows, 1)`, `(rows, width)`
            or their sums along rows, given the first row and the number of rows; one number for
            all pixels; None where it is not known.
        footprint_m2: Ground area of the label map in m², computed from its outline.
        confidence: `(height, width)` float32 in [0, 1], or None.
        unlabelled: What is outside the area of interest, or could not be read; its labels are
            nodata. If anything could not be read, the tally is that of a failed image.

    Raises:
        ContractError: If a label is neither a class id nor nodata.
    """
    keys = [*(str(i) for i in classes.ids), NODATA, FAILED, OUTSIDE_AOI]
    counts = [int(n) for n in classes.count(labels)]
    gone = _marked_pixels(labels, classes, unlabelled)
    pixels = dict(zip(keys, [*counts[:-1], counts[-1] - sum(gone), *gone], strict=True))
    area: dict[str, float] = {}
    confidences: dict[str, float] = {}
    if pixel_areas_m2 is not None:
        sums = _weighted_sums(labels, classes, pixel_areas_m2, unlabelled)
        area = dict(zip(keys, sums, strict=True))
    if confidence is not None:
        sums = _weighted_sums(labels, classes, by_rows(confidence), Unlabelled())
        confidences = dict(zip(keys[:-3], sums[:-3], strict=True))
    lost = len(unlabelled.lost) > 0
    for name, is_there in ((FAILED, lost), (OUTSIDE_AOI, unlabelled.inside is not None)):
        if not is_there:
            del pixels[name]
            area.pop(name, None)
    return Tally(
        images=0 if lost else 1,
        failed_images=1 if lost else 0,
        pixels=pixels,
        ground_pixels=pixels if area else {},
        area_m2=area,
        confidence_sum=confidences,
        footprint_m2=footprint_m2 if area else 0.0,
    )


def compared(
    tally: Tally, labels: np.ndarray, classes: ClassTable, out_of_range: np.ndarray | None
) -> Tally:
    """The tally of an image whose values were compared with the range of the model.

    Args:
        tally: Tally of the image.
        labels: `(height, width)` label map.
        classes: The class table.
        out_of_range: `(height, width)` bool, pixels with values outside the range, or None.
    """
    pixels = sum(tally.pixels[str(i)] for i in classes.ids)
    counts = [0] if out_of_range is None else classes.count(labels[out_of_range][None]).tolist()
    beyond = {str(i): n for i, n in zip(classes.ids, counts, strict=False) if n}
    return with_range(tally, pixels, beyond)


def with_range(tally: Tally, pixels: int, out_of_range: dict[str, int]) -> Tally:
    """The tally of one image with what was compared, what is out of range, and its share."""
    share = Fraction(sum(out_of_range.values()), max(1, pixels))
    return replace(tally, compared_pixels=pixels, out_of_range=out_of_range, worst_share=share)


def confidence_bins(tally: Tally, label: str) -> list[int]:
    """The number of pixels of a label, by bin of confidence."""
    counts = tally.sums.get(CONFIDENCE_BINS, {})
    return [int(counts.get(f"{label}:{number}", 0)) for number in range(BINS)]


def failed_tally(pixels: int, area_m2: float | None) -> Tally:
    """What a failure costs, beside the count of the image itself."""
    if area_m2 is None:
        return Tally(pixels={FAILED: pixels})
    lost = {FAILED: pixels}
    return Tally(pixels=lost, ground_pixels=lost, area_m2={FAILED: area_m2}, footprint_m2=area_m2)


def _weighted_sums(
    labels: np.ndarray, classes: ClassTable, weights: PixelAreas, unlabelled: Unlabelled
) -> list[float]:
    """Sum of weights by class, of nodata, of what failed and, last, of what is outside.

    Weights that are equal along rows, or everywhere, are multiplied with whole counts, and the
    products summed exactly rounded.
    """
    values = [*classes.ids, *range(classes.nodata, classes.nodata + 3)]
    parts: dict[int, list[float]] = {value: [] for value in values}
    for top, strip in _marked(labels, classes, unlabelled):
        given = weights(top, len(strip)) if callable(weights) else weights
        for label, sums in _sums_by_label(strip, given):
            parts[label] += sums
    return [math.fsum(part) for part in parts.values()]


def _sums_by_label(
    strip: np.ndarray, weights: np.ndarray | RowAreas | float
) -> Iterator[tuple[int, list[float]]]:
    """Labels of a strip, and sums of their weights: of each row where they are equal along rows."""
    if isinstance(weights, np.ndarray) and weights.shape[1] > 1:
        sums = np.bincount(strip.ravel(), weights.ravel())
        for label in np.flatnonzero(sums).tolist():
            yield label, [float(sums[label])]
        return
    # By runs of pixels, as neighbours have mostly the same label.
    is_first = np.ones(strip.shape, bool)
    np.not_equal(strip[:, 1:], strip[:, :-1], out=is_first[:, 1:])
    places = np.flatnonzero(is_first)
    rows, starts = np.divmod(places, strip.shape[1])
    labels, codes = np.unique(strip.ravel()[places], return_inverse=True)
    if isinstance(weights, RowAreas):
        by_code = np.bincount(codes, weights.of_runs(rows, starts))[None]
    else:
        lengths, size = np.diff(places, append=strip.size), (len(strip), len(labels))
        counts = np.bincount(rows * len(labels) + codes, lengths, math.prod(size))
        by_code = counts.reshape(size) * weights
    yield from zip(labels.tolist(), by_code.T.tolist(), strict=True)


def _marked_pixels(
    labels: np.ndarray, classes: ClassTable, unlabelled: Unlabelled
) -> tuple[int, int]:
    """Number of pixels that failed, and that are outside."""
    if not unlabelled.lost and unlabelled.inside is None:
        return 0, 0
    failed = beyond = 0
    for _, strip in _marked(labels, classes, unlabelled):
        failed += int(np.count_nonzero(strip == classes.nodata + 1))
        beyond += int(np.count_nonzero(strip == classes.nodata + 2))
    return failed, beyond


def _marked(
    labels: np.ndarray, classes: ClassTable, unlabelled: Unlabelled
) -> Iterator[tuple[int, np.ndarray]]:
    """First row and rows of strips of a label map, with what has no label marked in them.

    What failed is nodata + 1, what is outside nodata + 2, in int32; strips without are as they are.
    """
    rows = max(1, _STRIP_PIXELS // max(1, labels.shape[1]))
    for top in range(0, labels.shape[0], rows):
        strip = labels[top : top + rows]
        area = Window(top, 0, *strip.shape)
        parts = [part for lost in unlabelled.lost if (part := lost.intersection(area)).pixels]
        beyond = None if unlabelled.inside is None else ~unlabelled.inside[top : top + rows]
        if parts or (beyond is not None and beyond.any()):
            strip = strip.astype(np.int32)
            for part in parts:
                strip[part.relative_to(area).slices] = classes.nodata + 1
            if beyond is not None:
                strip[beyond] = classes.nodata + 2
        yield top, strip

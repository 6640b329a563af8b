"""Rasters resampled to the grid of a model, window by window, and labels back to the source grid.

Every window has the values that the same pixels have in the whole, bit for bit. Weights are whole
numbers, every pixel adds its own terms and no others, rows before columns, and sums of weights
are exact; so values depend neither on the window, nor on a strip of it, nor on nodata elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from segmodel.errors import ConfigurationError, ContractError
from segmodel.tiling.raster import Counted
from segmodel.tiling.windows import Window

# Pixels of a band that are averaged at a time: 1 MiB of float64, which stays in a cache.
STRIP_PX = 2**17


def nearest(to: int, of: int, start: int = 0, length: int | None = None) -> np.ndarray:
    """Nearest neighbour along a side: for each of `to` pixels the one of `of` with its centre.

    Args:
        to: Pixels of the side that is filled.
        of: Pixels of the side that values are taken from.
        start: First pixel that is wanted.
        length: Number of pixels that are wanted; None for all.

    Returns:
        `(length,)` int64.

    >>> nearest(4, 2), nearest(2, 4), nearest(4, 2, 1, 2)
    (array([0, 0, 1, 1]), array([1, 3]), array([0, 1]))
    """
    wanted = np.arange(start, to if length is None else start + length, dtype=np.int64)
    return (2 * wanted + 1) * of // (2 * to)


def resize_image(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An image scaled to another size, band by band: bilinear, with antialias where it shrinks.

    Args:
        values: `(height, width, bands)` uint8.
        size: New height and width.

    Returns:
        `(height, width, bands)` uint8 of the new size.
    """
    height, width = size
    scaled = np.empty((height, width, values.shape[2]), np.uint8)
    for band in range(values.shape[2]):
        # Pillow would take a fourth band for alpha and weight the others with it.
        image = Image.fromarray(np.ascontiguousarray(values[..., band]))
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        scaled[..., band] = np.asarray(image)
    return scaled


def resize_valid(valid: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Where a scaled image is valid: where any pixel is that takes its label from there.

    Args:
        valid: `(height, width)` bool, False for nodata.
        size: New height and width.

    Returns:
        `(height, width)` bool of the new size.

    >>> resize_valid(np.array([[False, True, False, False]]), (1, 2))
    array([[ True, False]])
    """
    return _merge_rows(_merge_rows(valid, size[0]).T, size[1]).T


def _merge_rows(valid: np.ndarray, rows: int) -> np.ndarray:
    """Rows merged to a number of rows; one that none is merged into is as the nearest of them."""
    merged: np.ndarray = valid[nearest(rows, len(valid))]
    for row, target in zip(valid, nearest(len(valid), rows), strict=True):
        merged[target] |= row
    return merged


@dataclass
class SourceGrid:
    """The grid of an image that the model may see scaled; keeps no pixels.

    Args:
        height: Rows of the image.
        width: Columns of the image.
        scaled: Whether the model sees another size.
        valid: `(height, width)` bool, False for nodata; None where all are valid.
    """

    height: int
    width: int
    scaled: bool
    valid: np.ndarray | None = None

    def to_source_grid(self, values: np.ndarray, nodata: int) -> np.ndarray:
        """A map of what the model saw, on the grid of the image: nearest, and nodata exact.

        Args:
            values: `(height, width)` labels or confidence, as large as the model saw the image.
            nodata: Value of pixels that are not valid.

        Returns:
            `(height, width)` of the image, of the same dtype; `values` itself if nothing is scaled.
        """
        if not self.scaled:
            return values
        rows, columns = nearest(self.height, values.shape[0]), nearest(self.width, values.shape[1])
        labels: np.ndarray = values[rows[:, None], columns]
        if self.valid is not None:
            labels[~self.valid] = nodata
        return labels

    def counted(self, core: Window, size: tuple[int, int]) -> Counted:
        """How the pixels of a core of a scaled image count: as those of the image that they label.

        Args:
            core: Part of what the model sees.
            size: Height and width of that.
        """
        valid, grid = self.valid, ModelGrid((self.height, self.width), size)
        return grid.counted(core, lambda source: None if valid is None else valid[source.slices])


@dataclass(frozen=True)
class ModelGrid:
    """The grid of a raster and the one on which a model sees it; both cover the same rectangle.

    Args:
        source_size: Height and width of the raster.
        model_size: Height and width as the model sees it; each axis is coarser, finer or equal.

    Raises:
        ConfigurationError: If a size is not at least 1; by methods, if a scale is not a positive
            number, a window leaves its grid or an array has not the shape of its window.
        ContractError: By `resample`, if it does not take the dtype.
    """

    source_size: tuple[int, int]
    model_size: tuple[int, int]

    def __post_init__(self) -> None:
        if min(*self.source_size, *self.model_size) < 1:
            raise ConfigurationError(f"both grids need sizes of at least 1, got {self}")

    @classmethod
    def from_scale(cls, source_size: tuple[int, int], scale: tuple[float, float]) -> ModelGrid:
        """The grid for a scale.

        Args:
            source_size: Height and width of the raster.
            scale: Pixels of the model per source pixel, along rows and along columns.

        >>> ModelGrid.from_scale((100, 3), (0.25, 0.1)).model_size
        (25, 1)
        """
        if not all(0 < factor < math.inf for factor in scale):
            raise ConfigurationError(f"a scale must be a positive number, got {scale}")
        height, width = (max(1, round(source_size[axis] * scale[axis])) for axis in (0, 1))
        return cls(source_size, (height, width))

    def source_window(self, window: Window) -> Window:
        """The source pixels that have a part in a window of the model's grid, and no others.

        >>> ModelGrid((6, 4), (4, 8)).source_window(Window(1, 2, 1, 1))
        Window(row=1, column=0, height=2, width=2)
        """
        _check_within(window, Window(0, 0, *self.model_size))
        rows, columns = zip(self.source_size, self.model_size, strict=True)
        row, height = _needed(*rows, window.row, window.height)
        column, width = _needed(*columns, window.column, window.width)
        return Window(row, column, height, width)

    def resample(
        self, values: np.ndarray, valid: np.ndarray | None, window: Window
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """A window of the model's grid.

        An axis that gets coarser is averaged over the area; one that gets finer is linear between
        centres of pixels, and beyond the outermost as those are. Only valid pixels have a part,
        with weights that sum to 1. A pixel of the model is valid where any source pixel is that
        takes its label from there, and where none does, as the nearest source pixel is.

        Args:
            values: `(height, width, bands)` of exactly `source_window(window)`; integers of at most
                32 bits or floats. What is valid and not finite reaches all that it has a part in.
            valid: `(height, width)` bool, False for nodata; None where all are valid.
            window: Window of the model's grid.

        Returns:
            `(height, width, bands)` of the same dtype, halves of integers rounded up, 0 where not
            valid; and `(height, width)` bool, or None. With equal grids and all valid, the
            arguments themselves.

        >>> values = np.array([[[1], [2], [9], [7]]], np.uint8)
        >>> valid = np.array([[True, True, False, True]])
        >>> ModelGrid((1, 4), (1, 2)).resample(values, valid, Window(0, 0, 1, 2))[0].tolist()
        [[[2], [7]]]
        """
        source = self.source_window(window)
        _check_values(values, valid, source)
        if self.source_size == self.model_size:
            if valid is None or valid.all():
                return values, valid
            return np.where(valid[..., None], values, values.dtype.type(0)), valid
        seen = np.empty((window.height, window.width, values.shape[2]), values.dtype)
        seen_valid = None if valid is None else np.empty(seen.shape[:2], bool)
        for strip, rows, columns in self._strips(window, source.width):
            here = strip.relative_to(window).slices
            there = self.source_window(strip).relative_to(source).slices
            part = None if valid is None or valid[there].all() else valid[there]
            _average(values[there], part, rows, columns, seen[here])
            if seen_valid is not None:
                seen_valid[here] = True if part is None else _labels_valid(part, rows, columns)
                seen[here][~seen_valid[here]] = 0
        return seen, seen_valid

    def counted(
        self,
        core: Window,
        has_label: Callable[[Window], np.ndarray | None],
        areas: Callable[[Window], np.ndarray | None] = lambda window: None,
    ) -> Counted:
        """How the pixels of a window of the model's grid count by the source pixels they label.

        Args:
            core: The window.
            has_label: `(height, width)` bool, which pixels of a window of the source get a label;
                None for all.
            areas: `(height, 1)` or `(height, width)` area of these pixels; None where all have 1.

        >>> grid, valid = ModelGrid((1, 4), (1, 2)), np.array([[True, True, False, True]])
        >>> grid.counted(Window(0, 0, 1, 2), lambda window: valid[window.slices]).labelled
        array([[2, 1]], dtype=int32)
        """
        labelled = np.empty((core.height, core.width), np.int32)
        found = np.empty(labelled.shape, np.float32)
        for strip, rows, columns in self._strips(core, self.source_window(core).width):
            here, source = strip.relative_to(core).slices, self.source_window(strip)
            is_there, of_pixels = has_label(source), areas(source)
            if is_there is None:
                is_there = np.ones((source.height, source.width), bool)
            labelled[here] = _label_sums(is_there, rows, columns)
            found[here] = labelled[here]
            if of_pixels is not None:
                found[here] = _label_sums(of_pixels * is_there, rows, columns)
        return Counted(found, labelled)

    def _strips(self, window: Window, source_width: int) -> Iterator[tuple[Window, _Side, _Side]]:
        """Strips of a window of the model's grid, each with its axes; few pixels at a time."""
        columns = _side(self.source_size[1], self.model_size[1], window.column, window.width)
        step = max(1, STRIP_PX // max(1, source_width, window.width))
        for top in range(0, window.height, step):
            height = min(step, window.height - top)
            strip = Window(window.row + top, window.column, height, window.width)
            rows = _side(self.source_size[0], self.model_size[0], strip.row, strip.height)
            yield strip, rows, columns

    def labelled_window(self, window: Window) -> Window:
        """The source pixels that take their labels from a window of the model's grid.

        Source pixel r takes it from the pixel of the model in which its centre lies,
        `(2 * r + 1) * model // (2 * source)`. Windows that tile the model's grid thereby tile the
        source grid; a window without any centre has no pixels there.

        >>> ModelGrid((4, 2), (2, 4)).labelled_window(Window(1, 0, 1, 1))
        Window(row=2, column=0, height=2, width=0)
        """
        _check_within(window, Window(0, 0, *self.model_size))
        rows, columns = zip(self.source_size, self.model_size, strict=True)
        tops = _label_bounds(*rows, window.row, window.height).tolist()
        lefts = _label_bounds(*columns, window.column, window.width).tolist()
        return Window(tops[0], lefts[0], tops[-1] - tops[0], lefts[-1] - lefts[0])

    def to_source_grid(self, values: np.ndarray, area: Window, target: Window) -> np.ndarray:
        """Labels of source pixels from those of a window of the model's grid: the nearest.

        Args:
            values: `(height, width)` labels of `area`; further axes are kept.
            area: Window of the model's grid.
            target: Window of the source grid, within `labelled_window(area)`.

        Returns:
            `(height, width)` of `target`; where both grids are equal, a part of `values` itself.

        >>> grid = ModelGrid((2, 3), (1, 2))
        >>> grid.to_source_grid(np.array([[5, 6]]), Window(0, 0, 1, 2), Window(0, 0, 2, 3)).tolist()
        [[5, 6, 6], [5, 6, 6]]
        """
        _check_within(target, self.labelled_window(area))
        if values.shape[:2] != (area.height, area.width):
            raise ConfigurationError(f"labels must be those of {area}, got {values.shape}")
        if self.source_size == self.model_size:
            return values[target.relative_to(area).slices]
        rows, columns = zip(self.source_size, self.model_size, strict=True)
        at_rows = nearest(*rows, target.row, target.height) - area.row
        at_columns = nearest(*columns, target.column, target.width) - area.column
        return np.asarray(values[at_rows[:, None], at_columns])


@dataclass(frozen=True)
class _Taps:
    """For each of n pixels along a side, the pixels of another side that are summed for it.

    Args:
        first: `(n,)` int64, the first pixel of each sum.
        weights: `(k, n)` float64, whole numbers: weight of the first pixel, of the next and so on,
            then 0.
    """

    first: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True)
class _Side:
    """One axis of a window of the model's grid; source pixels are counted from the first needed.

    Args:
        values: Pixels that are averaged, with weights that sum to `total` for every pixel.
        total: Sum of the weights of one pixel.
        labels: Source pixels that take their label from there, if any do, each with weight 1.
        nearest: `(n,)` int64, the source pixel in which the centre lies.
    """

    values: _Taps
    total: float
    labels: _Taps
    nearest: np.ndarray


def _value_taps(source: int, model: int, start: int, length: int) -> tuple[_Taps, float]:
    """What is averaged for pixels of the model from `start` on, and the sum of the weights."""
    # Small numbers keep sums exact: below 2^53 for uint16 unless sides are beyond 300 000 pixels.
    per_source, per_model = model // math.gcd(source, model), source // math.gcd(source, model)
    pixels = np.arange(start, start + length, dtype=np.int64)
    if source > model:
        # In units of 1 / per_source of a source pixel, a pixel of the model is per_model long.
        low, high = pixels * per_model, (pixels + 1) * per_model
        first = low // per_source
        most = int((-(-high // per_source) - first).max(initial=0))
        at = first + np.arange(most)[:, None]
        covered = np.minimum((at + 1) * per_source, high) - np.maximum(at * per_source, low)
        return _Taps(first, np.maximum(covered, 0).astype(np.float64)), float(per_model)
    unit = 2 * per_source
    centre = np.clip((2 * pixels + 1) * per_model - per_source, 0, (source - 1) * unit)
    first, beyond = np.divmod(centre, unit)
    return _Taps(first, np.stack([unit - beyond, beyond]).astype(np.float64)), float(unit)


def _needed(source: int, model: int, start: int, length: int) -> tuple[int, int]:
    """First and number of the source pixels that are averaged for a span of the model's."""
    if not length:
        return min(start * source // model, source), 0
    taps, _ = _value_taps(source, model, start, length)
    first, last = taps.first[[0, -1]].tolist()
    return first, last + int(np.count_nonzero(taps.weights[:, -1])) - first


def _label_bounds(source: int, model: int, start: int, length: int) -> np.ndarray:
    """`(length + 1,)`: first source pixels with labels from each pixel of the model or beyond."""
    pixels = np.arange(start, start + length + 1, dtype=np.int64)
    # The least r with (2 r + 1) model >= 2 source pixels.
    return -(-2 * source * pixels // model) // 2


def _side(source: int, model: int, start: int, length: int) -> _Side:
    """One axis of a window.

    A valid pixel always has a weight above 0, for labels and the nearest are averaged: what takes
    its label from a pixel has its centre in it, and where that is the finer one, both are at most
    half a source pixel from its centre. The nearest is a label where there are any.
    """
    origin, _ = _needed(source, model, start, length)
    taps, total = _value_taps(source, model, start, length)
    bounds = _label_bounds(source, model, start, length) - origin
    count = np.diff(bounds)
    labelled = np.arange(count.max(initial=0))[:, None] < count
    labels = _Taps(bounds[:-1], labelled.astype(np.float64))
    centres = nearest(model, source, start, length) - origin
    return _Side(_Taps(taps.first - origin, taps.weights), total, labels, centres)


def _sums(values: np.ndarray, taps: _Taps, axis: int, only: np.ndarray | None = None) -> np.ndarray:
    """Weighted sums along an axis, `(height, width)` float64, of what `only` has True."""
    length = len(taps.first)
    sums = np.zeros((len(values), length) if axis else (length, values.shape[1]))
    for step, weights in enumerate(taps.weights):
        targets = np.flatnonzero(weights)
        if len(targets):
            at, weight = _index(taps.first[targets] + step, axis), weights[targets]
            terms = values[at] * (weight if axis else weight[:, None])
            if only is not None:
                np.copyto(terms, 0, where=~only[at])
            sums[_index(targets, axis)] += terms
    return sums


def _index(pixels: np.ndarray, axis: int) -> tuple[slice | np.ndarray, ...]:
    """Index of rows or columns in ascending order; where they are evenly apart, without a copy."""
    apart = int(pixels[1] - pixels[0]) if len(pixels) > 1 else 1
    even = apart > 0 and bool((np.diff(pixels) == apart).all())
    chosen = slice(int(pixels[0]), int(pixels[-1]) + 1, apart) if even else pixels
    return (slice(None), chosen) if axis else (chosen,)


def _average(
    values: np.ndarray, valid: np.ndarray | None, rows: _Side, columns: _Side, out: np.ndarray
) -> None:
    """Write the averages of a strip, `(height, width, bands)`, to `out`."""
    weight: np.ndarray | float = rows.total * columns.total
    if valid is not None:
        weight = np.maximum(_sums(_sums(valid, rows.values, 0), columns.values, 1), 1)
    with np.errstate(invalid="ignore", over="ignore"):  # Of valid values that are not finite.
        for band in range(values.shape[2]):
            averages = _sums(_sums(values[..., band], rows.values, 0, valid), columns.values, 1)
            averages /= weight
            if out.dtype.kind in "ui":  # Their sums are exact, and so is a half.
                limits = np.iinfo(out.dtype)
                averages = np.clip(np.floor(averages + 0.5), limits.min, limits.max)
            out[..., band] = averages


def _label_sums(values: np.ndarray, rows: _Side, columns: _Side) -> np.ndarray:
    """Sums over the source pixels that take their label from each pixel of the model."""
    return _sums(_sums(values, rows.labels, 0), columns.labels, 1)


def _labels_valid(valid: np.ndarray, rows: _Side, columns: _Side) -> np.ndarray:
    """Where pixels of the model are valid, `(height, width)` bool; see `ModelGrid.resample`."""
    return np.asarray(
        (_label_sums(valid, rows, columns) > 0) | valid[rows.nearest[:, None], columns.nearest]
    )


def _check_within(window: Window, outer: Window) -> None:
    """Refuse a window that leaves another."""
    top, left = window.row - outer.row, window.column - outer.column
    inside = top + window.height <= outer.height and left + window.width <= outer.width
    if min(top, left) < 0 or not inside:
        raise ConfigurationError(f"{window} must not leave {outer}")


def _check_values(values: np.ndarray, valid: np.ndarray | None, source: Window) -> None:
    """Refuse arrays that are not those of `source`."""
    shape, kind = (source.height, source.width), values.dtype.kind
    if values.ndim != 3 or values.shape[:2] != shape:
        raise ConfigurationError(f"values must be those of {source}, got {values.shape}")
    if valid is not None and valid.shape != shape:
        raise ConfigurationError(f"valid must be that of {source}, got {valid.shape}")
    if kind not in "uif" or (kind != "f" and values.dtype.itemsize > 4):
        raise ContractError(f"dtype: must be integers up to 32 bits or floats, not {values.dtype}")

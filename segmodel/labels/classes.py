"""Classes of a label map: ids, names, colours, and the value that means nodata."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from segmodel.errors import ContractError

NODATA_UINT8 = 255
NODATA_UINT16 = 65535
COUNTED_PIXELS = 1 << 20
# Lines of tables that are of no class.
RESERVED_NAMES = frozenset(
    {"elsewhere", "failed", "footprint", "nodata", "outside", "total", "uncovered"}
)
# Most values for which comparing with each is faster than a histogram.
COMPARED_CLASSES = 16


@dataclass(frozen=True)
class LabelClass:
    """One class of a model.

    Args:
        id: Value of the class in label maps, in 0..65534.
        name: Name of the class.
        color: Red, green and blue in 0..255.

    Raises:
        ContractError: If a value is not possible; names it.
    """

    id: int
    name: str
    color: tuple[int, int, int]

    def __post_init__(self) -> None:
        if not 0 <= self.id < NODATA_UINT16:
            raise ContractError(f"classes: id must be in 0..{NODATA_UINT16 - 1}, got {self.id}")
        if not self.name:
            raise ContractError(f"classes: class {self.id} has no name")
        if len(self.color) != 3 or not all(0 <= part <= 255 for part in self.color):
            raise ContractError(f"classes: color of {self.name!r} must be three values in 0..255")


@dataclass(frozen=True)
class ClassTable:
    """The classes of one model.

    Args:
        classes: Classes in the order of the score channels; ids need not be 0..n-1.

    Raises:
        ContractError: If there is no class, or an id or a name occurs twice.
    """

    classes: tuple[LabelClass, ...]

    def __post_init__(self) -> None:
        if not self.classes:
            raise ContractError("classes: at least one class is needed, got none")
        for what, values in (("id", self.ids), ("name", self.names)):
            twice = sorted(str(value) for value, times in Counter(values).items() if times > 1)
            if twice:
                raise ContractError(f"classes: {what} {', '.join(twice)} occurs more than once")

    def check_names(self) -> None:
        """Refuse names of new models that lines of tables have, or that no line can show.

        Models that exist keep theirs.

        Raises:
            ContractError: If a class has one.
        """
        for name in self.names:
            if not name.isprintable():
                raise ContractError(
                    f"classes: {name!r} has a line break or a control character: give class "
                    f"{self.ids[self.names.index(name)]} a name of one line"
                )
            if name.strip().casefold() in RESERVED_NAMES:
                raise ContractError(
                    f"classes: {name!r} is a line of the tables of areas and no name of a class: "
                    f"give class {self.ids[self.names.index(name)]} another"
                )

    @property
    def ids(self) -> tuple[int, ...]:
        """Values in label maps, one for each score channel."""
        return tuple(entry.id for entry in self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        """Names, one for each score channel."""
        return tuple(entry.name for entry in self.classes)

    @property
    def label_dtype(self) -> np.dtype:
        """uint8 while 255 is free to mean nodata, else uint16; by the contract, never by content.

        >>> ClassTable((LabelClass(254, "water", (0, 0, 255)),)).label_dtype
        dtype('uint8')
        >>> ClassTable((LabelClass(255, "water", (0, 0, 255)),)).label_dtype
        dtype('uint16')
        """
        return np.dtype(np.uint8 if max(self.ids) < NODATA_UINT8 else np.uint16)

    @property
    def nodata(self) -> int:
        """Label of a pixel without valid input: 255 in uint8 maps, 65535 in uint16 maps."""
        return NODATA_UINT8 if self.label_dtype == np.uint8 else NODATA_UINT16

    def palette(self, background: tuple[int, int, int] = (0, 0, 0)) -> np.ndarray:
        """Colours by label, `(nodata + 1, 3)` uint8.

        Args:
            background: Colour of nodata and of ids that are no class.
        """
        table = np.full((self.nodata + 1, 3), background, np.uint8)
        for entry in self.classes:
            table[entry.id] = entry.color
        return table

    def count(self, labels: np.ndarray) -> np.ndarray:
        """Number of pixels of each class and, last, of nodata.

        Args:
            labels: `(height, width)` label map.

        Returns:
            `(classes + 1,)` int64.

        Raises:
            ContractError: If a label is neither a class id nor nodata.

        >>> table = ClassTable((LabelClass(7, "a", (0, 0, 0)), LabelClass(2, "b", (1, 1, 1))))
        >>> table.count(np.array([[7, 7, 2], [255, 7, 2]], np.uint8))
        array([3, 2, 1])
        """
        values = [*self.ids, self.nodata]
        if len(values) <= COMPARED_CLASSES:
            counts = np.array([np.count_nonzero(labels == value) for value in values], np.int64)
            if counts.sum() == labels.size:
                return counts
        found = np.zeros(self.nodata + 1, np.int64)
        # In strips, as counting widens every label to 8 bytes.
        rows = max(1, COUNTED_PIXELS // max(1, labels[:1].size))
        for top in range(0, len(labels), rows):
            strip = labels[top : top + rows].ravel()
            found += np.bincount(strip, minlength=found.size)
        counts = found[values]
        if counts.sum() != labels.size:
            unknown = sorted(set(np.flatnonzero(found).tolist()) - {*values})
            raise ContractError(f"classes: labels {unknown[:5]} are not in the class table")
        return counts


def parse_color(text: str) -> tuple[int, int, int]:
    """Red, green, blue of `#RRGGBB`.

    Raises:
        ContractError: If the text is not of that form.

    >>> parse_color("#8429F6")
    (132, 41, 246)
    """
    digits = text.removeprefix("#")
    try:
        if len(digits) != 6:
            raise ValueError
        red, green, blue = bytes.fromhex(digits)
    except ValueError:
        raise ContractError(f"color must look like #8429F6, got {text!r}") from None
    return red, green, blue


def format_color(color: Iterable[int]) -> str:
    """`#RRGGBB` of red, green, blue.

    >>> format_color((132, 41, 246))
    '#8429F6'
    """
    return "#" + bytes(color).hex().upper()

"""Tags of TIFF files, and of EXIF blocks, which are such files.

Only what is asked for is read, as any number of tags may share the same bytes of a file.

Source: TIFF 6.0, section 2; BigTIFF has longer numbers in the same places.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from segmodel.rasters.directories import TiffForm

# Bytes of a value by its type, and the types that are whole numbers.
_WIDTHS = np.array([0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8], np.float64)
_NUMBERS = {3: "u2", 4: "u4", 6: "i1", 8: "i2", 9: "i4", 13: "u4", 16: "u8"}


@dataclass(frozen=True)
class Tags:
    """The first directory of a file.

    Args:
        stated: `(n,)` numbers of all tags that it states, in its order.
        values: Values of those tags that were asked for: whole numbers, or the bytes of any others;
            what lies behind the end of the file is left out, and so is what follows that.
        is_cut: Whether the file ends before the directory does.
    """

    stated: np.ndarray
    values: dict[int, np.ndarray | bytes]
    is_cut: bool

    def first(self, tag: int) -> int | None:
        """The first number of a tag; None if it has none."""
        found = self.values.get(tag)
        return int(found[0]) if isinstance(found, np.ndarray) else None


def read_tags(encoded: bytes, wanted: Collection[int]) -> Tags:
    """Tags of the first directory of a file.

    Args:
        encoded: Content of the file; its beginning suffices for tags in it.
        wanted: Numbers of the tags whose values are read; of one that is stated twice, the last.

    Raises:
        ValueError: If it does not begin as such a file.
    """
    form = TiffForm.of(encoded[:16])
    if form is None:
        raise ValueError("its tags do not begin as those of a TIFF")
    order, width = form.order, form.place_bytes
    place = form.first + form.count_bytes
    count = int.from_bytes(encoded[form.first : place], "little" if order == "<" else "big")
    number = f"{order}u{width}"
    entry = np.dtype(
        [("tag", f"{order}u2"), ("kind", f"{order}u2"), ("count", number), ("value", number)]
    )
    fitting = min(count, max(0, len(encoded) - place) // entry.itemsize)
    entries = np.frombuffer(encoded, entry, fitting, place if fitting else 0)
    widths = _WIDTHS[np.where(entries["kind"] < len(_WIDTHS), entries["kind"], 0)]
    sizes = entries["count"] * widths
    is_behind = (sizes > width) & (entries["value"] + sizes > len(encoded))
    usable = int(is_behind.argmax()) if is_behind.any() else fitting
    is_read = np.isin(entries["tag"][:usable], list(wanted)) & (sizes[:usable] > 0)
    last = {int(entries["tag"][at]): int(at) for at in np.flatnonzero(is_read)}
    values: dict[int, np.ndarray | bytes] = {}
    for tag, at in last.items():
        inside = place + (at + 1) * entry.itemsize - width
        begin = int(entries["value"][at]) if sizes[at] > width else inside
        values[tag] = encoded[begin : begin + int(sizes[at])]
        if code := _NUMBERS.get(int(entries["kind"][at])):
            values[tag] = np.frombuffer(values[tag], order + code)
    return Tags(entries["tag"], values, fitting < count)

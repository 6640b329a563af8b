"""Images with values outside the range of the model: the worst ones, and those that fail by it.

Whether an image fails is judged at the end of a run, by what commit records and tables of units
say, so that another limit needs no work. Its label map and its pixels in the tables stay.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby
from operator import itemgetter
from typing import Any

import pyarrow.parquet as pq

from pipelines.run.areas import Tally
from pipelines.run.commits import Commit
from pipelines.run.failures import Failure
from pipelines.run.plan import SCENE, AssemblyUnit, Unit, WorkUnit
from pipelines.storage import filesystem
from segmodel.errors import FailureCode
from segmodel.escaping import on_one_line
from segmodel.savedmodel.contract import Contract

# Images in the summary; from this share on, the screen and the contact sheet tell of them.
WORST_IMAGES, NOTED_SHARE = 10, Fraction(1, 100)
# A float64 has no more decimal digits that count.
_FLOAT_DIGITS = 17
_COLUMNS = ("source", "key", "class_id", "pixels", "out_of_range")


@dataclass(frozen=True)
class ImageOutOfRange:
    """An image, or a whole scene, with values outside the range.

    Args:
        uri: The input file, as folder and name.
        key: Name of the image within a shard, or None.
        pixels: Number of labelled pixels with a value outside the range in some band.
        compared: Number of labelled pixels.
    """

    uri: str
    key: str | None
    pixels: int
    compared: int

    @property
    def share(self) -> Fraction:
        """Share of the labelled pixels."""
        return Fraction(self.pixels, max(1, self.compared))

    def to_json(self) -> dict[str, Any]:
        """As in `summary.json`."""
        return {**vars(self), "share": float(self.share)}


class RangeCheck:
    """What the units of a run have outside the range of the model.

    Args:
        root: Folder below which commit records name outputs.
        contract: Contract of the model.
        limit: Share of the labelled pixels of an image from which on, exclusive, it fails.
    """

    def __init__(self, root: str, contract: Contract, limit: Fraction) -> None:
        self.root, self.contract, self.limit = root, contract, limit

    def failures_of(self, unit: Unit, commit: Commit) -> Iterator[Failure]:
        """Images of a finished unit that fail by the limit, and have not failed before."""
        is_image = isinstance(unit, AssemblyUnit | WorkUnit)
        if not is_image or not commit.tally.worst_share or unit.is_block:
            return
        for image in self._images(unit, commit, self.limit):
            if not (unit.format == SCENE and commit.tally.failed_images):
                code = FailureCode.OUT_OF_RANGE.value
                yield Failure(image.uri, image.key, "range", self._reason(image), code=code)

    def worst(self, units: Iterable[tuple[Unit, Commit]]) -> list[ImageOutOfRange]:
        """The images with the greatest shares, those first.

        Args:
            units: Finished units with the greatest ones, and their records.
        """
        found = (image for one in units for image in self._images(*one, Fraction(0)))
        by_share = sorted(found, key=lambda image: (-image.share, image.uri, image.key or ""))
        return by_share[:WORST_IMAGES]

    def summary(
        self, total: Tally, failed: int, worst: Iterable[tuple[Unit, Commit]]
    ) -> dict[str, Any] | None:
        """What `summary.json` says; None where no value can be outside the range.

        Args:
            total: Sum of all tallies.
            failed: Number of images that fail by the limit.
            worst: As of `worst`.
        """
        if self.contract.limits is None:
            return None
        pixels = sum(total.out_of_range.values())
        return {
            "value_range": list(self.contract.limits),
            "compared_pixels": total.compared_pixels,
            "pixels": pixels,
            "share": pixels / total.compared_pixels if total.compared_pixels else None,
            "max_share_of_an_image": float(self.limit),
            "failed_images": failed,
            "worst_images": [image.to_json() for image in self.worst(worst)],
        }

    def _reason(self, image: ImageOutOfRange) -> str:
        low, high = self.contract.value_range
        share, limit = _percentages_apart(image.share, self.limit)
        return (
            f"{share} of the labelled pixels hold values outside {low:g} to {high:g}, the range of "
            f"the model; --max_out_of_range allows {limit}"
        )

    def _images(self, unit: Unit, commit: Commit, above: Fraction) -> Iterator[ImageOutOfRange]:
        """Images of a unit with a share above a limit."""
        tally = commit.tally
        if not tally.worst_share > above:
            return
        if unit.format == SCENE:
            pixels = sum(tally.out_of_range.values())
            yield ImageOutOfRange(unit.files[0].key, None, pixels, tally.compared_pixels)
            return
        path = f"{self.root}/areas/{unit.id}.parquet"
        for (uri, key), rows in groupby(_rows(path), itemgetter("source", "key")):
            of_classes = [row for row in rows if row["class_id"] in self.contract.classes.ids]
            pixels, compared = (
                sum(row[name] for row in of_classes) for name in ("out_of_range", "pixels")
            )
            image = ImageOutOfRange(uri, key, pixels, compared)
            if image.share > above:
                yield image


def range_line(summary: dict[str, Any] | None) -> str | None:
    """What a person is told of values out of range, by `RangeCheck.summary`; None if they are few.

    >>> worst = {"uri": "in/a.tif", "key": None, "share": 0.5}
    >>> range_line({"value_range": [0, 1], "share": 0.1, "worst_images": [worst]})
    'values outside 0 to 1, the range of the model: in 10 % of the labelled pixels; in/a.tif: 50 %'
    """
    worst = (summary or {}).get("worst_images")
    if summary is None or not worst or max(summary["share"], worst[0]["share"]) < NOTED_SHARE:
        return None
    low, high = summary["value_range"]
    name = on_one_line(" ".join(filter(None, (worst[0]["uri"], worst[0]["key"]))))
    return (
        f"values outside {low:g} to {high:g}, the range of the model: in "
        f"{percentage(summary['share'])} of the labelled pixels; {name}: "
        f"{percentage(worst[0]['share'])}"
    )


def percentage(share: float | Fraction, digits: int = 3) -> str:
    """A share in percent, of some digits.

    >>> percentage(Fraction(1, 3)), percentage(0.25), percentage(0.0001234)
    ('33.3 %', '25 %', '0.0123 %')
    """
    return f"{float(100 * share):.{digits}g} %"


def _percentages_apart(share: Fraction, limit: Fraction) -> tuple[str, str]:
    """A share and the limit that it exceeds, with as many digits as tell them apart.

    >>> _percentages_apart(Fraction(250001, 1000000), Fraction(1, 4))
    ('25.0001 %', '25 %')
    """
    digits = 3
    while percentage(share, digits) == percentage(limit, digits) and digits < _FLOAT_DIGITS:
        digits += 1
    return percentage(share, digits), percentage(limit, digits)


def _rows(path: str) -> Iterator[dict[str, Any]]:
    """Rows of the table of a unit, as dictionaries."""
    with filesystem.open_stream(path) as stream, pq.ParquetFile(stream) as table:
        for rows in table.iter_batches(columns=list(_COLUMNS)):
            yield from rows.to_pylist()

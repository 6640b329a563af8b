"""Tables of pixels and ground area: rows of images as Parquet, totals as CSV."""

import csv
import io
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from fractions import Fraction
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.run.areas import (
    CONFIDENCE_BINS,
    ELSEWHERE,
    FAILED,
    NODATA,
    OUTSIDE_AOI,
    Tally,
    confidence_bins,
)
from segmodel.escaping import inert
from segmodel.labels.classes import ClassTable
from segmodel.savedmodel.contract import Contract

GROUP_ROWS = 10_000
SCHEMA = pa.schema(
    [
        ("source", pa.string()),
        ("key", pa.string()),
        ("class_id", pa.int32()),
        ("class", pa.string()),
        ("pixels", pa.int64()),
        ("area_m2", pa.float64()),
        ("share", pa.float64()),
        ("mean_confidence", pa.float64()),
    ]
)
# Of models for which a value can be out of range.
RANGE_SCHEMA = SCHEMA.append(pa.field("out_of_range", pa.int64()))

# Of runs with soft areas: the number of pixels by bin, see `pipelines.run.soft_areas`.
_BINS = pa.field(CONFIDENCE_BINS, pa.list_(pa.int64()))


def schema_for(contract: Contract, has_soft: bool) -> pa.Schema:
    """Columns of the tables of a run.

    Args:
        contract: Contract of the model.
        has_soft: Whether the run has soft areas.
    """
    schema = SCHEMA if contract.limits is None else RANGE_SCHEMA
    return schema.append(_BINS) if has_soft else schema


def rows_of(
    source: str, key: str | None, tally: Tally, classes: ClassTable
) -> list[dict[str, object]]:
    """Rows of one image for a unit's table: classes, nodata; outside and failed if there are any.

    `share` is of the pixels, or of the ground area where it is known, of all classes together;
    nodata is not in its base and has none. `out_of_range` is the number of pixels with values
    outside the range of the model.
    """
    base = tally.area_m2 or tally.pixels
    whole = math.fsum(base[str(i)] for i in classes.ids if str(i) in base)
    rows: list[dict[str, object]] = []
    lines: list[tuple[str, int | None, str]] = [*class_lines(classes)]
    lines += [(name, None, name) for name in (OUTSIDE_AOI, FAILED) if name in tally.pixels]
    for name, class_id, class_name in lines:
        pixels, summed = tally.pixels.get(name, 0), tally.confidence_sum.get(name)
        rows.append(
            {
                "source": source,
                "key": key,
                "class_id": class_id,
                "class": class_name,
                "pixels": pixels,
                "area_m2": tally.area_m2.get(name),
                "share": base.get(name, 0) / whole if whole and name.isdigit() else None,
                "mean_confidence": None if summed is None or not pixels else summed / pixels,
                "out_of_range": tally.out_of_range.get(name, 0),
                CONFIDENCE_BINS: confidence_bins(tally, name) if name.isdigit() else None,
            }
        )
    return rows


def class_lines(classes: ClassTable) -> list[tuple[str, int, str]]:
    """Key in a tally, value in label maps and name of each class and of nodata."""
    lines = [(str(entry.id), entry.id, entry.name) for entry in classes.classes]
    return [*lines, (NODATA, classes.nodata, NODATA)]


class AreaTable:
    """Rows of a unit as a Parquet file, written in groups; the same rows give the same bytes.

    Args:
        stream: Stream that the file is written to.
        schema: Columns that are written, `SCHEMA` or `RANGE_SCHEMA`.
    """

    def __init__(self, stream: IO[bytes], schema: pa.Schema) -> None:
        self._file, self._schema = pq.ParquetWriter(stream, schema), schema
        self._rows: list[dict[str, object]] = []

    def add(self, rows: Iterable[dict[str, object]]) -> None:
        """Add rows behind the others."""
        self._rows.extend(rows)
        if len(self._rows) >= GROUP_ROWS:
            self._flush()

    def close(self) -> None:
        """Write what is left; a second time it does nothing."""
        self._flush()
        self._file.close()

    def _flush(self) -> None:
        if self._rows:
            self._file.write_table(pa.Table.from_pylist(self._rows, self._schema))
        self._rows = []


@contextmanager
def area_table(path: str, schema: pa.Schema = SCHEMA) -> Iterator[AreaTable]:
    """A new table, complete once the context is left.

    Args:
        path: Path of the table.
        schema: Columns that are written, as `schema_for` has them.
    """
    with open(path, "wb") as stream, closing(AreaTable(stream, schema)) as table:
        yield table


def sums_of_rows(stream: IO[bytes], nodata: int) -> Tally:
    """What the rows of a unit's table add up to: images, pixels, area, pixels out of range.

    Args:
        stream: The table, as Parquet.
        nodata: Value of nodata in label maps.
    """
    images, pixels, out_of_range = 0, Counter[str](), Counter[str]()
    areas = defaultdict[str, Fraction](Fraction)
    with pq.ParquetFile(stream) as table:
        has_range = "out_of_range" in table.schema_arrow.names
        names = ["class_id", "class", "pixels", "area_m2", *["out_of_range"] * has_range]
        for batch in table.iter_batches(GROUP_ROWS, columns=names):
            for class_id, name, count, area, *beyond in zip(
                *(batch[name].to_pylist() for name in names), strict=True
            ):
                key = name if class_id in (None, nodata) else str(class_id)
                images += class_id == nodata
                pixels[key] += count
                out_of_range[key] += sum(number or 0 for number in beyond)
                if area is not None:
                    areas[key] += Fraction(area)
    return Tally(
        images=images,
        pixels=pixels,
        area_m2={key: float(area) for key, area in areas.items()},
        out_of_range=out_of_range,
    )


def agree(tally: Tally, rows: Tally) -> bool:
    """Whether a tally is that of rows, by `sums_of_rows`; an image that failed may have rows."""
    names = ("pixels", "area_m2", "out_of_range")
    return 0 <= rows.images - tally.images <= tally.failed_images and all(
        _nonzero(getattr(tally, name)) == _nonzero(getattr(rows, name)) for name in names
    )


def _nonzero(sums: Mapping[str, float | Fraction]) -> dict[str, float]:
    return {key: float(value) for key, value in sums.items() if value}


def csv_bytes(rows: Iterable[Sequence[object]]) -> bytes:
    """Rows as CSV in UTF-8, the first of them the header; what UTF-8 cannot hold is written out."""
    buffer = io.StringIO()
    write_csv(buffer, rows)
    return buffer.getvalue().encode("utf-8", "backslashreplace")


def write_csv(stream: IO[str], rows: Iterable[Sequence[object]]) -> None:
    """Write rows as CSV, line by line, the first of them the header."""
    cells = ([inert(cell) for cell in row] for row in rows)
    csv.writer(stream, lineterminator="\n").writerows(cells)


def totals_csv(total: Tally, classes: ClassTable) -> bytes:
    """The table of totals: classes, nodata, failed, their sum, and the footprint.

    What is outside the area of interest has a line in runs with one, and what is counted in another
    scene that shows it too where scenes overlap.

    Shares are of all classes together, without nodata and failed. Areas are those of images whose
    ground area is known, and empty where there is none.
    """
    keys = [str(i) for i in classes.ids]
    all_pixels = sum(total.pixels.get(key, 0) for key in keys)
    all_area = math.fsum(total.area_m2.get(key, 0.0) for key in keys)
    lines: list[tuple[str, int | str, str]] = [*class_lines(classes)]
    if OUTSIDE_AOI in total.pixels:
        lines.append((OUTSIDE_AOI, "", OUTSIDE_AOI))
    lines.append((FAILED, "", FAILED))
    if ELSEWHERE in total.pixels:
        lines.append((ELSEWHERE, "", ELSEWHERE))
    rows: list[list[object]] = [
        ["class_id", "class", "pixels", "pixel_share", "area_m2", "area_share"]
    ]
    for key, class_id, name in lines:
        pixels, area = total.pixels.get(key, 0), total.area_m2.get(key, 0.0)
        known = _number(area if total.area_m2 else None)
        pixel_share = _number(pixels / all_pixels if key in keys and all_pixels else None)
        area_share = _number(area / all_area if key in keys and all_area else None)
        rows.append([class_id, name, pixels, pixel_share, known, area_share])
    summed = math.fsum(total.area_m2.values()) or None
    rows.append(["", "total", sum(total.pixels.values()), "", _number(summed), ""])
    if total.area_m2:
        footprint_pixels = sum(total.ground_pixels.values())
        rows.append(["", "footprint", footprint_pixels, "", _number(total.footprint_m2), ""])
    return csv_bytes(rows)


def _number(value: float | Fraction | None) -> str:
    return "" if value is None else repr(float(value))

"""Tables of labelled points, as spreadsheets and QGIS save them: CSV, GeoPackage, GeoJSON."""

import codecs
import csv
import io
import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import shapely
from pyproj import Transformer
from pyproj.exceptions import CRSError

from pipelines.geodesy.vector_files import damage_named, vector_library
from pipelines.storage import filesystem, locations
from pipelines.storage.copies import with_sidecars
from segmodel.errors import ConfigurationError
from segmodel.rasters.opening import reason_of_gdal

ID, LON, LAT, CLASS = ("id", "lon", "lat", "class")
_TEXTS = (".csv", ".tsv", ".txt")
_VECTORS = (".gpkg", ".geojson", ".json")
_DELIMITERS = ",;\t"
# How a table for Excel begins that names its delimiter.
_SEP_LINE = re.compile(r'"?sep=([^"\r\n])[^\r\n]*\r?\n?', re.IGNORECASE)


@dataclass(frozen=True)
class PointTable:
    """What a table of points must have.

    Args:
        id: Column with names of points, or None where they need none.
        label: Column of classes, in small letters.
        needed: What the table must be, for error texts.
    """

    id: str | None
    label: str
    needed: str

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that a text must have."""
        return (*((self.id,) if self.id else ()), LON, LAT, self.label)


_OF_SAMPLE = "it must be the file that `beamseg sample` wrote, with the column class filled"
SAMPLE_TABLE = PointTable(ID, CLASS, _OF_SAMPLE)


@dataclass(frozen=True)
class LabelRow:
    """What a table says of one point.

    Args:
        where: Line or feature, for error texts.
        id: Name of the point; `where`, if the table needs none.
        label: What stands in the column of classes; empty where nothing does.
        places: Longitude and latitude in degrees: of the columns, of the geometry, or of both.
    """

    where: str
    id: str
    label: str
    places: tuple[tuple[float, float], ...]


def read_label_rows(path: str, table: PointTable = SAMPLE_TABLE) -> list[LabelRow]:
    """All rows of a table of labelled points.

    Args:
        path: A CSV file (`.csv`, `.tsv` or `.txt`) in UTF-8, with or without a byte order mark, in
            UTF-16 or in the code page of Windows, with commas, semicolons or tabs, and with points
            or commas in its numbers; or a GeoPackage or a GeoJSON file of points.
        table: What it must have.

    Raises:
        ConfigurationError: If the file is not there, is no such table, lacks a column, or has a
            row that cannot be read; names the line or the feature.
    """
    name = os.path.basename(path.rstrip("/"))
    try:
        if path.lower().endswith(_TEXTS):
            rows = list(_text_rows(filesystem.read_bytes(locations.checked(path)), name, table))
        elif not path.lower().endswith(_VECTORS):
            raise ConfigurationError(
                f"{name} must end in {', '.join((*_TEXTS, *_VECTORS))}: save the labelled points "
                f"as CSV, GeoPackage or GeoJSON"
            )
        else:
            with with_sidecars(locations.checked(path)) as file, damage_named(name):
                rows = _feature_rows(file, name, table)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise ConfigurationError(f"{path} is not there: check the path") from error
    if not rows:
        raise ConfigurationError(f"{name} has no rows: {table.needed}")
    return rows


@dataclass(frozen=True)
class TextTable:
    """A table as a spreadsheet saved it as text.

    Args:
        name: Name of the file, for error texts.
        text: All of it, without a byte order mark.
        encoding: Encoding of more text behind it.
        delimiter: What stands between cells.
        columns: Names of the columns in small letters; none in an empty file.
    """

    name: str
    text: str
    encoding: str
    delimiter: str
    columns: tuple[str, ...]

    @classmethod
    def of(cls, content: bytes, name: str) -> "TextTable":
        """The table in a file.

        A line `sep=;` before the header is what Excel takes the delimiter from.

        Raises:
            ConfigurationError: If its header is no line of a CSV file.
        """
        text, encoding = _decoded(content)
        named = _SEP_LINE.match(text)
        candidates = _DELIMITERS + (named[1] if named else "")
        header = re.split(r"[\r\n]", text[named.end() if named else 0 :], maxsplit=1)[0]
        table = cls(name, text, encoding, max(candidates, key=header.count), ())
        cells = next(table._lines(), (0, []))[1]
        return replace(table, columns=tuple(cell.lower() for cell in cells))

    def rows(self) -> Iterator[tuple[str, dict[str, str]]]:
        """Rows that are not empty, each with its line, for error texts; cells by column.

        Raises:
            ConfigurationError: If a row is no line of a CSV file, or has not as many cells as there
                are columns.
        """
        for number, cells in islice(self._lines(), 1, None):
            where = f"{self.name}, line {number}"
            if not any(cells):
                continue
            if len(cells) < len(self.columns) or any(cells[len(self.columns) :]):
                raise ConfigurationError(
                    f"{where} has {len(cells)} cells, and the header {len(self.columns)}: put a "
                    f"cell that holds a {self.delimiter!r} in quotes"
                )
            yield where, dict(zip(self.columns, cells, strict=False))

    def _lines(self) -> Iterator[tuple[int, list[str]]]:
        """Cells of the header and of all rows, each with the number of its last line."""
        stream = io.StringIO(self.text, newline="")
        lines = csv.reader(stream, delimiter=self.delimiter, strict=True)
        try:
            for place, cells in enumerate(lines):
                if place or not _SEP_LINE.match(self.text):
                    yield lines.line_num, [cell.strip() for cell in cells]
        except csv.Error as error:
            raise ConfigurationError(
                f"{self.name}, line {lines.line_num} is no line of a CSV file ({error}): save the "
                f"table as CSV again"
            ) from None


def _text_rows(content: bytes, name: str, table: PointTable) -> Iterator[LabelRow]:
    found = TextTable.of(content, name)
    _check_columns(found.columns, table.columns, name, table)
    for where, row in found.rows():
        place = (_degrees(row[LON], LON, where), _degrees(row[LAT], LAT, where))
        yield LabelRow(where, row[table.id] if table.id else where, row[table.label], (place,))


def _decoded(content: bytes) -> tuple[str, str]:
    """The text of a file that a spreadsheet saved, and the encoding of it.

    Names are compared with those of the classes, so that a wrong guess at a code page is an
    unknown class, and never another one.
    """
    for mark, encoding in ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")):
        if content.startswith(mark):
            return content.removeprefix(mark).decode(encoding, "replace"), encoding
    content = content.removeprefix(codecs.BOM_UTF8)
    try:
        return content.decode(), "utf-8"
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace"), "cp1252"


def _check_columns(
    columns: Sequence[str], needed: Sequence[str], name: str, table: PointTable
) -> None:
    """Refuse a table in which a column is missing or stands twice."""
    for column in needed:
        if (times := columns.count(column)) != 1:
            found = ", ".join(filter(None, columns))[:200] or "none"
            how = "no column" if times == 0 else f"{times} columns"
            raise ConfigurationError(f"{name} has {how} called {column} ({found}): {table.needed}")


def _degrees(text: str, column: str, where: str) -> float:
    """A number of degrees, with a point or, as some spreadsheets have it, with a comma."""
    try:
        value = float(text if "." in text else text.replace(",", "."))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ConfigurationError(
            f"{where}: {column} must be degrees such as 12.5, got {text[:40]!r}: a spreadsheet may "
            f"have changed it; import the column as text, or take it from sample.csv"
        )
    return value


def _feature_rows(file: str, name: str, table: PointTable) -> list[LabelRow]:
    layer = _layer_of_points(file, name, table)
    read = vector_library().raw.read
    meta, ids, content, values = read(file, layer=layer, force_2d=True, return_fids=True)
    fields = [str(field).lower() for field in meta["fields"]]
    _check_columns(fields, tuple(filter(None, (table.id, table.label))), name, table)
    of_field = dict(zip(fields, values, strict=True))
    wheres = [f"{name}, feature {number}" for number in ids.tolist()]
    places: list[list[tuple[float, float]]] = [[] for _ in wheres]
    if content is not None and any(content):
        for own, point in zip(places, _points(content, meta["crs"], wheres, table), strict=True):
            own.append(point)
    if LON in of_field and LAT in of_field:
        for own, where, lon, lat in zip(places, wheres, of_field[LON], of_field[LAT], strict=True):
            own.append((_degrees(str(lon), LON, where), _degrees(str(lat), LAT, where)))
    if not all(places):
        raise ConfigurationError(
            f"{name} has neither points nor fields lon and lat: {table.needed}"
        )
    labels = map(_cell, of_field[table.label].tolist())
    names = map(_cell, of_field[table.id].tolist()) if table.id else iter(wheres)
    return [
        LabelRow(where, point, label, tuple(own))
        for where, point, label, own in zip(wheres, names, labels, places, strict=True)
    ]


def _layer_of_points(file: str, name: str, table: PointTable) -> str:
    """The one layer that has the columns that are needed."""
    pyogrio = vector_library()

    try:
        layers = [str(layer) for layer, _ in pyogrio.list_layers(file)]
    except pyogrio.errors.DataSourceError as error:
        raise ConfigurationError(
            f"{name} is no file of vectors that GDAL reads ({reason_of_gdal(error, file)}): "
            f"save the labelled points as GeoPackage, or as CSV under a name that ends in .csv"
        ) from error
    needed = [name for name in (table.id, table.label) if name]
    found = [
        layer
        for layer in layers
        if set(needed) <= {str(f).lower() for f in pyogrio.read_info(file, layer=layer)["fields"]}
    ]
    if len(found) != 1:
        count = f"{len(found)} layers" if found else "no layer"
        raise ConfigurationError(
            f"{name} has {count} with the fields {' and '.join(needed)}: {table.needed}"
        )
    return found[0]


def _points(
    content: Sequence[bytes | None], crs: str | None, wheres: Sequence[str], table: PointTable
) -> Iterator[tuple[float, float]]:
    """Longitude and latitude of the points of features."""
    try:
        to_degrees = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    except CRSError as error:
        raise ConfigurationError(
            f"{wheres[0].rpartition(', ')[0]} has no CRS that can be read: assign one in a GIS"
        ) from error
    for wkb, where in zip(content, wheres, strict=True):
        shape = None if wkb is None else shapely.from_wkb(wkb, on_invalid="ignore")
        parts = shapely.get_coordinates(shape)
        if len(parts) != 1 or not np.isfinite(parts).all():
            raise ConfigurationError(f"{where} is no point: {table.needed}")
        lon, lat = to_degrees.transform(*parts[0].tolist())
        yield lon, lat


def _cell(value: object) -> str:
    """A field as text; empty for no value. GDAL gives integers with gaps as floats.

    >>> _cell(" lake "), _cell(7.0), _cell(None), _cell(math.nan)
    ('lake', '7', '', '')
    """
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()

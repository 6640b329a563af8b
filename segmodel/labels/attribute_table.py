"""Raster attribute tables of label maps, in the XML that GDAL reads beside rasters.

Source: `GDALRasterAttributeTable::Serialize`, GDAL 3.10; QGIS and ArcGIS read it through GDAL.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from enum import IntEnum

from segmodel.escaping import xml_characters
from segmodel.labels.classes import ClassTable


class _Kind(IntEnum):
    """Types of columns; whole numbers have 32 bits there, too few for counts of pixels."""

    INTEGER = 0
    REAL = 1
    STRING = 2


# Of each column its name, its type and what it is used for.
_COLUMNS = (
    ("Value", _Kind.INTEGER, 5),
    ("Class", _Kind.STRING, 2),
    ("R", _Kind.INTEGER, 6),
    ("G", _Kind.INTEGER, 7),
    ("B", _Kind.INTEGER, 8),
    ("A", _Kind.INTEGER, 9),
    ("Count", _Kind.REAL, 1),
)
_AREA = ("area_m2", _Kind.REAL, 0)


def attribute_table(
    classes: ClassTable, pixels: Sequence[int], areas_m2: Sequence[float] | None = None
) -> ET.Element:
    """The table as an XML element: a row for each class, in order of ids.

    Args:
        classes: The classes.
        pixels: Pixels of each class.
        areas_m2: Ground area of each class in m², where it is known.
    """
    table = ET.Element("GDALRasterAttributeTable", tableType="thematic")
    columns = _COLUMNS if areas_m2 is None else (*_COLUMNS, _AREA)
    for index, (name, kind, usage) in enumerate(columns):
        column = ET.SubElement(table, "FieldDefn", index=str(index))
        for tag, value in (("Name", name), ("Type", str(int(kind))), ("Usage", str(usage))):
            ET.SubElement(column, tag).text = value
    places = sorted(range(len(classes.ids)), key=classes.ids.__getitem__)
    for index, place in enumerate(places):
        row, entry = ET.SubElement(table, "Row", index=str(index)), classes.classes[place]
        area = [] if areas_m2 is None else [repr(areas_m2[place])]
        named = entry.id, xml_characters(entry.name), *entry.color, 255
        for cell in (*named, pixels[place], *area):
            ET.SubElement(row, "F").text = str(cell)
    return table

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


def attribute_table(classes: ClassTable, pixels: Sequence[int]) -> ET.Element:
    """The table as an XML element: a row for each class, in order of ids.

    Args:
        classes: The classes.
        pixels: Pixels of each class.
    """
    table = ET.Element("GDALRasterAttributeTable", tableType="thematic")
    for index, (name, kind, usage) in enumerate(_COLUMNS):
        column = ET.SubElement(table, "FieldDefn", index=str(index))
        for tag, value in (("Name", name), ("Type", str(int(kind))), ("Usage", str(usage))):
            ET.SubElement(column, tag).text = value
    places = sorted(range(len(classes.ids)), key=classes.ids.__getitem__)
    for index, place in enumerate(places):
        row, entry = ET.SubElement(table, "Row", index=str(index)), classes.classes[place]
        for cell in (entry.id, xml_characters(entry.name), *entry.color, 255, pixels[place]):
            ET.SubElement(row, "F").text = str(cell)
    return table

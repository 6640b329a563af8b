"""How QGIS shows classes: styles that it reads from `NAME.qml` beside `NAME.vrt`, `.tif`, `.gpkg`.

Source: what QGIS 3.22 to 3.40 write as styles of a layer; there is no specification.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET

from segmodel.escaping import xml_characters
from segmodel.labels.classes import ClassTable, LabelClass, format_color

_DOCTYPE = b"<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
# The oldest QGIS whose way to write it is.
_VERSION = "3.22.0"
# Where a style of polygons does not say that, QGIS takes it for one of points and refuses it.
_POLYGONS = "2"
_OUTLINE = "35,35,35,255"


def raster_style(classes: ClassTable) -> bytes:
    """Style of a label map: colour and name of each class; nodata is transparent."""
    root = ET.Element("qgis", version=_VERSION, styleCategories="Symbology")
    renderer = ET.SubElement(
        ET.SubElement(root, "pipe"),
        "rasterrenderer",
        {"type": "paletted", "band": "1", "opacity": "1", "alphaBand": "-1", "nodataColor": ""},
    )
    ET.SubElement(renderer, "rasterTransparency")
    palette = ET.SubElement(renderer, "colorPalette")
    for entry in _by_id(classes):
        color, label = format_color(entry.color).lower(), xml_characters(entry.name)
        fields = {"value": str(entry.id), "color": color, "alpha": "255", "label": label}
        ET.SubElement(palette, "paletteEntry", fields)
    return _document(root)


def polygon_style(classes: ClassTable, field: str = "class_id") -> bytes:
    """Style of polygons: colour and name by the id of their class.

    Args:
        classes: The classes.
        field: Column of the ids.
    """
    root = ET.Element("qgis", version=_VERSION, styleCategories="Symbology")
    renderer = ET.SubElement(
        root,
        "renderer-v2",
        {"type": "categorizedSymbol", "attr": field, "symbollevels": "0", "forceraster": "0"},
    )
    categories = ET.SubElement(renderer, "categories")
    symbols = ET.SubElement(renderer, "symbols")
    for number, entry in enumerate(_by_id(classes)):
        fields = {"value": str(entry.id), "type": "long", "symbol": str(number), "render": "true"}
        ET.SubElement(categories, "category", fields | {"label": xml_characters(entry.name)})
        symbols.append(_fill(str(number), entry))
    ET.SubElement(root, "layerGeometryType").text = _POLYGONS
    return _document(root)


def _fill(name: str, entry: LabelClass) -> ET.Element:
    """A symbol that fills polygons with the colour of a class, between thin dark lines."""
    symbol = ET.Element("symbol", {"type": "fill", "name": name, "alpha": "1"})
    layer = ET.SubElement(symbol, "layer", {"class": "SimpleFill", "enabled": "1", "pass": "0"})
    options = ET.SubElement(layer, "Option", type="Map")
    values = {
        "color": ",".join(map(str, (*entry.color, 255))),
        "style": "solid",
        "outline_color": _OUTLINE,
        "outline_style": "solid",
        "outline_width": "0.1",
        "outline_width_unit": "MM",
    }
    for key, value in values.items():
        ET.SubElement(options, "Option", {"type": "QString", "name": key, "value": value})
    return symbol


def _by_id(classes: ClassTable) -> list[LabelClass]:
    return sorted(classes.classes, key=lambda entry: entry.id)


def _document(root: ET.Element) -> bytes:
    ET.indent(root)
    return _DOCTYPE + ET.tostring(root) + b"\n"

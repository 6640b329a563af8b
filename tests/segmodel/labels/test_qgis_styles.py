"""Styles as QGIS reads them: by the elements and attributes that it writes itself."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from segmodel.labels.classes import ClassTable, LabelClass
from segmodel.labels.qgis_styles import polygon_style, raster_style

HOSTILE = "<script>alert(\"x\")</script> & 'ü', 🌲\n\x1b[31m\u202e" + "long " * 60
CLASSES = ClassTable((LabelClass(7, HOSTILE, (240, 230, 200)), LabelClass(2, "b", (1, 2, 3))))
SHOWN = HOSTILE.replace("\n", "\\n").replace("\x1b", "\\x1b").replace("\u202e", "\\u202e")


def test_a_label_map_has_the_color_and_the_name_of_each_class_in_order_of_ids():
    entries = ET.fromstring(raster_style(CLASSES)).findall(".//colorPalette/paletteEntry")
    assert [dict(entry.items()) for entry in entries] == [
        {"value": "2", "color": "#010203", "alpha": "255", "label": "b"},
        {"value": "7", "color": "#f0e6c8", "alpha": "255", "label": SHOWN},
    ]


def test_a_label_map_is_drawn_by_its_first_band_and_its_nodata_not_at_all():
    renderer = ET.fromstring(raster_style(CLASSES)).find("pipe/rasterrenderer")
    assert dict(renderer.items()) == {
        "type": "paletted",
        "band": "1",
        "opacity": "1",
        "alphaBand": "-1",
        "nodataColor": "",
    }


def test_polygons_have_the_color_and_the_name_of_their_class():
    root = ET.fromstring(polygon_style(CLASSES))
    renderer = root.find("renderer-v2")
    assert (renderer.get("type"), renderer.get("attr")) == ("categorizedSymbol", "class_id")
    colors = {
        symbol.get("name"): symbol.find("layer/Option/Option[@name='color']").get("value")
        for symbol in renderer.findall("symbols/symbol")
    }
    found = [
        (entry.get("value"), entry.get("label"), colors[entry.get("symbol")])
        for entry in renderer.findall("categories/category")
    ]
    assert found == [("2", "b", "1,2,3,255"), ("7", SHOWN, "240,230,200,255")]
    # Without it QGIS takes the style for one of points, and refuses it.
    assert root.findtext("layerGeometryType") == "2"


@pytest.mark.parametrize("style", [raster_style, polygon_style])
def test_a_style_is_a_document_of_qgis(style):
    content = style(CLASSES)
    assert content.startswith(b"<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n<qgis ")
    assert b"<script>" not in content

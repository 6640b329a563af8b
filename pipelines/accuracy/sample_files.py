"""The files of a sample that people label: a table, and a layer for QGIS that offers the classes.

They have the points in shuffled order, and nothing of the map: who labels must not see its class.
"""

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
import pyogrio
import shapely

from pipelines.accuracy.design import DESIGN_JSON, SampleDesign, SamplePoint
from pipelines.accuracy.label_tables import TextTable
from pipelines.geodesy.geopackages import stop_clock, write_style
from pipelines.run.directory import METADATA_DIR, RunDirectory
from pipelines.storage import filesystem
from pipelines.storage.copies import named_for_gdal
from segmodel.errors import ConfigurationError
from segmodel.escaping import xml_characters

CSV, GPKG, CHIPS = "sample.csv", "sample.gpkg", "chips"
COLUMNS = ("id", "lon", "lat", "order", "class")
LAYER = "sample"


def check_folder(folder: RunDirectory) -> None:
    """Refuse a folder that holds other things than a sample.

    Raises:
        ConfigurationError: Names what it holds; or if it is a file, or links lead out of it.
    """
    if os.path.isfile(folder.root):
        raise ConfigurationError(f"--output {folder.root} is a file: name a folder")
    scratch = os.path.basename(folder.scratch)
    filesystem.refuse_links(folder.root, (CHIPS, scratch, METADATA_DIR))
    is_sample = filesystem.exists(folder.path(DESIGN_JSON))
    for name in filesystem.names_below(folder.root):
        top = name.partition("/")[0]
        if top.startswith(f"{GPKG}-"):
            raise ConfigurationError(
                f"{folder.root}/{GPKG} is open in another program, as {top} is there: close it, "
                f"then run the same command again"
            )
        if not is_sample and top in (CSV, GPKG):
            raise ConfigurationError(
                f"{folder.root} holds {top} and no {DESIGN_JSON}, and may be labelled: put "
                f"{DESIGN_JSON} back, or name another --output"
            )
        if not is_sample and top not in (CHIPS, scratch, METADATA_DIR):
            raise ConfigurationError(
                f"{folder.root} holds {top}, which is no part of a sample: name another --output"
            )


def complete_tables(folder: RunDirectory, design: SampleDesign) -> None:
    """Write the table and the layer, or give them the points that they lack; others stay.

    Raises:
        ConfigurationError: If a table that is there is none of a sample any more.
    """
    path = folder.path(CSV)
    before = filesystem.read_bytes(path) if filesystem.exists(path) else b""
    content = completed_csv(before, design.points)
    if content != before:
        folder.write(CSV, content)
    _complete_layer(folder, design)


def completed_csv(before: bytes, points: Sequence[SamplePoint]) -> bytes:
    """A table of points with rows for all, behind those that it has.

    Args:
        before: The table so far, as a spreadsheet may have saved it; empty for a new one.
        points: All points, in their order.

    Raises:
        ConfigurationError: If the columns are not those of a sample.
    """
    table = TextTable.of(before or f"{','.join(COLUMNS)}\n".encode(), CSV)
    if not {*COLUMNS}.issubset(table.columns):
        raise ConfigurationError(
            f"{CSV} has not the columns {', '.join(COLUMNS)} any more: put them back as text "
            f"with commas or semicolons, or move the file away"
        )
    rows = [row for _, row in table.rows()]
    there = {row["id"] for row in rows}
    has_commas = any("," in row["lon"] for row in rows)
    added = io.StringIO()
    end = "\r\n" if "\r\n" in table.text else "\n"
    writer = csv.DictWriter(added, table.columns, delimiter=table.delimiter, lineterminator=end)
    for order, point in enumerate(points, 1):
        if point.id not in there:
            degrees = {"lon": repr(point.lon), "lat": repr(point.lat)}
            if has_commas:
                degrees = {axis: text.replace(".", ",") for axis, text in degrees.items()}
            writer.writerow({"id": point.id, "order": order} | degrees)
    if not added.getvalue():
        return before
    gap = "" if table.text.endswith("\n") else end
    return (before or table.text.encode()) + (gap + added.getvalue()).encode(table.encoding)


def _complete_layer(folder: RunDirectory, design: SampleDesign) -> None:
    """Write `sample.gpkg`, or give it the points that it lacks."""
    path = folder.path(GPKG)
    is_new = not filesystem.exists(path)
    with (
        filesystem.write_atomic(path, folder.scratch) as draft,
        named_for_gdal(draft.path, "gpkg") as name,
    ):
        file, there = Path(name), set[str]()
        if not is_new:
            file.write_bytes(filesystem.read_bytes(path))
            there = _ids_of_layer(file)
        numbered = list(enumerate(design.points, 1))
        _append(file, [(n, point) for n, point in numbered if point.id not in there])
        if is_new:
            style = style_of([name for _, name in design.classes])
            write_style(name, LAYER, "geom", "classes", style)


def _ids_of_layer(path: Path) -> set[str]:
    try:
        frame = pyogrio.raw.read(path, layer=LAYER, columns=["id"], read_geometry=False)
        return {str(name) for name in frame[3][0]}
    except (
        pyogrio.errors.DataSourceError,
        pyogrio.errors.DataLayerError,
        IndexError,
        UnicodeDecodeError,
    ) as error:
        raise ConfigurationError(
            f"{GPKG} has no layer {LAYER} with a column id any more: put it back, or move the "
            f"file away"
        ) from error


def _append(path: Path, points: Sequence[tuple[int, SamplePoint]]) -> None:
    """Append points with their order to the layer, which may be a new one."""
    if not points:
        return
    stop_clock()
    lon, lat = ([getattr(point, axis) for _, point in points] for axis in ("lon", "lat"))
    empty = np.full(len(points), "", object)
    fields = {
        "id": np.array([point.id for _, point in points], object),
        "lon": np.array(lon),
        "lat": np.array(lat),
        "order": np.array([order for order, _ in points]),
        "class": empty,
    }
    pyogrio.raw.write(
        path,
        geometry=shapely.to_wkb(shapely.points(lon, lat)),
        field_data=list(fields.values()),
        fields=list(fields),
        field_mask=[*[None] * 4, np.ones(len(points), bool)],
        layer=LAYER,
        driver="GPKG",
        geometry_type="Point",
        crs="EPSG:4326",
        append=path.exists(),
    )


def style_of(names: Sequence[str]) -> str:
    """QGIS style of the layer: a hollow cross, a form with the classes, and all else read-only."""
    options = "".join(
        f'<Option type="Map"><Option type="QString" name={word} value={word}/></Option>'
        for word in (quoteattr(xml_characters(name)) for name in names)
    )
    others = [name for name in COLUMNS if name != "class"]
    read_only = "".join(f'<field name="{name}" editable="0"/>' for name in others)
    marker = {"name": "cross", "color": "255,255,255,0", "outline_color": "255,0,255,255"}
    marker |= {"outline_width": "0.6", "size": "5"}
    properties = "".join(
        f'<Option type="QString" name="{key}" value="{value}"/>' for key, value in marker.items()
    )
    return (
        '<qgis version="3.28" styleCategories="Symbology|Fields|Forms">'
        '<renderer-v2 type="singleSymbol" symbollevels="0"><symbols>'
        '<symbol type="marker" name="0" alpha="1"><layer class="SimpleMarker" enabled="1">'
        f'<Option type="Map">{properties}</Option></layer></symbol></symbols></renderer-v2>'
        '<fieldConfiguration><field name="class"><editWidget type="ValueMap"><config>'
        f'<Option type="Map"><Option type="List" name="map">{options}</Option></Option>'
        "</config></editWidget></field></fieldConfiguration>"
        f'<editable><field name="class" editable="1"/>{read_only}</editable></qgis>'
    )

"""Fields that STAC documents of a run share: names, links, classes, times."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from pipelines.run.commits import Output
from segmodel.escaping import on_one_line
from segmodel.labels.classes import ClassTable, format_color

JSON, GEOJSON = "application/json", "application/geo+json"
COG = "image/tiff; application=geotiff; profile=cloud-optimized"
PARQUET = "application/vnd.apache.parquet"
# By the end of a name: media type, and what the file is to the catalogue.
_KINDS = {
    ".csv": ("text/csv", "metadata"),
    ".fgb": ("application/flatgeobuf", "data"),
    ".geojson": (GEOJSON, "data"),
    ".gpkg": ("application/geopackage+sqlite3", "data"),
    ".html": ("text/html", "overview"),
    ".json": (JSON, "metadata"),
    ".parquet": (PARQUET, "data"),
    ".pmtiles": ("application/vnd.pmtiles", "visual"),
    ".png": ("image/png", "overview"),
    ".qml": ("application/xml", "metadata"),
    ".tif": (COG, "data"),
    ".vrt": ("application/xml", "data"),
    ".xml": ("application/xml", "metadata"),
}
# Extensions by the prefix of their fields, each with the version whose rules are followed.
_EXTENSIONS = {
    "classification": "classification/v2.0.0",
    "file": "file/v2.1.0",
    "mlm": "mlm/v1.6.0",
    "processing": "processing/v1.2.0",
    "proj": "projection/v2.0.0",
    "raster": "raster/v2.0.0",
}
# Nobody took a picture from the air before; STAC has no other word for a time that is not known.
LONG_AGO, FAR_AHEAD = "1858-01-01T00:00:00Z", "9999-12-31T23:59:59Z"
# Names of classes in a catalogue hold nothing else.
_NOT_IN_NAMES = re.compile(r"[^0-9A-Za-z_]+")
_NODATA = "nodata"


def slug(text: str) -> str:
    """A name of letters, digits, hyphens and underscores; empty if a text has none of them.

    >>> slug("bare soil / rock"), slug("<é>")
    ('bare-soil-rock', '')
    """
    return _NOT_IN_NAMES.sub("-", text).strip("-")


def link(rel: str, href: str, kind: str = JSON, title: str | None = None) -> dict[str, Any]:
    """A link to another document.

    Args:
        rel: What the other document is to this one.
        href: Relative reference, or an address.
        kind: Media type of the other document.
        title: Title of the other document.
    """
    found = {"rel": rel, "href": href, "type": kind}
    return found if title is None else found | {"title": on_one_line(title)}


def relative_href(*parts: str) -> str:
    """A relative reference to a file, by its path; what references do not hold is encoded.

    >>> relative_href("../", "labels/a b#1.tif")
    '../labels/a%20b%231.tif'
    """
    href = quote("".join(parts), safe="/", errors="surrogateescape")
    # A colon before the first slash would make a scheme of what is before it.
    return href if href.startswith(".") else f"./{href}"


def address(uri: str) -> str:
    """An address as a link has it; what addresses do not hold is encoded.

    >>> address("s3://tiles/a b.tif")
    's3://tiles/a%20b.tif'
    """
    return quote(uri, safe="/:?#[]@!$&()*+,;=%~", errors="surrogateescape")


def checks(output: Output) -> dict[str, Any]:
    """Size and checksum of a file.

    Source: multihash; SHA-256 is 0x12, and it has 0x20 bytes.
    """
    return {"file:size": output.size, "file:checksum": f"1220{output.sha256}"}


def file_asset(href: str, output: Output) -> dict[str, Any]:
    """A file as an asset, of the kind that its name says."""
    suffix = PurePosixPath(output.path).suffix
    kind, role = _KINDS.get(suffix, ("application/octet-stream", "data"))
    return {"href": href, "type": kind, "roles": [role], **checks(output)}


def time_fields(acquired: datetime | None) -> dict[str, Any]:
    """When something was taken; all time where it is not known, as STAC demands a range then.

    >>> time_fields(datetime(2026, 5, 1, 10, tzinfo=UTC))
    {'datetime': '2026-05-01T10:00:00Z'}
    """
    if acquired is None:
        return {"datetime": None, "start_datetime": LONG_AGO, "end_datetime": FAR_AHEAD}
    return {"datetime": acquired.astimezone(UTC).isoformat().replace("+00:00", "Z")}


def class_objects(
    classes: ClassTable, pixels: Mapping[int, int] | None = None
) -> list[dict[str, Any]]:
    """`classification:classes`: all values of a label map, in order, and of which colour they are.

    Args:
        classes: The classes.
        pixels: Pixels by class and, by its value, of nodata, for counts and shares; or None.
    """
    entries = sorted(classes.classes, key=lambda entry: entry.id)
    names = _class_names({entry.id: entry.name for entry in entries})
    found: list[dict[str, Any]] = []
    for entry in entries:
        title, color = on_one_line(entry.name), format_color(entry.color)[1:]
        name = names[entry.id]
        found.append({"value": entry.id, "name": name, "title": title, "color_hint": color})
    found.append({"value": classes.nodata, "name": _NODATA, "title": _NODATA, "nodata": True})
    total = sum(pixels.values()) if pixels else 0
    if pixels and total:
        for made in found:
            count = pixels.get(made["value"], 0)
            made |= {"count": count, "percentage": 100 * count / total}
    return found


def model_classes(classes: ClassTable) -> list[dict[str, Any]]:
    """Classes that a model returns, as the classification extension 1.1 of MLM has them."""
    names = {"title": "description"}
    found = (made for made in class_objects(classes) if "nodata" not in made)
    return [{names.get(key, key): value for key, value in made.items()} for made in found]


def _class_names(names: Mapping[int, str]) -> dict[int, str]:
    """A name for machines for each class, all different."""
    slugs = {number: slug(name) or "class" for number, name in names.items()}
    times = Counter([_NODATA, "class", *slugs.values()])
    taken = {name for name in slugs.values() if times[name] == 1}
    for number, name in slugs.items():
        if times[name] > 1:
            while name in {_NODATA, "class"} | taken or times[name] > 1:
                name = f"{name}-{number}"
            slugs[number] = name
            taken.add(name)
    return slugs


def stac_document(document: dict[str, Any]) -> dict[str, Any]:
    """A document with the version of STAC, and with the extensions whose fields it has."""
    used = {key.partition(":")[0] for key in _keys(document)} & _EXTENSIONS.keys()
    uris = sorted(
        f"https://stac-extensions.github.io/{_EXTENSIONS[prefix]}/schema.json" for prefix in used
    )
    return {"stac_version": "1.1.0", "stac_extensions": uris, **document}


def _keys(part: Any) -> Iterator[str]:
    """Names of all fields of a document, at any depth."""
    if isinstance(part, dict):
        yield from part
    values = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    for value in values:
        yield from _keys(value)

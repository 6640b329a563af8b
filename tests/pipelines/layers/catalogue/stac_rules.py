"""What STAC documents have to be: the schemas of STAC 1.1, and what its extensions say.

The schemas of STAC itself come with pystac. Those of extensions are on the web, which tests do not
ask; their rules are written down here, from the specification of each.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from jsonschema import Draft7Validator
from pystac.validation.local_validator import get_local_schema_cache
from referencing import Registry, Resource

_SCHEMAS = get_local_schema_cache()
_REGISTRY = Registry().with_resources(
    [(uri, Resource.from_contents(found)) for uri, found in _SCHEMAS.items()]
)
_OF_TYPE = {"Feature": "item", "Collection": "collection", "Catalog": "catalog"}
_EXTENSION = re.compile(r"https://stac-extensions\.github\.io/([a-z]+)/v([0-9.]+)/schema\.json")
VERSIONS = {
    "classification": "2.0.0",
    "file": "2.1.0",
    "mlm": "1.6.0",
    "processing": "1.2.0",
    "proj": "2.0.0",
    "raster": "2.0.0",
}
_PREFIXES = {"projection": "proj"}


def faults(document: dict[str, Any]) -> list[str]:
    """What is wrong with a document; nothing, it is to be hoped."""
    name = _OF_TYPE[document["type"]]
    uri = next(uri for uri in _SCHEMAS if uri.endswith(f"/{name}.json"))
    validator = Draft7Validator(_SCHEMAS[uri], registry=_REGISTRY)
    found = [error.message for error in validator.iter_errors(document)]
    return [*found, *_extension_faults(document), *_file_faults(document)]


def _extension_faults(document: dict[str, Any]) -> Iterator[str]:
    listed = {}
    for uri in document.get("stac_extensions", []):
        name, version = _EXTENSION.fullmatch(uri).groups()
        listed[_PREFIXES.get(name, name)] = version
    used = {key.partition(":")[0] for key, _ in _fields(document) if ":" in key}
    if listed != {prefix: VERSIONS[prefix] for prefix in used}:
        yield f"lists {listed}, and uses {sorted(used)}"
    for key, value in _fields(document):
        if key in _RULES and not _RULES[key](value):
            yield f"{key}: {value!r}"


def _file_faults(document: dict[str, Any]) -> Iterator[str]:
    """Files of ours without what tells whether they are whole."""
    for name, file in document.get("assets", {}).items():
        missing = {"type", "roles", "file:size", "file:checksum"} - file.keys()
        if file["href"].startswith(".") and missing:
            yield f"{name} has no {sorted(missing)}"


def _fields(part: Any) -> Iterator[tuple[str, Any]]:
    """All fields of a document, at any depth."""
    if isinstance(part, dict):
        for key, value in part.items():
            yield key, value
            yield from _fields(value)
    elif isinstance(part, list):
        for value in part:
            yield from _fields(value)


def _are_classes(found: list[dict[str, Any]]) -> bool:
    names = [entry["name"] for entry in found]
    return (
        len(set(names)) == len(names) >= 1
        and len({entry["value"] for entry in found}) == len(found)
        and all(type(entry["value"]) is int for entry in found)
        and all(re.fullmatch(r"[0-9A-Za-z_-]+", name) for name in names)
        and all(re.fullmatch(r"[0-9A-F]{6}", entry.get("color_hint", "000000")) for entry in found)
        and all(0 <= entry.get("percentage", 0) <= 100 for entry in found)
        and all(type(entry.get("count", 0)) is int for entry in found)
        and all(type(entry.get("nodata", False)) is bool for entry in found)
    )


def _summarized(found: Any) -> list[Any]:
    """Values of a field, of which a collection has a list."""
    return found if isinstance(found, list) else [found]


def _is_code(found: str) -> bool:
    return re.fullmatch(r"[A-Za-z_0-9]+:.+", found) is not None


def _are_numbers(count: int, *kinds: type) -> Any:
    return lambda found: len(found) == count and all(type(entry) in kinds for entry in found)


_RULES = {
    "classification:classes": _are_classes,
    # A multihash: SHA-256, and its 32 bytes.
    "file:checksum": lambda found: re.fullmatch(r"1220[0-9a-f]{64}", found) is not None,
    "file:size": lambda found: type(found) is int and found >= 0,
    "processing:lineage": lambda found: isinstance(found, str) and found,
    "processing:software": lambda found: all(isinstance(entry, str) for entry in found.values()),
    "proj:code": lambda found: found is None or all(map(_is_code, _summarized(found))),
    "proj:wkt2": lambda found: re.match(r"[A-Z]+\[", found),
    "proj:shape": _are_numbers(2, int),
    "proj:transform": _are_numbers(6, float),
    "proj:bbox": _are_numbers(4, float),
    "raster:scale": lambda found: found == 1 / 255,
    # None but references within the catalogue, and addresses.
    "href": lambda found: (
        re.match(r"\.\.?/|[a-z0-9]+:", found) and not re.search(r"[\s<>\"]", found)
    ),
}

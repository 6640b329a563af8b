"""The files that a scene is read from beside its own: sources of VRTs, masks, sidecars."""

import html
import os
import re
from collections.abc import Iterable, Iterator

from pipelines.rasters.gdal import location_of
from pipelines.storage import filesystem, locations

# Of VRTs that name other VRTs, and of the text of one.
MOST_FILES, MOST_CHARACTERS = 100_000, 1 << 28
_SOURCE = re.compile(r"<Source(?:Filename|Dataset)([^>]*)>([^<]*)</Source(?:Filename|Dataset)>")


def sources_of(uri: str, listed: Iterable[str]) -> tuple[str, ...]:
    """Other files that a scene is read from, in order of their names.

    GDAL lists the sources of a VRT, but neither the sources of VRTs among them nor those of masks
    of bands, nor the masks beside a source.

    Args:
        uri: Of the scene.
        listed: Files that GDAL lists for it.
    """
    found: dict[str, None] = {}
    ahead = [uri, *map(location_of, listed)]
    while ahead and len(found) < MOST_FILES:
        path = ahead.pop()
        if path in found:
            continue
        found[path] = None
        ahead += [side for side in sidecars_of(path) if filesystem.exists(side)]
        if path.lower().endswith(".vrt"):
            ahead += _sources_in(path)
    return tuple(sorted(set(found) - {uri}))


def sidecars_of(path: str) -> tuple[str, str]:
    """Where GDAL looks for the mask of a raster, and for what its own header does not say."""
    return f"{path}.msk", f"{path}.aux.xml"


def _sources_in(path: str) -> Iterator[str]:
    """Files that a VRT names as its sources."""
    try:
        text = filesystem.read_part(path, 0, MOST_CHARACTERS).decode("utf-8", "replace")
    except OSError:
        return
    for attributes, name in _SOURCE.findall(text):
        source = html.unescape(name).strip()
        is_relative = re.search(r"relativeTo(?:VRT|Vrt)\s*=\s*[\"']1", attributes) is not None
        here = location_of(os.path.join(os.path.dirname(path), source) if is_relative else source)
        if not locations.scheme_of(here) or locations.is_remote(here):
            yield here

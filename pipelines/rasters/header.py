"""Headers of scenes, each read once, and what else a scene is read from."""

import hashlib
import html
import os
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from weakref import WeakValueDictionary

import rasterio
from rasterio.crs import CRS

from pipelines.rasters.gdal import OPENER, location_of
from pipelines.run.plan import InputFile
from pipelines.storage import filesystem, locations
from segmodel.errors import (
    BeamsegError,
    ConfigurationError,
    FailureCode,
    InputError,
    TransientError,
)
from segmodel.images.tiff import is_tiff
from segmodel.rasters.completeness import last_block, shortage_of
from segmodel.rasters.header import Header, at_location, header_of
from segmodel.rasters.opening import GDAL_ERRORS
from segmodel.rasters.world_files import MASK_SUFFIX, check_sidecars, with_place
from segmodel.tiling.windows import Window

# Of 40,000 scenes, every header is read once.
MAX_HEADERS = 50_000
_HEADER_THREADS, _HEADERS_AT_ONCE = 8, 256


def read_header(uri: str, version: str = "") -> Header:
    """The header of a scene.

    Args:
        uri: Location of the scene.
        version: Version that a scene in a store must still have, as it is planned; empty for any.

    Raises:
        InputError: If GDAL cannot open the file.
        TransientError: If GDAL may be able to open it later.
    """
    return OPENER.with_retries(uri, lambda: _header_at(uri, version))


class Headers:
    """Headers of scenes, each of which is read once for every version of its file.

    Copies that were pickled are the same object in the process that made it, so that a run in one
    process reads each header once. In another process all copies are one object that begins empty.

    Args:
        crs: Coordinate reference system of scenes that have a transform and state none, in words
            that `parse_crs` understands; None leaves them without.
        key: Name by which copies find the object; None makes one up.
    """

    def __init__(self, crs: str | None = None, key: str | None = None) -> None:
        self._key, self._crs = key or uuid.uuid4().hex, crs
        self._read = lru_cache(MAX_HEADERS)(read_header)
        _HEADERS[self._key] = self

    def __reduce__(self) -> tuple[Callable[..., "Headers"], tuple[str | None, str]]:
        return _headers_of_process, (self._crs, self._key)

    def read(self, file: InputFile) -> Header:
        """The header of a scene.

        Raises:
            InputError: If GDAL cannot open the file; an address in it has the name in tables.
            TransientError: If GDAL may be able to open it later.
        """
        try:
            header = self._read(file.uri, "" if file.gone else file.version)
        except InputError as error:
            reason = at_location(error.text, os.path.basename(file.uri.strip('"')), file.key)
            raise InputError(reason, code=error.code) from error
        if self._crs is None or not header.lacks_crs:
            return header
        return replace(header, grid=replace(header.grid, crs=parse_crs(self._crs)))

    def find(self, file: InputFile) -> Header | None:
        """The header, or None where the scene cannot be opened, which its unit then reports."""
        with suppress(InputError, TransientError):
            return self.read(file)
        return None

    def find_all(self, files: Iterable[InputFile]) -> Iterator[tuple[InputFile, Header | None]]:
        """Files with their headers or None, in order; read by several threads, some at a time."""
        rest = iter(files)
        with ThreadPoolExecutor(_HEADER_THREADS) as pool:
            while page := list(islice(rest, _HEADERS_AT_ONCE)):
                yield from zip(page, pool.map(self.find, page), strict=True)


# By key, so that copies of one object find it; what nobody uses any more is not kept.
_HEADERS: "WeakValueDictionary[str, Headers]" = WeakValueDictionary()


def _headers_of_process(crs: str | None, key: str) -> Headers:
    return _HEADERS.get(key) or Headers(crs, key)


@lru_cache(8)
def parse_crs(text: str) -> CRS:
    """The coordinate reference system of `--crs`.

    Raises:
        ConfigurationError: If it is none.
    """
    try:
        with rasterio.Env():
            return CRS.from_user_input(text)
    except GDAL_ERRORS as error:
        raise ConfigurationError(
            f"--crs {text}: no coordinate reference system: write one such as EPSG:25833"
        ) from error


def _header_at(uri: str, version: str) -> Header:
    if os.path.islink(uri) and not os.path.exists(uri):
        raise InputError("it is a link that leads nowhere", code=FailureCode.NOT_FOUND)
    try:
        header = _opened_header(uri, version)
    except InputError:
        # GDAL does not open an image whose world file it cannot read.
        check_sidecars(uri, os.path.lexists, filesystem.read_bytes)
        raise
    # A copy is one of one file, and the version of a stack is that of all its files.
    is_alone = locations.is_copied(uri) or locations.stack_parts(uri) is not None
    return replace(header, others=() if is_alone else sources_of(uri, header.others))


def _opened_header(uri: str, version: str) -> Header:
    what = "the header of the scene cannot be read"
    with OPENER.errors(uri, what), OPENER.env(uri):
        opened = OPENER.open(uri, version)
        with opened as source:
            header = with_place(header_of(source), uri, opened.has_file, filesystem.read_bytes)
            return replace(header, shortage=shortage_of(source, uri, OPENER))


def last_stored(uri: str, header: Header) -> Window | None:
    """The part of a scene that ends last in its file, without which the file was cut.

    Args:
        uri: Location of the scene.
        header: Header of the scene.

    Returns:
        A window; None where the file does not say it.
    """
    if header.mask == "mask":
        # It is stored in places of its own.
        return None
    # What cannot be opened is an error once its pixels are read.
    what = "cannot be read"
    with (
        suppress(BeamsegError),
        OPENER.errors(uri, what),
        OPENER.env(uri),
        OPENER.open(uri) as source,
    ):
        return last_block(source)
    return None


# Of VRTs that name other VRTs, and of the text of one.
MAX_FILES, MAX_CHARACTERS = 100_000, 1 << 28
_SOURCE = re.compile(r"<Source(?:Filename|Dataset)([^>]*)>([^<]*)</Source(?:Filename|Dataset)>")


def sources_of(uri: str, files: Iterable[str]) -> tuple[str, ...]:
    """Other files that a scene is read from, in order of their names.

    GDAL lists the sources of a VRT, but neither the sources of VRTs among them nor those of masks
    of bands, nor the masks beside a source.

    Args:
        uri: Location of the scene.
        files: Files that GDAL lists for it.
    """
    found: dict[str, None] = {}
    ahead = [uri, *map(location_of, files)]
    while ahead and len(found) < MAX_FILES:
        path = ahead.pop()
        if path in found:
            continue
        found[path] = None
        # Where GDAL looks for the mask of a raster, and for what its own header does not say.
        ahead += filter(filesystem.exists, (f"{path}.msk", f"{path}.aux.xml"))
        if path.lower().endswith(".vrt"):
            ahead += _sources_in(path)
    return tuple(sorted(set(found) - {uri}))


def _sources_in(path: str) -> Iterator[str]:
    """Files that a VRT names as its sources."""
    try:
        found = filesystem.stat(path)
        if found is None:
            return
        text = filesystem.read_range(path, 0, MAX_CHARACTERS, found.stat).decode("utf-8", "replace")
    except (FileNotFoundError, PermissionError):
        return
    for attributes, name in _SOURCE.findall(text):
        source = html.unescape(name).strip()
        is_relative = re.search(r"relativeTo(?:VRT|Vrt)\s*=\s*[\"']1", attributes) is not None
        here = location_of(os.path.join(os.path.dirname(path), source) if is_relative else source)
        if not locations.scheme_of(here) or locations.is_remote(here):
            yield here


def with_others(file: InputFile, others: Sequence[str]) -> InputFile:
    """A file with a version that changes with other files.

    Args:
        file: The file.
        others: Locations of the others; where there is none, the file is as it was.
    """
    if not others:
        return file
    states = [(os.path.basename(name), *_state(name)) for name in others]
    digest = hashlib.sha256(repr(states).encode()).hexdigest()[:16]
    return replace(file, version=f"{file.version}-{digest}")


def mask_beside(uri: str) -> bytes | None:
    """The content of the `.msk` file beside a TIFF; None where there is none."""
    path = uri + MASK_SUFFIX
    if not is_tiff(uri) or locations.is_read_by_gdal(uri):
        return None
    found = filesystem.stat(path)
    return None if found is None else filesystem.read_bytes(path, found.stat)


def _state(uri: str) -> tuple[int, str]:
    """Size and version; nothing if it may not be asked for."""
    try:
        found = filesystem.stat(uri)
    except PermissionError:
        found = None
    return (0, "") if found is None else found.stat

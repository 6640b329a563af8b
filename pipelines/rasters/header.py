"""Headers of scenes, each read once, and what else a scene is read from."""

import hashlib
import os
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
from rasterio.errors import CRSError

from pipelines.rasters.gdal import OPENER, StoreOpener
from pipelines.rasters.reach import Reach
from pipelines.rasters.sources import sources_of
from pipelines.run.plan import InputFile
from pipelines.storage import filesystem, locations
from segmodel.errors import (
    BeamsegError,
    ConfigurationError,
    FailureCode,
    InputError,
    TransientError,
)
from segmodel.rasters.completeness import last_block, shortage_of
from segmodel.rasters.header import Header, at_location, header_of
from segmodel.rasters.opening import GDAL_ERRORS
from segmodel.rasters.world_files import MASK_SUFFIX, MAX_SIDECAR_BYTES, check_sidecars, with_place
from segmodel.tiling.windows import Window

# Of 40,000 scenes, every header is read once.
MAX_HEADERS = 50_000
_HEADER_THREADS, _HEADERS_AT_ONCE = 8, 256


def read_header(uri: str, version: str = "", reach: Reach | None = None) -> Header:
    """The header of a scene.

    Args:
        uri: Location of the scene.
        version: Version that a scene in a store must still have, as it is planned; empty for any.
        reach: Where it may be read from, or None for anywhere.

    Raises:
        InputError: If GDAL cannot open the file.
        TransientError: If GDAL may be able to open it later.
    """
    return OPENER.with_retries(uri, lambda: _header_at(uri, version, reach))


class Headers:
    """Headers of scenes, each of which is read once for every version of its file.

    Copies that were pickled are the same object in the process that made it, so that a run in one
    process reads each header once. In another process all copies are one object that begins empty.

    Args:
        crs: Coordinate reference system of scenes that have a transform and state none, in words
            that `parse_crs` understands; None leaves them without.
        key: Name by which copies find the object; None makes one up.
        reach: Where scenes may be read from, or None for anywhere.
    """

    def __init__(
        self, crs: str | None = None, key: str | None = None, reach: Reach | None = None
    ) -> None:
        self._key, self._crs, self._reach = key or uuid.uuid4().hex, crs, reach
        self._read = lru_cache(MAX_HEADERS)(read_header)
        _HEADERS[self._key] = self

    def __reduce__(self) -> tuple[Callable[..., "Headers"], tuple[str | None, str, Reach | None]]:
        return _headers_of_process, (self._crs, self._key, self._reach)

    def read(self, file: InputFile) -> Header:
        """The header of a scene.

        Raises:
            InputError: If GDAL cannot open the file; an address in it has the name in tables.
            TransientError: If GDAL may be able to open it later.
        """
        try:
            header = self._read(file.uri, "" if file.gone else file.version, self._reach)
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


def _headers_of_process(crs: str | None, key: str, reach: Reach | None) -> Headers:
    return _HEADERS.get(key) or Headers(crs, key, reach)


@lru_cache(8)
def parse_crs(text: str) -> CRS:
    """The coordinate reference system of `--crs`.

    Raises:
        ConfigurationError: If it is none.
    """
    try:
        with rasterio.Env():
            found = CRS.from_user_input(text)
            if found.to_wkt().startswith("VERT"):
                raise CRSError("heights alone are no places")
    except GDAL_ERRORS as error:
        raise ConfigurationError(
            f"--crs {text}: no coordinate reference system: write one such as EPSG:25833"
        ) from error
    return found


def _header_at(uri: str, version: str, reach: Reach | None) -> Header:
    if os.path.islink(uri) and not os.path.exists(uri):
        raise InputError("it is a link that leads nowhere", code=FailureCode.NOT_FOUND)
    try:
        header = _opened_header(uri, version, reach)
    except InputError:
        # GDAL does not open an image whose world file it cannot read.
        check_sidecars(uri, os.path.lexists, _beginning)
        raise
    # A copy is one of one file, and the version of a stack is that of all its files.
    is_alone = locations.is_copied(uri) or locations.stack_parts(uri) is not None
    return replace(header, others=() if is_alone else sources_of(uri, header.others))


def _opened_header(uri: str, version: str, reach: Reach | None) -> Header:
    what = "the header of the scene cannot be read"
    opener = OPENER if reach is None else StoreOpener(guard=reach.guard)
    with OPENER.errors(uri, what), OPENER.env(uri):
        opened = opener.open(uri, version)
        with opened as source:
            header = with_place(header_of(source), uri, opened.has_file, _beginning)
            return replace(header, shortage=shortage_of(source, uri, OPENER))


def _beginning(path: str) -> bytes:
    return filesystem.read_range(path, 0, MAX_SIDECAR_BYTES + 1)


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


def mask_beside(file: InputFile) -> bytes | None:
    """The content of the `.msk` file beside an image; None where its version says that none is."""
    if locations.is_read_by_gdal(file.uri) or not file.has_others:
        return None
    path = file.uri + MASK_SUFFIX
    found = filesystem.stat(path)
    return None if found is None else filesystem.read_bytes(path, found.stat)


def _state(uri: str) -> tuple[int, str]:
    """Size and version; nothing if it may not be asked for."""
    try:
        found = filesystem.stat(uri)
    except PermissionError:
        found = None
    return (0, "") if found is None else found.stat

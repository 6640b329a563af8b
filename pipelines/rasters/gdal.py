"""Rasters as GDAL opens them where scenes are: here, on the web, and in stores."""

import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar
from zipfile import BadZipFile, ZipFile

import rasterio

from pipelines.rasters.stores import StoredRaster
from pipelines.rasters.tiff_blocks import BlockReads
from pipelines.run.failures import code_of, reason_of
from pipelines.storage import filesystem, locations
from pipelines.storage.clients.retry import retry_transient
from pipelines.storage.copies import COPIES
from segmodel.errors import BeamsegError, FailureCode, InputError, TransientError, is_transient
from segmodel.rasters.directories import check_file
from segmodel.rasters.opening import (
    GDAL_ERRORS,
    THROUGH_US,
    Opener,
    OpenRaster,
    only_raster,
    reason_of_gdal,
)
from segmodel.tiling.windows import Window

# In which GDAL decodes and encodes the tiles of one raster.
CODEC_THREADS = min(4, os.cpu_count() or 1)
# On the web, GDAL asks again by itself where a server says that it is busy; what it gives up,
# `StoreOpener` does again.
_WEB_OPTIONS = {
    "GDAL_HTTP_MAX_RETRY": 2,
    "GDAL_HTTP_RETRY_DELAY": 0.5,
    "GDAL_HTTP_CONNECTTIMEOUT": 20,
    "GDAL_HTTP_TIMEOUT": 120,
}
# What is NetCDF by its name, and how large it may be in a store.
_NETCDF_SUFFIXES = (".nc", ".nc2", ".nc3", ".nc4", ".cdf")
MAX_COPIED_BYTES = 1 << 30
# What a server or the network says that may answer later, and what it will say again.
_TRANSIENT = re.compile(r"(?i)response code\D*(?:429|5\d\d)|time[d ]*out|resolve host|connection")
# A file in an archive on this machine, in GDAL's notation.
_ZIPPED = re.compile(r"(?i)/vsizip/(.+?\.zip)/(.+)")
_NO_RANGES = "Range downloading not supported"
_REFUSED = re.compile(r"(?i)response code\D*4(?!29)\d\d")

T = TypeVar("T")


class StoredOpenRaster(OpenRaster):
    """A raster that is open, and may be in a store.

    Args:
        source: Open dataset.
        stored: What GDAL reads it through, if it is in a store, else None.
    """

    def __init__(self, source: rasterio.DatasetReader, stored: StoredRaster | None) -> None:
        super().__init__(source)
        self._stored, self._blocks = stored, BlockReads(source)

    def expect(self, window: Window, indexes: Sequence[int]) -> None:
        """Have blocks of a GeoTIFF in a store asked for together, as GDAL asks for one by one."""
        if self._stored is not None and self.source.driver == "GTiff":
            self._stored.expect(self._blocks.extents(window, indexes))

    def has_file(self, path: str) -> bool:
        """Whether there is a file; beside a raster in a store, as its listing shows."""
        return super().has_file(path) if self._stored is None else self._stored.isfile(path)

    def check(self) -> None:
        """Raise what a request to the store has failed with; GDAL may have gone on without it.

        Raises:
            InputError: If the store does not give it.
            TransientError: If the store may give it later.
        """
        fault = None if self._stored is None else self._stored.fault()
        if isinstance(fault, OSError):
            kind = TransientError if is_transient(fault) else InputError
            raise kind(
                f"the scene cannot be read: {reason_of(fault)}", code=code_of(fault)
            ) from fault
        if fault is not None:
            raise fault


class StoreOpener(Opener):
    """Opens scenes: files, objects in stores, and what is on the web."""

    def env(self, uri: str, **options: object) -> rasterio.Env:
        """GDAL's settings to read a location; see `Opener.env`."""
        more = _WEB_OPTIONS if _is_from_web(uri) else {}
        return super().env(uri, **{**more, **options})

    def _open(self, uri: str, version: str) -> StoredOpenRaster:
        """A scene, open.

        Args:
            uri: Location of the scene.
            version: Version that a scene in a store must still have, as it is planned; empty for
                any.

        Raises:
            InputError: If GDAL cannot open the file.
            TransientError: If it is behind a network and may be opened later, or was replaced.
        """
        stack = locations.stack_parts(uri)
        if stack is not None:
            return self._open_stack(*stack)
        if locations.is_copied(uri):
            # What is open stays readable, also when its copy is removed.
            with COPIES.path(uri, version) as path:
                return self._open(path, "")
        if not locations.is_remote(uri):
            return self._opened(uri, uri, None)
        locations.check_parts(uri)
        if uri.lower().endswith(_NETCDF_SUFFIXES):
            return self._open_copy(uri, version)
        return self._opened(uri, uri, StoredRaster(uri, version))

    def _open_copy(self, uri: str, version: str) -> StoredOpenRaster:
        """An object that is copied, as GDAL waits for ever where it reads NetCDF through us."""
        found = filesystem.stat(uri)
        if found is None:
            raise InputError("there is no such object", code=FailureCode.NOT_FOUND)
        if found.size > MAX_COPIED_BYTES:
            raise InputError(
                f"a NetCDF file in a store is copied before it is read, and its {found.size} bytes "
                f"are more than {MAX_COPIED_BYTES}: copy it to a local folder",
                code=FailureCode.TOO_LARGE,
            )
        with COPIES.path(uri, version) as path:
            return self._opened(path, uri, None)

    def _open_stack(self, place: str, content: str) -> StoredOpenRaster:
        failure = locations.stack_failure(content)
        if failure is not None:
            raise InputError(failure[1], code=FailureCode(failure[0]))
        if locations.is_remote(place):
            return self._opened(place, place, StoredRaster(place, content=content.encode()))
        return self._opened(content, place, None)

    def _opened(self, name: str, uri: str, stored: StoredRaster | None) -> StoredOpenRaster:
        """What GDAL opens by a name.

        Args:
            name: Path, address, or text of a VRT.
            uri: Location, for errors.
            stored: What GDAL reads it through, if it is in a store, else None.

        Raises:
            InputError: If GDAL cannot open it, and as `check_file` does.
            TransientError: If it may be opened later.
        """
        if stored is None:
            check_file(name)
        else:
            stored.check(uri)
        try:
            opener = {} if stored is None else {"opener": stored}
            source = rasterio.open(name, **opener)
            # Subdatasets have addresses, and what is in a store none that GDAL can read.
            opened = StoredOpenRaster(only_raster(source) if stored is None else source, stored)
        except GDAL_ERRORS as error:
            fault = None if stored is None else stored.fault()
            if isinstance(fault, BeamsegError):
                raise fault from error
            if fault is not None and is_transient(fault):
                raise TransientError(f"the scene cannot be opened: {reason_of(fault)}") from error
            code = FailureCode.CANNOT_OPEN
            raise self.unreadable(
                fault or error, uri, "the scene cannot be opened", code
            ) from error
        try:
            opened.check()
        except BeamsegError:
            opened.close()
            raise
        return opened

    def place(self, uri: str) -> str:
        """The path or address that sources of a VRT are relative to."""
        stack = locations.stack_parts(uri)
        return uri if stack is None else stack[0]

    def size(self, uri: str) -> int | None:
        """Bytes of a file, object or file in a ZIP archive; None for what only GDAL can find."""
        if zipped := _ZIPPED.fullmatch(uri):
            with suppress(OSError, KeyError, BadZipFile), ZipFile(zipped[1]) as archive:
                return archive.getinfo(zipped[2]).file_size
            return None
        if locations.is_copied(uri):
            with COPIES.path(uri) as path:
                return super().size(path)
        if not locations.is_remote(uri):
            return super().size(uri)
        found = filesystem.stat(locations.normalized(uri))
        return None if found is None else found.size

    def read_bytes(self, uri: str, count: int, start: int = 0) -> bytes:
        """Bytes of a file, object or file in a ZIP archive; see `Opener.read_bytes`."""
        if zipped := _ZIPPED.fullmatch(uri):
            try:
                with ZipFile(zipped[1]) as archive, archive.open(zipped[2]) as stream:
                    stream.seek(start)
                    return stream.read(count)
            except (KeyError, BadZipFile) as error:
                raise InputError(
                    f"the archive cannot be read: {error}", code=FailureCode.CANNOT_READ
                ) from error
        stack = locations.stack_parts(uri)
        if stack is not None:
            return stack[1].encode()[start : start + count]
        if locations.is_copied(uri):
            with COPIES.path(uri) as path:
                return super().read_bytes(path, count, start)
        place = locations.normalized(uri)
        found = filesystem.stat(place) if locations.is_remote(uri) else None
        return filesystem.read_range(place, start, count, None if found is None else found.stat)

    def state(self, uri: str) -> object:
        """The same for all: a scene is read as it was opened, and its version is in the plan."""
        return None

    def unreadable(
        self, error: Exception, uri: str, what: str, code: FailureCode = FailureCode.CANNOT_READ
    ) -> BeamsegError:
        """As `Opener.unreadable`; what comes from the web may be there a little later.

        What the store says has a code of its own.
        """
        reason = reason_of_gdal(error, uri)
        if _NO_RANGES in reason:
            # What a raster here is made of is no input, and not copied.
            remedy = "copy it with --copy_web SIZE, or " if _is_from_web(uri) else ""
            text = f"{what}: its web server gives no byte ranges: {remedy}download it"
            return InputError(text, code=FailureCode.NO_RANGES)
        is_from_network = _is_from_web(uri) or _TRANSIENT.search(reason) is not None
        is_other = "not recognized" in reason or _REFUSED.search(reason) is not None
        kind = TransientError if is_from_network and not is_other else InputError
        known = code_of(error) if isinstance(error, OSError) else FailureCode.CANNOT_READ
        return kind(f"{what}: {reason}", code=code if known == FailureCode.CANNOT_READ else known)

    def with_retries(self, uri: str, read: Callable[[], T]) -> T:
        """What an action reads of a raster; transient errors of the web are retried.

        What is in a store is read by a client that retries by itself.

        Raises:
            TransientError: The error of the last attempt.
        """
        return retry_transient(read) if _is_from_web(uri) else read()


OPENER = StoreOpener()


def _is_from_web(uri: str) -> bool:
    """Whether GDAL reads a file from the web, and no copy of it."""
    return locations.is_read_by_gdal(uri) and not locations.is_copied(uri)


def location_of(path: str) -> str:
    """The location of what GDAL calls by a path.

    >>> location_of("/vsiriopener_4f/gs://bucket/a.tif.msk"), location_of("data/a.tif")
    ('gs://bucket/a.tif.msk', 'data/a.tif')
    """
    return locations.normalized(THROUGH_US.sub("", path))

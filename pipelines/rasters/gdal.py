"""Rasters as GDAL opens them: here, on the web, and in stores."""

import os
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

import numpy as np
import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window as RasterioWindow

from pipelines.rasters.stores import StoredRaster
from pipelines.run.failures import code_of, is_transient, reason_of
from pipelines.storage import locations
from pipelines.storage.clients.interface import RequestFailure
from pipelines.storage.clients.retry import ATTEMPTS, retry
from segmodel.errors import BeamsegError, FailureCode, InputError, TransientError
from segmodel.tiling.windows import Window

# A size, not a share of the machine: the same on every worker. rasterio hands it to GDAL as bytes,
# not as GDAL's option of that name, which is in megabytes.
CACHE_BYTES = 128 << 20
GDAL_OPTIONS = {"GDAL_CACHEMAX": CACHE_BYTES, "GDAL_NUM_THREADS": 1}
# On the web, GDAL asks again by itself where a server says that it is busy; what it gives up,
# `read_with_retries` does again.
_WEB_OPTIONS = {
    "GDAL_HTTP_MAX_RETRY": 2,
    "GDAL_HTTP_RETRY_DELAY": 0.5,
    "GDAL_HTTP_CONNECTTIMEOUT": 20,
    "GDAL_HTTP_TIMEOUT": 120,
}
# What GDAL calls a file that it reads through us.
_THROUGH_US = re.compile(r"^/vsi\w*opener[^/]*/")
_THROUGH_US_IN_TEXT = re.compile(r"/vsi\w*opener[^/]*/")
# Of an absolute path, what stands before its last part.
_FOLDERS = re.compile(r"(?<![\w./])/[^:'\"`\n]*/")
# Errors of a reference system, and text that is no UTF-8, are ValueErrors; some errors of GDAL come
# as rasterio found them.
GDAL_ERRORS = (RasterioError, CPLE_BaseError, ValueError)
# What a server or the network says that may answer later, and what it will say again.
_TRANSIENT = re.compile(r"(?i)response code\D*(?:429|5\d\d)|time[d ]*out|resolve host|connection")
_REFUSED = re.compile(r"(?i)response code\D*4(?!29)\d\d")

T = TypeVar("T")


class OpenRaster:
    """A raster that is open; as a context it is the dataset, and closed at the end.

    Args:
        source: Open dataset.
        stored: What GDAL reads it through, if it is in a store, else None.
    """

    def __init__(self, source: rasterio.DatasetReader, stored: StoredRaster | None) -> None:
        self.source, self._stored = source, stored

    def __enter__(self) -> rasterio.DatasetReader:
        return self.source

    def __exit__(self, *caught: object) -> None:
        self.close()
        self.check()

    @contextmanager
    def reading(self) -> Iterator[rasterio.DatasetReader]:
        """The dataset; once the block ends, what was read counts only if all of it arrived.

        Raises:
            InputError: If the store does not give it.
            TransientError: If the store may give it later.
        """
        try:
            yield self.source
        finally:
            self.check()

    def check(self) -> None:
        """Raise what a request to the store has failed with; GDAL may have gone on without it."""
        fault = None if self._stored is None else self._stored.fault()
        if isinstance(fault, OSError):
            kind = TransientError if is_transient(fault) else InputError
            raise kind(
                f"the scene cannot be read: {reason_of(fault)}", code=code_of(fault)
            ) from fault
        if fault is not None:
            raise fault

    def close(self) -> None:
        """Close the dataset."""
        self.source.close()


def location_of(path: str) -> str:
    """The location of what GDAL calls by a path.

    >>> location_of("/vsiriopener_4f/gs://bucket/a.tif.msk"), location_of("data/a.tif")
    ('gs://bucket/a.tif.msk', 'data/a.tif')
    """
    return locations.normalized(_THROUGH_US.sub("", path))


def gdal_env(uri: str, **options: object) -> rasterio.Env:
    """GDAL's settings to read a location.

    Args:
        uri: Location to read.
        options: GDAL options, in place of those that all rasters are read with.
    """
    more = _WEB_OPTIONS if locations.is_read_by_gdal(uri) else {}
    return rasterio.Env(**{**GDAL_OPTIONS, **more, **options})


def open_scene(uri: str, version: str = "") -> OpenRaster:
    """A scene, open.

    Args:
        uri: Location of the scene.
        version: Version that a scene in a store must still have, as it is planned; empty for any.

    Raises:
        InputError: If GDAL cannot open the file.
        TransientError: If it is behind a network and may be opened later, or was replaced.
    """
    stored = StoredRaster(uri, version) if locations.is_remote(uri) else None
    try:
        with without_warnings():
            opener = {} if stored is None else {"opener": stored}
            opened = OpenRaster(rasterio.open(uri, **opener), stored)
    except GDAL_ERRORS as error:
        fault = None if stored is None else stored.fault()
        if isinstance(fault, BeamsegError):
            raise fault from error
        if fault is not None and is_transient(fault):
            raise TransientError(f"the scene cannot be opened: {reason_of(fault)}") from error
        raise unreadable(
            fault or error, uri, "the scene cannot be opened", FailureCode.CANNOT_OPEN
        ) from error
    try:
        opened.check()
    except BeamsegError:
        opened.close()
        raise
    return opened


def without_warnings() -> AbstractContextManager[None]:
    """Nothing is said of rasters without a place.

    Filters of warnings are those of all threads: where several read headers, it is also around all
    of them.
    """
    return warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning)


def unreadable(
    error: Exception, uri: str, what: str, code: FailureCode = FailureCode.CANNOT_READ
) -> BeamsegError:
    """What to raise where GDAL cannot read; what comes from the web may be there a little later.

    Args:
        error: Error of GDAL or of the store.
        uri: Location of the raster.
        what: What failed, for the text.
        code: Code of the failure; what the store says has its own.
    """
    reason = reason_of_gdal(error, uri)
    is_from_network = locations.is_read_by_gdal(uri) or _TRANSIENT.search(reason) is not None
    is_other = "not recognized" in reason or _REFUSED.search(reason) is not None
    kind = TransientError if is_from_network and not is_other else InputError
    known = code_of(error) if isinstance(error, OSError) else FailureCode.CANNOT_READ
    return kind(f"{what}: {reason}", code=code if known == FailureCode.CANNOT_READ else known)


def reason_of_gdal(error: BaseException, uri: str) -> str:
    """What GDAL says is wrong, with names of files in place of their paths."""
    innermost = error
    while innermost.__cause__ is not None:
        innermost = innermost.__cause__
    if isinstance(innermost, OSError) and innermost.strerror:
        return innermost.strerror
    reason = _THROUGH_US_IN_TEXT.sub("", str(innermost)).replace(uri, os.path.basename(uri))
    reason = reason.replace(os.path.join(os.path.dirname(os.path.abspath(uri)), ""), "")
    # Sources of a VRT may be anywhere.
    return _FOLDERS.sub("", reason)


def read_with_retries(uri: str, read: Callable[[], T]) -> T:
    """What an action reads of a raster; transient errors of the web are retried.

    What is in a store is read by a client that retries by itself.

    Raises:
        TransientError: The error of the last attempt.
    """

    def meaning(error: Exception) -> RequestFailure | None:
        return RequestFailure(error, transient=isinstance(error, TransientError))

    return retry(read, meaning, ATTEMPTS) if locations.is_read_by_gdal(uri) else read()


def read_pixels(
    uri: str,
    what: str,
    bands: int | list[int],
    window: Window | None,
    shape: tuple[int, ...] | None,
) -> np.ndarray:
    """Pixels of a raster that is opened for them only; transient errors of the web are retried.

    Args:
        uri: Location of the raster.
        what: What is wrong where they cannot be read.
        bands: Number of a band from 1, or of several.
        window: Part of the raster to read, or None for all of it.
        shape: Shape of the result, or None for that of the window; with fewer rows and columns,
            GDAL leaves some out.

    Returns:
        `(height, width)`, or `(bands, height, width)` for several bands, of the raster's dtype.
    """

    def read() -> np.ndarray:
        part = None if window is None else gdal_window(window)
        try:
            with gdal_env(uri), open_scene(uri) as source:
                return np.asarray(source.read(bands, window=part, out_shape=shape))
        except GDAL_ERRORS as error:
            raise unreadable(error, uri, what) from error

    return read_with_retries(uri, read)


def gdal_window(window: Window) -> RasterioWindow:
    """A window as GDAL takes it."""
    return RasterioWindow(window.column, window.row, window.width, window.height)

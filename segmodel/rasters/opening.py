"""How GDAL opens rasters: its settings, its errors, and where files are."""

from __future__ import annotations

import os
import re
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window as RasterioWindow

from segmodel.devices.startup import silence_hdf5
from segmodel.errors import BeamsegError, FailureCode, InputError
from segmodel.escaping import without_credentials
from segmodel.rasters.directories import check_file
from segmodel.tiling.windows import Window

# A size, not a share of the machine: the same on every worker. rasterio hands it to GDAL as bytes,
# not as GDAL's option of that name, which is in megabytes.
CACHE_BYTES = 128 << 20
# A VRT runs no Python, whatever the environment says.
GDAL_OPTIONS = {
    "GDAL_CACHEMAX": CACHE_BYTES,
    "GDAL_NUM_THREADS": 1,
    "GDAL_VRT_ENABLE_PYTHON": False,
}
# Errors of a reference system, and text that is no UTF-8, are ValueErrors; some errors of GDAL come
# as rasterio found them.
GDAL_ERRORS = (RasterioError, CPLE_BaseError, ValueError)
# What GDAL calls a file that it reads through us.
THROUGH_US = re.compile(r"/vsi\w*opener[^/]*/")
# Of an absolute path, what stands before its last part.
_FOLDERS = re.compile(r"(?<![\w./])/[^:'\"`\n]*/")

# Subdatasets of which each is opened to see whether it is a raster.
_MAX_SUBDATASETS = 64
_NO_RASTER = re.compile(r"(?i)_(?:bnds|bounds|vertices)$")

T = TypeVar("T")
# Whether GDAL has failed in this process.
_met_error = threading.Event()


def check_sources(
    source: rasterio.DatasetReader, indexes: Sequence[int], area: RasterioWindow
) -> None:
    """Raise where a VRT could not be read and GDAL did not say so.

    It tells once that it cannot open a source. While any VRT is open in the process, it fails
    without an error from then on, and rasterio gives zeros; a checksum does not.

    Args:
        source: Open raster, of which a part was read.
        indexes: Indexes of the bands that were read.
        area: Part that was read.

    Raises:
        RasterioError: If a source cannot be read.
    """
    if source.driver == "VRT" and _met_error.is_set():
        for index in indexes:
            source.checksum(index, window=area)


class OpenRaster:
    """A raster that is open; as a context it is the dataset, and closed at the end.

    Args:
        source: Open dataset.
    """

    def __init__(self, source: rasterio.DatasetReader) -> None:
        self.source = source

    def __enter__(self) -> rasterio.DatasetReader:
        return self.source

    def __exit__(self, *caught: object) -> None:
        self.close()
        self.check()

    @contextmanager
    def reading(self) -> Iterator[rasterio.DatasetReader]:
        """The dataset; once the block ends, what was read counts only if all of it arrived.

        Raises:
            BeamsegError: What `check` raises.
        """
        try:
            yield self.source
        finally:
            self.check()

    def expect(self, window: Window, indexes: Sequence[int]) -> None:
        """Note that a window is read next, at its full size; of a file there is nothing to do.

        Args:
            window: Part of the raster.
            indexes: Indexes of its bands.
        """

    def has_file(self, path: str) -> bool:
        """Whether there is a file, such as one beside the raster."""
        return os.path.lexists(path)

    def check(self) -> None:
        """Raise what GDAL may have gone on without; of a file there is nothing."""

    @property
    def overview_file(self) -> str | None:
        """The file or address that its metadata names for overviews, which GDAL opens if asked."""
        name: str | None = self.source.tags(ns="OVERVIEWS").get("OVERVIEW_FILE")
        return name

    def close(self) -> None:
        """Close the dataset."""
        self.source.close()


# Opens a raster at a location by a function, unless it may not be read.
Guard = Callable[[str, Callable[[], OpenRaster]], OpenRaster]


class Opener:
    """Opens rasters: here, files by their path.

    Rasters elsewhere need an opener of their own, which says how GDAL reads them, which of its
    errors are transient, and makes an action again after one of those.

    Args:
        cache_bytes: Size of GDAL's cache of blocks, which all rasters of the process share.
        guard: Refuses rasters that may not be read; None to open all.
    """

    def __init__(self, cache_bytes: int = CACHE_BYTES, guard: Guard | None = None) -> None:
        self._cache_bytes, self._guard = cache_bytes, guard

    def env(self, uri: str, **options: object) -> rasterio.Env:
        """GDAL's settings to read a location.

        Args:
            uri: Location to read.
            options: GDAL options, in place of those that all rasters are read with.
        """
        silence_hdf5()
        silence_rasterio()
        return rasterio.Env(**{**GDAL_OPTIONS, "GDAL_CACHEMAX": self._cache_bytes, **options})

    def open(self, uri: str, version: str = "") -> OpenRaster:
        """A raster, open.

        Args:
            uri: Location of the raster.
            version: Version that it must still have, where an opener can tell; empty for any.

        Raises:
            InputError: If GDAL cannot open it, or it may not be read.
        """
        if self._guard is None:
            return self._open(uri, version)
        return self._guard(uri, lambda: self._open(uri, version))

    def _open(self, uri: str, version: str) -> OpenRaster:
        check_file(uri)
        with self.errors(uri, "cannot be read"):
            return OpenRaster(only_raster(rasterio.open(uri)))

    def place(self, uri: str) -> str:
        """The path that sources of a VRT are relative to."""
        return uri

    def size(self, uri: str) -> int | None:
        """Bytes of a file, or None where that is not known."""
        try:
            return os.stat(uri).st_size
        except OSError:
            return None

    def read_bytes(self, uri: str, count: int, start: int = 0) -> bytes:
        """Bytes of a file from one on: `count`, or fewer at its end.

        Raises:
            OSError: If it cannot be read.
        """
        with open(uri, "rb") as stream:
            stream.seek(start)
            return stream.read(count)

    def state(self, uri: str) -> object:
        """What changes with a file, which is then opened anew.

        Raises:
            OSError: If it is not there.
        """
        status = os.stat(uri)
        return status.st_size, status.st_mtime_ns

    @contextmanager
    def errors(self, uri: str, what: str) -> Iterator[None]:
        """Have errors of GDAL in the block say what they mean; arguments as in `unreadable`."""
        try:
            yield
        except BeamsegError:
            raise
        except GDAL_ERRORS as error:
            _met_error.set()
            raise self.unreadable(error, uri, what) from error

    def unreadable(
        self, error: Exception, uri: str, what: str, code: FailureCode = FailureCode.CANNOT_READ
    ) -> BeamsegError:
        """What to raise where GDAL cannot read.

        Args:
            error: Error of GDAL.
            uri: Location of the raster.
            what: What is wrong, which the reason follows.
            code: Code of the failure.
        """
        return InputError(f"{what}: {reason_of_gdal(error, uri)}", code=code)

    def with_retries(self, uri: str, read: Callable[[], T]) -> T:
        """What an action reads of a raster; files are read once."""
        return read()


def only_raster(source: rasterio.DatasetReader) -> rasterio.DatasetReader:
    """The only raster that a file without bands of its own holds, open; else the file as it is.

    Bounds of cells and tables are no rasters: where several are left, and one of them alone has a
    place, it is that one.

    Args:
        source: Open file, which is closed if it is not returned.
    """
    if source.count or not 0 < len(source.subdatasets) <= _MAX_SUBDATASETS:
        return source
    names = [name for name in source.subdatasets if not _NO_RASTER.search(name)]
    found = {}
    for name in names:
        with rasterio.open(name) as part:
            found[name] = not part.transform.is_identity or part.crs is not None
    placed = [name for name, is_placed in found.items() if is_placed]
    only = names if len(names) == 1 else placed
    if len(only) != 1:
        return source
    source.close()
    return rasterio.open(only[0])


def silence_rasterio() -> None:
    """Have rasterio not warn of rasters without a place: headers say what they have.

    The filter stays. Filters are those of all threads, so that one thread that restores them would
    take away what others have set.
    """
    warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)


def reason_of_gdal(error: BaseException, uri: str) -> str:
    """What GDAL says is wrong, with names of files in place of their paths.

    It does not begin with the name of the raster itself, which callers know.

    >>> reason_of_gdal(ValueError("'in/a.tif' not recognized as an image"), "in/a.tif")
    'not recognized as an image'
    >>> reason_of_gdal(ValueError("/x/a.tif, band 1: b.ovr is cut"), "/x/a.tif")
    'band 1: b.ovr is cut'
    >>> reason_of_gdal(ValueError("/vsicurl/http://me:secret@a.org/b?sig=1 is cut"), "c.vrt")
    'http:b is cut'
    """
    innermost = error
    while innermost.__cause__ is not None:
        innermost = innermost.__cause__
    if isinstance(innermost, OSError) and innermost.strerror:
        return innermost.strerror
    if isinstance(innermost, UnicodeEncodeError):
        return "its name is not UTF-8, which GDAL needs: rename it"
    reason = THROUGH_US.sub("", str(innermost)).replace(uri, os.path.basename(uri))
    reason = without_credentials(reason)
    reason = reason.replace(os.path.join(os.path.dirname(os.path.abspath(uri)), ""), "")
    # Sources of a VRT may be anywhere.
    name = re.escape(os.path.basename(uri))
    return re.sub(rf"^['\"`]?{name}['\"]?[:,]? +", "", _FOLDERS.sub("", reason))


def gdal_window(window: Window) -> RasterioWindow:
    """A window as GDAL takes it."""
    return RasterioWindow(window.column, window.row, window.width, window.height)

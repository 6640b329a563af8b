"""TIFFs in memory: opened by the same reader as files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from uuid import uuid4

import rasterio
from rasterio.io import MemoryFile

from segmodel.errors import BeamsegError, FailureCode, InputError
from segmodel.rasters.opening import Opener, OpenRaster, reason_of_gdal
from segmodel.rasters.reader import RasterHandle
from segmodel.rasters.world_files import MASK_SUFFIX

_NAME = "image.tif"
_RAW = "GTIFF_RAW:"


@contextmanager
def tiff_in_memory(
    encoded: bytes, mask: bytes | None = None, raw: bool = False
) -> Iterator[RasterHandle]:
    """The handle of an encoded TIFF, while the block runs.

    Args:
        encoded: Content of the file.
        mask: Content of the `.msk` file beside it, or None where there is none.
        raw: Whether GDAL reads the bands as they are stored, and makes no colours of inks.

    Raises:
        InputError: In the block, if GDAL cannot read it.
    """
    folder = uuid4().hex
    with ExitStack() as files:
        named = (
            [(_NAME, encoded)] if mask is None else [(_NAME + MASK_SUFFIX, mask), (_NAME, encoded)]
        )
        for name, content in named:
            held = files.enter_context(MemoryFile(content, dirname=folder, filename=name))
        handle = RasterHandle(f"{_RAW}{held.name}" if raw else held.name, _MemoryOpener())
        files.callback(handle.close)
        yield handle


class _MemoryOpener(Opener):
    """Opens TIFFs in memory, and nothing else that GDAL would take them for."""

    def open(self, uri: str, version: str = "") -> OpenRaster:
        """A TIFF, open; see `Opener.open`."""
        with self.errors(uri, "cannot be opened"):
            return OpenRaster(rasterio.open(uri, driver="GTiff"))

    def size(self, uri: str) -> int | None:
        """Not known: a TIFF is held against its own header as it is read."""
        return None

    def state(self, uri: str) -> object:
        """The same for all: nobody replaces what is in memory."""
        return None

    def unreadable(
        self,
        error: Exception,
        uri: str,
        what: str,
        code: FailureCode = FailureCode.CORRUPT_IMAGE,
    ) -> BeamsegError:
        """That it cannot be decoded, as all of it is there; see `Opener.unreadable`."""
        return InputError(f"cannot be decoded: {reason_of_gdal(error, uri)}", code=code)

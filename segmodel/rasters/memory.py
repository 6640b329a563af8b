"""Images in memory: opened by the same reader as files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO
from uuid import uuid4

import numpy as np
import rasterio
from rasterio.io import MemoryFile

from segmodel.errors import BeamsegError, FailureCode, InputError
from segmodel.rasters.directories import check_directories
from segmodel.rasters.header import Header
from segmodel.rasters.opening import Opener, OpenRaster, gdal_window, reason_of_gdal
from segmodel.rasters.reader import RasterHandle, valid_by_mask
from segmodel.rasters.world_files import MASK_SUFFIX, takes_mask

_NAME = "image"
_RAW = "GTIFF_RAW:"


@contextmanager
def image_in_memory(
    encoded: bytes, mask: bytes | None = None, raw: bool = False, driver: str = "GTiff"
) -> Iterator[RasterHandle]:
    """The handle of an encoded image, while the block runs.

    Args:
        encoded: Content of the file.
        mask: Content of the `.msk` file beside it, or None where there is none.
        raw: Whether GDAL reads bands of a TIFF as they are stored, and makes no colours of inks.
        driver: Format of the image, as GDAL calls it.

    Raises:
        InputError: In the block, if GDAL cannot read it; else as `check_directories` does.
    """
    folder = uuid4().hex
    with ExitStack() as files:
        named = (
            [(_NAME, encoded)] if mask is None else [(_NAME + MASK_SUFFIX, mask), (_NAME, encoded)]
        )
        for name, content in named:
            check_directories(BytesIO(content), name.removeprefix(_NAME))
            held = files.enter_context(MemoryFile(content, dirname=folder, filename=name))
        handle = RasterHandle(f"{_RAW}{held.name}" if raw else held.name, _MemoryOpener(driver))
        files.callback(handle.close)
        yield handle


def check_mask(header: Header, mask: bytes) -> None:
    """Refuse a `.msk` file that GDAL would leave out, or that is of another image.

    Args:
        header: Header of the image, opened with the file beside it.
        mask: Content of the file.

    Raises:
        InputError: Says what to do.
    """
    remedy = "write it anew, or remove it if all pixels are valid"
    if not takes_mask(header):
        raise InputError(
            f"the .msk file beside it is no mask that GDAL reads: {remedy}",
            code=FailureCode.CANNOT_READ,
        )
    with image_in_memory(mask) as handle:
        grid = handle.header().grid
    if (grid.height, grid.width) != (header.grid.height, header.grid.width):
        raise InputError(
            f"the .msk file beside it has {grid.width}x{grid.height} pixels, the image "
            f"{header.grid.width}x{header.grid.height}: {remedy}",
            code=FailureCode.CANNOT_READ,
        )


def valid_by_mask_file(encoded: bytes, mask: bytes, driver: str) -> np.ndarray | None:
    """Where the `.msk` file beside an image says that pixels are valid; None where all are.

    Args:
        encoded: Content of the image.
        mask: Content of the file.
        driver: Format of the image, as GDAL calls it.

    Returns:
        `(height, width)` bool, of the image as it is stored.

    Raises:
        InputError: If GDAL cannot read the image, and as `check_mask` does.
    """
    with image_in_memory(encoded, mask, driver=driver) as handle:
        header = handle.header()
        check_mask(header, mask)
        grid = header.grid
        shape, area = (grid.height, grid.width), gdal_window(grid.window)

        def read(source: rasterio.DatasetReader) -> np.ndarray | None:
            return valid_by_mask(source, header.mask, None, source.indexes, area, shape)

        return handle.read(read, "its mask cannot be read")


class _MemoryOpener(Opener):
    """Opens images of one format in memory, and nothing else that GDAL would take them for."""

    def __init__(self, driver: str) -> None:
        super().__init__()
        self._driver = driver

    def _open(self, uri: str, version: str) -> OpenRaster:
        with self.errors(uri, "cannot be opened"):
            opened = OpenRaster(rasterio.open(uri, driver=self._driver))
        if opened.overview_file is not None:
            opened.close()
            raise InputError(
                "its metadata names a file or an address with overviews: write it anew with "
                "gdal_translate",
                code=FailureCode.NOT_TRUSTED,
            )
        return opened

    def size(self, uri: str) -> int | None:
        """Not known: an image is held against its own header as it is read."""
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

"""Which bytes of a GeoTIFF GDAL reads for windows, one after another."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
import rasterio
from rasterio.enums import Interleaving

from pipelines.storage.ranges import Extent
from segmodel.rasters.opening import CACHE_BYTES
from segmodel.tiling.windows import Window

# Band, row and column.
Block = tuple[int, int, int]


class BlockReads:
    """Blocks of a GeoTIFF that windows need and GDAL has not decoded.

    GDAL keeps what it decoded last, and that of other rasters with it. So it never keeps more than
    is taken for kept here: what is listed is read.

    Args:
        source: Open GeoTIFF.
    """

    def __init__(self, source: rasterio.DatasetReader) -> None:
        self._source, self._decoded = source, OrderedDict[Block, int]()
        self._decoded_bytes = 0

    def extents(self, window: Window, indexes: Sequence[int]) -> Iterator[Extent]:
        """Parts of the file that are read for a window, and are taken for decoded from then on.

        Args:
            window: Part of the raster.
            indexes: Indexes of its bands.
        """
        source = self._source
        is_by_pixel = source.interleaving == Interleaving.pixel
        samples = sum(
            np.dtype(dtype).itemsize for dtype in source.dtypes[: None if is_by_pixel else 1]
        )
        for band in indexes[:1] if is_by_pixel else indexes:
            height, width = source.block_shapes[band - 1]
            rows = range(window.row // height, -(-(window.row + window.height) // height))
            columns = range(window.column // width, -(-(window.column + window.width) // width))
            for row, column in product(rows, columns):
                if not self._was_decoded((band, row, column), height * width * samples):
                    offset, size = (
                        int(source.get_tag_item(f"BLOCK_{what}_{column}_{row}", "TIFF", band) or 0)
                        for what in ("OFFSET", "SIZE")
                    )
                    yield offset, offset + size

    def _was_decoded(self, block: Block, size: int) -> bool:
        """Whether a block was decoded lately; it is the last one now."""
        was_decoded = block in self._decoded
        if not was_decoded:
            self._decoded[block] = size
            self._decoded_bytes += size
        self._decoded.move_to_end(block)
        while self._decoded_bytes > CACHE_BYTES:
            self._decoded_bytes -= self._decoded.popitem(last=False)[1]
        return was_decoded

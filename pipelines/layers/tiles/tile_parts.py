"""What units of tiles leave for the archive: encoded tiles one after the other, and their index.

A part holds the tiles of a tier below one tile of its base zoom. At each zoom their numbers are one
contiguous range, so that parts are put together without sorting.
"""

import hashlib
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO

import numpy as np

from pipelines.storage import filesystem

# A tile of a part: its number in the archive, its bytes, and half of their SHA-256.
INDEX = np.dtype([("id", "<u8"), ("length", "<u4"), ("digest", "V16")])


@dataclass(frozen=True)
class TilePart:
    """Where a part is.

    Args:
        folder: Folder of the parts of a tier.
        name: Name of the unit that wrote it.
    """

    folder: str
    name: str

    @property
    def images(self) -> str:
        """File of the encoded tiles, in order of their numbers."""
        return f"{self.folder}/{self.name}.tiles"

    @property
    def index(self) -> str:
        """File of the index, and of the thinned labels that the next tier reads."""
        return f"{self.folder}/{self.name}.npz"

    def read_index(self) -> np.ndarray:
        """`(tiles,)` of `INDEX`, in order of their numbers."""
        return self._array("index")

    def read_thinned(self) -> np.ndarray:
        """`(256, 256)` labels."""
        return self._array("thinned")

    def _array(self, name: str) -> np.ndarray:
        with np.load(io.BytesIO(filesystem.read_bytes(self.index))) as arrays:
            return np.asarray(arrays[name])

    def read_images(self, index: np.ndarray, first: int, last: int) -> Iterator[bytes]:
        """Encoded tiles, read at once.

        Args:
            index: Index of the part.
            first: Place in the index of the first tile.
            last: Place behind the last one.
        """
        ends = np.concatenate([[0], np.cumsum(index["length"], dtype=np.int64)]).tolist()
        start = ends[first]
        content = filesystem.read_range(self.images, start, ends[last] - start)
        for place in range(first, last):
            yield content[ends[place] - start : ends[place + 1] - start]


def write_images(stream: IO[bytes], tiles: Iterable[tuple[int, bytes]]) -> np.ndarray:
    """Write encoded tiles one after the other; returns their index.

    Args:
        stream: File of the tiles.
        tiles: Numbers in the archive, rising, and encoded tiles; those without bytes are left out.
    """
    rows = []
    for number, content in tiles:
        if content:
            stream.write(content)
            rows.append((number, len(content), hashlib.sha256(content).digest()[:16]))
    return np.array(rows, INDEX)


def index_file(index: np.ndarray, thinned: np.ndarray) -> bytes:
    """The bytes of the file of an index; the same for the same arrays, as NumPy writes no times."""
    stream = io.BytesIO()
    np.savez_compressed(stream, index=index, thinned=thinned)
    return stream.getvalue()

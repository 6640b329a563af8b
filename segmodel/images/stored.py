"""What images of all formats have in common: opened by their header, decoded when asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from PIL import Image

from segmodel.images.orientation import SIDEWAYS

# Memory that decoding takes: Pillow's 4 bytes a pixel, and the array twice while it is copied out,
# or a second image to turn or convert the first. WebP has canvases beside that.
DECODING_BYTES_PER_PIXEL = 12
MAX_DECODING_BYTES_PER_PIXEL = 18


class StoredImage(ABC):
    """An encoded image, opened by its header; its pixels are not decoded.

    Args:
        size: Width and height as stored.
        orientation: EXIF orientation.
        bits: Bits of a sample.
        is_indexed: Whether samples are indices of a palette.

    Attributes:
        driver: Format, as GDAL calls it.
        decoding_bytes_per_pixel: Memory that decoding takes.
        height: Rows, once it is turned as its orientation says.
        width: Columns, once it is turned.
    """

    driver: ClassVar[str]
    decoding_bytes_per_pixel: ClassVar[int] = DECODING_BYTES_PER_PIXEL

    def __init__(
        self, size: tuple[int, int], orientation: int, bits: int = 8, is_indexed: bool = False
    ) -> None:
        self.size, self.orientation = size, orientation
        self.bits, self.is_indexed = bits, is_indexed
        self.width, self.height = size[::-1] if orientation in SIDEWAYS else size

    @abstractmethod
    def load(self) -> Image.Image:
        """The decoded image as stored, in the mode of the file.

        Raises:
            InputError: If pixels are missing or corrupt, as far as the format can tell.
            Exception: Errors of many kinds, from Pillow's decoders.
        """

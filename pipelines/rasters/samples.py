"""Sample images for the measurement of a halo."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

import numpy as np

from pipelines.inputs.listing import find_files
from pipelines.rasters.gdal import OPENER, StoreOpener
from pipelines.rasters.reach import Reach
from pipelines.rasters.reader import middle
from pipelines.storage.filesystem import read_bytes
from pipelines.storage.locations import checked
from segmodel.errors import ConfigurationError, InputError
from segmodel.images.encoded import IMAGE_SUFFIXES, decode_pixels
from segmodel.images.tiff import is_tiff
from segmodel.rasters.bands import ModelBands
from segmodel.rasters.reader import RasterHandle, RasterReader
from segmodel.savedmodel.contract import Contract
from segmodel.tiling.raster import Pixels

MAX_SAMPLES = 4
# Three cores of the halo's measurement side by side.
SAMPLE_PX = 1536
# What is taken of folders and globs.
_SUFFIXES = (*IMAGE_SUFFIXES, ".vrt", ".jp2", ".img")


def read_samples(
    patterns: Sequence[str], contract: Contract, is_trusted: bool = False
) -> list[np.ndarray]:
    """Up to 4 images, of each at most 1536 x 1536 pixels from its middle.

    Args:
        patterns: Files, folders or globs; a file that is named itself may be of any format that
            GDAL reads.
        contract: What the images must fit.
        is_trusted: Whether files may name others, wherever those are.

    Raises:
        ConfigurationError: If a pattern matches no image.
        ContractError: If bands or dtype of an image do not fit; names the file.
        InputError: If an image cannot be read; names the file.
    """
    opener = OPENER if is_trusted else StoreOpener(guard=Reach.of(patterns, "--samples").guard)
    samples: list[np.ndarray] = []
    for pattern in patterns:
        uris = (file.uri for file in find_files(checked(pattern)))
        images = (uri for uri in uris if uri == pattern or uri.lower().endswith(_SUFFIXES))
        found = list(islice(images, MAX_SAMPLES))
        if not found:
            raise ConfigurationError(f"--samples: no image matches {pattern}")
        samples += [
            _read_sample(uri, contract, opener) for uri in found[: MAX_SAMPLES - len(samples)]
        ]
    return samples


def _read_sample(uri: str, contract: Contract, opener: StoreOpener) -> np.ndarray:
    """The middle of an image, with the model's fill where it is nodata."""
    is_encoded = uri.lower().endswith(tuple(IMAGE_SUFFIXES)) and not is_tiff(uri)
    try:
        if is_encoded:
            pixels = _encoded_pixels(uri, len(contract.bands))
            contract.check_input(pixels.values.shape[2], pixels.values.dtype.name, uri)
            pixels = replace(pixels, values=pixels.values.astype(contract.dtype, copy=False))
        else:
            pixels = _raster_pixels(uri, contract, opener)
    except InputError as error:
        raise InputError(f"{uri}: {error}") from error
    return pixels.filled(contract.fill)


def _encoded_pixels(uri: str, bands: int) -> Pixels:
    whole = decode_pixels(read_bytes(uri), bands)
    height, width = whole.values.shape[:2]
    part = middle(height, width, SAMPLE_PX).slices
    return Pixels(whole.values[part].copy(), None if whole.valid is None else whole.valid[part])


def _raster_pixels(uri: str, contract: Contract, opener: StoreOpener) -> Pixels:
    """As `segment` reads a scene: the same bands, values and nodata."""
    handle = RasterHandle(uri, opener)
    try:
        header = handle.header()
        remedy = "describe them in the file, or make one of those that the model takes"
        bands = ModelBands.of(header, contract, None, uri, remedy)
        window = middle(header.grid.height, header.grid.width, SAMPLE_PX)
        return RasterReader(handle, bands).read(window)
    finally:
        handle.close()

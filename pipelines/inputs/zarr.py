"""Zarr stores: folders of this machine that are one raster each."""

import hashlib
import os

from pipelines.storage import filesystem

_MARKS = (".zgroup", ".zarray", "zarr.json")


def is_zarr(folder: str) -> bool:
    """Whether a path is that of a folder with the metadata of a Zarr store."""
    return os.path.isdir(folder) and any(
        os.path.isfile(os.path.join(folder, mark)) for mark in _MARKS
    )


def zarr_address(folder: str) -> str:
    """How GDAL opens a Zarr store.

    >>> zarr_address("in//a.zarr/")
    'ZARR:"in/a.zarr"'
    """
    return f'ZARR:"{os.path.normpath(folder)}"'


def state_of_zarr(folder: str) -> tuple[int, str]:
    """Bytes and version of all files of a Zarr store."""
    size, digest = 0, hashlib.sha256()
    for found in filesystem.files_below(folder):
        size += found.size
        digest.update(repr((found.uri[len(folder) :], found.size, found.version)).encode())
    return size, digest.hexdigest()[:16]

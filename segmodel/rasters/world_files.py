"""Files beside an image that may say where on the ground it is: world files and `.aux.xml`."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import affine

from segmodel.rasters.header import Header

# World files by the suffix of the image, in the order in which they count.
_OF_IMAGES = {
    ".jpg": (".jgw", ".jpgw", ".wld"),
    ".jpeg": (".jgw", ".jpegw", ".wld"),
    ".png": (".pgw", ".pngw", ".wld"),
    ".webp": (".wpw", ".webpw", ".wld"),
}
_OF_ALL = _OF_IMAGES | {
    ".tif": (".tfw", ".tifw", ".wld"),
    ".tiff": (".tfw", ".tiffw", ".wld"),
}
_AUXILIARY = ".aux.xml"
_SUFFIXES = (_AUXILIARY, *{suffix for group in _OF_IMAGES.values() for suffix in group})


def is_sidecar(name: str) -> bool:
    """Whether a name is that of such a file.

    >>> is_sidecar("a.JGW"), is_sidecar("a.jpg.aux.xml"), is_sidecar("a.jpg")
    (True, True, False)
    """
    return name.lower().endswith(_SUFFIXES)


def may_have_sidecars(path: str) -> bool:
    """Whether a path is that of a JPEG, PNG or WebP image."""
    return os.path.splitext(path)[1].lower() in _OF_IMAGES


def possible_sidecars(path: str) -> list[str]:
    """Such files of a JPEG, PNG or WebP image, in small letters.

    >>> possible_sidecars("in/A.png")
    ['in/a.png.aux.xml', 'in/a.pgw', 'in/a.pngw', 'in/a.wld']
    """
    stem, suffix = os.path.splitext(path.lower())
    return [f"{stem}{suffix}{_AUXILIARY}", *(stem + end for end in _OF_IMAGES[suffix])]


def sidecars_in(folder: str) -> frozenset[str]:
    """Names of such files in a folder of this machine, in small letters."""
    try:
        with os.scandir(folder or ".") as entries:
            return frozenset(entry.name.lower() for entry in entries if is_sidecar(entry.name))
    except OSError:
        return frozenset()


def with_world_file(
    header: Header, uri: str, has_file: Callable[[str], bool], read: Callable[[str], bytes]
) -> Header:
    """A header with the transform of a world file that GDAL takes no notice of.

    It reads none for WebP, and none of what it does not read by itself.

    Args:
        header: Header without a transform.
        uri: Location of the raster.
        has_file: Function of a location; whether there is a file.
        read: Function of a location; the content of a file.
    """
    stem, suffix = os.path.splitext(uri)
    for ending in _OF_ALL.get(suffix.lower(), ()):
        for path in (f"{stem}{ending}", f"{stem}{ending.upper()}"):
            if not has_file(path):
                continue
            with suppress(OSError, ValueError):
                grid = replace(header.grid, transform=affine.loadsw(read(path).decode("utf-8")))
                return replace(header, grid=grid, others=(*header.others, path))
    return header

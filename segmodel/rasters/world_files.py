"""Files beside an image: world files and `.aux.xml`, which may say where it is, and masks."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from xml.etree import ElementTree

import affine

from segmodel.errors import BeamsegError, FailureCode, InputError, TransientError, is_transient
from segmodel.rasters.directories import AUXILIARY
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
# More than any of them but a mask has, of which nothing is read here.
MAX_SIDECAR_BYTES = 1 << 24
MASK_SUFFIX = ".msk"
_SUFFIXES = (
    AUXILIARY,
    MASK_SUFFIX,
    *{suffix for group in _OF_IMAGES.values() for suffix in group},
)


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
    return [f"{stem}{suffix}{AUXILIARY}", *(stem + end for end in _OF_IMAGES[suffix])]


def sidecars_in(folder: str) -> frozenset[str]:
    """Names of such files in a folder of this machine, in small letters.

    A folder of which only the files that are named may be read shows none.

    Raises:
        OSError: If the folder cannot be listed now.
    """
    try:
        with os.scandir(folder or ".") as entries:
            return frozenset(entry.name.lower() for entry in entries if is_sidecar(entry.name))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return frozenset()


def with_place(
    header: Header, uri: str, has_file: Callable[[str], bool], read: Callable[[str], bytes]
) -> Header:
    """A header whose mask and `.aux.xml` were read, with the transform of a world file.

    What of these it cannot read, GDAL leaves out. It reads no world file for WebP, and none of what
    it does not read by itself.

    Args:
        header: Header of the raster.
        uri: Location of the raster.
        has_file: Function of a location; whether there is a file.
        read: Function of a location; the content of a file, of a longer one no more than is above
            `MAX_SIDECAR_BYTES`.

    Raises:
        InputError: If a mask beside it was left out, and as `check_sidecars` does.
        TransientError: If a file beside it cannot be read now.
    """
    if not takes_mask(header) and has_file(uri + MASK_SUFFIX):
        with _naming(uri + MASK_SUFFIX, "where nodata is", FailureCode.CANNOT_READ):
            read(uri + MASK_SUFFIX)
            raise ValueError("it is no mask of GDAL")
    if has_file(uri + AUXILIARY):
        with _naming(uri + AUXILIARY):
            _check_auxiliary(_text(read(uri + AUXILIARY)))
    if not header.grid.transform.is_identity or header.located_by is not None:
        return header
    found = check_sidecars(uri, has_file, read)
    if found is None:
        return header
    transform, path = found
    grid = replace(header.grid, transform=transform)
    return replace(header, grid=grid, others=tuple(dict.fromkeys((*header.others, path))))


def check_sidecars(
    uri: str, has_file: Callable[[str], bool], read: Callable[[str], bytes]
) -> tuple[affine.Affine, str] | None:
    """Transform and location of the world file of a raster; None if there is none.

    Arguments are as in `with_place`.

    Raises:
        InputError: If it or an `.aux.xml` cannot be read, or is not what such a file is.
        TransientError: If one of them cannot be read now.
    """
    stem, suffix = os.path.splitext(uri)
    endings = _OF_ALL.get(suffix.lower(), ())
    worlds = [f"{stem}{as_is}" for ending in endings for as_is in (ending, ending.upper())]
    for path in [f"{uri}{AUXILIARY}", *worlds] if endings else []:
        if not has_file(path):
            continue
        with _naming(path):
            text = _text(read(path))
            if path in worlds:
                return _transform_in(text), path
            _check_auxiliary(text)
    return None


def takes_mask(header: Header) -> bool:
    """Whether GDAL has found a mask, in the file of a raster or beside it."""
    return header.mask in ("mask", "bands")


@contextmanager
def _naming(
    path: str,
    what: str = "where the image is",
    code: FailureCode = FailureCode.BAD_GEOREFERENCE,
) -> Iterator[None]:
    """Have errors in the block name a file, and say what the file may say."""
    try:
        yield
    except BeamsegError:
        raise
    except (OSError, ValueError, ElementTree.ParseError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        text = f"{os.path.basename(path)}, which may say {what}, cannot be read ({reason})"
        if is_transient(error):
            raise TransientError(f"{text}: run the same command again") from error
        remedy = "write it anew, or remove it if it says nothing that counts"
        raise InputError(f"{text}: {remedy}", code=code) from error


def _text(content: bytes) -> str:
    if len(content) > MAX_SIDECAR_BYTES:
        raise ValueError(f"it has more than {MAX_SIDECAR_BYTES:,} bytes")
    return content.decode("utf-8-sig", "replace")


def _transform_in(text: str) -> affine.Affine:
    """The transform in a world file, with a decimal comma or point, as GDAL reads it.

    Raises:
        ValueError: If it does not begin with six numbers that give a pixel an area.
    """
    words = [line.strip().replace(",", ".") for line in text.split("\n") if line.strip()][:6]
    transform = affine.loadsw("\n".join(words)) if len(words) == 6 else None
    if transform is None or transform.is_degenerate or not all(map(math.isfinite, transform)):
        raise ValueError("a world file is six lines with a number each")
    return transform


def _check_auxiliary(text: str) -> None:
    """Refuse an `.aux.xml` that is no XML, or whose geotransform is not six numbers."""
    for element in ElementTree.fromstring(text).iter("GeoTransform"):
        numbers = [float(word) for word in (element.text or "").split(",")]
        if len(numbers) != 6 or not all(map(math.isfinite, numbers)):
            raise ValueError("a GeoTransform is six numbers")

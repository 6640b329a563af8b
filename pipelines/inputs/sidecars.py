"""Files beside an image that may say where on the ground it is: world files and `.aux.xml`."""

import os
from collections.abc import Container
from functools import lru_cache

from pipelines.inputs.catalogue import NameSet
from pipelines.run.plan import InputFile
from pipelines.storage import filesystem, locations

# World files by the suffix of the image, in the order in which they count.
WORLD_SUFFIXES = {
    ".jpg": (".jgw", ".jpgw", ".wld"),
    ".jpeg": (".jgw", ".jpegw", ".wld"),
    ".png": (".pgw", ".pngw", ".wld"),
    ".webp": (".wpw", ".webpw", ".wld"),
}
_AUXILIARY = ".aux.xml"
_SUFFIXES = (_AUXILIARY, *{suffix for group in WORLD_SUFFIXES.values() for suffix in group})
# Files come in order of their folders.
_FOLDERS_KNOWN = 64


class Sidecars:
    """Which images have a file beside them that may say where they are.

    Folders of this machine are listed once; of stores, listings of inputs show what there is, so
    that no image costs a request.
    """

    def __init__(self) -> None:
        self._noted = NameSet()
        self._new: list[str] = []
        self._has_noted = False
        self._in_folder = lru_cache(_FOLDERS_KNOWN)(_names_in)

    def note(self, uri: str) -> None:
        """Remember an object of a store, if it is such a file."""
        lower = uri.lower()
        if lower.endswith(_SUFFIXES):
            self._new.append(lower)

    def note_beside(self, uri: str) -> None:
        """Look for such files beside an object that is named itself, so that nothing was listed."""
        stem, suffix = os.path.splitext(uri)
        if locations.is_remote(uri) and suffix.lower() in WORLD_SUFFIXES:
            folder, _, name = stem.rpartition("/")
            for found in filesystem.files_below(folder, f"{name}."):
                self.note(found.uri)

    def may_place(self, file: InputFile) -> bool:
        """Whether a JPEG, PNG or WebP file has one; GDAL says what is in it."""
        stem, suffix = os.path.splitext(file.uri)
        world = WORLD_SUFFIXES.get(suffix.lower())
        if world is None or locations.is_read_by_gdal(file.uri):
            return False
        whole = file.uri
        if locations.is_remote(whole):
            beside: Container[str] = self._in_stores()
        else:
            beside = self._in_folder(os.path.dirname(whole))
            whole, stem = os.path.basename(whole), os.path.basename(stem)
        if not beside:
            return False
        names = (f"{whole}{_AUXILIARY}", *(f"{stem}{ending}" for ending in world))
        return any(name.lower() in beside for name in names)

    def _in_stores(self) -> Container[str]:
        """Locations of such objects in small letters."""
        if self._new:
            self._noted.update(self._new)
            self._new.clear()
            self._has_noted = True
        return self._noted if self._has_noted else ()


def _names_in(folder: str) -> frozenset[str]:
    """Names of such files in a folder of this machine, in small letters."""
    try:
        with os.scandir(folder or ".") as entries:
            return frozenset(
                name for entry in entries if (name := entry.name.lower()).endswith(_SUFFIXES)
            )
    except OSError:
        return frozenset()

"""Files beside an image: world files and `.aux.xml`, which may say where it is, and masks."""

import os
from collections.abc import Callable, Container
from functools import lru_cache

from pipelines.inputs.catalogue import NameSet
from pipelines.run.plan import InputFile
from pipelines.storage import filesystem, locations
from segmodel.images.tiff import is_tiff
from segmodel.rasters.world_files import (
    MASK_SUFFIX,
    is_sidecar,
    may_have_sidecars,
    possible_sidecars,
    sidecars_in,
)

# Files come in order of their folders.
_FOLDERS_KNOWN = 64


class Sidecars:
    """Which images have a file beside them that may say where they are, or which pixels are valid.

    Folders of this machine are listed once; of stores, listings of inputs show what there is, so
    that no image costs a request.
    """

    def __init__(self) -> None:
        self._noted = NameSet()
        self._new: list[str] = []
        self._has_noted = False
        self._in_folder = lru_cache(_FOLDERS_KNOWN)(sidecars_in)

    def note(self, uri: str) -> None:
        """Remember an object of a store, if it is such a file."""
        if is_sidecar(uri):
            self._new.append(uri.lower())

    def note_beside(self, uri: str) -> None:
        """Look for such files beside an object that is named itself, so that nothing was listed."""
        if locations.is_remote(uri) and (may_have_sidecars(uri) or is_tiff(uri)):
            stem = os.path.splitext(uri)[0]
            folder, _, name = stem.rpartition("/")
            for found in filesystem.files_below(folder, f"{name}."):
                self.note(found.uri)

    def may_place(self, file: InputFile) -> bool:
        """Whether a JPEG, PNG or WebP file has one; GDAL says what is in it."""
        whole = file.uri
        if not may_have_sidecars(whole) or locations.is_read_by_gdal(whole):
            return False
        return self._has_any(whole, possible_sidecars)

    def masks_of(self, file: InputFile) -> list[str]:
        """Location of the mask beside an image file; none where there is none."""
        if locations.is_read_by_gdal(file.uri) or not self._has_any(file.uri, _possible_masks):
            return []
        return [file.uri + MASK_SUFFIX]

    def _has_any(self, whole: str, possible: Callable[[str], list[str]]) -> bool:
        """Whether one of some files is beside an image; their names are in small letters."""
        if locations.is_remote(whole):
            beside: Container[str] = self._in_stores()
        else:
            beside = self._in_folder(os.path.dirname(whole))
            whole = os.path.basename(whole)
        return bool(beside) and any(name in beside for name in possible(whole))

    def _in_stores(self) -> Container[str]:
        """Locations of such objects in small letters."""
        if self._new:
            self._noted.update(self._new)
            self._new.clear()
            self._has_noted = True
        return self._noted if self._has_noted else ()


def _possible_masks(path: str) -> list[str]:
    return [path.lower() + MASK_SUFFIX]

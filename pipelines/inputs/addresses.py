"""Addresses of rasters within files, in words of GDAL: subdatasets and members of archives."""

import hashlib
import os
import re
from dataclasses import dataclass

from pipelines.inputs.listing import FoundFile
from pipelines.inputs.zarr import state_of_zarr
from pipelines.storage import filesystem, locations
from segmodel.errors import ConfigurationError

_SUBDATASET = re.compile(
    r'(?i)(NETCDF|HDF5|GPKG|ZARR|BAG|GRIB):(?:"([^"]+)"|(.+?))(?::(/*[^:/].*))?'
)
_ARCHIVE = re.compile(r"/vsi(?:zip|tar|gzip)/(.+)")
_UNSAFE = re.compile(r"[^\w.-]+")


@dataclass(frozen=True)
class Address:
    """A raster within a file.

    Args:
        uri: How GDAL opens the raster.
        file: The file or the folder on this machine that holds it.
        name: Name of the raster below the folder of that file, as a path.
    """

    uri: str
    file: str
    name: str

    @property
    def root(self) -> str:
        """Folder that the file is in."""
        return os.path.dirname(self.file)

    def find(self) -> FoundFile:
        """The raster as a file of a listing; its version is that of what holds it.

        Raises:
            ConfigurationError: If there is no such file.
        """
        if os.path.isdir(self.file):
            return FoundFile(self.uri, self.name, *state_of_zarr(self.file))
        found = filesystem.stat(self.file)
        if found is None:
            raise ConfigurationError(
                f"--input {self.uri}: there is no {self.file}: check the address; rasters within "
                f"files are read of files on this machine"
            )
        return FoundFile(self.uri, self.name, found.size, found.version)


def find_address(pattern: str) -> Address | None:
    """The raster within a file that a pattern names; None for a pattern of files.

    >>> find_address('NETCDF:"in/a.nc":ndvi')
    Address(uri='NETCDF:"in/a.nc":ndvi', file='in/a.nc', name='a.nc~ndvi.nc')
    >>> find_address("HDF5:a.h5://data/red").name, find_address("in/a.tif")
    ('a.h5~data_red-9b250108.h5', None)
    """
    if locations.is_address(pattern):
        archive = _ARCHIVE.fullmatch(pattern)
        if archive is not None:
            return _in_archive(pattern, archive[1])
        found = _SUBDATASET.fullmatch(pattern)
        if found is not None:
            return _subdataset(pattern, found[2] or found[3], found[4] or "")
    return None


def _in_archive(uri: str, path: str) -> Address:
    """A member of an archive, which is the first part of the path that is a file."""
    braced = re.fullmatch(r"\{([^}]+)\}/?(.*)", path)
    if braced is not None:
        file, member = braced[1], braced[2]
    else:
        parts = path.split("/")
        tries = ("/".join(parts[:count]) for count in range(1, len(parts) + 1))
        file = next((tried for tried in tries if os.path.isfile(tried)), path)
        member = path[len(file) :].strip("/")
    name = os.path.basename(file)
    inside = "/".join(_safe(part) for part in member.split("/") if part)
    return Address(uri, file, f"{name}/{inside}" if inside else name)


def _subdataset(uri: str, path: str, variable: str) -> Address:
    archive = _ARCHIVE.fullmatch(path)
    whole = None if archive is None else _in_archive(path, archive[1])
    file = os.path.normpath(path) if whole is None else whole.file
    name = os.path.basename(file) if whole is None else whole.name
    if variable:
        name = f"{name}~{_safe(variable.lstrip('/'))}{os.path.splitext(name)[1]}"
    return Address(uri, file, name)


def _safe(text: str) -> str:
    """A name that every file system takes, and that no other text has.

    >>> _safe("ndvi"), _safe("..")
    ('ndvi', '-5ec1f7e7')
    """
    plain = _UNSAFE.sub("_", text).strip(".")
    if plain == text:
        return text
    return f"{plain}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

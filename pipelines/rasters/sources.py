"""Files that rasters name, such as the sources of a VRT, and which of them may be read.

A VRT is a program for GDAL: it names files of this machine and addresses that GDAL opens with the
rights of the user. So what an input names must lie where the inputs are, unless they are trusted.
"""

import io
import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from pipelines.inputs.addresses import find_address
from pipelines.inputs.listing import root_of
from pipelines.rasters.gdal import OPENER, location_of
from pipelines.run.failures import reason_of
from pipelines.storage import filesystem, locations
from segmodel.errors import BeamsegError, FailureCode, InputError, TransientError, is_transient
from segmodel.rasters.opening import GDAL_ERRORS

# Of VRTs that name other VRTs, and of the text of one.
MAX_FILES, MAX_TEXT_BYTES = 100_000, 1 << 28
_HEAD_BYTES = 4096
# How a file begins that names others, by GDAL's driver; and drivers whose files name what GDAL
# finds only on the way, so that it cannot be told before.
_MARKS = {b"<VRTDataset": "VRT", b"<GDAL_WMS": "WMS", b"<GDALTileIndexDataset": "GTI"}
_MARKS |= {b"<MRF_META": "MRF", b"<GDAL_WMTS": "WMTS", b"<WCS_GDAL": "WCS"}
_NAMING = {"VRT", "WMS", "MRF", "GTI", "DAAS", "DERIVED", "EEDAI", "HTTP", "KMLSUPEROVERLAY"}
_NAMING |= {"PLMOSAIC", "STACIT", "STACTA", "WCS", "WMTS"}
# Elements whose text is a name, in small letters, of the kinds that can be checked; and keys of
# elements whose text is one.
_TAGS = {
    "VRT": {"sourcefilename", "sourcedataset", "dempath"},
    "WMS": {"serverurl", "path"},
    "MRF": {"datafile", "indexfile", "source"},
    "GTI": {"indexdataset", "sql"},
}
_KEYS = re.compile(r"x_dataset|y_dataset|overview_file|rpc_dem|.*filename.*|.*_dataset_.*")
_INDEX = re.compile(r"(?i).*\.gti\.(?:gpkg|fgb|parquet)")
# What stands before the name of a file in names of GDAL, and what only GDAL's own names have.
_WRAPPED = re.compile(
    r"(?i)(?:(?:NETCDF|HDF5|GPKG|ZARR|BAG|GRIB):\"?([^\"]+?)\"?(?::/*[^:/].*)?"
    r"|GTIFF_DIR:(?:off:)?\d+:(.+)|/vsi(?:zip|tar|gzip)/\{?([^}]+)\}?.*)"
)
_STORES = {"/vsigs/": "gs://", "/vsis3/": "s3://"}
_NO_PATH = re.compile(r"(?i)\s*(?:/vsi|[<{]|[a-z][\w+.-]*:)")


@dataclass(frozen=True)
class Reach:
    """Where inputs may read from.

    Args:
        roots: Real paths of folders of this machine, and locations in stores.
        hosts: Hosts of the web with their ports, in small letters.
    """

    roots: frozenset[str]
    hosts: frozenset[str]

    @classmethod
    def of(cls, patterns: Sequence[str]) -> "Reach":
        """The folders and hosts that `--input` names."""
        roots, hosts = set(), set()
        for pattern in patterns:
            address = find_address(pattern)
            if locations.is_web(pattern):
                hosts.add(urlsplit(pattern).netloc.lower())
            elif address is not None:
                roots.add(os.path.realpath(address.root or "."))
            else:
                roots.add(locations.canonical(root_of(locations.checked(pattern))))
        return cls(frozenset(roots), frozenset(hosts))

    def allows(self, name: str) -> bool:
        """Whether a file may be read.

        Args:
            name: Location without anything of GDAL's around it.
        """
        if locations.is_web(name):
            return urlsplit(name).netloc.lower() in self.hosts
        if locations.is_remote(name):
            place = locations.normalized(name)
        elif _NO_PATH.match(name):
            return False
        else:
            place = os.path.realpath(name)
        return any(place.startswith(os.path.join(root, "")) for root in self.roots)

    def check(self, uri: str) -> None:
        """Refuse a raster that names what may not be read, also through others that it names.

        Args:
            uri: Location of the raster.

        Raises:
            InputError: If it does, or it cannot be told what it names.
        """
        seen, ahead = {uri}, [uri]
        is_stack = locations.stack_parts(uri) is not None
        while ahead and len(seen) < MAX_FILES:
            path = ahead.pop()
            for name in names_in(path):
                # What we stacked is made of inputs.
                if not self.allows(name) and not (is_stack and path == uri):
                    raise self._refusal(name)
                if name not in seen:
                    seen.add(name)
                    ahead.append(name)

    def check_opened(self, uri: str, opened: str, driver: str, files: Iterable[str]) -> None:
        """Refuse a raster by what GDAL found in it; arguments as in `check`.

        Args:
            uri: Location of the raster.
            opened: Name that GDAL opened it by: of a copy, that of the copy.
            driver: Driver that opened it.
            files: Files that GDAL lists for it; those beside it are inputs like itself.

        Raises:
            InputError: As `check` does.
        """
        if driver in _NAMING and driver not in _TAGS:
            raise _not_checked(driver)
        if driver in _TAGS and not locations.is_local(uri):
            self.check(uri)
        own = (uri, opened)
        folders = {*map(os.path.dirname, own)}
        for name in files:
            if driver not in _TAGS and os.path.dirname(name) not in folders:
                found = unwrapped(location_of(name))
                if not self.allows(found) and not found.startswith(tuple(map(unwrapped, own))):
                    raise self._refusal(found)

    def _refusal(self, name: str) -> InputError:
        if locations.is_web(name):
            what = f"the host {urlsplit(name).hostname}"
            where = "no --input names"
        else:
            what, where = os.path.basename(name.rstrip("/")) or "a folder", "lies below no --input"
        return InputError(
            f"it is read from {what}, which {where}: name that by --input too, or give "
            f"--trust_inputs if you trust whoever made the file",
            code=FailureCode.NOT_TRUSTED,
        )


def _not_checked(kind: str) -> InputError:
    return InputError(
        f"as {kind} it may name any file and address, which cannot be checked: give "
        f"--trust_inputs if you trust whoever made the file",
        code=FailureCode.NOT_TRUSTED,
    )


def sources_of(uri: str, files: Iterable[str]) -> tuple[str, ...]:
    """Other files that a scene is read from, in order of their names.

    GDAL lists the sources of a VRT, but neither the sources of VRTs among them nor those of masks
    of bands, nor the masks beside a source.

    Args:
        uri: Location of the scene.
        files: Files that GDAL lists for it.
    """
    found: dict[str, None] = {}
    ahead = [uri, *filter(locations.can_be_asked, map(location_of, files))]
    while ahead and len(found) < MAX_FILES:
        path = ahead.pop()
        if path in found:
            continue
        found[path] = None
        # Where GDAL looks for the mask of a raster, and for what its own header does not say.
        ahead += filter(filesystem.exists, (f"{path}.msk", f"{path}.aux.xml"))
        if path.lower().endswith(".vrt"):
            with suppress(InputError):
                ahead += filter(locations.can_be_asked, names_in(path))
    return tuple(sorted(set(found) - {uri}))


def names_in(path: str) -> Iterator[str]:
    """Files and addresses that a raster names, without what GDAL writes around them.

    Raises:
        InputError: If it cannot be told, as its text is no XML or of a kind that names more later.
    """
    head = _head_of(path)
    kind = next((kind for mark, kind in _MARKS.items() if mark in head), None)
    if _INDEX.fullmatch(path):
        yield from _names_in_index(path)
        return
    if kind is None:
        return
    if kind not in _TAGS:
        raise _not_checked(kind)
    place = OPENER.place(path)
    try:
        for element, text in _named_texts(_text_of(path), _TAGS[kind]):
            found = {key.lower(): value for key, value in element.items()}
            number = re.match(r"\s*[+-]?\d+", found.get("relativetovrt", "0"))
            is_relative = kind != "VRT" or (number is not None and int(number[0]) != 0)
            name = unwrapped(text, place if is_relative else "")
            if element.tag.lower() == "sql":
                raise _not_checked("GTI with SQL")
            yield name
            if element.tag.lower() == "indexdataset":
                yield from _names_in_index(name)
    except ET.ParseError as error:
        raise _not_checked(f"{kind} whose XML is not plain") from error


def _named_texts(text: bytes, tags: Container[str]) -> Iterator[tuple[ET.Element, str]]:
    """Elements of a document that name something, and what they name."""
    parser = ET.XMLParser(target=ET.TreeBuilder(insert_comments=True))
    for _, element in ET.iterparse(io.BytesIO(text), ("end",), parser):
        if not isinstance(element.tag, str):
            continue
        keys = (element.get("key") or element.get("name") or "").lower()
        if element.tag.lower() in tags or _KEYS.fullmatch(keys):
            if len(element):
                raise ET.ParseError("a name has parts")
            if name := (element.text or "").strip():
                yield element, name
        if len(element) > 1:
            element[:] = element[-1:]


def _names_in_index(path: str) -> Iterator[str]:
    """Tiles that a vector file names in its fields of text."""
    import pyogrio

    try:
        for layer, _ in pyogrio.list_layers(path):
            meta, _, _, columns = pyogrio.raw.read(path, layer=layer, read_geometry=False)
            for dtype, column in zip(meta["dtypes"], columns, strict=True):
                if dtype == "object":
                    texts = (text for text in column if isinstance(text, str))
                    yield from (unwrapped(text, path) for text in texts)
    except (pyogrio.errors.DataSourceError, ValueError) as error:
        raise _not_checked("GTI without an index that can be read") from error


def unwrapped(name: str, place: str = "") -> str:
    """A name of GDAL as a location.

    Args:
        name: As a file names another.
        place: What a relative name is relative to; empty for the current folder.

    >>> unwrapped("NETCDF:a.nc:ndvi", "in/b.vrt"), unwrapped("/vsicurl/http://a.org/b.tif")
    ('in/a.nc', 'http://a.org/b.tif')
    """
    while wrapped := _WRAPPED.fullmatch(name):
        name = next(filter(None, wrapped.groups()))
    name = location_of(name.removeprefix(locations.WEB_PREFIX))
    for prefix, scheme in _STORES.items():
        name = name.replace(prefix, scheme, 1) if name.startswith(prefix) else name
    if not place or locations.scheme_of(name) or os.path.isabs(name):
        return name
    folder = os.path.dirname(unwrapped(place))
    return location_of(os.path.join(folder, name)) if folder else os.path.join(".", name)


def _head_of(path: str) -> bytes:
    """How a file begins; what is on the web is asked for by GDAL first."""
    if locations.is_web(path) or locations.is_read_by_gdal(path):
        uri = path if locations.is_read_by_gdal(path) else locations.WEB_PREFIX + path
        try:
            with OPENER.env(uri), OPENER.open(uri) as source:
                return b"" if source.driver not in _NAMING else _text_of(uri)[:_HEAD_BYTES]
        except (BeamsegError, *GDAL_ERRORS):
            return b""
    try:
        return OPENER.read_bytes(path, _HEAD_BYTES)
    except OSError as error:
        if is_transient(error):
            raise TransientError(f"it cannot be read: {reason_of(error)}") from error
        # GDAL cannot read it either.
        return b""


def _text_of(path: str) -> bytes:
    if locations.is_web(path) or path.startswith(locations.WEB_PREFIX):
        path = locations.copied(path.removeprefix(locations.WEB_PREFIX), MAX_TEXT_BYTES)
    return OPENER.read_bytes(path, MAX_TEXT_BYTES)

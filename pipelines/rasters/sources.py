"""Files and addresses that rasters and vector files name, such as the sources of a VRT.

Which of them may be read, `pipelines.rasters.reach` says.
"""

import glob
import io
import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Container, Iterable, Iterator
from contextlib import nullcontext, suppress

from pipelines.rasters.gdal import OPENER, location_of
from pipelines.run.failures import reason_of
from pipelines.storage import filesystem, locations
from pipelines.storage.copies import with_sidecars
from segmodel.errors import BeamsegError, FailureCode, InputError, TransientError, is_transient
from segmodel.rasters.opening import GDAL_ERRORS, OpenRaster

# Of VRTs that name other VRTs, and of the text of one.
MAX_FILES, MAX_TEXT_BYTES = 100_000, 1 << 28
_HEAD_BYTES = 4096
# How a file begins that names others, by GDAL's driver; and drivers whose files name what GDAL
# finds only on the way, so that it cannot be told before.
_MARKS = {b"<VRTDataset": "VRT", b"<GDAL_WMS": "WMS", b"<GDALTileIndexDataset": "GTI"}
_MARKS |= {b"<MRF_META": "MRF", b"<GDAL_WMTS": "WMTS", b"<WCS_GDAL": "WCS"}
_MARKS |= {b'"stac_version"': "STAC", b"<OGRVRTDataSource": "OGR_VRT", b"<OGRWFS": "WFS"}
_MARKS |= {b"gdal_streamed_alg": "GDALG"}
_NAMING = {"VRT", "WMS", "MRF", "GTI", "DAAS", "DERIVED", "EEDAI", "HTTP", "KMLSUPEROVERLAY"}
_NAMING |= {"PLMOSAIC", "STACIT", "STACTA", "WCS", "WMTS"}
# Elements whose text is a name, in small letters, of the kinds that can be checked; those whose
# text is a query, which may name anything; and keys of elements whose text is a name.
_TAGS = {
    "VRT": {"sourcefilename", "sourcedataset", "dempath"},
    "WMS": {"serverurl", "path"},
    "MRF": {"datafile", "indexfile", "source"},
    "GTI": {"indexdataset"},
    "OGR_VRT": {"srcdatasource"},
}
_QUERIES = {"sql", "srcsql"}
_KEYS = re.compile(r"x_dataset|y_dataset|overview_file|rpc_dem|.*filename.*|.*_dataset_.*")
_INDEX = re.compile(r"(?i).*\.gti\.(?:gpkg|fgb|parquet)")
# Of an index of tiles, metadata whose values are names.
_OVERVIEW = re.compile(r"(?i)overview_\d+_dataset")
# Formats that may be HDF5, whose links are looked at.
_HDF5 = {"BAG", "HDF5", "HDF5Image", "S102", "S104", "S111", "netCDF"}
# What stands before the name of a file in names of GDAL, and what only GDAL's own names have.
_WRAPPED = re.compile(
    r"(?i)(?:(?:NETCDF|HDF5|GPKG|ZARR|BAG|GRIB):\"?([^\"]+?)\"?(?::/*[^:/].*)?"
    r"|GTIFF_DIR:(?:off:)?\d+:(.+)|/vsi(?:zip|tar|gzip)/\{?([^}]+)\}?.*)"
)
_STORES = {"/vsigs/": "gs://", "/vsis3/": "s3://"}


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
                ahead += filter(locations.can_be_asked, map(unwrapped, names_in(path)))
    return tuple(sorted(set(found) - {uri}))


def names_in(path: str) -> Iterator[str]:
    """What the text of a raster or vector file names, as GDAL calls it.

    Raises:
        InputError: If it cannot be told, as its text is no XML or of a kind that names more later.
    """
    if _INDEX.fullmatch(path):
        yield from _names_in_index(path)
        return
    kind = _kind_of(path)
    if kind is None:
        return
    if kind not in _TAGS:
        raise not_checked(kind)
    place = OPENER.place(path)
    try:
        for tag, text, relative in _named_texts(_text_of(path), _TAGS[kind]):
            if tag in _QUERIES:
                raise not_checked(f"{kind} with SQL")
            number = re.match(r"\s*[+-]?\d+", relative)
            is_relative = "VRT" not in kind or (number is not None and int(number[0]) != 0)
            name = resolved(text, place) if is_relative else text
            yield name
            if tag == "indexdataset":
                yield from _names_in_index(name)
    except ET.ParseError as error:
        raise not_checked(f"{kind} whose XML is not plain") from error


def names_found(uri: str, opened: OpenRaster) -> Iterator[str]:
    """What an open raster is read from besides itself, as GDAL calls it.

    Args:
        uri: Location of the raster.
        opened: The raster.

    Raises:
        InputError: If it cannot be told.
    """
    source = opened.source
    if source.driver in _NAMING and (source.driver not in _TAGS or not _names_any(uri)):
        raise not_checked(source.driver)
    if source.driver in _TAGS and not locations.is_local(uri):
        yield from names_in(uri)
    path = unwrapped(location_of(source.name))
    others = map(location_of, source.files)
    yield from (name for name in others if unwrapped(name) not in (path, unwrapped(uri)))
    if overview := opened.overview_file:
        yield overview.removeprefix(":::BASE:::")
    if source.driver in _HDF5:
        yield from _linked(path)


def not_checked(kind: str) -> InputError:
    """The refusal of a file of which it cannot be told what it is read from."""
    return InputError(
        f"as {kind} it may name any file and address, which cannot be checked: give "
        f"--trust_inputs if you trust whoever made the file",
        code=FailureCode.NOT_TRUSTED,
    )


def _names_any(path: str) -> bool:
    """Whether a file has a text that names others."""
    return _INDEX.fullmatch(path) is not None or _kind_of(path) is not None


def _kind_of(path: str) -> str | None:
    """GDAL's driver of a text that names others, None of anything else."""
    head = _head_of(path)
    return next((kind for mark, kind in _MARKS.items() if mark in head), None)


def _named_texts(text: bytes, tags: Container[str]) -> Iterator[tuple[str, str, str]]:
    """Names in a document, as GDAL finds them: in elements or attributes, whatever their namespace.

    Yields:
        What holds the name in small letters, the name, and what it says of being relative.
    """
    if b"<!DOCTYPE" in text:
        raise ET.ParseError("GDAL knows no entities")
    # GDAL takes all text for UTF-8.
    parser = ET.XMLParser(target=ET.TreeBuilder(insert_comments=True), encoding="utf-8")
    for _, element in ET.iterparse(io.BytesIO(text), ("end",), parser):
        if not isinstance(element.tag, str):
            continue
        tag = _plain_tag(element.tag)
        stated = {_plain_tag(key): value for key, value in element.items()}
        named = [(key, value) for key, value in stated.items() if key in tags or key in _QUERIES]
        yield from ((key, value.strip(), "0") for key, value in named)
        is_keyed = any(_KEYS.fullmatch(value.lower()) for value in stated.values())
        if tag in tags or tag in _QUERIES or is_keyed:
            if len(element):
                raise ET.ParseError("a name has parts")
            if name := (element.text or "").strip():
                yield tag, name, stated.get("relativetovrt", "0")
        if len(element) > 1:
            element[:] = element[-1:]


def _plain_tag(name: str) -> str:
    return name.rpartition("}")[2].lower()


def _names_in_index(path: str) -> Iterator[str]:
    """Tiles that a vector file names in its fields of text, and overviews in its metadata."""
    import pyogrio

    if _kind_of(path) is not None:
        raise not_checked("GTI whose index names other files")
    is_gdals = locations.is_web(path) or locations.is_read_by_gdal(path)
    try:
        with nullcontext(path) if is_gdals else with_sidecars(path) as file:
            yield from (resolved(text, path) for text in _texts_in_index(file))
    except (
        pyogrio.errors.DataSourceError,
        pyogrio.errors.DataLayerError,
        FileNotFoundError,
        ValueError,
    ) as error:
        raise not_checked("GTI without an index that can be read") from error


def _texts_in_index(file: str) -> Iterator[str]:
    import pyogrio

    for layer, _ in pyogrio.list_layers(file):
        about = pyogrio.read_info(file, layer=layer)
        metadata = about["layer_metadata"] or {}
        yield from (text for key, text in metadata.items() if _OVERVIEW.fullmatch(key))
        meta, _, _, columns = pyogrio.raw.read(file, layer=layer, read_geometry=False)
        for dtype, column in zip(meta["dtypes"], columns, strict=True):
            if dtype == "object":
                yield from (text for text in column if isinstance(text, str))


def _linked(path: str) -> Iterator[str]:
    """Files that links, virtual datasets and raw storage of an HDF5 file lead to, if they exist."""
    import h5py

    if not os.path.isfile(path):
        raise not_checked("HDF5 that is in an archive, a store or on the web")
    if not h5py.is_hdf5(path):
        return
    names: list[str] = []

    def note_link(_: str, link: object) -> None:
        if isinstance(link, h5py.ExternalLink):
            names.append(link.filename)

    def note_data(_: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            names.extend(name for name, _, _ in item.external or ())
            if item.is_virtual:
                names.extend(part.file_name for part in item.virtual_sources())

    with h5py.File(path) as file:
        file.visititems_links(note_link)
        file.visititems(note_data)
    # Each is looked for beside the file, and in the current folder; virtual ones may be numbered.
    for folder in (os.path.dirname(path), "."):
        for name in {name.replace("%b", "*") for name in names} - {"."}:
            yield from glob.glob(os.path.join(glob.escape(folder), glob.escape(name)))


def resolved(name: str, place: str) -> str:
    """A name of GDAL that is relative to the file that it stands in.

    Args:
        name: As a file names another.
        place: What GDAL calls that file.

    >>> resolved("NETCDF:a.nc:ndvi", "in/b.vrt"), resolved("a.tif", "/vsizip/in/c.zip/b.vrt")
    ('NETCDF:in/a.nc:ndvi', '/vsizip/in/c.zip/a.tif')
    """
    inner = unwrapped(name)
    if locations.scheme_of(inner) or os.path.isabs(inner):
        return name
    return name.replace(inner, location_of(os.path.join(os.path.dirname(place) or ".", inner)), 1)


def unwrapped(name: str) -> str:
    """A name of GDAL as a location.

    >>> unwrapped("NETCDF:in/a.nc:ndvi"), unwrapped("/vsicurl/http://a.org/b.tif")
    ('in/a.nc', 'http://a.org/b.tif')
    """
    while wrapped := _WRAPPED.fullmatch(name):
        name = next(filter(None, wrapped.groups()))
    name = location_of(name.removeprefix(locations.WEB_PREFIX))
    for prefix, scheme in _STORES.items():
        name = name.replace(prefix, scheme, 1) if name.startswith(prefix) else name
    return name


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

"""Rasters as GDAL opens them: here, on the web, and in stores with our clients' credentials.

A scene in a store is read by ranges through GDAL's virtual file systems
(https://gdal.org/en/stable/user/virtual_file_systems.html), never copied as a whole.
"""

import os
import re
import warnings
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.session import AWSSession, DummySession, Session

from pipelines import locations, web
from pipelines.stores import store_of
from pipelines.stores.interface import Client, Fault
from pipelines.stores.patient import ATTEMPTS, PatientStore, again
from segmodel.errors import BeamsegError, InputError, TransientError

# A size, not a share of the machine: the same on every worker. rasterio hands it to GDAL as bytes,
# not as GDAL's option of that name, which is in megabytes.
CACHE_BYTES = 128 << 20
GDAL_OPTIONS = {"GDAL_CACHEMAX": CACHE_BYTES, "GDAL_NUM_THREADS": 1}
_FILE_SYSTEMS = {locations.GOOGLE: "/vsigs/", locations.AMAZON: "/vsis3/"}
# GDAL asks again by itself where a server says that it is busy; what it gives up, `persist` does
# again. What it has cached of an object is forgotten when it is closed, as outputs are replaced.
_FAR_OPTIONS = {
    "GDAL_HTTP_MAX_RETRY": 2,
    "GDAL_HTTP_RETRY_DELAY": 0.5,
    "GDAL_HTTP_CONNECTTIMEOUT": 20,
    "GDAL_HTTP_TIMEOUT": 120,
    "CPL_VSIL_CURL_NON_CACHED": ":".join(_FILE_SYSTEMS.values()),
}

# Of an absolute path, what stands before its last part.
_FOLDERS = re.compile(r"(?<![\w./])/[^:'\"`\n]*/")
# Errors of a reference system, and text that is no UTF-8, are ValueErrors; some errors of GDAL come
# as rasterio found them.
GDAL_ERRORS = (RasterioError, CPLE_BaseError, ValueError)
# What a server or the network says that may answer later, and what it will say again.
_PASSING = re.compile(r"(?i)response code\D*(?:429|5\d\d)|time[d ]*out|resolve host|connection")
_REFUSED = re.compile(r"(?i)response code\D*4(?!29)\d\d")

C = TypeVar("C", bound=Client)
T = TypeVar("T")


def gdal_path(uri: str) -> str:
    """How GDAL opens a location.

    Raises:
        InputError: If GDAL has no way to it.

    >>> gdal_path("gs://bucket/a.tif"), gdal_path("data/a.tif")
    ('/vsigs/bucket/a.tif', 'data/a.tif')
    """
    if not locations.is_remote(uri):
        return uri
    system = _FILE_SYSTEMS.get(locations.scheme_of(uri))
    if system is None:
        raise InputError(
            f"scenes on {locations.scheme_of(uri)}:// cannot be read by windows: copy it to a "
            f"local folder, or to gs:// or s3://"
        )
    return system + uri.partition("://")[2]


def location_of(path: str) -> str:
    """The location that GDAL calls by a path.

    >>> location_of("/vsis3/bucket/a.tif.msk"), location_of("data/a.tif")
    ('s3://bucket/a.tif.msk', 'data/a.tif')
    """
    for scheme, system in _FILE_SYSTEMS.items():
        if path.startswith(system):
            return f"{scheme}://{path.removeprefix(system)}"
    return path


def is_far(uri: str) -> bool:
    """Whether a raster is behind a network.

    >>> is_far("s3://bucket/a.tif"), is_far("/vsicurl/https://example.org/a.tif"), is_far("a.tif")
    (True, True, False)
    """
    return locations.is_remote(uri) or uri.startswith(web.PREFIX)


def environment(uri: str, **options: Any) -> rasterio.Env:
    """GDAL's settings to read a location, with credentials where it needs some.

    Args:
        uri: The location.
        options: In place of those that all rasters are read with.
    """
    settings: dict[str, Any] = {**GDAL_OPTIONS, **options}
    session: Session = DummySession()
    if is_far(uri):
        settings |= _FAR_OPTIONS
    scheme = locations.scheme_of(uri)
    if scheme == locations.AMAZON:
        session, more = _amazon()
        settings |= more
    elif scheme == locations.GOOGLE:
        settings |= _google()
    return rasterio.Env(session=session, **settings)


def _amazon() -> tuple[Session, dict[str, Any]]:
    """What boto3 finds, as GDAL takes it."""
    import boto3

    from pipelines.stores.amazon import AmazonClient

    # Our client has read the same configuration, and says where it is led.
    address = urlsplit(_client("s3://", AmazonClient).address)
    session = boto3.session.Session()
    if address.hostname is None or address.hostname.endswith(".amazonaws.com"):
        return AWSSession(session), {}
    path_style = {"AWS_VIRTUAL_HOSTING": "FALSE"}
    secure = {"AWS_HTTPS": "YES" if address.scheme == "https" else "NO"}
    return AWSSession(session, endpoint_url=address.netloc), path_style | secure


def _google() -> dict[str, Any]:
    """What the Google client finds, as GDAL takes it; service accounts GDAL finds by itself."""
    from pipelines.stores.google import GoogleClient

    return _client("gs://", GoogleClient).gdal_options()


def _client(scheme: str, kind: type[C]) -> C:
    store = store_of(scheme)
    assert isinstance(store, PatientStore)
    assert isinstance(store.client, kind)
    return store.client


def open_scene(uri: str, **options: object) -> rasterio.DatasetReader:
    """The scene as rasterio opens it.

    Raises:
        InputError: If GDAL cannot open the file.
        TransientError: If it is behind a network.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            return rasterio.open(gdal_path(uri), **options)
    except GDAL_ERRORS as error:
        raise unreadable(error, uri, "the scene cannot be opened") from error


def unreadable(error: Exception, uri: str, what: str) -> BeamsegError:
    """What to raise where GDAL cannot read; what is behind a network may be there later."""
    reason = reason_of_gdal(error, uri)
    may_pass = is_far(uri) or _PASSING.search(reason) is not None
    is_other = "not recognized" in reason or _REFUSED.search(reason) is not None
    kind = TransientError if may_pass and not is_other else InputError
    return kind(f"{what}: {reason}")


def reason_of_gdal(error: BaseException, uri: str) -> str:
    """What GDAL says is wrong, with names of files in place of their paths."""
    innermost = error
    while innermost.__cause__ is not None:
        innermost = innermost.__cause__
    path = gdal_path(uri)
    reason = str(innermost).replace(path, os.path.basename(path))
    reason = reason.replace(os.path.join(os.path.dirname(os.path.abspath(path)), ""), "")
    # Sources of a VRT may be anywhere.
    return _FOLDERS.sub("", reason)


def persist(uri: str, read: Callable[[], T]) -> T:
    """What an action reads of a raster; read again after a while if it is far and that may help.

    Raises:
        TransientError: Of the last attempt.
    """

    def meaning(error: Exception) -> Fault | None:
        return Fault(error, may_pass=True) if isinstance(error, TransientError) else None

    return again(read, meaning, ATTEMPTS) if is_far(uri) else read()

"""Where files are: paths of this machine, and addresses such as `gs://bucket/name` in a store."""

import fnmatch
import mimetypes
import os
import posixpath
import re
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from xml.sax.saxutils import unescape

from segmodel.errors import ConfigurationError, FailureCode, InputError

# What we reach by clients of our own; of the others, Beam has file systems.
GOOGLE, AMAZON = "gs", "s3"
BEAM_SCHEMES = ("azfs", "hdfs")
SCHEMES = (GOOGLE, AMAZON, *BEAM_SCHEMES)
# How GDAL opens files of the web.
WEB_PREFIX = "/vsicurl/"
_COPIED_PREFIX = "/vsicopied/"
_WILDCARDS = "*?["
# A VRT that is written nowhere, and one that cannot be made.
_STACK_PREFIX, _NO_STACK = "stack:", "!"
# Subdatasets, and members of archives.
_ADDRESS = re.compile(r"(?i)(?:NETCDF|HDF5|GPKG|ZARR|BAG|GRIB):(?!//)|/vsi(?:zip|tar|gzip)/")


def scheme_of(uri: str) -> str:
    """The scheme of an address in small letters; empty for a path.

    >>> scheme_of("gs://bucket/a.tif"), scheme_of("photos/a.jpg")
    ('gs', '')
    """
    scheme, separator, _ = uri.partition("://")
    return scheme.lower() if separator and scheme.isalnum() else ""


def is_remote(uri: str) -> bool:
    """Whether a location is in a store, and no path of this machine.

    >>> is_remote("s3://bucket/a.tif"), is_remote("/data/a.tif")
    (True, False)
    """
    return scheme_of(uri) in SCHEMES


def can_be_asked(uri: str) -> bool:
    """Whether a location can be asked for: a path of this machine, or in a store that is known.

    >>> can_be_asked("a.tif"), can_be_asked("gs://bucket/a.tif"), can_be_asked("ftp://example.org/a.tif")
    (True, True, False)
    """
    return not scheme_of(uri) or is_remote(uri)


def is_local(uri: str) -> bool:
    """Whether what begins at a location is on this machine, also if it is a stack that we made.

    >>> is_local("in/a.vrt"), is_local("gs://bucket/a.vrt"), is_local("/vsicurl/http://a.org/b")
    (True, False, False)
    """
    return not scheme_of(uri) and not is_read_by_gdal(uri)


def checked(uri: str) -> str:
    """The location in its canonical form: one slash between names, none at the end.

    Raises:
        ConfigurationError: If its scheme is not one that files are read from and written to, it
            has no bucket, or it leads upwards.

    >>> checked("gs://bucket//a/./b/"), checked("runs/first/")
    ('gs://bucket/a/b', 'runs/first/')
    """
    scheme = scheme_of(uri)
    if not scheme:
        return uri
    if scheme not in SCHEMES:
        raise ConfigurationError(
            f"{scheme}:// locations cannot be read or written: copy {uri!r} to a local folder or "
            f"to a store ({', '.join(f'{known}://' for known in SCHEMES)})"
        )
    parts = [part for part in uri.partition("://")[2].split("/") if part not in ("", ".")]
    if not parts or ".." in parts:
        raise ConfigurationError(f"{uri!r}: write a bucket and a name below it, without ..")
    return f"{scheme}://{'/'.join(parts)}"


def check_local(uri: str, what: str) -> str:
    """The same location, if it is on this machine.

    Args:
        uri: Path or address.
        what: What is there, for the error: "images".

    Returns:
        `uri`.

    Raises:
        ConfigurationError: If the location is in a store.
    """
    if scheme_of(uri):
        raise ConfigurationError(f"{what} {uri} must be on this machine: copy it to a local folder")
    return uri


def check_local_output(folder: str) -> str:
    """The folder of `--output`, if it is on this machine.

    Raises:
        ConfigurationError: If it is empty, in a store, or of another scheme.
    """
    if not folder:
        raise ConfigurationError("--output is empty: name a folder")
    if scheme_of(folder):
        raise ConfigurationError(
            f"--output {folder} is no folder of this machine: write one, and copy it there"
        )
    return folder


def bucket_and_name(uri: str) -> tuple[str, str]:
    """Bucket of an address, and the name of an object in it.

    >>> bucket_and_name("gs://bucket/a/b.tif"), bucket_and_name("s3://bucket")
    (('bucket', 'a/b.tif'), ('bucket', ''))
    """
    bucket, _, name = uri.partition("://")[2].partition("/")
    return bucket, name


def normalized(uri: str) -> str:
    """The same location without `..`, as libraries that join paths leave them.

    >>> normalized("gs://bucket/s1/../s2/a.tif"), normalized("/data/../a.tif")
    ('gs://bucket/s2/a.tif', '/data/../a.tif')
    """
    if not is_remote(uri) or "/../" not in uri:
        return uri
    bucket, name = bucket_and_name(uri)
    return f"{uri.partition('://')[0]}://{bucket}{posixpath.normpath(f'/{name}')}"


def check_parts(uri: str) -> None:
    """Refuse an object whose name libraries that join paths take for that of another one.

    Raises:
        InputError: If a part of its name is `.` or `..`.
    """
    if {".", ".."}.intersection(bucket_and_name(uri)[1].split("/")):
        raise InputError(
            "a part of its name in the store is . or ..: copy it to another name",
            code=FailureCode.CANNOT_OPEN,
        )


def canonical(uri: str) -> str:
    """What two spellings of one location have in common."""
    return checked(uri) if is_remote(uri) else os.path.realpath(uri)


def base_name(uri: str) -> str:
    """The last name of a location.

    >>> base_name("gs://bucket/photos"), base_name("data/photos/")
    ('photos', 'photos')
    """
    return uri.rstrip("/").rpartition("/")[2] if is_remote(uri) else Path(uri).absolute().name


def media_type(uri: str) -> str:
    """What the content of a file is, by its name, for those who look at it in a browser.

    >>> media_type("gs://bucket/preview.png"), media_type("gs://bucket/areas/a.parquet")
    ('image/png', 'application/octet-stream')
    """
    return mimetypes.guess_type(uri)[0] or "application/octet-stream"


def has_wildcards(pattern: str) -> bool:
    """Whether a pattern is a glob.

    >>> has_wildcards("gs://bucket/a/*.tif"), has_wildcards("a.tif")
    (True, False)
    """
    return any(mark in pattern for mark in _WILDCARDS)


def fixed_part(pattern: str) -> str:
    """The location above the first name of a pattern that has a wildcard, and above its last name.

    >>> fixed_part("gs://bucket/photos/**/*.jpg"), fixed_part("data/photos/a.jpg")
    ('gs://bucket/photos', 'data/photos')
    """
    bucket = "/".join(pattern.split("/", 3)[:3]) if is_remote(pattern) else ""
    parts = Path(pattern.removeprefix(bucket).lstrip("/") if bucket else pattern).parts[:-1]
    fixed = takewhile(lambda part: not has_wildcards(part), parts)
    return "/".join([bucket, *fixed]) if bucket else str(Path(*fixed))


def matches(pattern: str, name: str) -> bool:
    """Whether a name with forward slashes matches a glob.

    As in `glob` of the standard library: `*` and `?` stay between two slashes, `**` is any number
    of folders, and wildcards at the beginning of a name do not match a dot.

    >>> matches("**/*.jpg", "a/b/c.jpg"), matches("**/*.jpg", "c.jpg"), matches("*.jpg", "a/b.jpg")
    (True, True, False)
    >>> matches("**", "a/.hidden/b.jpg"), matches("[a-c]/?.tif", "b/1.tif")
    (False, True)
    """
    return _match(pattern.split("/"), name.split("/"))


def _match(patterns: Sequence[str], names: Sequence[str]) -> bool:
    if not patterns or not names:
        return not names and all(pattern == "**" for pattern in patterns)
    first, name = patterns[0], names[0]
    is_hidden = name.startswith(".") and not first.startswith(".")
    if first == "**":
        return _match(patterns[1:], names) or (not is_hidden and _match(patterns, names[1:]))
    return not is_hidden and fnmatch.fnmatchcase(name, first) and _match(patterns[1:], names[1:])


def is_web(pattern: str) -> bool:
    """Whether a pattern is an address of the web.

    >>> is_web("https://example.org/a.tif"), is_web("a.tif"), is_web("gs://bucket/a.tif")
    (True, False, False)
    """
    return scheme_of(pattern) in ("http", "https")


def copied(url: str, limit: int) -> str:
    """The location of a file of the web that is copied before GDAL reads it.

    Args:
        url: Address of the file.
        limit: Bytes that it may have.
    """
    return f"{_COPIED_PREFIX}{limit}/{url}"


def is_copied(uri: str) -> bool:
    """Whether a file of the web is copied before it is read.

    >>> is_copied(copied("https://example.org/a.tif", 5)), is_copied("a.tif")
    (True, False)
    """
    return uri.startswith(_COPIED_PREFIX)


def parts_of_copied(uri: str) -> tuple[int, str]:
    """Bytes that a file may have, and its address.

    >>> parts_of_copied(copied("https://example.org/a.tif", 5))
    (5, 'https://example.org/a.tif')
    """
    limit, _, url = uri.removeprefix(_COPIED_PREFIX).partition("/")
    return int(limit), url


def stack_uri(place: str, content: str) -> str:
    """The location of a VRT that is written nowhere.

    Args:
        place: Where the VRT would be: a path or an address, from which its sources are found.
        content: Text of the VRT, or what `no_stack` returns.
    """
    if "\n" in place:
        what = "a folder or file has a line break in its name, which no VRT can name: rename it"
        place, content = place.replace("\n", "_"), no_stack(FailureCode.CANNOT_OPEN, what)
    return f"{_STACK_PREFIX}{place}\n{content}"


def no_stack(code: str, reason: str) -> str:
    """What stands in place of the text of a VRT that cannot be made.

    Args:
        code: Code of the failure.
        reason: What is wrong.
    """
    return f"{_NO_STACK}{code} {reason}"


def stack_parts(uri: str) -> tuple[str, str] | None:
    """Place and content of a VRT that is written nowhere; None for all other locations.

    >>> stack_parts(stack_uri("in/a.vrt", "<VRTDataset/>")), stack_parts("in/a.vrt")
    (('in/a.vrt', '<VRTDataset/>'), None)
    """
    if not uri.startswith(_STACK_PREFIX):
        return None
    place, _, content = uri.removeprefix(_STACK_PREFIX).partition("\n")
    return place, content


def stack_sources(uri: str) -> tuple[str, ...]:
    """Paths or addresses of the files of a VRT that is written nowhere; empty for all others.

    >>> content = '<SourceFilename relativeToVRT="1">b/red.tif</SourceFilename>'
    >>> stack_sources(stack_uri("gs://in/a.vrt", content)), stack_sources("in/a.vrt")
    (('gs://in/b/red.tif',), ())
    """
    place, content = stack_parts(uri) or ("", "")
    found = re.findall(r'<SourceFilename relativeToVRT="([01])">([^<]*)<', content)
    folder = os.path.dirname(place)
    names = ((flag, unescape(path)) for flag, path in found)
    return tuple(f"{folder}/{name}" if flag == "1" else name for flag, name in names)


def stack_failure(content: str) -> tuple[str, str] | None:
    """Code and reason of a VRT that cannot be made, or None.

    >>> stack_failure(no_stack("wrong_bands", "no red")), stack_failure("<VRTDataset/>")
    (('wrong_bands', 'no red'), None)
    """
    if not content.startswith(_NO_STACK):
        return None
    code, _, reason = content.removeprefix(_NO_STACK).partition(" ")
    return code, reason


def is_address(uri: str) -> bool:
    """Whether a location is of a raster within a file of this machine, in words of GDAL.

    >>> is_address("NETCDF:a.nc:ndvi"), is_address("/vsizip/a.zip/a.tif"), is_address("a.tif")
    (True, True, False)
    """
    return _ADDRESS.match(uri) is not None


def is_one_file(uri: str) -> bool:
    """Whether a location is of one file, here or in a store, which can be asked for as it is.

    >>> is_one_file("a.tif"), is_one_file("gs://bucket/a.tif"), is_one_file("NETCDF:a.nc:ndvi")
    (True, True, False)
    """
    return not (stack_parts(uri) or is_address(uri) or is_read_by_gdal(uri))


def is_read_by_gdal(uri: str) -> bool:
    """Whether a file is where GDAL alone reads it, or a copy for GDAL."""
    return uri.startswith((WEB_PREFIX, _COPIED_PREFIX))

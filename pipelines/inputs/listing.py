"""Input files by patterns: paths of this machine, listings of stores, addresses of the web."""

import json
import os
import tempfile
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from functools import lru_cache
from heapq import merge
from itertools import chain, count, groupby, islice
from pathlib import Path
from stat import S_ISDIR, S_ISREG

from pipelines.inputs.catalogue import NameSet
from pipelines.inputs.zarr import is_zarr, state_of_zarr, zarr_address
from pipelines.run.directory import EVALUATION, RUN, is_run, lies_in_run
from pipelines.storage import filesystem, locations, web
from pipelines.storage.clients import StoredObject, store_of
from pipelines.storage.clients.local import status_of
from pipelines.storage.copies import COPIES
from segmodel.devices.disks import room, temporary_folder
from segmodel.errors import ConfigurationError, FailureCode, InputError
from segmodel.rasters.world_files import may_have_sidecars

# Of a listing that waits in memory for its end.
SPOOLED_BYTES = 16 << 20
FOLDERS_KNOWN = 10_000
# Names of a folder that are sorted in memory.
NAMES_SORTED = 10_000
# Links to folders in folders that links led to: k folders that link to each other have k! ways.
MAX_NESTED_LINKS = 1_000


@dataclass(frozen=True)
class FoundFile:
    """A file as a listing shows it.

    Args:
        uri: How to open it.
        name: Path below the root of its pattern, with forward slashes.
        size: Bytes.
        version: Changes when the content does; see `StoredObject`.
        address: How GDAL opens it, where that is not by `uri`.
        real_path: Path of a file of this machine without links; else empty.
    """

    uri: str
    name: str
    size: int
    version: str
    address: str = ""
    real_path: str = ""


def root_of(pattern: str) -> str:
    """The location below which a pattern varies.

    >>> root_of("data/photos/**/*.jpg"), root_of("gs://bucket/photos/*.jpg")
    ('data/photos', 'gs://bucket/photos')
    """
    if locations.is_remote(pattern):
        whole = locations.checked(pattern)
        is_folder = not locations.has_wildcards(whole) and filesystem.stat(whole) is None
        return whole if is_folder else locations.fixed_part(whole)
    if os.path.isdir(pattern) and not is_zarr(pattern):
        return os.path.normpath(pattern)
    return locations.fixed_part(pattern)


def input_files(
    pattern: str,
    output: str,
    on_file: Callable[[], object] = lambda: None,
    on_object: Callable[[str], object] = lambda uri: None,
    leaves_out: Callable[[FoundFile], bool] = lambda found: False,
) -> Iterator[FoundFile]:
    """As `find_files`, without what is in a run directory.

    Args:
        pattern: File, folder or glob, here or in a store.
        output: Run directory of this run; those of others are known by their `run.json`.
        on_file: Function to call for every file of a listing.
        on_object: Function to call with the location of every object of a store on the way, whether
            it matches or not.
        leaves_out: As in `find_files`.
    """
    own = os.path.join(locations.canonical(output), "")
    if locations.is_remote(pattern):
        yield from _remote_inputs(pattern, own, on_file, on_object)
        return
    root, runs = root_of(pattern), dict[str, bool]()
    for file in find_files(pattern, leaves_out=leaves_out):
        on_file()
        if len(runs) == FOLDERS_KNOWN:
            # A listing is in order, so that most of what is known is not asked for again.
            runs.clear()
        if not file.real_path.startswith(own) and not lies_in_run(file.uri, root, runs):
            yield file


def _remote_inputs(
    pattern: str, own: str, on_file: Callable[[], object], on_object: Callable[[str], object]
) -> Iterator[FoundFile]:
    """The listing to its end, as `run.json` comes after much of what a run wrote."""
    runs = {own}

    def note_run(found: StoredObject) -> None:
        on_file()
        on_object(found.uri)
        if found.uri.endswith("/run.json") and _is_run(found.uri):
            runs.add(found.uri.removesuffix("run.json"))

    with (
        room(temporary_folder()) as above,
        tempfile.SpooledTemporaryFile(SPOOLED_BYTES, "w+", encoding="utf-8", dir=above) as spool,
    ):
        for file in find_files(pattern, note_run):
            spool.write(json.dumps(astuple(file)) + "\n")
        spool.seek(0)
        for line in spool:
            file = FoundFile(*json.loads(line))
            if runs.isdisjoint(_folders_above(file.uri)):
                yield file


def _is_run(uri: str) -> bool:
    try:
        return is_run(json.loads(filesystem.read_bytes(uri)), RUN, EVALUATION)
    except (FileNotFoundError, ValueError):
        return False


def _folders_above(uri: str) -> Iterator[str]:
    """Folders that an object is in, with a slash at the end.

    >>> list(_folders_above("gs://bucket/a/b.png"))
    ['gs://bucket/a/', 'gs://bucket/', 'gs://', 'gs:/']
    """
    while folder := uri.rpartition("/")[0]:
        yield f"{folder}/"
        uri = folder


def find_files(
    pattern: str,
    on_object: Callable[[StoredObject], None] = lambda found: None,
    leaves_out: Callable[[FoundFile], bool] = lambda found: False,
) -> Iterator[FoundFile]:
    """Files of a pattern in order of name: a file, a folder with all below it, or a glob.

    A Zarr store of this machine is one file. Hidden files are left out, and so is what vanishes
    while it is listed. A link that leads nowhere is a file without bytes, unless it is the pattern
    itself. A listing of an object store is read page by page.

    Args:
        pattern: File, folder or glob, here or in a store.
        on_object: Function to call with every object of a store on the way, whether it matches or
            not.
        leaves_out: Whether the caller leaves out a file, or all that is in a folder; such a folder
            need not be readable.

    Raises:
        ConfigurationError: If a pattern leads out of its root, or a folder may not be read.
        OSError: If a folder cannot be read now.
    """
    if locations.is_remote(pattern):
        return _find_remote(pattern, on_object)
    return _find_local(pattern, leaves_out)


def _find_local(pattern: str, leaves_out: Callable[[FoundFile], bool]) -> Iterator[FoundFile]:
    root = root_of(pattern)

    def may_fail(folder: str) -> bool:
        return leaves_out(FoundFile(folder, _name_below(root, folder), 0, ""))

    try:
        yield from _files_of(pattern, root, may_fail)
    except PermissionError as error:
        raise ConfigurationError(
            f"{error.filename} may not be read: {error.strerror}. Ask for the right to read it, or "
            f"leave it out, as with --exclude"
        ) from error


def _name_below(root: str, path: str) -> str:
    return Path(os.path.relpath(path, root)).as_posix()


def _files_of(pattern: str, root: str, may_fail: Callable[[str], bool]) -> Iterator[FoundFile]:
    is_named = False
    if is_zarr(pattern):
        paths = iter([os.path.normpath(pattern)])
    elif _is_folder(pattern):
        paths = _matching(pattern, ["**"], may_fail, count())
    elif is_named := filesystem.exists(pattern):
        paths = iter([pattern])
    else:
        parts = Path(pattern).parts[len(Path(root).parts) :]
        paths = _matching("" if root == "." else root, parts, may_fail, count())

    @lru_cache(1)
    def of_folder(folder: str) -> tuple[str, str]:
        """Path of a folder without links, and its path below the root; files come by folders."""
        return os.path.realpath(folder), _name_below(root, folder or ".")

    for path, _ in groupby(paths):
        size, version, address = 0, "", ""
        status = status_of(path)
        is_link = os.path.islink(path)
        if status is None:
            # To read a link that leads nowhere fails, with a reason.
            if not is_link or is_named:
                continue
        elif S_ISDIR(status.st_mode) and is_zarr(path):
            (size, version), address = state_of_zarr(path), zarr_address(path)
        elif S_ISREG(status.st_mode):
            size, version = status.st_size, str(status.st_mtime_ns)
        else:
            continue
        folder, base = os.path.split(path)
        real, below = of_folder(folder)
        name = base if below == "." else f"{below}/{base}"
        if name.startswith("../"):
            raise ConfigurationError(f"--input {pattern}: write the path without ..")
        real_path = os.path.realpath(path) if is_link or address else os.path.join(real, base)
        yield FoundFile(path, name, size, version, address, real_path)


def _matching(
    folder: str,
    parts: Sequence[str],
    may_fail: Callable[[str], bool],
    nested: Iterator[int],
    linked: frozenset[str] = frozenset(),
) -> Iterator[str]:
    """Paths below a folder by a glob in order; what cannot be listed is no empty folder.

    One may come several times in a row.

    Args:
        folder: Where the first name is looked for; empty for the working directory.
        parts: Names of the glob; `**` is any number of folders, and at the end all files below.
            An empty pattern has none, and matches nothing.
        may_fail: Whether nobody asks for what is in a folder that cannot be read.
        nested: Numbers of links that are followed in folders that links led to.
        linked: Real paths of folders that links led to on the way; what leads back to one, or to a
            folder above, is left out, as it would have no end.

    Raises:
        OSError: If a folder is there and cannot be read.
    """
    if not parts:
        return
    first, rest = parts[0], parts[1:]
    if first != "**" and not locations.has_wildcards(first):
        path = os.path.join(folder, first)
        if rest:
            yield from _matching(path, rest, may_fail, nested, linked)
        elif filesystem.exists(path):
            yield path
        return
    is_any = first == "**"

    def below() -> Iterator[str]:
        for name in _names(folder, "*" if is_any else first, bool(is_any or rest), may_fail):
            path = os.path.join(folder, name)
            if not name.endswith("/"):
                if not rest:
                    yield path
                continue
            path = path[:-1]
            real = {os.path.realpath(path)} if os.path.islink(path) else set()
            above = os.path.join(os.path.realpath(folder), "") if real else ""
            if real & linked or any(above.startswith(os.path.join(one, "")) for one in real):
                continue
            if real and linked and next(nested) == MAX_NESTED_LINKS:
                raise ConfigurationError(
                    f"{folder}: links lead from folder to folder in more than {MAX_NESTED_LINKS} "
                    f"ways: name the folders themselves by --input, or remove links"
                )
            yield from _matching(path, parts if is_any else rest, may_fail, nested, linked | real)

    if is_any and rest:
        yield from merge(_matching(folder, rest, may_fail, nested, linked), below())
    else:
        yield from below()


def _names(
    folder: str, wanted: str, with_folders: bool, may_fail: Callable[[str], bool]
) -> Iterable[str]:
    """Names in a folder that match a glob, in the order of all paths below them.

    Args:
        folder: Folder, which may have any number of names.
        wanted: Glob.
        with_folders: Whether folders are looked into; their names have a slash at the end then.
        may_fail: As of `_matching`.
    """
    found = (
        f"{entry.name}/" if with_folders and _is_looked_into(entry) else entry.name
        for entry in _entries(folder, may_fail)
        if locations.matches(wanted, entry.name)
    )
    first = list(islice(found, NAMES_SORTED))
    return sorted(first) if len(first) < NAMES_SORTED else NameSet(chain(first, found))


def _entries(folder: str, may_fail: Callable[[str], bool]) -> Iterator[os.DirEntry[str]]:
    """What is in a folder; nothing where it is none, has vanished, or may fail and does."""
    try:
        with os.scandir(folder or ".") as entries:
            yield from entries
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError:
        if not may_fail(folder):
            raise


def _is_looked_into(entry: os.DirEntry[str]) -> bool:
    """Whether an entry leads to a folder that is no file."""
    leads = _is_folder(entry.path) if entry.is_symlink() else entry.is_dir()
    return leads and not is_zarr(entry.path)


def _is_folder(path: str) -> bool:
    """Whether there is a folder of that path; raises `OSError` where that cannot be told."""
    return filesystem.exists(path) and os.path.isdir(path)


def _find_remote(pattern: str, on_object: Callable[[StoredObject], None]) -> Iterator[FoundFile]:
    whole = locations.checked(pattern)
    root = root_of(whole)
    store = store_of(whole)
    single = store.stat(whole)
    if single is not None:
        yield FoundFile(whole, whole[len(root) + 1 :], single.size, single.version)
        return
    wanted = whole[len(root) + 1 :] or "**"
    for found in store.below(root):
        on_object(found)
        name = _without_dots(found.uri[len(root) + 1 :])
        # A name that ends with a slash is a folder that a console made.
        if not name.endswith("/") and locations.matches(wanted, name):
            yield FoundFile(found.uri, _as_path(name), found.size, found.version)


def _as_path(name: str) -> str:
    """A name of an object as a path of its own.

    >>> _as_path("a//b.jpg")
    'a/%/b.jpg'
    """
    return "/".join(part or "%" for part in name.split("/"))


def _without_dots(name: str) -> str:
    """A name of an object without what leads elsewhere in a path; to read it fails, with a reason.

    >>> _without_dots("a/../.hidden/./b.jpg")
    'a/%2E%2E/.hidden/%2E/b.jpg'
    """
    return "/".join("%2E" * len(p) if p in (".", "..") else p for p in name.split("/"))


def find_web(address: str, copy_bytes: int | None = None) -> FoundFile:
    """The file behind an address of the web, whose servers have no lists of their files.

    Its version follows from what the server says of it.

    Args:
        address: Address that begins with http:// or https://.
        copy_bytes: Bytes up to which a file is copied if it is a JPEG, PNG or WebP image, or its
            server gives no byte ranges; None if none is.

    Returns:
        File with the path that GDAL opens, its name, its size in bytes (0 where the server does not
        say), and a version from size, time of modification and entity tag.

    Raises:
        ConfigurationError: If there is none, it can neither be read by ranges nor copied, or the
            address holds what may be a secret.
        TransientError: If the server cannot be reached.
    """
    parts = urllib.parse.urlsplit(address)
    name = urllib.parse.unquote(parts.path).rpartition("/")[2]
    plain = web.plain_address(address)
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ConfigurationError(
            f"--input {plain}: an address is written to the plan of the run, so it must have "
            f"neither user nor query: give GDAL the credentials (GDAL_HTTP_HEADER_FILE or .netrc)"
        )
    if not name:
        raise ConfigurationError(f"--input {plain}: name a file; a web server lists no folder")
    quoted = urllib.parse.quote(parts.path, safe="/%:~+,;=!$&'()*")
    whole = urllib.parse.urlunsplit(parts._replace(path=quoted))
    try:
        file = web.ask_server(whole)
        if may_have_sidecars(name):
            file = replace(file, fault="image files are read as a whole")
        if not file.fault:
            size, headers, uri = file.size or 0, file.headers, locations.WEB_PREFIX + whole
        else:
            size = _size_of_copy(whole, file, copy_bytes)
            headers, uri = file.get_headers, locations.copied(whole, copy_bytes or 0)
    except InputError as error:
        raise ConfigurationError(f"--input {error}", code=error.code) from error
    return FoundFile(uri, name, size, web.version_of(size, headers))


def _size_of_copy(url: str, file: web.WebFile, copy_bytes: int | None) -> int:
    """Size of a file that is not read from its server by ranges.

    Raises:
        InputError: If it is not to be copied, or larger than what is.
    """
    size = file.size
    if copy_bytes is None:
        about = "" if size is None else f" ({size / (1 << 20):,.1f} MiB)"
        raise InputError(
            f"{file.fault}: copy the file{about} with --copy_web SIZE, or download it",
            code=FailureCode.NO_RANGES,
            name=web.plain_address(url),
        )
    if size is None:
        with COPIES.path(locations.copied(url, copy_bytes)) as path:
            return os.path.getsize(path)
    if size > copy_bytes:
        raise web.too_large(size, copy_bytes, url)
    return size

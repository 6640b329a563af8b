"""Input files of patterns, each once, with their folders in the run directory."""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence

from pipelines.inputs.addresses import find_address
from pipelines.inputs.catalogue import Catalogue
from pipelines.inputs.exclusion import Exclusion
from pipelines.inputs.listing import FoundFile, find_web, input_files, root_of
from pipelines.inputs.sidecars import Sidecars
from pipelines.inputs.zarr import is_zarr
from pipelines.run import progress
from pipelines.run.plan import InputFile
from pipelines.storage import locations
from pipelines.storage.locations import is_web
from segmodel.errors import ConfigurationError


def list_inputs(
    patterns: Sequence[str],
    output: str,
    folders: Mapping[str, str] | None = None,
    exclude: Sequence[str] = (),
    copy_web: int | None = None,
    sidecars: Sidecars | None = None,
) -> Catalogue:
    """Files of all patterns, each once, in order of patterns and names.

    Args:
        patterns: Files, folders or globs.
        output: Run directory; neither what is in it nor in that of another run is an input.
        folders: Folders in the run directory by digest of the root, see `root_folders`; None makes
            them from the patterns.
        exclude: Patterns of files that are left out, see `Exclusion`.
        copy_web: Bytes up to which a file is copied if its web server gives no byte ranges.
        sidecars: Notes what listings show beside images, or None if nobody asks for it.

    Raises:
        ConfigurationError: If a pattern matches nothing, or nothing that is not left out, or what
            is on the web cannot be read.
        TransientError: If a web server cannot be reached.
    """
    folders = root_folders(patterns) if folders is None else folders
    sidecars = sidecars or Sidecars()
    found, lines = Catalogue(), progress.ProgressLines("listed {:,} files")
    exclusion = Exclusion(exclude)
    for number, pattern in enumerate(patterns):
        folder, matched, excluded = folders[_root_key(_root_of(pattern))], False, False
        is_of_web, address = is_web(pattern), find_address(pattern)
        if is_of_web:
            files: Iterable[FoundFile] = [find_web(pattern, copy_web)]
        elif address is not None:
            files = [address.find()]
        else:
            files = input_files(pattern, output, lines.add, sidecars.note, exclusion.leaves_out)
            sidecars.note_beside(locations.checked(pattern))
        for file in files:
            if exclusion.leaves_out(file, folder):
                excluded = True
                continue
            matched = True
            name = printable_path(file.name)
            uri = file.address or file.uri
            input_file = InputFile(uri, folder, name, file.size, file.version)
            found.add(file.real_path or file.uri, input_file, number)
        if not matched:
            raise ConfigurationError(
                f"--input {pattern} matches only files that --exclude leaves out"
                if excluded
                else f"--input {pattern} matches no file: check the path, and quote patterns with *"
            )
    return found


def root_folders(patterns: Sequence[str], known: Mapping[str, str] | None = None) -> dict[str, str]:
    """A folder in the run directory for each input root, by a digest of where the root is.

    It has the root's own name, with the digest behind it if another root has that name already.

    Args:
        patterns: Files, folders or globs.
        known: Folders that an earlier attempt has given; they stay.

    Returns:
        Folders by the first 16 hex digits of the SHA-256 of the location of the root.
    """
    folders = dict(known or {})
    for pattern in patterns:
        root = _root_of(pattern)
        key = _root_key(root)
        if key not in folders:
            name = printable_path(locations.base_name(root)) or "root"
            folders[key] = f"{name}-{key[:8]}" if name in folders.values() else name
    return folders


def location_given(key: str, patterns: Sequence[str]) -> str:
    """Where a file is by the words of the patterns, or its name in tables where they do not say it.

    Args:
        key: Name of the file in tables.
        patterns: Files, folders or globs.
    """
    folder, _, name = key.partition("/")
    folders = root_folders(patterns)
    roots = map(_root_of, patterns)
    root = next((root for root in roots if folders[_root_key(root)] == folder), folder)
    return name if root == "." else f"{root}/{name}"


def names_file(pattern: str) -> bool:
    """Whether a pattern is the name of one file, neither a folder nor a glob."""
    if is_web(pattern) or find_address(pattern) is not None:
        return True
    if not locations.is_remote(pattern):
        return os.path.isfile(pattern) or is_zarr(pattern)
    return not locations.has_wildcards(pattern) and root_of(pattern) != locations.checked(pattern)


def _root_of(pattern: str) -> str:
    """The folder or address below which a pattern varies."""
    address = find_address(pattern)
    if address is not None:
        return address.root or "."
    return pattern.rpartition("/")[0] if is_web(pattern) else root_of(locations.checked(pattern))


def _root_key(root: str) -> str:
    place = root if is_web(root) else locations.canonical(root)
    return hashlib.sha256(os.fsencode(place)).hexdigest()[:16]


def printable_path(name: str) -> str:
    r"""A name with what is no UTF-8 written out, so that tables and paths can hold it.

    >>> printable_path("caf\udce9.png")
    'caf\\udce9.png'
    """
    return name.encode("utf-8", "backslashreplace").decode()

"""Where inputs may be read from, also through what they name.

A VRT is a program for GDAL: it names files of this machine and addresses that GDAL opens with the
rights of the user. So what an input names must lie where the inputs are, unless they are trusted.
"""

import os
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from pipelines.geodesy.vector_files import LAYER
from pipelines.inputs.addresses import find_address
from pipelines.inputs.listing import root_of
from pipelines.rasters.gdal import OPENER
from pipelines.rasters.sources import MAX_FILES, names_found, names_in, not_checked, unwrapped
from pipelines.storage import locations
from segmodel.errors import FailureCode, InputError
from segmodel.rasters.completeness import NO_PATH
from segmodel.rasters.opening import GDAL_ERRORS, OpenRaster

INPUT = "--input"
# Has GDAL ask no server for what a file on this machine names, before that is looked at.
_OFFLINE = {"CPL_VSIL_CURL_ALLOWED_FILENAME": "none", "GDAL_DISABLE_READDIR_ON_OPEN": "TRUE"}


@dataclass(frozen=True)
class Reach:
    """Where inputs may read from.

    Args:
        roots: Real paths of folders of this machine, and locations in stores.
        hosts: Hosts of the web with their ports, in small letters.
        option: Option that names them.
    """

    roots: frozenset[str]
    hosts: frozenset[str]
    option: str = INPUT

    @classmethod
    def of(cls, patterns: Sequence[str], option: str = INPUT) -> "Reach":
        """The folders and hosts that patterns name.

        Args:
            patterns: Files, folders, globs and addresses.
            option: Option that has them.
        """
        roots, hosts = set(), set()
        for pattern in patterns:
            address = find_address(pattern)
            if locations.is_web(pattern):
                hosts.add(urlsplit(pattern).netloc.lower())
            elif address is not None:
                roots.add(os.path.realpath(address.root or "."))
            else:
                roots.add(locations.canonical(root_of(locations.checked(pattern))))
        return cls(frozenset(roots), frozenset(hosts), option)

    def allows(self, name: str) -> bool:
        """Whether a file may be read.

        Args:
            name: Location without anything of GDAL's around it.
        """
        if locations.is_web(name):
            return urlsplit(name).netloc.lower() in self.hosts
        if locations.is_remote(name):
            place = locations.normalized(name)
        elif NO_PATH.match(name):
            return False
        else:
            place = os.path.realpath(name)
        return any(place.startswith(os.path.join(root, "")) for root in self.roots)

    def guard(self, uri: str, open_raster: Callable[[], OpenRaster]) -> OpenRaster:
        """A raster that is opened unless it may not be read, for `Opener`.

        Args:
            uri: Location of the raster.
            open_raster: Opens it.

        Raises:
            InputError: If it names what may not be read, also through others that it names, or it
                cannot be told what it names.
        """
        is_stack = locations.stack_parts(uri) is not None
        here = self._with_folder(uri)
        # Of what is elsewhere, GDAL's word for it spares a request.
        named = {*names_in(uri)} if locations.is_local(uri) else set()
        # What we stacked is made of inputs.
        seen = here.follow(named, allowed=named if is_stack else frozenset())
        with OPENER.env(uri, **_settings(uri, seen)):
            opened = open_raster()
            try:
                if not is_stack:
                    here.follow(names_found(uri, opened), seen)
            except BaseException:
                opened.close()
                raise
        return opened

    def _with_folder(self, uri: str) -> "Reach":
        """The same with the folder of a raster, to which a link may have led."""
        path = unwrapped(uri)
        if not locations.is_local(path) or locations.stack_parts(uri) is not None:
            return self
        folders = {os.path.realpath(os.path.dirname(path)), os.path.dirname(os.path.realpath(path))}
        return replace(self, roots=self.roots | folders)

    def follow(
        self,
        names: Iterable[str],
        seen: Collection[str] = (),
        allowed: Collection[str] = (),
    ) -> set[str]:
        """All that is read where some names are.

        Args:
            names: Names of GDAL.
            seen: Those that need no further look.
            allowed: Those that may be read wherever they are.

        Raises:
            InputError: As `guard` does.
        """
        followed, ahead = {*seen}, [*names]
        while ahead:
            name = ahead.pop()
            if name in followed:
                continue
            if name not in allowed and not self.allows(unwrapped(name)):
                raise self._refusal(unwrapped(name))
            followed.add(name)
            if len(followed) > MAX_FILES:
                raise not_checked(f"a list of more than {MAX_FILES:,} files")
            ahead += names_in(name)
            ahead += _names_of_opened(name)
        return followed

    def _refusal(self, name: str) -> InputError:
        # An address has its signature behind the name.
        what = os.path.basename(name.partition("?")[0].rstrip("/")) or "a folder"
        where = "lies below no"
        if locations.is_web(name):
            what, where = f"the host {urlsplit(name).hostname}", "is named by no"
        remedy = f"name that by {INPUT} too, or " if self.option == INPUT else ""
        return InputError(
            f"it is read from {what}, which {where} {self.option}: {remedy}give --trust_inputs if "
            f"you trust whoever made the file",
            code=FailureCode.NOT_TRUSTED,
        )


def check_vectors(path: str, option: str) -> None:
    """Refuse a vector file that names files outside of its folder.

    Args:
        path: The file, as `vector_files.read_polygons` takes it.
        option: Option that names it.

    Raises:
        InputError: If it does, or it cannot be told what it names.
    """
    place = path.partition(LAYER)[0]
    if not locations.can_be_asked(place):
        return
    try:
        Reach.of([place], option).follow(names_in(place))
    except InputError as error:
        name = f"{option} {os.path.basename(place)}"
        raise InputError(error.text, code=error.code, name=name) from error


def _names_of_opened(name: str) -> list[str]:
    """What GDAL finds that a file is read from; nothing where it cannot open it."""
    uri = f"{locations.WEB_PREFIX}{name}" if locations.is_web(name) else name
    try:
        with OPENER.env(uri, **_settings(uri, ())):
            opened = OPENER.open(uri)
            with opened:
                return [*names_found(uri, opened)]
    except InputError as error:
        if error.code == FailureCode.UNSUPPORTED:
            # GDAL would open it all the same once its pixels are asked for.
            what = os.path.basename(unwrapped(name))
            raise InputError(f"it is read from {what}: {error.text}", code=error.code) from error
        if error.code == FailureCode.NOT_TRUSTED:
            raise
        return []
    except GDAL_ERRORS:
        return []


def _settings(uri: str, names: Iterable[str]) -> dict[str, str]:
    """GDAL's settings to open a raster, by which it asks no server for what is not looked at."""
    return _OFFLINE if all(map(locations.is_local, map(unwrapped, (uri, *names)))) else {}

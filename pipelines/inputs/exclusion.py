"""Files that `--exclude` leaves out."""

import os
from collections.abc import Iterable, Sequence

from pipelines.inputs.listing import FoundFile
from pipelines.storage import locations


class Exclusion:
    """Files that patterns leave out; what a pattern matches is left out with all that is in it.

    A pattern without a slash goes by the names of files and folders at any depth, as in
    `.gitignore`. One with a slash goes by the path below the folder of `--input`, or by the whole
    location as `--input` would name it; one that is no glob also by the name in tables.

    Args:
        patterns: Globs in which `*` and `?` stay between two slashes and `**` is any depth.

    >>> out = Exclusion(["quicklook", "*.jpg", "2019/**/draft_*"])
    >>> [out.leaves_out(FoundFile(f"/d/{n}", n, 1, "")) for n in ("a/quicklook/b.tif", "a/b.jpg",
    ...     "2019/may/1/draft_3.tif", "2020/draft_3.tif")]
    [True, True, True, False]
    >>> [Exclusion([p]).leaves_out(FoundFile("/d/a.tif", "a.tif", 1, ""), "scenes")
    ...     for p in ("scenes/a.tif", "*/a.tif")]
    [True, False]
    """

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        cleaned = [pattern.rstrip("/").removeprefix("./") for pattern in patterns]
        self._names = [pattern for pattern in cleaned if "/" not in pattern]
        self._paths = [pattern for pattern in cleaned if "/" in pattern]
        self._whole = [_whole(pattern) for pattern in self._paths]
        self._in_tables = [path for path in self._paths if not locations.has_wildcards(path)]

    def leaves_out(self, file: FoundFile, folder: str = "") -> bool:
        """Whether a file, or a folder that it is in, matches a pattern.

        Args:
            file: A file of `--input`.
            folder: Name of the folder of `--input` in tables; empty where there are none.
        """
        parts = file.name.split("/")
        if any(locations.matches(pattern, part) for pattern in self._names for part in parts):
            return True
        if not self._paths:
            return False
        return (
            _matches_any(self._paths, parts)
            or _matches_any(self._in_tables, [folder, *parts])
            or _matches_any(self._whole, _whole(file.uri).split("/"))
        )


def _whole(location: str) -> str:
    return location if locations.scheme_of(location) else os.path.abspath(location)


def _matches_any(patterns: Sequence[str], parts: Sequence[str]) -> bool:
    """Whether a path, or one that it lies in, matches a glob."""
    above = ["/".join(parts[:length]) for length in range(1, len(parts) + 1)]
    return any(locations.matches(pattern, path) for pattern in patterns for path in above)

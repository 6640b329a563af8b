"""Input files, kept on disk: each once, in order, by format and by group."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, overload

from pipelines.inputs.disk_tables import Database, to_bytes, to_text
from pipelines.run.plan import InputFile

PAGE_ROWS = 1000
_TABLE = """
CREATE TABLE files (
    number INTEGER PRIMARY KEY,
    place BLOB NOT NULL UNIQUE,
    uri BLOB,
    folder TEXT NOT NULL,
    name TEXT NOT NULL,
    size INTEGER NOT NULL,
    version TEXT NOT NULL,
    format TEXT,
    position INTEGER,
    records INTEGER
)"""
_INDEX = "CREATE INDEX IF NOT EXISTS by_format ON files (format, position)"
_FILE = "coalesce(uri, place), folder, name, size, version"
_KEY = "folder || '/' || name"


def group_of(key: str, groups: int) -> int:
    """The group of an image file, which depends on its key alone."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % groups


class Catalogue:
    """Input files in the order in which they were added.

    They are in a temporary file, and a few pages of it in memory, so that a million files take no
    more memory than a thousand.
    """

    def __init__(self) -> None:
        self._tables = Database(_TABLE)
        self._tables.add_function("group_of", 2, group_of)
        self._new: list[tuple[Any, ...]] = []

    def add(self, place: str, file: InputFile) -> None:
        """Add a file, unless there is one at the same place already.

        Args:
            place: Canonical location of the file, however it was found.
            file: File as it was found.
        """
        uri = None if file.uri == place else to_bytes(file.uri)
        row = (to_bytes(place), uri, file.folder, file.name, file.size, file.version)
        self._new.append(row)
        if len(self._new) == PAGE_ROWS:
            self._flush()

    def sort(self, claim: Callable[[list[InputFile]], Iterable[tuple[str, str] | None]]) -> int:
        """Give files their formats.

        Args:
            claim: Function that says format and version of each of some files, or None for a file
                that has no format.

        Returns:
            Number of files without a format.
        """
        counts: Counter[str | None] = Counter()
        for page in self._pages():
            claims = claim([_input_file(fields) for _, *fields in page])
            changes = []
            for (number, *_), claimed in zip(page, claims, strict=True):
                owner, version = claimed or (None, None)
                if owner is not None:
                    changes.append((owner, version, counts[owner], number))
                counts[owner] += 1
            self._tables.run_each(
                "UPDATE files SET format = ?, version = ?, position = ? WHERE number = ?", changes
            )
        self._tables.run(_INDEX)
        return counts[None]

    def limit(self, format_name: str, records: Iterable[int]) -> int:
        """Keep only the first files of a format.

        Args:
            format_name: Name of the format.
            records: How many records to read of each file that is kept.

        Returns:
            Sum of `records`.
        """
        self._tables.run_each(
            "UPDATE files SET records = ? WHERE format = ? AND position = ?",
            ((count, format_name, position) for position, count in enumerate(records)),
        )
        self._tables.run("DELETE FROM files WHERE format = ? AND records IS NULL", format_name)
        query = "SELECT coalesce(sum(records), 0) FROM files WHERE format = ?"
        return int(self._tables.value(query, format_name))

    def of_format(self, name: str) -> "Files":
        """Files of one format, once they are sorted."""
        return Files(self._tables, name)

    def __iter__(self) -> Iterator[InputFile]:
        for page in self._pages():
            for _, *fields in page:
                yield _input_file(fields)

    def __len__(self) -> int:
        self._flush()
        return int(self._tables.value("SELECT count(*) FROM files"))

    def _pages(self) -> Iterator[list[tuple[Any, ...]]]:
        self._flush()
        return _pages(self._tables, "number", "TRUE")

    def _flush(self) -> None:
        self._tables.run_each(
            "INSERT OR IGNORE INTO files (place, uri, folder, name, size, version) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            self._new,
        )
        self._new.clear()


class Files(Sequence[InputFile]):
    """Files of one format in the order in which they were added, read as they are asked for.

    Args:
        tables: Tables of the catalogue.
        format_name: Name of the format.
        records: Take only files of which so many records are read; None takes all files.
    """

    def __init__(self, tables: Database, format_name: str, records: int | None = None) -> None:
        self._tables = tables
        self._where = "format = ?" if records is None else "format = ? AND records = ?"
        self._values = (format_name,) if records is None else (format_name, records)

    def by_records(self) -> Iterator[tuple[int | None, "Files"]]:
        """Files by the number of records that are read of each, which is None for all."""
        query = f"SELECT DISTINCT records FROM files WHERE {self._where} ORDER BY records"
        counts = [count for (count,) in self._tables.rows(query, *self._values)]
        if len(counts) == 1:
            yield counts[0], self
            return
        for count in counts:
            yield count, Files(self._tables, self._values[0], count)

    def in_groups(self, groups: int) -> Iterator[tuple[int, tuple[InputFile, ...]]]:
        """Groups that have files, in order, with their files in order of keys.

        Args:
            groups: Number of groups, see `group_of`.
        """
        rows = self._tables.rows(
            f"SELECT group_of({_KEY}, ?), {_FILE} FROM files WHERE {self._where} "
            f"ORDER BY 1, {_KEY}, position",
            *(groups, *self._values),
        )
        for group, members in groupby(rows, key=lambda row: row[0]):
            yield group, tuple(_input_file(fields) for _, *fields in members)

    def __iter__(self) -> Iterator[InputFile]:
        for page in _pages(self._tables, "position", self._where, *self._values):
            for _, *fields in page:
                yield _input_file(fields)

    def __len__(self) -> int:
        query = f"SELECT count(*) FROM files WHERE {self._where}"
        return int(self._tables.value(query, *self._values))

    @overload
    def __getitem__(self, index: int) -> InputFile: ...

    @overload
    def __getitem__(self, index: slice) -> list[InputFile]: ...

    def __getitem__(self, index: int | slice) -> InputFile | list[InputFile]:
        """One file, or a list of some: a sample, not all."""
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        place = index if index >= 0 else index + len(self)
        # Where files of all numbers of records are taken, none is skipped.
        whole = len(self._values) == 1
        chosen = "AND position = ?" if whole else "ORDER BY position LIMIT 1 OFFSET ?"
        query = f"SELECT {_FILE} FROM files WHERE {self._where} {chosen}"
        if place >= 0:
            for fields in self._tables.rows(query, *self._values, place):
                return _input_file(fields)
        raise IndexError(f"there is no file {place}")


def in_groups(
    files: Sequence[InputFile], groups: int
) -> Iterator[tuple[int, tuple[InputFile, ...]]]:
    """The same of any files; they are sorted on disk."""
    if isinstance(files, Files):
        return files.in_groups(groups)
    catalogue = Catalogue()
    for number, file in enumerate(files):
        catalogue.add(str(number), file)
    catalogue.sort(lambda page: [("", file.version) for file in page])
    return catalogue.of_format("").in_groups(groups)


def _pages(
    tables: Database, number: str, where: str, *values: Any
) -> Iterator[list[tuple[Any, ...]]]:
    """Files page by page, in ascending order of a number, as rows may change meanwhile.

    Args:
        tables: Tables of the catalogue.
        number: Column of numbers from 0.
        where: Condition on the files, with a question mark for each value.
        values: Values for the question marks.

    Yields:
        Rows of the number and the fields of an input file.
    """
    condition = f"WHERE {where} AND {number} > ? ORDER BY {number} LIMIT {PAGE_ROWS}"
    last = -1
    while page := list(
        tables.rows(f"SELECT {number}, {_FILE} FROM files {condition}", *values, last)
    ):
        yield page
        last = page[-1][0]


def _input_file(fields: Sequence[Any]) -> InputFile:
    uri, *rest = fields
    return InputFile(to_text(uri), *rest)

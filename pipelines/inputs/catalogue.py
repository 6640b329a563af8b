"""Input files, kept on disk as they may be too many for memory: each once, in order, by format."""

import hashlib
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby, islice
from typing import Any, overload

from pipelines.inputs.left_aside import LeftAside
from pipelines.run.plan import InputFile
from segmodel.devices.disks import temporary_folder
from segmodel.errors import DiskError

# What a database keeps in memory, and again while it sorts.
CACHE_KIB = 8 << 10
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
    pattern INTEGER NOT NULL,
    format TEXT,
    position INTEGER,
    records INTEGER
)"""
_INDEX = "CREATE INDEX IF NOT EXISTS by_format ON files (format, position)"
_FILE = "coalesce(uri, place), folder, name, size, version"
_KEY = "folder || '/' || name"

Row = tuple[Any, ...]


class Database:
    """Tables of SQLite that nobody else sees, and that vanish with the process however it ends.

    An empty name has SQLite make a file once the cache is full, in the folder for temporary files
    (`SQLITE_TMPDIR`, `TMPDIR`, `/var/tmp`, `/tmp`), and remove its name at once. There is neither a
    journal nor a transaction that ends: nothing is ever undone.

    Args:
        tables: Statements that create the tables.
    """

    def __init__(self, *tables: str) -> None:
        temporary_folder()
        self._connection = sqlite3.connect("", isolation_level=None)
        settings = f"cache_size = {-CACHE_KIB}", "temp_store = FILE"
        for setting in (*settings, "journal_mode = OFF", "synchronous = OFF"):
            self._connection.execute(f"PRAGMA {setting}")
        for statement in (*tables, "BEGIN"):
            self._connection.execute(statement)

    def add_function(self, name: str, arguments: int, function: Callable[..., Any]) -> None:
        """Have statements call a pure function.

        Args:
            name: Name of the function in statements.
            arguments: Number of its arguments.
            function: Function of values of SQLite.
        """
        self._connection.create_function(name, arguments, function, deterministic=True)

    def run(self, statement: str, *values: Any) -> None:
        """Run one statement.

        Args:
            statement: SQL with a question mark for each value.
            values: Values for the question marks.

        Raises:
            DiskError: If there is no room on disk; as all methods.
        """
        self.run_each(statement, [values])

    def run_each(self, statement: str, rows: Iterable[Row]) -> None:
        """Run a statement with the values of each row, of which there may be any number."""
        with _room():
            self._connection.executemany(statement, rows)

    def rows(self, statement: str, *values: Any) -> Iterator[Row]:
        """Rows of a query, read as they are asked for."""
        with _room():
            yield from self._connection.execute(statement, values)

    def value(self, statement: str, *values: Any) -> Any:
        """What a query gives first, or None."""
        with _room():
            row = self._connection.execute(statement, values).fetchone()
        return None if row is None else row[0]


@contextmanager
def _room() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        raise DiskError(
            f"lists of files do not fit in the folder for temporary files ({error}): make room "
            f"there, or set TMPDIR to a folder on another disk",
            name=temporary_folder(),
        ) from error


class NameSet:
    """A set of names in a temporary file.

    Args:
        names: Names to begin with.

    >>> names = NameSet(["b", "a", "b"])
    >>> names.difference_update(["b", "c"])
    >>> list(names), "a" in names, "b" in names
    (['a'], True, False)
    >>> names.issuperset(["a"]), names.issuperset(["a", "b"])
    (True, False)
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._tables = Database("CREATE TABLE names (name BLOB PRIMARY KEY) WITHOUT ROWID")
        self.update(names)

    def update(self, names: Iterable[str]) -> None:
        """Add names."""
        self._tables.run_each("INSERT OR IGNORE INTO names VALUES (?)", zip(map(to_bytes, names)))

    def difference_update(self, names: Iterable[str]) -> None:
        """Remove names that are there."""
        self._tables.run_each("DELETE FROM names WHERE name = ?", zip(map(to_bytes, names)))

    def issuperset(self, names: Iterable[str]) -> bool:
        """Whether all of some names are in the set; each comes once."""
        names = iter(names)
        while page := [to_bytes(name) for name in islice(names, PAGE_ROWS)]:
            marks = ", ".join("?" * len(page))
            query = f"SELECT count(*) FROM names WHERE name IN ({marks})"
            if self._tables.value(query, *page) != len(page):
                return False
        return True

    def __contains__(self, name: object) -> bool:
        known = "SELECT 1 FROM names WHERE name = ?"
        return self._tables.value(known, to_bytes(str(name))) is not None

    def __iter__(self) -> Iterator[str]:
        for (name,) in self._tables.rows("SELECT name FROM names"):
            yield to_text(name)

    def __len__(self) -> int:
        return int(self._tables.value("SELECT count(*) FROM names"))

    def __bool__(self) -> bool:
        return self._tables.value("SELECT 1 FROM names LIMIT 1") is not None


def to_bytes(name: str) -> bytes:
    """A name as tables hold it, in the order of its characters; also what is no UTF-8 of a path.

    >>> to_text(to_bytes("é"))
    'é'
    """
    return name.encode("utf-8", "surrogatepass")


def to_text(name: bytes) -> str:
    """The name that `to_bytes` was given."""
    return name.decode("utf-8", "surrogatepass")


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
        self._new: list[Row] = []

    def add(self, place: str, file: InputFile, pattern: int = 0) -> None:
        """Add a file, unless there is one at the same place already.

        Args:
            place: Canonical location of the file, however it was found.
            file: File as it was found.
            pattern: Number of the pattern that found it.
        """
        uri = None if file.uri == place else to_bytes(file.uri)
        row = (to_bytes(place), uri, file.folder, file.name, file.size, file.version, pattern)
        self._new.append(row)
        if len(self._new) == PAGE_ROWS:
            self._flush()

    def sort(
        self, claim: Callable[[list[InputFile]], Iterable[tuple[str, str] | None]]
    ) -> LeftAside:
        """Give files their formats.

        Args:
            claim: Function that says format and version of each of some files, or None for a file
                that has no format.

        Returns:
            The files without a format.
        """
        left = LeftAside()
        counts: Counter[str | None] = Counter()
        for page in self._pages():
            files = [_input_file(fields) for _, *fields in page]
            changes = []
            for (number, *_), file, claimed in zip(page, files, claim(files), strict=True):
                owner, version = claimed or (None, None)
                if owner is None:
                    left.add(file.key)
                else:
                    changes.append((owner, version, counts[owner], number))
                counts[owner] += 1
            self._tables.run_each(
                "UPDATE files SET format = ?, version = ?, position = ? WHERE number = ?", changes
            )
        self._tables.run(_INDEX)
        return left

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

    def by_pattern(self) -> Iterator[tuple[int, int, int]]:
        """Number of each pattern that found files, how many, and how many of them have a format."""
        query = "SELECT pattern, count(*), count(format) FROM files GROUP BY pattern"
        yield from self._tables.rows(query)

    def first_of(self, pattern: int) -> tuple[InputFile, str | None]:
        """The first file that a pattern found, and its format if it has one."""
        query = f"SELECT format, {_FILE} FROM files WHERE pattern = ? ORDER BY number LIMIT 1"
        name, *fields = next(self._tables.rows(query, pattern))
        return _input_file(fields), name

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

    def _pages(self) -> Iterator[list[Row]]:
        self._flush()
        return _pages(self._tables, "number", "TRUE")

    def _flush(self) -> None:
        self._tables.run_each(
            "INSERT OR IGNORE INTO files (place, uri, folder, name, size, version, pattern) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
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

    def file_keys(self) -> Iterator[str]:
        """Names of the files in tables, in order."""
        for page in _pages(self._tables, "position", self._where, *self._values):
            for _, _, folder, name, *_ in page:
                yield f"{folder}/{name}"

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


def _pages(tables: Database, number: str, where: str, *values: Any) -> Iterator[list[Row]]:
    """Files page by page, in ascending order of a number, as rows may change meanwhile.

    Args:
        tables: Tables of the catalogue.
        number: Column of numbers from 0.
        where: Condition on the files, with a question mark for each value.
        values: Values for the question marks.

    Yields:
        Rows of the number and the fields of an input file.
    """
    order = f"ORDER BY {number} LIMIT {PAGE_ROWS}"
    query = f"SELECT {number}, {_FILE} FROM files WHERE {where} AND {number} > ? {order}"
    last = -1
    while page := list(tables.rows(query, *values, last)):
        yield page
        last = page[-1][0]


def _input_file(fields: Sequence[Any]) -> InputFile:
    uri, *rest = fields
    return InputFile(to_text(uri), *rest)

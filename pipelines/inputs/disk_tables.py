"""Tables in a temporary file, for what may be too much for memory."""

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from segmodel.errors import TransientError

# What a database keeps in memory, and again while it sorts.
CACHE_KIB = 8 << 10


class Database:
    """Tables of SQLite that nobody else sees, and that vanish with the process however it ends.

    An empty name has SQLite make a file once the cache is full, in the folder for temporary files
    (`SQLITE_TMPDIR`, `TMPDIR`, `/var/tmp`, `/tmp`), and remove its name at once. There is neither a
    journal nor a transaction that ends: nothing is ever undone.

    Args:
        tables: Statements that create the tables.
    """

    def __init__(self, *tables: str) -> None:
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
            TransientError: If there is no room on disk; as all methods.
        """
        self.run_each(statement, [values])

    def run_each(self, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """Run a statement with the values of each row, of which there may be any number."""
        with _room():
            self._connection.executemany(statement, rows)

    def rows(self, statement: str, *values: Any) -> Iterator[tuple[Any, ...]]:
        """Rows of a query, read as they are asked for."""
        with _room():
            yield from self._connection.execute(statement, values)

    def value(self, statement: str, *values: Any) -> Any:
        """What a query gives first, or None."""
        return next(self.rows(statement, *values), (None,))[0]


@contextmanager
def _room() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        raise TransientError(
            f"lists of files do not fit in the folder for temporary files ({error}): make room "
            f"there, or name another folder with TMPDIR"
        ) from error


class NameSet:
    """A set of names in a temporary file.

    Args:
        names: Names to begin with.

    >>> names = NameSet(["b", "a", "b"])
    >>> names.difference_update(["b", "c"])
    >>> list(names), "a" in names, "b" in names
    (['a'], True, False)
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

    def __contains__(self, name: str) -> bool:
        found = self._tables.value("SELECT 1 FROM names WHERE name = ?", to_bytes(name))
        return found is not None

    def __iter__(self) -> Iterator[str]:
        for (name,) in self._tables.rows("SELECT name FROM names"):
            yield to_text(name)

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

"""The tables of rows of a unit: areas, and soft areas in runs that have them."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager

import pyarrow as pa

from pipelines.run.area_tables import AreaTable, area_table, rows_of, schema_for
from pipelines.run.areas import Tally
from pipelines.run.commits import Output
from pipelines.run.directory import RunDirectory
from pipelines.run.soft_areas import SOFT_SCHEMA, soft_rows
from pipelines.storage import filesystem
from segmodel.labels.classes import ClassTable
from segmodel.savedmodel.contract import Contract

AREAS, SOFT = "areas", "soft"


def table_paths(unit_id: str, has_soft: bool) -> list[str]:
    """Paths within the run directory of the tables that a unit may write.

    Args:
        unit_id: Id of the unit.
        has_soft: Whether the run has soft areas.
    """
    folders = (AREAS, SOFT) if has_soft else (AREAS,)
    return [f"{folder}/{unit_id}.parquet" for folder in folders]


class UnitTables:
    """Rows of a unit, on disk under temporary names until they are published.

    Args:
        run: The run directory.
        classes: Class table of the label maps.
        paths: Where the tables are written, by folder of the run directory.
        schemas: Columns of the tables, by folder.
    """

    def __init__(
        self,
        run: RunDirectory,
        classes: ClassTable,
        paths: dict[str, str],
        schemas: dict[str, pa.Schema],
    ) -> None:
        self._run, self._classes, self._paths = run, classes, paths
        self._writing, self._has_rows = ExitStack(), False
        self._tables: dict[str, AreaTable] = {
            folder: self._writing.enter_context(area_table(path, schemas[folder]))
            for folder, path in paths.items()
        }

    def add(self, source: str, key: str | None, tally: Tally) -> None:
        """Add the rows of one image, whose sums are rounded."""
        named = source, key, tally, self._classes
        self.add_rows(rows_of(*named), soft_rows(*named))

    def add_rows(
        self, areas: Iterable[dict[str, object]], soft: Iterable[dict[str, object]]
    ) -> None:
        """Add rows of both tables behind the others; a run without soft areas has no second one."""
        self._has_rows = True
        for folder, rows in ((AREAS, areas), (SOFT, soft)):
            if folder in self._tables:
                self._tables[folder].add(rows)

    def publish(self, unit_id: str) -> list[Output]:
        """Put the tables in place of earlier ones, or remove those where there are no rows."""
        self.close()
        outputs = []
        for folder, path in self._paths.items():
            name = f"{folder}/{unit_id}.parquet"
            if self._has_rows:
                outputs.append(Output.of(name, filesystem.publish(path, self._run.path(name))))
            else:
                self._run.remove(name)
        return outputs

    def close(self) -> None:
        """Write what is left; a second time it does nothing."""
        self._writing.close()


@contextmanager
def unit_tables(run: RunDirectory, contract: Contract, has_soft: bool) -> Iterator[UnitTables]:
    """New tables of a unit; what is not published is removed after the block.

    Args:
        run: The run directory.
        contract: Contract of the model.
        has_soft: Whether the run has soft areas.
    """
    schemas = {AREAS: schema_for(contract, has_soft)} | ({SOFT: SOFT_SCHEMA} if has_soft else {})
    with ExitStack() as stack:
        scratch = run.scratch
        paths = {name: stack.enter_context(filesystem.temporary(scratch)) for name in schemas}
        yield stack.enter_context(closing(UnitTables(run, contract.classes, paths, schemas)))

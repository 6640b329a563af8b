"""Pixels and areas of a run scene by scene: pages of a few scenes, read when asked for."""

import io
from collections.abc import Mapping
from functools import cached_property, partial
from typing import NamedTuple

import pyarrow.parquet as pq

from pipelines.layers.maps import LabelMaps
from pipelines.layers.tiles.map_page import filled
from pipelines.run import plan
from pipelines.run.areas import ELSEWHERE, Tally
from pipelines.run.commits import Output
from pipelines.run.plan import CountUnit
from pipelines.storage.threads import in_order
from segmodel.errors import BeamsegError, counted, explained
from segmodel.escaping import on_one_line

# Scenes of a page, and how many pages its links lead on and back.
PORTION, STEPS = 50, (1, 10, 100, 1000)
_COLUMNS = ("class_id", "class", "pixels", "area_m2", "share", "mean_confidence")


class Line(NamedTuple):
    """A row of a table of a page.

    Attributes:
        name: Class, or what else pixels are.
        cells: The others, as text.
    """

    name: str
    cells: list[str]


class SceneTable(NamedTuple):
    """What a page shows of a scene.

    Attributes:
        number: Names its row in the page.
        key: Names the scene.
        lines: Rows; none if they cannot be read.
        error: Why they cannot be read, or empty.
    """

    number: int
    key: str
    lines: list[Line]
    error: str = ""


class SceneRows:
    """Makes pages with the rows of scenes, from the tables of their units.

    Args:
        title: Name of the run.
        maps: Its label maps.
    """

    def __init__(self, title: str, maps: LabelMaps) -> None:
        self._title, self._maps, self._work = title, maps, maps.work
        self._keys = list(maps.scenes)
        self._numbers = {key: number for number, key in enumerate(self._keys)}
        self._nodata = self._work.contract.classes.nodata
        self._has_confidence = any(found.confidence_file for found in maps)

    def link(self, key: str) -> str:
        """Address of the row of a scene."""
        number = self._numbers[key]
        return f"scenes?from={number - number % PORTION}#scene-{number}"

    def page(self, first: int) -> bytes:
        """The page that has a scene.

        Args:
            first: Number of the scene.

        Raises:
            IndexError: If there is none of that number.
        """
        if not 0 <= first < len(self._keys):
            raise IndexError(f"no scene {first}")
        portion, portions = first // PORTION, -(-len(self._keys) // PORTION)
        start = portion * PORTION
        numbers = range(start, min(start + PORTION, len(self._keys)))
        known = {
            "title": self._title,
            "scenes": list(in_order(partial(self._table, self._counts), numbers)),
            "portions": [self._span(number) for number in near_portions(portion, portions)],
            "start": start,
            "total": counted(len(self._keys), "scene"),
            "has_confidence": self._has_confidence,
            "counts_once": self._work.counts_once,
        }
        return filled("scenes.html.jinja", known)

    def _span(self, portion: int) -> tuple[int, str]:
        """Number of the first scene of a portion, and what a link to it says."""
        start = portion * PORTION
        return start, f"{start + 1:,} to {min(start + PORTION, len(self._keys)):,}"

    def _table(self, counts: Mapping[str, str], number: int) -> SceneTable:
        """What there is to say of a scene, or why there is nothing.

        Args:
            counts: By key of a scene the record of what of it counts.
            number: Number of the scene.
        """
        key = self._keys[number]
        table = SceneTable(number, on_one_line(key), [])
        output = self._maps.areas.get(key)
        if output is None:
            return table._replace(error="no table has its areas")
        try:
            return table._replace(lines=self._lines(output, self._counted_once(counts.get(key))))
        except OSError as error:
            return table._replace(error=on_one_line(explained(error, output.path)))
        except (BeamsegError, ValueError) as error:
            return table._replace(error=on_one_line(str(error)))

    def _lines(self, output: Output, once: Tally | None) -> list[Line]:
        """Rows of the table of a scene.

        Args:
            output: The table.
            once: What of the scene counts, in a run that counts ground once.

        Raises:
            FileNotFoundError: If it is not there.
            DamagedError: If it is not as recorded.
        """
        content = io.BytesIO(self._work.log.content(output))
        lines = []
        for row in pq.read_table(content, columns=list(_COLUMNS)).to_pylist():
            is_class = row["class_id"] not in (None, self._nodata)
            shares = [_text(row["share"], ".2%")]
            if self._has_confidence:
                shares.append(_text(row["mean_confidence"], ".3f"))
            name = str(row["class_id"]) if is_class else row["class"]
            measured = _measured(row["pixels"], row["area_m2"])
            lines.append(Line(on_one_line(row["class"]), [*measured, *shares, *_of(once, name)]))
        if once is not None and once.pixels.get(ELSEWHERE):
            blank = ["", "", "", *[""] * self._has_confidence]
            lines.append(Line("counted in other scenes", [*blank, *_of(once, ELSEWHERE)]))
        return lines

    def _counted_once(self, record: str | None) -> Tally | None:
        """What of a scene counts; None in a run that counts ground in each scene that shows it.

        Args:
            record: File name of the record that says so, or None if the plan has none.

        Raises:
            ValueError: If the record that says so is not there, or damaged.
        """
        if not self._work.counts_once:
            return None
        commit = None if record is None else self._work.log.load(record)
        if commit is None:
            raise ValueError("no record says what of it counts")
        return commit.tally

    @cached_property
    def _counts(self) -> dict[str, str]:
        """By key of a scene the record of what of it counts, in a run that counts ground once."""
        units = plan.read_units(self._work.run.plan, CountUnit) if self._work.counts_once else ()
        return {unit.file.key: self._work.log.name(unit) for unit in units}


def near_portions(portion: int, portions: int) -> list[int]:
    """The portions that a page leads to: few, by which one gets to any other in few steps.

    Args:
        portion: That of the page, which is among them.
        portions: How many there are.

    >>> near_portions(0, 2000), near_portions(11, 13)
    ([0, 1, 10, 100, 1000, 1999], [0, 1, 10, 11, 12])
    """
    steps = (sign * step for step in STEPS for sign in (-1, 1))
    near = {0, portion, portions - 1, *(portion + step for step in steps)}
    return sorted(number for number in near if 0 <= number < portions)


def _of(once: Tally | None, name: str) -> list[str]:
    """Cells of what counts; none in a run that counts ground in each scene."""
    if once is None:
        return []
    area_m2 = float(once.area_m2.get(name, 0)) if once.area_m2 else None
    return _measured(once.pixels.get(name, 0), area_m2)


def _measured(pixels: int, area_m2: float | None) -> list[str]:
    return [f"{pixels:,}", _text(area_m2, ",.2f")]


def _text(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)

"""What people say is at the points of a sample: a class by point, held against the design."""

import difflib
import math
import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Sequence

from pipelines.accuracy.design import SampleDesign, SamplePoint
from pipelines.accuracy.label_tables import LabelRow, read_label_rows
from segmodel.errors import ConfigurationError, counted
from segmodel.escaping import inert

# Of coordinates that a spreadsheet has rounded, in degrees: about a metre.
TOLERANCE = 1e-5
_NAMED = 5


def read_labelled(path: str, design: SampleDesign) -> dict[str, int]:
    """The class that was seen at each point of a sample.

    Args:
        path: The table of the sample with its column `class` filled, see `read_label_rows`. A class
            is given by its name; or by its id, where no class has a name that is a number or that a
            spreadsheet would compute.
        design: Design of the sample.

    Returns:
        Class ids by id of the point, in the order of the design; points whose cell is empty, and
        those without a row, are left out.

    Raises:
        ConfigurationError: If the table cannot be read, has a point twice or one that is not in
            the design, has a point at another place, or a class that is not in the class table.
    """
    rows = read_label_rows(path)
    points = {point.id: point for point in design.points}
    _check_ids(rows, points.keys())
    for row in rows:
        _check_place(row, points[row.id])
    words = _words_of_classes(design.classes)
    found = {row.id: _class_of(row, words, design.classes) for row in rows if row.label}
    return {name: found[name] for name in points if name in found}


def _check_ids(rows: Sequence[LabelRow], known: Collection[str]) -> None:
    """Refuse rows of points that are not in the design, and second rows of a point."""
    strange = [row for row in rows if row.id not in known]
    if strange:
        named = ", ".join(repr(row.id[:40]) for row in strange[:_NAMED])
        raise ConfigurationError(
            f"{strange[0].where}: {counted(len(strange), 'row')} of points that are not in the "
            f"design ({named}): give the labelled table of this sample, with its column id as it "
            f"was, or name its design by --design"
        )
    first: dict[str, LabelRow] = {}
    for row in rows:
        if row.id in first:
            raise ConfigurationError(
                f"{row.where}: point {row.id} stands in {first[row.id].where} already: leave one "
                f"row of each point"
            )
        first[row.id] = row


def _check_place(row: LabelRow, point: SamplePoint) -> None:
    """Refuse a point that lies elsewhere than in the design."""
    for lon, lat in row.places:
        if _is_near((lon, lat), point):
            continue
        if _is_near((lat, lon), point):
            found = "longitude and latitude are swapped"
        else:
            found = f"it is at {lon:.6f}, {lat:.6f}, and {point.lon:.6f}, {point.lat:.6f} was drawn"
        raise ConfigurationError(
            f"{row.where}: point {row.id} is not where the design has it ({found}): give the table "
            f"of this sample, with its coordinates as they were"
        )


def _is_near(place: tuple[float, float], point: SamplePoint) -> bool:
    east = math.remainder(place[0] - point.lon, 360)
    return abs(east) <= TOLERANCE and abs(place[1] - point.lat) <= TOLERANCE


def _words_of_classes(classes: Sequence[tuple[int, str]]) -> dict[str, int]:
    """All that a cell may say for a class.

    A name is also known as tables have it, in which no program runs it as a formula.
    """
    meanings = defaultdict[str, set[int]](set)
    for key, name in classes:
        for word in (name, str(inert(name))):
            meanings[_plain(word)].add(key)
    if all(inert(name) == name and not _is_number(name) for _, name in classes):
        for key, _ in classes:
            meanings[str(key)].add(key)
    return {word: keys.pop() for word, keys in meanings.items() if len(keys) == 1}


def _class_of(row: LabelRow, words: dict[str, int], classes: Sequence[tuple[int, str]]) -> int:
    word = _plain(row.label)
    whole = re.fullmatch(r"(\d+)[.,]0+", word)
    key = words.get(word, words.get(whole[1]) if whole else None)
    if key is None:
        near = difflib.get_close_matches(word, [name for _, name in classes], 1)
        hint = f"did you mean {near[0]!r}?" if near else "give one of "
        hint += "" if near else ", ".join(repr(name) for _, name in classes[:20])
        raise ConfigurationError(
            f"{row.where}: class {row.label[:40]!r} of point {row.id} is not in the class table of "
            f"the run: {hint}"
        )
    return key


def _plain(word: str) -> str:
    """A word in the one way of writing its letters."""
    return unicodedata.normalize("NFC", word.strip())


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True

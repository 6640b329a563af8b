"""The plan: which work units a run has, on disk before any work."""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from itertools import chain
from typing import Any, ClassVar, Generic, TypeVar

from pipelines.run.seals import sealed, unsealed
from pipelines.storage import filesystem
from segmodel.errors import DamagedError
from segmodel.tiling.windows import Window

UNITS_PER_PART = 1000
IMAGES_PER_GROUP = 64
GONE = "gone"
# Name of the format of scenes, in plans and ids.
SCENE = "scene"
# What a version has behind that of a listing: the rule that a file is read by, and other files.
_OF_OTHERS = re.compile(r"(?:-r\d+)?(?:-[0-9a-f]{16})?\Z")
# What a line raises that is none of a plan.
MALFORMED = (ValueError, KeyError, TypeError, AttributeError)
# Of a plan line, in this order.
_FIELDS = ("id", "format", "files", "window", "blocks", "records", "scene", "place")


@dataclass(frozen=True)
class InputFile:
    """One input file.

    Args:
        uri: How to open it.
        folder: Folder of its input root in the run directory.
        name: Path below that root, with forward slashes.
        size: Bytes.
        version: Changes when the content does; `GONE` if it is gone and its unit not finished.
        gone: Whether the file is gone, and what is left of it in the run stays; `uri` of a scene is
            then that of its label map.
        acquired: When a scene that is gone was taken, in the words of its file, or None.
        behind: Key of the scene that a scene that is gone comes after, or None if it is the first.
    """

    uri: str
    folder: str
    name: str
    size: int
    version: str
    gone: bool = False
    acquired: str | None = None
    behind: str | None = None

    @property
    def stat(self) -> tuple[int, str]:
        """Size and version by the listing, as `filesystem.open_stream` takes them.

        >>> InputFile("a.tif", "in", "a.tif", 9, "5d41-2-0123456789abcdef").stat
        (9, '5d41-2')
        """
        return self.size, _OF_OTHERS.sub("", self.version)

    @property
    def has_others(self) -> bool:
        """Whether it is read from other files too, by its version.

        >>> InputFile("a.tif", "in", "a.tif", 9, "5d41-2-0123456789abcdef").has_others
        True
        """
        return bool(_OF_OTHERS.search(self.version)[0])  # type: ignore[index]

    @property
    def key(self) -> str:
        """Names the file in tables: folder and name."""
        return f"{self.folder}/{self.name}"

    def to_json(self) -> dict[str, Any]:
        """As in a plan line; what is said of a file that is gone stands there for no other."""
        names = _OF_ALL_FILES if not self.gone else vars(self)
        return {name: getattr(self, name) for name in names}


_OF_ALL_FILES = ("uri", "folder", "name", "size", "version")


@dataclass(frozen=True)
class Unit:
    """What one worker does and commits as a whole; see the three kinds below.

    Args:
        id: Name of the unit in the run directory.
        format: Name of the format that handles it.
        files: Input files that it reads.
    """

    kind: ClassVar[str]
    id: str
    format: str
    files: tuple[InputFile, ...]

    @property
    def gone(self) -> bool:
        """Whether its inputs are gone, so that it stays as it is."""
        return any(file.gone for file in self.files[:1])

    @property
    def is_block(self) -> bool:
        """Whether it is a block of a scene that others are put together with."""
        return False

    def is_in_totals(self, ground_counts_once: bool) -> bool:
        """Whether its pixels are part of the totals.

        Args:
            ground_counts_once: Whether the count of a scene takes the place of the scene itself.
        """
        return not (ground_counts_once and self.format == SCENE)

    def digest(self, options: str) -> str:
        """16 hex digits for all that its outputs follow from: input, block, digest of options."""
        found = self._own_fields()
        source = [(f.folder, f.name, f.size, f.version) for f in self.files]
        parts = [options, source, *(found[name] for name in ("window", "blocks", "records"))]
        parts += [] if found["place"] is None else [found["place"]]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """One line of a plan part."""
        return json.dumps(self._fields(), separators=(",", ":"))

    def _fields(self) -> dict[str, Any]:
        """Fields of a plan line, which are the same for all kinds."""
        return self._own_fields() | {"files": [file.to_json() for file in self.files]}

    def _own_fields(self) -> dict[str, Any]:
        """The same with files as they are."""
        return dict.fromkeys(_FIELDS) | {"blocks": ()} | vars(self)


@dataclass(frozen=True)
class WorkUnit(Unit):
    """A unit with work: image files, a shard, a scene, or a block of one.

    Args:
        window: Block of the scene that is labelled; None for images, and for a scene that could
            not be opened when the run was planned.
        records: Maximum number of images to read from a shard, or None for all.
        scene: Id of the unit that puts this block and others together; None if it is no such block.
        siblings: Number of blocks of that scene; None if it is no block, or in plans of 0.1.0.
    """

    kind: ClassVar[str] = "part"
    window: Window | None = None
    records: int | None = None
    scene: str | None = None
    siblings: int | None = None

    @property
    def is_block(self) -> bool:
        """Whether it is a block of a scene that others are put together with."""
        return self.scene is not None

    def is_in_totals(self, ground_counts_once: bool) -> bool:
        """As for all units, except for blocks, which are counted as part of their scene."""
        return not self.is_block and super().is_in_totals(ground_counts_once)

    def _own_fields(self) -> dict[str, Any]:
        window = None if self.window is None else astuple(self.window)
        found = super()._own_fields() | {"window": window}
        return {name: found[name] for name in found if name != "siblings" or self.siblings}


@dataclass(frozen=True)
class AssemblyUnit(Unit):
    """A scene that is put together from its blocks, once all are labelled.

    Args:
        blocks: Ids of the units of its blocks, in reading order.
    """

    kind: ClassVar[str] = "scenes"
    blocks: tuple[str, ...]


@dataclass(frozen=True)
class CountUnit(Unit):
    """A finished scene that is counted by zone, and only once where scenes overlap.

    Args:
        place: Index of the scene in `files`, which overlap it and are in order of precedence.
        acquired: When the scene was taken, in the words of its file, where the newest come first.
    """

    kind: ClassVar[str] = "counts"
    place: int
    acquired: str | None = None

    @property
    def file(self) -> InputFile:
        """The scene that is counted."""
        return self.files[self.place]

    @property
    def gone(self) -> bool:
        """Never: label maps are what is counted."""
        return False

    def is_in_totals(self, ground_counts_once: bool) -> bool:
        """Whether it takes the place of its scene."""
        return ground_counts_once

    def _own_fields(self) -> dict[str, Any]:
        found = super()._own_fields()
        return {name: found[name] for name in found if name != "acquired" or self.acquired}


KINDS: tuple[type[Unit], ...] = (WorkUnit, AssemblyUnit, CountUnit)
W = TypeVar("W")
U = TypeVar("U", bound=Unit)


def unit_from_json(line: str | bytes) -> Unit:
    """The unit in a line of a plan part; its fields say of which kind it is.

    Raises:
        ValueError, KeyError, TypeError: If it is no such line.
    """
    found, _ = unsealed(line.encode() if isinstance(line, str) else line)
    if not {*_FIELDS, "acquired", "siblings"}.issuperset(found):
        raise ValueError(f"no line of a plan: {', '.join(found)}")
    shared = found["id"], found["format"], tuple(InputFile(**file) for file in found["files"])
    if found["place"] is not None:
        return CountUnit(*shared, found["place"], found.get("acquired"))
    if found["blocks"]:
        return AssemblyUnit(*shared, tuple(found["blocks"]))
    window = None if found["window"] is None else Window(*found["window"])
    return WorkUnit(*shared, window, found["records"], found["scene"], found.get("siblings"))


@dataclass(frozen=True)
class UnitReference:
    """Where a unit stands in the plan: all that crosses a shuffle."""

    part: str
    offset: int
    length: int


@dataclass(frozen=True)
class Prepared(Generic[W]):
    """Work units that are planned, and ready to be done.

    Args:
        work: Work that all units share.
        parts: Names of the plan parts.
        units: Number of units.
        pixels: Pixels of the units; an estimate where only reading them would tell.
    """

    work: W
    parts: tuple[str, ...]
    units: int
    pixels: int


def unit_id(kind: str, file: InputFile, suffix: str = "") -> str:
    """An id that a person recognizes and that no two files share.

    >>> unit_id("scene", InputFile("a/b c.tif", "a", "b c.tif", 1, "1"))
    'scene-b-c-cef10aa5ad4fad0e'
    """
    stem = re.sub(r"[^A-Za-z0-9]+", "-", file.name.rpartition("/")[2].split(".")[0]).strip("-")[:40]
    key = hashlib.sha256(file.key.encode()).hexdigest()[:16]
    return "-".join(part for part in (kind, stem, key, suffix) if part)


def image_groups(files: int) -> int:
    """Number of groups for so many image files: a power of two, frozen when a run is created.

    >>> image_groups(64), image_groups(65), image_groups(1000)
    (1, 2, 16)
    """
    return 1 << max(0, -(-files // IMAGES_PER_GROUP) - 1).bit_length()


# A part is there once it is written; a listing of a store may lack it for whatever reason.
_PARTS = "parts.json"
_PART = re.compile(r"(part|scenes|counts)-.*\.jsonl")


def write_plan(
    units: Iterable[Unit],
    folder: str,
    scratch: str,
    kept: Iterable[Unit] = (),
    is_sealed: bool = True,
) -> list[str]:
    """Write plan parts, replacing an earlier plan; returns the names of those with work units.

    Units that put blocks together go to parts of their own, `scenes-*`, and so do counts. Units
    whose inputs are gone are nowhere but in a plan: they are written first, to `*-gone-*`.

    Args:
        units: Units of the inputs that were found.
        folder: Folder of the plan.
        scratch: Folder for temporary files.
        kept: Units whose inputs are gone.
        is_sealed: Whether each line has a seal, and the names of all parts are written; runs that
            0.1.0 has begun go on as it writes them.
    """
    parts = []
    for name, content in chain(
        _contents(kept, "-gone", is_sealed), _contents(units, "", is_sealed)
    ):
        filesystem.write_bytes(f"{folder}/{name}", content, scratch)
        parts.append(name)
    if is_sealed:
        filesystem.write_bytes(f"{folder}/{_PARTS}", _list_of(parts), scratch)
    for name in _parts_there(folder).difference(parts):
        filesystem.remove_below_root(folder, name)
    return [name for name in parts if name.startswith(f"{WorkUnit.kind}-")]


def is_written(units: Iterable[Unit], folder: str, is_sealed: bool = True) -> bool:
    """Whether the plan on disk is, byte for byte, what `write_plan` makes of these units alone.

    Args:
        units: Units of the inputs that were found; not taken further than to the first part that
            differs.
        folder: Folder of the plan.
        is_sealed: As of `write_plan`.
    """
    parts = []
    for name, content in _contents(units, "", is_sealed):
        if not _holds(f"{folder}/{name}", content):
            return False
        parts.append(name)
    is_listed = not is_sealed or _holds(f"{folder}/{_PARTS}", _list_of(parts))
    return is_listed and _parts_there(folder) == set(parts)


def _holds(uri: str, content: bytes) -> bool:
    try:
        return filesystem.read_bytes(uri) == content
    except FileNotFoundError:
        return False


def _list_of(parts: Sequence[str]) -> bytes:
    return sealed(json.dumps({"parts": parts}))


def _parts_there(folder: str) -> set[str]:
    return set(filter(_PART.fullmatch, filesystem.names_below(folder)))


def _sealed_line(unit: Unit) -> bytes:
    return sealed(unit.to_json())


def _line(unit: Unit) -> bytes:
    """A line as 0.1.0 writes it."""
    unit = replace(unit, siblings=None) if isinstance(unit, WorkUnit) else unit
    return unit.to_json().encode() + b"\n"


def _contents(units: Iterable[Unit], family: str, is_sealed: bool) -> Iterator[tuple[str, bytes]]:
    """Name and content of each part of a family."""
    encoded = _sealed_line if is_sealed else _line
    counts = dict.fromkeys((kind.kind for kind in KINDS), 0)
    lines: dict[str, list[bytes]] = {kind: [] for kind in counts}

    def part(kind: str) -> tuple[str, bytes]:
        name, content = f"{kind}{family}-{counts[kind]:05d}.jsonl", b"".join(lines[kind])
        counts[kind] += 1
        lines[kind].clear()
        return name, content

    for unit in units:
        lines[unit.kind].append(encoded(unit))
        if len(lines[unit.kind]) == UNITS_PER_PART:
            yield part(unit.kind)
    for kind, rest in lines.items():
        if rest:
            yield part(kind)


def count_units(folder: str, parts: Sequence[str]) -> int:
    """Units in plan parts as `write_plan` returns them; all but the last of a family are full."""
    total = 0
    for part, following in zip(parts, [*parts[1:], ""], strict=False):
        is_full = part.rpartition("-")[0] == following.rpartition("-")[0]
        total += UNITS_PER_PART if is_full else sum(1 for _ in references(folder, part))
    return total


def raise_damaged(name: str) -> None:
    """Refuse a plan that this attempt has written.

    Raises:
        DamagedError: Names the file; another attempt plans anew.
    """
    raise DamagedError(f"plan/{name} is damaged: run the same command again")


def pass_over(name: str) -> None:
    """Read on behind what is damaged."""


def part_names(
    folder: str, kind: type[Unit], on_damage: Callable[[str], object] = raise_damaged
) -> list[str]:
    """Names of the plan parts of a kind of units, in order; as found, of runs of 0.1.0.

    Args:
        folder: Folder of the plan.
        kind: Kind of the units.
        on_damage: Called where the list of parts is damaged, with its name; then they are as found.
    """
    parts: Iterable[str]
    try:
        document, is_sealed = unsealed(filesystem.read_bytes(f"{folder}/{_PARTS}"))
        if not is_sealed:
            raise ValueError("it has lost its seal")
        parts = document["parts"]
    except FileNotFoundError:
        parts = _parts_there(folder)
    except MALFORMED:
        on_damage(_PARTS)
        parts = _parts_there(folder)
    return sorted(name for name in parts if name.startswith(f"{kind.kind}-"))


def shard_parts(parts: Iterable[str], shards: int) -> list[str]:
    """Plan parts in shards, for a runner that does not spread what it has read.

    >>> shard_parts(["part-00000.jsonl"], 2)
    ['part-00000.jsonl#0/2', 'part-00000.jsonl#1/2']
    """
    return [f"{part}#{shard}/{shards}" for part in parts for shard in range(shards)]


def references(folder: str, part: str) -> Iterator[UnitReference]:
    """Where each unit of a part, or of a shard of it, stands."""
    name, _, shard = part.partition("#")
    first, step = map(int, shard.split("/")) if shard else (0, 1)
    offset = 0
    with filesystem.open_stream(f"{folder}/{name}") as stream:
        for number, line in enumerate(stream):
            if number % step == first:
                yield UnitReference(name, offset, len(line))
            offset += len(line)


def rank_of(part: str) -> tuple[int, str]:
    """Where a plan part comes in the plan."""
    return KINDS.index(kind_of(part)), part


def kind_of(part: str) -> type[Unit]:
    """The kind of the units in a plan part.

    >>> kind_of("scenes-gone-00000.jsonl#0/2").__name__
    'AssemblyUnit'
    """
    return next(kind for kind in KINDS if part.startswith(f"{kind.kind}-"))


def read_part(folder: str, part: str) -> Iterator[tuple[UnitReference, Unit]]:
    """The units of a part, or of a shard of it, and where each stands.

    Raises:
        DamagedError: If a line is damaged.
    """
    name, _, shard = part.partition("#")
    first, step = map(int, shard.split("/")) if shard else (0, 1)
    offset, kind = 0, kind_of(part)
    with filesystem.open_stream(f"{folder}/{name}") as stream:
        for number, line in enumerate(stream):
            if number % step == first:
                yield UnitReference(name, offset, len(line)), _unit_of(line, name, kind)
            offset += len(line)


def units_of_part(folder: str, part: str, kind: type[U]) -> Iterator[U]:
    """The units of a part, or of a shard of it, which are all of a kind.

    Raises:
        DamagedError: If a line is damaged.
    """
    return (unit for _, unit in read_part(folder, part) if isinstance(unit, kind))


def read_unit(folder: str, reference: UnitReference, kind: type[U]) -> U:
    """The unit at a reference.

    Args:
        folder: Folder of the plan.
        reference: Place of the unit in the plan.
        kind: Kind of the unit.

    Raises:
        DamagedError: If another run has replaced the plan.
    """
    line = filesystem.read_range(f"{folder}/{reference.part}", reference.offset, reference.length)
    return _unit_of(line, reference.part, kind)


def _unit_of(line: bytes, part: str, kind: type[U]) -> U:
    try:
        return _of_kind(unit_from_json(line), kind)
    except MALFORMED as error:
        raise DamagedError(
            f"plan/{part} is damaged, or was replaced by a run of other inputs into the "
            f"same directory: run the same command again"
        ) from error


def read_units(
    folder: str, kind: type[U], on_damage: Callable[[str], object] = raise_damaged
) -> Iterator[U]:
    """All units of a kind, one of `KINDS`, in order of the plan.

    Args:
        folder: Folder of the plan.
        kind: Kind of the units.
        on_damage: Called with the name of the part for each line that is damaged, and each part
            that is lost. A plan that an earlier attempt left is of use with the others, as it is
            written anew.
    """
    for part in part_names(folder, kind, on_damage):
        try:
            stream = filesystem.open_stream(f"{folder}/{part}")
        except FileNotFoundError:
            on_damage(part)
            continue
        with stream:
            for line in stream:
                try:
                    unit = _of_kind(unit_from_json(line), kind)
                except MALFORMED:
                    on_damage(part)
                    continue
                yield unit


def _of_kind(unit: Unit, kind: type[U]) -> U:
    if not isinstance(unit, kind):
        raise ValueError(f"{unit.id} stands among units of another kind")
    return unit

"""The plan: which work units a run has, on disk before any work."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipelines.storage import filesystem
from segmodel.errors import TransientError
from segmodel.tiling.windows import Window

UNITS_PER_PART = 1000
KINDS = ("part", "scenes", "counts")
IMAGES_PER_GROUP = 64


@dataclass(frozen=True)
class InputFile:
    """One input file.

    Args:
        uri: How to open it.
        folder: Folder of its input root in the run directory.
        name: Path below that root, with forward slashes.
        size: Bytes.
        version: Changes when the content does.
    """

    uri: str
    folder: str
    name: str
    size: int
    version: str

    @property
    def listed(self) -> tuple[int, str]:
        """Size and version, as `storage.opened` takes them."""
        return self.size, self.version

    @property
    def key(self) -> str:
        """Names the file in tables: folder and name."""
        return f"{self.folder}/{self.name}"


@dataclass(frozen=True)
class Unit:
    """What one worker does, retries and commits as a whole.

    Args:
        id: Names it in the run directory.
        format: Name of the format that handles it.
        files: What it reads.
        window: Row, column, height and width of a block of a scene, else None.
        blocks: Ids of the units that a scene is put together from, in reading order, else empty.
        records: Most images to read from a shard, or None for all.
        scene: Id of the unit that puts this block and others together, else None.
        place: Of a count, where the scene stands among `files`, which overlap it and are in order
            of precedence; else None.
    """

    id: str
    format: str
    files: tuple[InputFile, ...]
    window: tuple[int, int, int, int] | None = None
    blocks: tuple[str, ...] = ()
    records: int | None = None
    scene: str | None = None
    place: int | None = None

    @property
    def kind(self) -> str:
        """Of plan part: `part` with work, `scenes` of several blocks, `counts` of scenes."""
        if self.place is not None:
            return "counts"
        return "scenes" if self.blocks else "part"

    def is_in_totals(self, ground_counts_once: bool) -> bool:
        """Whether its pixels are part of the totals.

        Those of blocks are, as part of their scene; where ground counts once, the count of a scene
        takes the place of the scene itself.
        """
        if self.kind == "counts":
            return ground_counts_once
        return self.scene is None and not (ground_counts_once and self.format == "scene")

    @property
    def area(self) -> Window | None:
        """The block as a window."""
        return Window(*self.window) if self.window else None

    def digest(self, options: str) -> str:
        """Of all that its outputs follow from: input, block and a digest of options."""
        source = [(f.folder, f.name, f.size, f.version) for f in self.files]
        parts = [options, source, self.window, self.blocks, self.records]
        parts += [] if self.place is None else [self.place]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """One line of a plan part."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, line: str | bytes) -> "Unit":
        """The unit in a line of a plan part."""
        fields: dict[str, Any] = json.loads(line)
        fields["files"] = tuple(InputFile(**file) for file in fields["files"])
        fields["window"] = tuple(fields["window"]) if fields["window"] else None
        fields["blocks"] = tuple(fields["blocks"])
        return cls(**fields)


@dataclass(frozen=True)
class UnitReference:
    """Where a unit stands in the plan: all that crosses a shuffle."""

    part: str
    offset: int
    length: int


def unit_id(kind: str, file: InputFile, suffix: str = "") -> str:
    """An id that a person recognizes and that no two files share.

    >>> unit_id("scene", InputFile("a/b c.tif", "a", "b c.tif", 1, "1"))
    'scene-b-c-cef10aa5ad4fad0e'
    """
    stem = re.sub(r"[^A-Za-z0-9]+", "-", Path(file.name).name.split(".")[0]).strip("-")[:40]
    return "-".join(part for part in (kind, stem, _short_hash(file.key), suffix) if part)


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def image_groups(files: int) -> int:
    """Number of groups for so many image files: a power of two, frozen when a run is created.

    >>> image_groups(64), image_groups(65), image_groups(1000)
    (1, 2, 16)
    """
    return 1 << max(0, -(-files // IMAGES_PER_GROUP) - 1).bit_length()


def write_plan(units: Iterable[Unit], folder: str, scratch: str) -> list[str]:
    """Write plan parts, replacing an earlier plan; returns the names of those with work units.

    Units that put blocks together go to parts of their own, `scenes-*`, and so do counts.
    """
    parts: dict[str, list[str]] = {kind: [] for kind in KINDS}
    lines: dict[str, list[bytes]] = {kind: [] for kind in KINDS}

    def flush(kind: str) -> None:
        name = f"{kind}-{len(parts[kind]):05d}.jsonl"
        filesystem.write_bytes(f"{folder}/{name}", b"".join(lines[kind]), scratch)
        parts[kind].append(name)
        lines[kind].clear()

    for unit in units:
        kind = unit.kind
        lines[kind].append(unit.to_json().encode() + b"\n")
        if len(lines[kind]) == UNITS_PER_PART:
            flush(kind)
    for kind, rest in lines.items():
        if rest:
            flush(kind)
    written = {name for names in parts.values() for name in names}
    for name in (name for kind in KINDS for name in part_names(folder, kind)):
        if name not in written:
            filesystem.remove(f"{folder}/{name}")
    return parts["part"]


def count_units(folder: str, parts: Sequence[str]) -> int:
    """Units in plan parts as `write_plan` returns them, of which all but the last are full."""
    last = sum(1 for part in parts[-1:] for _ in references(folder, part))
    return UNITS_PER_PART * max(0, len(parts) - 1) + last


def part_names(folder: str, kind: str) -> list[str]:
    """Names of the plan parts of a kind, one of `KINDS`, in order."""
    return list(filesystem.names_below(folder, f"{kind}-"))


def shard_parts(parts: Iterable[str], shares: int) -> list[str]:
    """Plan parts in shares, for an engine that does not spread what it has read.

    >>> shares_of(["part-00000.jsonl"], 2)
    ['part-00000.jsonl#0/2', 'part-00000.jsonl#1/2']
    """
    return [f"{part}#{share}/{shares}" for part in parts for share in range(shares)]


def references(folder: str, part: str) -> Iterator[UnitReference]:
    """Where each unit of a part, or of a share of it, stands."""
    name, _, share = part.partition("#")
    first, step = map(int, share.split("/")) if share else (0, 1)
    offset = 0
    with filesystem.opened(f"{folder}/{name}") as stream:
        for number, line in enumerate(stream):
            if number % step == first:
                yield UnitReference(name, offset, len(line))
            offset += len(line)


def read_unit(folder: str, reference: UnitReference) -> Unit:
    """The unit at a reference."""
    line = filesystem.read_part(f"{folder}/{reference.part}", reference.offset, reference.length)
    try:
        return Unit.from_json(line)
    except (ValueError, KeyError, TypeError) as error:
        raise TransientError(
            "the plan was replaced by a run of other inputs into the same directory: run the same "
            "command again"
        ) from error


def read_units(folder: str, kind: str) -> Iterator[Unit]:
    """All units of a kind, one of `KINDS`."""
    for part in part_names(folder, kind):
        with filesystem.opened(f"{folder}/{part}") as stream:
            for line in stream:
                yield Unit.from_json(line)

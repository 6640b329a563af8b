"""The design of a sample: strata, points and the run that they were drawn from, sealed.

`design.json` holds what labellers must not see: the map's class of each point.
"""

import json
import math
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from pipelines.accuracy.sample_options import STRATA_BY
from pipelines.run.seals import sealed, unsealed
from pipelines.storage import filesystem
from segmodel.errors import ConfigurationError

DESIGN_JSON = "design.json"
FORMAT = {"format": "beamseg sample", "format_version": 1}
_MALFORMED = (ValueError, KeyError, TypeError, AttributeError)


@dataclass(frozen=True)
class Stratum:
    """A part of the map that points are drawn from by themselves.

    Args:
        name: Name, which no other stratum of the design has.
        class_id: Class of the map in all of it, or None where it has several.
        zone: Zone that it lies in, or None where it lies in several.
        is_buffer: Whether it is the ground around the pixels of a class.
        area_m2: Ground area in m².
        points: Number of points drawn from it.
    """

    name: str
    class_id: int | None
    zone: str | None
    is_buffer: bool
    area_m2: float
    points: int


@dataclass(frozen=True)
class SamplePoint:
    """A pixel that people label.

    Args:
        id: Name of the point in all files of the sample.
        lon: Longitude of the centre of the pixel on WGS 84, in degrees.
        lat: Latitude of it.
        stratum: Name of the stratum that it was drawn from.
        map_class: Class of the pixel in the map.
        scene: Key of the scene whose label map the pixel is in.
        row: Row of the pixel in the scene.
        column: Column of it.
        probabilities: Probability of each class in the order of the classes, 255 is 1.0; None where
            the run has none.
    """

    id: str
    lon: float
    lat: float
    stratum: str
    map_class: int
    scene: str
    row: int
    column: int
    probabilities: tuple[int, ...] | None = None


@dataclass(frozen=True)
class SampleDesign:
    """A stratified random sample of a map.

    Args:
        run_digest: Of the map that was sampled, see `run_digest_of`.
        seed: Seed of the random numbers.
        strata_by: What strata are: `class`, `zone` or `class*zone`.
        classes: Id and name of each class of the map.
        strata: All strata.
        points: All points, in the order that people label them in.
        buffer: Class that a buffer is around, and how many pixels it is wide; None without one.

    Raises:
        ValueError: If two strata or points have one name, or points and strata do not agree.
    """

    run_digest: str
    seed: int
    strata_by: str
    classes: tuple[tuple[int, str], ...]
    strata: tuple[Stratum, ...]
    points: tuple[SamplePoint, ...]
    buffer: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        """Raise ValueError where parts contradict each other."""
        if self.strata_by not in STRATA_BY:
            raise ValueError(f"strata by {self.strata_by!r}")
        names = [stratum.name for stratum in self.strata]
        for what, found in (("strata", names), ("points", [point.id for point in self.points])):
            if (twice := [name for name, n in Counter(found).items() if n > 1]) or not found:
                raise ValueError(f"{what} called {twice[0]!r}" if twice else f"no {what}")
        drawn = Counter(point.stratum for point in self.points)
        if drawn != Counter({s.name: s.points for s in self.strata}):
            raise ValueError("points are not as many as their strata say")
        if not all(0 < stratum.area_m2 < math.inf for stratum in self.strata):
            raise ValueError("a stratum without ground")
        ids = {class_id for class_id, _ in self.classes}
        if not ids.issuperset(point.map_class for point in self.points):
            raise ValueError("a point of an unknown class")

    def to_bytes(self) -> bytes:
        """As in `design.json`; the same design gives the same bytes."""
        return sealed(json.dumps(FORMAT | asdict(self), indent=1))

    @classmethod
    def from_bytes(cls, content: bytes) -> "SampleDesign":
        """From `design.json`.

        Raises:
            ValueError: If it is no design, or not as it was written.
        """
        fields, is_sealed = unsealed(content)
        try:
            if not is_sealed or {name: fields.pop(name) for name in FORMAT} != FORMAT:
                raise ValueError("not a sealed design")
            fields["classes"] = tuple((int(number), name) for number, name in fields["classes"])
            fields["strata"] = tuple(Stratum(**entry) for entry in fields["strata"])
            fields["points"] = tuple(map(_point, fields["points"]))
            if fields["buffer"] is not None:
                fields["buffer"] = tuple(fields["buffer"])
            return cls(**fields)
        except _MALFORMED as error:
            raise ValueError(f"not a design: {error}") from error


def _point(fields: dict[str, Any]) -> SamplePoint:
    levels = fields.pop("probabilities")
    return SamplePoint(**fields, probabilities=None if levels is None else tuple(levels))


def read_design(path: str) -> SampleDesign:
    """The design in a file.

    Args:
        path: Path or address of a `design.json`.

    Raises:
        ConfigurationError: If there is none, or it is not as `beamseg sample` wrote it.
    """
    try:
        return SampleDesign.from_bytes(filesystem.read_bytes(path))
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"{path} is not there: name the {DESIGN_JSON} that `beamseg sample` wrote by --design, "
            f"or check the path of the labelled table, beside which it lies"
        ) from error
    except ValueError as error:
        raise ConfigurationError(
            f"{path} is not as `beamseg sample` wrote it ({error}): put it back from a copy, or "
            f"draw the sample again into another folder"
        ) from error

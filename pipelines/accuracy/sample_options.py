"""Options of `sample`."""

import argparse
import re
from collections.abc import Iterator
from dataclasses import dataclass

from pipelines.cli.options import Option, parse_options, positive
from segmodel.errors import ConfigurationError

# What strata may be, and how points are shared out among them without numbers.
STRATA_BY = CLASS, ZONE, CLASS_BY_ZONE = "class", "zone", "class*zone"
METHODS = ("proportional", "neyman", "equal")
# What is read around a block at most.
MAX_BUFFER_PX = 512
# One number for all, or numbers by name of a class or a stratum.
ByName = float | tuple[tuple[str, float], ...]
_NUMBER = r"(\d+(?:\.\d*)?|\.\d+)"
_NAMED = re.compile(rf"([^=]+)={_NUMBER}(?:,|$)")


def parse_by_name(text: str) -> ByName:
    """A number, or numbers by name; a name may have commas in it.

    Raises:
        ValueError: If it is neither.

    >>> parse_by_name("0.9"), parse_by_name("water=0.95,sand, dry=0.7")
    (0.9, (('water', 0.95), ('sand, dry', 0.7)))
    """
    if re.fullmatch(_NUMBER, text.strip()):
        return float(text)
    found = [(name.strip(), float(value)) for name, value in _pairs(text)]
    names = [name for name, _ in found]
    if len({*names}) < len(names):
        raise ValueError("must have each name once")
    return tuple(found)


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    place = 0
    while place < len(text) or not place:
        if (pair := _NAMED.match(text, place)) is None:
            raise ValueError("must be a number, or numbers by name such as water=75,forest=50")
        place = pair.end()
        yield pair[1], pair[2]


def _share(value: float) -> float:
    if not 0 < value < 1:
        raise ValueError("must be between 0 and 1")
    return value


def _accuracies(text: str) -> ByName:
    found = parse_by_name(text)
    for value in [found] if isinstance(found, float) else [value for _, value in found]:
        _share(value)
    return found


def _allocation(text: str) -> str | tuple[tuple[str, int], ...]:
    """A method, or points by name.

    >>> _allocation("equal"), _allocation("water=75")
    ('equal', (('water', 75),))
    """
    if text in METHODS:
        return text
    found = parse_by_name(text)
    if isinstance(found, float) or not all(n >= 1 and n == int(n) for _, n in found):
        raise ValueError(
            f"must be {', '.join(METHODS)}, or whole numbers from 1 by name such as "
            f"water=75,forest=50"
        )
    return tuple((name, int(value)) for name, value in found)


def _not_negative(value: int) -> int:
    if value < 0:
        raise ValueError("must be at least 0")
    return value


def _at_least_two(value: int) -> int:
    if value < 2:
        raise ValueError("must be at least 2, as one point gives no standard error")
    return value


def _buffer_px(value: int) -> int:
    if not 1 <= value <= MAX_BUFFER_PX:
        raise ValueError(f"must be from 1 to {MAX_BUFFER_PX}")
    return value


@dataclass(frozen=True)
class SampleOptions:
    """What the user asked for; each field is declared with its option."""

    output: str | None = Option("DIR", default_help="RUN/sample").field()
    """folder of the sample"""
    total: int | None = Option("N", int, positive).field()
    """number of points; or give --standard_error"""
    standard_error: float | None = Option("S", float, _share).field()
    """standard error of overall accuracy that the sample is to have, such as 0.01; needs
    --expected_accuracy"""
    expected_accuracy: ByName | None = Option("SHARE", parse=_accuracies).field()
    """share of each stratum that the map is expected to have right: one number, or numbers by class
    or stratum such as water=0.95,forest=0.8"""
    allocation: str | tuple[tuple[str, int], ...] = Option(
        "RULE", parse=_allocation, default="proportional"
    ).field()
    """how points are shared out among strata: proportional to their area; neyman, to their area and
    the deviation that --expected_accuracy says; equal; or points by class or stratum such as
    water=75,forest=50, the rest proportional"""
    strata: str = Option("BY", default=CLASS, choices=STRATA_BY).field()
    """what points are drawn from by themselves: class, zone (of the run's --zones) or class*zone"""
    buffer_px: int | None = Option("N", int, _buffer_px).field()
    """make a stratum of the pixels within so many rows and columns of the class that --buffer_class
    names, where the map is most likely to have missed it; reads all label maps once"""
    buffer_class: str | None = Option("NAME").field()
    """class that the buffer is around"""
    minimum_per_stratum: int = Option("N", int, _at_least_two, default=2).field()
    """fewest points of a stratum"""
    seed: int = Option("N", int, _not_negative, default=0).field()
    """the same seed draws the same points"""
    add: int | None = Option("N", int, positive).field()
    """enlarge the sample in --output by so many points, shared out as its points are; labels that
    it has stay"""
    chip_px: int = Option("PX", int, _not_negative, default=128).field()
    """side of what is shown around each point in chips/, in pixels of the scene; 0 for no chips"""


def sample_options(parsed: argparse.Namespace) -> SampleOptions:
    """Checked options.

    Raises:
        ConfigurationError: If options do not go together; names them.
    """
    options = parse_options(SampleOptions, parsed)
    if options.add is not None:
        of_design = ("total", "standard_error", "expected_accuracy", "allocation", "strata")
        plain = SampleOptions(options.output, add=options.add, chip_px=options.chip_px)
        for name in (*of_design, "buffer_px", "buffer_class", "minimum_per_stratum", "seed"):
            if getattr(options, name) != getattr(plain, name):
                raise ConfigurationError(f"--{name} follows from the sample that --add enlarges")
        return options
    if (options.buffer_px is None) != (options.buffer_class is None):
        raise ConfigurationError("--buffer_px and --buffer_class go together")
    if options.buffer_px is not None and options.strata == ZONE:
        raise ConfigurationError(
            "--buffer_px is for strata by class: leave --strata out, or give --strata class*zone"
        )
    if (options.total is None) == (options.standard_error is None):
        raise ConfigurationError("give --total or --standard_error, for example --total 500")
    needed = options.standard_error is not None or options.allocation == "neyman"
    if needed and options.expected_accuracy is None:
        raise ConfigurationError(
            "--standard_error and --allocation neyman need --expected_accuracy, such as 0.9 or "
            "water=0.95,forest=0.8"
        )
    if options.expected_accuracy is not None and not needed:
        raise ConfigurationError(
            "--expected_accuracy is for --standard_error and for --allocation neyman"
        )
    return options

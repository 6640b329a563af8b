"""Values of options that several commands have, and the options that are the same in all."""

import re
from dataclasses import dataclass
from fractions import Fraction

from pipelines.cli.exit_status import ExitStatus
from pipelines.cli.options import Option

# Time limit of measurements of a model on samples.
MEASURE_SECONDS = 600.0
# Of an address of 64 bits.
MAX_SIZE = 1 << 63
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


@dataclass(frozen=True)
class FailureBudget:
    """How many images may fail: a number or a share of all.

    >>> FailureBudget.parse("3").allows(failed=3, images=5)
    True
    >>> FailureBudget.parse("1%").allows(failed=2, images=100)
    False
    >>> FailureBudget.parse("0.02").allows(failed=2, images=100)
    True
    """

    count: int | None
    share: Fraction | None

    @classmethod
    def parse(cls, text: str) -> "FailureBudget":
        """The budget in a text: a whole number, a share below 1 such as 0.01, or a percentage.

        Raises:
            ValueError: If it is none of these.
        """
        try:
            if text.isdecimal():
                return cls(int(text), None)
            return cls(None, parse_share(text))
        except ValueError as error:
            raise ValueError(
                "must be a whole number, a share such as 0.01 or a percentage such as 1%"
            ) from error

    def allows(self, failed: int, images: int) -> bool:
        """Whether so many failed images of all are within the budget."""
        limit = self.count if self.share is None else self.share * images
        return failed <= (limit or 0)

    def status(self, failed: int, images: int, missing: int) -> ExitStatus:
        """How a command ends, by the numbers of failed images, of all, and of missing units."""
        if missing:
            return ExitStatus.INCOMPLETE
        return ExitStatus.COMPLETE if self.allows(failed, images) else ExitStatus.OVER_BUDGET

    def __str__(self) -> str:
        return str(self.count) if self.share is None else f"{float(self.share):g} of all images"


def parse_share(text: str) -> Fraction:
    """The share in a text, such as 0.25 or a percentage such as 25%.

    Raises:
        ValueError: If it is none, or not between 0 and 1.

    >>> parse_share("25%"), parse_share("0.01"), parse_share("0")
    (Fraction(1, 4), Fraction(1, 100), Fraction(0, 1))
    """
    try:
        share = Fraction(text[:-1]) / 100 if text.endswith("%") else Fraction(text)
    except (ValueError, ZeroDivisionError):
        share = Fraction(-1)
    if not 0 <= share <= 1:
        raise ValueError("must be a share such as 0.25 or a percentage such as 25%")
    return share


def parse_size(text: str) -> int:
    """Bytes of a text such as `4G`, `2500M` or `1.5GiB`; units are powers of 1,024.

    Raises:
        ValueError: If it is no size.

    >>> parse_size("4G"), parse_size("1.5gib"), parse_size("800MB")
    (4294967296, 1610612736, 838860800)
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:I?B)?", text.strip().upper())
    size = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if not 0 < size < MAX_SIZE:
        raise ValueError("must be a size such as 4G or 2500M")
    return int(size)


MEMORY = Option(
    metavar="SIZE",
    parse=parse_size,
    default="4G",
    pattern="[0-9]+([.][0-9]+)? ?[KMGTkmgt]?([Ii]?[Bb])?",
    help="memory that one worker process may use, such as 2500M",
)
MAX_FAILURES = Option(
    metavar="N",
    parse=FailureBudget.parse,
    default="0",
    pattern="[0-9]+([.][0-9]+)?%?",
    help="how many images may fail: a number, a share such as 0.01, or 1%",
)

"""Options of `segment` and `plan`: one list, for our own parser and for Beam's."""

import argparse
from dataclasses import dataclass
from fractions import Fraction

from segmodel.errors import ConfigurationError


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
        if text.endswith("%"):
            share = Fraction(text[:-1]) / 100
        elif text.isdigit():
            return cls(int(text), None)
        else:
            share = Fraction(text)
        if not 0 <= share <= 1:
            raise ValueError(f"a share must be in 0..1, got {text}")
        return cls(None, share)

    def allows(self, failed: int, images: int) -> bool:
        """Whether so many failed images of all are within the budget."""
        most = self.count if self.share is None else self.share * images
        return failed <= (most or 0)

    def __str__(self) -> str:
        return str(self.count) if self.share is None else f"{float(self.share):g} of all images"


@dataclass(frozen=True)
class SegmentOptions:
    """What the user asked for; see the help texts below for the fields."""

    inputs: tuple[str, ...]
    model: str
    output: str
    window: int | None = None
    halo: int | None = None
    batch: int | None = None
    confidence: bool = False
    pixel_size: float | None = None
    max_failures: FailureBudget = FailureBudget(0, None)
    retry_failures: bool = False
    overwrite: bool = False
    limit: int | None = None
    trust_model: bool = False


def add_segment_arguments(parser: argparse.ArgumentParser) -> None:
    """Register the options of `segment`, spelled as Beam spells its own.

    Nothing is marked as required here, as Beam parses every options class in every pipeline;
    `segment_options` checks.
    """
    parser.add_argument(
        "--input",
        action="append",
        metavar="PATTERN",
        help="images, shards or scenes: a file, a folder or a glob (** for any depth); repeatable",
    )
    parser.add_argument("--model", metavar="DIR", help="SavedModel folder with a model contract")
    parser.add_argument("--output", metavar="RUN", help="run directory; the same one resumes")
    parser.add_argument(
        "--window", type=int, metavar="PX", help="side of a window's core (default: by memory)"
    )
    parser.add_argument(
        "--halo", type=int, metavar="PX", help="context around a core (default: by the contract)"
    )
    parser.add_argument(
        "--batch", type=int, metavar="N", help="full windows in one call of the model (default: 1)"
    )
    parser.add_argument(
        "--confidence",
        action="store_true",
        help="also write the probability of each label, as 8-bit images in which 1.0 is 255",
    )
    parser.add_argument(
        "--pixel_size",
        type=float,
        metavar="M",
        help="side of a pixel on the ground, in metres, for images without coordinates",
    )
    parser.add_argument(
        "--max_failures",
        default="0",
        metavar="N",
        help="images that may fail: a number, a share such as 0.01, or 1%% (default: 0)",
    )
    parser.add_argument(
        "--retry_failures", action="store_true", help="do images again that failed before"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="remove what an earlier run left in RUN"
    )
    parser.add_argument(
        "--limit", type=int, metavar="N", help="only the first N images, for a quick look"
    )
    parser.add_argument(
        "--trust_model", action="store_true", help="load a model whose operations touch files"
    )


def segment_options(parsed: argparse.Namespace) -> SegmentOptions:
    """Checked options.

    Raises:
        ConfigurationError: If one is missing or not possible; names it.
    """
    for name, example in (
        ("input", "--input 'photos/*.jpg'"),
        ("model", "--model models/earth"),
        ("output", "--output run"),
    ):
        if not getattr(parsed, name):
            raise ConfigurationError(f"--{name} is missing, for example {example}")
    for name in ("window", "batch", "limit", "pixel_size"):
        value = getattr(parsed, name)
        if value is not None and not 0 < value < float("inf"):
            raise ConfigurationError(f"--{name} must be greater than 0, got {value}")
    if parsed.halo is not None and parsed.halo < 0:
        raise ConfigurationError(f"--halo must be at least 0, got {parsed.halo}")
    try:
        budget = FailureBudget.parse(str(parsed.max_failures))
    except (ValueError, ZeroDivisionError):
        raise ConfigurationError(
            "--max_failures must be a whole number, a share such as 0.01 or a percentage such as "
            f"1%, got {parsed.max_failures!r}"
        ) from None
    return SegmentOptions(
        inputs=tuple(parsed.input),
        model=parsed.model,
        output=parsed.output,
        window=parsed.window,
        halo=parsed.halo,
        batch=parsed.batch,
        confidence=parsed.confidence,
        pixel_size=parsed.pixel_size,
        max_failures=budget,
        retry_failures=parsed.retry_failures,
        overwrite=parsed.overwrite,
        limit=parsed.limit,
        trust_model=parsed.trust_model,
    )

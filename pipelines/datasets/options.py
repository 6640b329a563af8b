"""Options of `pack`: their names, and their values as checked."""

import argparse
import re
from dataclasses import dataclass
from fractions import Fraction

from pipelines.cli.values import DEFAULT_MEMORY_BYTES, FailureBudget, parse_size
from segmodel.errors import ConfigurationError

CONTAINERS = ("tfrecord", "tfrecord.gz", "tar", "tar.gz", "parquet")
ENCODINGS = ("color", "palette", "id")
IMAGES_PER_SHARD = 1000
BY_FOLDER = "folder"

Shares = tuple[tuple[str, Fraction], ...]


@dataclass(frozen=True)
class PackOptions:
    """What the user asked for; see the help texts below for the fields."""

    images: tuple[str, ...]
    output: str
    masks: tuple[str, ...] = ()
    container: str = CONTAINERS[0]
    shares: Shares = (("train", Fraction(1)),)
    group_by: str | None = None
    images_per_shard: int = IMAGES_PER_SHARD
    mask_encoding: str | None = None
    classes: str | None = None
    memory_bytes: int = DEFAULT_MEMORY_BYTES
    max_pixels: int | None = None
    max_failures: FailureBudget = FailureBudget(0, None)
    retry_failures: bool = False
    overwrite: bool = False


def add_pack_arguments(parser: argparse.ArgumentParser) -> None:
    """Register all options of `pack`."""
    add_own_arguments(parser)
    parser.add_argument("--output", metavar="DIR", help="folder of the shards; the same resumes")
    parser.add_argument(
        "--memory",
        default="4G",
        metavar="SIZE",
        help="memory that one worker process may take, such as 2500M (default: 4G)",
    )
    parser.add_argument(
        "--max_pixels",
        type=int,
        metavar="N",
        help="images with more pixels are refused as decompression bombs (default: what --memory "
        "allows, at most 178956970)",
    )
    parser.add_argument(
        "--max_failures",
        default="0",
        metavar="N",
        help="images that may fail: a number, a share such as 0.01, or 1%% (default: 0)",
    )
    parser.add_argument(
        "--retry_failures", action="store_true", help="do shards again in which an image failed"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="remove what an earlier pack left in DIR"
    )


def add_own_arguments(parser: argparse.ArgumentParser) -> None:
    """Register the options that no other command has; the rest is spelled as for `segment`.

    Beam registers every options class in one parser, which refuses a name that it has already.
    """
    parser.add_argument(
        "--images",
        action="append",
        metavar="PATTERN",
        help="image files: a file, a folder or a glob (** for any depth); repeatable",
    )
    parser.add_argument(
        "--masks",
        action="append",
        metavar="PATTERN",
        help="their masks, under the same path without suffix; one for each --images, in order",
    )
    parser.add_argument(
        "--format",
        default=CONTAINERS[0],
        metavar="FORMAT",
        help=f"of the shards: {', '.join(CONTAINERS)} (default: {CONTAINERS[0]})",
    )
    parser.add_argument(
        "--split",
        default="train=1",
        metavar="NAME=SHARE,...",
        help="splits and their shares of the groups, such as train=0.9,test=0.1 (default: train=1)",
    )
    parser.add_argument(
        "--group_by",
        metavar="RULE",
        help="what stays together in one split: 'folder', or a regular expression with one group "
        "that finds a name in the path, such as 'tile_(\\d+)' (default: each image by itself)",
    )
    parser.add_argument(
        "--images_per_shard",
        type=int,
        default=IMAGES_PER_SHARD,
        metavar="N",
        help=f"on average; fixed when DIR is begun (default: {IMAGES_PER_SHARD})",
    )
    _add_mask_arguments(parser)


def _add_mask_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--mask_encoding",
        metavar="ENCODING",
        help="what masks hold: color (red, green, blue of a class), palette (indices of an indexed "
        "image are class ids) or id (grey levels are) (default: as --classes says, or color)",
    )
    parser.add_argument(
        "--classes",
        metavar="FILE",
        help="TOML file with [[classes]], and ignore_colors or ignore_ids in [data]: the "
        "configuration of a training run will do",
    )


def pack_options(parsed: argparse.Namespace) -> PackOptions:
    """Checked options.

    Raises:
        ConfigurationError: If one is missing or not possible; names it.
    """
    for name, example in (("images", "--images photos/"), ("output", "--output shards")):
        if not getattr(parsed, name):
            raise ConfigurationError(f"--{name} is missing, for example {example}")
    masks = tuple(parsed.masks or ())
    if masks and len(masks) != len(parsed.images):
        raise ConfigurationError(
            f"each --images needs its --masks, in the same order: got {len(parsed.images)} and "
            f"{len(masks)}"
        )
    for name in ("classes", "mask_encoding"):
        if getattr(parsed, name) and not masks:
            raise ConfigurationError(f"--{name} is for masks: name them with --masks")
    if masks and not parsed.classes:
        raise ConfigurationError("--classes is missing: it says what the values of --masks mean")
    for name, value, known in (
        ("format", parsed.format, CONTAINERS),
        ("mask_encoding", parsed.mask_encoding, (None, *ENCODINGS)),
    ):
        if value not in known:
            names = ", ".join(entry for entry in known if entry)
            raise ConfigurationError(f"--{name} must be one of {names}, got {value!r}")
    for name in ("images_per_shard", "max_pixels"):
        value = getattr(parsed, name)
        if value is not None and value <= 0:
            raise ConfigurationError(f"--{name} must be greater than 0, got {value}")
    return PackOptions(
        images=tuple(parsed.images),
        output=parsed.output,
        masks=masks,
        container=parsed.format,
        shares=parse_shares(parsed.split),
        group_by=None if parsed.group_by is None else _checked_rule(parsed.group_by),
        images_per_shard=parsed.images_per_shard,
        mask_encoding=parsed.mask_encoding,
        classes=parsed.classes,
        memory_bytes=parse_size(parsed.memory),
        max_pixels=parsed.max_pixels,
        max_failures=_budget(str(parsed.max_failures)),
        retry_failures=parsed.retry_failures,
        overwrite=parsed.overwrite,
    )


def parse_shares(text: str) -> Shares:
    """Splits and their shares, exactly.

    Raises:
        ConfigurationError: If it is no list of splits whose shares add up to 1.

    >>> parse_shares("train=0.8,test=1/5")
    (('train', Fraction(4, 5)), ('test', Fraction(1, 5)))
    """
    shares: dict[str, Fraction] = {}
    for part in text.split(","):
        name, _, number = (word.strip() for word in part.partition("="))
        try:
            share = Fraction(number)
        except (ValueError, ZeroDivisionError):
            share = Fraction(0)
        if share <= 0 or not re.fullmatch(r"\w[\w-]*", name, re.ASCII):
            raise ConfigurationError(
                f"--split must look like train=0.8,validation=0.1,test=0.1, got {part!r}"
            )
        if name in shares:
            raise ConfigurationError(f"--split names {name} twice")
        shares[name] = share
    total = sum(shares.values())
    if total != 1:
        raise ConfigurationError(
            f"--split {text}: shares must add up to 1, these add up to {float(total):g}"
        )
    return tuple(shares.items())


def _checked_rule(rule: str) -> str:
    try:
        groups = 1 if rule == BY_FOLDER else re.compile(rule).groups
    except re.error as error:
        raise ConfigurationError(f"--group_by {rule!r} is no regular expression: {error}") from None
    if groups != 1:
        raise ConfigurationError(
            f"--group_by {rule!r} has {groups} groups: put what names a group in one pair of "
            f"parentheses, such as 'tile_(\\d+)'; (?:...) does not count"
        )
    return rule


def _budget(text: str) -> FailureBudget:
    try:
        return FailureBudget.parse(text)
    except (ValueError, ZeroDivisionError):
        raise ConfigurationError(
            "--max_failures must be a whole number, a share such as 0.01 or a percentage such as "
            f"1%, got {text!r}"
        ) from None

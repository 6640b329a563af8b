"""Options of `pack`."""

import argparse
import re
from dataclasses import dataclass
from fractions import Fraction
from functools import partial

from pipelines.cli.options import Option, parse_options, positive
from pipelines.cli.parser import each_value
from pipelines.cli.values import MAX_FAILURES, MEMORY, FailureBudget
from segmodel.errors import ConfigurationError

CONTAINERS = ("tfrecord", "tfrecord.gz", "tar", "tar.gz", "parquet")
ENCODINGS = ("color", "palette", "id")
BY_FOLDER = "folder"
GONE_RULES = ("stop", "prune")

Shares = tuple[tuple[str, Fraction], ...]


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


def parse_group_rule(rule: str) -> str:
    """The rule as it is, if it is `folder` or a regular expression with one group.

    Raises:
        ConfigurationError: If it is neither.
    """
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


@dataclass(frozen=True)
class PackOptions:
    """What the user asked for; each field is declared with its option."""

    images: tuple[str, ...] = Option("PATTERN", example="photos/", is_repeatable=True).field()
    """image files: a file, a folder or a glob pattern (** for any depth); repeatable"""
    output: str = Option("DIR", example="shards").field()
    """folder of the shards; give the same one again to continue a pack"""
    masks: tuple[str, ...] = Option("PATTERN", is_repeatable=True).field()
    """masks of the images, under the same path without suffix; one for each --images, in order"""
    exclude: tuple[str, ...] = Option(
        "PATTERN", parse=partial(each_value, "--exclude"), is_repeatable=True
    ).field()
    """leave out images and masks that match: a name of files or folders at any depth, such as
    '*_draft.png', or a path below --images or --masks; repeatable"""
    container: str = Option(
        "FORMAT", default=CONTAINERS[0], choices=CONTAINERS, name="format"
    ).field()
    """format of the shards: tfrecord, tfrecord.gz, tar, tar.gz, parquet"""
    shares: Shares = Option(
        "NAME=SHARE,...", parse=parse_shares, default="train=1", name="split"
    ).field()
    """splits and their shares of the groups, such as train=0.9,test=0.1"""
    group_by: str | None = Option(
        "RULE", parse=parse_group_rule, default_help="each image by itself"
    ).field()
    r"""what stays together in one split: 'folder', or a regular expression with one group that
    finds a name in the path, such as 'tile_(\d+)'"""
    images_per_shard: int = Option("N", int, positive, default=1000).field()
    """images in a shard on average; fixed when DIR is begun"""
    mask_encoding: str | None = Option(
        "ENCODING", choices=ENCODINGS, default_help="as --classes says, or color"
    ).field()
    """what masks hold: color (red, green, blue of a class), palette (indices of an indexed image
    are class ids) or id (grey levels are)"""
    classes: str | None = Option("FILE").field()
    """TOML file with [[classes]], and ignore_colors or ignore_ids in [data]; it may be the
    configuration of a training run"""
    memory: int = MEMORY.field()
    max_pixels: int | None = Option(
        "N", int, positive, default_help="what --memory allows, at most 178956970"
    ).field()
    """images with more pixels are refused as decompression bombs"""
    max_failures: FailureBudget = MAX_FAILURES.field()
    retry_failures: bool = Option().field()
    """repeat shards in which an image failed before"""
    gone: str = Option("RULE", default="stop", choices=GONE_RULES).field()
    """what becomes of a pack whose images or masks are not found any more, or are empty now: end
    before anything is changed (stop), or remove them from their shards (prune)"""
    overwrite: bool = Option().field()
    """delete the earlier pack in DIR and begin anew"""


def pack_options(parsed: argparse.Namespace) -> PackOptions:
    """Checked options.

    Raises:
        ConfigurationError: If one is missing or not possible; names it.
    """
    options = parse_options(PackOptions, parsed)
    masks = options.masks
    if masks and len(masks) != len(options.images):
        raise ConfigurationError(
            f"each --images needs its --masks, in the same order: got {len(options.images)} and "
            f"{len(masks)}"
        )
    for name in ("classes", "mask_encoding"):
        if getattr(options, name) and not masks:
            raise ConfigurationError(f"--{name} is for masks: name them with --masks")
    if masks and not options.classes:
        raise ConfigurationError("--classes is missing: it says what the values of --masks mean")
    return options

"""Which split, which shard and which place an image gets: by hash alone.

Where an image comes to lie depends on its own name and group, never on the other images or on the
order in which they were listed.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import PurePosixPath

from pipelines.datasets.options import BY_FOLDER, Shares
from segmodel.errors import ConfigurationError


@dataclass(frozen=True)
class Split:
    """Images of one split.

    Args:
        name: Name of the split.
        shards: Names of the images in each shard, in order.
        groups: Number of groups of these images.
    """

    name: str
    shards: tuple[tuple[str, ...], ...]
    groups: int


def assign_splits(
    names: Iterable[str],
    shares: Shares,
    rule: str | None,
    images_per_shard: int,
    frozen: Mapping[str, int] | None = None,
) -> list[Split]:
    """Images assigned to splits and shards.

    Args:
        names: Paths of the images below their root.
        shares: Splits and their shares.
        rule: Rule of groups, as `group_by_rule` takes it.
        images_per_shard: Images in a shard on average.
        frozen: Number of shards of each split, where it is fixed already.

    Returns:
        The splits, in order of `shares`.

    Raises:
        ConfigurationError: If an image has no group.

    >>> from fractions import Fraction
    >>> assign_splits(["a.png", "b.png"], (("train", Fraction(1)),), None, 1000)
    [Split(name='train', shards=(('a.png', 'b.png'),), groups=2)]
    """
    assigned: dict[str, list[str]] = {split: [] for split, _ in shares}
    groups: dict[str, set[str]] = {split: set() for split, _ in shares}
    for name in names:
        group = group_by_rule(name, rule)
        split = split_of(group, shares)
        assigned[split].append(name)
        groups[split].add(group)
    splits = []
    for split, images in assigned.items():
        count = (frozen or {}).get(split) or max(1, -(-len(images) // images_per_shard))
        shards: list[list[str]] = [[] for _ in range(count)]
        for name in images:
            shards[shard_of(name, count)].append(name)
        ordered = tuple(tuple(sorted(shard, key=order_of)) for shard in shards)
        splits.append(Split(split, ordered, len(groups[split])))
    return splits


def group_by_rule(name: str, rule: str | None) -> str:
    r"""The group of an image; all images of a group lie in the same split.

    Args:
        name: Path of the image below its root.
        rule: `folder`, a regular expression whose one group finds the name of the image's group
            in the path, or None if every image is a group of its own.

    Raises:
        ConfigurationError: If the rule finds nothing; names the image.

    >>> group_by_rule("tile_07/left.jpg", None), group_by_rule("tile_07/left.jpg", "folder")
    ('tile_07/left', 'tile_07')
    >>> group_by_rule("tile_07/left.jpg", r"tile_(\d+)")
    '07'
    """
    path = PurePosixPath(name)
    if rule is None:
        return str(path.with_suffix(""))
    if rule == BY_FOLDER:
        return str(path.parent)
    found = re.search(rule, name)
    if found is None or not found[1]:
        raise ConfigurationError(
            f"--group_by {rule!r} finds no group in {name}: mend the expression, or name fewer "
            f"images"
        )
    return found[1]


def split_of(group: str, shares: Shares) -> str:
    """The split of a group: the hash is a number in 0..1, and shares are cut from 0 upwards.

    >>> from fractions import Fraction
    >>> half = Fraction(1, 2)
    >>> [split_of(group, (("train", half), ("test", half))) for group in "abcd"]
    ['train', 'train', 'train', 'test']
    """
    place = int.from_bytes(_hash("group", group)[:8], "big")
    upper = Fraction(0)
    for split, share in shares:
        upper += share * (1 << 64)
        if place < upper:
            return split
    raise ValueError(f"shares must add up to 1, got {shares}")


def shard_of(name: str, shards: int) -> int:
    """The shard of an image.

    >>> shard_of("tile_07/left.jpg", 1), shard_of("tile_07/left.jpg", 12)
    (0, 1)
    """
    return int.from_bytes(_hash("image", name)[:8], "big") % shards


def order_of(name: str) -> tuple[bytes, str]:
    """The key by which images are sorted in their shard."""
    return _hash("image", name)[8:], name


def _hash(kind: str, text: str) -> bytes:
    """SHA-256 of a text, which differs for groups and images, so that splits are shuffled too."""
    return hashlib.sha256(f"{kind}\0{text}".encode()).digest()

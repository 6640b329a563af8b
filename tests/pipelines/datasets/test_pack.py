"""Splits and shards by hash: nothing straddles, nothing moves, no order matters."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.cli.parser import parse
from pipelines.commands.pack import parser
from pipelines.datasets.options import pack_options, parse_shares
from pipelines.datasets.splits import assign_splits, group_by_rule, order_of, shard_of, split_of
from segmodel.errors import ConfigurationError

THREE = parse_shares("train=0.8,validation=0.1,test=0.1")
RULES = st.sampled_from([None, "folder", r"tile_(\d+)"])
NAMES = st.sets(
    st.builds(
        lambda folder, tile, number, suffix: f"{folder}/tile_{tile}/{number}{suffix}",
        st.sampled_from(["a", "b/c", "é"]),
        st.integers(0, 5),
        st.integers(0, 9),
        st.sampled_from([".jpg", ".png", ".v2.tif"]),
    ),
    min_size=1,
)


def places(names, rule, frozen=None, per_shard=3) -> dict[str, tuple[str, int]]:
    """Split and shard of every image."""
    return {
        name: (split.name, number)
        for split in assign_splits(names, THREE, rule, per_shard, frozen)
        for number, shard in enumerate(split.shards)
        for name in shard
    }


@given(NAMES, RULES)
def test_every_image_is_dealt_once_and_no_group_straddles_splits(names, rule):
    assigned = assign_splits(names, THREE, rule, 3)

    flat = [name for split in assigned for shard in split.shards for name in shard]
    assert sorted(flat) == sorted(names)
    splits_of: dict[str, set[str]] = {}
    for name, (split, _) in places(names, rule).items():
        splits_of.setdefault(group_by_rule(name, rule), set()).add(split)
    assert all(len(found) == 1 for found in splits_of.values())
    assert sum(split.groups for split in assigned) == len(splits_of)


@given(NAMES, NAMES, RULES)
def test_images_that_are_added_move_none_that_is_there(names, added, rule):
    before = assign_splits(names, THREE, rule, 3)
    frozen = {split.name: len(split.shards) for split in before}

    after = places(names | added, rule, frozen)

    assert {name: after[name] for name in names} == places(names, rule)


@given(NAMES, RULES, st.randoms(use_true_random=False))
def test_the_order_of_the_listing_does_not_matter(names, rule, shuffler):
    listed = sorted(names)
    shuffled = list(listed)
    shuffler.shuffle(shuffled)

    assert assign_splits(shuffled, THREE, rule, 3) == assign_splits(listed, THREE, rule, 3)


def test_places_stay_the_same_from_version_to_version():
    names = [f"tile_{tile:02d}/{side}.jpg" for tile in range(4) for side in ("left", "right")]

    (train, test) = assign_splits(names, parse_shares("train=0.5,test=0.5"), r"tile_(\d+)", 3)

    # By hand, from `printf "image\\0tile_00/left.jpg" | sha256sum` and its like.
    assert train.shards == (
        ("tile_02/right.jpg", "tile_02/left.jpg", "tile_01/left.jpg", "tile_00/right.jpg"),
        ("tile_01/right.jpg", "tile_00/left.jpg"),
    )
    assert test.shards == (("tile_03/right.jpg", "tile_03/left.jpg"),)


def test_shares_are_those_of_groups_where_there_are_many():
    counts = {split: 0 for split, _ in THREE}
    for number in range(20_000):
        counts[split_of(f"scene-{number}", THREE)] += 1

    # Three standard deviations of a binomial distribution.
    for split, share in THREE:
        spread = 3 * float(20_000 * share * (1 - share)) ** 0.5
        assert abs(counts[split] - 20_000 * share) < spread


def test_shards_are_about_as_large_as_asked_for_and_shuffled():
    names = [f"{number:05d}.jpg" for number in range(5000)]

    (split,) = assign_splits(names, parse_shares("train=1"), None, 1000)

    assert len(split.shards) == 5
    assert all(880 < len(shard) < 1120 for shard in split.shards)
    for shard in split.shards:
        assert list(shard) == sorted(shard, key=order_of)
        rising = sum(a < b for a, b in pairwise(shard))
        assert 0.4 < rising / len(shard) < 0.6


def test_the_split_says_nothing_of_the_shard_or_the_place():
    halves = parse_shares("train=0.5,test=0.5")
    names = [f"{number}.jpg" for number in range(4000)]

    train = [name for name in names if split_of(group_by_rule(name, None), halves) == "train"]

    first = sum(shard_of(name, 2) == 0 for name in train)
    early = sum(order_of(name)[0][0] < 128 for name in train)
    assert 0.45 < first / len(train) < 0.55
    assert 0.45 < early / len(train) < 0.55


def test_a_split_has_a_shard_even_if_it_has_no_image():
    assert [split.shards for split in assign_splits([], THREE, None, 10)] == [((),), ((),), ((),)]


@pytest.mark.parametrize(("images", "shards"), [(1, 1), (10, 1), (11, 2), (20, 2), (21, 3)])
def test_the_number_of_shards_is_rounded_up(images, shards):
    names = [f"{number}.jpg" for number in range(images)]
    (split,) = assign_splits(names, parse_shares("train=1"), None, 10)
    assert len(split.shards) == shards


def test_the_number_of_shards_stays_once_it_is_frozen():
    names = [f"{number}.jpg" for number in range(100)]
    (split,) = assign_splits(names, parse_shares("train=1"), None, 10, {"train": 3})
    assert len(split.shards) == 3


@pytest.mark.parametrize("rule", [r"tile_(\d+)", r"b/(x*)"])
def test_an_image_without_a_group_is_named(rule):
    with pytest.raises(ConfigurationError, match=r"finds no group in b/1\.jpg: mend"):
        group_by_rule("b/1.jpg", rule)


def test_shares_reach_exactly_to_1():
    thirds = parse_shares("a=1/3,b=1/3,c=1/3")
    assert {split_of(str(number), thirds) for number in range(50)} == {"a", "b", "c"}
    with pytest.raises(ValueError, match="must add up to 1"):
        split_of("x", (("train", Fraction(0)),))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("train=0.8", "add up to 1, these add up to 0.8"),
        ("train=0.8,test=0.3", "add up to 1, these add up to 1.1"),
        ("train=1,test=0", "must look like .*, got 'test=0'"),
        ("train=2,test=-1", "got 'test=-1'"),
        ("train", "got 'train'"),
        ("", "got ''"),
        ("=1", "got '=1'"),
        ("../x=1", "got '../x=1'"),
        ("-x=1", "got '-x=1'"),
        ("train=1/0", "got 'train=1/0'"),
        ("train=nan", "got 'train=nan'"),
        ("train=0.5,train=0.5", "names train twice"),
    ],
)
def test_splits_that_are_none_are_refused(text, reason):
    with pytest.raises(ConfigurationError, match=f"^--split.*{reason}"):
        parse_shares(text)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--output=o"], "--images is missing"),
        (["--images=a"], "--output is missing"),
        (["--images=a", "--images=b", "--masks=c", "--output=o"], "got 2 and 1"),
        (["--images=a", "--masks=b", "--output=o"], "--classes is missing"),
        (["--images=a", "--classes=c.toml", "--output=o"], "--classes is for masks"),
        (["--images=a", "--mask_encoding=id", "--output=o"], "--mask_encoding is for masks"),
        (["--images=a", "--format=zip", "--output=o"], "must be one of tfrecord, .*, got 'zip'"),
        (
            ["--images=a", "--masks=b", "--classes=c", "--mask_encoding=rgb", "--output=o"],
            "must be one of color, palette, id, got 'rgb'",
        ),
        (["--images=a", "--images_per_shard=0", "--output=o"], "greater than 0, got 0"),
        (["--images=a", "--max_failures=many", "--output=o"], "--max_failures must be"),
        (["--images=a", "--memory=much", "--output=o"], "--memory must be"),
        (["--images=a", "--group_by=tile", "--output=o"], "has 0 groups"),
        (["--images=a", "--group_by=(a)(b)", "--output=o"], "has 2 groups"),
        (["--images=a", "--group_by=(", "--output=o"], "is no regular expression"),
        (["--images=a", "--input=b", "--output=o"], "unknown option --input"),
    ],
)
def test_options_that_cannot_be_carried_out_are_refused(words, reason):
    with pytest.raises(ConfigurationError, match=reason):
        pack_options(parse(parser(), words, with_beam=True)[0])


def test_options_without_masks_need_no_classes():
    words = ["--images=a", "--images", "b", "--output=o", "--group-by=folder"]
    options = pack_options(parse(parser(), words, with_beam=True)[0])
    assert options.images == ("a", "b")
    assert options.masks == ()
    assert options.shares == (("train", Fraction(1)),)
    assert options.group_by == "folder"
    assert options.container == "tfrecord"

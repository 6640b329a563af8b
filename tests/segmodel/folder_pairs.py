"""Pairs in folders, as a training run opens them."""

from __future__ import annotations

from collections.abc import Sequence

from segmodel.pairs.folders import open_pair
from segmodel.pairs.paired_files import find_pairs
from segmodel.pairs.pairs import Pair, PairCache, Source


def read_folders(
    images: Sequence[str], masks: Sequence[str], source: Source, cache: PairCache | None
) -> list[Pair]:
    return [open_pair(files, source, cache) for files in find_pairs(images, masks, source.group)]

"""Pairs in folders, as a training run opens them."""

from __future__ import annotations

from collections.abc import Sequence

from segmodel.pairs.paired_files import pair_files
from segmodel.pairs.pairs import Pair, PairCache, PairSource


def read_folders(
    images: Sequence[str], masks: Sequence[str], source: PairSource, cache: PairCache | None
) -> list[Pair]:
    return [source.open_pair(files, cache) for files in pair_files(images, masks)]

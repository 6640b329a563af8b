"""Lower zooms are made of labels of the deepest one."""

from __future__ import annotations

import numpy as np
import pytest
from pmtiles.tile import tileid_to_zxy

from pipelines.layers.tiles.pyramid import thinned, tiers


@pytest.mark.parametrize("deepest", [0, 1, 4, 5, 6])
def test_each_pixel_of_each_zoom_is_the_deepest_pixel_at_its_middle(deepest):
    side = 256 << deepest
    # A label for each pixel of the world, without holding it: two coordinates in one number.
    world = np.arange(side, dtype=np.int64)[:, None] * side + np.arange(side)
    found: dict[tuple[int, int, int], np.ndarray] = {}
    kept = {(0, 0): world}
    size = side
    for tier in tiers(deepest):
        rest = {}
        for row in range(size // tier.side):
            for column in range(size // tier.side):
                window = tier.window(column, row)
                source = kept[0, 0][window.slices]
                for tile in tier.tiles(window):
                    assert tileid_to_zxy(tile.id) == (tile.zoom, tile.column, tile.row)
                    found[tile.zoom, tile.column, tile.row] = tier.pixels(source, window, tile)
                rest[row, column] = thinned(source, tier)
        rows = range(size // tier.side)
        kept = {(0, 0): np.block([[rest[row, column] for column in rows] for row in rows])}
        size //= tier.stride

    assert len(found) == sum(4**zoom for zoom in range(deepest + 1))
    for (zoom, column, row), labels in found.items():
        step = 1 << (deepest - zoom)
        down, across = ((256 * at + np.arange(256)) * step + step // 2 for at in (row, column))
        np.testing.assert_array_equal(labels, down[:, None] * side + across)


def test_tiles_of_a_unit_are_one_contiguous_range_at_each_zoom():
    tier = tiers(9)[0]
    ids = {}
    for tile in tier.tiles(tier.window(3, 17)):
        ids.setdefault(tile.zoom, []).append(tile.id)
    assert {zoom: len(found) for zoom, found in ids.items()} == {5: 1, 6: 4, 7: 16, 8: 64, 9: 256}
    for found in ids.values():
        assert found == list(range(found[0], found[0] + len(found)))

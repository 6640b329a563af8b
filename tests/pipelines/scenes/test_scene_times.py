"""Label maps say when their scene was taken, as programs that read them may not have the scene."""

from __future__ import annotations

import pytest
import rasterio

from tests.pipelines.corpus import pixels, small_blocks, write_scene
from tests.pipelines.scene_runs import run_scenes


@pytest.mark.parametrize(
    ("words", "side", "expected"),
    [
        ("2026:05:01 10:30:00", 4096, "2026:05:01 10:30:00"),
        ("2026-05-01T12:30:00+02:00", 64, "2026:05:01 10:30:00"),
        ("last summer", 4096, None),
        ("0001-01-01T00:00:00+14:00", 4096, None),
    ],
)
def test_maps_have_the_time_of_their_scene_in_utc(
    tmp_path, model_folder, monkeypatch, words, side, expected
):
    small_blocks(monkeypatch, side)
    scene = write_scene(tmp_path / "in" / "a.tif", pixels(64, 96))
    with rasterio.open(scene, "r+") as target:
        target.update_tags(TIFFTAG_DATETIME=words)
    run = run_scenes(tmp_path / "run", model_folder, scene, confidence=True)
    for folder in ("labels", "confidence"):
        with rasterio.open(run.root / folder / "in" / "a.tif") as source:
            assert source.tags().get("TIFFTAG_DATETIME") == expected

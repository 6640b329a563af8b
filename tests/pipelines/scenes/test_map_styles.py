"""The style that QGIS gives the mosaics of a run, which lies beside each of them."""

from __future__ import annotations

import hashlib
from pathlib import Path

from segmodel.labels.qgis_styles import raster_style
from tests.fakes import CLASSES
from tests.pipelines.corpus import DEGREES, UTM, pixels, write_model_folder, write_scene
from tests.pipelines.scene_runs import run_scenes


def styles(root: Path) -> list[str]:
    return sorted(path.name for path in root.glob("*.qml"))


def test_each_mosaic_has_a_style_of_its_name_until_the_run_is_begun_again(tmp_path):
    model = write_model_folder(tmp_path / "model")
    scenes = [
        write_scene(tmp_path / folder / "a.tif", pixels(64, 64), place)
        for folder, place in (("utm", UTM), ("degrees", DEGREES))
    ]
    run = run_scenes(tmp_path / "run", model, *scenes)
    assert styles(run.root) == ["labels-EPSG-32633.qml", "labels-EPSG-4326.qml"]
    for name in styles(run.root):
        content = (run.root / name).read_bytes()
        assert content == raster_style(CLASSES)
        assert run.summary["files"][name] == hashlib.sha256(content).hexdigest()

    again = run_scenes(tmp_path / "run", model, scenes[0], gone="prune")
    assert styles(again.root) == ["labels.qml"]

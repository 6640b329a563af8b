"""What a scene is read from: a change of any of it must show."""

from __future__ import annotations

import os
from pathlib import Path

from pipelines.rasters.header import Headers, read_header, sources_of
from pipelines.scenes.format import SceneFormat
from tests.pipelines.corpus import files_in, pixels, write, write_scene
from tests.pipelines.raster_kinds import source_of, write_mosaic, write_vrt


def names(paths) -> list[str]:
    return [Path(path).name for path in paths]


def nested(folder: Path) -> Path:
    inner = write_mosaic(folder / "inner.vrt", pixels(20, 30), 12)
    sources = [source_of(inner, band) for band in (1, 2, 3)]
    return write_vrt(folder / "outer.vrt", 20, 30, sources)


def test_a_vrt_over_a_vrt_is_read_from_the_sources_of_both(tmp_path):
    outer = nested(tmp_path)
    assert names(read_header(str(outer)).others) == ["inner.vrt", "left.tif", "right.tif"]


def test_a_source_of_a_nested_vrt_that_changes_changes_the_version(tmp_path):
    outer = nested(tmp_path)
    (file,) = files_in(outer)
    before = SceneFormat().claim(file, Headers()).version
    write_scene(tmp_path / "left.tif", pixels(20, 12, seed=9))
    os.utime(tmp_path / "left.tif", ns=(1, 1))
    assert SceneFormat().claim(file, Headers()).version != before


def test_masks_beside_sources_and_sources_of_masks_are_found(tmp_path):
    write(tmp_path / "a.tif", b"")
    write(tmp_path / "a.tif.msk", b"")
    text = (
        '<VRTDataset><MaskBand><SourceFilename relativeToVRT="1">sub/m&amp;n.tif</SourceFilename>'
        '</MaskBand><SourceFilename relativeToVRT="1">a.tif</SourceFilename></VRTDataset>'
    )
    vrt = write(tmp_path / "v.vrt", text.encode())
    assert names(sources_of(str(vrt), [])) == ["a.tif", "a.tif.msk", "m&n.tif"]


def test_a_vrt_that_names_itself_ends(tmp_path):
    text = '<SourceFilename relativeToVRT="1">v.vrt</SourceFilename>'
    vrt = write(tmp_path / "v.vrt", text.encode())
    assert sources_of(str(vrt), []) == ()


def test_a_plain_scene_is_read_from_itself_alone(tmp_path):
    path = write_scene(tmp_path / "a.tif", pixels(20, 30))
    assert read_header(str(path)).others == ()

"""Layers of finished label maps."""

from __future__ import annotations

from tools.reliability.situations.changes import cut, gone, link
from tools.reliability.situations.table import PHOTOS, SCENES, Situation

MOSAIC = "layers run --mosaic"
TILES = "layers run --tiles=png"

SITUATIONS = (
    Situation("layers without a run", "layers --mosaic", "RUN", "; see beamseg layers --help"),
    Situation(
        "layers of what is not there",
        "layers none --mosaic",
        "none",
        "name the folder that `beamseg segment` was given as --output",
    ),
    Situation(
        "layers without a name of one",
        "layers run",
        "name the layers to make",
        "--mosaic",
        before=(SCENES,),
    ),
    Situation(
        "layers of images without a place",
        MOSAIC,
        "run has no label map of a scene",
        "name a run over rasters",
        before=(PHOTOS,),
    ),
    Situation(
        "layers of a run that is not complete",
        MOSAIC,
        "run is not complete",
        "run the same `beamseg segment` again",
        before=(SCENES,),
        make=gone("run/summary.json"),
    ),
    Situation(
        "a label map that is cut, of which layers are made",
        MOSAIC,
        "labels/scenes/scene.tif",
        "run `beamseg verify` with --invalidate",
        before=(SCENES,),
        make=cut("run/labels/scenes/scene.tif", 0.5),
    ),
    Situation(
        "a cell without a mosaic", "layers run --cell=1000", "--cell", "of --mosaic: give both"
    ),
    Situation(
        "a cell of more pixels than a file should have",
        f"{MOSAIC} --cell=1e9",
        "--cell",
        "give another one, or leave it out",
        before=(SCENES,),
    ),
    Situation(
        "a cell of less than a pixel",
        f"{MOSAIC} --cell=1e-9",
        "--cell",
        "give another one, or leave it out",
        before=(SCENES,),
    ),
    Situation(
        "a catalogue of a label map that is gone",
        "layers run --stac",
        "labels/scenes/scene.tif",
        "run `beamseg verify` with --invalidate",
        before=(SCENES,),
        make=gone("run/labels/scenes/scene.tif"),
    ),
    Situation("a cell of no size", f"{MOSAIC} --cell=0", "--cell", "must be greater than 0"),
    Situation(
        "polygons of an unknown kind",
        "layers run --polygons shp",
        "--polygons must be parquet, gpkg, fgb, geojson",
        "got 'shp'",
    ),
    Situation(
        "files by scene of nothing", "layers run --by_scene", "--by_scene", "--polygons: give both"
    ),
    Situation(
        "polygons of too few vertices",
        "layers run --polygons fgb --max_vertices=99",
        "--max_vertices",
        "must be at least 100",
    ),
    Situation(
        "a minimum area of nothing",
        "layers run --minimum_area=0",
        "--minimum_area",
        "must be greater than 0",
    ),
    Situation(
        "a minimum area that is no number",
        "layers run --minimum_area=2ha",
        "--minimum_area",
        "must be a number",
    ),
    Situation(
        "a deepest zoom without tiles",
        "layers run --max_zoom=9",
        "--max_zoom",
        "of --tiles: give both",
    ),
    Situation(
        "a zoom that no tiles have",
        f"{TILES} --max_zoom=25",
        "--max_zoom",
        "must be from 0 to 24",
    ),
    Situation(
        "tiles of a format that is not without loss",
        "layers run --tiles=jpeg",
        "--tiles",
        "must be one of png, webp",
    ),
    Situation(
        "simplified polygons without polygons",
        "layers run --simplify 2",
        "--simplify",
        "of --polygons simpler: give both",
    ),
    Situation(
        "polygons that are simplified to nothing",
        "layers run --polygons fgb --simplify 1000",
        "--simplify",
        "must be from 0.71, below which no vertex is left out, to 100",
    ),
    Situation(
        "layers into a link",
        MOSAIC,
        "layers",
        "is a link in a folder that is written to",
        before=(SCENES,),
        make=link("run/layers", "elsewhere"),
    ),
    Situation("a page of no run", "view", "RUN", "; see beamseg view --help"),
    Situation(
        "a page of what is not there",
        "view none",
        "none is no folder",
        "name the folder that `beamseg segment` was given as --output",
    ),
    Situation(
        "a page of images without a place",
        "view run",
        "run has no label map with a place",
        "name a run over rasters with a reference system",
        before=(PHOTOS,),
    ),
    Situation("a port that is none", "view run --port=0", "--port", "must be from 1 to 65535"),
)

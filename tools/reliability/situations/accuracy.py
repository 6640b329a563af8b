"""Samples, what people labelled, and references that runs are compared with."""

from __future__ import annotations

from pathlib import Path

from tools.reliability.situations.changes import Change, empty, gone, put
from tools.reliability.situations.table import PHOTOS, SCENES, SHARDS, Situation

SAMPLE = "sample run --total=9"
DRAWN = (SCENES, f"{SAMPLE} --chip_px=0")
TABLE, DESIGN = "run/sample/sample.csv", "run/sample/design.json"
ASSESS = f"assess run {TABLE}"
EVALUATE = "evaluate run --output=scores"
MASKS = f"{EVALUATE} --reference=masks --classes=classes.toml --mask_encoding=id"
CLASS_TABLE = "[[classes]]\nid = 1\nname = 'moor'\ncolor = '#010101'\n"
POINT = (
    '{"type": "FeatureCollection", "features": [{"type": "Feature", "properties": {"class": "x"},'
    '"geometry": {"type": "Point", "coordinates": [15.0, 54.0]}}]}'
)


def filled(change: Change, word: str = "dark") -> Change:
    """A class in each row of the sample's table, and then a change."""

    def make(folder: Path) -> None:
        path = folder / TABLE
        head, *rows = path.read_text().splitlines()
        path.write_text("\n".join([head, *(row + word for row in rows), ""]))
        change(folder)

    return make


def replaced(path: str, old: str, new: str) -> Change:
    """Other text in place of some."""

    def make(folder: Path) -> None:
        text = (folder / path).read_text()
        assert old in text
        (folder / path).write_text(text.replace(old, new))

    return make


def doubled(folder: Path) -> None:
    """The last row of the sample's table once more."""
    path = folder / TABLE
    path.write_text(path.read_text() + path.read_text().splitlines()[-1] + "\n")


SITUATIONS = (
    # Samples.
    Situation("sample without a run", "sample", "RUN", "; see beamseg sample --help"),
    Situation(
        "a sample of what is not there",
        "sample none --total=9",
        "none",
        "name the folder that `beamseg segment` was given as --output",
    ),
    Situation(
        "a sample of no size",
        "sample run",
        "--total",
        "or --standard_error, for example --total 500",
        before=(SCENES,),
    ),
    Situation(
        "a sample of fewer points than strata need",
        "sample run --total=3",
        "3 points",
        "change the total",
        before=(SCENES,),
    ),
    Situation(
        "a sample of images without a place",
        SAMPLE,
        "run",
        "sample a run over scenes with coordinates",
        before=(PHOTOS,),
    ),
    Situation(
        "a sample by zones that the run has not",
        f"{SAMPLE} --strata=zone",
        "--strata",
        "run the same `beamseg segment` with --zones",
        before=(SCENES,),
    ),
    Situation(
        "a sample by something else",
        f"{SAMPLE} --strata=soil",
        "--strata",
        "class*zone",
        before=(SCENES,),
    ),
    Situation(
        "a buffer around a class that is none",
        f"{SAMPLE} --buffer_px=2 --buffer_class=moor",
        "--buffer_class",
        "dark, middle, bright",
        before=(SCENES,),
    ),
    Situation(
        "a buffer for strata that are zones alone",
        f"{SAMPLE} --strata=zone --buffer_px=2 --buffer_class=dark",
        "--buffer_px",
        "or give --strata class*zone",
        before=(SCENES,),
    ),
    Situation(
        "a standard error without an expected accuracy",
        "sample run --standard_error=0.01",
        "--expected_accuracy",
        "such as 0.9 or water=0.95",
        before=(SCENES,),
    ),
    Situation(
        "numbers for a class that is none",
        f"{SAMPLE} --allocation=moor=5",
        "--allocation",
        "which is no stratum of the map: dark, middle, bright",
        before=(SCENES,),
    ),
    Situation(
        "options of Beam for a sample without a buffer",
        f"{SAMPLE} --direct_num_workers=2",
        "--direct_num_workers",
        "leave options of Beam out",
        before=(SCENES,),
    ),
    Situation(
        "points for a sample that is not there",
        "sample run --add=5",
        "--add",
        "holds no design.json",
        before=(SCENES,),
    ),
    Situation(
        "another sample in the same folder",
        f"{SAMPLE} --seed=3",
        "run/sample",
        "enlarge it with --add, or name another --output",
        before=DRAWN,
    ),
    Situation(
        "a sample into a folder of other files",
        f"{SAMPLE} --output=photos",
        "photos",
        "name another --output",
        before=(SCENES,),
    ),
    Situation(
        "a sample of a run without one of its label maps",
        f"{SAMPLE} --chip_px=0",
        "scene.tif",
        "run `beamseg verify` with --invalidate, then the same `beamseg segment` again",
        before=(SCENES,),
        make=gone("run/labels/scenes/scene.tif"),
    ),
    # What people labelled.
    Situation("assess without a table", "assess run", "LABELLED", "; see beamseg assess --help"),
    Situation(
        "points that nobody labelled",
        ASSESS,
        "9 points of 9 without a class",
        "label them, or leave them out by --missing drop",
        before=DRAWN,
    ),
    Situation(
        "a labelled table that is not there",
        "assess run run/sample/mine.csv",
        "mine.csv",
        "check the path",
        before=DRAWN,
    ),
    Situation(
        "a labelled table without its design",
        ASSESS,
        "design.json",
        "name the design.json that `beamseg sample` wrote",
        before=DRAWN,
        make=filled(gone(DESIGN)),
    ),
    Situation(
        "a design that somebody changed",
        ASSESS,
        "design.json",
        "put it back",
        before=DRAWN,
        make=filled(replaced(DESIGN, '"seed": 0', '"seed": 1')),
    ),
    Situation(
        "a sample of another map",
        ASSESS,
        "design.json",
        "name the run that was sampled",
        before=DRAWN,
        make=filled(gone("run/commits")),
    ),
    Situation(
        "a class that nobody knows",
        ASSESS,
        "'darck'",
        "did you mean 'dark'?",
        before=DRAWN,
        make=filled(empty("none"), "darck"),
    ),
    Situation(
        "a point that is labelled twice",
        ASSESS,
        "sample.csv",
        "leave one row of each point",
        before=DRAWN,
        make=filled(doubled),
    ),
    Situation(
        "a point of another sample",
        ASSESS,
        "sample.csv",
        "give the labelled table of this sample",
        before=DRAWN,
        make=filled(replaced(TABLE, "p00001", "p00099")),
    ),
    Situation(
        "a labelled table that is an image",
        f"assess run photos/image-000.png --design={DESIGN}",
        "image-000.png",
        "save the labelled points as CSV, GeoPackage or GeoJSON",
        before=DRAWN,
    ),
    Situation(
        "a labelled table of zeros",
        ASSESS,
        "sample.csv",
        "has no column called id",
        before=DRAWN,
        make=put(TABLE, bytes(500)),
    ),
    Situation(
        "results of assess into a run",
        f"{ASSESS} --output=run",
        "run",
        "name another --output",
        before=DRAWN,
        make=filled(empty("none")),
    ),
    # References.
    Situation(
        "evaluate without a run",
        "evaluate --reference=masks --output=scores",
        "RUN",
        "; see beamseg evaluate --help",
    ),
    Situation(
        "evaluate without a reference", EVALUATE, "--reference", "for example", before=(PHOTOS,)
    ),
    Situation(
        "an evaluation of what is not there",
        "evaluate none --reference=masks --output=scores",
        "none",
        "name the folder that `beamseg segment` was given as --output",
    ),
    Situation(
        "a reference that is not there",
        f"{EVALUATE} --reference=maske",
        "maske",
        "check the path",
        before=(PHOTOS,),
    ),
    Situation(
        "an empty folder of references",
        f"{EVALUATE} --reference=none",
        "none",
        "check the path, and quote patterns with *",
        before=(PHOTOS,),
        make=empty("none"),
    ),
    Situation(
        "a reference with another class",
        MASKS,
        "'moor'",
        "give it the name that the run has for it",
        before=(PHOTOS,),
        make=put("classes.toml", CLASS_TABLE),
    ),
    Situation(
        "an evaluation into the run",
        f"{MASKS} --output=run/scores",
        "--output",
        "name a folder of its own",
        before=(PHOTOS,),
    ),
    Situation(
        "an evaluation into a folder of other files",
        f"{MASKS} --output=photos",
        "photos",
        "name an empty folder",
        before=(PHOTOS,),
    ),
    Situation(
        "points of a class that is none",
        f"{EVALUATE} --reference=points.geojson",
        "points.geojson",
        "name the field of classes by --class_field",
        before=(SCENES,),
        make=put("points.geojson", POINT),
    ),
    Situation(
        "polygons without classes",
        f"{EVALUATE} --reference=zones.geojson --class_field=soil",
        "zones.geojson has no field 'soil'",
        "take one of name",
        before=(SCENES,),
    ),
    Situation(
        "polygons as a reference of images without a place",
        f"{EVALUATE} --reference=zones.geojson",
        "zones.geojson",
        "name the field of classes by --class_field",
        before=(PHOTOS,),
    ),
    Situation(
        "a boundary of no width",
        f"{MASKS} --boundary_px=0",
        "--boundary_px",
        "must be in 1..512",
        before=(PHOTOS,),
    ),
    Situation(
        "a rule of groups that finds none",
        f"{MASKS} --group_by=(",
        "--group_by",
        "is no regular expression",
        before=(PHOTOS,),
    ),
    Situation(
        "an evaluation that is continued with another distance",
        f"{MASKS} --boundary_px=2",
        "--overwrite",
        "boundary",
        before=(PHOTOS, MASKS),
    ),
    Situation(
        "an input without a model to evaluate",
        f"{MASKS} --input=photos",
        "--model",
        "give both, or a finished RUN",
        before=(PHOTOS,),
    ),
    Situation(
        "mask files for images of one name in several shards",
        MASKS,
        "--reference",
        "give shards of masks in the order of the images",
        before=(SHARDS,),
    ),
    Situation(
        "a shard as a reference of images",
        f"{EVALUATE} --reference=shards/part.tar",
        "--reference",
        "masks and shards have the paths of the inputs",
        before=(PHOTOS,),
    ),
)

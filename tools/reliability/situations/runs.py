"""Run directories: of other commands, other options, damaged, or removed in part."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from pipelines.run.seals import sealed, unsealed
from tools.reliability.situations.changes import (
    Change,
    all_of,
    closed,
    cut,
    empty,
    gone,
    link,
    put,
    spoiled,
)
from tools.reliability.situations.files import PLAIN_USER
from tools.reliability.situations.table import (
    INCOMPLETE,
    PACK,
    PHOTOS,
    SCENES,
    Situation,
)

VERIFY = "verify run"
DONE, PACKED = (PHOTOS,), (PACK,)
RUN, COPY = "run/run.json", "run/plan/run.json"


def later(folder: Path) -> None:
    """A run of a version that is not there yet."""
    for name in (RUN, COPY):
        document, _ = unsealed((folder / name).read_bytes())
        (folder / name).write_bytes(sealed(json.dumps(document | {"format_version": 99}, indent=2)))


def first(pattern: str, change: Callable[[str], Change]) -> Change:
    """A change of the first file that a pattern finds."""

    def make(folder: Path) -> None:
        path = sorted(folder.glob(pattern))[0]
        change(path.relative_to(folder).as_posix())(folder)

    return make


SITUATIONS = (
    # verify.
    Situation("verify without a run", "verify", "RUN", "; see beamseg verify --help"),
    Situation(
        "verify of two runs",
        "verify run more",
        "more",
        "options begin with --, patterns with * need quotes",
    ),
    Situation(
        "verify of what is not there",
        "verify nowhere",
        "nowhere",
        "name the folder that `beamseg segment` was given as --output",
    ),
    Situation(
        "verify of a file",
        "verify wrap.toml",
        "wrap.toml",
        "name the folder that `beamseg segment` was given as --output",
    ),
    Situation(
        "verify of an empty folder",
        "verify none",
        "none",
        "name the folder that `beamseg segment` was given as --output",
        make=empty("none"),
    ),
    Situation(
        "verify of a folder of images",
        "verify photos",
        "photos",
        "name the folder that `beamseg segment` was given as --output",
    ),
    Situation(
        "verify of the inputs of a pack",
        "verify packed --inputs",
        "--inputs",
        "leave it out",
        before=PACKED,
    ),
    Situation(
        "verify of a pack without a shard",
        "verify packed",
        "packed",
        "give the same `beamseg pack` again",
        INCOMPLETE,
        before=PACKED,
        make=first("packed/**/*-of-*", gone),
    ),
    Situation(
        "verify of a scheme that is none",
        "verify ftp://host/run",
        "ftp://",
        "copy 'ftp://host/run' to a local folder or to a store (gs://,",
    ),
    Situation(
        "verify of a link to nothing",
        "verify link",
        "link",
        "name the folder that `beamseg segment` was given as --output",
        make=link("link", "nowhere"),
    ),
    Situation(
        "verify of a run that may not be read",
        VERIFY,
        "run",
        "ask for the right to it, or name another place",
        before=DONE,
        make=closed("run"),
        hook=PLAIN_USER,
    ),
    Situation(
        "verify of a run without run.json",
        VERIFY,
        "run",
        "name the folder that `beamseg segment` was given as --output",
        before=DONE,
        make=all_of(gone(RUN), gone(COPY)),
    ),
    Situation(
        "verify of a run whose run.json is a folder",
        VERIFY,
        "run.json",
        "check the path, a file is needed there",
        before=DONE,
        make=empty(RUN),
    ),
    Situation(
        "verify of a run whose run.json is a list",
        VERIFY,
        "run",
        "give the same `beamseg segment` again, after `beamseg verify",
        INCOMPLETE,
        before=DONE,
        make=put(RUN, "[]"),
    ),
    Situation(
        "verify of a run whose run.json is not UTF-8",
        VERIFY,
        "run.json",
        "name the folder that `beamseg segment` was given as --output",
        before=DONE,
        make=all_of(put(RUN, b"\xff\xfe\0"), put(COPY, b"\xff\xfe\0")),
    ),
    Situation(
        "verify of a run whose run.json and its copy are damaged",
        VERIFY,
        "run.json",
        "put it back from a copy, or begin again with `--overwrite`",
        before=DONE,
        make=all_of(cut(RUN, 0.9), cut(COPY, 0.9)),
    ),
    Situation(
        "verify of a run of a later version",
        VERIFY,
        "run.json",
        "name the folder that `beamseg segment` was given as --output",
        before=DONE,
        make=later,
    ),
    # segment into a run.
    Situation(
        "a run that is continued with another window",
        f"{PHOTOS} --window=64",
        "window",
        "_px was 1408 and is 64. Give the former ones, another --output,",
        before=DONE,
    ),
    Situation(
        "a run that is continued with confidence",
        f"{PHOTOS} --confidence",
        "confidence",
        "confidence was False and is True. Give the former",
        before=DONE,
    ),
    Situation(
        "a run that is continued without an input",
        SCENES,
        "photos",
        "3 inputs (photos/image-000.png, photos/image-001.png,",
        before=DONE,
    ),
    Situation(
        "a run that is continued without one of its images",
        PHOTOS,
        "image-000.png",
        "1 input (photos/image-000.png). Nothing was changed. Mount the",
        before=DONE,
        make=gone("photos/image-000.png"),
    ),
    Situation(
        "a run into a pack",
        "segment --input=photos --model=model --output=packed",
        "packed",
        "name an empty folder",
        before=PACKED,
    ),
    Situation(
        "a pack into a run",
        "pack --images=photos --output=run",
        "run",
        "name an empty folder",
        before=DONE,
    ),
    Situation(
        "a run of a later version",
        PHOTOS,
        "run.json",
        "name another --output",
        before=DONE,
        make=later,
    ),
    Situation(
        "a run whose run.json is damaged",
        PHOTOS,
        "run.json",
        "put it back from a copy, or begin again with `--overwrite`",
        before=DONE,
        make=all_of(spoiled(RUN, 0.5), spoiled(COPY, 0.5)),
    ),
    Situation(
        "a run whose run.json is a folder",
        PHOTOS,
        "run.json",
        "check the path, a file is needed there",
        before=DONE,
        make=empty(RUN),
    ),
    Situation(
        "a run whose run.json may not be read",
        PHOTOS,
        "run.json",
        "ask for the right to it, or name another place",
        before=DONE,
        make=closed(RUN),
        hook=PLAIN_USER,
    ),
    Situation(
        "a run without run.json",
        PHOTOS,
        "run.json",
        "name an empty folder",
        before=DONE,
        make=all_of(gone(RUN), gone(COPY)),
    ),
    Situation(
        "a run whose plan is a file",
        PHOTOS,
        "run/plan",
        "a part of the path is no folder: check it",
        before=DONE,
        make=put("run/plan", "x"),
    ),
    Situation(
        "a run whose commit records are a file",
        PHOTOS,
        "run/commits",
        "a part of the path is no folder: check it",
        before=DONE,
        make=put("run/commits", "x"),
    ),
    Situation(
        "a run whose label maps are a file",
        PHOTOS,
        "run/labels",
        "a part of the path is no folder: check it",
        before=DONE,
        make=all_of(gone("run/commits"), put("run/labels", "x")),
    ),
    Situation(
        "a run whose areas are a file",
        PHOTOS,
        "run/areas",
        "name another place, or remove it",
        before=DONE,
        make=put("run/areas", "x"),
    ),
    Situation(
        "a run whose temporary files are a file",
        PHOTOS,
        "run/tmp",
        "a part of the path is no folder: check it",
        before=DONE,
        make=put("run/tmp", "x"),
    ),
    Situation(
        "a run whose table is a folder",
        PHOTOS,
        "areas.csv",
        "check the path, a file is needed there",
        before=DONE,
        make=empty("run/areas.csv"),
    ),
    Situation(
        "a run whose summary is a folder",
        PHOTOS,
        "summary.json",
        "check the path, a file is needed there",
        before=DONE,
        make=empty("run/summary.json"),
    ),
    Situation(
        "a run whose mark is a folder",
        PHOTOS,
        "_SUCCESS",
        "check the path, a file is needed there",
        before=DONE,
        make=empty("run/_SUCCESS"),
    ),
    Situation(
        "a run of which a label map is a folder",
        PHOTOS,
        "image-000.png",
        "check the path, a file is needed there",
        before=DONE,
        make=all_of(empty("run/labels/photos/image-000.png.png"), gone("run/commits")),
    ),
    Situation(
        "a run that may not be written to",
        PHOTOS,
        "run",
        "ask for the right to it, or name another place",
        before=DONE,
        make=closed("run", 0o500),
        hook=PLAIN_USER,
    ),
    Situation(
        "a run whose commit records may not be written to",
        PHOTOS,
        "commits",
        "ask for the right to it, or name another place",
        before=DONE,
        make=all_of(first("run/commits/*", gone), closed("run/commits", 0o500)),
        hook=PLAIN_USER,
    ),
    Situation(
        "a run whose commit records may not be read",
        PHOTOS,
        "commits",
        "ask for the right to it, or name another place",
        before=DONE,
        make=closed("run/commits"),
        hook=PLAIN_USER,
    ),
    Situation(
        "a run whose plan may not be read",
        PHOTOS,
        "plan",
        "ask for the right to it, or name another place",
        before=DONE,
        make=closed("run/plan"),
        hook=PLAIN_USER,
    ),
    Situation(
        "a run whose label maps may not be written to",
        PHOTOS,
        "labels",
        "ask for the right to it, or name another place",
        before=DONE,
        make=all_of(gone("run/commits"), closed("run/labels/photos", 0o500)),
        hook=PLAIN_USER,
    ),
    Situation(
        "an overwrite of what is no run",
        f"{PHOTOS} --overwrite",
        "run",
        "name an empty folder",
        make=put("run/notes.txt", "mine"),
    ),
    Situation(
        "an overwrite of a pack by a run",
        "segment --input=photos --model=model --output=packed --overwrite",
        "packed",
        "name an empty folder",
        before=PACKED,
    ),
    Situation(
        "an overwrite of a run that may not be removed",
        f"{PHOTOS} --overwrite",
        "run",
        "ask for the right to it, or name another place",
        before=DONE,
        make=closed("run/labels/photos", 0o500),
        hook=PLAIN_USER,
    ),
    # Findings of verify.
    Situation(
        "a run of which a label map is missing",
        VERIFY,
        "run",
        "give the same `beamseg segment` again, after `beamseg verify",
        INCOMPLETE,
        before=DONE,
        make=gone("run/labels/photos/image-000.png.png"),
    ),
    # pack into a pack.
    Situation(
        "a pack that is continued with other shards",
        f"{PACK} --images_per_shard=2",
        "images_per_shard",
        "was 1000 and is 2. Give the former ones, another --output, or",
        before=PACKED,
    ),
    Situation(
        "a pack that is continued with another format",
        f"{PACK} --format=tar",
        "format",
        "was tfrecord and is tar. Give the former ones, another",
        before=PACKED,
    ),
    Situation(
        "a pack of which an image is gone",
        PACK,
        "image-000.png",
        "1 input (photos/image-000.png). Nothing was changed. Mount the",
        before=PACKED,
        make=gone("photos/image-000.png"),
    ),
    Situation(
        "a pack whose records are a file",
        PACK,
        ".beamseg",
        "--output packed/.beamseg is a file: name a folder",
        before=PACKED,
        make=put("packed/.beamseg", "x"),
    ),
    Situation(
        "a pack whose run.json is cut",
        PACK,
        "run.json",
        "put it back from a copy, or begin again with `--overwrite`",
        before=PACKED,
        make=all_of(cut("packed/.beamseg/run.json", 0.5), gone("packed/.beamseg/plan")),
    ),
    Situation(
        "a pack into one without its records",
        PACK,
        "packed",
        "name an empty folder",
        before=PACKED,
        make=gone("packed/.beamseg"),
    ),
)

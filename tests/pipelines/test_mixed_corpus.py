"""One run over every kind and mode of image, in files and in every container, with known labels."""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path

import numpy as np
import pytest

from pipelines.formats.interface import Work
from pipelines.totals import Totals
from tests.fuzzing.checks import read_entries
from tests.image_kinds import KINDS
from tests.pipelines.corpus import failure_rows, make_work, read_png, run_all, write
from tests.png_maker import chunk
from tests.shard_kinds import SHARD_KINDS, shard

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def png_of(width: int, height: int, *before: bytes) -> bytes:
    """A PNG that states a size, with chunks before its only, empty chunk of pixels."""
    header = b"".join(n.to_bytes(4, "big") for n in (width, height)) + bytes((8, 2, 0, 0, 0))
    chunks = [chunk(b"IHDR", header), *before, chunk(b"IDAT", b""), chunk(b"IEND", b"")]
    return SIGNATURE + b"".join(chunks)


def zeros_in_gzip(size: int) -> bytes:
    """So many zeros, compressed."""
    buffer = io.BytesIO()
    with gzip.GzipFile("", "wb", 9, buffer, mtime=0) as stream:
        for _ in range(size >> 20):
            stream.write(bytes(1 << 20))
    return buffer.getvalue()


BROKEN = {
    "bomb.png": (png_of(60_000, 60_000), "60000x60000 pixels exceed the limit"),
    "text.png": (
        png_of(8, 8, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(64 << 20)))),
        "Decompressed data too large",
    ),
    "empty.jpg": (b"", "empty file"),
    "text.jpg": (b"this is no image", "not a JPEG, PNG, WebP or TIFF image"),
    "cut.jpg": (KINDS["jpeg"](3).encoded[:-90], "truncated or corrupt JPEG"),
    "grey.jpg": (KINDS["jpeg"](3).encoded[:-90] + b"\xff\xd9", "truncated or corrupt JPEG"),
    "cut.png": (KINDS["png-rgb-8"](3).encoded[:-12], "truncated or corrupt PNG"),
    "cut.webp": (KINDS["webp"](3).encoded[:-20], ""),
}
# A quarter of a gigabyte of zeros, none of which is a record.
BOMBS = {"bomb.tfrecord.gz": "the length of a record is corrupt"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Work, Totals]:
    folder = tmp_path_factory.mktemp("mixed")
    for number, (name, kind) in enumerate(KINDS.items()):
        made = kind(number)
        write(folder / "in" / "images" / f"{name}{made.suffix}", made.encoded)
    for number, kind in enumerate(SHARD_KINDS):
        made_shard = shard(kind, number)
        write(folder / "in" / "shards" / f"{kind}{made_shard.suffix}", made_shard.encoded)
    for name, (content, _) in BROKEN.items():
        write(folder / "in" / "broken" / name, content)
    for name in BOMBS:
        write(folder / "in" / "broken" / name, zeros_in_gzip(256 << 20))
    work = make_work(folder / "run")
    return work, run_all(work, folder / "in")


@pytest.mark.parametrize("name", KINDS)
def test_an_image_file_of_every_kind_has_its_known_labels(run, name):
    made = KINDS[name](list(KINDS).index(name))
    path = Path(run[0].run.path(f"labels/in/images/{name}{made.suffix}.png"))
    np.testing.assert_array_equal(read_png(path), made.labels)


@pytest.mark.parametrize("kind", SHARD_KINDS)
def test_a_shard_of_every_kind_has_the_known_labels_of_its_images(run, kind):
    made = shard(kind, list(SHARD_KINDS).index(kind))
    path = Path(run[0].run.path(f"labels/in/shards/{kind}{made.suffix}"))
    entries = read_entries(path, kind.split("-")[0])
    assert len(entries) == len(made.images)
    for entry, image in zip(entries, made.images, strict=True):
        np.testing.assert_array_equal(entry.labels, image.labels)


@pytest.mark.parametrize("name", [*BROKEN, *BOMBS])
def test_what_is_broken_is_a_row_with_its_reason_and_has_no_label_map(run, name):
    (row,) = [row for row in failure_rows(run[0]) if row["uri"] == f"in/broken/{name}"]
    expected = BROKEN[name][1] if name in BROKEN else BOMBS[name]
    assert expected in row["reason"]
    assert not Path(run[0].run.path(f"labels/in/broken/{name}.png")).exists()


def test_nothing_else_failed_and_everything_is_counted(run):
    tally = run[1].tally
    assert tally.failed_images == len(BROKEN) + len(BOMBS)
    assert tally.images == len(KINDS) + 6 * len(SHARD_KINDS)
    assert run[1].missing == 0
    assert {row["uri"].split("/")[1] for row in failure_rows(run[0])} == {"broken"}

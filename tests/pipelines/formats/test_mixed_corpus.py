"""One run over every kind and mode in every container at once, with the labels it must give."""

from __future__ import annotations

import gzip
import resource
import tarfile
import zlib
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from pipelines.formats.tfrecord import masked_crc32c
from pipelines.formats.work import ReadOptions, Work
from pipelines.results.totals import Totals
from tests.broken_images import BROKEN
from tests.fakes import CLASSES
from tests.image_kinds import KINDS
from tests.known_images import NODATA, Known
from tests.pipelines.corpus import failure_rows, make_work, read_png, run_all, write
from tests.png_maker import chunks, join
from tests.shard_entries import read_entries
from tests.shard_kinds import SHARD_KINDS

MAX_PIXELS = 1 << 22
GIB = 1 << 30
# What a bomb may take, of the 2 GiB that it inflates to.
ROOM_BYTES = 200 << 20
# Names are data: any text, any number of times. The first two are what images of cameras have.
NAMES = (
    *("DSC_0001.jpg", "DSC_0001.jpg", "../../outside.png", "/etc/passwd.png", "a\nb\t.png"),
    *("", "日本/é.tif", "C:\\x.png", "-rf.png", "x" * 300 + ".png", "'; DROP TABLE areas.png"),
)
HOSTILE_FILES = (
    "a b.png",
    "日本.png",
    "-x.png",
    "a\nb.png",
    "[1]*?.png",
    "a..png",
    "x" * 247 + ".png",
)


@dataclass(frozen=True)
class Placed:
    """An image under a name, in a file or in a shard; `labels` is None if it must fail."""

    name: str
    encoded: bytes
    labels: np.ndarray | None
    reason: str = ""


@dataclass(frozen=True)
class Run:
    """What was put in, and what came of it."""

    work: Work
    totals: Totals
    files: tuple[Placed, ...]
    shards: dict[str, tuple[Placed, ...]]
    grown_bytes: int

    def path(self, name: str) -> Path:
        """A label map or shard of label maps."""
        return Path(self.work.run.path(f"labels/{name}"))


def placed_images() -> list[Placed]:
    """Every kind, smaller and larger than a window, and every broken image among them."""
    found = []
    for number, (name, build) in enumerate(KINDS.items()):
        for seed in (number % 10, 100 + number % 10):
            image = build(seed)
            found.append(Placed(f"{name}-{seed}{image.suffix}", image.encoded, image.labels))
    broken = [Placed(f"{n}{b.suffix}", b.encoded, None, b.reason) for n, b in BROKEN.items()]
    for number, image in enumerate(broken):
        found.insert(5 * number + 3, image)
    return found


def hostile(names: tuple[str, ...]) -> list[Placed]:
    """Intact images under names that nobody would choose."""
    images = [KINDS["png-rgb-8"](number) for number in range(len(names))]
    return [
        Placed(name, image.encoded, image.labels) for name, image in zip(names, images, strict=True)
    ]


def peak_bytes() -> int:
    """Bytes that this process had in memory at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def zipped_zeros(size: int) -> bytes:
    """A gzip file of many members; together they inflate to so many zeros."""
    return gzip.compress(bytes(64 << 20), 9) * (size // (64 << 20))


def record_that_states(size: int) -> bytes:
    """The header of a TFRecord, with the right checksum."""
    length = size.to_bytes(8, "little")
    return length + masked_crc32c(length).to_bytes(4, "little")


def tar_header(name: str, size: int) -> bytes:
    """The header of a member, with the right checksum."""
    member = tarfile.TarInfo(name)
    member.size = size
    return member.tobuf(tarfile.GNU_FORMAT)


def png_with_more_than_its_pixels() -> Placed:
    """A PNG that inflates to 256 MiB, of which its pixels are the first bytes."""
    image = KINDS["png-rgb-8"](0)
    parts = list(chunks(image.encoded))
    rows = zlib.decompress(b"".join(body for kind, body in parts if kind == b"IDAT"))
    pixels = (b"IDAT", zlib.compress(rows + bytes(256 << 20), 9))
    return Placed("more.png", join([parts[0], pixels, parts[-1]]), image.labels)


BOMBS = {
    "zeros.tfrecord.gz": zipped_zeros(2 * GIB),
    "record.tfrecord.gz": gzip.compress(record_that_states(2 * GIB)) + zipped_zeros(2 * GIB),
    "zeros.tar.gz": zipped_zeros(2 * GIB),
    "member.tar.gz": gzip.compress(tar_header("a.png", 2 * GIB)) + zipped_zeros(2 * GIB),
}
BOMB_REASONS = {
    "zeros.tfrecord.gz": ["the length of a record is corrupt"],
    "record.tfrecord.gz": ["a record of 2147483648 bytes is longer than any image"],
    "zeros.tar.gz": [],
    "member.tar.gz": [
        "2147483648 bytes are more than any image within --max_pixels has",
        "the archive ends without its end mark",
    ],
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Image files, shards of all kinds and bombs, all in one run."""
    root = tmp_path_factory.mktemp("mixed")
    files = [*placed_images(), *hostile(HOSTILE_FILES), png_with_more_than_its_pixels()]
    for image in files:
        write(root / "photos" / image.name, image.encoded)
    write(root / "more" / "jpeg-0.jpg", KINDS["png-rgb-8"](7).encoded)
    shards = {}
    for kind, build in SHARD_KINDS.items():
        images = placed_images() + ([] if kind.startswith("tar") else hostile(NAMES))
        known = [Known("", image.encoded, np.empty(0)) for image in images]
        shard = build(known, [image.name for image in images])
        name = f"{kind}{shard.suffix}"
        write(root / "shards" / name, shard.encoded)
        named = zip(images, shard.names, strict=True)
        shards[name] = tuple(replace(image, name=name) for image, name in named)
    for name, content in BOMBS.items():
        write(root / "bombs" / name, content)
    work = make_work(root / "run", reading=ReadOptions(max_pixels=MAX_PIXELS), groups=3)
    before = peak_bytes()
    totals = run_all(work, *(root / name for name in ("photos", "more", "shards", "bombs")))
    return Run(work, totals, tuple(files), shards, peak_bytes() - before)


def reasons_of(run: Run, uri: str) -> dict[str | None, str]:
    """Reasons of failures of an input file, by the key of the image in it."""
    rows = [row for row in failure_rows(run.work) if row["uri"] == uri]
    assert len({row["key"] for row in rows}) == len(rows)
    return {row["key"]: row["reason"] for row in rows}


def test_the_corpus_has_all_kinds_and_all_faults(run):
    assert len(run.files) == 2 * len(KINDS) + len(BROKEN) + len(HOSTILE_FILES) + 1
    assert len(run.shards) == len(SHARD_KINDS)
    assert {
        int(value)
        for image in run.files
        if image.labels is not None
        for value in np.unique(image.labels)
    } == {0, 3, 7, NODATA}


@pytest.mark.parametrize("kind", KINDS)
def test_every_image_file_has_the_labels_of_its_pixels(run, kind):
    images = [image for image in run.files if image.name.startswith(kind)]
    assert len(images) >= 2
    for image in images:
        path = run.path(f"photos/{image.name}.png")
        assert path.exists() == (image.labels is not None)
        if image.labels is not None:
            np.testing.assert_array_equal(read_png(path), image.labels)


@pytest.mark.parametrize(
    "name", [f"{kind}{build([], []).suffix}" for kind, build in SHARD_KINDS.items()]
)
def test_every_image_of_a_shard_has_the_labels_of_its_pixels(run, name):
    entries = read_entries(run.path(f"shards/{name}"))
    expected = [(n, image) for n, image in enumerate(run.shards[name]) if image.labels is not None]
    assert [entry.record for entry in entries] == [number for number, _ in expected]
    for entry, (_, image) in zip(entries, expected, strict=True):
        assert entry.name == image.name
        assert (entry.height, entry.width) == image.labels.shape
        np.testing.assert_array_equal(entry.labels, image.labels)


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_image_file_is_a_failure_with_its_reason(run, fault):
    name = f"{fault}{BROKEN[fault].suffix}"
    ((key, reason),) = reasons_of(run, f"photos/{name}").items()
    assert key is None
    assert reason.startswith(BROKEN[fault].reason)
    assert not run.path(f"photos/{name}.png").exists()


@pytest.mark.parametrize(
    "name", [f"{kind}{build([], []).suffix}" for kind, build in SHARD_KINDS.items()]
)
def test_a_broken_image_of_a_shard_is_a_failure_with_its_number_name_and_reason(run, name):
    reasons = reasons_of(run, f"shards/{name}")
    broken = {
        f"#{n} {image.name}": image
        for n, image in enumerate(run.shards[name])
        if image.labels is None
    }
    assert sorted(reasons) == sorted(broken)
    for key, image in broken.items():
        assert reasons[key].startswith(image.reason)


def test_files_of_one_name_in_two_folders_keep_their_own_labels(run):
    for folder, kind, seed in (("photos", "jpeg", 0), ("more", "png-rgb-8", 7)):
        expected = KINDS[kind](seed).labels
        np.testing.assert_array_equal(read_png(run.path(f"{folder}/jpeg-0.jpg.png")), expected)


@pytest.mark.parametrize("name", HOSTILE_FILES)
def test_a_file_of_any_name_has_a_label_map_of_that_name(run, name):
    (image,) = (image for image in run.files if image.name == name)
    np.testing.assert_array_equal(read_png(run.path(f"photos/{name}.png")), image.labels)


def test_no_name_leads_out_of_the_run(run):
    root = Path(run.work.run.root)
    assert sorted(path.name for path in root.parent.iterdir()) == [
        *("bombs", "more", "photos", "run", "shards")
    ]
    written = {path.relative_to(root).parts[0] for path in root.rglob("*") if path.is_file()}
    assert written == {"areas", "commits", "failures", "labels", "plan"}
    assert not list(root.rglob("outside*"))


def test_totals_count_every_image_and_every_pixel_once(run):
    images = [*run.files, *(image for images in run.shards.values() for image in images)]
    labelled = [image.labels for image in images if image.labels is not None]
    labelled.append(KINDS["png-rgb-8"](7).labels)
    pixels = Counter(np.concatenate([labels.reshape(-1) for labels in labelled]).tolist())
    tally = run.totals.tally
    assert tally.images == len(labelled)
    of_bombs = sum(len(reasons) for reasons in BOMB_REASONS.values())
    assert tally.failed_images == len(images) - len(labelled) + 1 + of_bombs
    named = {str(entry.id): pixels[entry.id] for entry in CLASSES.classes}
    assert tally.pixels == named | {"nodata": pixels[NODATA]}
    assert run.totals.missing == 0


@pytest.mark.parametrize("name", BOMBS)
def test_a_shard_that_inflates_to_two_gibibytes_is_a_failure(run, name):
    reasons = list(reasons_of(run, f"bombs/{name}").values())
    assert len(reasons) == len(BOMB_REASONS[name])
    for reason, expected in zip(reasons, BOMB_REASONS[name], strict=True):
        assert reason.startswith(expected)
    assert read_entries(run.path(f"bombs/{name}")) == []


def test_no_bomb_takes_memory(run):
    assert run.grown_bytes < ROOM_BYTES

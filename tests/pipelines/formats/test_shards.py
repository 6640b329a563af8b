"""All formats of shards: the same images give the same maps, rows and failures in each."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipelines import formats
from pipelines.formats import example
from pipelines.formats.tfrecord import frame
from pipelines.formats.work import ReadOptions, Work
from pipelines.run.commits import CommitLog
from segmodel.tiling.windows import Layout
from tests.fakes import brightness_labels
from tests.pipelines.corpus import (
    failure_rows,
    files_in,
    make_work,
    pixels,
    plan_context,
    read_shard,
    run_unit,
    units_in,
)

SUFFIXES = {
    "tfrecord": (".tfrecord", ".tfrecord.gz"),
    "tar": (".tar", ".tar.gz", ".tgz"),
    "parquet": (".parquet", ".pq"),
}
CONTAINERS = [suffix for entry in formats.SHARDS for suffix in SUFFIXES[entry.name]]
Named = list[tuple[str, bytes]]


def encoded(values: np.ndarray, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, kind, **options)
    return buffer.getvalue()


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def images() -> Named:
    """Twelve files, of which four are broken."""
    clear = np.dstack([pixels(70, 65, 5), pixels(70, 65, 6, 1) // 128 * 255])
    jpeg = encoded(pixels(90, 140, 2), "JPEG", quality=95)
    return [
        ("00.png", encoded(pixels(1, 1, 0), "PNG")),
        ("01.png", encoded(pixels(150, 200, 1), "PNG")),
        ("deep/er/02.jpg", jpeg),
        ("03.jpg", jpeg[: len(jpeg) // 2] + b"\xff\xd9"),
        ("04.webp", encoded(pixels(64, 64, 3), "WEBP", lossless=True)),
        ("05.tif", encoded(pixels(33, 128, 4), "TIFF")),
        ("06.png", b"text"),
        ("07.png", encoded(clear, "PNG")),
        ("08.png", b""),
        ("09 é.png", encoded(pixels(30, 80, 7, 1)[..., 0], "PNG")),
        ("10.jpeg", encoded(pixels(40, 90, 8), "JPEG", exif=turned())),
        ("11.png", encoded(pixels(20, 20, 9), "PNG")[:-20]),
    ]


IMAGES = images()
BROKEN = (3, 6, 8, 11)
WHOLE = [number for number in range(12) if number not in BROKEN]


def container(suffix: str, files: Named) -> bytes:
    """A shard of named files, as others write it."""
    if suffix.endswith((".gz", ".tgz")):
        return gzip.compress(container(suffix.replace(".gz", "").replace("tgz", "tar"), files))
    buffer = io.BytesIO()
    if suffix == ".tar":
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for name, content in files:
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    elif suffix == ".tfrecord":
        for name, content in files:
            values = {"image/encoded": content, "image/filename": name.encode()}
            buffer.write(frame(example.serialize_example(values)))
    else:
        names, contents = [name for name, _ in files], [content for _, content in files]
        column = pa.array(contents, pa.binary())
        table = pa.table({"image": column, "filename": names})
        pq.write_table(table, buffer, row_group_size=3)
    return buffer.getvalue()


def write(folder: Path, suffix: str, files: Named) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"s{suffix}").write_bytes(container(suffix, files))
    return folder / f"s{suffix}"


def maps_of(path: Path) -> dict[int, tuple[str, bytes, bytes | None]]:
    """Name, label map and confidence by number, of a shard of label maps."""
    if path.suffix in (".parquet", ".pq"):
        rows = pq.read_table(path).to_pylist()
        return {r["record"]: (r["filename"], r["labels"], r.get("confidence")) for r in rows}
    if "tfrecord" in path.name:
        labels, levels = (f"image/segmentation/{what}/encoded" for what in ("class", "confidence"))
        return {
            f["image/record"][0]: (
                f["image/filename"][0].decode(),
                f[labels][0],
                f.get(levels, [None])[0],
            )
            for f in read_shard(path)
        }
    found, parts = {}, {}
    with tarfile.open(path) as source:
        for member in source:
            content = source.extractfile(member).read()
            parts[member.name.rpartition("/")[2].partition(".")[2]] = content
            if member.name.endswith(".json"):
                about = json.loads(content)
                maps = (parts["labels.png"], parts.get("confidence.png"))
                found[about["record"]] = (about["filename"], *maps)
                parts = {}
    return found


class Done:
    """What became of a shard."""

    def __init__(self, work: Work, path: Path) -> None:
        (unit,) = units_in(work, path)
        run_unit(unit, work)
        root = Path(work.run.root)
        self.tally = CommitLog(work.run.root, work.options).read(unit).tally
        self.maps = maps_of(root / "labels" / path.parent.name / path.name)
        tables = list((root / "areas").glob("*.parquet"))
        rows = pq.read_table(tables[0]).to_pylist() if tables else []
        self.rows = [{**row, "source": ""} for row in rows]
        self.failures = [(row["key"], row["stage"], row["reason"]) for row in failure_rows(work)]


@pytest.fixture(scope="module")
def expected(tmp_path_factory) -> Done:
    """The first container, which is held against arithmetic."""
    root = tmp_path_factory.mktemp("expected")
    work = make_work(root / "run", confidence=True)
    return Done(work, write(root / "in", CONTAINERS[0], IMAGES))


def test_every_format_of_shards_is_here():
    assert sorted(SUFFIXES) == sorted(entry.name for entry in formats.SHARDS)


def test_maps_are_those_of_the_images(expected):
    assert list(expected.maps) == WHOLE
    for number, (name, labels, confidence) in expected.maps.items():
        assert name == IMAGES[number][0]
        image = Image.open(io.BytesIO(IMAGES[number][1]))
        values = np.asarray(image.convert("RGB"))
        values = np.rot90(values, -1) if number == 10 else values
        wanted = brightness_labels(values)
        if number == 7:
            wanted = np.where(np.asarray(image)[..., 3] > 0, wanted, 255)
            assert (wanted == 255).any()
            assert (wanted != 255).any()
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(labels))), wanted)
        assert Image.open(io.BytesIO(confidence)).size == wanted.shape[::-1]
    keys = sorted(key for key, _, _ in expected.failures)
    assert keys == ["#11 11.png", "#3 03.jpg", "#6 06.png", "#8 08.png"]
    assert (expected.tally.images, expected.tally.failed_images) == (8, 4)


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_every_container_gives_the_same_maps_rows_and_failures(tmp_path, expected, suffix):
    work = make_work(tmp_path / "run", confidence=True)
    actual = Done(work, write(tmp_path / "in", suffix, IMAGES))
    assert actual.maps == expected.maps
    assert actual.rows == expected.rows
    assert actual.failures == expected.failures
    assert actual.tally == expected.tally


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_every_container_gives_the_same_bytes_again(tmp_path, suffix):
    path = write(tmp_path / "in", suffix, IMAGES)
    for run in ("one", "two"):
        Done(make_work(tmp_path / run, confidence=True), path)
    one, two = (tmp_path / run / "labels" / "in" / path.name for run in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_a_limit_takes_the_first_images_in_every_container(tmp_path, expected, suffix):
    path = write(tmp_path / "in", suffix, IMAGES)
    (file,) = files_in(path)
    owner = next(entry for entry in formats.SHARDS if entry.matches(file.name))
    for limit in (0, 1, 4, 7, 12, 13):
        assert owner.count(file, limit, ReadOptions()) == min(limit, 12)
    for limit in (0, 1, 4, 12, 99):
        work = make_work(tmp_path / f"run-{limit}", confidence=True)
        (unit,) = owner.units([file], work, limit)
        run_unit(unit, work)
        maps = maps_of(Path(work.run.root) / "labels" / "in" / path.name)
        assert maps == {n: found for n, found in expected.maps.items() if n < limit}
        assert len(failure_rows(work)) == sum(number < limit for number in BROKEN)


@pytest.mark.parametrize("share", [0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.999])
@pytest.mark.parametrize("suffix", CONTAINERS)
def test_a_part_of_a_shard_gives_the_first_maps_and_one_failure_more(
    tmp_path, expected, suffix, share
):
    path = write(tmp_path / "in", suffix, IMAGES)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    actual = Done(make_work(tmp_path / "run", confidence=True), path)
    begun = len(actual.maps)
    assert list(actual.maps.items()) == list(expected.maps.items())[:begun]
    lost = [failure for failure in actual.failures if failure not in expected.failures]
    if not lost:
        # A file of no record is whole, and so is an archive without what fills it up.
        assert (suffix, share) in ((".tfrecord", 0), (".tar", 0.999))
        return
    ((key, stage, reason),) = lost
    assert stage == "record"
    assert "lost" in reason or "cannot be read" in reason or "it was cut" in reason
    number = int(key.split()[0].removeprefix("#"))
    assert set(actual.maps) == {n for n in expected.maps if n < number}


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_an_estimate_is_by_the_first_image_and_does_not_mind_what_is_broken(tmp_path, suffix):
    same = [(f"{n}.png", encoded(pixels(150, 200, n), "PNG")) for n in range(5)]
    path = write(tmp_path / "in", suffix, same)
    files = files_in(path)
    owner = next(entry for entry in formats.SHARDS if entry.matches(files[0].name))
    layout = Layout(64, 0, 32)
    estimate = owner.estimate(files, plan_context(layout=layout))
    assert 4 <= estimate.images <= 6
    assert estimate.pixels == estimate.images * 150 * 200
    assert estimate.windows == estimate.images * 3 * 4
    assert not estimate.exact
    content = path.read_bytes()
    for part in (b"", content[:1], content[:-1], content[: len(content) // 2], b"\xff" * 600):
        path.write_bytes(part)
        estimate = owner.estimate(files_in(path), plan_context(layout=layout))
        assert estimate.images >= 1
        assert owner.count(files_in(path)[0], 99, ReadOptions()) <= 6
    write(tmp_path / "in", suffix, [("a.png", b"text"), ("b.png", IMAGES[1][1])])
    assert owner.estimate(files_in(path), plan_context(layout=layout)).pixels == 0


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_a_shard_without_an_image_gives_a_shard_without_a_map(tmp_path, suffix):
    actual = Done(make_work(tmp_path / "run"), write(tmp_path / "in", suffix, []))
    assert (actual.maps, actual.failures, actual.tally.images) == ({}, [], 0)


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_scaled_images_have_maps_of_their_own_size(tmp_path, suffix):
    reading = ReadOptions(resize=(32, 64))
    work = make_work(tmp_path / "run", confidence=True, reading=reading)
    actual = Done(work, write(tmp_path / "in", suffix, IMAGES))
    assert list(actual.maps) == WHOLE
    for number, (_, labels, confidence) in actual.maps.items():
        image = Image.open(io.BytesIO(IMAGES[number][1]))
        size = image.size[::-1] if number == 10 else image.size
        assert Image.open(io.BytesIO(labels)).size == size
        assert Image.open(io.BytesIO(confidence)).size == size
        if number == 7:
            nodata = np.asarray(Image.open(io.BytesIO(labels))) == 255
            np.testing.assert_array_equal(nodata, np.asarray(image)[..., 3] == 0)
    assert len(actual.failures) == 4


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_images_of_more_pixels_than_allowed_fail_by_themselves(tmp_path, suffix):
    work = make_work(tmp_path / "run", reading=ReadOptions(max_pixels=90 * 140))
    actual = Done(work, write(tmp_path / "in", suffix, IMAGES))
    assert list(actual.maps) == [number for number in WHOLE if number != 1]
    reasons = {key: reason for key, _, reason in actual.failures}
    assert reasons["#1 01.png"].startswith("200x150 pixels exceed the limit of 12600: raise --max")

"""What a work unit asks of a store: the numbers that docs/capacity.md reckons with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.run.directory import RunDirectory
from pipelines.scenes.assembly import finish_scene
from pipelines.storage import clients
from tests.end_to_end.conftest import files_of
from tests.pipelines.corpus import (
    make_work,
    pixels,
    png,
    record,
    run_unit,
    small_blocks,
    units_in,
    write,
    write_scene,
    write_shard,
)
from tests.services.buckets import Bucket
from tests.services.faults import Plan


@pytest.fixture(autouse=True)
def fresh_clients() -> Iterator[None]:
    clients._store.cache_clear()
    yield
    clients._store.cache_clear()


def requests_of_a_unit(bucket: Bucket, folder: Path, name: str) -> tuple[Counter, Counter]:
    """Requests by method of the unit of all files in a folder; done first, and when it is done."""
    assert bucket.faults is not None
    for path, content in files_of(folder).items():
        bucket.put(f"in/{path}", content)
    work = make_work(folder.parent, run=RunDirectory(f"{bucket.uri}/{name}"))
    (unit,) = units_in(work, f"{bucket.uri}/in")
    counted = []
    for _ in range(2):
        bucket.faults.follow(Plan(share=0))
        run_unit(unit, work)
        counts: Counter[str] = Counter()
        for (method, _), number in bucket.faults.counts.items():
            counts[method] += number
        counted.append(counts)
    return counted[0], counted[1]


@pytest.mark.parametrize("storage_service", ["s3"], indirect=True)
def test_a_group_of_images_asks_once_for_each_image_and_each_label_map(faulty_bucket, tmp_path):
    for number in range(5):
        write(tmp_path / "in" / f"{number}.png", png(pixels(40, 50, number)))
    first, retry = requests_of_a_unit(faulty_bucket, tmp_path / "in", "images")
    # Record: asked for, created. Images and label maps. Areas; failures of before.
    assert first == Counter(GET=1 + 5, PUT=5 + 1 + 1, DELETE=1)
    assert retry == Counter(GET=1)


@pytest.mark.parametrize("storage_service", ["s3"], indirect=True)
def test_a_shard_asks_for_its_bytes_in_pieces_of_8_mib(faulty_bucket, tmp_path):
    write_shard(tmp_path / "in" / "a.tfrecord", [record(pixels(40, 50, n)) for n in range(9)])
    first, retry = requests_of_a_unit(faulty_bucket, tmp_path / "in", "shard")
    assert first == Counter(GET=1 + 1, PUT=1 + 1 + 1, DELETE=1)
    assert retry == Counter(GET=1)


@pytest.mark.parametrize("storage_service", ["s3"], indirect=True)
def test_a_scene_asks_for_its_bytes_in_pieces_of_1_mib(faulty_bucket, tmp_path):
    values = pixels(1024, 1024)
    write_scene(tmp_path / "in" / "a.tif", values, tiled=True, blockxsize=256, blockysize=256)
    first, retry = requests_of_a_unit(faulty_bucket, tmp_path / "in", "scene")
    # Record; what is beside the scene; its header and 3 MiB of pixels. Map, class names.
    assert first == Counter(GET=1 + 2 + 4, PUT=2 + 1 + 1, DELETE=1)
    assert retry == Counter(GET=1)


@pytest.mark.parametrize("storage_service", ["s3"], indirect=True)
def test_a_scene_is_put_together_with_three_reads_and_two_removals_a_block(
    faulty_bucket, tmp_path, monkeypatch
):
    bucket = faulty_bucket
    small_blocks(monkeypatch, 64)
    path = write_scene(tmp_path / "in" / "a.tif", pixels(64, 256))
    bucket.put("in/a.tif", path.read_bytes())
    work = make_work(tmp_path, run=RunDirectory(f"{bucket.uri}/run"))
    *blocks, scene = units_in(work, f"{bucket.uri}/in")
    assert len(blocks) == 4
    for block in blocks:
        run_unit(block, work)
    bucket.faults.follow(Plan(share=0))
    assert finish_scene(scene, work)
    counts = Counter()
    for (method, _), number in bucket.faults.counts.items():
        counts["GET or HEAD" if method in ("GET", "HEAD") else method] += number
    # The record, asked for twice more around the work, beside what is asked for each block.
    assert counts == Counter({"GET or HEAD": 3 * 4 + 2, "PUT": 4, "DELETE": 2 * 4})

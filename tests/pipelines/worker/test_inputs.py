"""What a commit record says of inputs, and that reading them again gives the same."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine

from pipelines.formats.work import ReadOptions, Work
from pipelines.geodesy.vector_files import read_polygons
from pipelines.run import plan
from pipelines.run.plan import WorkUnit
from pipelines.run.polygons import AOI, store
from pipelines.worker import unit as worker
from pipelines.worker.read_again import read_again
from segmodel.errors import TransientError
from segmodel.rasters.reader import RasterReader
from segmodel.tiling.windows import Layout, Window, tiles
from tests.end_to_end.containers import write_parquet, write_tar
from tests.pipelines.checksums import checksum_of
from tests.pipelines.corpus import (
    UTM,
    encoded,
    make_work,
    pixels,
    png,
    record,
    run_all,
    run_unit,
    small_blocks,
    spoil_strip,
    units_in,
    write,
    write_scene,
    write_shard,
)
from tests.pipelines.scene_runs import write_polygons

Inputs = dict[str, tuple[str | None, ...]]


def recorded(work: Work) -> Inputs:
    """What the records of all units with work hold of their inputs, by id."""
    units = plan.read_units(work.run.plan, WorkUnit)
    return {unit.id: work.log.read(unit).inputs for unit in units}  # type: ignore[union-attr]


def again(work: Work) -> Inputs:
    """The same of the inputs as they are now."""
    return {u.id: read_again(u, work)[0] for u in plan.read_units(work.run.plan, WorkUnit)}


def done(work: Work, *patterns: Path) -> Inputs:
    run_all(work, *patterns)
    return recorded(work)


def of_windows(values: np.ndarray, windows: list[Window], valid: np.ndarray | None = None) -> str:
    """The checksum of a scene or a block, by what it is made of."""
    parts = [b"10.0 0.0 300000.0 0.0 -10.0 6000000.0 EPSG:32633"]
    for w in sorted(windows, key=lambda w: (w.row, w.column, w.height, w.width)):
        masks = [] if valid is None or valid[w.slices].all() else [valid[w.slices].tobytes()]
        crc = checksum_of(values[w.slices].tobytes(), *masks)
        parts.append(f"{w.row} {w.column} {w.height} {w.width} {crc}".encode())
    return checksum_of(*parts)


def test_of_image_files_the_bytes_count_and_those_of_the_mask_beside(tmp_path, work):
    plain, masked = png(pixels(8, 9)), encoded(pixels(8, 9, 1), "TIFF")
    write(tmp_path / "in" / "a.png", plain)
    path = write(tmp_path / "in" / "b.tif", masked)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as target:
        target.write_mask(np.arange(72).reshape(8, 9) > 9)
    beside = Path(f"{path}.msk").read_bytes()
    assert path.read_bytes() == masked
    write(tmp_path / "in" / "c.png", plain[:-20])
    write(tmp_path / "in" / "d.png", b"no image")

    (actual,) = done(work, *(tmp_path / "in").glob("*.[pt][ni][gf]")).values()

    assert actual == (
        checksum_of(plain),
        checksum_of(masked, beside),
        checksum_of(plain[:-20]),
        checksum_of(b"no image"),
    )


@pytest.mark.parametrize("suffix", ["tfrecord", "tfrecord.gz", "tar", "tar.gz", "parquet"])
def test_of_shards_number_name_and_bytes_of_each_sample_count(tmp_path, work, suffix):
    names = ("a.png", "b.png", "c.png")
    values = [pixels(8, 9, n) for n in range(3)]
    images = {name: png(image) for name, image in zip(names, values, strict=True)}
    path = tmp_path / "in" / f"s.{suffix}"
    if suffix.startswith("tfrecord"):
        write_shard(path, [record(image, name) for name, image in zip(names, values, strict=True)])
    else:
        {"tar": write_tar, "tar.gz": write_tar, "parquet": write_parquet}[suffix](path, images)

    (actual,) = done(work, path).values()

    parts: list[bytes] = []
    for number, (name, content) in enumerate(images.items()):
        parts += [number.to_bytes(8, "little"), name.encode(), content]
    assert actual == (checksum_of(*parts),)
    assert again(work) == recorded(work)


def test_of_a_limited_shard_only_the_samples_count_that_are_labelled(tmp_path, work):
    path = tmp_path / "in" / "s.tfrecord"
    write_shard(path, [record(pixels(8, 9, n), "a") for n in range(3)])
    (unit,) = units_in(work, path)
    limited = replace(unit, records=1)
    run_unit(limited, work)
    expected = checksum_of(bytes(8), b"a", png(pixels(8, 9)))
    assert work.log.read(limited).inputs == (expected,)


def test_of_a_lost_sample_the_number_counts_and_of_a_shard_that_is_none_nothing(tmp_path, work):
    good = record(pixels(8, 9), "a")
    path = write_shard(tmp_path / "in" / "a.tfrecord", [good, good])
    path.write_bytes(path.read_bytes()[:-30])
    write(tmp_path / "in" / "b.tfrecord", b"no shard, but long enough for one")

    a, b = (inputs for _, inputs in sorted(done(work, tmp_path / "in").items()))

    lost = (1).to_bytes(8, "little")
    assert a == (checksum_of(bytes(8), b"a", png(pixels(8, 9)), lost, b"", b""),)
    assert b == (None,)
    assert again(work) == recorded(work)


@pytest.mark.parametrize(("window", "windows"), [(128, 1), (64, 6)])
def test_of_a_scene_the_decoded_windows_count(tmp_path, window, windows):
    values = pixels(100, 150)
    layout = Layout(window, 32, 32, batch=2)
    work = make_work(tmp_path / "run", layout=layout)
    whole = Window(0, 0, 100, 150)
    read = [tile.read for tile in tiles(whole, whole, layout)]
    (actual,) = done(work, write_scene(tmp_path / "in" / "a.tif", values)).values()
    assert len(read) == (windows if window == 64 else 2)
    assert actual == (of_windows(values, read),)


def test_scenes_of_the_same_pixels_in_other_places_differ(tmp_path, work):
    values = pixels(40, 50)
    places = [
        UTM,
        ("EPSG:32632", UTM[1]),
        (None, UTM[1]),
        (UTM[0], UTM[1] * Affine.translation(0, 1)),
        (UTM[0], UTM[1] * Affine.scale(2)),
    ]
    for number, place in enumerate(places):
        write_scene(tmp_path / "in" / f"{number}.tif", values, place)
    assert len(set(done(work, tmp_path / "in").values())) == len(places)


def test_what_is_read_of_a_shard_takes_no_memory_while_it_is_read_again(tmp_path, work):
    image, samples = pixels(1, 1), 2000
    names = (f"{number:0900d}" for number in range(samples))
    path = write_shard(tmp_path / "in" / "a.tfrecord", [record(image, name) for name in names])
    (unit,) = units_in(work, path)
    read_again(replace(unit, records=2), work)
    tracemalloc.start()
    (checksum,), _ = read_again(unit, work)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert checksum is not None
    assert peak < samples * 900 / 4


def test_of_a_block_the_windows_of_the_block_count_with_where_they_are_valid(
    tmp_path, work, monkeypatch
):
    small_blocks(monkeypatch, 64)
    values = pixels(64, 128)
    valid = np.ones((64, 128), bool)
    valid[:9, 70:] = False
    path = write_scene(tmp_path / "in" / "a.tif", values, mask=valid)

    actual = done(work, path)

    halves = [Window(0, 0, 64, 64), Window(0, 64, 64, 64)]
    assert list(actual.values()) == [(of_windows(values, [half], valid),) for half in halves]
    assert again(work) == actual


def corpus(folder: Path) -> Path:
    """Images, a shard, and scenes of which one has a strip that cannot be read."""
    for number in range(5):
        write(folder / "a" / f"{number}.png", png(pixels(70, 40 + number, number)))
    write_shard(folder / "s.tfrecord", [record(pixels(70, 40, n), f"{n}") for n in range(5)])
    write_scene(folder / "whole.tif", pixels(150, 200))
    broken = write_scene(folder / "broken.tif", pixels(150, 200), compress="lzw", blockysize=16)
    spoil_strip(broken, 6)
    return folder


def test_neither_threads_nor_batches_nor_seams_nor_confidence_count(tmp_path, monkeypatch):
    found = []
    for number, (threads, batch) in enumerate([(1, 1), (2, 3)]):
        monkeypatch.setattr(worker, "THREADS", threads)
        layout = Layout(64, 16, 32, batch=batch)
        others = {"check_seams": number > 0, "confidence": number > 0}
        work = make_work(tmp_path / f"run-{number}", layout=layout, **others)
        found.append(done(work, corpus(tmp_path / "in")))
        assert again(work) == found[-1]
    assert found[0] == found[1]
    assert not [name for name, inputs in found[0].items() if None in inputs]


def test_what_is_read_again_after_an_error_counts_once(tmp_path, monkeypatch):
    path = corpus(tmp_path / "in") / "whole.tif"
    expected = done(make_work(tmp_path / "one"), path)
    faults: Iterator[Exception | None] = iter([None, TransientError("busy"), None, None])
    original = RasterReader.read

    def failing(self: RasterReader, window: Window, *others: object) -> object:
        fault = next(faults, None)
        if fault is not None:
            raise fault
        return original(self, window, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(RasterReader, "read", failing)
    assert done(make_work(tmp_path / "two"), path) == expected
    assert next(faults, "all used") == "all used"


@pytest.mark.parametrize(
    "reading",
    [
        ReadOptions(resample_to=7.0),
        ReadOptions(resample_to=23.0),
        ReadOptions(bands=("3", "2", "1")),
        ReadOptions(aoi="drawn"),
    ],
    ids=["finer", "coarser", "bands", "aoi"],
)
def test_scenes_are_read_again_as_the_options_of_the_run_say(tmp_path, monkeypatch, reading):
    small_blocks(monkeypatch, 128)
    path = write_scene(tmp_path / "in" / "a.tif", pixels(200, 200))
    work = make_work(tmp_path / "run", reading=reading)
    if reading.aoi:
        shape = shapely.box(300900, 5_998_500, 301500, 5_999_100)
        drawn = write_polygons(tmp_path / "a.json", "EPSG:32633", [("a", shape)])
        polygons = read_polygons(drawn, "--aoi")
        store(work.run, AOI, polygons)
        work = replace(work, reading=replace(reading, aoi=polygons.digest))
    before = done(work, path)
    assert len(before) >= 4
    assert len(set(before.values())) == len(before)
    assert again(work) == before


def test_what_cannot_be_read_has_no_checksum_and_a_reason(tmp_path, work):
    write(tmp_path / "in" / "a.png", png(pixels(8, 9)))
    write(tmp_path / "in" / f"{'b' * 252}.png"[-255:], png(pixels(8, 9)))
    write_scene(tmp_path / "in" / "grey.tif", pixels(8, 9, bands=1))
    actual = done(work, tmp_path / "in")
    assert [inputs for name, inputs in actual.items() if name.startswith("images")] == [
        (checksum_of(png(pixels(8, 9))), None)
    ]
    assert [inputs for name, inputs in actual.items() if name.startswith("scene")] == [(None,)]
    (scene,) = (u for u in plan.read_units(work.run.plan, WorkUnit) if u.format == "scene")
    _, faults = read_again(scene, work)
    assert list(faults) == ["in/grey.tif"]


def test_records_of_runs_that_began_without_seals_say_nothing_of_inputs(tmp_path):
    work = make_work(tmp_path / "run", is_sealed=False)
    assert set(done(work, corpus(tmp_path / "in")).values()) == {()}
    assert b"inputs" not in b"".join(p.read_bytes() for p in (tmp_path / "run/commits").iterdir())

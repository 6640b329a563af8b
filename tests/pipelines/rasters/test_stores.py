"""GDAL reads scenes in stores as it reads them on disk, or the read does not count."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import rasterio

from pipelines.rasters.cog import read_block
from pipelines.rasters.header import Headers, read_header
from pipelines.rasters.reader import SceneRaster
from pipelines.rasters.stores import StoredRaster
from pipelines.run.plan import InputFile
from pipelines.scenes.format import SceneFormat
from pipelines.storage import filesystem
from segmodel.errors import FailureCode, InputError, TransientError
from segmodel.rasters.bands import ModelBands
from segmodel.tiling.windows import Window
from tests.broken_images import shared_tags
from tests.fakes import contract
from tests.pipelines.corpus import pixels, write_scene
from tests.pipelines.memory_store import MemoryClient
from tests.pipelines.raster_kinds import (
    source_of,
    write_mask_beside,
    write_masked_bands,
    write_vrt,
)

VALUES = pixels(300, 400)
VALID = np.random.default_rng(1).random((300, 400)) > 0.2
WHOLE = Window(0, 0, 300, 400)
TILED = {"tiled": True, "blockxsize": 64, "blockysize": 64}
# More than the first request brings.
LARGE = pixels(1024, 1024)


def raster_of(uri: str) -> SceneRaster:
    header = read_header(uri)
    return SceneRaster(uri, header, ModelBands.of(header, contract(), None, "a"))


def on_disk_and_in_store(client: MemoryClient, path: Path) -> list[SceneRaster]:
    client.put_all(path.parent, "gs://b/dir a")
    return [raster_of(str(path)), raster_of(f"gs://b/dir a/{path.name}")]


@pytest.mark.parametrize("compress", [None, "deflate"])
@pytest.mark.parametrize("profile", [TILED, {}], ids=["tiles", "strips"])
def test_pixels_are_those_of_the_file(client, tmp_path, profile, compress):
    options = profile if compress is None else profile | {"compress": compress}
    here, there = on_disk_and_in_store(client, write_scene(tmp_path / "a.tif", VALUES, **options))
    for window in (WHOLE, Window(63, 65, 2, 200), Window(299, 399, 1, 1)):
        np.testing.assert_array_equal(there.read(window).values, here.read(window).values)
    there.close()


def test_a_mask_beside_a_scene_is_heeded(client, tmp_path):
    here, there = on_disk_and_in_store(client, write_mask_beside(tmp_path / "a.tif", VALUES, VALID))
    np.testing.assert_array_equal(there.read(WHOLE).valid, here.read(WHOLE).valid)
    np.testing.assert_array_equal(there.read(WHOLE).valid, VALID)


def test_sources_of_a_vrt_are_found_beside_it(client, tmp_path):
    by_band = np.dstack([VALID] * 3)
    write_masked_bands(tmp_path / "a.vrt", VALUES, by_band)
    client.put_all(tmp_path, "gs://b/x")
    found = raster_of("gs://b/x/a.vrt").read(WHOLE)
    np.testing.assert_array_equal(found.valid, VALID)
    assert {uri.rpartition("/")[0] for uri in read_header("gs://b/x/a.vrt").others} == {"gs://b/x"}


def test_sources_of_a_vrt_are_found_in_other_folders(client, tmp_path):
    write_scene(tmp_path / "s2" / "a.tif", VALUES)
    bands = [source_of(Path("a.tif"), band) for band in (1, 2, 3)]
    write_vrt(
        tmp_path / "s1" / "b.vrt",
        300,
        400,
        [band.replace(">a.tif<", ">../s2/a.tif<") for band in bands],
    )
    client.put_all(tmp_path, "gs://b/x")
    found = raster_of("gs://b/x/s1/b.vrt")
    np.testing.assert_array_equal(found.read(WHOLE).values, VALUES)
    assert found.header.others == ("gs://b/x/s2/a.tif",)


def test_the_version_of_a_scene_changes_with_its_mask(client, tmp_path):
    write_mask_beside(tmp_path / "a.tif", VALUES, VALID)
    client.put_all(tmp_path, "gs://b/x")
    file = InputFile("gs://b/x/a.tif", "x", "a.tif", 1, "v1")
    first = SceneFormat().claim(file, Headers()).version
    client.objects["gs://b/x/a.tif.msk"] += b"\0"
    again = InputFile("gs://b/x/a.tif", "x", "a.tif", 1, "v1-again")
    second = SceneFormat().claim(again, Headers()).version
    assert first.startswith("v1-")
    assert first.removeprefix("v1-") != second.removeprefix("v1-again-")


@pytest.mark.parametrize("compress", [None, "deflate"])
def test_pixels_that_do_not_arrive_are_an_error_and_no_zeros(client, tmp_path, compress):
    path = write_scene(tmp_path / "a.tif", LARGE, compress=compress, **TILED)
    here, there = on_disk_and_in_store(client, path)
    whole = Window(0, 0, 1024, 1024)
    before = there.read(Window(0, 0, 64, 64))
    client.fails = lambda method, uri: method == "read"
    with pytest.raises(TransientError, match="the store is down"):
        there.read(whole)
    client.fails = lambda method, uri: False
    np.testing.assert_array_equal(there.read(whole).values, here.read(whole).values)
    np.testing.assert_array_equal(before.values, LARGE[:64, :64])


@pytest.mark.parametrize("method", ["page", "read"])
def test_a_header_that_does_not_arrive_is_no_header(client, tmp_path, method):
    write_mask_beside(tmp_path / "a.tif", VALUES, VALID)
    client.put_all(tmp_path, "gs://b/x")
    client.fails = lambda asked, uri: asked == method
    with pytest.raises(TransientError):
        read_header("gs://b/x/a.tif")
    file, headers = InputFile("gs://b/x/a.tif", "x", "a.tif", 1, ""), Headers()
    assert headers.find(file) is None
    client.fails = lambda asked, uri: False
    assert headers.read(file).mask == "mask"


def test_a_scene_that_is_not_there_says_so_without_paths(client):
    with pytest.raises(InputError, match="cannot be opened") as raised:
        read_header("gs://b/x/a.tif")
    assert "/vsi" not in str(raised.value)


def test_what_is_refused_costs_the_scene_alone(client, tmp_path):
    client.put_all(write_scene(tmp_path / "in" / "a.tif", VALUES).parent, "gs://b/x")

    def refuse(uri, start, length, version):
        raise PermissionError(13, "the store refuses access (403)", uri)

    client.read = refuse
    with pytest.raises(InputError, match="refuses access"):
        read_header("gs://b/x/a.tif")


def test_scenes_of_alike_names_are_not_listed_for_each_other(client, tmp_path):
    write_scene(tmp_path / "1.tif", VALUES)
    client.put_all(tmp_path, "gs://b/x")
    read_header("gs://b/x/1.tif")
    starts = [start for method, start in client.asked if method == "page"]
    assert starts == ["gs://b/x/1.", "gs://b/x/1_"]


def test_a_scene_is_read_by_some_threads_and_closed_by_another(client, tmp_path):
    here, there = on_disk_and_in_store(
        client, write_scene(tmp_path / "a.tif", VALUES, compress="deflate", **TILED)
    )
    windows = [Window(row, 0, 60, 400) for row in range(0, 300, 60)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(there.read, windows))
    for window, read in zip(windows, found, strict=True):
        np.testing.assert_array_equal(read.values, here.read(window).values)
    there.close()


def test_label_maps_are_read_at_a_smaller_size(client, tmp_path):
    path = write_scene(tmp_path / "a.tif", VALUES[..., :1])
    client.put_all(tmp_path, "gs://b/x")
    with rasterio.open(path) as source:
        expected = source.read(1, out_shape=(30, 40))
    np.testing.assert_array_equal(read_block("gs://b/x/a.tif", WHOLE, (30, 40)), expected)


def test_a_scene_that_was_replaced_after_it_was_planned_is_not_read(client, tmp_path):
    client.put_all(write_scene(tmp_path / "in" / "a.tif", VALUES).parent, "gs://b/x")
    uri, planned = "gs://b/x/a.tif", "v1-digest-of-sidecars"
    header = read_header(uri, planned)
    bands = ModelBands.of(header, contract(), None, "a")
    SceneRaster(uri, header, bands, version=planned).read(WHOLE)
    client.version = "v2"
    with pytest.raises(TransientError, match="was replaced after it was listed"):
        SceneRaster(uri, header, bands, version=planned).read(WHOLE)


def test_an_answer_that_is_too_short_is_no_end_of_a_file(client):
    client.objects["gs://b/a"] = b"12345"
    with filesystem.open_stream("gs://b/a") as stream:
        client.objects["gs://b/a"] = b"123"
        with pytest.raises(TransientError, match="3 bytes in place of 5"):
            stream.read()


def test_an_image_that_was_replaced_after_it_was_listed_is_not_read(client):
    client.objects["gs://b/a.png"] = b"1"
    assert filesystem.read_bytes("gs://b/a.png", (1, "v1")) == b"1"
    client.version = "v2"
    with pytest.raises(TransientError, match="was replaced"):
        filesystem.read_bytes("gs://b/a.png", (1, "v1"))


def test_what_is_missing_of_a_file_in_a_store_is_missed(tmp_path, client):
    path = write_scene(tmp_path / "a.img", pixels(30, 40), driver="ENVI")
    client.put_all(tmp_path, "gs://b")
    assert read_header("gs://b/a.img").shortage is None
    path.write_bytes(path.read_bytes()[:-1])
    client.put_all(tmp_path, "gs://b")
    assert read_header("gs://b/a.img").shortage == (
        "the file is shorter than its header says: 3599 of 3600 bytes"
    )


@pytest.mark.parametrize("profile", [{"driver": "COG"}, {"driver": "GTiff", **TILED}])
def test_to_check_a_scene_before_gdal_opens_it_takes_no_request(
    client, tmp_path, monkeypatch, profile
):
    """Its directory stands at its beginning, or behind its pixels."""
    write_scene(tmp_path / "a.tif", LARGE, **profile)
    client.put_all(tmp_path, "gs://b/x")
    requests = []
    for check in (StoredRaster.check, lambda stored, path: None):
        monkeypatch.setattr(StoredRaster, "check", check)
        client.asked.clear()
        read_header("gs://b/x/a.tif")
        requests.append([*client.asked])
    assert sorted(requests[0]) == sorted(requests[1])


@pytest.mark.parametrize("suffix", ["", ".msk"])
def test_a_scene_whose_tags_share_their_bytes_is_refused_before_gdal_opens_it(
    client, tmp_path, monkeypatch, suffix
):
    write_scene(tmp_path / "a.tif", VALUES)
    client.put_all(tmp_path, "gs://b/x")
    client.objects[f"gs://b/x/a.tif{suffix}"] = shared_tags()
    monkeypatch.setattr(rasterio, "open", pytest.fail)
    with pytest.raises(InputError, match="share their bytes") as caught:
        read_header("gs://b/x/a.tif")
    assert caught.value.code == FailureCode.UNSUPPORTED


def windows_of(client: MemoryClient, path: Path, **options: object) -> list[tuple[str, str]]:
    """Requests for the pixels of a scene that is read by windows, which are those of the file."""
    values = pixels(2048, 2048)
    here, there = on_disk_and_in_store(client, write_scene(path, values, **options))
    there.read(Window(0, 0, 1, 1))
    client.asked.clear()
    for window in Window(0, 0, 2048, 2048).subdivide(512, 512):
        around = Window(max(0, window.row - 32), max(0, window.column - 32), 544, 544)
        np.testing.assert_array_equal(there.read(around).values, here.read(around).values)
    there.close()
    return client.asked


def test_a_scene_that_is_read_by_windows_is_asked_for_once(client, tmp_path):
    """12 MiB; the first is there, and two ranges begin in others, where a row of tiles does."""
    tiles = {"tiled": True, "blockxsize": 256, "blockysize": 256}
    asked = windows_of(client, tmp_path / "a.tif", **tiles)
    assert asked == [("read", "gs://b/dir a/a.tif")] * 13


def test_ranges_of_a_window_are_asked_for_at_once(client, tmp_path):
    here, there = on_disk_and_in_store(client, write_scene(tmp_path / "a.tif", LARGE, **TILED))
    there.read(Window(0, 0, 1, 1))
    # The rest of 3 MiB, and what the directory has moved behind them.
    together, read = threading.Barrier(3, timeout=30), client.read

    def read_together(*arguments):
        together.wait()
        return read(*arguments)

    client.read = read_together
    whole = Window(0, 0, 1024, 1024)
    np.testing.assert_array_equal(there.read(whole).values, here.read(whole).values)
    there.close()


def test_an_object_that_is_replaced_while_it_is_read_is_not_read_on(client, tmp_path):
    _, there = on_disk_and_in_store(client, write_scene(tmp_path / "a.tif", LARGE, **TILED))
    there.read(Window(0, 0, 1, 1))
    client.version = "v2"
    with pytest.raises(TransientError, match="was replaced after it was listed"):
        there.read(Window(0, 0, 1024, 1024))

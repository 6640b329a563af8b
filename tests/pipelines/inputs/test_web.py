"""Scenes behind http addresses: read by windows, versioned, tried again, without secrets."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipelines.formats import images
from pipelines.inputs.find import list_inputs
from pipelines.inputs.listing import find_web
from pipelines.rasters import gdal
from pipelines.rasters.gdal import OPENER
from pipelines.rasters.header import Headers, read_header
from pipelines.rasters.reader import SceneRaster
from pipelines.results.verify import verify
from pipelines.results.verify_units import Finding
from pipelines.scenes.format import SceneFormat
from pipelines.segment.options import SegmentOptions
from pipelines.segment.plan_report import report
from pipelines.storage import locations
from pipelines.storage.clients import retry
from pipelines.storage.copies import FileCopies
from segmodel.errors import ConfigurationError, FailureCode, InputError, TransientError
from segmodel.rasters.bands import ModelBands
from segmodel.tiling.windows import Window
from tests.fakes import brightness_labels, contract
from tests.pipelines import web_server
from tests.pipelines.corpus import (
    flipped,
    pixels,
    png,
    read_band,
    read_png,
    run_all,
    write,
    write_scene,
)
from tests.pipelines.scene_runs import run_scenes

VALUES = pixels(300, 200)


@pytest.fixture
def address(tmp_path) -> Iterator[str]:
    """Where `tmp_path/www` is served, by another process: opening with GDAL keeps the GIL."""
    (tmp_path / "www").mkdir()
    command = [sys.executable, web_server.__file__, str(tmp_path / "www")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{int(server.stdout.readline())}"
        server.kill()


def test_a_scene_is_labelled_and_lies_where_its_address_says(tmp_path, work, address):
    write_scene(tmp_path / "www" / "maps" / "a.tif", VALUES)
    totals = run_all(work, f"{address}/maps/a.tif")
    assert (totals.tally.images, totals.tally.failed_images) == (1, 0)
    labels = read_band(Path(work.run.root) / "labels" / "maps" / "a.tif")
    np.testing.assert_array_equal(labels, brightness_labels(VALUES))


def test_another_content_is_another_version(tmp_path, address):
    path = write_scene(tmp_path / "www" / "a.tif", VALUES)
    before = find_web(f"{address}/a.tif")
    write(path, path.read_bytes() + b" ")
    after = find_web(f"{address}/a.tif")
    assert (before.size + 1, before.name) == (after.size, "a.tif")
    assert before.version != after.version


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_may_answer_later_is_worth_a_retry(address, status):
    with pytest.raises(TransientError, match=str(status)):
        find_web(f"{address}/status/{status}/a.tif")


def test_a_file_that_is_not_there_is_refused(address):
    with pytest.raises(ConfigurationError, match="answers 404: check the address"):
        find_web(f"{address}/gone.tif")


def test_no_server_is_worth_a_retry():
    with pytest.raises(TransientError, match="cannot be reached"):
        find_web("http://127.0.0.1:9/a.tif")


@pytest.mark.parametrize(
    "secret",
    [
        "https://user:TOKEN@example.org/a.tif",
        "https://:TOKEN@example.org/a.tif",
        "https://example.org/a.tif?signature=TOKEN",
        "https://example.org/a.tif#TOKEN",
    ],
)
def test_an_address_with_a_secret_is_refused_without_saying_it(secret):
    with pytest.raises(ConfigurationError) as caught:
        find_web(secret)
    assert "TOKEN" not in str(caught.value)
    assert "GDAL_HTTP_HEADER_FILE" in str(caught.value)


def test_a_folder_of_a_server_is_refused(address):
    with pytest.raises(ConfigurationError, match="lists no folder"):
        find_web(f"{address}/maps/")


def test_what_is_no_raster_is_its_own_failure_and_no_reason_to_try_again(tmp_path, work, address):
    write(tmp_path / "www" / "page.tif", b"<html>welcome</html>")
    (file,) = list_inputs([f"{address}/page.tif"], "no-run")
    assert SceneFormat().claim(file, Headers()) == file
    with pytest.raises(InputError, match="not recognized"):
        OPENER.open(file.uri)


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("HTTP response code on https://a/b.tif: 503", TransientError),
        ("HTTP response code on https://a/b.tif: 404", InputError),
        ("Connection reset by peer", TransientError),
        ("ZIPDecode:Decoding error at scanline 0", InputError),
    ],
)
def test_a_fault_of_the_network_below_a_local_vrt_may_pass(reason, kind):
    assert isinstance(OPENER.unreadable(ValueError(reason), "in/a.vrt", "it"), kind)


def test_a_page_that_is_no_raster_fails_alone_beside_a_scene(tmp_path, work, address):
    write(tmp_path / "www" / "page.tif", b"<html>welcome</html>")
    write_scene(tmp_path / "www" / "a.tif", VALUES)
    totals = run_all(work, f"{address}/page.tif", f"{address}/a.tif")
    assert (totals.tally.images, totals.tally.failed_images) == (1, 1)


@pytest.mark.parametrize("compress", ["none", "deflate"])
def test_pixels_that_the_server_does_not_send_are_no_zeros(tmp_path, address, compress):
    values, uri = pixels(300, 400), f"/vsicurl/{address}/{compress}.tif"
    write_scene(tmp_path / "www" / f"{compress}.tif", values, compress=compress)
    header = read_header(uri)
    raster = SceneRaster(uri, header, ModelBands.of(header, contract(), None, "a"))
    down = write(tmp_path / "www" / "down", b"")
    with pytest.raises(TransientError, match="cannot be read"):
        raster.read(Window(0, 0, 300, 400))
    down.unlink()
    np.testing.assert_array_equal(raster.read(Window(0, 0, 300, 400)).values, values)


def gets(tmp_path: Path, how: str) -> list[str]:
    """What parts were asked for, in order, of what is in a folder of the server."""
    lines = (tmp_path / "www" / ".gets").read_text().splitlines()
    return [line.partition(" ")[2] for line in lines if line.startswith(f"{how} ")]


@pytest.mark.parametrize("how", ["no-head", "no-head-length"])
def test_a_server_that_gives_ranges_is_read_by_ranges_whatever_it_says_to_head(
    tmp_path, work, address, how
):
    path = write_scene(tmp_path / "www" / how / "a.tif", VALUES)
    file = find_web(f"{address}/{how}/a.tif")
    assert (file.uri, file.size) == (f"/vsicurl/{address}/{how}/a.tif", path.stat().st_size)
    totals = run_all(work, f"{address}/{how}/a.tif")
    assert (totals.tally.images, totals.tally.failed_images) == (1, 0)


@pytest.mark.parametrize("how", ["no-ranges", "no-length"])
def test_a_server_without_ranges_is_refused_at_once_with_the_remedy(tmp_path, address, how):
    write_scene(tmp_path / "www" / how / "a.tif", VALUES)
    with pytest.raises(ConfigurationError, match=r"no byte ranges.*--copy_web SIZE") as caught:
        find_web(f"{address}/{how}/a.tif")
    assert caught.value.code == FailureCode.NO_RANGES
    assert gets(tmp_path, how) == ["bytes=0-16383"]


def test_a_file_that_gdal_reads_in_one_piece_needs_no_ranges(tmp_path, work, address):
    path = write_scene(tmp_path / "www" / "no-ranges" / "a.tif", VALUES[:20, :20])
    assert path.stat().st_size < 16384
    totals = run_all(work, f"{address}/no-ranges/a.tif")
    assert (totals.tally.images, totals.tally.failed_images) == (1, 0)


def test_a_refusal_of_head_that_stops_gdal_is_said_and_a_copy_helps(tmp_path, address):
    write_scene(tmp_path / "www" / "forbidden-head" / "a.tif", VALUES)
    with pytest.raises(ConfigurationError, match=r"answers 403 to HEAD.*--copy_web SIZE") as caught:
        find_web(f"{address}/forbidden-head/a.tif")
    assert caught.value.code == FailureCode.NO_RANGES
    file = find_web(f"{address}/forbidden-head/a.tif", 1 << 20)
    assert OPENER.open(file.uri, file.version).source.shape == VALUES.shape[:2]


@pytest.mark.parametrize("how", ["no-ranges", "no-length"])
def test_with_copy_web_a_scene_is_copied_once_and_labelled(tmp_path, address, model_folder, how):
    write_scene(tmp_path / "www" / how / "a.tif", VALUES)
    folder = f"{address}/{how}/a.tif"
    run = run_scenes(tmp_path / "run", model_folder, folder, window=64, copy_web=1 << 20)
    np.testing.assert_array_equal(run.labels(f"{how}/a.tif"), brightness_labels(VALUES))
    assert run.status == 0
    assert gets(tmp_path, how) == ["bytes=0-16383", "None"]
    again = SegmentOptions((folder,), str(model_folder), str(tmp_path / "next"), copy_web=1 << 20)
    size = (tmp_path / "www" / how / "a.tif").stat().st_size
    assert (f"copies    1 file of web servers, {size:,} bytes, copied before reading") in report(
        again
    )


@pytest.mark.parametrize("how", ["files", "no-ranges"])
def test_with_copy_web_an_image_file_is_copied_and_labelled(
    tmp_path, address, model_folder, how, monkeypatch
):
    path = write(tmp_path / "www" / how / "a.png", png(VALUES))
    place = f"{address}/{how}/a.png"
    with pytest.raises(ConfigurationError, match=r"copy the file .*with --copy_web SIZE"):
        run_scenes(tmp_path / "run", model_folder, place, window=64)
    run = run_scenes(tmp_path / "run", model_folder, place, window=64, copy_web=1 << 20)
    assert run.status == 0
    labels = read_png(run.root / "labels" / how / "a.png.png")
    np.testing.assert_array_equal(labels, brightness_labels(VALUES))
    assert gets(tmp_path, how)[-1] == "None"
    assert (run.root / "preview.png").stat().st_size > 20_000
    # Another process has copies of its own.
    monkeypatch.setattr(images, "COPIES", FileCopies())
    write(path, png(VALUES[:10]))
    run = run_scenes(tmp_path / "run", model_folder, place, window=64, copy_web=1 << 20)
    assert read_png(run.root / "labels" / how / "a.png.png").shape == (10, 200)


def test_files_of_the_web_are_compared_with_what_was_labelled(
    tmp_path, address, model_folder, monkeypatch
):
    scene = write_scene(tmp_path / "www" / "no-ranges" / "a.tif", VALUES)
    image = write(tmp_path / "www" / "no-ranges" / "b.png", png(VALUES))
    places = (f"{address}/no-ranges/a.tif", f"{address}/no-ranges/b.png")
    run = run_scenes(tmp_path / "run", model_folder, *places, window=64, copy_web=1 << 20)

    def compared() -> list[tuple[str, str]]:
        # Another process has copies of its own.
        copies = FileCopies()
        monkeypatch.setattr(images, "COPIES", copies)
        monkeypatch.setattr(gdal, "COPIES", copies)
        found: list[Finding] = []
        assert verify(str(run.root), found.append, inputs=True).inputs == 2
        return sorted((finding.path, finding.wrong) for finding in found)

    assert compared() == []
    scene.write_bytes(flipped(scene.read_bytes(), scene.stat().st_size - 100))
    os.utime(image, ns=(1, 1))
    other = "has other content than was labelled"
    assert compared() == [("input no-ranges/a.tif", other)]
    image.unlink()
    (_, (name, reason)) = compared()
    assert name == "input no-ranges/b.png"
    assert reason.startswith("cannot be read (")
    assert "127.0.0.1" not in reason


def test_a_shard_on_the_web_is_refused_with_the_remedy(tmp_path, address, model_folder):
    write(tmp_path / "www" / "in" / "a.tar", b"no matter")
    reason = r"from the web, georeferenced scenes are, and with --copy_web SIZE image files"
    with pytest.raises(ConfigurationError, match=reason):
        run_scenes(tmp_path / "run", model_folder, f"{address}/in/a.tar", copy_web=1 << 20)


@pytest.mark.parametrize("how", ["no-ranges", "no-length"])
def test_a_file_larger_than_copy_web_allows_is_refused(tmp_path, address, how):
    write_scene(tmp_path / "www" / how / "a.tif", VALUES)
    with pytest.raises(ConfigurationError, match="--copy_web allows 20,000: raise it") as caught:
        find_web(f"{address}/{how}/a.tif", 20_000)
    assert caught.value.code == FailureCode.TOO_LARGE


def test_copies_are_few_whole_and_of_the_version_that_was_planned(tmp_path, address, monkeypatch):
    monkeypatch.setattr(retry, "ATTEMPTS", 1)
    for how in ("no-ranges", "cut"):
        for name in ("a", "b", "c"):
            write_scene(tmp_path / "www" / how / f"{name}.tif", VALUES)
    copies = FileCopies(kept=1)

    def copied(name: str, how: str = "no-ranges") -> str:
        return locations.copied(f"{address}/{how}/{name}.tif", 1 << 20)

    with copies.path(copied("a")) as first, copies.path(copied("b")) as second:
        content = (tmp_path / "www" / "no-ranges" / "a.tif").read_bytes()
        assert Path(first).read_bytes() == Path(second).read_bytes() == content
    assert [Path(path).exists() for path in (first, second)].count(True) == 1
    version = find_web(f"{address}/no-ranges/c.tif", 1 << 20).version
    with copies.path(copied("c"), version) as path:
        assert Path(path).name == "c.tif"
    with (
        pytest.raises(TransientError, match="is not what it was when the run was planned"),
        copies.path(copied("c"), "another"),
    ):
        pass
    with (
        pytest.raises(TransientError, match=r"\d+ of \d+ bytes arrived"),
        copies.path(copied("a", "cut")),
    ):
        pass


def test_gdal_below_a_local_vrt_says_that_a_server_has_no_ranges():
    error = OPENER.unreadable(
        ValueError("Range downloading not supported by this server!"), "in/a.vrt", "it"
    )
    assert isinstance(error, InputError)
    assert error.code == FailureCode.NO_RANGES

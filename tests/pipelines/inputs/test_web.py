"""Scenes behind http addresses: read by windows, versioned, tried again, without secrets."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipelines.inputs.find import list_inputs
from pipelines.inputs.listing import find_web
from pipelines.rasters.gdal import OPENER
from pipelines.rasters.header import Headers, read_header
from pipelines.rasters.reader import SceneRaster
from pipelines.scenes.format import SceneFormat
from segmodel.errors import ConfigurationError, InputError, TransientError
from segmodel.rasters.bands import ModelBands
from segmodel.tiling.windows import Window
from tests.fakes import brightness_labels, contract
from tests.pipelines import web_server
from tests.pipelines.corpus import pixels, read_band, run_all, write, write_scene

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

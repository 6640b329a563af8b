"""What inputs may be read from: VRTs and their kin, and what they name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipelines.rasters.header import Headers
from pipelines.rasters.sources import Reach
from pipelines.run.plan import InputFile
from segmodel.errors import InputError
from tests.pipelines.corpus import pixels, write_scene
from tests.pipelines.scene_runs import run_scenes

PLACE = "<SRS>EPSG:32633</SRS><GeoTransform>500000,10,0,5600000,0,-10</GeoTransform>"


def vrt(name: str, relative: str = "0", tag: str = "SourceFilename", place: str = PLACE) -> str:
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{band}"><SimpleSource>'
        f'<{tag} relativeToVRT="{relative}">{name}</{tag}><SourceBand>{band}</SourceBand>'
        "</SimpleSource></VRTRasterBand>"
        for band in (1, 2, 3)
    )
    return f'<VRTDataset rasterXSize="64" rasterYSize="64">{place}{bands}</VRTDataset>'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Inputs, beside which there is a scene that is none."""
    write_scene(tmp_path / "in" / "good.tif", pixels(64, 64))
    write_scene(tmp_path / "secret.tif", pixels(64, 64))
    return tmp_path / "in"


def read(path: Path, *inputs: str) -> int:
    """Number of bands, if the file may be read."""
    status = path.stat()
    file = InputFile(str(path), "in", path.name, status.st_size, "1")
    reach = Reach.of([str(path.parent), *inputs])
    return len(Headers(reach=reach).read(file).bands)


@pytest.mark.parametrize(
    "text",
    [
        vrt("../secret.tif", "1"),
        vrt("../secret.tif", " 1"),
        vrt("/etc/passwd", tag="sourcefilename"),
        vrt("link.tif", "1"),
        vrt("nested.dat", "1"),
        vrt("http://127.0.0.1:9/a.tif"),
        vrt("/vsicurl/http://127.0.0.1:9/a.tif"),
        vrt("/vsizip//vsicurl/http://127.0.0.1:9/a.zip/a.tif"),
        vrt("/vsis3/bucket/a.tif"),
        vrt("ftp://127.0.0.1/a.tif"),
        vrt("/vsisubfile/0_10,/etc/passwd"),
        vrt("NETCDF:/etc/passwd:ndvi"),
        vrt("GTIFF_DIR:1:/etc/passwd"),
        vrt("WMS:http://127.0.0.1:9/"),
        vrt("vrt:///etc/passwd"),
        vrt("&lt;VRTDataset/&gt;"),
        vrt("good.tif<!-- -->/../../secret.tif", "1"),
        vrt("good.tif", "1").replace("<SRS>", "<SRS><b></SRS>"),
        vrt("good.tif", "1").replace(
            "<SRS>", '<Metadata domain="GEOLOCATION"><MDI key="X_DATASET">/x</MDI></Metadata><SRS>'
        ),
        "<GDAL_WMS><Service name='TMS'><ServerUrl>http://127.0.0.1:9/${z}</ServerUrl></Service>"
        "</GDAL_WMS>",
        "<GDAL_WMTS><GetCapabilitiesUrl>http://127.0.0.1:9/</GetCapabilitiesUrl></GDAL_WMTS>",
        "<GDALTileIndexDataset><IndexDataset>/etc/passwd</IndexDataset></GDALTileIndexDataset>",
        "<MRF_META><Raster><DataFile>/etc/passwd</DataFile></Raster></MRF_META>",
    ],
)
def test_what_names_a_file_or_an_address_elsewhere_is_refused(folder: Path, text: str) -> None:
    os.symlink("../secret.tif", folder / "link.tif")
    (folder / "nested.dat").write_text(vrt("../secret.tif", "1"))
    (folder / "a.vrt").write_text(text)

    with pytest.raises(InputError, match="--trust_inputs") as caught:
        read(folder / "a.vrt")

    assert caught.value.code.value == "not_trusted"
    assert str(folder.parent) not in str(caught.value)


def test_what_other_formats_are_told_to_read_elsewhere_is_refused(folder: Path) -> None:
    scene = folder / "a.tif"
    write_scene(scene, pixels(64, 64))
    scene.with_name("a.tif.aux.xml").write_text(
        '<PAMDataset><Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">'
        f"{folder.parent / 'secret.tif'}</MDI></Metadata></PAMDataset>"
    )

    with pytest.raises(InputError, match=r"secret.tif, which lies below no --input"):
        read(scene)


def test_a_vrt_of_inputs_is_read_also_of_another_folder_that_is_named(folder: Path) -> None:
    (folder / "a.vrt").write_text(vrt("good.tif", "1"))
    (folder / "b.vrt").write_text(vrt("a.vrt", "1"))
    (folder / "c.vrt").write_text(vrt("../secret.tif", "1"))

    assert read(folder / "a.vrt") == read(folder / "b.vrt") == 3
    assert read(folder / "c.vrt", str(folder.parent)) == 3


def test_hosts_that_are_named_may_be_read_from_with_their_port_only() -> None:
    reach = Reach.of(["https://Example.org/a.tif", "https://example.com:8080/b.tif"])

    assert reach.allows("https://example.org/other/b.tif")
    assert reach.allows("https://example.com:8080/c.tif")
    assert not reach.allows("https://example.com/c.tif")
    assert not reach.allows("https://example.org.evil.net/c.tif")
    assert not reach.allows("https://example.org@evil.net/c.tif")


def test_one_hostile_scene_is_a_row_and_is_read_where_inputs_are_trusted(
    folder: Path, model_folder: Path
) -> None:
    (folder / "a.vrt").write_text(vrt("../secret.tif", "1"))
    (folder / "b.vrt").write_text(vrt("http://127.0.0.1:9/a.tif"))
    tiny = PLACE.replace("10,0", "1e-9,0").replace("-10", "-1e-9")
    (folder / "c.vrt").write_text(vrt("good.tif", "1", place=tiny))
    (folder / "d.vrt").write_text(vrt("x" * 5000, "1"))
    os.makedirs(folder / "s")
    os.symlink("..", folder / "s" / "up")
    os.symlink("../s", folder / "s" / "same")

    plain = run_scenes(folder.parent / "run", model_folder, folder)
    trusted = run_scenes(folder.parent / "all", model_folder, folder, trust_inputs=True)

    codes = {name: row["code"] for name, row in plain.failures().items()}
    assert codes == {
        "in/a.vrt": "not_trusted",
        "in/b.vrt": "not_trusted",
        "in/c.vrt": "bad_georeference",
        "in/d.vrt": "cannot_read",
    }
    assert plain.labels("in/good.tif").shape == (64, 64)
    assert "in/a.vrt" not in trusted.failures()
    assert trusted.labels("in/a.vrt.tif").shape == (64, 64)

"""What inputs may be read from: VRTs and their kin, and what they name."""

from __future__ import annotations

import os
import shutil
import socket
import tarfile
from pathlib import Path
from zipfile import ZipFile

import h5py
import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from affine import Affine

from pipelines.rasters.header import Headers
from pipelines.rasters.reach import Reach, check_vectors
from pipelines.rasters.sources import names_in
from pipelines.run.plan import InputFile
from segmodel.errors import FailureCode, InputError
from segmodel.rasters.memory import image_in_memory
from tests.broken_images import shared_tags
from tests.pipelines.corpus import pixels, write_scene
from tests.pipelines.counted_scenes import ANY
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


# Of PDS, which names the file of its pixels.
LABEL = (
    b'PDS_VERSION_ID = PDS3\r\nRECORD_BYTES = 64\r\n^IMAGE = ("../secret.raw", 1)\r\n'
    b"OBJECT = IMAGE\r\n LINES = 64\r\n LINE_SAMPLES = 64\r\n SAMPLE_BITS = 8\r\n BANDS = 1\r\n"
    b"END_OBJECT = IMAGE\r\nEND\r\n"
)


def name_overviews(path: Path, name: str) -> None:
    with rasterio.open(path, "r+") as target:
        target.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=name)


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
        vrt("good.tif", "1").replace(
            "<SRS>", '<Metadata domain="RPC"><MDI k="RPC_DEM">/x</MDI></Metadata><SRS>'
        ),
        vrt("good.tif", "1").replace(
            "<SimpleSource>", '<SimpleSource SourceFilename="/etc/passwd">'
        ),
        vrt("/etc/passwd").replace("<SourceFilename", '<SourceFilename xmlns="urn:x"'),
        '<?xml version="1.0" encoding="latin-1"?>' + vrt("é/good.tif", "1"),
        '<!DOCTYPE VRTDataset [<!ENTITY up "a/b/c">]>' + vrt("&up;/../../secret.tif", "1"),
        vrt("label.lbl", "1"),
        vrt("overview.tif", "1"),
        "<GDAL_WMS><Service name='TMS'><ServerUrl>http://127.0.0.1:9/${z}</ServerUrl></Service>"
        "</GDAL_WMS>",
        "<GDAL_WMTS><GetCapabilitiesUrl>http://127.0.0.1:9/</GetCapabilitiesUrl></GDAL_WMTS>",
        "<GDALTileIndexDataset><IndexDataset>/etc/passwd</IndexDataset></GDALTileIndexDataset>",
        "<MRF_META><Raster><DataFile>/etc/passwd</DataFile></Raster></MRF_META>",
        '{"type": "FeatureCollection", "stac_version": "1.0.0", "features": []}',
    ],
)
def test_what_names_a_file_or_an_address_elsewhere_is_refused(folder: Path, text: str) -> None:
    os.symlink("../secret.tif", folder / "link.tif")
    os.symlink("..", folder / "é")
    (folder / "label.lbl").write_bytes(LABEL)
    (folder.parent / "secret.raw").write_bytes(bytes(64 * 64))
    write_scene(folder / "overview.tif", pixels(64, 64))
    name_overviews(folder / "overview.tif", str(folder.parent / "secret.tif"))
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


@pytest.mark.parametrize("suffix", [".msk", ".ovr"])
def test_what_lies_beside_a_raster_is_looked_at_as_well(folder: Path, suffix: str) -> None:
    scene = folder / "a.tif"
    write_scene(scene, pixels(64, 64))
    scene.with_name(f"a.tif{suffix}").write_text(vrt("../secret.tif", "1"))

    with pytest.raises(InputError, match=r"secret.tif, which lies below no --input"):
        read(scene)


def test_no_server_is_asked_for_what_a_file_names(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        host = f"http://127.0.0.1:{server.getsockname()[1]}"
        write_scene(folder / "a.tif", pixels(64, 64))
        name_overviews(folder / "a.tif", f"/vsicurl/{host}/a.tif")
        (folder / "b.lbl").write_bytes(
            LABEL.replace(b"../secret.raw", b"/vsicurl/" + host.encode())
        )
        (folder / "c.json").write_text(
            '{"type": "FeatureCollection", "stac_version": "1.0.0", "features": [{"type": '
            f'"Feature", "assets": {{"a": {{"href": "{host}/b.tif"}}}}}}]}}'
        )

        codes = [_code(folder / name) for name in ("a.tif", "b.lbl", "c.json")]

        assert codes == ["not_trusted", "cannot_open", "not_trusted"]
        with pytest.raises(BlockingIOError):
            server.accept()


def _code(path: Path, *inputs: str) -> str:
    with pytest.raises(InputError) as caught:
        read(path, *inputs)
    return caught.value.code.value


def test_an_encoded_image_that_names_overviews_elsewhere_is_refused(folder: Path) -> None:
    name_overviews(folder.parent / "secret.tif", "/etc/hostname")
    content = (folder.parent / "secret.tif").read_bytes()

    with (
        image_in_memory(content) as handle,
        pytest.raises(InputError, match="metadata names a file") as caught,
    ):
        handle.header()

    assert caught.value.code.value == "not_trusted"


@pytest.mark.parametrize("suffix", ["h5", "nc"])
@pytest.mark.parametrize("kind", ["link", "raw", "virtual"])
@pytest.mark.parametrize("place", ["..", "."])
def test_hdf5_is_read_if_what_it_links_to_lies_where_inputs_do(
    folder: Path, kind: str, suffix: str, place: str
) -> None:
    other, raw = folder / place / "other.h5", folder / place / "other.raw"
    raw.write_bytes(bytes(64 * 64))
    with h5py.File(other, "w") as file:
        file["d"] = np.zeros((64, 64), np.uint8)
    with h5py.File(folder / f"a.{suffix}", "w") as file:
        if kind == "link":
            # GDAL's driver of HDF5 finds no raster behind a link, that of NetCDF does.
            if suffix == "h5":
                file["own"] = np.zeros((64, 64), np.uint8)
            file["group/d"] = h5py.ExternalLink(f"{place}/other.h5", "/d")
        elif kind == "raw":
            whole = [(str(raw), 0, h5py.h5f.UNLIMITED)]
            file.create_dataset("group/d", (64, 64), "u1", external=whole)
        else:
            layout = h5py.VirtualLayout((64, 64), "u1")
            layout[:] = h5py.VirtualSource(str(other), "d", (64, 64))
            file.create_virtual_dataset("group/d", layout)

    if place == ".":
        assert read(folder / f"a.{suffix}") == 1
    else:
        assert _code(folder / f"a.{suffix}") == "not_trusted"


def test_a_vrt_in_an_archive_is_read_if_its_text_can_be(folder: Path) -> None:
    shutil.copy(folder / "good.tif", folder.parent)
    (folder.parent / "a.vrt").write_text(vrt("good.tif", "1"))
    (folder.parent / "b.vrt").write_text(vrt("a.vrt", "1"))
    (folder.parent / "c.vrt").write_text(vrt("/etc/passwd"))
    (folder.parent / "d.vrt").write_text(vrt("c.vrt", "1"))
    names = ("good.tif", "a.vrt", "b.vrt", "c.vrt", "d.vrt")
    with ZipFile(folder / "z.zip", "w") as whole, tarfile.open(folder / "t.tar", "w") as tape:
        for name in names:
            whole.write(folder.parent / name, name)
            tape.add(folder.parent / name, name)

    assert [read_in(folder / "z.zip", name) for name in names[:3]] == [3, 3, 3]
    assert [read_in(folder / "z.zip", name) for name in names[3:]] == ["not_trusted"] * 2
    assert [read_in(folder / "t.tar", name) for name in names] == [3, *["not_trusted"] * 4]


def read_in(archive: Path, name: str) -> int | str:
    """Number of bands of a raster in an archive, or the code of its failure."""
    uri = f"/vsi{archive.suffix[1:]}/{archive}/{name}"
    file = InputFile(uri, "in", name, 1, "1")
    try:
        return len(Headers(reach=Reach.of([str(archive.parent)])).read(file).bands)
    except InputError as error:
        return error.code.value


def write_index(path: Path, tile: str, **metadata: str) -> Path:
    pyogrio.raw.write(
        str(path),
        np.array([shapely.to_wkb(shapely.box(500000, 5599360, 500640, 5600000))]),
        [np.array([tile], object)],
        ["location"],
        geometry_type="Polygon",
        crs="EPSG:32633",
        layer_metadata=metadata or None,
    )
    return path


def test_an_index_of_tiles_is_read_if_they_lie_where_inputs_do(folder: Path) -> None:
    grid = ("EPSG:32633", Affine(10, 0, 500000, 0, -10, 5600000))
    write_scene(folder / "tile.tif", pixels(64, 64), grid)
    write_scene(folder.parent / "secret.tif", pixels(64, 64), grid)
    inside = write_index(folder / "a.gti.gpkg", "tile.tif")
    outside = write_index(folder / "b.gti.gpkg", "../secret.tif")
    overview = write_index(folder / "c.gti.gpkg", "tile.tif", OVERVIEW_1_DATASET="../secret.tif")
    nested = write_index(folder / "d.gti.gpkg", "nested.vrt")
    (folder / "nested.vrt").write_text(vrt("../secret.tif", "1"))

    assert read(inside) == 3
    assert read(outside, str(folder.parent)) == 3
    assert [*map(_code, (outside, overview, nested))] == ["not_trusted"] * 3


def test_an_index_may_have_marks_of_addresses_in_its_name(folder: Path) -> None:
    write_index(folder / "plain.gpkg", "../secret.tif")
    (folder / "plain.gpkg").rename(folder / "a!b;c.gti.gpkg")

    assert [*names_in(str(folder / "a!b;c.gti.gpkg"))] == [f"{folder}/../secret.tif"]


def test_vector_files_name_only_what_lies_beside_them(folder: Path) -> None:
    layer = "<OGRVRTDataSource><OGRVRTLayer name='c'>{}</OGRVRTLayer></OGRVRTDataSource>"
    beside = layer.format('<SrcDataSource relativeToVRT="1">c.csv</SrcDataSource>')
    (folder / "good.vrt").write_text(beside)
    (folder / "up.vrt").write_text(beside.replace("c.csv", "../c.csv"))
    (folder / "sql.vrt").write_text(
        beside.replace(
            "</OGRVRTLayer>",
            "<SrcSQL>SELECT * FROM c JOIN '/x.csv'.x ON c.a = x.a</SrcSQL></OGRVRTLayer>",
        )
    )
    (folder / "wfs.xml").write_text(
        "<OGRWFSDataSource><URL>http://127.0.0.1:9</URL></OGRWFSDataSource>"
    )
    (folder / "a.gdalg.json").write_text('{"type": "gdal_streamed_alg", "command_line": "x"}')

    check_vectors(str(folder / "good.vrt"), "--aoi")
    for name in ("up.vrt", "sql.vrt", "wfs.xml", "a.gdalg.json"):
        with pytest.raises(InputError, match=f"--aoi {name}: .*--trust_inputs"):
            check_vectors(str(folder / name), "--aoi")


def test_a_vrt_of_inputs_is_read_also_of_another_folder_that_is_named(folder: Path) -> None:
    (folder / "a.vrt").write_text(vrt("good.tif", "1"))
    (folder / "b.vrt").write_text(vrt("a.vrt", "1"))
    (folder / "c.vrt").write_text(vrt("../secret.tif", "1"))

    assert read(folder / "a.vrt") == read(folder / "b.vrt") == 3
    assert read(folder / "c.vrt", str(folder.parent)) == 3


def test_a_linked_folder_of_inputs_is_read_with_what_lies_beside_its_rasters(folder: Path) -> None:
    far = folder.parent / "far"
    write_scene(far / "a.tif", pixels(64, 64))
    (far / "a.tif.aux.xml").write_text("<PAMDataset></PAMDataset>")
    (far / "b.vrt").write_text(vrt("a.tif", "1"))
    (far / "c.vrt").write_text(vrt("../secret.tif", "1"))
    os.symlink("../far", folder / "near")

    def bands(name: str) -> int:
        file = InputFile(str(folder / "near" / name), "in", name, 1, "1")
        return len(Headers(reach=Reach.of([str(folder)])).read(file).bands)

    assert bands("a.tif") == bands("b.vrt") == 3
    with pytest.raises(InputError, match=r"secret.tif, which lies below no --input"):
        bands("c.vrt")


def test_hosts_that_are_named_may_be_read_from_with_their_port_only() -> None:
    reach = Reach.of(["https://Example.org/a.tif", "https://example.com:8080/b.tif"])

    assert reach.allows("https://example.org/other/b.tif")
    assert reach.allows("https://example.com:8080/c.tif")
    assert not reach.allows("https://example.com/c.tif")
    assert not reach.allows("https://example.org.evil.net/c.tif")
    assert not reach.allows("https://example.org@evil.net/c.tif")


def test_credentials_in_a_trusted_vrt_stand_in_no_table(folder: Path, model_folder: Path) -> None:
    signed = "me:hidden@127.0.0.1:9/a.zip?sig=hidden"
    names = (f"http://{signed}", f"/vsizip//vsicurl/http://{signed}", f"/vsicurl?url={signed}")
    for number, name in enumerate(names):
        (folder / f"{number}.vrt").write_text(vrt(name))

    run = run_scenes(
        folder.parent / "run", model_folder, folder, trust_inputs=True, max_failures=ANY
    )

    assert len(run.failures()) == 3
    told = [
        path for path in run.root.rglob("*") if path.is_file() and b"hidden" in path.read_bytes()
    ]
    assert told == []


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
        "in/d.vrt": "incomplete",
    }
    assert plain.labels("in/good.tif").shape == (64, 64)
    assert "in/a.vrt" not in trusted.failures()
    assert trusted.labels("in/a.vrt.tif").shape == (64, 64)


def test_a_vrt_of_a_tiff_that_is_refused_is_refused_too(folder):
    (folder / "hostile.tif").write_bytes(shared_tags())
    (folder / "a.vrt").write_text(vrt("hostile.tif", "1"))
    with pytest.raises(InputError, match=r"from hostile\.tif: tags of the TIFF share") as caught:
        Headers(reach=Reach.of([str(folder)])).read(
            InputFile(str(folder / "a.vrt"), "in", "a.vrt", 1, "")
        )
    assert caught.value.code == FailureCode.UNSUPPORTED

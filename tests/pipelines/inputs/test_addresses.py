"""Rasters within files: subdatasets, members of archives, and files with one raster."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest
import rasterio
import rasterio.shutil
from rasterio.transform import from_origin

from pipelines.inputs.addresses import find_address
from pipelines.inputs.find import list_inputs
from pipelines.rasters import gdal
from pipelines.rasters.gdal import OPENER
from pipelines.rasters.header import Headers, read_header
from pipelines.rasters.reach import Reach
from pipelines.scenes.format import SceneFormat, may_be_scene
from pipelines.storage import copies
from segmodel.errors import ConfigurationError, InputError
from tests.fakes import brightness_labels
from tests.pipelines.corpus import files_in, pixels, write_scene
from tests.pipelines.scene_runs import run_scenes

PLACE = from_origin(500000, 5000000, 10, 10)
SHAPE = (20, 30)


def write_netcdf(path: Path, names: Sequence[str]) -> Path:
    """Variables with coordinates, and the bounds of those, as the CF conventions have them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        axes = {}
        for axis, values in (
            ("y", 4999995 - 10.0 * np.arange(20)),
            ("x", 500005 + 10.0 * np.arange(30)),
            ("nv", np.arange(2)),
        ):
            axes[axis] = file.create_dataset(axis, data=values)
            if axis != "nv":
                axes[axis].attrs["standard_name"] = np.bytes_(f"projection_{axis}_coordinate")
            axes[axis].make_scale(axis)
        shapes = {"x_bnds": ("x", "nv"), **dict.fromkeys(names, ("y", "x"))}
        for number, (name, of) in enumerate(shapes.items()):
            shape = tuple(len(axes[axis]) for axis in of)
            made = file.create_dataset(name, data=np.full(shape, 100 + number, np.uint8))
            for place, axis in enumerate(of):
                made.dims[place].attach_scale(axes[axis])
    return path


def test_a_file_with_one_raster_is_that_one(tmp_path):
    header = read_header(str(write_netcdf(tmp_path / "a.nc", ["ndvi"])))
    assert (header.grid.height, header.grid.width, header.grid.transform) == (*SHAPE, PLACE)


def test_netcdf_in_a_store_is_read_from_a_copy(tmp_path, monkeypatch, client):
    path = write_netcdf(tmp_path / "a.nc", ["ndvi"])
    client.put_all(tmp_path, "gs://b")
    downloads, download = [], copies._download
    monkeypatch.setattr(copies, "_download", lambda *a: downloads.append(a[0]) or download(*a))
    there = read_header("gs://b/a.nc", reach=Reach.of(["gs://b/a.nc"]))
    assert there.grid == read_header(str(path)).grid
    with OPENER.env("gs://b/a.nc"), OPENER.open("gs://b/a.nc") as source:
        assert (source.read(1) == 101).all()
    assert downloads == ["gs://b/a.nc"]
    monkeypatch.setattr(gdal, "MAX_COPIED_BYTES", path.stat().st_size - 1)
    with pytest.raises(InputError, match="copy it to a local folder"):
        read_header("gs://b/a.nc")


def test_of_several_rasters_each_has_an_address(tmp_path):
    path = write_netcdf(tmp_path / "a.nc", ["ndvi", "qa"])
    with pytest.raises(InputError, match=r"3 subdatasets \(ndvi, qa, x_bnds\).*NETCDF:a.nc:ndvi"):
        read_header(str(path))
    header = read_header(f'NETCDF:"{path}":qa')
    assert (header.grid.height, header.grid.width) == SHAPE
    assert header.others == (str(path),)


def test_label_maps_of_addresses_have_names_of_their_own(tmp_path, model_folder):
    path = write_netcdf(tmp_path / "in" / "a.nc", ["one", "two"])
    write_scene(tmp_path / "b.tif", pixels(40, 50))
    with zipfile.ZipFile(tmp_path / "in" / "c.zip", "w") as archive:
        archive.write(tmp_path / "b.tif", "deep/b.tif")
    three = [
        f"NETCDF:{path}:one",
        f'NETCDF:"{path}":two',
        f"/vsizip/{tmp_path}/in/c.zip/deep/b.tif",
    ]
    vrt = tmp_path / "in" / "of.vrt"
    vrt.write_text(
        '<VRTDataset rasterXSize="30" rasterYSize="20">'
        + "".join(
            f'<VRTRasterBand dataType="Byte" band="{band}"><SimpleSource><SourceFilename>'
            f"{three[0]}</SourceFilename></SimpleSource></VRTRasterBand>"
            for band in (1, 2, 3)
        )
        + "</VRTDataset>"
    )
    assert [file.key for file in files_in(*three)] == [
        "in/a.nc~one.nc",
        "in/a.nc~two.nc",
        "in/c.zip/deep/b.tif",
    ]
    run = run_scenes(tmp_path / "run", model_folder, three[2], vrt)
    with rasterio.open(run.root / "labels" / "in" / "c.zip" / "deep" / "b.tif") as source:
        np.testing.assert_array_equal(source.read(1), brightness_labels(pixels(40, 50)))


def test_a_zipped_tile_of_heights_is_a_scene(tmp_path):
    heights = np.zeros((1201, 1201), ">i2")
    with zipfile.ZipFile(tmp_path / "N47E011.hgt.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("N47E011.hgt", heights.tobytes())
    (file,) = files_in(tmp_path)
    assert may_be_scene(file)
    assert SceneFormat().claim(file, Headers()) == file


def test_the_version_of_an_address_is_that_of_its_file(tmp_path):
    path = write_netcdf(tmp_path / "a.nc", ["one", "two"])
    (before,) = files_in(f"NETCDF:{path}:one")
    os.utime(path, (1, 1))
    (after,) = files_in(f"NETCDF:{path}:one")
    assert (before.uri, before.size) == (after.uri, path.stat().st_size)
    assert before.version != after.version


@pytest.mark.parametrize(
    "pattern", ["in/a.zarr", "in/a.zarr/", "in", "in/*.zarr", "in/**", "**/*.zarr"]
)
def test_a_zarr_folder_is_one_scene_however_it_is_found(tmp_path, monkeypatch, pattern):
    (tmp_path / "in").mkdir()
    write_scene(tmp_path / "a.tif", pixels(20, 30)[..., :1])
    rasterio.shutil.copy(tmp_path / "a.tif", tmp_path / "in" / "a.zarr", driver="Zarr")
    monkeypatch.chdir(tmp_path)
    (file,) = files_in(pattern)
    assert (file.uri, Path(file.name).name) == ('ZARR:"in/a.zarr"', "a.zarr")
    assert read_header(file.uri).grid.width == 30
    assert files_in(pattern, "in/a.zarr")[0].version == file.version
    chunk = next(path for path in (tmp_path / "in" / "a.zarr").rglob("*") if path.name == "0.0")
    os.utime(chunk, (1, 1))
    assert files_in(pattern)[0].version != file.version
    (named,) = files_in('ZARR:"in/a.zarr":/a')
    assert (named.key, named.size) == ("in/a.zarr~a.zarr", file.size)


def test_a_zarr_folder_can_be_left_out_by_its_path(tmp_path):
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / "zarr.json").touch()
    (tmp_path / "b.tif").touch()
    found = list_inputs([str(tmp_path)], "no-run", exclude=[f"{tmp_path}/a.zarr"])
    assert [file.name for file in found] == ["b.tif"]


def test_an_address_of_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match=r"there is no .*none\.nc"):
        files_in(f"NETCDF:{tmp_path}/none.nc:ndvi")
    assert find_address(str(tmp_path)) is None


@pytest.mark.parametrize("variable", ["/a/b", "../../x", "a b", "ä:ö"])
def test_names_of_addresses_stay_in_their_folder_and_differ(variable):
    found = find_address(f'HDF5:"in/a.h5":{variable}')
    assert found is not None
    assert found.file == "in/a.h5"
    assert "/" not in found.name
    assert found.name.startswith("a.h5~")

"""What cannot be read or does not fit is a failure with its reason, or named before any work."""

from __future__ import annotations

from dataclasses import replace

import h5py
import numpy as np
import pyogrio
import pytest
import rasterio.shutil
import shapely

from pipelines.cli.values import FailureBudget
from pipelines.scenes.files import label_name
from pipelines.scenes.format import SceneFormat
from pipelines.segment.graph import print_run_result
from pipelines.segment.launch import check_run
from pipelines.segment.options import SegmentOptions
from pipelines.segment.plan_report import report
from segmodel.errors import ConfigurationError, ContractError, TransientError
from tests.fakes import brightness_labels
from tests.pipelines.corpus import (
    files_in,
    pixels,
    png,
    record,
    write,
    write_model_folder,
    write_scene,
    write_shard,
)
from tests.pipelines.scene_runs import run_scenes

VALUES = pixels(24, 24)


@pytest.mark.parametrize("name", ["a.nc", "a.gpkg", "a.asc", "a.bmp", "a.gif", "a.jp2", "a.tif"])
def test_a_raster_that_cannot_be_opened_is_a_failure_with_its_reason(tmp_path, model_folder, name):
    write_scene(tmp_path / "in" / "good.tif", VALUES)
    write(tmp_path / "in" / name, b"II*\0 no raster")

    run = run_scenes(tmp_path / "run", model_folder, tmp_path / "in")

    assert run.status == 3
    row = run.failures()[f"in/{name}"]
    assert (row["stage"], row["code"]) == ("open", "cannot_open")
    assert run.summary["left_aside"] == []
    assert str(tmp_path) not in row["reason"]


@pytest.mark.parametrize("name", ["a.nc", "a.gpkg", "a.jp2", "a.tif", "a.txt"])
def test_what_is_named_itself_and_cannot_be_read_is_an_error(tmp_path, model_folder, name):
    write_scene(tmp_path / "good.tif", VALUES)
    path = write(tmp_path / name, b"II*\0 no raster")
    options = SegmentOptions(
        (str(tmp_path / "good.tif"), str(path)), str(model_folder), str(tmp_path / "run")
    )
    with pytest.raises(ConfigurationError, match=rf"^--input .*{name}"):
        check_run(options)
    assert not (tmp_path / "run").exists()


def write_two_grids(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name in ("ndvi", "evi"):
            file[name] = np.ones((8, 8), np.float32)


def test_the_address_of_a_subdataset_can_be_pasted_from_the_screen(
    tmp_path, model_folder, monkeypatch, capsys
):
    write_scene(tmp_path / "data" / "in" / "good.tif", VALUES)
    write_two_grids(tmp_path / "data" / "in" / "two.h5")
    monkeypatch.chdir(tmp_path)

    run = run_scenes(tmp_path / "run", model_folder, "data/in")
    print_run_result(run.work.run, SegmentOptions(("data/in",), str(model_folder), run.root))

    row = run.failures()["in/two.h5"]
    assert row["code"] == "subdatasets"
    assert "2 subdatasets (evi, ndvi)" in row["reason"].replace("//", "")
    assert row["reason"].endswith("such as --input 'HDF5:in/two.h5://evi'")
    shown = capsys.readouterr().err
    assert "such as --input 'HDF5:data/in/two.h5://evi'\n" in shown


@pytest.mark.parametrize("pattern", ["data/in/two.h5", "{}/data/in/two.h5"])
def test_the_address_in_a_file_that_is_named_has_its_path_as_given(
    tmp_path, model_folder, monkeypatch, pattern
):
    write_two_grids(tmp_path / "data" / "in" / "two.h5")
    monkeypatch.chdir(tmp_path)
    given = pattern.format(tmp_path)
    options = SegmentOptions((given,), str(model_folder), str(tmp_path / "run"))
    with pytest.raises(ConfigurationError) as caught:
        check_run(options)
    assert str(caught.value).endswith(f"such as --input 'HDF5:{given}://evi'")


def test_vectors_and_signatures_beside_scenes_are_left_aside_and_listed(tmp_path, model_folder):
    write_scene(tmp_path / "in" / "good.tif", VALUES)
    point = np.array([shapely.to_wkb(shapely.Point(0, 0))], dtype=object)
    pyogrio.raw.write(
        tmp_path / "in" / "zones.gpkg",
        point,
        field_data=[np.array(["a"])],
        fields=["name"],
        geometry_type="Point",
        crs="EPSG:4326",
    )
    write(tmp_path / "in" / "good.tif.asc", b"-----BEGIN PGP SIGNATURE-----\n")
    write(tmp_path / "in" / "notes.TXT", b"mine")

    run = run_scenes(tmp_path / "run", model_folder, tmp_path / "in")

    assert (run.status, run.failures()) == (0, {})
    assert run.summary["left_aside"] == [
        {"suffix": ".asc", "files": 1, "examples": ["in/good.tif.asc"]},
        {"suffix": ".gpkg", "files": 1, "examples": ["in/zones.gpkg"]},
        {"suffix": ".txt", "files": 1, "examples": ["in/notes.TXT"]},
    ]


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.vrt", "a.tfrecord"])
def test_a_link_that_leads_nowhere_is_a_failure(tmp_path, model_folder, name):
    write_scene(tmp_path / "in" / "good.tif", VALUES)
    (tmp_path / "in" / name).symlink_to(tmp_path / "nowhere")
    run = run_scenes(tmp_path / "run", model_folder, tmp_path / "in")
    assert (run.status, list(run.failures())) == (3, [f"in/{name}"])
    asked = (str(tmp_path / "in" / name),)
    with pytest.raises(ConfigurationError, match="matches no file"):
        check_run(SegmentOptions(asked, str(model_folder), str(tmp_path / "other")))


@pytest.mark.parametrize("name", ["a.tif", "a.grb2", "a.ter"])
def test_what_a_busy_store_does_not_give_is_no_foreign_file(tmp_path, name):
    (file,) = files_in(write(tmp_path / name, b"II*\0"))

    class Busy:
        def read(self, file):
            raise TransientError("busy")

        def find(self, file):
            return None

    assert SceneFormat().claim(file, Busy()) is file


def test_browse_images_among_scenes_of_another_kind_are_failures(tmp_path):
    model = write_model_folder(tmp_path / "model", dtype="uint16", value_range=(0.0, 10_000.0))
    write_scene(tmp_path / "in" / "good.tif", VALUES.astype(np.uint16))
    write(tmp_path / "in" / "browse.png", png(VALUES))
    write_shard(tmp_path / "in" / "s.tfrecord", [record(VALUES)])

    run = run_scenes(tmp_path / "run", model, tmp_path / "in", max_failures=FailureBudget(2, None))

    assert (run.status, run.pixels["failed"], run.summary["images"]) == (0, 0, 1)
    rows = run.failures()
    assert {name: row["code"] for name, row in rows.items()} == {
        "in/browse.png": "wrong_dtype",
        "in/s.tfrecord": "wrong_dtype",
    }
    assert "--exclude" in rows["in/browse.png"]["reason"]


def test_a_model_that_fits_no_input_is_refused_at_once(tmp_path):
    model = write_model_folder(tmp_path / "model", dtype="uint16", value_range=(0.0, 10_000.0))
    write_scene(tmp_path / "in" / "a.tif", VALUES.astype(np.float64) + 0.5)
    write(tmp_path / "in" / "b.png", png(VALUES))
    with pytest.raises(ContractError, match="dtype"):
        check_run(SegmentOptions((str(tmp_path / "in"),), str(model), str(tmp_path / "run")))


@pytest.mark.parametrize(
    ("patterns", "left"),
    [
        (("*.png",), {"in/a.tif", "in/quicklook/b.tif"}),
        (("quicklook",), {"in/a.tif", "in/a.png"}),
        (("**/quicklook/*",), {"in/a.tif", "in/a.png"}),
        (("quicklook/*.tif", "a.tif"), {"in/a.png", "in/quicklook/b.png"}),
        (("ROOT/in/quicklook",), {"in/a.tif", "in/a.png"}),
        (("ROOT/**/*.tif",), {"in/a.png", "in/quicklook/b.png"}),
    ],
)
def test_excluded_files_are_no_inputs(tmp_path, model_folder, patterns, left):
    for name in ("a", "quicklook/b"):
        write(tmp_path / "in" / f"{name}.png", png(VALUES))
        write_scene(tmp_path / "in" / f"{name}.tif", VALUES)
    options = SegmentOptions(
        (str(tmp_path / "in"),),
        str(model_folder),
        str(tmp_path / "run"),
        exclude=tuple(pattern.replace("ROOT", str(tmp_path)) for pattern in patterns),
    )
    inputs = check_run(options).inputs
    assert {file.key for file in inputs.every} == left


def test_a_pattern_whose_files_are_all_excluded_is_an_error(tmp_path, model_folder):
    write(tmp_path / "in" / "a.png", png(VALUES))
    options = SegmentOptions((str(tmp_path / "in"),), str(model_folder), str(tmp_path / "run"))
    with pytest.raises(ConfigurationError, match="only files that --exclude leaves out"):
        check_run(replace(options, exclude=("*.png",)))


def test_each_pattern_must_find_something_to_read(tmp_path, model_folder):
    write(tmp_path / "a" / "a.png", png(VALUES))
    write(tmp_path / "b" / "notes.txt", b"mine")
    inputs = (str(tmp_path / "a"), str(tmp_path / "b"))
    options = SegmentOptions(inputs, str(model_folder), str(tmp_path / "run"))
    with pytest.raises(ConfigurationError, match=r"b matches 1 file, none of a format"):
        check_run(options)
    write_scene(tmp_path / "b" / "b.tif", VALUES)
    assert "1 file is left aside: 1 .txt (b/notes.txt)" in "\n".join(report(options))


@pytest.mark.parametrize(("driver", "name"), [("PDS4", "a.xml"), ("ENVI", "a.img")])
def test_the_data_file_of_a_raster_is_not_a_scene_of_its_own(tmp_path, model_folder, driver, name):
    write_scene(tmp_path / "a.tif", VALUES)
    (tmp_path / "in").mkdir()
    rasterio.shutil.copy(tmp_path / "a.tif", tmp_path / "in" / name, driver=driver)
    assert (tmp_path / "in" / "a.img").exists()

    run = run_scenes(tmp_path / "run", model_folder, tmp_path / "in")

    assert (run.status, run.summary["images"], run.failures()) == (0, 1, {})
    labels = run.labels(f"in/{label_name(name)}")
    np.testing.assert_array_equal(labels, brightness_labels(VALUES))


def test_a_data_file_without_its_header_is_a_failure(tmp_path, model_folder):
    write_scene(tmp_path / "a.tif", VALUES)
    (tmp_path / "in").mkdir()
    for name in ("a.xml", "b.xml"):
        rasterio.shutil.copy(tmp_path / "a.tif", tmp_path / "in" / name, driver="PDS4")
    (tmp_path / "in" / "b.xml").unlink()
    run = run_scenes(tmp_path / "run", model_folder, tmp_path / "in")
    assert [(name, row["code"]) for name, row in run.failures().items()] == [
        ("in/b.img", "cannot_open")
    ]

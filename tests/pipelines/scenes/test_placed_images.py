"""JPEG, PNG and WebP files with a world file or a geotransform beside them are scenes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.crs import CRS
from rasterio.transform import from_origin

from pipelines.inputs.find import list_inputs
from pipelines.inputs.sidecars import Sidecars
from pipelines.rasters.header import Headers
from pipelines.segment.inputs import sorted_inputs
from pipelines.segment.options import SegmentOptions
from segmodel.errors import ConfigurationError
from tests.fakes import BrightnessModel, brightness_labels
from tests.pipelines.corpus import (
    failure_rows_in,
    pixels,
    without_seals,
    write_model_folder,
    write_scene,
)
from tests.pipelines.scene_runs import run_scenes

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

UTM33 = "EPSG:32633"
PLACE = from_origin(500000, 5000000, 10, 10)
WORLD = "10\n0\n0\n-10\n500005\n4999995\n"
GEOTRANSFORM = "<GeoTransform>500000, 10, 0, 5000000, 0, -10</GeoTransform>"
STATISTICS = '<Metadata><MDI key="STATISTICS_MEAN">9</MDI></Metadata>'


def write_image(path: Path, exif: Image.Exif | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(40, 50)).save(path, exif=exif or Image.Exif())
    return path


def write_auxiliary(image: Path, *parts: str) -> None:
    Path(f"{image}.aux.xml").write_text(f"<PAMDataset>{''.join(parts)}</PAMDataset>")


def formats_of(*patterns: Path | str, sidecars: bool = True) -> dict[str, str]:
    """Format by file name; files of none are left out."""
    beside = Sidecars()
    found = list_inputs([str(pattern) for pattern in patterns], "no-run", sidecars=beside)
    inputs = sorted_inputs(found, Headers(), beside if sidecars else None)
    return {file.name: entry.name for entry, files in inputs.files for file in files}


def read_labels(run: Path, name: str) -> tuple[np.ndarray, rasterio.Affine, CRS | None]:
    with rasterio.open(run / "labels" / "in" / name) as source:
        return source.read(1), source.transform, source.crs


@pytest.mark.parametrize(
    ("image", "world"),
    [
        ("a.jpg", "a.jgw"),
        ("a.jpg", "a.jpgw"),
        ("a.JPG", "a.JGW"),
        ("a.jpeg", "a.wld"),
        ("a.png", "a.pgw"),
        ("a.png", "a.WLD"),
        ("a.webp", "a.wld"),
        ("a.webp", "a.webpw"),
    ],
)
def test_an_image_with_a_world_file_is_a_scene_at_its_place(tmp_path, image, world):
    path = write_image(tmp_path / image)
    assert formats_of(tmp_path) == {image: "images"}
    (tmp_path / world).write_text(WORLD)
    assert formats_of(path) == {image: "scene"}
    (file,) = list_inputs([str(path)], "no-run")
    header = Headers("EPSG:32633").read(file)
    assert (header.grid.transform, header.grid.crs) == (PLACE, CRS.from_epsg(32633))
    assert str(tmp_path / world) in header.others


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ((GEOTRANSFORM,), "scene"),
        ((STATISTICS,), "images"),
        ((f"<SRS>{UTM33}</SRS>",), "images"),
        ((f"<SRS>{UTM33}</SRS>", GEOTRANSFORM, STATISTICS), "scene"),
    ],
)
def test_an_auxiliary_file_makes_a_scene_if_it_has_a_geotransform(tmp_path, parts, expected):
    path = write_image(tmp_path / "a.jpg")
    write_auxiliary(path, *parts)
    assert formats_of(path) == {"a.jpg": expected}


def test_its_label_map_has_its_place_and_a_changed_world_file_changes_it(tmp_path, model_folder):
    path = write_image(tmp_path / "in" / "a.png")
    write_auxiliary(path, f"<SRS>{UTM33}</SRS>", GEOTRANSFORM)
    write_image(tmp_path / "in" / "b.png")
    run = run_scenes(tmp_path / "run", model_folder, tmp_path / "in")
    labels, transform, crs = read_labels(run.root, "a.png.tif")
    assert (labels.shape, transform, crs) == ((40, 50), PLACE, CRS.from_epsg(32633))
    assert (run.root / "labels" / "in" / "b.png.png").is_file()
    write_auxiliary(path, f"<SRS>{UTM33}</SRS>", GEOTRANSFORM.replace("500000", "600000"))
    run_scenes(tmp_path / "run", model_folder, tmp_path / "in")
    assert read_labels(run.root, "a.png.tif")[1].c == 600000


def test_a_run_that_an_earlier_release_began_keeps_them_as_images(tmp_path, model_folder):
    write_image(tmp_path / "in" / "a.png")
    run = run_scenes(tmp_path / "run", model_folder, tmp_path / "in")
    without_seals(run.root, "sidecars")
    before = (run.root / "labels" / "in" / "a.png.png").stat().st_mtime_ns
    (tmp_path / "in" / "a.wld").write_text(WORLD)
    run = run_scenes(tmp_path / "run", model_folder, tmp_path / "in")
    assert "sidecars" not in json.loads((run.root / "run.json").read_bytes())
    assert (run.root / "labels" / "in" / "a.png.png").stat().st_mtime_ns == before
    assert not (run.root / "labels" / "in" / "a.png.tif").exists()


@pytest.mark.parametrize("pattern", ["gs://b/in", "gs://b/in/*.jpg", "gs://b/in/a.jpg"])
def test_listings_of_a_store_show_what_is_beside_an_image(tmp_path, client, pattern):
    write_image(tmp_path / "a.jpg")
    (tmp_path / "a.jgw").write_text(WORLD)
    client.put_all(tmp_path, "gs://b/in")
    assert formats_of(pattern) == {"a.jpg": "scene"}


def test_a_world_file_of_a_tiff_in_a_store_counts_as_on_disk(tmp_path, client):
    path = write_scene(tmp_path / "a.tif", pixels(40, 50), place=(None, None))
    assert formats_of(path) == {"a.tif": "images"}
    (tmp_path / "a.tfw").write_text(WORLD)
    client.put_all(tmp_path, "gs://b")
    assert formats_of(path) == formats_of("gs://b/a.tif") == {"a.tif": "scene"}


@pytest.mark.parametrize(
    ("image", "beside", "content", "reason"),
    [
        ("a.png", "a.pgw", b"", "a world file is six lines with a number each"),
        ("a.jpg", "a.JGW", b"10\n0\n0\n-10\n500005\n", "a world file is six lines"),
        ("a.jpg", "a.wld", b"10\n0\n0\nten\n0\n0\n", "could not convert string to float: 'ten'"),
        ("a.webp", "a.wld", b"nan\n0\n0\n-10\n0\n0\n", "a world file is six lines"),
        ("a.tif", "a.tfw", b"0\n0\n0\n0\n0\n0\n", "a world file is six lines"),
        ("a.png", "a.pgw", None, "No such file or directory"),
        ("a.png", "a.png.aux.xml", b"<PAMDataset><SRS>", "no element found"),
        ("a.tif", "a.tif.aux.xml", None, "No such file or directory"),
        (
            "a.webp",
            "a.webp.aux.xml",
            b"<PAMDataset><GeoTransform>5, 10, 0</GeoTransform></PAMDataset>",
            "a GeoTransform is six numbers",
        ),
    ],
)
def test_an_image_whose_place_cannot_be_read_fails(
    tmp_path, model_folder, image, beside, content, reason
):
    write_image(tmp_path / "in" / "b.png")
    write_image(tmp_path / "in" / image)
    if content is None:
        (tmp_path / "in" / beside).symlink_to("gone")
    else:
        (tmp_path / "in" / beside).write_bytes(content)
    run = run_scenes(tmp_path / "run", model_folder, tmp_path / "in")
    (row,) = failure_rows_in(run.root)
    assert (row["uri"], row["code"]) == (f"in/{image}", "bad_georeference")
    assert row["reason"].startswith(
        f"{beside}, which may say where the image is, cannot be read ({reason}"
    )
    assert sorted(path.name for path in (run.root / "labels" / "in").iterdir()) == ["b.png.png"]


def test_a_world_file_that_only_we_read_may_have_decimal_commas_and_more_lines(tmp_path):
    path = write_image(tmp_path / "a.webp")
    (tmp_path / "a.wld").write_text("10,0\n0\n\n0\n-10,0\n500005\n4999995\nUTM 33\n")
    (file,) = list_inputs([str(path)], "no-run")
    assert Headers().read(file).grid.transform == PLACE


def test_an_image_that_is_shown_turned_is_refused_as_a_scene(tmp_path, model_folder):
    exif = Image.Exif()
    exif[0x0112] = 6
    write_image(tmp_path / "in" / "a.jpg", exif)
    (tmp_path / "in" / "a.jgw").write_text(WORLD)
    write_scene(tmp_path / "in" / "b.tif", pixels(40, 50))
    run = run_scenes(tmp_path / "run", model_folder, tmp_path / "in")
    (row,) = failure_rows_in(run.root)
    assert row["code"] == "bad_georeference"
    assert row["reason"].startswith("EXIF says that the image is shown turned")


def test_crs_is_for_scenes_that_state_none(tmp_path, model_folder):
    write_scene(tmp_path / "in" / "a.tif", pixels(40, 50), place=(None, PLACE))
    write_scene(tmp_path / "in" / "b.tif", pixels(40, 50), place=("EPSG:3857", PLACE))
    run = run_scenes(tmp_path / "run", model_folder, tmp_path / "in", crs=UTM33)
    assert read_labels(run.root, "a.tif")[2] == CRS.from_epsg(32633)
    assert read_labels(run.root, "b.tif")[2] == CRS.from_epsg(3857)
    assert json.loads((run.root / "run.json").read_bytes())["labels"]["crs"] == UTM33


def test_crs_that_is_none_is_refused_before_any_work(tmp_path, model_folder):
    write_scene(tmp_path / "in" / "a.tif", pixels(40, 50))
    with pytest.raises(ConfigurationError, match="--crs nonsense: no coordinate reference system"):
        run_scenes(tmp_path / "run", model_folder, tmp_path / "in", crs="nonsense")
    assert SegmentOptions((str(tmp_path),), "m", "r").crs is None


NINE = {"bands": tuple("abcdefghi"), "dtype": "uint16", "value_range": (0.0, 10_000.0)}


@pytest.mark.parametrize(
    ("changes", "values"),
    [
        (NINE, np.repeat(pixels(40, 50)[..., :1].astype(np.uint16), 9, axis=2)),
        ({"dtype": "uint16"}, pixels(40, 50).astype(np.uint16)),
    ],
)
def test_a_tiff_without_a_place_is_a_scene_where_no_decoder_feeds_the_model(
    tmp_path, changes, values
):
    fill = (0.0,) * values.shape[2]
    model = write_model_folder(tmp_path / "model", nodata_fill=fill, **changes)
    write_scene(tmp_path / "in" / "a.tif", values, place=(None, None))
    fake = BrightnessModel(values.shape[2])
    fake.fill = fake.fill.astype(np.uint16)
    run = run_scenes(tmp_path / "run", model, tmp_path / "in", model=fake, pixel_size=2.0)
    assert (run.status, run.failures()) == (0, {})
    labels, transform, crs = read_labels(run.root, "a.tif")
    np.testing.assert_array_equal(labels, brightness_labels(values))
    assert (transform.is_identity, crs) == (True, None)
    total = next(row for row in run.rows("areas.csv") if row["class"] == "total")
    assert (int(total["pixels"]), float(total["area_m2"])) == (2000, 8000.0)


def test_a_resized_tiff_without_a_place_needs_a_model_that_decoders_feed(tmp_path):
    model = write_model_folder(tmp_path / "model", dtype="uint16")
    write_scene(tmp_path / "in" / "a.tif", pixels(40, 50).astype(np.uint16), place=(None, None))
    with pytest.raises(ConfigurationError, match=r"--resize is for image files, and in/a\.tif is"):
        run_scenes(tmp_path / "run", model, tmp_path / "in", resize=(32, 32))


def test_a_run_that_an_earlier_release_began_keeps_plain_tiffs_as_images(tmp_path):
    model = write_model_folder(tmp_path / "model", dtype="uint16")
    write_scene(tmp_path / "in" / "a.tif", pixels(40, 50).astype(np.uint16))
    run = run_scenes(tmp_path / "run", model, tmp_path / "in")
    without_seals(run.root, "sidecars")
    write_scene(tmp_path / "in" / "b.tif", pixels(40, 50).astype(np.uint16), place=(None, None))
    run = run_scenes(tmp_path / "run", model, tmp_path / "in")
    assert run.status == 3
    assert not (run.root / "labels" / "in" / "b.tif").exists()
    assert "dtype" in run.failures()["in/b.tif"]["reason"]

"""Image files: PNG label maps beside the names of the input, grouped by a hash of the path."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipelines.formats.images import ImageFormat, encoded_misfit
from pipelines.rasters.header import Headers
from pipelines.run.commits import CommitLog
from pipelines.run.plan import InputFile
from segmodel.errors import InputError
from segmodel.images.encoded import EncodedImage
from segmodel.savedmodel.contract import MeasuredHalo
from segmodel.tiling.windows import Layout, Window
from tests.fakes import (
    CLASSES,
    WIDE_CLASSES,
    BrightnessModel,
    WideModel,
    brightness_labels,
    contract,
)
from tests.pipelines.corpus import (
    encoded,
    files_in,
    make_work,
    pixels,
    plan_context,
    png,
    read_png,
    read_shard,
    record,
    run_unit,
    units_in,
    write,
    write_model_folder,
    write_scene,
    write_shard,
)
from tests.pipelines.scene_runs import run_scenes


def file(name: str) -> InputFile:
    return InputFile(f"/x/{name}", "x", name, 1, "1")


def run_folder(work, folder: Path, model=None):
    (unit,) = units_in(work, folder)
    run_unit(unit, work, model)
    return unit


@pytest.mark.parametrize("name", ["a.jpg", "a.JPEG", "b/c.png", "a.webp", "a.tif", "a.TIFF"])
def test_images_are_known_by_their_suffix(name):
    assert ImageFormat().claim(file(name), Headers()) == file(name)


@pytest.mark.parametrize("name", ["a.txt", "jpg", "a.jpg.txt", "a.gif", "a", "a.tfrecord"])
def test_other_files_are_not_images(name):
    assert ImageFormat().claim(file(name), Headers()) is None


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 200), (200, 1), (64, 64), (65, 129)])
def test_every_pixel_has_the_label_of_its_value_whatever_the_size(tmp_path, work, height, width):
    values = pixels(height, width)
    write(tmp_path / "photos" / "a.png", png(values))
    run_folder(work, tmp_path / "photos")
    actual = read_png(Path(work.run.root) / "labels" / "photos" / "a.png.png")
    assert actual.dtype == np.uint8
    np.testing.assert_array_equal(actual, brightness_labels(values))


def test_a_label_map_has_class_ids_palette_and_provenance(tmp_path, work):
    values = pixels(40, 40)
    write(tmp_path / "photos" / "a.png", png(values))
    run_folder(work, tmp_path / "photos")
    with Image.open(Path(work.run.root) / "labels" / "photos" / "a.png.png") as image:
        assert image.mode == "P"
        palette = np.array(image.getpalette("RGB")).reshape(-1, 3)
        assert image.text == {"BEAMSEG_VERSION": "test"}
        shown = np.asarray(image.convert("RGB"))
    for entry in CLASSES.classes:
        assert tuple(palette[entry.id]) == entry.color
        assert (shown[brightness_labels(values) == entry.id] == entry.color).all()


def test_confidence_of_one_is_255_and_of_zero_is_0(tmp_path):
    work = make_work(tmp_path / "run", confidence=True)
    values = np.zeros((2, 3, 3), np.uint8)
    values[0, 0], values[0, 1], values[0, 2] = 255, 1, 128
    write(tmp_path / "photos" / "a.png", png(values))
    unit = run_folder(work, tmp_path / "photos")
    actual = read_png(Path(work.run.root) / "confidence" / "photos" / "a.png.png")
    np.testing.assert_array_equal(actual, [[255, 1, 128], [0, 0, 0]])
    outputs = CommitLog(work.run.root, work.options).read(unit).outputs
    assert [output.path for output in outputs] == [
        "labels/photos/a.png.png",
        "confidence/photos/a.png.png",
        f"areas/{unit.id}.parquet",
    ]


def test_a_dark_image_among_bright_ones_is_labelled_by_its_own_values(tmp_path, work):
    write(tmp_path / "photos" / "bright.png", png(np.full((64, 64, 3), 250, np.uint8)))
    write(tmp_path / "photos" / "dark.png", png(np.full((64, 64, 3), 3, np.uint8)))
    run_folder(work, tmp_path / "photos")
    labels = Path(work.run.root) / "labels" / "photos"
    assert (read_png(labels / "dark.png.png") == 0).all()
    assert (read_png(labels / "bright.png.png") == 7).all()


def test_small_images_share_batches(tmp_path, work):
    for number in range(8):
        write(tmp_path / "photos" / f"{number}.png", png(pixels(32, 32, number)))
    model = BrightnessModel()
    run_folder(work, tmp_path / "photos", model)
    assert model.batches == [(2, 32, 32, 3)] * 4


def test_images_of_other_modes_are_turned_to_the_bands_of_the_model(tmp_path, work):
    grey = pixels(20, 30, bands=1)
    write(tmp_path / "photos" / "grey.png", png(grey))
    write(tmp_path / "photos" / "rgba.png", png(np.dstack([grey, grey, grey, grey // 2])))
    run_folder(work, tmp_path / "photos")
    labels = Path(work.run.root) / "labels" / "photos"
    expected = brightness_labels(grey)
    np.testing.assert_array_equal(read_png(labels / "grey.png.png"), expected)
    np.testing.assert_array_equal(read_png(labels / "rgba.png.png"), expected)


def test_a_jpeg_is_labelled_as_it_decodes(tmp_path, work):
    jpeg = encoded(pixels(60, 70), "JPEG")
    path = write(tmp_path / "photos" / "a.jpg", jpeg)
    run_folder(work, tmp_path / "photos")
    with Image.open(path) as image:
        expected = brightness_labels(np.asarray(image))
    actual = read_png(Path(work.run.root) / "labels" / "photos" / "a.jpg.png")
    np.testing.assert_array_equal(actual, expected)


def test_a_tiff_without_coordinates_is_an_image(tmp_path, work):
    values = pixels(20, 30)
    write(tmp_path / "photos" / "a.tif", encoded(values, "TIFF"))
    unit = run_folder(work, tmp_path / "photos")
    assert unit.format == "images"
    actual = read_png(Path(work.run.root) / "labels" / "photos" / "a.tif.png")
    np.testing.assert_array_equal(actual, brightness_labels(values))


def test_a_tiff_with_coordinates_is_a_scene(tmp_path, work):
    write_scene(tmp_path / "in" / "a.tif", pixels(20, 30))
    (unit,) = units_in(work, tmp_path / "in")
    assert unit.format == "scene"


def test_sixteen_bit_images_give_their_high_byte(tmp_path, work):
    values = np.array([[0, 21_759, 21_760, 65_535]], np.uint16)
    write(tmp_path / "photos" / "a.png", png(values))
    run_folder(work, tmp_path / "photos")
    actual = read_png(Path(work.run.root) / "labels/photos/a.png.png")
    np.testing.assert_array_equal(actual, brightness_labels((values >> 8)[..., None]))


@pytest.mark.parametrize(("size", "area"), [(None, {}), (0.5, {"0": 25.0}), (2.0, {"0": 400.0})])
def test_ground_is_known_by_the_pixel_size_that_the_user_gives(tmp_path, size, area):
    work = make_work(tmp_path / "run", pixel_size_m=size)
    write(tmp_path / "photos" / "a.png", png(np.zeros((10, 10, 3), np.uint8)))
    unit = run_folder(work, tmp_path / "photos")
    tally = CommitLog(work.run.root, work.options).read(unit).tally
    assert {key: value for key, value in tally.area_m2.items() if value} == area
    assert tally.footprint_m2 == sum(area.values())
    rows = pq.read_table(Path(work.run.root) / "areas" / f"{unit.id}.parquet").to_pylist()
    assert [row["pixels"] for row in rows] == [100, 0, 0, 0]
    assert rows[0]["area_m2"] == (area["0"] if area else None)


def test_class_ids_above_254_give_sixteen_bit_maps(tmp_path):
    model = WideModel()
    work = make_work(tmp_path / "run", contract=contract(classes=WIDE_CLASSES))
    values = pixels(40, 50)
    write(tmp_path / "photos" / "a.png", png(values))
    run_folder(work, tmp_path / "photos", model)
    actual = read_png(Path(work.run.root) / "labels" / "photos" / "a.png.png")
    np.testing.assert_array_equal(actual, np.where(values[..., 0] > 99, 300, 5))


@pytest.mark.parametrize(
    ("bands", "dtype", "field"),
    [(2, "uint8", "bands"), (5, "uint8", "bands"), (3, "uint16", "dtype")],
)
def test_a_model_that_encoded_images_cannot_feed_is_refused_by_field(bands, dtype, field):
    names = tuple(f"b{number}" for number in range(bands))
    fields = {"value_range": (0.0, 10_000.0)} if dtype == "uint16" else {}
    wanted = contract(bands=names, dtype=dtype, nodata_fill=(0.0,) * bands, **fields)
    taken = dtype if field == "dtype" else bands
    assert f"photos: {field}: the model takes {taken}" in str(encoded_misfit(wanted, "photos"))


@pytest.mark.parametrize("bands", [1, 3, 4])
def test_a_model_of_one_three_or_four_bytes_is_fed(bands):
    fitting = contract(bands=("x",) * bands, nodata_fill=(0.0,) * bands)
    assert encoded_misfit(fitting, "photos") is None


def test_an_estimate_of_few_images_is_exact_and_of_many_by_a_sample(tmp_path):
    layout = Layout(64, 0, 32)
    for number in range(65):
        write(tmp_path / "few" / f"{number:03d}.png", png(pixels(10, 100)))
    files = files_in(tmp_path / "few")
    exact = ImageFormat().estimate(files[:64], plan_context(layout=layout))
    assert (exact.images, exact.pixels, exact.windows, exact.exact) == (64, 64_000, 128, True)
    sampled = ImageFormat().estimate(files, plan_context(layout=layout))
    assert (sampled.images, sampled.pixels, sampled.windows) == (65, 65_000, 130)
    assert not sampled.exact


def test_an_estimate_does_not_mind_broken_images(tmp_path):
    write(tmp_path / "in" / "a.png", b"")
    estimate = ImageFormat().estimate(files_in(tmp_path / "in"), plan_context())
    assert (estimate.images, estimate.pixels, estimate.exact) == (1, 0, False)


def test_the_halo_does_not_change_labels_that_depend_on_one_pixel(tmp_path):
    values = pixels(200, 170)
    write(tmp_path / "photos" / "a.png", png(values))
    halo = contract(halo=MeasuredHalo(32, 512, 1.0))
    work = make_work(tmp_path / "run", contract=halo, layout=Layout(64, 32, 32))
    run_folder(work, tmp_path / "photos")
    actual = read_png(Path(work.run.root) / "labels" / "photos" / "a.png.png")
    np.testing.assert_array_equal(actual, brightness_labels(values))


class Typed(BrightnessModel):
    """Remembers the types that it is given."""

    def labels(self, images: np.ndarray) -> np.ndarray:
        self.dtypes = {*getattr(self, "dtypes", ()), images.dtype.name}
        return super().labels(images)


@pytest.mark.parametrize("dtype", ["float32", "int16", "uint16"])
def test_images_feed_models_of_other_types_whose_range_is_one_of_bytes(tmp_path, dtype):
    folder = write_model_folder(tmp_path / "model", dtype=dtype)
    values = pixels(70, 80)
    write(tmp_path / "in" / "a.png", png(values))
    write_shard(tmp_path / "in" / "s.tfrecord", [record(values, "a")])
    write_scene(tmp_path / "in" / "b.tif", values, (None, None))
    model = Typed()
    run = run_scenes(tmp_path / "run", folder, tmp_path / "in", model=model)
    assert (run.status, run.failures()) == (0, {})
    assert model.dtypes == {dtype}
    for labels in (run.labels("in/b.tif"), read_png(run.root / "labels" / "in" / "a.png.png")):
        np.testing.assert_array_equal(labels, brightness_labels(values))
    (found,) = read_shard(run.root / "labels" / "in" / "s.tfrecord")
    assert found["image/filename"] == [b"a"]
    other = contract(dtype=dtype, value_range=(0.0, 256.0))
    assert "0 to 256, encoded images give uint8" in str(encoded_misfit(other))


def test_a_tiff_in_a_shard_gives_no_high_bytes_to_a_model_of_other_samples(tmp_path):
    path = write_scene(tmp_path / "a.tif", pixels(9, 8).astype(np.uint16), (None, None))
    raster = EncodedImage(path.read_bytes(), 3, dtype="float32")
    with pytest.raises(InputError, match="high byte of 16 bits: give it the TIFF as a file"):
        raster.read(Window(0, 0, 9, 8))

"""`beamseg ensemble`: models in, one model out that `segment` runs as any other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from PIL import Image

from pipelines.commands import ensemble
from pipelines.rasters import samples
from segmodel.errors import ConfigurationError, ContractError, InputError
from segmodel.savedmodel.contract import MeasuredHalo
from segmodel.savedmodel.folder import read_contract
from segmodel.savedmodel.predictor import Predictor
from tests.fakes import brightness_labels, contract


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Labels by brightness, from one pixel each."""
    tf = pytest.importorskip("tensorflow")
    from segmodel.savedmodel.export import export_savedmodel

    def brightness(values):
        mean = tf.floor(tf.reduce_sum(values, -1, keepdims=True) / 3)
        return -tf.abs(mean - tf.constant([42.0, 127.0, 212.0]))

    path = tmp_path_factory.mktemp("members") / "model"
    fields = {"stride": 8, "halo": MeasuredHalo(0, 512, None)}
    export_savedmodel(brightness, contract(**fields), path, measure_memory=False)
    return str(path)


@pytest.fixture(autouse=True)
def _no_measurement(monkeypatch):
    """No second process, which export's own tests start."""
    monkeypatch.setattr("segmodel.savedmodel.export.measure_bytes_per_pixel", lambda folder: 77)


def noise(height: int, width: int, bands: int = 3, dtype: str = "uint8") -> np.ndarray:
    random = np.random.default_rng(5)
    return random.integers(0, 256, (height, width, bands)).astype(dtype)


def write_tiff(path, values: np.ndarray, nodata: float | None = None) -> str:
    height, width, bands = values.shape
    profile = {"driver": "GTiff", "height": height, "width": width, "count": bands}
    with rasterio.open(path, "w", dtype=values.dtype, nodata=nodata, **profile) as target:
        target.write(np.moveaxis(values, -1, 0))
    return str(path)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_one_model_and_its_mirror_images_are_a_model_that_labels(model, tmp_path, capsys):
    output = tmp_path / "folder" / "steady"
    assert ensemble.run([model, "--output", str(output), "--flips", "--name", "mine"]) == 0
    written = read_contract(output)
    assert (written.name, written.architecture) == ("mine", "mean of 1 model, 4 views: flips")
    assert written.bytes_per_pixel == 77
    image = noise(20, 30)
    expected = brightness_labels(image)
    actual = Predictor.load(output).segment(image, window=16)
    assert (actual == expected).mean() > 0.98
    told = capsys.readouterr().out
    assert "mean of 1 model, 4 views: flips: stride 8, halo 0 px by those of the models" in told


def test_the_halo_is_measured_on_the_samples(model, tmp_path, capsys):
    Image.fromarray(noise(8, 600)).save(tmp_path / "a.png")
    words = [model, "--output", str(tmp_path / "e"), "--scales", "1,0.5"]
    assert ensemble.run([*words, "--samples", str(tmp_path / "*.png")]) == 0
    halo = read_contract(tmp_path / "e").halo
    assert halo.equal_labels is not None
    assert halo.window_px == 512
    assert f"halo {halo.pixels} px, measured: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ([], "name a model"),
        (["MODEL"], "--output is missing"),
        (["MODEL", "--output", "MODEL/"], "--output is one of the models"),
        (["MODEL", "--output", "OUT"], "needs two models, or one with --flips"),
        (["MODEL", "MODEL", "--output", "OUT"], "is the same model as"),
        (["MODEL", "--output", "OUT", "--scales", "1,x"], "must be numbers"),
        (["MODEL", "--output", "OUT", "--scales", "5"], r"0\.25\.\.4, got 5"),
        (["MODEL", "--output", "OUT", "--scales", "1,0.99"], "more than 512"),
        (["MODEL", "--output", "OUT", "--flip"], "did you mean --flips"),
        (["MODEL", "--output", "OUT", "--flips", "--samples", "none/*.png"], "no image matches"),
    ],
)
def test_what_cannot_be_carried_out_is_refused(model, tmp_path, words, match):
    names = {"MODEL": model, "MODEL/": model + "/", "OUT": str(tmp_path / "out")}
    with pytest.raises(ConfigurationError, match=match):
        ensemble.run([names.get(word, word) for word in words])
    assert not (tmp_path / "out").exists()


def test_folders_with_other_files_are_left_alone(model, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match="holds files that are no SavedModel"):
        ensemble.run([model, "--output", str(tmp_path), "--flips"])
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_folder_without_a_contract_is_refused(tmp_path):
    with pytest.raises(ContractError, match=r"is not a SavedModel"):
        ensemble.run([str(tmp_path), "--output", str(tmp_path / "e"), "--flips"])


def test_samples_are_the_middle_of_the_first_images(tmp_path):
    images = [noise(1600 + n, 4) for n in range(5)]
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    (tmp_path / "0.txt").write_text("no image")
    actual = samples.read_samples([str(tmp_path), str(tmp_path / "4.png")], contract())
    assert len(actual) == 4
    for number, sample in enumerate(actual):
        top = (64 + number) // 2
        np.testing.assert_array_equal(sample, images[number][top : top + 1536])


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_rasters_of_any_bands_and_dtype_are_samples_with_nodata_filled(tmp_path):
    values = noise(6, 5, bands=2, dtype="float32")
    values[2, 3] = -9
    path = write_tiff(tmp_path / "scene.tif", values, nodata=-9)
    made_for = contract(bands=("vv", "vh"), dtype="float32", nodata_fill=(1.0, 2.0))
    (actual,) = samples.read_samples([path], made_for)
    expected = values.copy()
    expected[2, 3] = 1, 2
    np.testing.assert_array_equal(actual, expected)
    assert actual.dtype == np.float32


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_bands_of_samples_are_found_by_name_in_rasters_of_any_format(tmp_path):
    values = noise(6, 5, bands=5, dtype="uint16")
    values[1, 2, 1:4] = 0
    path = str(tmp_path / "scene.vrt")
    write_tiff(tmp_path / "scene.tif", values, nodata=0)
    with rasterio.open(tmp_path / "scene.tif", "r+") as target:
        target.descriptions = ("coast", "blue", "green", "red", "nir")
    rasterio.shutil.copy(tmp_path / "scene.tif", path, driver="VRT")
    (tmp_path / "scene.vrt.txt").write_text("no image")
    made_for = contract(dtype="uint16", value_range=(0, 9999), nodata_fill=(7.0, 8.0, 9.0))
    expected = values[..., [3, 2, 1]].copy()
    expected[1, 2] = 7, 8, 9

    for pattern in (path, str(tmp_path / "*.vrt*")):
        (actual,) = samples.read_samples([pattern], made_for)
        np.testing.assert_array_equal(actual, expected)

    (tmp_path / "other").mkdir()
    moved = str((tmp_path / "scene.vrt").rename(tmp_path / "other" / "scene.vrt"))
    text = Path(moved).read_text().replace('relativeToVRT="1">', f'relativeToVRT="0">{tmp_path}/')
    Path(moved).write_text(text)
    with pytest.raises(InputError, match=r"scene\.vrt: .*lies below no --samples"):
        samples.read_samples([moved], made_for)
    (actual,) = samples.read_samples([moved], made_for, is_trusted=True)
    np.testing.assert_array_equal(actual, expected)


def test_transparent_pixels_of_samples_are_filled(tmp_path):
    image = noise(4, 4, bands=4)
    image[..., 3] = 255
    image[1, 2, 3] = 0
    Image.fromarray(image).save(tmp_path / "a.png")
    (actual,) = samples.read_samples([str(tmp_path)], contract(nodata_fill=(7.0, 8.0, 9.0)))
    expected = image[..., :3].copy()
    expected[1, 2] = 7, 8, 9
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_samples_that_do_not_fit_are_refused_by_name(tmp_path):
    path = write_tiff(tmp_path / "scene.tif", noise(4, 4, bands=2))
    with pytest.raises(ContractError, match=r"scene\.tif: bands"):
        samples.read_samples([path], contract())
    path = write_tiff(tmp_path / "wide.tif", noise(4, 4, dtype="uint16"))
    with pytest.raises(ContractError, match=r"wide\.tif: dtype"):
        samples.read_samples([path], contract())
    for name in ("broken.png", "broken.tif"):
        (tmp_path / name).write_bytes(b"not an image")
        with pytest.raises(InputError, match=name):
            samples.read_samples([str(tmp_path / name)], contract())

"""The `.msk` file beside an image file says which pixels are nodata, as GDAL takes it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

from pipelines.datasets.inputs import find_pack_inputs
from pipelines.inputs.sidecars import Sidecars
from pipelines.rasters.header import mask_beside
from segmodel.images.encoded import decode_pixels
from segmodel.pairs.pairs import EncodedFile
from tests.fakes import BrightnessModel, brightness_labels
from tests.pipelines.corpus import files_in, pixels, read_png
from tests.pipelines.scene_runs import run_scenes

VALUES = pixels(24, 40)
VALID = np.ones((24, 40), bool)
VALID[:10, :30] = False
# Shown turned by a quarter to the right.
SIDEWAYS = Image.Exif()
SIDEWAYS[0x0112] = 6


def write_masked(path: Path, valid: np.ndarray = VALID, **saving: object) -> Path:
    """An image with a mask beside it, which GDAL has written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = valid.shape
    tiff = path.with_suffix(".tmp")
    shape = {"width": width, "height": height, "count": 4, "dtype": "uint8"}
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False),
        rasterio.open(tiff, "w", driver="GTiff", **shape) as target,
    ):
        target.write_mask(valid)
    tiff.unlink()
    Path(f"{tiff}.msk").rename(f"{path}.msk")
    Image.fromarray(VALUES).save(path, **saving)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp"])
def test_pixels_out_of_the_mask_are_nodata(tmp_path, model_folder, name):
    path = write_masked(tmp_path / "in" / name)
    run = run_scenes(tmp_path / "run", model_folder, tmp_path / "in")
    with rasterio.open(path) as source:
        np.testing.assert_array_equal(source.dataset_mask() > 0, VALID)
    labels = read_png(run.root / "labels" / "in" / f"{name}.png")
    np.testing.assert_array_equal(labels == 255, ~VALID)
    assert (run.pixels["nodata"], run.summary["images"]) == (300, 1)


def test_the_mask_turns_with_an_image_that_is_shown_turned(tmp_path, model_folder):
    write_masked(tmp_path / "in" / "a.jpg", exif=SIDEWAYS)
    run = run_scenes(tmp_path / "run", model_folder, tmp_path / "in")
    labels = read_png(run.root / "labels" / "in" / "a.jpg.png")
    np.testing.assert_array_equal(labels == 255, np.rot90(~VALID, -1))


def test_alpha_counts_beside_the_mask(tmp_path):
    path = write_masked(tmp_path / "a.png")
    alpha = np.full((24, 40), 255, np.uint8)
    alpha[20:] = 0
    Image.fromarray(np.dstack([VALUES, alpha])).save(path)
    beside = Path(f"{path}.msk").read_bytes()
    for bands, expected in ((3, VALID & (alpha > 0)), (4, VALID)):
        found = decode_pixels(path.read_bytes(), bands, beside=beside)
        np.testing.assert_array_equal(found.valid, expected)


def test_a_mask_of_another_size_makes_the_image_a_failure(tmp_path, model_folder):
    write_masked(tmp_path / "in" / "a.png", VALID[:20])
    run = run_scenes(tmp_path / "run", model_folder, tmp_path / "in")
    row = run.failures()["in/a.png"]
    assert (row["code"], row["reason"]) == (
        "cannot_read",
        "the .msk file beside it has 40x20 pixels, the image 40x24: write it anew, or remove it if "
        "all pixels are valid",
    )


def test_an_image_is_labelled_again_when_its_mask_comes_or_goes(tmp_path, model_folder):
    path = write_masked(tmp_path / "in" / "a.png")
    Path(f"{path}.msk").rename(tmp_path / "kept")
    labels = tmp_path / "run" / "labels" / "in" / "a.png.png"
    for expected in (np.zeros_like(VALID), ~VALID):
        run_scenes(tmp_path / "run", model_folder, tmp_path / "in", model=BrightnessModel())
        np.testing.assert_array_equal(read_png(labels) == 255, expected)
        (tmp_path / "kept").rename(f"{path}.msk") if not expected.any() else None
    np.testing.assert_array_equal(read_png(labels)[VALID], brightness_labels(VALUES)[VALID])


def test_an_image_without_a_mask_is_not_asked_for_one(tmp_path, monkeypatch):
    write_masked(tmp_path / "a.png")
    write_masked(tmp_path / "b.png")
    (tmp_path / "b.png.msk").unlink()
    sidecars = Sidecars()
    masked, plain = files_in(tmp_path / "a.png", tmp_path / "b.png")
    assert sidecars.masks_of(masked) == [f"{tmp_path}/a.png.msk"]
    assert sidecars.masks_of(plain) == []
    monkeypatch.setattr("pipelines.storage.filesystem.stat", None)
    assert mask_beside(plain) is None


def test_training_and_pack_read_the_same_mask(tmp_path):
    path = write_masked(tmp_path / "in" / "a.png")
    expected = Path(f"{path}.msk").read_bytes()
    assert EncodedFile.of(str(path)).read_mask() == expected
    (item,) = find_pack_inputs([str(tmp_path / "in")], [], "no-run").items
    assert mask_beside(item.image) == expected


def test_masks_of_stores_are_noted_from_the_listing(client, tmp_path):
    write_masked(tmp_path / "in" / "a.png")
    client.put_all(tmp_path / "in", "gs://b/in")
    for pattern in ("gs://b/in", "gs://b/in/a.png"):
        (item,) = find_pack_inputs([pattern], [], "gs://b/out").items
        assert mask_beside(item.image) == (tmp_path / "in" / "a.png.msk").read_bytes()

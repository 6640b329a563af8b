"""Nodata of scenes, however it is marked, is nodata of label maps pixel for pixel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp

from tests.fakes import BrightnessModel, brightness_labels
from tests.pipelines.corpus import UTM, pixels, small_blocks, write_model_folder, write_scene
from tests.pipelines.scene_runs import Finished, run_scenes

HEIGHT, WIDTH = 200, 180


class StrictModel(BrightnessModel):
    """Labels by brightness; refuses what is no number, and remembers which windows it met."""

    def __init__(self, dtype: str) -> None:
        super().__init__()
        self.fill = np.zeros(3, dtype)

    def labels(self, images: np.ndarray) -> np.ndarray:
        assert images.dtype == self.fill.dtype
        assert np.isfinite(images).all()
        assert images.min() >= 0
        return super().labels(images)


@dataclass(frozen=True)
class Marked:
    """A scene with nodata.

    Args:
        path: Of the file.
        values: Where they are valid.
        valid: Where they are.
        value_range: Of the model.
    """

    path: Path
    values: np.ndarray
    valid: np.ndarray
    value_range: tuple[float, float] = (0.0, 255.0)

    @property
    def labels(self) -> np.ndarray:
        """What the label map must be."""
        return np.where(self.valid, brightness_labels(self.values), 255)


def valid_pixels() -> np.ndarray:
    """Specks, a window of 64 that is all nodata, a strip at the edge, and single valid pixels."""
    valid = np.random.default_rng(3).random((HEIGHT, WIDTH)) > 0.3
    valid[64:128, 64:128] = valid[:, -20:] = False
    valid[150:180, 20:60] = True
    valid[199, 179] = valid[100, 100] = True
    valid[64:128, 64:128] = False
    return valid


def values_of(dtype: str = "uint8") -> np.ndarray:
    """Values in 1..254, of all classes."""
    return np.clip(pixels(HEIGHT, WIDTH), 1, 254).astype(dtype)


def tagged(path: Path, nodata: float, dtype: str, bands: tuple[int, ...]) -> Marked:
    """Marked by a nodata value in some of the bands."""
    values, valid = values_of(dtype), valid_pixels()
    stored = values.copy()
    for band in bands:
        stored[~valid, band] = nodata
    write_scene(path, stored, nodata=nodata)
    high = {"uint8": 255.0, "uint16": 10_000.0, "float32": 255.0}[dtype]
    return Marked(path, values, valid, (0.0, high))


def photograph(path: Path, nodata: int) -> Marked:
    """Marked in all bands; where some bands hold the same value, it is a color."""
    values, valid = values_of(), valid_pixels()
    random = np.random.default_rng(4)
    values[random.random(valid.shape) < 0.1, 0] = nodata
    values[random.random(valid.shape) < 0.1, 1] = nodata
    values[..., 2] = np.clip(values[..., 2], 1, 254)
    stored = values.copy()
    stored[~valid] = nodata
    write_scene(path, stored, nodata=nodata)
    return Marked(path, values, valid)


def masked(path: Path, internal: bool) -> Marked:
    """Marked by a mask in the file or beside it."""
    values, valid = values_of(), valid_pixels()
    write_scene(path, values)
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=internal),
        rasterio.open(path, "r+") as target,
    ):
        target.write_mask(valid)
    assert path.with_name(path.name + ".msk").exists() is not internal
    return Marked(path, values, valid)


def transparent(path: Path) -> Marked:
    """Marked by an alpha band."""
    values, valid = values_of(), valid_pixels()
    alpha = np.where(valid, 255, 0).astype(np.uint8)
    write_scene(path, np.dstack([values, alpha]))
    with rasterio.open(path, "r+") as target:
        target.colorinterp = [
            ColorInterp.red,
            ColorInterp.green,
            ColorInterp.blue,
            ColorInterp.alpha,
        ]
    return Marked(path, values, valid)


def masked_by_band(path: Path) -> Marked:
    """A VRT with a mask for each band: a pixel is valid if it is in all of them."""
    values, valid = values_of(), valid_pixels()
    random = np.random.default_rng(5)
    which = random.integers(0, 3, valid.shape)
    masks = np.stack([valid | (which != band) for band in range(3)], axis=-1)
    write_scene(path.parent / "parts" / "values.tif", values)
    write_scene(path.parent / "parts" / "masks.tif", np.where(masks, 255, 0).astype(np.uint8))
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{band}">'
        f'<SimpleSource><SourceFilename relativeToVRT="1">parts/values.tif</SourceFilename>'
        f"<SourceBand>{band}</SourceBand></SimpleSource>"
        f'<MaskBand><VRTRasterBand dataType="Byte">'
        f'<SimpleSource><SourceFilename relativeToVRT="1">parts/masks.tif</SourceFilename>'
        f"<SourceBand>{band}</SourceBand></SimpleSource></VRTRasterBand></MaskBand>"
        f"</VRTRasterBand>"
        for band in (1, 2, 3)
    )
    place = ", ".join(map(str, UTM[1].to_gdal()))
    path.write_text(
        f'<VRTDataset rasterXSize="{WIDTH}" rasterYSize="{HEIGHT}"><SRS>{UTM[0]}</SRS>'
        f"<GeoTransform>{place}</GeoTransform>{bands}</VRTDataset>"
    )
    return Marked(path, values, valid)


KINDS = {
    "nodata 0": lambda path: tagged(path, 0, "uint8", (0, 1, 2)),
    "nodata 255": lambda path: tagged(path, 255, "uint8", (0, 1, 2)),
    "nodata 0 of a photograph": lambda path: photograph(path, 0),
    "nodata 255 of a photograph": lambda path: photograph(path, 255),
    "NaN": lambda path: tagged(path, np.nan, "float32", (0, 1, 2)),
    "NaN in a band": lambda path: tagged(path, np.nan, "float32", (1,)),
    "-9999 in a band": lambda path: tagged(path, -9999, "float32", (2,)),
    "65535": lambda path: tagged(path, 65535, "uint16", (0, 1, 2)),
    "65535 in a band": lambda path: tagged(path, 65535, "uint16", (0,)),
    "internal mask": lambda path: masked(path, internal=True),
    "external mask": lambda path: masked(path, internal=False),
    "alpha": transparent,
    "masks of bands": lambda path: masked_by_band(path.with_suffix(".vrt")),
}


def segmented(tmp_path: Path, scene: Marked, **options) -> Finished:
    """A run over a scene with a model of its dtype."""
    dtype = scene.values.dtype.name
    folder = write_model_folder(tmp_path / "model", dtype=dtype, value_range=scene.value_range)
    return run_scenes(
        tmp_path / "run", folder, scene.path, model=StrictModel(dtype), **({"batch": 1} | options)
    )


def labels_of(run: Finished, scene: Marked) -> np.ndarray:
    """The label map; its own mask says the same as its values."""
    suffix = "" if scene.path.suffix == ".tif" else ".tif"
    with rasterio.open(run.root / "labels" / "in" / f"{scene.path.name}{suffix}") as source:
        assert source.nodata == 255
        labels = source.read(1)
        np.testing.assert_array_equal(source.read_masks(1) == 0, labels == 255)
    return labels


@pytest.fixture(params=KINDS)
def scene(request, tmp_path: Path) -> Marked:
    """A scene of every kind."""
    (tmp_path / "in").mkdir()
    return KINDS[request.param](tmp_path / "in" / "a.tif")


def test_nodata_is_the_same_before_and_after(tmp_path, monkeypatch, scene):
    small_blocks(monkeypatch, 128)

    run = segmented(tmp_path, scene)

    assert run.status == 0
    np.testing.assert_array_equal(labels_of(run, scene), scene.labels)
    assert run.pixels["nodata"] == (~scene.valid).sum()
    assert run.verified()[1] == []


@pytest.mark.parametrize(("resample_to", "block"), [(23.0, 64), (8.0, 192)])
def test_nodata_is_the_same_however_the_model_sees_the_scene(
    tmp_path, monkeypatch, scene, resample_to, block
):
    small_blocks(monkeypatch, block)

    run = segmented(tmp_path, scene, resample_to=resample_to)

    assert run.status == 0
    np.testing.assert_array_equal(labels_of(run, scene) == 255, ~scene.valid)


def test_a_window_without_any_valid_pixel_never_meets_the_model(tmp_path, scene):
    run = segmented(tmp_path, scene)

    np.testing.assert_array_equal(labels_of(run, scene), scene.labels)
    # Of four by three windows, one has no valid pixel; edges end with the scene.
    met = sorted(shape[1:3] for shape in run.model.batches)
    windows = [
        (min(64, HEIGHT - r), min(64, WIDTH - c)) for r in (0, 64, 128, 192) for c in (0, 64, 128)
    ]
    windows.remove((64, 64))
    assert met == sorted(windows)


def test_a_scene_of_nodata_never_meets_the_model_and_is_complete(tmp_path):
    path = write_scene(tmp_path / "in" / "a.tif", np.zeros((100, 90, 3), np.uint8), nodata=0)
    scene = Marked(path, np.zeros((100, 90, 3), np.uint8), np.zeros((100, 90), bool))

    run = segmented(tmp_path, scene)

    assert (run.status, run.model.batches) == (0, [])
    assert (labels_of(run, scene) == 255).all()
    assert run.pixels["nodata"] == run.pixels["total"] == 9000


def test_class_0_stays_a_class_beside_nodata_of_value_0(tmp_path):
    stored = np.zeros((70, 80, 3), np.uint8)
    stored[10:30, 20:50, 1] = 1
    path = write_scene(tmp_path / "in" / "a.tif", stored, nodata=0)
    valid = stored.any(axis=-1)
    scene = Marked(path, stored, valid)

    run = segmented(tmp_path, scene)

    np.testing.assert_array_equal(labels_of(run, scene), np.where(valid, 0, 255))
    assert (run.pixels["dark"], run.pixels["nodata"]) == (600, 5000)
    assert run.area_m2["dark"] == pytest.approx(600 * 100, rel=2e-3)

"""Odd rasters are labelled rightly, or fail with a reason and a remedy, and cost nothing else."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from pipelines.cli.values import FailureBudget
from segmodel.errors import BeamsegError, ContractError, FailureCode
from tests.fakes import BrightnessModel, brightness_labels
from tests.pipelines.corpus import pixels, write_model_folder, write_scene
from tests.pipelines.odd_rasters import MAKERS, Odd, label_name, labelled, make_all
from tests.pipelines.scene_runs import PARTS, Finished, run_scenes

ANY = FailureBudget(1000, None)
BROKEN = [*MAKERS][[*MAKERS].index("gcps.tif") :]

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Finished, dict[str, Odd]]:
    """One run over all rasters."""
    folder = tmp_path_factory.mktemp("odd")
    corpus = make_all(folder / "in")
    model = write_model_folder(folder / "model")
    return run_scenes(
        folder / "run", model, folder / "in", max_failures=ANY, trust_inputs=True
    ), corpus


def test_a_run_over_all_of_them_is_complete_within_its_budget(whole):
    run, corpus = whole
    failed = sum(odd.reason is not None for odd in corpus.values())
    assert run.status == 0
    assert (run.root / "_SUCCESS").exists()
    assert run.summary["failed_images"] == failed
    assert run.summary["images"] == len(corpus) - failed


@pytest.mark.parametrize("name", [*MAKERS])
def test_a_raster_is_labelled_rightly_or_fails_with_its_reason(whole, name):
    run, corpus = whole
    odd, row = corpus[name], run.failures().get(f"in/{name}")
    path = run.root / "labels" / label_name(name)
    if odd.reason is None:
        assert row is None
    else:
        assert row is not None
        without_name = odd.reason.removeprefix(f"in/{name}: ")
        assert re.search(without_name, row["reason"]), row["reason"]
        assert name not in row["reason"].partition(":")[0]
        assert row["code"] not in ("", FailureCode.OTHER)
    if odd.labels is None:
        assert not path.exists()
        return
    np.testing.assert_array_equal(run.labels(label_name(name)), odd.labels)
    with rasterio.open(path) as found, rasterio.open(run.root.parent / "in" / name) as source:
        assert (found.crs, found.transform) == (source.crs, source.transform)


def test_only_these_rasters_fail_as_a_whole_or_by_windows(whole):
    run, corpus = whole
    failed = {f"in/{name}" for name, odd in corpus.items() if odd.reason is not None}
    parts = {f"in/{name}" for name, odd in corpus.items() if odd.reason and odd.labels is not None}
    rows = run.rows("failures.csv")
    assert {row["uri"] for row in rows} == failed
    wholly = sorted(row["uri"] for row in rows if not row["key"])
    assert wholly == sorted(failed - parts)
    assert {row["uri"]: row["key"] for row in rows if row["key"]} == {
        "in/corrupt-strip.tif": "rows 64 to 127, columns 64 to 99"
    }


def test_nothing_that_a_run_tells_of_failures_is_a_path_of_this_machine(whole):
    run, _ = whole
    for name in ("failures.csv", "summary.json", "areas.csv", "labels-EPSG-32633.vrt"):
        assert str(run.root.parent) not in (run.root / name).read_text(), name
    told = [row["reason"] for row in run.rows("failures.csv")]
    assert [reason for reason in told if "/tmp" in reason or "/home" in reason] == []
    assert [reason for reason in told if not reason or "\n" in reason] == []


def test_pixels_and_ground_of_all_of_them_are_in_the_totals(whole):
    run, corpus = whole
    labels = np.concatenate([found.ravel() for _, found in labelled(corpus)])
    lost = sum(odd.failed for odd in corpus.values() if odd.labels is not None)
    for line, value in (("dark", 0), ("middle", 3), ("bright", 7)):
        assert run.pixels[line] == np.count_nonzero(labels == value), line
    assert run.pixels["nodata"] == np.count_nonzero(labels == 255) - lost
    assert run.pixels["failed"] == sum(odd.failed for odd in corpus.values())
    summed = math.fsum(run.area_m2[line] for line in PARTS)
    assert summed == pytest.approx(run.area_m2["footprint"], rel=1e-6)
    with_ground = sum(
        odd.failed if odd.labels is None else odd.labels.size
        for odd in corpus.values()
        if odd.has_ground
    )
    assert run.pixels["footprint"] == with_ground


def test_verify_accepts_a_run_with_failures(whole):
    run, _ = whole
    assert run.verified()[1] == []


def test_the_same_run_without_a_budget_ends_with_3(whole):
    run, _ = whole
    done = run_scenes(
        run.root, run.root.parent / "model", run.root.parent / "in", trust_inputs=True
    )
    assert all(report.skipped for report in done.reports)
    assert done.status == 3
    assert not (run.root / "_SUCCESS").exists()


def test_all_of_them_counted_once_and_with_seams_lose_nothing(whole, tmp_path, model_folder):
    expected, corpus = whole
    folder = expected.root.parent / "in"
    run = run_scenes(
        tmp_path / "run",
        model_folder,
        folder,
        overlap="first",
        check_seams=True,
        max_failures=ANY,
        trust_inputs=True,
    )
    assert run.status == 0
    assert run.rows("failures.csv") == expected.rows("failures.csv")
    for name, labels in labelled(corpus):
        np.testing.assert_array_equal(run.labels(label_name(name)), labels)
    assert run.pixels["total"] == expected.pixels["total"]
    assert run.area_m2["footprint"] == pytest.approx(expected.area_m2["footprint"], rel=1e-12)
    assert run.verified()[1] == []


def alone(name: str, tmp_path: Path, model_folder: Path, **options) -> tuple[Finished, Odd]:
    (tmp_path / "in").mkdir()
    odd = MAKERS[name](tmp_path / "in" / name)
    return run_scenes(tmp_path / "run", model_folder, tmp_path / "in", **options), odd


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_one_alone_is_refused_before_the_run_or_fails_in_it(tmp_path, model_folder, name):
    (tmp_path / "in").mkdir()
    odd = MAKERS[name](tmp_path / "in" / name)
    is_refused = odd.reason is not None and odd.reason.startswith("in/")
    if is_refused:
        with pytest.raises(BeamsegError, match=odd.reason) as refused:
            run_scenes(tmp_path / "run", model_folder, tmp_path / "in", max_failures=ANY)
        assert str(tmp_path) not in str(refused.value)
        assert not (tmp_path / "run").exists()
        return
    run = run_scenes(tmp_path / "run", model_folder, tmp_path / "in", max_failures=ANY)
    assert run.status == 0
    assert (odd.reason is not None) == (run.summary["failed_images"] == 1)
    if odd.labels is not None:
        np.testing.assert_array_equal(run.labels(label_name(name)), odd.labels)


@pytest.mark.parametrize("name", ["moon.tif", "moon-iau.tif"])
def test_ground_of_the_moon_is_measured_on_the_moon(tmp_path, model_folder, name):
    run, _ = alone(name, tmp_path, model_folder)
    radius = 1_737_400
    if name == "moon.tif":
        band = math.sin(math.radians(20)) - math.sin(math.radians(20 - 0.9))
        expected = radius**2 * math.radians(1) * band
    else:
        # Equirectangular, at the equator.
        expected = 9000 * 100**2
    assert run.area_m2["footprint"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", ["antimeridian.tif", "utm-1.tif", "utm-60.tif"])
def test_ground_across_the_antimeridian_is_all_there(tmp_path, model_folder, name):
    run, _ = alone(name, tmp_path, model_folder)
    rows = 90 * 200 * 100**2
    if name == "antimeridian.tif":
        rows = 12_308.46e6 * 2 * 0.9 * math.cos(math.radians(9.55))
    assert run.area_m2["footprint"] == pytest.approx(rows, rel=6e-3)


class FirstBand(BrightnessModel):
    """Labels by the first band alone, so that the order of bands shows."""

    def labels(self, images: np.ndarray) -> np.ndarray:
        super().labels(images)
        return brightness_labels(images[..., :1])


def ordered(tmp_path: Path, colors=None, bands: int = 3) -> tuple[Path, np.ndarray]:
    values = np.stack([pixels(70, 80, seed)[..., 0] for seed in range(bands)], axis=-1)
    path = write_scene(tmp_path / "in" / "a.tif", values, photometric="minisblack")
    if colors is not None:
        with rasterio.open(path, "r+") as target:
            target.colorinterp = [rasterio.enums.ColorInterp[color] for color in colors]
    return path, values


@pytest.mark.parametrize(
    ("colors", "bands", "first"),
    [
        (("blue", "green", "red"), None, 2),
        (("red", "green", "blue"), None, 0),
        (None, None, 0),
        (("blue", "green", "red"), ("1", "2", "3"), 0),
        (("blue", "green", "red"), ("green", "red", "blue"), 1),
        (None, ("3", "1", "2"), 2),
    ],
)
def test_the_model_gets_the_bands_in_its_own_order(tmp_path, model_folder, colors, bands, first):
    path, values = ordered(tmp_path, colors)
    run = run_scenes(tmp_path / "run", model_folder, path, bands=bands, model=FirstBand())
    expected = brightness_labels(values[..., first : first + 1])
    np.testing.assert_array_equal(run.labels("in/a.tif"), expected)


def test_four_bands_need_to_be_told_which(tmp_path, model_folder):
    path, values = ordered(tmp_path, bands=4)
    with pytest.raises(ContractError, match=r"in/a.tif: bands: .* has 4; .*--bands"):
        run_scenes(tmp_path / "refused", model_folder, path)
    assert not (tmp_path / "refused").exists()

    run = run_scenes(tmp_path / "run", model_folder, path, bands=("4", "3", "2"), model=FirstBand())

    np.testing.assert_array_equal(run.labels("in/a.tif"), brightness_labels(values[..., 3:]))


@pytest.mark.parametrize("bands", [("5", "1", "2"), ("nir", "1", "2"), ("0", "1", "2")])
def test_bands_that_are_not_there_are_refused_by_name(tmp_path, model_folder, bands):
    path, _ = ordered(tmp_path, bands=4)
    with pytest.raises(ContractError, match=rf"in/a.tif: --bands {bands[0]}: no band of that"):
        run_scenes(tmp_path / "run", model_folder, path, bands=bands)


class FloatModel(BrightnessModel):
    def __init__(self) -> None:
        super().__init__()
        self.fill = np.zeros(3, np.float32)


@pytest.mark.parametrize("dtype", ["float32", "uint16", "int16"])
def test_numbers_with_scale_and_offset_reach_the_model_as_what_they_stand_for(tmp_path, dtype):
    values = pixels(70, 80).astype(np.float64)
    path = write_scene(tmp_path / "in" / "a.tif", (values * 4 + 8).astype(dtype), nodata=0)
    with rasterio.open(path, "r+") as target:
        target.scales, target.offsets = (0.25,) * 3, (-2.0,) * 3
    folder = write_model_folder(tmp_path / "model", dtype="float32")

    run = run_scenes(tmp_path / "run", folder, path, model=FloatModel())

    np.testing.assert_array_equal(run.labels("in/a.tif"), brightness_labels(values))


class OneBand(BrightnessModel):
    def __init__(self) -> None:
        super().__init__(1)

    def labels(self, images: np.ndarray) -> np.ndarray:
        self.batches.append(images.shape)
        return np.where(images[..., 0] > 99, 7, 0).astype(np.uint8)


def test_a_scene_of_648_megapixels_is_labelled_within_bounded_memory(tmp_path):
    path = tmp_path / "in" / "large.tif"
    path.parent.mkdir()
    profile = {
        "driver": "GTiff",
        "height": 18_000,
        "width": 36_000,
        "count": 1,
        "dtype": "uint8",
        "crs": "EPSG:4326",
        "transform": Affine(0.01, 0, -180, 0, -0.01, 90),
        "compress": "deflate",
        "tiled": True,
        "SPARSE_OK": "TRUE",
    }
    with rasterio.open(path, "w", **profile) as target:
        bright = np.full((1, 256, 256), 200, np.uint8)
        target.write(bright, window=rasterio.windows.Window(35_744, 17_664, 256, 256))
    folder = write_model_folder(tmp_path / "model", bands=("grey",), nodata_fill=(0.0,))

    options = {"window": 2048, "batch": 1, "memory": 8 << 30}
    run = run_scenes(tmp_path / "run", folder, path, model=OneBand(), **options)

    assert run.status == 0
    assert run.pixels["bright"] == 256 * 256
    assert run.pixels["dark"] == 18_000 * 36_000 - 256 * 256
    assert run.area_m2["footprint"] == pytest.approx(510_065_621_724_088, rel=1e-9)
    assert run.area_m2["total"] == pytest.approx(510_065_621_724_088, rel=1e-9)

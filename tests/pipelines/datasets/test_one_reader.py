"""A model is trained on exactly what `segment` shows it, whatever a raster is like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rasterio.enums import ColorInterp

from pipelines.formats.images import ImageFormat, encoded_misfit
from pipelines.formats.work import ReadOptions
from pipelines.rasters.header import Headers, mask_beside, read_header
from pipelines.rasters.reader import SceneRaster
from pipelines.run.plan import InputFile
from pipelines.scenes.blocks import check_scene
from segmodel.errors import BeamsegError, FailureCode
from segmodel.images.encoded import EncodedImage
from segmodel.labels.masks import MaskReader
from segmodel.pairs.pairs import PairSource
from segmodel.rasters.bands import ModelBands
from segmodel.savedmodel.contract import Contract
from segmodel.tiling.raster import Pixels
from segmodel.tiling.windows import Window
from tests.examples import examples
from tests.fakes import contract
from tests.pipelines.corpus import UTM, png, write
from tests.segmodel.folder_pairs import read_folders
from tests.segmodel.pairs.test_pairs import CLASSES

SIZE = (18, 21)
WINDOWS = (Window(0, 0, *SIZE), Window(3, 2, 5, 9))
PALETTES = {
    "colours": {0: (9, 9, 9, 255), 1: (200, 10, 10, 255), 2: (10, 200, 10, 255)},
    "greys": {0: (0, 0, 0, 255), 1: (90, 90, 90, 255), 2: (255, 255, 255, 255)},
}


@dataclass(frozen=True)
class Kind:
    """What a raster is like.

    Args:
        dtype: Dtype of its samples.
        count: Bands, beside alpha.
        names: Descriptions of its bands.
        nodata: Nodata value, or None.
        mask: Where else nodata is: `none`, `internal`, `beside` or `alpha`.
        photometric: GDAL's name of the interpretation of TIFF, or `palette` and which one.
        scaled: Whether it has scale and offset.
        special: Numbers among its samples that no image has.
        bits: Bits of a sample, if they are fewer than its dtype has.
        layout: How it is stored.
        vrt: Whether a VRT stands for it.
        model: Dtype and least and greatest value of the model.
        bands: Names of the model's bands.
    """

    dtype: str = "uint8"
    count: int = 3
    names: tuple[str, ...] = ()
    nodata: float | None = None
    mask: str = "none"
    photometric: str = ""
    scaled: bool = False
    special: tuple[float, ...] = ()
    bits: int = 0
    layout: str = "striped"
    vrt: bool = False
    model: tuple[str, float, float] = ("uint8", 0.0, 255.0)
    bands: tuple[str, ...] = ("red", "green", "blue")

    @property
    def contract(self) -> Contract:
        """The contract of the model."""
        dtype, low, high = self.model
        fill = (0.0,) * len(self.bands)
        limits = (low, high)
        return contract(bands=self.bands, dtype=dtype, value_range=limits, nodata_fill=fill)

    @property
    def source(self) -> PairSource:
        """The same for training."""
        dtype, low, high = self.model
        return PairSource(self.bands, dtype, MaskReader.of(CLASSES, "id"), (low, high))

    def write(self, path: Path, placed: bool) -> Path:
        """Write a raster of this kind as TIFF, and a VRT of it if that is asked for."""
        path.parent.mkdir(parents=True, exist_ok=True)
        random = np.random.default_rng(5)
        top = min(4, 2**self.bits) if self.bits else 4
        samples = random.integers(0, top, (self.count, *SIZE)).astype(self.dtype)
        if self.nodata is not None and _holds(self.dtype, self.nodata):
            samples[:, 2:5, 1:9] = self.nodata
            samples[0, 7, 7] = self.nodata
        for column, value in enumerate(self.special):
            samples[0, 9, column] = np.array(value).astype(self.dtype)
        profile: dict = {"crs": UTM[0], "transform": UTM[1]} if placed else {}
        profile |= {"nodata": self.nodata} if self.nodata is not None else {}
        profile |= {"nbits": self.bits} if self.bits else {}
        if self.photometric and not self.photometric.startswith("palette"):
            profile["photometric"] = self.photometric
        if self.layout == "tiled":
            profile |= {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"}
        elif self.layout == "bands":
            profile |= {"interleave": "band", "compress": "lzw", "blockysize": 7}
        if self.mask == "alpha":
            alpha = np.where(random.random(SIZE) > 0.3, 255, 0).astype(self.dtype)
            samples = np.concatenate([samples, alpha[None]])
        size = {"height": SIZE[0], "width": SIZE[1], "count": len(samples), "dtype": self.dtype}
        with rasterio.open(path, "w", driver="GTiff", **size, **profile) as target:
            target.write(samples)
            if self.photometric.startswith("palette"):
                target.write_colormap(1, PALETTES[self.photometric.split()[1]])
            if self.mask == "alpha":
                kinds = target.colorinterp[: self.count]
                target.colorinterp = [*kinds, ColorInterp.alpha]
            if self.scaled:
                target.scales = [0.5] * len(samples)
                target.offsets = [1.0] * len(samples)
            for number, name in enumerate(self.names[: self.count], 1):
                target.set_band_description(number, name)
        if self.mask in ("internal", "beside"):
            internal = rasterio.Env(GDAL_TIFF_INTERNAL_MASK=self.mask == "internal")
            with internal, rasterio.open(path, "r+") as target:
                target.write_mask(random.random(SIZE) > 0.3)
        if not self.vrt:
            return path
        beside = path.with_suffix(".vrt")
        rasterio.shutil.copy(path, beside, driver="VRT")
        return beside


def _holds(dtype: str, value: float) -> bool:
    if not np.isfinite(value):
        return dtype.startswith("float")
    with np.errstate(all="ignore"):
        return bool(np.array(value).astype(dtype) == value) or dtype.startswith("float")


NAMES = [
    (),
    ("red", "green", "blue"),
    ("blue", "green", "red"),
    ("nir", "red", "green"),
    ("Band 1", "Band 2", "Band 3"),
    ("B04", "B03", "B02"),
    ("red", "", ""),
    ("", "", "red"),
]
MODELS = [
    ("uint8", 0.0, 255.0),
    ("uint8", 1.0, 200.0),
    ("uint16", 0.0, 10000.0),
    ("int16", -100.0, 100.0),
    ("float32", 0.0, 1.0),
    ("float32", -1e6, 1e6),
]
RGBA = ("red", "green", "blue", "alpha")
MODEL_BANDS = [RGBA[:3], RGBA[:3], ("a", "b", "c"), ("grey",), ("nir", "red"), RGBA]
MAX = float(np.finfo(np.float32).max)
KINDS = st.builds(
    Kind,
    dtype=st.sampled_from(["uint8", "uint8", "uint16", "int16", "int32", "float32", "float64"]),
    count=st.sampled_from([1, 2, 3, 3, 4]),
    names=st.sampled_from(NAMES),
    nodata=st.sampled_from([None, None, 0.0, 3.0, 255.0, -9999.0, -3.4e38, float("nan")]),
    mask=st.sampled_from(["none", "none", "internal", "beside", "alpha"]),
    photometric=st.sampled_from(
        ["", "", "MINISBLACK", "MINISWHITE", "palette colours", "palette greys"]
    ),
    scaled=st.booleans(),
    special=st.sampled_from([(), (-9999.0, 200.0), (float("nan"), float("inf"), -MAX, -3.4e38)]),
    bits=st.sampled_from([0, 0, 0, 1, 4]),
    layout=st.sampled_from(["striped", "tiled", "bands"]),
    vrt=st.booleans(),
    model=st.sampled_from(MODELS),
    bands=st.sampled_from(MODEL_BANDS),
)


def possible(kind: Kind) -> Kind:
    """The nearest kind that can be written."""
    is_float = kind.dtype.startswith("float")
    if not is_float:
        kind = replace(kind, special=tuple(v for v in kind.special if _holds(kind.dtype, v)))
    if kind.nodata is not None and not is_float and not _holds(kind.dtype, kind.nodata):
        kind = replace(kind, nodata=None)
    if kind.dtype != "uint8" or kind.count != 1:
        kind = replace(kind, bits=0)
    if kind.photometric.startswith("palette") and (kind.dtype, kind.count) != ("uint8", 1):
        kind = replace(kind, photometric="")
    if kind.photometric.startswith("palette") or kind.bits:
        kind = replace(kind, mask="none" if kind.mask == "alpha" else kind.mask)
    if kind.bits and kind.photometric.startswith("palette"):
        kind = replace(kind, bits=0)
    if kind.photometric == "MINISWHITE" and (kind.dtype, kind.count) != ("uint8", 1):
        # That white is 0, a VRT says by a palette alone.
        kind = replace(kind, vrt=False)
    if kind.bits and kind.nodata is not None and kind.nodata >= 2**kind.bits:
        kind = replace(kind, nodata=None)
    return kind


Seen = list[tuple[np.ndarray, np.ndarray]] | FailureCode


def seen_by(read: Callable[[], Callable[[Window], Pixels]]) -> Seen:
    """Values of the windows, and where a model gets them; or the code of the error."""
    try:
        pixels = [read()(window) for window in WINDOWS]
    except BeamsegError as error:
        return error.code
    everywhere = [np.ones(part.values.shape[:2], bool) for part in pixels]
    return [
        (part.values, every if part.finite is None else part.finite)
        for part, every in zip(pixels, everywhere, strict=True)
    ]


def as_scene(path: Path, kind: Kind) -> Seen:
    """What `segment` gives to the model."""

    def read():
        header = read_header(str(path))
        check_scene(header, kind.contract, ReadOptions(), "a")
        return SceneRaster(str(path), header, ModelBands.of(header, kind.contract, None, "a")).read

    return seen_by(read)


def claimed(path: Path) -> InputFile:
    """A TIFF without a place as a plan has it."""
    file = InputFile(str(path), "", path.name, path.stat().st_size, "7")
    found = ImageFormat().claim(file, Headers())
    assert found is not None
    return found


def as_image(path: Path, kind: Kind) -> Seen:
    """What `segment` gives to the model of a TIFF without a place."""
    model = kind.contract

    def read():
        if (misfit := encoded_misfit(model)) is not None:
            raise misfit
        content, limits = path.read_bytes(), model.value_range
        beside = mask_beside(claimed(path))
        options = {"value_range": limits, "beside": beside, "names": model.bands}
        return EncodedImage(content, len(model.bands), **options).read

    return seen_by(read)


def in_training(path: Path, kind: Kind) -> Seen:
    """What `train` gives to the model; its truth counts at the same pixels."""
    root = path.parent.parent
    write(root / "masks" / "a.png", png(np.full((*SIZE, 1), 4, np.uint8)))

    def read():
        (pair,) = read_folders([str(path.parent)], [str(root / "masks")], kind.source, None)

        def pixels(window: Window) -> Pixels:
            found = pair.pixels(window)
            counts = pair.truth(window) >= 0
            finite = np.ones(counts.shape, bool) if found.finite is None else found.finite
            np.testing.assert_array_equal(counts, finite)
            return found

        return pixels

    return seen_by(read)


def check_same(actual: Seen, expected: Seen, what: str) -> None:
    if isinstance(expected, FailureCode) or isinstance(actual, FailureCode):
        assert actual == expected, what
        return
    for (values, valid), (other, where) in zip(actual, expected, strict=True):
        assert values.dtype == other.dtype
        np.testing.assert_array_equal(valid, where, err_msg=what)
        # What a model gets where nodata is, is the fill value.
        np.testing.assert_array_equal(values[valid], other[valid], err_msg=what)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@settings(deadline=None, max_examples=examples(80))
@given(kind=KINDS)
@example(kind=Kind())
@example(kind=Kind(names=("blue", "green", "red")))
@example(kind=Kind(names=("nir", "red", "green")))
@example(kind=Kind(nodata=0.0, mask="alpha"))
@example(kind=Kind(nodata=0.0, model=("uint8", 1.0, 200.0)))
@example(kind=Kind(mask="beside", layout="tiled"))
@example(kind=Kind(mask="internal", nodata=0.0))
@example(kind=Kind(count=1, photometric="MINISWHITE", nodata=0.0, bands=("grey",)))
@example(kind=Kind(count=1, bits=1, photometric="MINISWHITE", bands=("grey",)))
@example(kind=Kind(count=1, bits=1, bands=("grey",)))
@example(kind=Kind(count=1, photometric="palette colours", nodata=2.0))
@example(kind=Kind(count=1, photometric="palette greys", bands=("grey",)))
@example(kind=Kind("uint16", photometric="MINISWHITE", model=("uint16", 0.0, 10000.0)))
@example(
    kind=Kind(
        "float32", nodata=-3.4e38, special=(-MAX, np.nan, np.inf), model=("float32", 0.0, 1.0)
    )
)
@example(kind=Kind(mask="alpha", bands=RGBA))
@example(kind=Kind(mask="alpha", nodata=0.0, bands=RGBA))
@example(kind=Kind("int16", nodata=3.0, scaled=True, model=("float32", 0.0, 1.0)))
def test_training_sees_what_segment_sees(tmp_path_factory, kind):
    kind = possible(kind)
    root = tmp_path_factory.mktemp("kind")
    scene = kind.write(root / "placed" / "images" / "a.tif", placed=True)
    if kind.vrt:
        # Training takes TIFFs alone; a VRT is what its file is.
        check_same(as_scene(scene, kind), as_scene(scene.with_suffix(".tif"), kind), "VRT")
    expected = as_scene(scene.with_suffix(".tif"), kind)
    scene.with_suffix(".vrt").unlink(missing_ok=True)
    check_same(in_training(scene.with_suffix(".tif"), kind), expected, "scene")

    plain = replace(kind, vrt=False).write(root / "plain" / "images" / "a.tif", placed=False)
    if encoded_misfit(kind.contract) is not None:
        # As `segment` does, where no decoder of images feeds the model.
        check_same(as_scene(plain, kind), expected, "scene without a place")
        check_same(in_training(plain, kind), expected, "training without a place")
        return
    image = as_image(plain, kind)
    check_same(in_training(plain, kind), image, "image")
    if is_alike(kind):
        check_same(image, expected, "image and scene")


def is_alike(kind: Kind) -> bool:
    """Whether a raster means the same with a place and without one.

    Image files are converted between grey and colours, and have their samples stretched to 8 bits.
    """
    bands = {kind.count + (kind.mask == "alpha" and kind.bands == RGBA)}
    if kind.photometric.startswith("palette"):
        bands = {3} if kind.photometric == "palette colours" else {1, 3}
    return kind.dtype == "uint8" and len(kind.bands) in bands and kind.bits in (0, 1)


def test_every_field_of_a_kind_is_varied():
    assert len(fields(Kind)) == 13


def test_the_version_of_an_image_changes_with_the_mask_beside_it(tmp_path):
    path = Kind(mask="beside").write(tmp_path / "a.tif", placed=False)
    assert claimed(path).version.startswith("7-")
    (tmp_path / "a.tif.msk").unlink()
    assert claimed(path).version == "7"

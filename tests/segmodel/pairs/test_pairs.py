"""Pairs in folders: found, named, grouped, and read by windows."""

from __future__ import annotations

import errno
import io
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
import rasterio
from affine import Affine
from PIL import Image

from segmodel.errors import ConfigurationError, InputError
from segmodel.images.encoded import decode_pixels
from segmodel.labels.classes import ClassTable, LabelClass
from segmodel.labels.confusion import IGNORED
from segmodel.labels.masks import MaskReader
from segmodel.pairs.paired_files import pair_files, unique_folder_names, unique_names
from segmodel.pairs.pairs import (
    EncodedFile,
    EncodedPair,
    PairCache,
    PairSource,
    RasterPair,
    errors_naming,
)
from segmodel.tiling.windows import Window
from tests.segmodel.folder_pairs import read_folders

CLASSES = ClassTable((LabelClass(4, "road", (9, 9, 9)), LabelClass(0, "water", (0, 0, 255))))
IDS = MaskReader.of(CLASSES, "id", ignore_ids=(255,))
RGB = PairSource(("red", "green", "blue"), "uint8", IDS)
UTM = {"crs": "EPSG:32633", "transform": Affine(10, 0, 300000, 0, -10, 6_000_000)}
ROAD, WATER = 0, 1


def write(path: Path, values, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values)).save(path, **options)
    return path


def geotiff(path: Path, values: np.ndarray, **options) -> Path:
    """`(bands, height, width)` as a file with a place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = values.shape
    shape = {"count": count, "height": height, "width": width, "dtype": values.dtype}
    descriptions = options.pop("descriptions", ())
    with rasterio.open(path, "w", driver="GTiff", **shape, **{**UTM, **options}) as target:
        target.write(values)
        for number, text in enumerate(descriptions, 1):
            target.set_band_description(number, text)
    return path


def touch(root: Path, *names: str) -> None:
    for name in names:
        write(root / name, np.zeros((2, 3), np.uint8))


def read(root: Path, source: PairSource = RGB, cache: PairCache | None = None):
    return read_folders([str(root / "images")], [str(root / "masks")], source, cache)


def whole(pair) -> Window:
    return Window(0, 0, pair.height, pair.width)


def found(root: Path, *folders: str, group: str = ""):
    images = [str(root / folder / "images") for folder in folders]
    masks = [str(root / folder / "masks") for folder in folders]
    return pair_files(images, masks, group)


def test_masks_are_found_by_the_path_without_suffix_and_side_files_are_left_out(tmp_path):
    touch(tmp_path, "images/a/1.PNG", "images/1.tif", "images/.hidden.png", "images/.t/1.png")
    touch(tmp_path, "masks/a/1.webp", "masks/1.png", "masks/unused.png")
    for name in ("1.tif.aux.xml", "1.tif.ovr", "1.tfw", "notes.txt"):
        (tmp_path / "images" / name).write_text("beside")

    actual = found(tmp_path, "")

    assert [(pair.name, Path(pair.mask).name) for pair in actual] == [
        ("1.tif", "1.png"),
        ("a/1.PNG", "1.webp"),
    ]


def test_masks_in_a_folder_of_the_images_are_no_images(tmp_path):
    touch(tmp_path, "a.png", "masks/a.png")
    (pair,) = pair_files([str(tmp_path)], [str(tmp_path / "masks")])
    assert pair.mask == str(tmp_path / "masks" / "a.png")


def test_names_of_several_folders_are_longer_only_where_they_must_be(tmp_path):
    touch(tmp_path, *(f"{tile}/{kind}/1.png" for tile in "ab" for kind in ("images", "masks")))
    touch(tmp_path, "c/images/2.png", "c/masks/2.png")
    assert [pair.name for pair in found(tmp_path, "a", "b")] == ["a/images/1.png", "b/images/1.png"]
    assert [pair.name for pair in found(tmp_path, "a", "c")] == ["1.png", "2.png"]


def test_names_of_unrelated_folders_have_no_more_of_their_paths_than_tells_them_apart(tmp_path):
    ours, theirs = "home/alice/x", "mnt/disk/y"
    touch(
        tmp_path, *(f"{at}/{kind}/1.png" for at in (ours, theirs) for kind in ("images", "masks"))
    )
    names = [pair.name for pair in found(tmp_path, ours, theirs)]
    assert names == ["x/images/1.png", "y/images/1.png"]


def test_a_folder_whose_path_ends_another_has_a_name_of_its_own():
    folders = ["/a/images", "/b/a/images"]
    assert unique_names([(folder, f"{folder}/1.png") for folder in folders]) == [
        "a/images/1.png",
        "b/a/images/1.png",
    ]
    assert unique_folder_names(folders) == ["a/images", "b/a/images"]


def test_groups_are_folders_or_what_the_expression_finds_in_the_path(tmp_path):
    touch(tmp_path, *(f"tile{n}/{kind}/1.png" for n in (1, 2) for kind in ("images", "masks")))
    assert [p.group for p in found(tmp_path, "tile1", "tile2")] == ["tile1/images", "tile2/images"]
    by_expression = found(tmp_path, "tile1", "tile2", group=r"tile(\d)/")
    assert [pair.group for pair in by_expression] == ["1", "2"]
    with pytest.raises(ConfigurationError, match=r"'x\(y\)' matches no part of .*1\.png"):
        found(tmp_path, "tile1", group="x(y)")


def test_images_without_mask_are_named(tmp_path):
    touch(tmp_path, *(f"images/{n:02d}.png" for n in range(13)), "masks/00.png")
    with pytest.raises(InputError, match=r"masks for .*/01\.png, .*/10\.png and 2 more: add"):
        found(tmp_path, "")


def test_two_images_of_one_stem_are_named(tmp_path):
    touch(tmp_path, "images/a.png", "images/a.tif", "masks/a.png")
    with pytest.raises(ConfigurationError, match=r"a\.png and .*a\.tif would have the same mask"):
        found(tmp_path, "")


def test_an_image_with_two_masks_is_named(tmp_path):
    touch(tmp_path, "images/a.png", "masks/a.png", "masks/a.tif")
    with pytest.raises(ConfigurationError, match=r"a\.png needs one mask, found .*png and .*tif"):
        found(tmp_path, "")


def test_a_folder_that_is_not_there_or_is_empty_is_named(tmp_path):
    touch(tmp_path, "masks/a.png")
    with pytest.raises(ConfigurationError, match="images is not a folder"):
        found(tmp_path, "")
    (tmp_path / "images").mkdir()
    with pytest.raises(ConfigurationError, match="images holds no image"):
        found(tmp_path, "")


def test_a_folder_that_cannot_be_listed_is_no_empty_one(tmp_path, monkeypatch):
    touch(tmp_path, "images/a.png", "images/closed/b.png", "masks/a.png")
    scandir = os.scandir

    def stale(path):
        if str(path).endswith("closed"):
            raise OSError(errno.ESTALE, "Stale file handle", str(path))
        return scandir(path)

    monkeypatch.setattr("os.scandir", stale)
    with pytest.raises(OSError, match="Stale file handle"):
        found(tmp_path, "")


@pytest.mark.parametrize("kept", [0, 1 << 20])
def test_encoded_pairs_are_decoded_as_segment_does(tmp_path, kept):
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (5, 7, 4)).astype(np.uint8)
    image[1, 2, 3], image[0, :, 3] = 0, 255
    path = write(tmp_path / "images" / "a.png", image)
    ids = random.choice(np.array([0, 4, 255], np.uint8), (5, 7))
    write(tmp_path / "masks" / "a.png", ids)
    (pair,) = read(tmp_path, RGB, PairCache(kept))
    expected = decode_pixels(path.read_bytes(), 3)

    assert (pair.height, pair.width) == (5, 7)
    window = Window(1, 2, 3, 4)
    actual = pair.pixels(window)
    np.testing.assert_array_equal(actual.values, expected.values[window.slices])
    np.testing.assert_array_equal(actual.valid, expected.valid[window.slices])
    indices = np.select([ids == 4, ids == 0], [ROAD, WATER], IGNORED)
    indices[~expected.valid] = IGNORED
    truth = pair.truth(window)
    np.testing.assert_array_equal(truth, indices[window.slices])
    assert truth.dtype == np.int16


def test_grey_of_16_bits_gives_its_high_byte(tmp_path):
    write(tmp_path / "images" / "a.png", np.array([[0x1234, 0xFF00]], np.uint16))
    write(tmp_path / "masks" / "a.png", np.zeros((1, 2), np.uint8))
    (pair,) = read(tmp_path, PairSource(("grey",), "uint8", IDS))
    assert pair.pixels(whole(pair)).values[..., 0].tolist() == [[0x12, 0xFF]]


def test_images_and_masks_are_turned_upright_each_by_its_own_word(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    write(tmp_path / "images" / "a.png", np.zeros((2, 3, 3), np.uint8), exif=exif)
    write(tmp_path / "masks" / "a.png", np.array([[4, 4], [0, 0], [0, 0]], np.uint8))
    (pair,) = read(tmp_path)
    assert (pair.height, pair.width) == (3, 2)
    assert pair.truth(whole(pair)).tolist() == [[ROAD, ROAD], [WATER, WATER], [WATER, WATER]]


def test_a_pair_is_decoded_once_while_it_is_kept(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / "images" / f"{name}.png", np.zeros((4, 4, 3), np.uint8))
        write(tmp_path / "masks" / f"{name}.png", np.zeros((4, 4), np.uint8))
    one = 4 * 4 * (3 + 1)
    for room, expected in ((2 * one, [False, False]), (2 * one - 1, [True, False])):
        cache = PairCache(room)
        pairs = read(tmp_path, RGB, cache)
        for pair in pairs:
            pair.pixels(whole(pair))
        assert [cache.get(pair) is None for pair in pairs] == expected


def test_the_pair_used_longest_ago_is_given_up_first():
    cache = PairCache(20)
    arrays = {name: (np.zeros(10, np.uint8), None) for name in "abc"}
    for name in "ab":
        cache.put(name, arrays[name])
    cache.get("a")
    cache.put("c", arrays["c"])
    assert [name for name in "abc" if cache.get(name)] == ["a", "c"]


def test_the_last_pair_is_kept_alone_where_it_is_larger_than_the_cache():
    cache = PairCache(20)
    cache.put("a", (np.zeros(10, np.uint8),))
    cache.put("large", (np.zeros(21, np.uint8),))
    assert [name for name in ("a", "large") if cache.get(name)] == ["large"]
    cache.put("b", (np.zeros(20, np.uint8),))
    assert [name for name in ("a", "large", "b") if cache.get(name)] == ["b"]


def test_threads_with_a_pair_each_decode_it_once_however_small_the_cache(tmp_path, monkeypatch):
    count, decoded = 4, []
    for number in range(count):
        write(tmp_path / "images" / f"{number}.png", np.zeros((8, 8, 3), np.uint8))
        write(tmp_path / "masks" / f"{number}.png", np.zeros((8, 8), np.uint8))
    decode = EncodedPair._decode
    monkeypatch.setattr(
        EncodedPair, "_decode", lambda pair: decoded.append(pair.name) or decode(pair)
    )
    together = Barrier(count)

    def by_windows(pair) -> None:
        for row in range(8):
            together.wait(10)
            pair.pixels(Window(row, 0, 1, 8))
            pair.truth(Window(row, 0, 1, 8))

    with ThreadPoolExecutor(count) as pool:
        list(pool.map(by_windows, read(tmp_path, RGB, PairCache(1))))
    assert sorted(decoded) == [f"{number}.png" for number in range(count)]


@pytest.mark.parametrize(
    ("dtype", "bands"), [("uint16", 10), ("float32", 4), ("int16", 3), ("uint8", 2), ("uint8", 3)]
)
def test_rasters_are_read_by_windows_whatever_their_bands(tmp_path, dtype, bands):
    values = np.random.default_rng(0).integers(0, 200, (bands, 40, 30)).astype(dtype)
    ids = np.random.default_rng(1).choice(np.array([0, 4, 255], np.uint8), (1, 40, 30))
    geotiff(tmp_path / "images" / "a.tif", values, tiled=True, blockxsize=16, blockysize=16)
    geotiff(tmp_path / "masks" / "a.tif", ids)
    source = PairSource(tuple(f"band {n}" for n in range(bands)), dtype, IDS)
    (pair,) = read(tmp_path, source)
    assert isinstance(pair, RasterPair)
    window = Window(7, 5, 20, 11)

    pixels, truth = pair.pixels(window), pair.truth(window)

    np.testing.assert_array_equal(pixels.values, np.moveaxis(values, 0, -1)[window.slices])
    assert (pixels.values.dtype, truth.dtype) == (np.dtype(dtype), np.int16)
    expected = np.select([ids[0] == 4, ids[0] == 0], [ROAD, WATER], IGNORED)
    np.testing.assert_array_equal(truth, expected[window.slices])
    assert pixels.valid is None


def test_a_tiff_without_place_is_a_photograph_where_those_feed_the_model(tmp_path):
    write(tmp_path / "images" / "a.tif", np.zeros((4, 5, 3), np.uint8))
    write(tmp_path / "masks" / "a.png", np.zeros((4, 5), np.uint8))
    assert isinstance(read(tmp_path)[0], EncodedPair)
    write(tmp_path / "images" / "a.tif", np.full((4, 5), 1000, np.uint16))
    (pair,) = read(tmp_path, PairSource(("grey",), "uint16", IDS))
    assert isinstance(pair, RasterPair)
    assert pair.pixels(whole(pair)).values.max() == 1000
    assert (pair.truth(whole(pair)) == WATER).all()


def test_images_feed_models_of_other_types_whose_range_is_one_of_bytes(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (6, 7, 3), np.uint8)
    write(tmp_path / "images" / "a.png", values)
    write(tmp_path / "images" / "b.tif", values)
    for name in "ab":
        write(tmp_path / "masks" / f"{name}.png", np.full((6, 7), 4, np.uint8))
    pairs = read(tmp_path, PairSource(RGB.bands, "float32", IDS, (0.0, 255.0)))
    assert [type(pair) for pair in pairs] == [EncodedPair, RasterPair]
    for pair in pairs:
        actual = pair.pixels(Window(1, 2, 4, 5)).values
        assert actual.dtype == np.float32
        np.testing.assert_array_equal(actual, values[1:5, 2:7])
    with pytest.raises(InputError, match=r"3 of float32 with model\.value_range 0 to 1: mend"):
        read(tmp_path, PairSource(RGB.bands, "float32", IDS, (0.0, 1.0)))


@pytest.mark.parametrize(
    ("suffix", "world"), [(".jpg", ".JGW"), (".png", ".wld"), (".webp", ".wpw")]
)
def test_an_image_with_a_world_file_is_read_as_the_scene_that_it_is(tmp_path, suffix, world):
    values = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    image = write(tmp_path / "images" / f"a{suffix}", values)
    write(tmp_path / "masks" / "a.png", np.full((16, 16), 4, np.uint8))
    (pair,) = read(tmp_path, PairSource(RGB.bands, RGB.dtype, IDS))
    assert isinstance(pair, EncodedPair)
    image.with_suffix(world).write_text("10\n0\n0\n-10\n300005\n5999995\n")
    (pair,) = read(tmp_path, PairSource(RGB.bands, RGB.dtype, IDS))
    assert isinstance(pair, RasterPair)
    with rasterio.open(image) as source:
        expected = np.moveaxis(source.read(), 0, -1)
    np.testing.assert_array_equal(pair.pixels(Window(0, 0, 16, 16)).values, expected)
    assert (pair.truth(Window(0, 0, 16, 16)) == ROAD).all()


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
@pytest.mark.parametrize("is_link", [False, True])
def test_an_image_whose_world_file_cannot_be_read_is_refused(tmp_path, suffix, is_link):
    image = write(tmp_path / "images" / f"a{suffix}", np.zeros((8, 8, 3), np.uint8))
    write(tmp_path / "masks" / "a.png", np.full((8, 8), 4, np.uint8))
    if is_link:
        image.with_suffix(".wld").symlink_to("gone")
    else:
        image.with_suffix(".wld").write_text("10\n0\n")
    with pytest.raises(InputError, match=r"a\.wld, which may say where") as caught:
        read(tmp_path, PairSource(RGB.bands, RGB.dtype, IDS))
    assert caught.value.code == "bad_georeference"


def test_an_image_with_a_world_file_that_is_shown_turned_is_refused(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    image = write(tmp_path / "images" / "a.jpg", np.zeros((8, 8, 3), np.uint8), exif=exif)
    image.with_suffix(".jgw").write_text("10\n0\n0\n-10\n300005\n5999995\n")
    write(tmp_path / "masks" / "a.png", np.full((8, 8), 4, np.uint8))
    with pytest.raises(InputError, match=r"a\.jpg: EXIF says that the image is shown turned"):
        read(tmp_path, PairSource(RGB.bands, RGB.dtype, IDS))


@pytest.mark.parametrize("mask", ["a.png", "a.tif"])
def test_nodata_of_a_raster_counts_nowhere(tmp_path, mask):
    values = np.full((2, 3, 4), 7, np.float32)
    values[:, 0, 0] = -9999
    values[0, 0, 1] = -9999
    values[1, 0, 2] = np.nan
    values[1, 0, 3] = np.inf
    geotiff(tmp_path / "images" / "a.tif", values, nodata=-9999)
    ids = np.zeros((3, 4), np.uint8)
    if mask == "a.png":
        write(tmp_path / "masks" / mask, ids)
    else:
        geotiff(tmp_path / "masks" / mask, ids[None])
    (pair,) = read(tmp_path, PairSource(("x", "y"), "float32", IDS, (0.0, 100.0)))

    for window in (whole(pair), Window(0, 0, 2, 4)):
        truth = pair.truth(window)
        assert truth[0].tolist() == [IGNORED] * 4
        assert (truth[1:] == WATER).all()
        assert pair.pixels(window).finite[0].tolist() == [False] * 4


def test_a_nodata_value_that_a_pixel_can_have_needs_all_bands(tmp_path):
    values = np.full((3, 2, 2), 9, np.uint8)
    values[:, 0, 0], values[0, 0, 1] = 0, 0
    geotiff(tmp_path / "images" / "a.tif", values, nodata=0)
    write(tmp_path / "masks" / "a.png", np.full((2, 2), 4, np.uint8))
    (pair,) = read(tmp_path)
    assert pair.truth(whole(pair)).tolist() == [[IGNORED, ROAD], [ROAD, ROAD]]


def test_alpha_of_a_raster_is_no_band_but_says_where_it_is_valid(tmp_path):
    values = np.full((4, 2, 2), 255, np.uint8)
    values[3, 0, 0] = 0
    geotiff(tmp_path / "images" / "a.tif", values, photometric="RGB", alpha="YES")
    write(tmp_path / "masks" / "a.png", np.full((2, 2), 4, np.uint8))
    (pair,) = read(tmp_path)
    assert pair.pixels(whole(pair)).values.shape == (2, 2, 3)
    assert pair.truth(whole(pair)).tolist() == [[IGNORED, ROAD], [ROAD, ROAD]]


def test_bands_are_taken_by_name_where_all_names_are_there_as_segment_does(tmp_path):
    values = np.stack([np.full((2, 2), n, np.uint16) for n in (1, 2, 3)])
    geotiff(tmp_path / "images" / "a.tif", values, descriptions=("NIR", "red", "swir"))
    write(tmp_path / "masks" / "a.png", np.full((2, 2), 4, np.uint8))
    for names, expected in ((("red", "nir"), [2, 1]), (("x", "y", "z"), [1, 2, 3])):
        (pair,) = read(tmp_path, PairSource(names, "uint16", IDS))
        assert pair.pixels(whole(pair)).values[0, 0].tolist() == expected


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (
            PairSource(("a", "b"), "uint16", IDS),
            r"a\.tif: bands: .* 2 \(a, b\), .* has 3; mend model",
        ),
        (
            PairSource(("a", "b", "c"), "float32", IDS, (0.0, 1.0)),
            r"a\.tif: .* samples of uint16, model.dtype .* -ot Float32 -scale LOW HIGH 0 1,",
        ),
        (
            PairSource(("a", "b", "c"), "uint8", IDS),
            r"a\.tif: .* samples of uint16, model.dtype .* -ot Byte -scale LOW HIGH 0 255,",
        ),
    ],
)
def test_a_raster_of_other_bands_or_samples_is_named_with_both(tmp_path, source, reason):
    geotiff(tmp_path / "images" / "a.tif", np.zeros((3, 2, 2), np.uint16))
    write(tmp_path / "masks" / "a.png", np.zeros((2, 2), np.uint8))
    with pytest.raises(InputError, match=reason):
        read(tmp_path, source)


def test_an_encoded_image_cannot_feed_a_model_of_16_bits(tmp_path):
    touch(tmp_path, "images/a.png", "masks/a.png")
    with pytest.raises(InputError, match=r"a\.png: an encoded image gives .* takes 1 of uint16"):
        read(tmp_path, PairSource(("grey",), "uint16", IDS, (0.0, 10_000.0)))


def test_a_raster_mask_of_another_size_is_named(tmp_path):
    geotiff(tmp_path / "images" / "a.tif", np.zeros((3, 2, 4), np.uint8))
    geotiff(tmp_path / "masks" / "a.tif", np.zeros((1, 4, 2), np.uint8))
    with pytest.raises(InputError, match=r"masks/a\.tif: the mask is 2x4, its image 4x2"):
        read(tmp_path)


def placed(root: Path, column: float = 0, row: float = 0, scale: float = 1, **options):
    """The pair of an image of 40 x 20 pixels and a mask that lies so far from it."""
    geotiff(root / "images" / "a.tif", np.zeros((3, 20, 40), np.uint8))
    side = 10 * scale
    moved = Affine(side, 0, 300000 + 10 * column, 0, -side, 6_000_000 - 10 * row)
    mask = {"transform": moved, **options}
    geotiff(root / "masks" / "a.tif", np.full((1, 20, 40), 4, np.uint8), **mask)
    return read(root)


@pytest.mark.parametrize(
    ("move", "found"),
    [
        ({"column": 1}, r"\+1\.0 columns and \+0\.0 rows"),
        ({"row": -0.5}, r"\+0\.0 columns and -0\.5 rows"),
        ({"scale": 1.25}, r"\+10\.0 columns and \+0\.0 rows"),
        ({"column": 0.11}, r"\+0\.1 columns"),
        ({"column": 3, "crs": None}, r"\+3\.0 columns"),
    ],
)
def test_a_mask_that_lies_elsewhere_is_refused_with_how_far(tmp_path, move, found):
    reason = rf"masks/a\.tif and .*images/a\.tif: the mask lies up to {found}.*gdalwarp.*-unsetgt"
    with pytest.raises(InputError, match=reason):
        placed(tmp_path, **move)


def test_a_mask_in_another_reference_system_is_refused_with_both(tmp_path):
    with pytest.raises(InputError, match=r"the mask is in EPSG:32632, its image in EPSG:32633: "):
        placed(tmp_path, crs="EPSG:32632")


@pytest.mark.parametrize(
    "move",
    [
        {"column": 0.09, "row": -0.09},
        {"scale": 1.002},
        {"crs": rasterio.CRS.from_epsg(32633).to_wkt(version="WKT1_ESRI")},
        {"crs": None},
        {"crs": None, "transform": Affine.identity()},
        {"crs": "EPSG:32632", "transform": Affine.identity()},
    ],
)
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_mask_that_lies_as_its_image_or_nowhere_is_taken(tmp_path, move):
    (pair,) = placed(tmp_path, **move)
    assert (pair.truth(whole(pair)) == ROAD).all()


def test_raster_masks_of_more_than_255_classes_and_of_colours_are_read(tmp_path):
    geotiff(tmp_path / "images" / "a.tif", np.zeros((3, 2, 2), np.uint8))
    wide = ClassTable(
        tuple(LabelClass(1000 + n, f"c{n}", (0, n >> 8, n & 255)) for n in range(300))
    )
    ids = np.array([[1000, 1299], [1256, 65535]])
    expected = [[0, 299], [256, IGNORED]]
    for dtype in ("uint16", "int32"):
        geotiff(tmp_path / "masks" / "a.tif", ids[None].astype(dtype), nodata=65535)
        (pair,) = read(tmp_path, PairSource(RGB.bands, "uint8", MaskReader.of(wide, "id")))
        assert pair.truth(whole(pair)).tolist() == expected
    colors = np.array([[(0, 0, 0), (0, 1, 43)], [(0, 1, 0), (9, 9, 9)]], np.uint8)
    geotiff(tmp_path / "masks" / "a.tif", np.moveaxis(colors, -1, 0))
    reader = MaskReader.of(wide, "color", ignore_colors=("#090909",))
    (pair,) = read(tmp_path, PairSource(RGB.bands, "uint8", reader))
    assert pair.truth(whole(pair)).tolist() == expected


@pytest.mark.parametrize(
    ("values", "encoding", "reason"),
    [
        (np.full((1, 2, 2), 7, np.uint8), "id", "mask has id 7, which is neither"),
        (np.zeros((2, 2, 2), np.uint8), "id", "a mask of ids has one band, got 2"),
        (np.zeros((1, 2, 2), np.uint16), "color", "16 bits a sample, colours have 8"),
        (np.zeros((2, 2, 2), np.uint8), "color", "three bands or a palette, got 2"),
        (np.zeros((1, 2, 2), np.float32), "id", "whole numbers, got samples of float32"),
        (np.zeros((1, 2, 2), np.uint8), "palette", "no indexed image"),
    ],
)
def test_a_raster_that_is_no_mask_is_named_with_why(tmp_path, values, encoding, reason):
    geotiff(tmp_path / "images" / "a.tif", np.zeros((3, 2, 2), np.uint8))
    geotiff(tmp_path / "masks" / "a.tif", values)
    source = PairSource(RGB.bands, "uint8", MaskReader.of(CLASSES, encoding))
    with pytest.raises(InputError, match=rf"masks/a\.tif: .*{reason}"):
        read(tmp_path, source)[0].truth(Window(0, 0, 2, 2))


def test_a_raster_that_is_cut_off_is_named(tmp_path):
    random = np.random.default_rng(0).integers(0, 255, (3, 64, 64)).astype(np.uint8)
    path = geotiff(tmp_path / "images" / "a.tif", random)
    path.write_bytes(path.read_bytes()[:-5000])
    write(tmp_path / "masks" / "a.png", np.zeros((64, 64), np.uint8))
    with pytest.raises(InputError, match=r"images/a\.tif: "):
        read(tmp_path)[0].pixels(Window(0, 0, 64, 64))


def test_a_file_that_vanishes_is_named(tmp_path):
    touch(tmp_path, "images/a.png", "masks/a.png")
    (pair,) = read(tmp_path)
    (tmp_path / "images" / "a.png").unlink()
    with pytest.raises(InputError, match=r"a\.png: No such file"):
        pair.pixels(Window(0, 0, 1, 1))


def test_bytes_of_a_pair_may_come_from_anywhere():
    buffer = io.BytesIO()
    Image.fromarray(np.full((1, 1, 3), 8, np.uint8)).save(buffer, "PNG")
    labels = MaskReader.of_label_maps(CLASSES)
    mask = EncodedFile("m", lambda: labels.encode(np.full((1, 1), 4, np.uint8)))
    source = PairSource(RGB.bands, "uint8", labels)
    pair = EncodedPair("shard.tar#3 a", "g", EncodedFile("i", buffer.getvalue), mask, source)
    assert pair.truth(whole(pair)).tolist() == [[ROAD]]
    assert pair.pixels(whole(pair)).values.tolist() == [[[8, 8, 8]]]


def test_a_mask_that_a_mount_does_not_give_at_the_moment_is_no_fault_of_the_mask():
    with pytest.raises(OSError, match="Stale file handle"), errors_naming("a.png"):
        raise OSError(errno.ESTALE, "Stale file handle")
    with pytest.raises(InputError, match=r"a\.png: Permission denied"), errors_naming("a.png"):
        raise PermissionError(errno.EACCES, "Permission denied")

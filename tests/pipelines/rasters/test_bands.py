"""Bands of scenes: which a model gets, as what values, and where they are nodata."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from affine import Affine

from segmodel.errors import ContractError
from segmodel.rasters.bands import ModelBands
from segmodel.rasters.grid import Grid
from segmodel.rasters.header import Band, Header
from tests.fakes import contract

RGBN = ("red", "green", "blue", "nir")
COLORS = ((0, 0, 0, 0), (200, 10, 10, 255), (10, 200, 10, 255))


def band(index: int, description="", color="", dtype="uint8", nodata=None, scale=1.0, offset=0.0):
    return Band(index, dtype, description, nodata, scale, offset, color)


def header(*bands: Band, mask="none", alpha=None, palette=None) -> Header:
    grid = Grid(4, 5, Affine.identity(), None)
    return Header(grid, bands, mask, alpha, palette, (4, 5), None, None, ())


def named(*names: str, **fields) -> Header:
    return header(*(band(n, name, **fields) for n, name in enumerate(names, 1)))


def taken(scene: Header, wanted=None, **fields) -> ModelBands:
    return ModelBands.of(scene, contract(**fields), wanted, "in/a.tif")


def one_band(**fields) -> dict:
    return {"bands": ("grey",), "nodata_fill": (0.0,)} | fields


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (("4", "3", "2"), [4, 3, 2]),
        (("nir", "red", "green"), [4, 1, 2]),
        (("NIR", "Red", "2"), [4, 1, 2]),
        (("1", "red", "1"), [1, 1, 1]),
    ],
)
def test_bands_are_those_of_the_numbers_and_names_in_their_order(wanted, expected):
    assert taken(named(*RGBN), wanted).indexes == expected


def test_a_colour_is_a_name_like_a_description():
    scene = header(band(1, "b02", "blue"), band(2, "b03", "green"), band(3, "b04", "red"))
    assert taken(scene, ("red", "green", "blue")).indexes == [3, 2, 1]
    assert taken(scene, ("b04", "green", "b02")).indexes == [3, 2, 1]


def test_the_names_of_the_contract_choose_among_more_bands():
    assert taken(named(*RGBN)).indexes == [1, 2, 3]
    assert taken(named("nir", "blue", "green", "red")).indexes == [4, 3, 2]


def test_a_file_of_reordered_bands_is_put_in_order():
    assert taken(named("blue", "green", "red")).indexes == [3, 2, 1]


@pytest.mark.parametrize("names", [("a", "b", "c"), ("red", "", ""), ("red", "green", "band 3")])
def test_where_no_name_contradicts_it_bands_are_those_of_the_file_in_its_order(names):
    assert taken(named(*names)).indexes == [1, 2, 3]


@pytest.mark.parametrize(
    ("names", "wrong"),
    [
        (("nir", "red", "green"), "no band blue"),
        (("blue", "green", "x"), "no band red"),
        (("red", "green", "nir"), "no band blue"),
        (("", "", "red"), "no band green, blue"),
        (("red", "red", "blue"), "no band green"),
        (("red", "green", "blue", "red"), "several bands red"),
    ],
)
def test_names_that_contradict_the_order_are_refused_with_the_option_that_chooses(names, wrong):
    message = rf"red, green, blue; the input has {wrong}, but .*--bands: the scene has 1.*2.*3"
    with pytest.raises(ContractError, match=message):
        taken(named(*names))


def test_colours_in_the_places_that_gdal_gives_to_any_bands_do_not_contradict_the_order():
    scene = header(band(1, color="red"), band(2, color="green"), band(3, color="blue"))
    assert taken(scene, bands=("nir", "red", "green")).indexes == [1, 2, 3]
    assert taken(scene).indexes == [1, 2, 3]


def test_colours_are_taken_where_the_model_knows_no_description():
    colors = ("red", "green", "blue", "")
    scene = header(
        *(
            replace(band(n, f"sentinel {color}", color), is_color_invented=True)
            for n, color in enumerate(colors, 1)
        )
    )
    assert taken(scene).indexes == [1, 2, 3]
    with pytest.raises(ContractError, match=r"no band of that name; .*1 \(sentinel red\)"):
        taken(scene, ("red", "2", "3"))


def test_alpha_is_a_band_for_who_asks_for_it():
    alpha = band(4, color="alpha")
    scene = replace(named("red", "green", "blue"), alpha=4, alpha_band=alpha, mask="alpha")
    model = {"bands": ("red", "green", "blue", "alpha"), "nodata_fill": (0.0,) * 4}
    found = taken(scene, **model)
    assert (found.indexes, found.mask, found.alpha) == ([1, 2, 3, 4], "none", None)
    assert taken(scene, ("1", "2", "4")).indexes == [1, 2, 4]
    assert (taken(scene).indexes, taken(scene).mask) == ([1, 2, 3], "alpha")
    with pytest.raises(ContractError, match=r"the scene has .*4 \(alpha\)"):
        taken(scene, bands=("a", "b", "c", "d"), nodata_fill=(0.0,) * 4)


def test_colours_that_the_file_states_contradict_the_order():
    scene = header(band(1), band(2, color="red"), band(3, color="green"))
    with pytest.raises(ContractError, match="no band blue"):
        taken(scene)
    assert taken(scene, bands=("nir", "red", "green")).indexes == [1, 2, 3]


def test_numbers_of_bands_skip_alpha_in_the_middle():
    scene = header(band(1), band(3), band(4), alpha=2, mask="alpha")
    bands = taken(scene)
    assert (bands.indexes, bands.alpha, bands.mask) == ([1, 3, 4], 2, "alpha")
    assert taken(scene, ("4", "3", "1")).indexes == [4, 3, 1]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("swir", r"^in/a.tif: --bands swir: no band of that name; the scene has 1 \(red\), 2"),
        ("9", r"^in/a.tif: --bands 9: no band of that number; the scene has 1 \(red\), 2"),
        ("0", "no band of that number"),
    ],
)
def test_a_band_that_is_not_there_is_refused_with_those_that_are(wanted, message):
    with pytest.raises(ContractError, match=message):
        taken(named(*RGBN), (wanted, "1", "2"))


def test_a_name_of_two_bands_is_refused():
    with pytest.raises(ContractError, match="more than one band of that name"):
        taken(named("red", "red", "blue"), ("red", "2", "3"))


@pytest.mark.parametrize("count", [1, 2, 4])
def test_another_number_of_bands_is_refused_with_the_option_that_chooses(count):
    scene = header(*(band(number) for number in range(1, count + 1)))
    with pytest.raises(ContractError, match=rf"bands: the model takes 3 .*has {count}; .*--bands"):
        taken(scene)


@pytest.mark.parametrize("dtype", ["complex_int16", "complex64", "complex128"])
@pytest.mark.parametrize("model", ["uint8", "float32"])
def test_complex_samples_are_refused(dtype, model):
    scene = named("red", "green", "blue", dtype=dtype, scale=2.0)
    with pytest.raises(
        ContractError, match=f"dtype: the model takes {model}, the input is {dtype}"
    ):
        taken(scene, dtype=model)


def test_one_band_of_another_dtype_is_refused_whichever_it_is():
    for other in range(3):
        bands = [band(n, dtype="uint16" if n == other else "uint8") for n in range(3)]
        with pytest.raises(
            ContractError, match="dtype: the model takes uint8, the input is uint16"
        ):
            taken(header(*bands))


def test_scaled_samples_are_the_values_that_they_stand_for_to_a_model_of_floats():
    scene = header(
        band(1, dtype="uint16", scale=0.5, offset=-1.0),
        band(2, dtype="uint16", scale=2.0),
        band(3, dtype="uint16"),
    )
    bands = taken(scene, dtype="float32")
    samples = np.array([[[4, 5, 6]]], np.uint16)
    actual = bands.values(samples)
    assert actual.dtype == np.float32
    assert actual.tolist() == [[[1.0, 10.0, 6.0]]]


def test_scaled_samples_are_taken_as_they_are_by_a_model_of_integers():
    scene = named("red", "green", "blue", dtype="uint16", scale=1e-4, offset=-0.1)
    bands = taken(scene, dtype="uint16", value_range=(0.0, 10000.0))
    samples = np.array([[[4, 5, 6]]], np.uint16)
    assert bands.values(samples) is samples


def test_integers_that_stand_for_themselves_are_floats_only_to_a_model_of_such_numbers():
    scene = named("red", "green", "blue", dtype="uint16")
    reason = "dtype: the model takes float32, the input is uint16; .* -scale LOW HIGH 0 1,"
    with pytest.raises(ContractError, match=reason):
        taken(scene, dtype="float32", value_range=(0.0, 1.0))
    bands = taken(scene, dtype="float32", value_range=(0.0, 10_000.0))
    samples = np.array([[[0, 7, 65535]]], np.uint16)
    assert bands.values(samples).dtype == np.float32
    assert bands.values(samples).tolist() == samples.tolist()


def test_float64_is_rounded_to_float32_and_what_is_beyond_is_infinite():
    scene = named("red", "green", "blue", dtype="float64", nodata=-1.7976931348623157e308)
    bands = taken(replace(scene, mask="values"), dtype="float32", value_range=(0.0, 1.0))
    lowest = -1.7976931348623157e308
    samples = np.array([[[0.1, 0.5, 1e300], [0.1, lowest, 0.5]]])
    assert bands.read_dtype == np.float64
    assert bands.values(samples)[0, 0].tolist() == [float(np.float32(0.1)), 0.5, np.inf]
    assert bands.valid_by_values(samples).tolist() == [[True, False]]


def test_bands_of_several_types_become_that_of_the_model():
    scene = header(band(1, dtype="uint8"), band(2, dtype="int16"), band(3, dtype="float64"))
    bands = taken(scene, dtype="float32", value_range=(0.0, 255.0))
    assert bands.values(np.zeros((1, 1, 3))).dtype == np.float32
    with pytest.raises(ContractError, match="the input is uint8; "):
        taken(scene, dtype="float32", value_range=(0.0, 256.0))


def test_a_palette_gives_three_bands_of_colours():
    bands = taken(header(band(1), palette=COLORS))
    samples = np.array([[[2], [1], [0], [9]]], np.uint8)
    assert bands.values(samples).tolist() == [[[10, 200, 10], [200, 10, 10], [0, 0, 0], [0, 0, 0]]]
    assert bands.valid_by_values(samples).tolist() == [[True, True, False, False]]


def test_a_palette_without_transparency_is_valid_everywhere():
    samples = np.array([[[2], [1]]], np.uint8)
    assert taken(header(band(1), palette=COLORS)).valid_by_values(samples) is None


def test_a_nodata_value_beside_a_palette_is_nodata():
    bands = taken(header(band(1, nodata=1), palette=COLORS, mask="values"))
    samples = np.array([[[2], [1], [0]]], np.uint8)
    assert bands.valid_by_values(samples).tolist() == [[True, False, False]]


GREYS = ((255, 255, 255, 255), (9, 9, 9, 255))


@pytest.mark.parametrize(
    ("palette", "bands", "remedy"),
    [
        (COLORS, 1, "gdal_translate -expand rgb, and choose"),
        (GREYS, 2, "gdal_translate -expand rgb, and choose"),
        (COLORS, 4, "give it a file that has the others too"),
    ],
)
def test_numbers_of_colours_are_refused_with_what_keeps_their_meaning(palette, bands, remedy):
    fields = {"bands": tuple("abcd"[:bands]), "nodata_fill": (0.0,) * bands}
    reason = f"^in/a.tif: bands: its values are numbers of colours, .* takes {bands} .*{remedy}"
    with pytest.raises(ContractError, match=reason):
        taken(header(band(1), palette=palette), **fields)


def missing(nodata, samples, **fields) -> list[bool]:
    """Where pixels of three bands are nodata."""
    dtype = samples.dtype.name
    bands = (band(number, dtype=dtype, nodata=nodata) for number in (1, 2, 3))
    found = taken(header(*bands, mask="values"), dtype=dtype, **fields).valid_by_values(samples)
    return [False] * samples.shape[1] if found is None else (~found[0]).tolist()


def test_a_nodata_value_that_pixels_can_have_needs_all_bands():
    samples = np.array([[[0, 0, 0], [0, 0, 1], [5, 0, 0], [1, 2, 3]]], np.uint8)
    assert missing(0, samples) == [True, False, False, False]
    samples = np.array([[[255, 255, 255], [255, 255, 254]]], np.uint8)
    assert missing(255, samples) == [True, False]


def test_a_nodata_value_that_no_pixel_has_needs_one_band():
    samples = np.array([[[-9999] * 3, [5, -9999, 5], [1, 2, 3], [-9998, 0, 0]]], np.int16)
    assert missing(-9999, samples, value_range=(0.0, 255.0)) == [True, True, False, False]


@pytest.mark.parametrize(("high", "expected"), [(9998.0, True), (9999.0, False)])
def test_the_ends_of_the_range_are_values_that_pixels_can_have(high, expected):
    samples = np.array([[[9999, 1, 1], [2, 2, 2]]], np.int16)
    assert missing(9999, samples, value_range=(0.0, high)) == [expected, False]


def test_a_number_that_is_none_is_nodata_in_any_band():
    samples = np.array([[[np.nan] * 3, [1, np.nan, 2], [1, 2, 3]]], np.float32)
    assert missing(np.nan, samples) == [True, True, False]


@pytest.mark.parametrize("nodata", [-1, 256, -0.5, 1e30, -np.inf, np.nan])
def test_a_nodata_value_that_the_dtype_does_not_hold_is_nowhere(nodata):
    samples = np.array([[[0, 0, 0], [255, 255, 255], [1, 1, 1]]], np.uint8)
    assert missing(nodata, samples) == [False] * 3


def test_a_nodata_value_of_a_float_is_met_as_the_dtype_rounds_it():
    lowest = -3.4028234663852886e38
    samples = np.array([[[np.finfo(np.float32).min] * 3, [0.1] * 3]], np.float32)
    assert missing(lowest, samples) == [True, False]
    assert missing(0.1, samples) == [False, True]


def test_whether_nodata_is_in_the_range_is_asked_of_what_it_stands_for():
    samples = np.array([[[0, 5, 5], [5, 5, 5]]], np.uint16)
    for offset, expected in ((-0.1, False), (0.1, None)):
        bands = (
            band(number, dtype="uint16", nodata=0, scale=1e-4, offset=offset)
            for number in (1, 2, 3)
        )
        found = taken(header(*bands, mask="values"), dtype="float32", value_range=(0.0, 1.0))
        valid = found.valid_by_values(samples)
        assert (None if valid is None else bool(valid[0, 0])) == expected


def test_a_band_without_nodata_is_never_nodata_where_all_are_needed():
    scene = header(band(1, nodata=0), band(2, nodata=0), band(3), mask="values")
    assert taken(scene).valid_by_values(np.zeros((1, 1, 3), np.uint8)) is None


def test_values_are_not_asked_where_a_mask_says_what_is_nodata():
    for mask in ("none", "mask", "alpha", "bands"):
        scene = header(*(band(n, nodata=0) for n in (1, 2, 3)), mask=mask)
        assert taken(scene).valid_by_values(np.zeros((1, 1, 3), np.uint8)) is None


def test_samples_of_different_dtypes_are_read_as_one_that_holds_all():
    bands = (band(1, dtype="uint8", scale=2.0), band(2, dtype="int16"), band(3, dtype="uint8"))
    found = taken(header(*bands), dtype="float32")
    assert found.read_dtype == np.int16

"""The model contract: its JSON form, what it refuses, its fingerprint."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest

from segmodel.errors import ConfigurationError, ContractError
from segmodel.labels.classes import ClassTable, LabelClass
from segmodel.savedmodel.contract import Contract, MeasuredCompute, MeasuredHalo
from segmodel.savedmodel.folder import CONTRACT_FILE, fingerprint, read_contract, write_contract
from segmodel.tiling.borders import BorderCurve
from tests.fakes import contract

BFLOAT16 = MeasuredCompute("bfloat16", 4000, 0.99, {"dark": -0.0025, "grey": 0.01, "bright": None})


def through_json(given: Contract) -> Contract:
    return Contract.from_json(json.loads(json.dumps(given.to_json())))


def document(**changes) -> dict:
    return json.loads(json.dumps(contract().to_json())) | changes


@pytest.fixture
def savedmodel(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "saved_model.pb").write_bytes(b"graph")
    return folder


def test_the_sparsest_contract_comes_back_from_json():
    given = contract(receptive_field=None, halo=MeasuredHalo(0, 512, None))
    assert through_json(given) == given


def test_the_fullest_contract_comes_back_from_json():
    given = contract(
        bands=("nir", "red"),
        dtype="float32",
        value_range=(-1.5, 2.5),
        nodata_fill=(0.25, -0.5),
        fixed_window=256,
        gsd_range_m=(0.1, 0.25),
        bytes_per_pixel=321,
        parameters=12345,
        training_data={"about": "coast", "images": 4},
        metrics={"mean_iou": 0.75, "iou": {"dark": None, "bright": 1.0}},
        versions={"tensorflow": "2.21.0"},
        computing=(BFLOAT16,),
    )
    assert through_json(given) == given


def test_contracts_without_compared_compute_types_are_as_they_were():
    assert "computing" not in contract().to_json()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"equal_labels": 1.5}, r"equal_labels must be in \[0, 1\], got 1.5"),
        ({"equal_labels": float("nan")}, r"equal_labels must be in \[0, 1\], got nan"),
        ({"equal_labels": True}, "computing.equal_labels: must be a number, got True"),
        ({"compute": 7}, "computing.compute: must be a text, got 7"),
        ({"pixels": 1.5}, "computing.pixels: must be a whole number, got 1.5"),
        ({"class_changes": {"dark": "much"}}, "dark: must be a number, got 'much'"),
        ({"class_changes": []}, "computing.class_changes: must be an object"),
        ({"more": 1}, "the contract is malformed"),
    ],
)
def test_malformed_compared_compute_types_are_refused(change, says):
    entry = dataclasses.asdict(BFLOAT16) | change
    with pytest.raises(ContractError, match=says):
        Contract.from_json(document(computing=[entry]))


def test_float32_and_what_keeps_99_percent_of_labels_are_offered():
    made = contract(computing=(BFLOAT16,))
    made.check_compute("float32")
    made.check_compute("bfloat16")
    contract().check_compute("tf32")


def test_tf32_that_changes_too_many_labels_is_refused():
    made = contract(computing=(dataclasses.replace(BFLOAT16, compute="tf32", equal_labels=0.9),))
    with pytest.raises(ContractError, match=r"of this model 90.00 % are: leave --compute out"):
        made.check_compute("tf32")


def test_the_class_that_changes_most_is_named():
    assert BFLOAT16.largest_change == ("grey", 0.01)
    assert dataclasses.replace(BFLOAT16, class_changes={"bright": None}).largest_change is None


def test_ids_names_and_colours_come_back_in_their_order():
    classes = ClassTable(
        (
            LabelClass(300, "a", (1, 2, 3)),
            LabelClass(0, "b", (255, 0, 9)),
            LabelClass(7, "ä", (0, 0, 0)),
        )
    )
    actual = through_json(contract(classes=classes)).classes
    assert actual == classes


@pytest.mark.parametrize(("greatest", "expected"), [(254, "uint8"), (255, "uint16")])
def test_the_label_type_in_the_file_is_uint16_from_id_255_on(greatest, expected):
    classes = ClassTable((LabelClass(greatest, "a", (0, 0, 0)),))
    output = contract(classes=classes).to_json()["mlm:output"][0]
    assert output["result"]["data_type"] == expected


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"bands": ()}, "^bands:"),
        ({"dtype": "float64"}, "^dtype:.*'float64'"),
        ({"nodata_fill": (0.0,)}, "^nodata_fill:.*3 bands, got 1"),
        ({"nodata_fill": (0.0, float("nan"), 0.0)}, "^nodata_fill:.*NaN"),
        ({"nodata_fill": (0.0, 0.0, float("inf"))}, "^nodata_fill:"),
        ({"stride": 0}, "^stride:.*got 0"),
    ],
)
def test_an_impossible_field_is_refused_by_its_name(changes, names):
    with pytest.raises(ContractError, match=names):
        contract(**changes)


@pytest.mark.parametrize("value", [-9999.0, -1.0, 256.0])
def test_a_fill_that_the_dtype_cannot_hold_is_refused(value):
    with pytest.raises(ContractError, match="nodata_fill"):
        contract(nodata_fill=(value, 0.0, 0.0))


@pytest.mark.parametrize(
    ("dtype", "given", "expected"),
    [("uint8", (0.4, 127.5, 255.0), [0, 128, 255]), ("float32", (0.25, -1.0, 7.0), [0.25, -1, 7])],
)
def test_the_fill_has_the_dtype_of_the_input(dtype, given, expected):
    actual = contract(dtype=dtype, nodata_fill=given).fill
    assert actual.dtype == np.dtype(dtype)
    assert actual.tolist() == expected


def test_an_input_that_fits_is_accepted():
    contract().check_input(3, "uint8", "a.tif")


@pytest.mark.parametrize("bands", [0, 1, 2, 4])
def test_another_number_of_bands_is_refused_by_field_and_input(bands):
    with pytest.raises(ContractError, match=f"^a.tif: bands: .*takes 3 .*input has {bands}"):
        contract().check_input(bands, "uint8", "a.tif")


@pytest.mark.parametrize("dtype", ["uint16", "float32", "int8"])
def test_another_dtype_is_refused_by_field_and_input(dtype):
    expected = f"^a.tif: dtype: .*takes uint8, the input is {dtype}; convert it with"
    with pytest.raises(ContractError, match=expected):
        contract().check_input(3, dtype, "a.tif")


def test_samples_that_the_dtype_of_the_model_holds_are_accepted():
    wide = contract(dtype="float32", value_range=(0.0, 255.0))
    for dtype in ("uint8", "int16", "uint16", "int32", "float16", "float32", "float64"):
        wide.check_input(3, dtype, "a.tif")


@pytest.mark.parametrize("sides", [(0.5, 0.5), (0.75, 0.6), (0.5, 1.0), (1.0, 1.0)])
def test_a_ground_sample_distance_in_the_range_is_accepted(sides):
    contract(gsd_range_m=(0.5, 1.0)).check_gsd(*sides, "a.tif")


@pytest.mark.parametrize(
    "sides", [(0.0, 0.0), (0.499, 0.499), (1.001, 1.001), (0.499, 1.0), (0.5, 1.001), (1.0, 0.25)]
)
def test_a_ground_sample_distance_of_which_a_side_is_outside_the_range_is_refused(sides):
    message = rf"^a.tif: gsd_range_m: .*0\.5 to 1 m a pixel, .* {sides[0]:g} x {sides[1]:g} m"
    with pytest.raises(ContractError, match=message):
        contract(gsd_range_m=(0.5, 1.0)).check_gsd(*sides, "a.tif")


def test_a_side_that_is_barely_outside_the_range_is_not_rounded_into_it():
    message = r"8 to 12 m a pixel, the input has 12\.004 x 11\.99 m"
    with pytest.raises(ContractError, match=message):
        contract(gsd_range_m=(8.0, 12.0)).check_gsd(12.0040001, 11.99, "a.tif")


def test_without_a_range_any_ground_sample_distance_is_accepted():
    contract().check_gsd(1e9, 1.0, "a.tif")


def test_the_layout_takes_the_recommended_halo_unless_another_is_given():
    model = contract(halo=MeasuredHalo(96, 512, 0.9995))
    assert model.layout(1024).halo_px == 96
    assert model.layout(1024, halo=0, batch=4).halo_px == 0
    assert model.layout(1024, halo=0, batch=4).batch == 4


CURVE = BorderCurve(32, (0.1, 0.008, 0.0005, 0.0))


def test_the_layout_takes_the_halo_that_its_window_needs():
    model = contract(halo=MeasuredHalo(64, 512, 0.9995, CURVE))
    assert [model.layout(side).halo_px for side in (512, 4096)] == [64, 32]
    assert model.layout(4096, halo=96).halo_px == 96


def test_a_curve_is_kept_and_one_that_is_not_there_leaves_no_trace():
    plain, curved = MeasuredHalo(64, 512, 0.9995), MeasuredHalo(64, 512, 0.9995, CURVE)
    entry = {"pixels": 64, "window_px": 512, "equal_labels": 0.9995}
    assert contract(halo=plain).to_json()["halo"] == entry
    found = json.loads(json.dumps(contract(halo=curved).to_json()))
    assert found["halo"] == entry | {
        "curve": {"step_px": 32, "unequal_labels": [0.1, 0.008, 0.0005, 0.0]}
    }
    assert Contract.from_json(found).halo == curved


@pytest.mark.parametrize(
    ("curve", "says"),
    [
        (3, "halo.curve: must be an object, got 3"),
        ({"unequal_labels": [0.1]}, "step_px: missing"),
        ({"step_px": 8.5, "unequal_labels": [0.1]}, "halo.curve.step_px: must be a whole number"),
        ({"step_px": 8, "unequal_labels": ["a"]}, r"halo.curve.unequal_labels\[0\]: must be a num"),
        ({"step_px": 8, "unequal_labels": [0.1, 1.5]}, r"halo.curve: shares must be in \[0, 1\]"),
        (
            {"step_px": 8, "unequal_labels": []},
            "halo.curve: needs a step of at least 1 and a",
        ),
        ({"step_px": 0, "unequal_labels": [0.1]}, "halo.curve: needs a step of at least 1"),
        ({"step_px": 8, "unequal_labels": 1}, "the contract is malformed"),
    ],
)
def test_a_curve_that_cannot_be_is_refused(curve, says):
    entry = {"pixels": 64, "window_px": 512, "equal_labels": 0.9995, "curve": curve}
    with pytest.raises(ContractError, match=f"^{says}"):
        Contract.from_json(document(halo=entry))


def test_the_layout_of_a_fixed_window_keeps_the_window():
    layout = contract(fixed_window=256, halo=MeasuredHalo(32, 256, None)).layout(1024)
    assert (layout.window_px, layout.halo_px, layout.read_px) == (192, 32, 256)


def test_a_halo_that_fills_the_fixed_window_is_refused():
    with pytest.raises(ConfigurationError):
        contract(fixed_window=256).layout(64, halo=128)


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_an_unknown_format_version_is_refused(version):
    with pytest.raises(
        ContractError, match=f"^format_version: .*reads 1, the model has {version!r}"
    ):
        Contract.from_json(document(format_version=version))


@pytest.mark.parametrize("field", ["mlm:name", "mlm:input", "mlm:output", "halo", "stride"])
def test_a_missing_field_is_named(field):
    broken = document()
    del broken[field]
    with pytest.raises(ContractError, match=f"^{field}: missing"):
        Contract.from_json(broken)


@pytest.mark.parametrize(
    "changes",
    [
        {"mlm:input": []},
        {"mlm:input": None},
        {"gsd_range_m": [1.0]},
    ],
)
def test_a_malformed_field_is_a_contract_error(changes):
    with pytest.raises(ContractError, match=r"the contract is malformed.*: export the model again"):
        Contract.from_json(document(**changes))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"halo": 3}, "halo: must be an object, got 3"),
        ({"stride": "32"}, "stride: must be a whole number, got '32'"),
        ({"gsd_range_m": ["1", 2.0]}, r"gsd_range_m\[0\]: must be a number, got '1'"),
        ({"fixed_window": "64"}, "fixed_window: must be a whole number, got '64'"),
    ],
)
def test_a_field_of_another_type_is_named_before_it_is_compared(changes, says):
    with pytest.raises(ContractError, match=f"^{says}$"):
        Contract.from_json(document(**changes))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"mlm:name": 7}, "name: must be a text, got 7"),
        ({"mlm:total_parameters": "many"}, "parameters: must be a whole number, got 'many'"),
        ({"receptive_field": 1.5}, "receptive_field: must be a whole number, got 1.5"),
        ({"stride": True}, "stride: must be a whole number, got True"),
        ({"training_data": []}, r"training_data: must be an object, got \[\]"),
        ({"metrics": None}, "metrics: must be an object, got None"),
        ({"metrics": {"iou": 1}}, r"metrics\.iou: must be an object, got 1"),
        ({"metrics": {"iou": {"dark": "all"}}}, "dark: must be a number, got 'all'"),
        ({"metrics": {"mean_iou": "good"}}, "mean_iou: must be a number, got 'good'"),
        ({"package_versions": 3}, "versions: must be an object, got 3"),
        (
            {"halo": {"pixels": 8, "window_px": 64, "equal_labels": "all"}},
            r"halo\.equal_labels: must be a number, got 'all'",
        ),
    ],
)
def test_a_field_of_another_type_is_a_contract_error(changes, says):
    with pytest.raises(ContractError, match=f"^{says}$"):
        Contract.from_json(document(**changes))


def test_a_band_without_a_name_is_a_contract_error():
    broken = document()
    broken["mlm:input"][0]["bands"][1] = 3
    with pytest.raises(ContractError, match=r"^bands\[1\]: must be a text, got 3$"):
        Contract.from_json(broken)


@pytest.mark.parametrize("value_range", [[0], [0, 1, 2]])
def test_a_value_range_of_another_length_is_a_contract_error(value_range):
    broken = document()
    broken["mlm:input"][0]["value_range"] = value_range
    with pytest.raises(ContractError):
        Contract.from_json(broken)


def test_bands_that_are_one_text_are_not_taken_for_its_letters():
    broken = document()
    broken["mlm:input"][0]["bands"] = "rgb"
    with pytest.raises(ContractError):
        Contract.from_json(broken)


def test_a_contract_comes_back_from_its_file(savedmodel):
    given = contract(gsd_range_m=(0.1, 10.0))
    write_contract(given, savedmodel)
    assert read_contract(savedmodel) == given


def test_a_folder_without_graph_is_refused(tmp_path):
    with pytest.raises(ContractError, match="not a SavedModel"):
        read_contract(tmp_path)


def test_a_savedmodel_without_contract_is_refused_with_the_remedy(savedmodel):
    with pytest.raises(ContractError, match="make a model of it with beamseg wrap"):
        read_contract(savedmodel)


@pytest.mark.parametrize("text", [b"", b"{", b"{} {}"])
def test_a_contract_file_that_is_no_json_is_a_contract_error(savedmodel, text):
    write_contract(contract(), savedmodel)
    (savedmodel / CONTRACT_FILE).write_bytes(text)
    with pytest.raises(ContractError, match="is not JSON"):
        read_contract(savedmodel)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"[" * 100_000, "is nested too deeply"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "is nested too deeply"),
        (b'{"format_version": ' + b"9" * 5000 + b"}", "is not JSON"),
        (b" " * ((16 << 20) + 1), "has more than 16 MiB"),
    ],
)
def test_a_deep_or_huge_contract_file_is_a_contract_error(savedmodel, text, says):
    write_contract(contract(), savedmodel)
    (savedmodel / CONTRACT_FILE).write_bytes(text)
    with pytest.raises(ContractError, match=says):
        read_contract(savedmodel)


def test_a_number_beyond_floats_is_a_contract_error():
    broken = document()
    broken["mlm:input"][0]["nodata_fill"] = [10**400, 0, 0]
    with pytest.raises(ContractError, match=r"nodata_fill|malformed"):
        Contract.from_json(broken)


@pytest.mark.parametrize("text", [b"[]", b'"text"', b"1", b"\xff\xfe{}"])
def test_a_contract_file_that_holds_no_object_is_a_contract_error(savedmodel, text):
    write_contract(contract(), savedmodel)
    (savedmodel / CONTRACT_FILE).write_bytes(text)
    with pytest.raises(ContractError):
        read_contract(savedmodel)


def test_the_fingerprint_does_not_depend_on_the_location(savedmodel, tmp_path):
    write_contract(contract(), savedmodel)
    copy = shutil.copytree(savedmodel, tmp_path / "elsewhere" / "copy")
    expected = fingerprint(savedmodel)
    assert fingerprint(copy) == expected
    assert len(expected) == 64


def test_the_fingerprint_changes_with_any_byte(savedmodel):
    (savedmodel / "variables").mkdir()
    weights = savedmodel / "variables" / "variables.data"
    content = bytes(range(16))
    weights.write_bytes(content)
    seen = {fingerprint(savedmodel)}
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1
        weights.write_bytes(changed)
        seen.add(fingerprint(savedmodel))
    assert len(seen) == len(content) + 1


def test_the_fingerprint_changes_with_names_and_contract(savedmodel):
    write_contract(contract(), savedmodel)
    first = fingerprint(savedmodel)
    write_contract(dataclasses.replace(contract(), name="other"), savedmodel)
    second = fingerprint(savedmodel)
    (savedmodel / "saved_model.pb").rename(savedmodel / "renamed.pb")
    third = fingerprint(savedmodel)
    assert len({first, second, third}) == 3


@pytest.mark.parametrize(
    ("stride", "fixed", "side"),
    [(1, None, 64), (24, None, 192), (32, None, 256), (2048, None, 2048), (32, 512, 512)],
)
def test_a_sample_is_small_and_fits_the_model(stride, fixed, side):
    model = dataclasses.replace(contract(stride=stride), fixed_window=fixed)
    assert model.sample_side_px == side


def test_a_sample_is_the_same_at_each_call_and_within_the_range_of_the_model():
    model = dataclasses.replace(contract(stride=4), value_range=(10, 20))
    first, second = model.sample(), model.sample()
    np.testing.assert_array_equal(first, second)
    assert first.shape == (64, 64, 3)
    assert (first.min(), first.max()) == (10, 19)
    assert (first[:16, :16] == first[0, 0]).all()

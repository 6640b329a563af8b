"""Ensembles give the mean of probabilities, whatever windows they see."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import numpy as np
import pytest

from segmodel.engine.engine import Engine
from segmodel.engine.read_ahead import Job
from segmodel.errors import ConfigurationError, ContractError, ExportError
from segmodel.labels.classes import ClassTable, LabelClass
from segmodel.savedmodel.contract import MeasuredHalo, MeasuredSizes
from segmodel.savedmodel.ensemble import merge_contracts
from segmodel.savedmodel.predictor import Predictor
from segmodel.savedmodel.views import Orientation, Views, parse_scales, resize_taps
from segmodel.tiling.raster import ArrayRaster
from tests.fakes import CLASSES, contract

tf = pytest.importorskip("tensorflow")

from segmodel.savedmodel.ensemble import (  # noqa: E402
    export_ensemble,
    load_ensemble,
    orient,
    orient_back,
    resize,
)
from segmodel.savedmodel.export import export_savedmodel  # noqa: E402

FIRST, SECOND = (0.7, 0.2, 0.1), (0.1, 0.6, 0.3)
EVERY_VIEW = Views(flips=True, turns=True, scales=parse_scales("0.75,1,1.25"))


class Convolution(tf.Module):
    """Random weights, stride 4, a receptive field of 11 or less."""

    def __init__(self, seed: int, bands: int = 3) -> None:
        super().__init__()
        random = np.random.default_rng(seed)
        draw = lambda *shape: random.normal(size=shape).astype(np.float32)  # noqa: E731
        self.first = tf.Variable(draw(3, 3, bands, 6) / 64)
        self.second = tf.Variable(draw(1, 1, 6, 3) * 3)

    def __call__(self, values):
        features = tf.nn.relu(tf.nn.conv2d(values, self.first, 1, "SAME"))
        small = tf.nn.avg_pool2d(features, 4, 4, "VALID")
        near = tf.repeat(tf.repeat(small, 4, 1), 4, 2)
        return tf.nn.conv2d(features - near, self.second, 1, "SAME")


class Gradient(tf.Module):
    """Bright where values rise to the right, dark where they fall, with a weight to be saved."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = tf.Variable(0.05)

    def __call__(self, values):
        red = values[..., :1]
        rise = (tf.roll(red, -1, 2) - red) * self.weight
        return tf.concat([-rise, tf.zeros_like(rise), rise], -1)


def constant(probabilities):
    """A model that gives these probabilities everywhere."""
    logits = np.log(np.array(probabilities, np.float32))
    return lambda values: tf.zeros_like(values[..., :1]) + logits


def export(function, path, **fields):
    fields = {"stride": 4, "halo": MeasuredHalo(0, 512, None)} | fields
    export_savedmodel(function, contract(**fields), path, measure_memory=False)
    return str(path)


def exported(models, views, path, samples=()):
    ensemble = load_ensemble(models, views)
    export_ensemble(ensemble, path, samples, measure_memory=False)
    return Predictor.load(path)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """SavedModels by name; two differ in the order of classes."""
    folder = tmp_path_factory.mktemp("members")
    other = ClassTable((CLASSES.classes[2], CLASSES.classes[0], CLASSES.classes[1]))
    field = {"halo": MeasuredHalo(8, 512, None), "receptive_field": 11}
    return {
        "first": export(constant(FIRST), folder / "first", name="first"),
        "second": export(constant(SECOND), folder / "second", name="second"),
        "other": export(constant((0.5, 0.25, 0.25)), folder / "other", classes=other),
        "gradient": export(Gradient(), folder / "gradient"),
        "a": export(Convolution(1), folder / "a", **field),
        "b": export(Convolution(2), folder / "b", **field),
        "float": export(
            Convolution(3, 2),
            folder / "float",
            bands=("vv", "vh"),
            nodata_fill=(5.0, 6.0),
            dtype="float32",
            **field,
        ),
    }


def windowed(predictor: Predictor, image: np.ndarray, window: int, halo: int | None = None):
    """Labels by windows, one in a call, as more would only fill up batches."""
    layout = predictor.contract.layout(window, halo, batch=1)
    job = Job("image", lambda: ArrayRaster(image))
    (outcome,) = Engine(predictor, layout).run([job])
    return outcome.labels


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_two_models_give_the_mean_of_their_probabilities(models, tmp_path):
    predictor = exported([models["first"], models["second"]], Views(), tmp_path / "e")
    actual = predictor.probabilities(noise(5, 7)[None])
    np.testing.assert_allclose(actual, np.broadcast_to((0.4, 0.4, 0.2), (1, 5, 7, 3)), atol=1e-6)


def test_channels_follow_the_class_table_of_the_first_model(models, tmp_path):
    predictor = exported([models["first"], models["other"]], Views(), tmp_path / "e")
    actual = predictor.probabilities(noise(4, 4)[None])[0, 0, 0]
    # The other gives bright 0.5, dark 0.25, middle 0.25.
    np.testing.assert_allclose(actual, (0.475, 0.225, 0.3), atol=1e-6)
    assert predictor.classes == CLASSES


def test_a_class_that_no_model_thinks_possible_gives_no_infinity(tmp_path):
    path = export(lambda values: tf.zeros_like(values) - [0.0, 0.0, 500.0], tmp_path / "sure")
    predictor = exported([path], Views(flips=True), tmp_path / "e")
    actual = predictor.probabilities(noise(4, 4)[None])[0, 0, 0]
    np.testing.assert_allclose(actual, (0.5, 0.5, 0), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "views", "symmetries"),
    [
        ("gradient", Views(flips=True), [(0, True), (2, False), (2, True)]),
        ("gradient", Views(turns=True), [(1, False), (2, False), (3, False)]),
        ("a", EVERY_VIEW, [(q, m) for q in range(4) for m in (False, True)]),
    ],
)
def test_flipped_and_turned_images_give_flipped_and_turned_answers_bit_for_bit(
    models, tmp_path, name, views, symmetries
):
    predictor = exported([models[name]], views, tmp_path / "e")
    stride = predictor.contract.stride
    image = tf.constant(noise(2 * stride, 3 * stride)[None])
    labels = tf.constant(predictor.labels(image.numpy())[..., None])
    probabilities = tf.constant(predictor.probabilities(image.numpy()))
    for quarters, mirrored in symmetries:
        symmetry = Orientation(quarters, mirrored)
        seen = orient(image, symmetry).numpy()
        expected = orient(labels, symmetry)[..., 0]
        np.testing.assert_array_equal(predictor.labels(seen), expected)
        expected = orient(probabilities, symmetry)
        np.testing.assert_array_equal(predictor.probabilities(seen), expected)


def test_one_view_of_a_direction_is_not_symmetric_so_the_comparison_can_fail(models):
    predictor = Predictor.load(models["gradient"])
    image = noise(8, 8)[None]
    assert (predictor.labels(image[:, :, ::-1]) != predictor.labels(image)[:, :, ::-1]).any()


def test_flips_of_a_direction_leave_what_both_ways_have_in_common(models, tmp_path):
    predictor = exported([models["gradient"]], Views(flips=True), tmp_path / "e")
    image = np.zeros((8, 8, 3), np.uint8) + np.arange(0, 80, 10, dtype=np.uint8)[None, :, None]
    actual = predictor.probabilities(image[None])[0, 4, 4]
    there = np.exp([-0.5, 0, 0.5]) / np.exp([-0.5, 0, 0.5]).sum()
    np.testing.assert_allclose(actual, (there + there[::-1]) / 2, atol=1e-6)


def test_a_constant_image_looks_the_same_at_every_scale(tmp_path):
    def brightness(values):
        mean = tf.reduce_mean(values, -1, keepdims=True)
        return -tf.abs(mean - tf.constant([42.0, 127.0, 212.0])) / 50

    path = export(brightness, tmp_path / "m")
    views = Views(scales=parse_scales("0.5,0.75,1,1.5,2"))
    predictor = exported([path], views, tmp_path / "e")
    # Sides are multiples of the stride: what pads to it is no longer constant.
    image = np.full((1, 48, 32, 3), 173, np.uint8)
    np.testing.assert_allclose(
        predictor.probabilities(image), Predictor.load(path).probabilities(image), atol=1e-6
    )


@pytest.mark.parametrize(
    ("views", "names"),
    [
        (EVERY_VIEW, ("a",)),
        (Views(scales=parse_scales("0.5,1.75")), ("a", "b")),
        (Views(flips=True, scales=parse_scales("1.25")), ("float",)),
    ],
)
def test_windowed_labels_equal_untiled_ones_at_the_halo_of_the_contract(
    models, tmp_path, views, names
):
    predictor = exported([models[name] for name in names], views, tmp_path / "e")
    stride = predictor.contract.stride
    for height, width in ((5 * stride + 3, 7 * stride - 1), (1, 130), (6 * stride, 2)):
        image = noise(height, width, seed=height)
        if names == ("float",):
            image = image[..., :2].astype(np.float32) / 3
            image[height // 2, width // 3] = np.nan
        expected = predictor.segment(image)
        actual = windowed(predictor, image, 2 * stride)
        np.testing.assert_array_equal(actual, expected)


def test_without_halo_labels_differ_so_the_comparison_can_fail(models, tmp_path):
    views = Views(scales=parse_scales("0.75,1.25"))
    predictor = exported([models["a"]], views, tmp_path / "e")
    image = noise(96, 96)
    assert (windowed(predictor, image, 16, halo=0) != predictor.segment(image)).any()


def test_an_ensemble_is_saved_whole_and_can_be_part_of_another(models, tmp_path):
    inner = exported([models["a"], models["b"]], Views(), tmp_path / "inner")
    assert inner.contract.parameters == 2 * (3 * 3 * 3 * 6 + 6 * 3)
    both = exported([str(tmp_path / "inner"), models["first"]], Views(), tmp_path / "outer")
    image = noise(12, 9)[None]
    a, b = (Predictor.load(models[name]).probabilities(image) for name in ("a", "b"))
    expected = ((a + b) / 2 + np.array(FIRST)) / 2
    np.testing.assert_allclose(both.probabilities(image), expected, atol=1e-5)


def test_weights_of_all_models_are_computed_once(models, tmp_path):
    predictor = exported([models["a"], models["b"]], Views(), tmp_path / "e")
    assert predictor.served("labels").why_loaded is None


def test_models_with_tables_are_saved_whole(tmp_path):
    class Lookup(tf.Module):
        def __init__(self):
            super().__init__()
            keys = tf.range(256, dtype=tf.int64)
            values = tf.cast(keys > 99, tf.float32)
            initializer = tf.lookup.KeyValueTensorInitializer(keys, values)
            self.table = tf.lookup.StaticHashTable(initializer, 0.0)

        def __call__(self, values):
            high = self.table.lookup(tf.cast(values[..., :1], tf.int64))
            return tf.concat([1 - high, tf.zeros_like(high), high], -1)

    path = export(Lookup(), tmp_path / "m")
    predictor = exported([path], Views(flips=True), tmp_path / "e")
    image = noise(9, 6)[None]
    np.testing.assert_array_equal(predictor.labels(image), Predictor.load(path).labels(image))


def test_the_halo_is_measured_on_samples(models, tmp_path):
    views = Views(scales=parse_scales("1,1.5"))
    predictor = exported([models["a"]], views, tmp_path / "e", [noise(16, 700)])
    halo = predictor.contract.halo
    assert (halo.pixels, halo.window_px) == (8, 512)
    assert 0.999 <= halo.equal_labels <= 1


def test_samples_without_a_seam_are_refused(models, tmp_path):
    ensemble = load_ensemble([models["a"]], Views(flips=True))
    with pytest.raises(ConfigurationError, match="none is larger than 512 pixels"):
        export_ensemble(ensemble, tmp_path / "e", [noise(512, 512)])


def test_the_contract_says_what_it_is_made_of(models):
    ensemble = load_ensemble([models["first"], models["second"]], EVERY_VIEW)
    actual = ensemble.contract
    assert actual.name == "ensemble of first, second"
    assert actual.architecture == "mean of 2 models, 24 views: flips, turns, scales 0.75 1 1.25"
    assert actual.stride == 16
    # A receptive field of 1, and 2 x 4/3 pixels of two resizes at 0.75.
    assert actual.receptive_field == 7
    assert actual.halo == MeasuredHalo(16, 512, None)
    expected = [Predictor.load(models[name]).fingerprint for name in ("first", "second")]
    assert [m["fingerprint"] for m in actual.training_data["members"]] == expected
    assert [m["name"] for m in actual.training_data["members"]] == ["first", "second"]
    named = load_ensemble([models["first"]], Views(flips=True), name="mine").contract
    assert (named.name, named.architecture) == ("mine", "mean of 1 model, 4 views: flips")


def test_what_is_not_true_of_the_mean_is_left_out_of_its_contract():
    sizes = MeasuredSizes((64, 65), 1.0, 1, 1.0)
    one = contract(metrics={"mean_iou": 0.9}, parameters=5, bytes_per_pixel=9, sizes=sizes)
    actual = merge_contracts({"a": one, "b": one}, Views())
    assert actual.metrics == {}
    assert (actual.parameters, actual.bytes_per_pixel, actual.calibration) == (None, None, None)
    assert actual.sizes is None


@pytest.mark.parametrize(
    ("strides", "scales", "expected"),
    [
        ((32,), "1", 32),
        ((32,), "2", 32),
        ((32,), "0.5", 64),
        ((32,), "0.75,1,1.25", 128),
        ((32,), "0.9", 320),
        ((32, 48), "1", 96),
        ((16, 24), "0.5,2/3", 288),
        ((1,), "1.001953125", 512),
    ],
)
def test_the_stride_puts_windows_on_the_grids_of_all_models_at_all_scales(
    strides, scales, expected
):
    views = Views(scales=parse_scales(scales))
    assert views.stride(strides) == expected
    seen = (Fraction(1), *views.scales)
    fits = [
        stride
        for stride in range(1, expected + 1)
        if all((stride * s / t).denominator == 1 for s in seen for t in strides)
    ]
    assert fits == [expected]


@pytest.mark.parametrize("scales", ["0.77", "0.51", "1.0009765625"])
def test_scales_that_need_too_great_a_stride_are_refused(scales):
    with pytest.raises(ConfigurationError, match="more than 512"):
        Views(scales=parse_scales(scales)).stride([32])


@pytest.mark.parametrize(
    ("scales", "match"),
    [
        ("0.24", "0.25..4, got 0.24"),
        ("1,4.01", "0.25..4, got 4.01"),
        ("-1", "0.25..4"),
        ("1,1.0", "1 occurs more than once"),
        ("", "must be numbers"),
        ("1;2", "must be numbers"),
        ("nan", "must be numbers"),
        ("1/0", "must be numbers"),
    ],
)
def test_impossible_scales_are_refused(scales, match):
    with pytest.raises(ConfigurationError, match=match):
        Views(scales=parse_scales(scales))


def test_the_ends_of_the_range_of_scales_are_possible():
    assert Views(scales=parse_scales("0.25,4")).stride([32]) == 128


def test_no_scale_is_refused():
    with pytest.raises(ConfigurationError, match="at least one"):
        Views(scales=())


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"bands": ("r", "g", "b")}, "^bands: .* x has .*red.* y has .*'r'"),
        ({"dtype": "uint16"}, "^dtype: .*x has uint8, y has uint16"),
        ({"value_range": (0.0, 1.0)}, "^value_range: "),
        ({"nodata_fill": (0.0, 0.0, 1.0)}, "^nodata_fill: "),
        ({"fixed_window": 64}, "^fixed_window: .*x has None, y has 64"),
        ({"gsd_range_m": (3.0, 4.0)}, "^gsd_range_m: .*x 1 to 2 m, y 3 to 4 m"),
        (
            {"classes": ClassTable((*CLASSES.classes, LabelClass(9, "snow", (0, 0, 0))))},
            "^classes: .*9 'snow' of y is not in x",
        ),
        ({"classes": ClassTable(CLASSES.classes[1:])}, "^classes: .*0 'dark' of x is not in y"),
    ],
)
def test_models_that_differ_are_refused_by_field_and_name(changes, match):
    one = contract(gsd_range_m=(1.0, 2.0))
    with pytest.raises(ContractError, match=match):
        merge_contracts({"x": one, "y": dataclasses.replace(one, **changes)}, Views())


def test_the_ground_sample_distance_is_what_all_models_were_made_for():
    ranges = ((1.0, 4.0), None, (2.0, 9.0))
    contracts = {str(n): contract(gsd_range_m=r) for n, r in enumerate(ranges)}
    assert merge_contracts(contracts, Views()).gsd_range_m == (2.0, 4.0)
    assert merge_contracts({"a": contract()}, Views(turns=True)).gsd_range_m is None


def test_a_receptive_field_that_one_does_not_know_is_unknown():
    contracts = {"a": contract(), "b": contract(receptive_field=None)}
    assert merge_contracts(contracts, Views()).receptive_field is None


def test_fixed_windows_are_kept_and_their_models_never_scaled():
    fixed = contract(fixed_window=64, halo=MeasuredHalo(10, 32, None))
    actual = merge_contracts({"a": fixed, "b": fixed}, Views(flips=True, turns=True))
    assert (actual.fixed_window, actual.halo.pixels, actual.stride) == (64, 10, 32)
    with pytest.raises(ConfigurationError, match="windows of 64 pixels only"):
        merge_contracts({"a": fixed}, Views(scales=parse_scales("1,2")))
    wider = dataclasses.replace(fixed, stride=12)
    with pytest.raises(ContractError, match="fixed_window: 64 is no multiple of 96"):
        merge_contracts({"a": fixed, "b": wider}, Views())


def test_a_fixed_window_is_seen_in_every_orientation(tmp_path):
    def labels_by_mean(values):
        mean = tf.reduce_mean(values, [1, 2, 3], keepdims=True)
        return tf.zeros_like(values[..., :1]) - tf.abs(mean - tf.constant([42.0, 127.0, 212.0]))

    fields = {"fixed_window": 16, "halo": MeasuredHalo(2, 8, None)}
    path = export(labels_by_mean, tmp_path / "m", **fields)
    predictor = exported([path], Views(turns=True), tmp_path / "e")
    image = noise(40, 30)
    np.testing.assert_array_equal(
        predictor.segment(image, window=8), Predictor.load(path).segment(image, window=8)
    )


def test_nothing_to_average_is_refused(models):
    with pytest.raises(ConfigurationError, match="needs two models"):
        load_ensemble([models["a"]], Views())
    with pytest.raises(ConfigurationError, match="needs two models"):
        load_ensemble([], Views())


def test_a_model_given_twice_is_refused(models):
    with pytest.raises(ConfigurationError, match="is the same model as"):
        load_ensemble([models["a"], models["b"], models["a"] + "/"], Views())


def test_models_that_touch_files_are_refused_unless_trusted(tmp_path):
    def spy(values):
        length = tf.strings.length(tf.io.read_file("/dev/null"))
        return constant(FIRST)(values) + tf.cast(length, tf.float32)

    path = export(spy, tmp_path / "spy")
    with pytest.raises(ExportError, match="ReadFile"):
        load_ensemble([path], Views(flips=True))
    assert load_ensemble([path], Views(flips=True), trust=True).views.count == 4


@pytest.mark.parametrize("quarters", range(4))
@pytest.mark.parametrize("mirrored", [False, True])
def test_orienting_back_is_the_inverse(quarters, mirrored):
    image = tf.constant(noise(3, 5)[None])
    orientation = Orientation(quarters, mirrored)
    actual = orient_back(orient(image, orientation), orientation)
    np.testing.assert_array_equal(actual, image)


@pytest.mark.parametrize(("flips", "turns", "count"), [(0, 0, 1), (1, 0, 4), (0, 1, 4), (1, 1, 8)])
def test_orientations_show_each_symmetry_once(flips, turns, count):
    image = tf.constant(noise(2, 2)[None])
    views = Views(flips=bool(flips), turns=bool(turns))
    seen = {orient(image, orientation).numpy().tobytes() for orientation in views.orientations}
    assert len(seen) == len(views.orientations) == views.count == count


@pytest.mark.parametrize("scale", ["0.25", "0.5", "0.75", "0.9", "1.25", "1.75", "2", "4"])
def test_a_resize_is_that_of_tensorflow_away_from_the_border(scale):
    scale = Fraction(scale)
    image = tf.random.stateless_uniform((1, 80, 120, 2), (1, 2))
    size = (int(80 * scale), int(120 * scale))
    expected = tf.image.resize(image, size, antialias=True).numpy()
    actual = resize(image, scale).numpy()
    assert actual.shape == expected.shape
    border = 5
    np.testing.assert_allclose(
        actual[:, border:-border, border:-border],
        expected[:, border:-border, border:-border],
        atol=2e-5,
    )


def test_a_window_is_resized_as_the_whole_bit_for_bit():
    scale = Fraction(3, 4)
    image = tf.random.stateless_uniform((1, 400, 404, 2), (3, 4))
    whole, part = resize(image, scale), resize(image[:, 200:300, 300:400], scale)
    np.testing.assert_array_equal(part[:, 2:-2, 2:-2], whole[:, 152:223, 227:298])


def test_weights_of_a_resize_sum_to_one():
    for scale in (Fraction(1, 4), Fraction(9, 10), Fraction(3, 2), Fraction(4)):
        first, weights = resize_taps(scale)
        np.testing.assert_allclose(weights.sum(1), 1, atol=1e-6)
        assert len(first) == scale.numerator

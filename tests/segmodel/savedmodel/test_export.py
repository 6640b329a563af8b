"""Any TensorFlow function as a SavedModel that does what the function does."""

from __future__ import annotations

import fcntl
import os
import shutil

import numpy as np
import pytest

from segmodel.devices import compute
from segmodel.engine.soft import BatchWeights
from segmodel.errors import ConfigurationError, ExportError
from segmodel.labels.classes import ClassTable, LabelClass
from segmodel.networks.pretrained import read_weights
from segmodel.savedmodel.contract import MeasuredHalo, MeasuredSizes
from segmodel.savedmodel.export import export_savedmodel
from segmodel.savedmodel.folder import CONTRACT_FILE, read_contract
from segmodel.savedmodel.halo import HaloSample, Measuring
from segmodel.savedmodel.predictor import Predictor
from segmodel.savedmodel.signatures import meta_graph as graph_of
from segmodel.tiling.borders import BorderCurve
from tests.compute_types import needs_bfloat16
from tests.fakes import brightness_labels, contract
from tests.segmodel.conftest import FOREIGN_CLASSES

tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")

FLOAT = {"dtype": "float32", "value_range": (0.0, 1.0)}


def brightness(values):
    mean = tf.reduce_mean(values, -1, keepdims=True)
    return -tf.abs(mean - tf.constant([42.0, 127.0, 212.0]))


def moody(values):
    """Gives other scores in a graph than in Python."""
    return brightness(values) * (1.0 if tf.executing_eagerly() else -1.0)


@pytest.fixture(scope="module")
def foreign(foreign_savedmodel):
    return Predictor.load(foreign_savedmodel.path)


def values(height: int, width: int, batch: int = 1) -> np.ndarray:
    random = np.random.default_rng(height * 100 + width)
    return random.uniform(0, 100, (batch, height, width, 2)).astype(np.float32)


def expected_logits(function, images: np.ndarray) -> np.ndarray:
    """The function on images filled to multiples of 4, at full resolution."""
    height, width = images.shape[1:3]
    below, right = -height % 4, -width % 4
    filled = np.pad(images, [(0, 0), (0, below), (0, right), (0, 0)], constant_values=50)
    logits = tf.image.resize(function(tf.constant(filled)), filled.shape[1:3])
    return logits.numpy()[:, :height, :width]


@pytest.mark.parametrize(
    ("height", "width"), [(1, 1), (1, 9), (4, 4), (5, 3), (15, 16), (17, 18), (40, 64)]
)
def test_a_function_of_others_answers_at_full_resolution(
    foreign, foreign_savedmodel, height, width
):
    images = values(height, width, batch=2)
    logits = expected_logits(foreign_savedmodel.function, images)
    expected = np.array(FOREIGN_CLASSES.ids, np.uint16)[logits.argmax(-1)]
    actual = foreign.labels(images)
    np.testing.assert_array_equal(actual, expected)
    assert actual.dtype == np.uint16


def test_ids_in_labels_are_those_of_the_class_table(foreign):
    assert set(np.unique(foreign.labels(values(64, 64)))) == {2, 40, 300}


def test_signatures_agree_in_names_shapes_and_dtypes(foreign):
    images = values(9, 14, batch=3)
    labels, confidence = foreign.labels_and_confidence(images)
    probabilities = foreign.probabilities(images)
    assert (labels.shape, labels.dtype) == ((3, 9, 14), np.uint16)
    assert (confidence.shape, confidence.dtype) == ((3, 9, 14), np.float32)
    assert (probabilities.shape, probabilities.dtype) == ((3, 9, 14, 3), np.float32)
    np.testing.assert_array_equal(labels, foreign.labels(images))
    np.testing.assert_allclose(probabilities.sum(-1), 1, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(confidence, probabilities.max(-1))
    best = np.array(FOREIGN_CLASSES.ids, np.uint16)[probabilities.argmax(-1)]
    np.testing.assert_array_equal(labels, best)


def test_signatures_take_images_and_give_what_the_design_says(foreign_savedmodel):
    signatures = tf.saved_model.load(str(foreign_savedmodel.path)).signatures
    assert set(signatures) == {"labels", "serving_default", "probabilities"}
    outputs = {name: set(signatures[name].structured_outputs) for name in signatures}
    assert outputs == {
        "labels": {"labels"},
        "serving_default": {"labels", "confidence"},
        "probabilities": {"probabilities"},
    }
    for signature in signatures.values():
        (spec,) = signature.structured_input_signature[1].values()
        assert (spec.name, spec.dtype) == ("images", tf.float32)
        assert spec.shape.as_list() == [None, None, None, 2]


def test_nan_is_filled_before_the_function_sees_it(foreign):
    images = values(16, 16)
    images[0, 3, 5, 0] = images[0, 8] = np.nan
    filled = np.where(np.isnan(images), np.float32(50), images)
    np.testing.assert_array_equal(foreign.labels(images), foreign.labels(filled))
    assert np.isfinite(foreign.probabilities(images)).all()


def test_the_contract_in_the_folder_is_the_one_returned(foreign_savedmodel):
    written = read_contract(foreign_savedmodel.path)
    assert written == foreign_savedmodel.contract
    assert written.parameters == 6
    assert set(written.versions) == {"beamseg", "keras", "numpy", "python", "tensorflow"}


def test_no_variable_is_stored_twice(foreign_savedmodel, neighbourhood_savedmodel):
    for path, shapes in (
        (foreign_savedmodel.path, [[1, 1, 2, 3]]),
        (neighbourhood_savedmodel, [[3], [4], [4], [1, 1, 4, 3], [3, 3, 3, 4], [3, 3, 4, 4]]),
    ):
        stored = tf.train.list_variables(str(path / "variables" / "variables"))
        actual = [shape for name, shape in stored if "OBJECT_GRAPH" not in name]
        assert sorted(actual, key=lambda s: (len(s), s)) == shapes


def test_a_savedmodel_of_others_is_adopted_and_stands_alone(tmp_path):
    module = tf.Module()
    module.weights = tf.Variable([[[[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]]])

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.float32)])
    def serve(input_3):
        return {"logits": tf.nn.conv2d(input_3, module.weights, 1, "SAME")}

    tf.saved_model.save(module, str(tmp_path / "theirs"), signatures=serve)
    theirs = tf.saved_model.load(str(tmp_path / "theirs"))
    two = type(FOREIGN_CLASSES)(FOREIGN_CLASSES.classes[1:])
    export_savedmodel(
        lambda images: theirs.signatures["serving_default"](input_3=images)["logits"],
        contract(classes=two, stride=1),
        tmp_path / "ours",
        measure_memory=False,
    )
    shutil.rmtree(tmp_path / "theirs")
    image = np.array([[[9, 1, 0], [1, 9, 0], [5, 5, 0]]], np.uint8)
    assert Predictor.load(tmp_path / "ours").segment(image).tolist() == [[2, 40, 2]]


def test_a_function_that_depends_on_state_that_is_not_saved_is_refused(tmp_path):
    with pytest.raises(ExportError, match="other labels than the network in memory at"):
        export_savedmodel(moody, contract(), tmp_path / "model", measure_memory=False)


def test_a_model_that_was_refused_is_not_left_behind(tmp_path):
    with pytest.raises(ExportError):
        export_savedmodel(moody, contract(), tmp_path / "model", measure_memory=False)
    assert not (tmp_path / "model" / CONTRACT_FILE).exists()


def test_samples_smaller_than_the_stride_do_not_skip_the_check(tmp_path):
    sample = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    with pytest.raises(ExportError):
        export_savedmodel(moody, contract(), tmp_path / "model", [sample], measure_memory=False)


@pytest.mark.parametrize("count", [2, 4])
def test_another_number_of_scores_than_classes_is_refused(tmp_path, count):
    def scores(values):
        return tf.repeat(values[..., :1], count, -1)

    with pytest.raises(ExportError, match=f"names 3, the function gives {count} scores"):
        export_savedmodel(scores, contract(), tmp_path / "model", measure_memory=False)


def test_a_model_that_is_there_survives_an_export_that_fails(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "saved_model.pb").write_bytes(b"precious")
    with pytest.raises(ExportError):
        export_savedmodel(moody, contract(), tmp_path / "model", measure_memory=False)
    assert (tmp_path / "model" / "saved_model.pb").read_bytes() == b"precious"


@pytest.mark.parametrize("fill", [-9999.0, -3.4028234663852886e38])
def test_a_fill_far_from_the_values_does_not_blur_them(tmp_path, fill):
    def threshold(values):
        return tf.concat([values[..., :1] - 0.5, values[..., 1:2] * 0, values[..., 2:] - 9], -1)

    given = contract(**FLOAT, nodata_fill=(fill,) * 3, stride=1)
    export_savedmodel(threshold, given, tmp_path / "model", measure_memory=False)
    image = np.full((1, 2, 3), 0.5, np.float32)
    image[0, :, 0] = (0.5001, 0.4999)
    actual = Predictor.load(tmp_path / "model").segment(image)
    assert actual.tolist() == [[0, 3]]


def test_samples_may_hold_nan(tmp_path):
    sample = np.random.default_rng(0).uniform(0, 255, (32, 32, 3)).astype(np.float32)
    sample[:4] = np.nan
    given = contract(dtype="float32", nodata_fill=(200.0,) * 3)
    export_savedmodel(brightness, given, tmp_path / "model", [sample], measure_memory=False)


def test_logits_of_half_precision_are_taken(tmp_path):
    def half(values):
        return tf.cast(brightness(values), tf.float16)

    export_savedmodel(half, contract(), tmp_path / "model", measure_memory=False)
    image = np.array([[[0, 0, 0], [250, 250, 250]]], np.uint8)
    actual = Predictor.load(tmp_path / "model").segment(image)
    np.testing.assert_array_equal(actual, brightness_labels(image))


def test_a_function_of_one_size_is_exported_with_its_fixed_window(tmp_path):
    def rigid(values):
        return brightness(tf.ensure_shape(values, (None, 64, 64, 3)))

    given = contract(fixed_window=64)
    export_savedmodel(rigid, given, tmp_path / "model", measure_memory=False)
    image = np.random.default_rng(0).integers(0, 256, (70, 30, 3), dtype=np.uint8)
    actual = Predictor.load(tmp_path / "model").segment(image)
    assert actual.shape == (70, 30)


def test_the_halo_of_a_local_function_is_measured(tmp_path):
    def local(values):
        seen = tf.nn.max_pool2d(values[..., :1], 9, 1, "SAME")
        return tf.concat([127.0 - seen, seen * 0 - 999, seen - 127.0], -1)

    sample = np.zeros((1, 1536, 3), np.uint8)
    # The window on the left of the cut through the middle does not see it.
    sample[:, 768] = 255
    given = contract(stride=4, receptive_field=None)
    written = export_savedmodel(local, given, tmp_path / "model", [sample], measure_memory=False)
    assert written.fixed_window is None
    curve = BorderCurve(4, (0.5, *[0.0] * 64))
    assert written.halo == MeasuredHalo(4, 512, 1.0, curve)
    assert read_contract(tmp_path / "model") == written


def test_a_function_with_global_context_gets_a_fixed_window(tmp_path):
    def spatial(values):
        relative = values[..., :1] - tf.reduce_mean(values[..., :1], (1, 2), keepdims=True)
        return tf.concat([-relative, relative * 0 - 999, relative], -1)

    ramp = np.zeros((8, 1400, 3), np.uint8)
    ramp[...] = (np.arange(1400) // 6)[None, :, None]
    given = contract(stride=32, receptive_field=65)
    written = export_savedmodel(spatial, given, tmp_path / "model", [ramp], measure_memory=False)
    assert written.fixed_window == 1024
    assert written.layout(4096).read_px == 1024
    assert read_contract(tmp_path / "model") == written


def parity_dependent(values):
    """A network that halves its input twice, and so looks elsewhere in windows of odd sizes."""
    size = tf.shape(values)[1:3]
    small = tf.nn.avg_pool2d(tf.nn.avg_pool2d(values[..., :1], 3, 2, "SAME"), 3, 2, "SAME")
    seen = tf.image.resize(small, size, "nearest")
    return tf.concat([127.0 - seen, seen * 0 - 999, seen - 127.0], -1)


def test_the_stride_is_raised_where_labels_depend_on_the_size_of_the_window(tmp_path):
    sample = np.random.default_rng(0).integers(0, 2, (8, 750, 3), np.uint8) * 255
    lines: list[str] = []
    given = contract(stride=1, receptive_field=11, halo=MeasuredHalo(8, 512, None))
    written = export_savedmodel(
        *(parity_dependent, given, tmp_path / "model", [sample]),
        measure_memory=False,
        measuring=Measuring(log=lines.append),
    )
    assert (written.stride, written.fixed_window, written.sizes.stated_stride) == (4, None, 1)
    assert written.sizes.stated_equal_labels < 0.9 < written.sizes.equal_labels
    assert written.halo.equal_labels >= 0.999
    assert read_contract(tmp_path / "model") == written
    assert any(line.startswith("stride 1 raised to 4") for line in lines)
    # What is written fills to that stride, whatever the size of the window.
    image = np.pad(sample, [(0, 0), (0, 2), (0, 0)])
    model = Predictor.load(tmp_path / "model")
    whole, one_more = (model.labels(image[None, :, :width])[0] for width in (700, 701))
    np.testing.assert_array_equal(whole[:, :690], one_more[:, :690])


def test_contracts_of_models_whose_sizes_were_not_compared_stay_as_they_were():
    document = contract().to_json()
    assert "sizes" not in document
    sizes = MeasuredSizes((8, 9), 1.0, 1, 0.5)
    assert contract(sizes=sizes).to_json()["sizes"]["sizes_px"] == (8, 9)


def test_a_halo_that_could_not_be_measured_is_the_one_that_was_stated(tmp_path):
    given = contract(receptive_field=None, halo=MeasuredHalo(40, 512, None))
    sample = np.zeros((20, 20, 3), np.uint8)
    written = export_savedmodel(
        brightness, given, tmp_path / "model", [sample], measure_memory=False
    )
    assert (written.halo.pixels, written.halo.equal_labels) == (64, None)


def test_what_a_killed_export_left_is_removed_by_the_next(tmp_path):
    (tmp_path / f".model-{'0a' * 16}").mkdir()
    (tmp_path / f".model-{'0a' * 16}" / "saved_model.pb").write_bytes(b"half")
    (tmp_path / ".model-of-mine").mkdir()
    running = tmp_path / f".model-{'1b' * 16}"
    running.mkdir()
    holder = os.open(running, os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_SH)
    export_savedmodel(brightness, contract(), tmp_path / "model", measure_memory=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *(running.name, ".model-of-mine", "model"),
    ]
    os.close(holder)


def test_a_folder_that_holds_other_things_is_not_replaced(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match="holds files that are no SavedModel"):
        export_savedmodel(lambda values: values, contract(), tmp_path / "model")
    assert (tmp_path / "model" / "thesis.txt").read_text() == "mine"


def test_scores_that_are_no_numbers_are_refused(tmp_path):
    import tensorflow as tf

    def lost(values: tf.Tensor) -> tf.Tensor:
        return tf.stack([values[..., 0], values[..., 1], values[..., 2] * float("nan")], axis=-1)

    with pytest.raises(ExportError, match="not finite"):
        export_savedmodel(lost, contract(), tmp_path / "model", measure_memory=False)


def test_an_exported_network_computes_without_normalization_and_keeps_its_weights(tmp_path):
    images = keras.Input((None, None, 3))
    features = keras.layers.Conv2D(4, 3, padding="same", name="features")(images)
    features = keras.layers.BatchNormalization(name="normalization")(features)
    network = keras.Model(images, keras.layers.Conv2D(3, 1, name="scores")(features))
    export_savedmodel(network, contract(), tmp_path / "model", measure_memory=False)
    functions = graph_of(tmp_path / "model").graph_def.library.function
    operations = {node.op for function in functions for node in function.node_def}
    assert "Conv2D" in operations
    assert "FusedBatchNormV3" not in operations
    assert sorted(read_weights(tmp_path / "model")) == [
        "features/bias",
        "features/kernel",
        "normalization/beta",
        "normalization/gamma",
        "normalization/moving_mean",
        "normalization/moving_variance",
        "scores/bias",
        "scores/kernel",
    ]


def test_infinite_values_are_no_nan(tmp_path):
    def logits(raw):
        return tf.concat([-raw, raw], -1)

    classes = ClassTable((LabelClass(0, "low", (0, 0, 0)), LabelClass(1, "high", (9, 9, 9))))
    fields = {"bands": ("a",), "nodata_fill": (0.0,), "classes": classes}
    export_savedmodel(logits, contract(**FLOAT, **fields), tmp_path / "m", measure_memory=False)
    images = np.float32([[np.inf, -np.inf, 1.0], [-1.0, np.nan, 0.5]])[None, ..., None]
    assert Predictor.load(tmp_path / "m").labels(images)[0].tolist() == [[1, 0, 1], [0, 0, 1]]


def wide_sums(classes: int = 3):
    """Scores of a convolution whose weights bfloat16 has not enough digits for."""
    random = np.random.default_rng(0)
    first = tf.constant(random.normal(size=(3, 3, 3, 8)), tf.float32)
    last = tf.constant(random.normal(size=(1, 1, 8, classes)), tf.float32)

    def logits(values: tf.Tensor) -> tf.Tensor:
        features = tf.nn.relu(tf.nn.conv2d(values / 255, first, 1, "SAME"))
        return tf.nn.conv2d(features, last, 1, "SAME")

    return logits


@needs_bfloat16
def test_what_bfloat16_changes_is_measured_where_pixels_count(tmp_path):
    image = np.random.default_rng(1).integers(0, 256, (96, 80, 3), np.uint8)
    counted = np.arange(80) < np.full((96, 1), 60)
    logs: list[str] = []
    given = contract(stride=1, receptive_field=3)
    made = export_savedmodel(
        wide_sums(),
        given,
        tmp_path / "model",
        [HaloSample(image, counted)],
        measure_memory=False,
        measuring=Measuring(log=logs.append),
    )
    (found,) = made.computing
    exact, short = (
        Predictor.load(tmp_path / "model", compute=kind).labels(image[None])[0][counted]
        for kind in ("float32", "bfloat16")
    )
    assert (found.compute, found.pixels) == ("bfloat16", 96 * 60)
    assert found.equal_labels == np.mean(exact == short) < 1
    for number, name in zip(made.classes.ids, made.classes.names, strict=True):
        before, after = ((labels == number).sum() for labels in (exact, short))
        assert found.class_changes[name] == ((after - before) / before if before else None)
    assert made == read_contract(tmp_path / "model")
    share = f"bfloat16: {100 * found.equal_labels:.2f} % of labels as by float32"
    assert [line for line in logs if line.startswith(share)]


def test_a_machine_without_other_compute_types_compares_none(tmp_path, monkeypatch):
    monkeypatch.setattr(compute, "cpu_flags", frozenset)
    image = np.random.default_rng(1).integers(0, 256, (16, 16, 3), np.uint8)
    made = export_savedmodel(wide_sums(), contract(stride=1), tmp_path / "m", [image], False)
    assert made.computing == ()


@needs_bfloat16
def test_all_outputs_of_a_model_are_of_one_compute_type(tmp_path):
    image = np.random.default_rng(1).integers(0, 256, (1, 64, 64, 3), np.uint8)
    export_savedmodel(wide_sums(), contract(stride=1), tmp_path / "m", measure_memory=False)
    exact = Predictor.load(tmp_path / "m")
    short = exact.computing("bfloat16")
    labels, confidence = short.labels_and_confidence(image)
    shares = short.probabilities(image)
    sums = short.soft_sums(image, BatchWeights(np.ones((1, 64, 64), np.int32)))
    assert not np.array_equal(shares, exact.probabilities(image))
    np.testing.assert_array_equal(labels, short.labels(image))
    np.testing.assert_array_equal(labels, sums.labels)
    np.testing.assert_array_equal(confidence, shares.max(-1))
    np.testing.assert_array_equal(confidence, sums.confidence)


def test_a_machine_without_the_compute_type_loads_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(compute, "cpu_flags", frozenset)
    export_savedmodel(wide_sums(), contract(stride=1), tmp_path / "m", measure_memory=False)
    with pytest.raises(ConfigurationError, match="this one has neither"):
        Predictor.load(tmp_path / "m", compute="bfloat16")

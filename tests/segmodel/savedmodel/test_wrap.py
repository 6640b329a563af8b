"""SavedModels of others, called as their description says, give what they give by themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segmodel.errors import ConfigurationError, ContractError, ExportError
from segmodel.savedmodel.halo import Measuring
from segmodel.savedmodel.predictor import Predictor

tf = pytest.importorskip("tensorflow")

from segmodel.savedmodel import export  # noqa: E402
from segmodel.savedmodel.signatures import describe_endpoints, endpoints, meta_graph  # noqa: E402
from segmodel.savedmodel.wrap import Wrapping, check_values  # noqa: E402
from segmodel.savedmodel.wrap_settings import WrapConfig  # noqa: E402

BANDS = ("blue", "green", "red")
WEIGHTS = np.random.default_rng(3).normal(size=(3, 3)).astype(np.float32)
CLASSES = [{"id": n, "name": f"c{n}", "color": "#102030"} for n in range(3)]
MODEL = {
    "name": "foreign",
    "bands": list(BANDS),
    "dtype": "uint16",
    "value_range": [0, 1000],
    "nodata_fill": [1, 2, 3],
}


@pytest.fixture(autouse=True)
def _no_measurement(monkeypatch):
    """No second process, which export's own tests start."""
    monkeypatch.setattr("segmodel.savedmodel.export.measure_bytes_per_pixel", lambda folder: 77)


def scores(values: Any) -> Any:
    return tf.tensordot(tf.cast(values, tf.float32), tf.constant(WEIGHTS), 1)


def save(path: Path, function: Callable[..., Any], *specs: Any) -> Path:
    """A SavedModel with one signature, of a function with inputs of these specifications."""
    module = tf.Module()
    tf.saved_model.save(module, str(path), signatures=tf.function(function, input_signature=specs))
    return path


def spec(*shape: int | None, dtype: Any = tf.float32, name: str = "image") -> Any:
    return tf.TensorSpec(shape or (None, None, None, 3), dtype, name)


def config(changes: Mapping[str, Any] = {}, classes: Any = CLASSES) -> WrapConfig:
    """A description; of `model`, what is not named is as in `MODEL`."""
    return WrapConfig(
        **{"classes": classes} | dict(changes) | {"model": MODEL | dict(changes.get("model", {}))}
    )


def images(height: int = 8, width: int = 12, batch: int = 3) -> np.ndarray:
    shape = (batch, height, width, 3)
    return np.random.default_rng(1).integers(0, 1000, shape).astype(np.float32)


def plain(values: np.ndarray) -> np.ndarray:
    found: np.ndarray = scores(values).numpy()
    return found


def softmax(logits: np.ndarray) -> np.ndarray:
    found: np.ndarray = tf.nn.softmax(logits).numpy()
    return found


def upsampled(small: Any, values: np.ndarray) -> np.ndarray:
    found: np.ndarray = tf.image.resize(small, values.shape[1:3]).numpy()
    return found


def quarter(values: Any) -> Any:
    return tf.nn.avg_pool2d(scores(values), 4, 4, "VALID")


def eighth(values: Any) -> Any:
    return tf.nn.avg_pool2d(scores(values), 8, 8, "VALID")


# Function of the network, specification of its input, tables of the description, expected logits.
VARIANTS: dict[str, tuple[Callable[..., Any], Any, dict[str, Any], Callable[..., Any]]] = {
    "as it is": (scores, spec(), {}, plain),
    "one image at a time": (scores, spec(1, None, None, 3), {}, plain),
    "two images at a time": (scores, spec(2, None, None, 3), {}, plain),
    "a batch that is stated": (
        *(lambda image: tf.reshape(scores(image), (2, 8, 12, 3)), spec()),
        *({"savedmodel": {"batch": 2}}, plain),
    ),
    "one size": (scores, spec(None, 8, 8, 3), {}, plain),
    "any shape at all": (scores, tf.TensorSpec(None, tf.float32, "image"), {}, plain),
    "channels first": (
        lambda image: tf.transpose(scores(tf.transpose(image, (0, 2, 3, 1))), (0, 3, 1, 2)),
        spec(None, 3, None, None),
        {"input": {"layout": "NCHW"}, "output": {"layout": "NCHW"}},
        plain,
    ),
    "no batch": (
        *(scores, spec(None, None, 3)),
        *({"input": {"layout": "HWC"}, "output": {"layout": "HWC"}}, plain),
    ),
    "whole numbers": (
        *(scores, spec(dtype=tf.uint8)),
        {"input": {"preprocessing": [{"scale": 0.3}]}},
        lambda values: plain(np.clip(np.rint(values * np.float32(0.3)), 0, 255)),
    ),
    "half precision": (
        *(scores, spec(dtype=tf.float16), {}),
        lambda values: plain(values.astype(np.float16).astype(np.float32)),
    ),
    "other bands": (
        *(scores, spec(), {"input": {"bands": ["red", "green", "blue"]}}),
        lambda values: plain(values[..., ::-1]),
    ),
    "steps by band": (
        *(scores, spec()),
        {
            "input": {
                "bands": ["red", "green", "blue"],
                "preprocessing": [
                    *({"scale": 0.005}, {"offset": 1}, "log", {"mean": [1, 2, 3]}),
                    *({"std": [2, 3, 4]}, {"clip": [[-1, -2, -3], 9]}, "sigmoid"),
                ],
            }
        },
        lambda values: plain(
            1
            / (
                1
                + np.exp(
                    -np.maximum(
                        (np.log(0.005 * values[..., ::-1] + 1) - (1, 2, 3)) / (2, 3, 4),
                        (-1, -2, -3),
                    )
                )
            )
        ),
    ),
    "probabilities": (
        lambda image: tf.nn.softmax(scores(image) / 500),
        *(spec(), {"output": {"kind": "probabilities"}}),
        lambda values: np.log(softmax(plain(values) / 500)),
    ),
    "class ids": (
        lambda image: tf.argmax(scores(image), -1),
        *(spec(), {"output": {"kind": "labels", "layout": "NHW"}}),
        lambda values: 100.0 * np.eye(3)[plain(values).argmax(-1)],
    ),
    "some channels": (
        lambda image: tf.concat([image, scores(image)[..., ::-1]], -1),
        *(spec(), {"output": {"channels": [5, 4, 3]}}, plain),
    ),
    "a quarter of the resolution": (
        *(quarter, spec(), {"output": {"resolution": "1/4"}}),
        lambda values: upsampled(quarter(values), values),
    ),
    "twice the resolution": (
        lambda image: tf.repeat(tf.repeat(scores(image), 2, 1), 2, 2),
        *(spec(), {"output": {"resolution": 2, "resize": "nearest"}}, plain),
    ),
    "without padding": (
        lambda image: tf.nn.avg_pool2d(scores(image), 3, 1, "VALID"),
        *(spec(), {"output": {"margin": 1}}),
        lambda values: tf.nn.avg_pool2d(plain(framed(values)), 3, 1, "VALID").numpy(),
    ),
    "one of several outputs by name": (
        lambda image: {"aside": image[..., :1], "main": scores(image)},
        *(spec(), {"output": {"name": "main"}}, plain),
    ),
    "one of several outputs by number": (
        lambda image: {"aside": image[..., :1], "main": scores(image)},
        *(spec(), {"output": {"name": 1}}, plain),
    ),
}
FIXED = ("one size",)


def framed(values: np.ndarray) -> np.ndarray:
    whole = np.empty((len(values), *(side + 2 for side in values.shape[1:3]), 3), np.float32)
    whole[...] = (1, 2, 3)
    whole[:, 1:-1, 1:-1] = values
    return whole


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_network_gives_what_it_gives_by_itself(variant, tmp_path):
    function, specification, tables, expected = VARIANTS[variant]
    folder = save(tmp_path / "foreign", function, specification)
    values = images(width=8 if variant in FIXED else 12)

    wrapping = Wrapping(folder, config(tables))

    actual = wrapping.foreign(tf.constant(values)).numpy()
    np.testing.assert_allclose(actual, expected(values), rtol=1e-4, atol=1e-3)
    assert wrapping.contract.fixed_window == (8 if variant in FIXED else None)


TWO = CLASSES[:2]


@pytest.mark.parametrize("layout", ["NHWC", "NHW"])
@pytest.mark.parametrize("kind", ["logits", "probabilities"])
def test_one_channel_is_the_score_of_the_second_of_two_classes(kind, layout, tmp_path):
    def one(image):
        logits = (image[..., :1] - 500) / 100
        given = logits if kind == "logits" else tf.sigmoid(logits)
        return given if layout == "NHWC" else given[..., 0]

    folder = save(tmp_path / "foreign", one, spec())
    output = {"output": {"kind": kind, "layout": layout}}
    values = images()

    logits = Wrapping(folder, config(output, TWO)).foreign(tf.constant(values)).numpy()

    share = 1 / (1 + np.exp(-(values[..., 0] - 500) / 100))
    np.testing.assert_allclose(softmax(logits)[..., 1], share, atol=1e-5)


class Several(tf.Module):
    """No signature: a function with a flag, and a table that it looks up."""

    def __init__(self):
        super().__init__()
        self.weights = tf.Variable(WEIGHTS)
        keys = tf.constant([0, 1], tf.int64)
        initializer = tf.lookup.KeyValueTensorInitializer(keys, tf.constant([5.0, 7.0]))
        self.table = tf.lookup.StaticHashTable(initializer, -1.0)

    @tf.function
    def __call__(self, image, training=False):
        looked_up = self.table.lookup(tf.constant(0 if training else 1, tf.int64))
        return [tf.tensordot(image, self.weights, 1) * looked_up, image]


@pytest.fixture(scope="module")
def function_only(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("foreign") / "functions"
    module = Several()
    for training in (True, False):
        module.__call__.get_concrete_function(spec(), training=training)
    tf.saved_model.save(module, str(path))
    return path


def test_a_function_without_signature_is_exported_with_all_that_it_needs(function_only, tmp_path):
    described = "\n".join(describe_endpoints(endpoints(meta_graph(function_only))))
    assert described == (
        "function  __call__\n"
        "  input   image float32 (?, ?, ?, 3)\n"
        "  output  output_0 float32 (?, ?, ?, 3)\n"
        "  output  output_1 float32 (?, ?, ?, 3)"
    )
    tables = {"output": {"name": 0}, "window": {"halo": 0, "stride": 1}}
    wrapping = Wrapping(function_only, config(tables))
    values = images()
    np.testing.assert_allclose(wrapping.foreign(values).numpy(), 7 * plain(values), rtol=1e-5)

    written = wrapping.export(tmp_path / "model", measuring=Measuring(log=print))

    assert (written.parameters, written.halo.equal_labels) == (9, None)
    actual = Predictor.load(tmp_path / "model").segment(values[0].astype(np.uint16))
    np.testing.assert_array_equal(actual, plain(values)[0].argmax(-1))


def test_graphs_of_the_first_tensorflow_are_called(tmp_path):
    v1, folder = tf.compat.v1, str(tmp_path / "foreign")
    with tf.Graph().as_default(), v1.Session() as session:
        image = v1.placeholder(tf.float32, (1, None, None, 3), "in")
        keep = v1.placeholder(tf.int32, (), "keep")
        weights = v1.get_variable("w", initializer=WEIGHTS[None, None])
        given = tf.nn.conv2d(image, weights, 1, "SAME") * tf.cast(keep, tf.float32)
        session.run(v1.global_variables_initializer())
        signature = v1.saved_model.predict_signature_def(
            {"image": image, "keep_prob": keep}, {"scores": given, "best": tf.argmax(given, -1)}
        )
        builder = v1.saved_model.Builder(folder)
        builder.add_meta_graph_and_variables(session, ["serve"], {"predict": signature})
        builder.add_meta_graph(["train"], {"predict": signature})
        builder.save()
    tables = {"savedmodel": {"constants": {"keep_prob": 2}}, "output": {"name": "scores"}}
    values = images()

    wrapping = Wrapping(folder, config(tables))

    np.testing.assert_allclose(wrapping.foreign(values).numpy(), 2 * plain(values), rtol=1e-4)
    wrong = {"savedmodel": {"constants": {"keep_prob": 2.5}}}
    with pytest.raises(ConfigurationError, match=r"^savedmodel.constants: 2.5 does not fit the"):
        Wrapping(folder, config(tables | wrong))
    with pytest.raises(ConfigurationError, match=r"with the tags gpu; .*serve; train"):
        Wrapping(folder, config(tables | {"savedmodel": {"tags": "gpu"}}))


@pytest.fixture(scope="module")
def two_outputs(tmp_path_factory) -> Path:
    def given(image):
        return {"aside": image[..., :1], "main": scores(image)}

    return save(tmp_path_factory.mktemp("foreign") / "foreign", given, spec())


@pytest.mark.parametrize(
    ("tables", "match"),
    [
        (
            {"savedmodel": {"signature": "predict"}},
            r"^savedmodel.signature: foreign has no 'predict': name one .* serving_default: image "
            r"float32 \(\?, \?, \?, 3\) -> aside float32 \(\?, \?, \?, 1\), main float32",
        ),
        ({"input": {"name": "x"}}, r"^input.name: .* no input 'x'; its inputs: image float32"),
        ({"savedmodel": {"constants": {"x": 1}}}, "^savedmodel.constants: .*no further input 'x'"),
        ({}, r"^output.name: .* 2 outputs: name one, or give its number: 0: aside .*, 1: main"),
        ({"output": {"name": "x"}}, r"^output.name: .* no output 'x'; its outputs: 0: aside"),
        ({"output": {"name": 2}}, r"^output.name: .* no output 2"),
        ({"input": {"layout": "HWC"}, "output": {"name": 1}}, "^input.layout: HWC has 3 axes, "),
        ({"output": {"name": 1, "layout": "NHW"}}, r"^output.layout: NHW has 3 axes.* one of NHWC"),
        (
            {"model": {"bands": ["a", "b"], "nodata_fill": 0}, "output": {"name": 1}},
            r"^model.bands: 2 bands are named \(a, b\), and image .* takes 3 by input.layout NHWC",
        ),
        ({"output": {"name": 0}}, "^classes: 3 are named, and aside .* gives 1 scores: name 1"),
        ({"output": {"name": 1, "channels": [0, 3]}}, "^output.channels: .* has 3 channels, and 3"),
        ({"output": {"name": 1}, "window": {"size": 8, "halo": 4}}, "^window.size: 8 leaves no"),
        (
            {"output": {"name": 1}, "window": {"size": 100, "stride": 8}},
            "^window.stride: windows of 100 px are no multiple of 8: .* or window.size",
        ),
        (
            {"model": {"nodata_fill": -1}, "output": {"name": 1}},
            r"^model.nodata_fill: must be in 0\.\.65535, as uint16 is",
        ),
        (
            {"input": {"layout": "NCHW"}, "output": {"name": 1}},
            "^input.layout: by NCHW, image .* has a side of 3 pixels, the number of bands: write",
        ),
        (
            {"input": {"preprocessing": ["log"]}, "output": {"name": 1}},
            r"^input.preprocessing step 1: log gives -inf for 0, the least value of "
            r"model.value_range, in band blue: put \{clip = ",
        ),
        (
            {"input": {"preprocessing": [{"mean": [1, 2]}]}, "output": {"name": 1}},
            "^input.preprocessing step 1: mean needs one number, or one for each of 3 bands, got 2",
        ),
    ],
)
def test_what_does_not_fit_the_savedmodel_is_refused(two_outputs, tables, match):
    with pytest.raises((ConfigurationError, ContractError), match=match):
        Wrapping(two_outputs, config(tables))


@pytest.mark.parametrize(
    ("function", "tables", "match"),
    [
        (scores, {"window": {}}, "^window.halo is missing: give --samples"),
        (scores, {"output": {"kind": "probabilities"}}, "^output.kind: .* are no probabilities"),
        (quarter, {}, r'^output.resolution: .* 65x65 .* write output.resolution = "1/4"'),
        (
            lambda image: tf.nn.avg_pool2d(scores(image), 5, 1, "VALID"),
            *({}, r"^output.resolution: .* 256x256 .* write output.margin = 2"),
        ),
        (
            lambda image: tf.cast(tf.argmax(scores(image), -1) + 1, tf.uint8),
            {"output": {"kind": "labels", "layout": "NHW"}},
            r"^classes: the network gives the labels \[3\]",
        ),
        (
            lambda image: tf.reshape(scores(image), (1, 64, 64, 3)),
            *({}, "^the network cannot be called with 260x260 pixels: [^G].* state window.size"),
        ),
        (
            lambda image: scores(image) + tf.repeat(tf.repeat(eighth(image), 8, 1), 8, 2),
            *({}, "^the network cannot be called with 260x260 pixels: .* state window.stride"),
        ),
        (scores, {"output": {"resolution": "1/4"}}, ": write output.resolution = 1$"),
        (scores, {"output": {"margin": 2}}, ": leave output.margin out$"),
        (scores, {"output": {"layout": "NCHW"}}, ": write the output.layout that it has$"),
        (scores, {"output": {"kind": "labels"}}, "^output.kind: the network gives 3 values a pix"),
    ],
)
def test_what_the_network_does_not_do_is_refused(function, tables, match, tmp_path):
    folder = save(tmp_path / "foreign", function, spec())
    wrapping = Wrapping(folder, config({"window": {"halo": 0, "stride": 4}} | tables))
    with pytest.raises((ConfigurationError, ExportError), match=match):
        wrapping.export(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_values_that_are_probabilities_are_noticed(tmp_path):
    folder = save(tmp_path / "foreign", lambda image: tf.nn.softmax(scores(image)), spec())
    lines: list[str] = []
    wrapping = Wrapping(folder, config({"window": {"halo": 0, "stride": 4}}))
    wrapping.export(tmp_path / "model", measuring=Measuring(log=lines.append))
    assert lines == [
        'output.kind is "logits", but the values are shares that sum to 1: if they are '
        'probabilities, write "probabilities", or confidence is too low'
    ]


def test_one_probability_of_the_second_class_is_noticed():
    lines: list[str] = []
    values = np.linspace(0, 1, 16, dtype=np.float32).reshape(1, 4, 4, 1)
    check_values(values, config(classes=CLASSES[:2]), Measuring(log=lines.append))
    assert lines == [
        'output.kind is "logits", but the values are from 0 to 1: if they are probabilities, '
        'write "probabilities", or all labels are the second class'
    ]


def test_what_is_no_number_after_the_steps_is_filled(tmp_path):
    folder = save(tmp_path / "foreign", scores, spec())
    model = {"dtype": "float32", "value_range": [1, 1000]}
    tables = {"model": model, "input": {"preprocessing": ["log"]}}
    values = images()
    values[0, 0, 0] = (-5, 0, 7)
    filled = values.copy()
    filled[0, 0, 0, :2] = (1, 2)

    actual = Wrapping(folder, config(tables)).foreign(values).numpy()

    np.testing.assert_allclose(actual[0, 0], plain(np.log(filled[0, 0])), rtol=1e-4)


def test_functions_that_touch_files_are_refused(tmp_path):
    class Reading(tf.Module):
        @tf.function(input_signature=[spec()])
        def serve(self, image):
            size = tf.strings.length(tf.io.read_file("/etc/hostname"))
            return scores(image) + 0 * tf.cast(size, tf.float32)

    tf.saved_model.save(Reading(), str(tmp_path / "foreign"))
    with pytest.raises(
        ExportError, match=r"not allowed: ReadFile reads or writes files: .*--trust_model"
    ):
        Wrapping(tmp_path / "foreign", config())


def test_folders_that_are_no_savedmodels_are_refused(tmp_path):
    with pytest.raises(ContractError, match="is not a SavedModel, a folder with saved_model"):
        Wrapping(tmp_path, config())
    (tmp_path / "model.keras").write_bytes(b"PK")
    with pytest.raises(ContractError, match="of Keras files make one with"):
        Wrapping(tmp_path / "model.keras", config())
    (tmp_path / "saved_model.pb").write_bytes(b"\xff" * 9)
    with pytest.raises(ContractError, match="is not a SavedModel: saved_model"):
        Wrapping(tmp_path, config())


def halving(image):
    """Halves its input twice, so that labels shift with the size of the window."""
    small = tf.nn.avg_pool2d(tf.nn.avg_pool2d(scores(image), 3, 2, "SAME"), 3, 2, "SAME")
    return tf.image.resize(small, tf.shape(image)[1:3], "nearest")


def centred(image):
    """Looks at the mean of its whole window."""
    return scores(image - tf.reduce_mean(image, (1, 2), keepdims=True))


@pytest.mark.parametrize(
    ("function", "stride", "fixed", "line"),
    [(halving, 4, None, "stride 1 raised to 4"), (centred, 1, 1024, "window fixed at 1024 px")],
)
def test_a_stride_that_is_not_stated_is_found_or_the_window_is_fixed(
    function, stride, fixed, line, tmp_path
):
    folder = save(tmp_path / "foreign", function, spec())
    lines: list[str] = []
    wrapping = Wrapping(folder, config({"window": {"halo": 8, "receptive_field": 17}}))
    written = wrapping.export(tmp_path / "model", measuring=Measuring(log=lines.append))
    assert (written.stride, written.fixed_window) == (stride, fixed)
    assert written.halo.pixels == 8
    assert any(one.startswith(line) for one in lines), lines


def test_sizes_of_windows_are_compared_once_and_said_of_the_stride_that_was_found(
    tmp_path, monkeypatch
):
    folder = save(tmp_path / "foreign", halving, spec())
    wrapping = Wrapping(folder, config({"window": {"halo": 8, "receptive_field": 17}}))
    # The exporter has none to compare them with.
    monkeypatch.delattr(export, "measure_sizes")
    sample = np.random.default_rng(0).integers(0, 1000, (64, 560, 3)).astype(np.uint16)
    written = wrapping.export(tmp_path / "model", [sample], Measuring(log=lambda line: None))
    assert written.stride == 4
    assert written.sizes is not None
    assert (written.sizes.stated_stride, written.sizes.equal_labels) == (written.stride, 1.0)
    assert written.sizes.stated_equal_labels == 1.0

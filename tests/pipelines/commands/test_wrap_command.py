"""`beamseg wrap`: a published network and a TOML file in, a model out that labels as it does."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio

from pipelines.commands import inspect, wrap
from segmodel.errors import ConfigurationError, ContractError
from segmodel.savedmodel.folder import CONTRACT_FILE, read_contract
from segmodel.savedmodel.predictor import Predictor

tf = pytest.importorskip("tensorflow")

BANDS = ("B2", "B3", "B4", "B5", "B6", "B7", "B8", "B11", "B12")
LOW = np.linspace(1.4, 2.6, 9, dtype=np.float32)
HIGH = np.linspace(2.0, 2.9, 9, dtype=np.float32)
CLASSES = 4
DESCRIPTION = f"""
classes = [
  {{ id = 0, name = "water", color = "#419BDF" }},
  {{ id = 1, name = "trees", color = "#397D49" }},
  {{ id = 2, name = "grass", color = "#88B053" }},
  {{ id = 3, name = "built", color = "#C4281B" }},
]

[model]
name = "world"
bands = {list(BANDS)}
dtype = "uint16"
value_range = [0, 10000]

[input]
name = "reflectance"
preprocessing = [
  {{ scale = 0.005 }}, {{ offset = 1 }}, "log",
  {{ mean = {LOW.tolist()} }}, {{ std = {HIGH.tolist()} }},
  {{ scale = 5 }}, {{ offset = -1 }}, "sigmoid",
]
"""


@pytest.fixture(autouse=True)
def _no_measurement(monkeypatch):
    """No second process, which export's own tests start."""
    monkeypatch.setattr("segmodel.savedmodel.export.measure_bytes_per_pixel", lambda folder: 77)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The network, its description, a scene, and what the network makes of it by itself."""
    folder = tmp_path_factory.mktemp("world")
    random = np.random.default_rng(5)
    near = tf.constant(random.normal(size=(3, 3, 9, 8)), tf.float32)
    last = tf.constant(random.normal(size=(1, 1, 8, CLASSES)), tf.float32)

    def network(reflectance):
        hidden = tf.nn.relu(tf.nn.conv2d(reflectance, near, 1, "SAME"))
        return {"logits": tf.nn.conv2d(hidden - 1, last, 1, "SAME"), "hidden": hidden}

    def one_output(reflectance):
        return {"logits": network(reflectance)["logits"]}

    spec = tf.TensorSpec((None, None, None, 9), tf.float32, "reflectance")
    signatures = {
        name: tf.function(function, input_signature=[spec])
        for name, function in (("serving_default", one_output), ("all", network))
    }
    tf.saved_model.save(tf.Module(), str(folder / "foreign"), signatures=signatures)
    (folder / "world.toml").write_text(DESCRIPTION)
    image = random.integers(0, 9000, (530, 40, 9), np.uint16)
    profile = {"driver": "GTiff", "height": 530, "width": 40, "count": 9, "dtype": "uint16"}
    grid = {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 5e5, 0, -10, 5e6)}
    with rasterio.open(folder / "scene.tif", "w", **profile | grid) as target:
        target.write(np.moveaxis(image, -1, 0))
        target.descriptions = BANDS
    values = 5 * (np.log(image * np.float32(0.005) + 1) - LOW) / HIGH - 1
    scores = network(tf.constant(1 / (1 + np.exp(-values[None]))))["logits"].numpy()[0]
    return folder, image, scores


def test_a_published_network_labels_as_it_does_by_itself(folder, tmp_path, capsys):
    where, image, scores = folder
    words = [str(where / "foreign"), "--contract", str(where / "world.toml")]

    assert wrap.run([*words, "--output", str(tmp_path / "model"), "--samples",
                     str(where / "scene.tif"), str(where / "scene.tif")]) == 0  # fmt: skip

    printed = capsys.readouterr().out
    assert "stride 1: 100.00 % of labels alike in windows of 512, 513, 515 px (" in printed
    assert "world: stride 1, halo 1 px (measured: 100.00 % of labels as untiled" in printed
    written = read_contract(tmp_path / "model")
    assert (written.bands, written.dtype, written.stride, written.halo.pixels) == (
        *(BANDS, "uint16", 1, 1),
    )
    model = Predictor.load(tmp_path / "model")
    actual = model.segment(image, window=64, halo=1)
    best = np.sort(scores, axis=-1)
    ties = best[..., -1] - best[..., -2] < 1e-4
    assert (actual == scores.argmax(-1))[~ties].all()
    assert ties.mean() < 0.001
    assert len(DESCRIPTION.strip().splitlines()) <= 60


def test_inspect_prints_signatures_of_a_savedmodel_without_contract(folder, capsys):
    assert inspect.run([str(folder[0] / "foreign")]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "signature all",
        "  input   reflectance float32 (?, ?, ?, 9)",
        "  output  hidden float32 (?, ?, ?, 8)",
        "  output  logits float32 (?, ?, ?, 4)",
        "signature serving_default",
        "  input   reflectance float32 (?, ?, ?, 9)",
        "  output  logits float32 (?, ?, ?, 4)",
    ]


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ([], "name a SavedModel"),
        (["SM"], "--contract is missing, for example"),
        (["SM", "--contract", "TOML"], "--output is missing, for example"),
        (["SM", "--contract", "TOML", "--output", "SM"], "--output is the SavedModel itself"),
        (["SM", "--contract", "TOML", "--output", "gs://b/out"], "is no folder of this machine"),
        (["SM", "--contract", "TOML", "--output", "WRONG"], r"wrong\.toml is a file: name another"),
        (["MODEL", "--contract", "TOML", "--output", "OUT"], "has a model contract already"),
        (["SM", "--contract", "none.toml", "--output", "OUT"], r"none\.toml: no such file"),
        (["SM", "--contract", "WRONG", "--output", "OUT"], r"wrong\.toml: input.name: serving"),
        (["SM", "--contract", "TOML", "--output", "OUT"], r"world\.toml: window.halo is missing"),
        (
            ["SM", "--contract", "TOML", "--output", "OUT", "--samples", "none/*.tif"],
            "no image matches",
        ),
        (["EMPTY", "--contract", "TOML", "--output", "OUT"], "is not a SavedModel"),
    ],
)
def test_what_cannot_be_carried_out_is_refused(folder, tmp_path, words, match):
    where = folder[0]
    (tmp_path / "wrong.toml").write_text(DESCRIPTION.replace("reflectance", "image"))
    (tmp_path / "model" / "assets.extra").mkdir(parents=True)
    (tmp_path / "model" / CONTRACT_FILE).touch()
    names = {
        "MODEL": str(tmp_path / "model"),
        "SM": str(where / "foreign"),
        "TOML": str(where / "world.toml"),
        "WRONG": str(tmp_path / "wrong.toml"),
        "OUT": str(tmp_path / "out"),
        "EMPTY": str(tmp_path),
    }
    with pytest.raises((ConfigurationError, ContractError), match=match):
        wrap.run([names.get(word, word) for word in words])
    assert not (tmp_path / "out").exists()

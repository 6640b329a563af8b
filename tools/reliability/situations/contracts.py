"""Models: folders that are none, contracts that are wrong, graphs that are damaged or hostile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tools.reliability.situations.changes import (
    Change,
    all_of,
    copied,
    cut,
    empty,
    entries,
    gone,
    link,
    put,
    spoiled,
)
from tools.reliability.situations.table import GIVEN, PHOTOS, SCENES, Situation

CONTRACT = "model/assets.extra/segmodel.json"
GRAPH = "model/saved_model.pb"
INDEX, DATA = "model/variables/variables.index", "model/variables/variables.data-00000-of-00001"
INSPECT = "inspect model"
BFLOAT16 = f"{PHOTOS} --compute=bfloat16"


def states(**changed: Any) -> Change:
    """The contract with other entries."""
    return entries(CONTRACT, **changed)


def takes(path: str = CONTRACT, **changed: Any) -> Change:
    """A contract with other entries of its input."""
    return _within(path, "mlm:input", changed)


def gives(classes: Any, path: str = CONTRACT) -> Change:
    """A contract with other classes."""
    return _within(path, "mlm:output", {"classification:classes": classes})


def _within(path: str, table: str, changed: dict[str, Any]) -> Change:
    def make(folder: Path) -> None:
        (found,) = json.loads((folder / path).read_bytes())[table]
        entries(path, **{table: [found | changed]})(folder)

    return make


def named(number: int, name: object = "a", color: object = "000000") -> dict[str, object]:
    """A class as the contract has it."""
    return {"value": number, "name": name, "color_hint": color}


def measured(equal_labels: float) -> dict[str, object]:
    """How labels by bfloat16 compare, as the contract has it."""
    changes = {"dark": 0.0, "middle": 0.0, "bright": 0.0}
    shares = {"equal_labels": equal_labels, "class_changes": changes}
    return {"compute": "bfloat16", "pixels": 1000, **shares}


def deep(folder: Path) -> None:
    """Lists in lists, deeper than a parser goes."""
    (folder / CONTRACT).write_text("[" * 200_000 + "]" * 200_000)


SITUATIONS = (
    # The folder.
    Situation(
        "a model without contract",
        PHOTOS,
        "model",
        "make a model of it with beamseg wrap; beamseg inspect says what",
        make=gone("model/assets.extra"),
    ),
    Situation(
        "a model without graph",
        PHOTOS,
        "model",
        "it has no saved_model.pb; name the folder that has one",
        make=gone(GRAPH),
    ),
    Situation(
        "a model of which the graph is a folder",
        PHOTOS,
        "saved_model.pb",
        "it has no saved_model.pb; name the folder that has one",
        make=empty(GRAPH),
    ),
    Situation(
        "a model without variables",
        PHOTOS,
        "variables",
        "copy it again if files are damaged or missing; else export it",
        make=gone("model/variables"),
    ),
    Situation(
        "a model without the index of its variables",
        PHOTOS,
        "variables",
        "copy it again if files are damaged or missing; else export it",
        make=gone(INDEX),
    ),
    Situation(
        "a model without the values of its variables",
        PHOTOS,
        "variables",
        "copy it again if files are damaged or missing; else export it",
        make=gone(DATA),
    ),
    Situation(
        "a contract that is a folder",
        PHOTOS,
        "segmodel.json",
        "make a model of it with beamseg wrap; beamseg inspect says what",
        make=empty(CONTRACT),
    ),
    Situation(
        "a contract that is a link to nothing",
        PHOTOS,
        "segmodel.json",
        "make a model of it with beamseg wrap; beamseg inspect says what",
        make=link(CONTRACT, "nowhere"),
    ),
    Situation(
        "a model with a link in a circle",
        PHOTOS,
        "circle",
        "is no file",
        make=link("model/circle", "circle"),
    ),
    # The contract as a file.
    Situation(
        "an empty contract",
        INSPECT,
        "segmodel.json",
        "line 1 column 1 (char 0)",
        make=put(CONTRACT, b""),
    ),
    Situation(
        "a contract that is no JSON",
        INSPECT,
        "segmodel.json",
        "line 1 column 2 (char 1)",
        make=put(CONTRACT, "{bands: 3}"),
    ),
    Situation(
        "a contract that is cut",
        INSPECT,
        "segmodel.json",
        "line 72 column 33 (char 1260)",
        make=cut(CONTRACT, 0.7),
    ),
    Situation(
        "a contract that is a list",
        INSPECT,
        "segmodel.json",
        "the contract must hold an object",
        make=put(CONTRACT, "[]"),
    ),
    Situation(
        "a contract that is a number",
        INSPECT,
        "segmodel.json",
        "the contract must hold an object",
        make=put(CONTRACT, "7"),
    ),
    Situation(
        "a contract that is not UTF-8",
        INSPECT,
        "segmodel.json",
        "invalid start byte",
        make=put(CONTRACT, b'{"name": "\xff\xfe"}'),
    ),
    Situation(
        "a contract with a mark of byte order",
        INSPECT,
        "segmodel.json",
        "line 1 column 1 (char 0)",
        make=put(CONTRACT, "\ufeff{}"),
    ),
    Situation(
        "a contract that is nested without end",
        INSPECT,
        "segmodel.json",
        "export the model again",
        make=deep,
    ),
    Situation(
        "a contract with a number of too many digits",
        INSPECT,
        "segmodel.json",
        "value has 9999 digits; use sys.set_int_max_str_digits() to",
        make=put(CONTRACT, f'{{"format_version": {"9" * 9999}}}'),
    ),
    # Its entries.
    Situation(
        "a contract of a later version",
        PHOTOS,
        "format_version",
        "this beamseg reads 1, the model has 999; export the model again",
        make=states(format_version=999),
    ),
    Situation(
        "a contract whose version is a text",
        PHOTOS,
        "format_version",
        "this beamseg reads 1, the model has 'one'; export the model",
        make=states(format_version="one"),
    ),
    Situation(
        "a contract without a version",
        PHOTOS,
        "format_version",
        "this beamseg reads 1, the model has None; export the model",
        make=states(format_version=None),
    ),
    Situation(
        "a contract without bands",
        PHOTOS,
        "bands",
        "must be a list of names, got None",
        make=takes(bands=None),
    ),
    Situation(
        "a contract of no band", PHOTOS, "bands", "at least one is needed", make=takes(bands=[])
    ),
    Situation(
        "a contract whose bands are a number",
        PHOTOS,
        "bands",
        "must be a list of names, got 3",
        make=takes(bands=3),
    ),
    Situation(
        "a contract whose bands are numbers",
        PHOTOS,
        "bands",
        "must be a text, got 1",
        make=takes(bands=[1, 2, 3]),
    ),
    Situation(
        "a contract of a type that is none",
        PHOTOS,
        "dtype",
        "must be one of uint8, uint16, int16, float32, got 'uint7'",
        make=takes(input={"data_type": "uint7"}),
    ),
    Situation(
        "a contract of a type that is a list",
        PHOTOS,
        "dtype",
        "must be a text, got ['uint8']",
        make=takes(input={"data_type": ["uint8"]}),
    ),
    Situation(
        "a contract of a range that falls",
        PHOTOS,
        "value_range",
        "must be two rising numbers, got (255, 0)",
        make=takes(value_range=[255, 0]),
    ),
    Situation(
        "a contract of a range of NaN",
        PHOTOS,
        "value_range",
        "must be two rising numbers, got (nan, 255)",
        make=takes(value_range=[float("nan"), 255]),
    ),
    Situation(
        "a contract of a range of one number",
        PHOTOS,
        "segmodel.json",
        "export the model again",
        make=takes(value_range=[255]),
    ),
    Situation(
        "a contract of a fill beyond its type",
        PHOTOS,
        "nodata_fill",
        "must be in 0..255, as uint8 is",
        make=takes(nodata_fill=[1e9, 0, 0]),
    ),
    Situation(
        "a contract of a fill for fewer bands",
        PHOTOS,
        "nodata_fill",
        "needs one value for each of 3 bands, got 1",
        make=takes(nodata_fill=[0]),
    ),
    Situation(
        "a contract of a fill of infinity",
        PHOTOS,
        "nodata_fill",
        "must be finite, NaN spreads through convolutions",
        make=takes(nodata_fill=[float("inf"), 0, 0]),
    ),
    Situation(
        "a contract without classes",
        PHOTOS,
        "mlm:output",
        "missing in the contract",
        make=states(**{"mlm:output": None}),
    ),
    Situation(
        "a contract of no class",
        PHOTOS,
        "classes",
        "at least one class is needed, got none",
        make=gives([]),
    ),
    Situation(
        "a contract whose classes are texts",
        PHOTOS,
        "segmodel.json",
        "export the model again",
        make=gives(["dark", "bright"]),
    ),
    Situation(
        "a contract of a class id twice",
        PHOTOS,
        "classes",
        "id 0 occurs more than once",
        make=gives([named(0, "a", "000000"), named(0, "b", "000001")]),
    ),
    Situation(
        "a contract of a class that is nodata",
        PHOTOS,
        "labels",
        "export it again, or wrap it with beamseg wrap",
        make=gives([named(0, "a", "000000"), named(255, "b", "000001")]),
    ),
    Situation(
        "a contract of a negative class id",
        PHOTOS,
        "-1",
        "id must be in 0..",
        make=gives([named(-1, "a", "000000")]),
    ),
    Situation(
        "a contract of a class with a colour that is none",
        PHOTOS,
        "color",
        "must look like #8429F6, got 'red'",
        make=gives([named(0, color="red")]),
    ),
    Situation(
        "a contract of a class with a reserved name",
        PHOTOS,
        "classes",
        "labels [3, 7] are not in the class table",
        make=gives([named(0, "nodata", "000000")]),
    ),
    Situation(
        "a contract of a class without a name",
        PHOTOS,
        "name",
        "missing in the contract",
        make=gives([{"value": 0, "color_hint": "000000"}]),
    ),
    Situation(
        "a contract of no stride",
        PHOTOS,
        "stride",
        "must be at least 1, got 0",
        make=states(stride=0),
    ),
    Situation(
        "a contract of a stride that is a text",
        PHOTOS,
        "stride",
        "must be a whole number, got '32'",
        make=states(stride="32"),
    ),
    Situation(
        "a contract of a stride beyond all windows",
        PHOTOS,
        "--window",
        "give 999450683594571M (999450683594774M for scenes), or lower",
        make=states(stride=10**9),
    ),
    Situation(
        "a contract of a negative halo",
        PHOTOS,
        "halo",
        "must be at least 0, got -1",
        make=states(halo={"pixels": -1, "window_px": 512, "equal_labels": 1.0}),
    ),
    Situation(
        "a contract of a halo that is a number",
        PHOTOS,
        "halo",
        "must be an object, got 3",
        make=states(halo=3),
    ),
    Situation(
        "a contract of a curve with a share above one",
        PHOTOS,
        "halo.curve",
        "shares must be in [0, 1]: (0.1, 1.5)",
        make=states(
            halo={
                "pixels": 0,
                "window_px": 512,
                "equal_labels": 1.0,
                "curve": {"step_px": 32, "unequal_labels": [0.1, 1.5]},
            }
        ),
    ),
    Situation(
        "a contract of a fixed window of nothing",
        PHOTOS,
        "fixed_window",
        "0 leaves no core with a halo of 0 and a stride of 32",
        make=states(fixed_window=0),
    ),
    Situation(
        "a contract of a ground sample distance that falls",
        PHOTOS,
        "gsd_range_m",
        "must be two rising numbers, got (9, 1)",
        make=states(gsd_range_m=[9, 1]),
    ),
    Situation(
        "a contract of memory beyond any machine",
        PHOTOS,
        "--memory",
        "give 250000000000827M (250000000001030M for scenes), or lower",
        make=states(bytes_per_pixel=10**15),
    ),
    Situation(
        "a contract whose metrics are a list",
        INSPECT,
        "metrics",
        "must be an object, got [1, 2]",
        make=states(metrics=[1, 2]),
    ),
    Situation(
        "a contract whose name is a number",
        INSPECT,
        "name",
        "must be a text, got 7",
        make=states(**{"mlm:name": 7}),
    ),
    # The contract and what is given.
    Situation(
        "a contract of more bands than the images have",
        PHOTOS,
        "contract",
        "export it again, or wrap it with beamseg wrap",
        make=takes(bands=["a", "b", "c", "d"], nodata_fill=[0, 0, 0, 0]),
    ),
    Situation(
        "a contract of other bands than the network",
        SCENES,
        "bands",
        "the scene has 1 (red), 2 (green), 3 (blue)",
        make=takes(bands=["a", "b"], nodata_fill=[0, 0]),
    ),
    Situation(
        "a contract of another type than the images",
        PHOTOS,
        "contract",
        "export it again, or wrap it with beamseg wrap",
        make=takes(input={"data_type": "float32"}),
    ),
    Situation(
        "a contract of another ground sample distance than the scenes",
        SCENES,
        "gsd",
        "the model was made for 100 to 200 m a pixel, the input has 10 x",
        make=states(gsd_range_m=[100, 200]),
    ),
    Situation(
        "a contract of other classes than the network gives",
        PHOTOS,
        "classes",
        "labels [0, 3, 7] are not in the class table",
        make=gives([named(1, "a", "000000")]),
    ),
    Situation(
        "a window other than the fixed one",
        f"{PHOTOS} --window=128",
        "--window",
        "leave --window out",
        make=states(fixed_window=64),
    ),
    # The graph.
    Situation(
        "an empty graph",
        PHOTOS,
        "saved_model.pb",
        "copy or export the model again",
        make=put(GRAPH, b""),
    ),
    Situation(
        "a graph of text",
        PHOTOS,
        "saved_model.pb",
        "copy or export the model again",
        make=put(GRAPH, "hello " * 99),
    ),
    Situation(
        "a graph that is cut",
        PHOTOS,
        "saved_model.pb",
        "copy or export the model again",
        make=cut(GRAPH, 0.5),
    ),
    Situation(
        "a graph with spoiled bytes",
        PHOTOS,
        "saved_model.pb",
        "copy or export the model again",
        make=spoiled(GRAPH, 0.5),
    ),
    Situation(
        "variables with a spoiled index",
        PHOTOS,
        "variables",
        "copy it again if files are damaged or missing; else export it",
        make=spoiled(INDEX, 0.0),
    ),
    Situation(
        "variables with an empty index",
        PHOTOS,
        "model",
        "copy it again if files are damaged or missing; else export it",
        make=put(INDEX, b""),
    ),
    Situation(
        "the graph of another model",
        PHOTOS,
        "model",
        "make a model of it with beamseg wrap",
        make=all_of(gone(GRAPH), copied("foreign/saved_model.pb", GRAPH)),
    ),
    Situation(
        "a foreign model as it is",
        "segment --input=photos --model=foreign --output=run",
        "foreign",
        "make a model of it with beamseg wrap; beamseg inspect says what",
    ),
    Situation(
        "a foreign model with a contract by hand",
        "segment --input=photos --model=foreign --output=run",
        "foreign",
        "make a model of it with beamseg wrap",
        make=copied(CONTRACT, "foreign/assets.extra/segmodel.json"),
    ),
    Situation(
        "a Keras model that is a file",
        "inspect a.keras",
        "a.keras",
        "there is no such folder",
        make=put("a.keras", b"PK\3\4"),
    ),
    Situation(
        "a frozen graph of TensorFlow 1",
        "inspect frozen",
        "frozen",
        "it has no saved_model.pb; name the folder that has one",
        make=put("frozen/frozen_graph.pb", b"\x0a\x02"),
    ),
    Situation(
        "a network of ONNX",
        "segment --input=photos --model=a.onnx --output=run",
        "a.onnx",
        "there is no such folder",
        make=put("a.onnx", b"\x08\x07"),
    ),
    Situation(
        "a folder above models",
        "inspect .",
        ".",
        "it has no saved_model.pb; name the folder that has one",
    ),
    Situation(
        "a model from a repository without its large files",
        PHOTOS,
        "saved_model.pb",
        "copy or export the model again",
        make=put(GRAPH, "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"),
    ),
    Situation("inspect without a model", "inspect", "MODEL", "; see beamseg inspect --help"),
    Situation(
        "inspect of two models",
        "inspect model foreign",
        "foreign",
        "options begin with --, patterns with * need quotes",
    ),
    Situation(
        "a model that is not the one of the run",
        f"segment --input=photos {GIVEN}",
        "model_fingerprint",
        "--overwrite to begin again",
        before=(PHOTOS,),
        make=states(**{"mlm:name": "darkness"}),
    ),
    # Compute types and speed.
    Situation(
        "bfloat16 that nobody has measured",
        BFLOAT16,
        "--compute bfloat16",
        "export or wrap it again, with sample images",
    ),
    Situation(
        "bfloat16 that changes too many labels",
        BFLOAT16,
        "--compute bfloat16",
        "of this model 98.00 % are: leave --compute out",
        make=states(computing=[measured(0.98)]),
    ),
    Situation(
        "bfloat16 on a processor without",
        BFLOAT16,
        "--compute bfloat16",
        "the CPU needs avx512_bf16 or amx_bf16",
        make=states(computing=[measured(0.995)]),
        hook="from segmodel.devices import compute; compute.cpu_flags = frozenset",
        variables={"CUDA_VISIBLE_DEVICES": "-1"},
    ),
    Situation(
        "the speed of a model without contract",
        "inspect foreign --speed",
        "--speed",
        "make a model of it with beamseg wrap",
    ),
    Situation(
        "memory for no window whose speed could be told",
        f"{INSPECT} --speed --memory=500M",
        "--memory 500M",
        "is not enough for windows of 512 pixels: give",
    ),
)

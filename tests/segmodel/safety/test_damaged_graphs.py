"""A file of graphs that says what cannot be is an error of one line, for who only reads it, too."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from segmodel.errors import ContractError

tf = pytest.importorskip("tensorflow")

from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef  # noqa: E402
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel  # noqa: E402

from segmodel.safety.loading import load_savedmodel  # noqa: E402
from segmodel.savedmodel.signatures import endpoints  # noqa: E402


def type_that_is_none(graph: MetaGraphDef) -> None:
    graph.signature_def["labels"].outputs["labels"].dtype = 9999


def child_that_is_none(graph: MetaGraphDef) -> None:
    graph.object_graph_def.nodes[0].children[0].node_id = 9999


def output_that_is_none(graph: MetaGraphDef) -> None:
    graph.signature_def["labels"].outputs["labels"].name = "nowhere:0"


def initializer_that_is_none(graph: MetaGraphDef) -> None:
    graph.signature_def["__saved_model_init_op"].outputs["__saved_model_init_op"].name = "nowhere"


def function_that_is_none(graph: MetaGraphDef) -> None:
    for node in graph.object_graph_def.nodes:
        if node.HasField("function"):
            node.function.concrete_functions[:] = ["nowhere"]


def damaged(model, change: Callable[[MetaGraphDef], None]) -> SavedModel:
    saved = SavedModel.FromString((model / "saved_model.pb").read_bytes())
    change(saved.meta_graphs[0])
    return saved


@pytest.mark.parametrize("change", [type_that_is_none, child_that_is_none])
def test_signatures_that_cannot_be_are_an_error_of_one_line(change, base):
    graph = damaged(base, change).meta_graphs[0]
    with pytest.raises(ContractError, match=r"^the signatures of the SavedModel cannot be read .*"):
        endpoints(graph)


@pytest.mark.parametrize(
    ("change", "is_v1"),
    [
        (child_that_is_none, False),
        (function_that_is_none, False),
        (output_that_is_none, True),
        (initializer_that_is_none, True),
    ],
)
def test_what_tensorflow_cannot_load_is_an_error_of_one_line(
    change, is_v1, base, base_v1, tmp_path
):
    saved = damaged(base_v1 if is_v1 else base, change)
    (tmp_path / "saved_model.pb").write_bytes(saved.SerializeToString())
    with pytest.raises(ContractError, match="cannot be loaded by TensorFlow") as raised:
        load_savedmodel(tmp_path, trust=False)
    assert "\n" not in str(raised.value)

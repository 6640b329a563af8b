"""Every operation of TensorFlow is classed, and what nobody has classed is refused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from segmodel.errors import ExportError
from segmodel.safety.operations import Permission, kind_by_operation, operation_kinds

tf = pytest.importorskip("tensorflow")

from tensorflow.core.framework.op_def_pb2 import OpList  # noqa: E402
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel  # noqa: E402
from tensorflow.python.client import pywrap_tf_session  # noqa: E402

from segmodel.safety.check import refuse_unsafe  # noqa: E402


def registered() -> dict[str, bool]:
    """Operations that TensorFlow registers, and whether it takes them for stateless."""
    content = pywrap_tf_session.TF_GetBuffer(pywrap_tf_session.TF_GetAllOpList())
    return {one.name: not one.is_stateful for one in OpList.FromString(content).op}


def test_each_operation_that_tensorflow_registers_is_classed():
    assert sorted(registered().keys() - kind_by_operation().keys()) == []


def test_each_classed_operation_is_one_of_tensorflow():
    assert sorted(kind_by_operation().keys() - registered().keys()) == []


def test_no_operation_is_of_two_kinds():
    counts = Counter(name for kind in operation_kinds() for name in kind.operations)
    assert [name for name, count in counts.items() if count > 1] == []


@pytest.mark.parametrize(
    "operation",
    ["ReadFile", "PyFuncStateless", "DebugIdentity", "SnapshotDataset", "XlaCustomCall"],
)
def test_the_flag_of_stateless_operations_allows_nothing(operation):
    assert registered()[operation]
    assert kind_by_operation()[operation].permission == Permission.REFUSED


def attributes_of_allowed_operations() -> set[str]:
    """Names of attributes and inputs of all operations that are allowed."""
    content = pywrap_tf_session.TF_GetBuffer(pywrap_tf_session.TF_GetAllOpList())
    return {
        entry.name
        for op in OpList.FromString(content).op
        if kind_by_operation()[op.name].permission == Permission.ALLOWED
        for entry in [*op.attr, *op.input_arg]
    }


def test_no_allowed_operation_takes_a_file_an_address_or_a_program():
    words = ("file", "path", "dir", "url", "uri", "host", "port", "descriptor", "region", "addr")
    words += ("program", "module", "graph", "proto")
    # Number of answers of a search, way through a sequence, memory of a GPU, options of calls.
    harmless = {"top_paths", "direction", "host_reserved", "config_proto"}
    names = attributes_of_allowed_operations() - harmless
    assert sorted(name for name in names if any(word in name for word in words)) == []


def save_graph(folder: Path, *operations: str) -> None:
    """A SavedModel whose graph holds operations that nothing depends on."""
    saved = SavedModel()
    graph = saved.meta_graphs.add()
    for name in operations:
        graph.graph_def.node.add(name=f"node/{name}", op=name)
    (folder / "saved_model.pb").write_bytes(saved.SerializeToString())


def test_all_operations_that_are_allowed_are_taken(tmp_path):
    allowed = [kind for kind in operation_kinds() if kind.permission == Permission.ALLOWED]
    operations = [name for kind in allowed for name in kind.operations]
    save_graph(tmp_path, *operations)
    refuse_unsafe(tmp_path)
    # Named here so that nobody allows many at once without noticing.
    assert len(operations) == 952


@pytest.mark.parametrize(
    "kind",
    [kind for kind in operation_kinds() if kind.permission == Permission.REFUSED],
    ids=lambda kind: kind.name,
)
def test_each_kind_of_operations_that_is_refused_says_why(kind, tmp_path):
    save_graph(tmp_path, "Identity", kind.operations[0])
    with pytest.raises(ExportError, match=rf"not allowed: {kind.operations[0]} {kind.why}: load"):
        refuse_unsafe(tmp_path)
    save_graph(tmp_path, *kind.operations)
    with pytest.raises(ExportError, match=rf"(and {len(kind.operations) - 5} others )?{kind.why}"):
        refuse_unsafe(tmp_path)

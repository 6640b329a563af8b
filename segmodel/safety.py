"""What a SavedModel may do: a SavedModel is a program, and some operations touch files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.protobuf import saved_model_pb2

from segmodel.errors import ExportError

FILE_OPERATIONS = frozenset(
    {
        "DebugIdentity",
        "DebugIdentityV2",
        "DumpTensor",
        "FixedLengthRecordDatasetV2",
        "FixedLengthRecordReaderV2",
        "LMDBDataset",
        "LMDBReader",
        "LoadDataset",
        "MatchingFiles",
        "MatchingFilesDataset",
        "PrintV2",
        "PyFunc",
        "PyFuncStateless",
        "EagerPyFunc",
        "ReadFile",
        "SaveDataset",
        "SaveDatasetV2",
        "SqlDataset",
        "TFRecordDataset",
        "TFRecordDatasetV2",
        "TFRecordReaderV2",
        "TextLineDataset",
        "TextLineReaderV2",
        "WholeFileReaderV2",
        "WriteFile",
        "WriteGraphSummary",
        "WriteSummary",
    }
)


def refuse_file_operations(model: str | Path) -> None:
    """Refuse a SavedModel whose signatures or initializer reach operations that touch files.

    Saving and restoring variables is not among them.

    Raises:
        ExportError: Names the operations and the remedy.
    """
    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString((Path(model) / "saved_model.pb").read_bytes())
    found: set[str] = set()
    for graph in saved.meta_graphs:
        roots = {
            tensor.name
            for key, signature in graph.signature_def.items()
            for tensor in (*signature.outputs.values(),)
            if tensor.name
        }
        functions = {f.signature.name: f for f in graph.graph_def.library.function}
        found |= set(_reachable(graph.graph_def.node, roots, functions)) & FILE_OPERATIONS
    if found:
        raise ExportError(
            f"{Path(model).name} reads or writes files when it is called "
            f"({', '.join(sorted(found))}); load it only if you trust whoever made it, "
            f"with --trust_model"
        )


def _reachable(nodes: Iterable[NodeDef], roots: set[str], functions: dict) -> Iterator[str]:
    """Operations that the roots depend on, in the graph and in every function called from it."""
    by_name = {node.name: node for node in nodes}
    waiting, seen = [_node_name(root) for root in roots], set()
    called: list[str] = []
    while waiting:
        name = waiting.pop()
        if name in seen or name not in by_name:
            continue
        seen.add(name)
        node = by_name[name]
        yield node.op
        called += _functions_of(node)
        waiting += [_node_name(source) for source in node.input]
    done: set[str] = set()
    while called:
        name = called.pop()
        if name in done or name not in functions:
            continue
        done.add(name)
        for node in functions[name].node_def:
            yield node.op
            called += _functions_of(node)


def _node_name(reference: str) -> str:
    return reference.removeprefix("^").split(":")[0]


def _functions_of(node: NodeDef) -> list[str]:
    """Functions that a node calls: those in its attributes, and the operation itself."""
    names = [node.op]
    for value in node.attr.values():
        names += [value.func.name] if value.HasField("func") else []
        names += [f.name for f in value.list.func]
    return names

"""Safety of SavedModels: a SavedModel is a program, and some operations read or write files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef

from segmodel.errors import ExportError

T = TypeVar("T")

_DATASETS_AND_READERS = (
    "CSVDataset CSVDatasetV2 CacheDataset CacheDatasetV2 DataServiceDataset DataServiceDatasetV2 "
    "DataServiceDatasetV3 DataServiceDatasetV4 DatasetToTFRecord ExperimentalCSVDataset "
    "ExperimentalDatasetToTFRecord ExperimentalLMDBDataset ExperimentalMatchingFilesDataset "
    "FixedLengthRecordDataset FixedLengthRecordDatasetV2 FixedLengthRecordReader "
    "FixedLengthRecordReaderV2 LMDBDataset LMDBReader ListSnapshotChunksDataset LoadDataset "
    "MatchingFiles MatchingFilesDataset ReadFile RecordInput SaveDataset SaveDatasetV2 "
    "SnapshotChunkDataset SnapshotDataset SnapshotDatasetReader SnapshotDatasetV2 SqlDataset "
    "TFRecordDataset TFRecordDatasetV2 TFRecordReader TFRecordReaderV2 TextLineDataset "
    "TextLineReader TextLineReaderV2 WholeFileReader WholeFileReaderV2"
)
_WRITERS_AND_OTHERS = (
    "CreateSummaryDbWriter CreateSummaryFileWriter DebugIdentity DebugIdentityV2 DebugIdentityV3 "
    "DebugNanCount DebugNumericSummary DistributedSave DumpTensor EagerPyFunc "
    "GenerateVocabRemapping LoadAndRemapMatrix PrintV2 PyFunc PyFuncStateless RpcCall RpcClient "
    "WriteFile WriteGraphSummary WriteSummary"
)
FILE_OPERATIONS = frozenset(f"{_DATASETS_AND_READERS} {_WRITERS_AND_OTHERS}".split())

# Every SavedModel holds these to save and restore its variables; a signature has no use for them.
CHECKPOINT_OPERATIONS = frozenset(
    ["MergeV2Checkpoints", "Restore", "RestoreSlice", "RestoreV2", "Save", "SaveSlices", "SaveV2"]
)

# What TensorFlow calls by itself when it loads a model or lets go of it.
_CALLED_ON_LOAD = frozenset({"_create_resource", "_initialize", "_destroy_resource"})
_INIT_SIGNATURE = "__saved_model_init_op"


def refuse_file_operations(model: str | Path, functions: Iterable[str] = ()) -> None:
    """Refuse a SavedModel that touches files when it is called, or when it is loaded.

    Operations that save and restore variables are allowed, unless a signature depends on them.

    Args:
        model: Folder of the SavedModel.
        functions: Names in the graph of functions that are called beside the signatures.

    Raises:
        ExportError: Names the operations and the remedy.
    """
    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString((Path(model) / "saved_model.pb").read_bytes())
    found: set[str] = set()
    for graph in saved.meta_graphs:
        called = [key for key in graph.signature_def if key != _INIT_SIGNATURE]
        operations = _operations(graph, called, [*functions])
        found |= operations & (FILE_OPERATIONS | CHECKPOINT_OPERATIONS)
        loaded = [key for key in graph.signature_def if key == _INIT_SIGNATURE]
        found |= _operations(graph, loaded, _functions_run_on_load(graph)) & FILE_OPERATIONS
    if found:
        raise ExportError(
            f"{Path(model).name} reads or writes files when it is loaded or called "
            f"({', '.join(sorted(found))}); load it only if you trust whoever made it, "
            f"with --trust_model"
        )


def _functions_run_on_load(graph: MetaGraphDef) -> list[str]:
    """Names of the functions that create, initialize and destroy resources."""
    nodes = graph.object_graph_def.nodes
    names: list[str] = []
    for node in nodes:
        for child in node.children:
            if child.local_name in _CALLED_ON_LOAD:
                names += nodes[child.node_id].function.concrete_functions
                names.append(nodes[child.node_id].bare_concrete_function.concrete_function_name)
    return names


def _operations(graph: MetaGraphDef, signatures: list[str], called: list[str]) -> set[str]:
    """Operations that signatures and functions depend on."""
    roots = [
        tensor.name
        for key in signatures
        for tensor in graph.signature_def[key].outputs.values()
        if tensor.name
    ]
    nodes = {node.name: node for node in graph.graph_def.node}
    functions = {entry.signature.name: entry for entry in graph.graph_def.library.function}
    found = list(_reached(map(_node_name, roots), nodes, lambda n: map(_node_name, n.input)))
    waiting = [*called, *_functions_called(found)]
    for function in _reached(waiting, functions, lambda f: _functions_called(f.node_def)):
        found += function.node_def
    return {node.op for node in found}


def _reached(
    names: Iterable[str], known: Mapping[str, T], next_names: Callable[[T], Iterable[str]]
) -> Iterator[T]:
    """What is known by some names, and by all names that lead on from there, each once."""
    waiting, seen = list(names), set()
    while waiting:
        name = waiting.pop()
        if name in known and name not in seen:
            seen.add(name)
            yield known[name]
            waiting += next_names(known[name])


def _node_name(reference: str) -> str:
    return reference.removeprefix("^").split(":")[0]


def _functions_called(nodes: Iterable[NodeDef]) -> list[str]:
    """Functions that nodes call: those in their attributes, and the operations themselves."""
    names = []
    for node in nodes:
        names.append(node.op)
        for value in node.attr.values():
            names += [value.func.name] if value.HasField("func") else []
            names += [entry.name for entry in value.list.func]
    return names

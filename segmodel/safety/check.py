"""Refuses a SavedModel that could do more than compute labels from pixels.

A SavedModel is a program. TensorFlow runs parts of it when it is loaded, restored and let go of,
and not only those that its signatures need. So all of its nodes and functions are looked at, and
everything is refused that is not known to be harmless.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow.core.protobuf.meta_graph_pb2 import AssetFileDef, MetaGraphDef
from tensorflow.dtypes import as_dtype

from segmodel.errors import ExportError
from segmodel.escaping import on_one_line
from segmodel.safety.calls import CallGraph, attribute_values, names_called
from segmodel.safety.graph_file import read_graphs
from segmodel.safety.operations import Permission, kind_by_operation
from segmodel.safety.savers import SaverCheck

# More than the 2 GiB of a file of graphs are constants that its few bytes stand for.
MAX_CONSTANT_BYTES = 4 << 30
# Of what is refused, so many are named.
MAX_NAMED = 5
# Characters of a message about what is refused.
MAX_TEXT = 400
# Collection of assets in graphs of TensorFlow 1.
_ASSETS = "saved_model_assets"


def refuse_unsafe(model: str | Path) -> None:
    """Refuse a SavedModel that could do more than compute, or that is too large to tell.

    Nothing of it is loaded.

    Args:
        model: Folder of the SavedModel.

    Raises:
        ContractError: If the folder is no SavedModel.
        ExportError: Names what is refused, and the remedy.
    """
    try:
        _check_files(Path(model))
        for graph in read_graphs(model).meta_graphs:
            _check_graph(graph)
    except ExportError as error:
        # Names are the model's: they may be of any length, and hold what is not printable.
        fault = on_one_line(str(error)[:MAX_TEXT])
        raise ExportError(
            f"{Path(model).name} {fault}: load it only if you trust whoever made it, with "
            f"--trust_model"
        ) from None


def _check_files(folder: Path) -> None:
    """Refuse links that lead out of the folder, and what is neither a file nor a folder."""
    root = folder.resolve()
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(root):
            raise ExportError(f"has a link that leads out of its folder, {name} (cp -rL copies it)")
        if not (path.is_file() or path.is_dir()):
            raise ExportError(f"has something in its folder that is no file, {name}")


def _check_graph(graph: MetaGraphDef) -> None:
    """Refuse one of the graphs of a SavedModel."""
    calls = CallGraph.of(graph)
    bodies = [calls.nodes, *(one.node_def for one in calls.functions.values())]
    nodes = [node for body in bodies for node in body]
    _check_operations(nodes, calls)
    calls.check_size()
    _check_constants(nodes)
    _check_assets(graph)
    if SaverCheck(graph, calls).misplaced():
        raise ExportError("saves or restores variables where it is not to (SaveV2, RestoreV2)")


def _check_operations(nodes: Iterable[NodeDef], calls: CallGraph) -> None:
    """Refuse operations that are not allowed, and functions that are named as operations are."""
    known = kind_by_operation()
    found = {name for node in nodes for name in names_called(node)}
    if hidden := sorted(known.keys() & calls.functions.keys()):
        raise ExportError(f"has functions that are named as operations are ({_some(hidden)})")
    refused: dict[str, list[str]] = {}
    for name in sorted(found - calls.functions.keys()):
        if name not in known:
            refused.setdefault("is not known", []).append(name)
        elif known[name].permission == Permission.REFUSED:
            refused.setdefault(known[name].why, []).append(name)
    if refused:
        reasons = "; ".join(f"{_some(names)} {why}" for why, names in refused.items())
        raise ExportError(f"has operations that are not allowed: {reasons}")


def _some(names: list[str]) -> str:
    """The first of some names, and how many there are beside them.

    >>> _some(["A", "B"]), _some([*"ABCDEFG"])
    ('A, B', 'A, B, C, D, E and 2 others')
    """
    others = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {others} others" if others > 0 else "")


def _check_constants(nodes: Iterable[NodeDef]) -> None:
    """Refuse constants that take far more memory than the file."""
    total = 0
    for node in nodes:
        for value in attribute_values(node.attr.values()):
            tensors = [value.tensor] if value.HasField("tensor") else value.list.tensor
            total += sum(map(_tensor_bytes, tensors))
    if total > MAX_CONSTANT_BYTES:
        raise ExportError(
            f"has constants of {total / 2**30:,.0f} GiB, and more than "
            f"{MAX_CONSTANT_BYTES >> 30} are not loaded"
        )


def _tensor_bytes(tensor: TensorProto) -> int:
    try:
        size = as_dtype(tensor.dtype).size
    except TypeError:
        size = 1
    # TensorFlow refuses sides that are negative.
    return int(size * math.prod(max(0, side.size) for side in tensor.tensor_shape.dim))


def _check_assets(graph: MetaGraphDef) -> None:
    """Refuse assets outside of the folder of assets."""
    for asset in _assets(graph):
        path = PurePosixPath(asset.filename)
        if path.is_absolute() or ".." in path.parts or "://" in asset.filename:
            raise ExportError(f"has an asset outside of its folder, {asset.filename!r}")


def _assets(graph: MetaGraphDef) -> Iterator[AssetFileDef]:
    yield from graph.asset_file_def
    if _ASSETS not in graph.collection_def:
        return
    for packed in graph.collection_def[_ASSETS].any_list.value:
        asset = AssetFileDef()
        if packed.Unpack(asset):
            yield asset

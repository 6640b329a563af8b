"""SavedModels that would do harm, as changes of harmless ones.

Each is a function that changes the only graph of a base model. What it would do is written down in
`HOSTILE` with what the message must say.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf
from tensorflow.core.framework import function_pb2, node_def_pb2
from tensorflow.core.framework.variable_pb2 import VariableDef
from tensorflow.core.protobuf.meta_graph_pb2 import AssetFileDef, MetaGraphDef
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

Change = Callable[[MetaGraphDef], None]
# What hostile models write, where the process runs.
WRITTEN = "written-by-a-model"


class Hostile(NamedTuple):
    """A hostile model.

    Args:
        name: What it does.
        change: Makes it of a base model.
        says: Regular expression that the message matches.
        is_v1: Whether it is made of the base of TensorFlow 1.
    """

    name: str
    change: Change
    says: str
    is_v1: bool = False


def add(nodes, op: str, name: str, *inputs: str, **attributes) -> node_def_pb2.NodeDef:
    """Add a node; attributes are bytes, types, functions by name, or tensors."""
    node = nodes.add(name=name, op=op, input=inputs)
    for key, value in attributes.items():
        if isinstance(value, tf.DType):
            node.attr[key].type = value.as_datatype_enum
        elif isinstance(value, bytes):
            node.attr[key].s = value
        elif isinstance(value, str):
            node.attr[key].func.name = value
        elif isinstance(value, list):
            node.attr[key].list.type.extend(kind.as_datatype_enum for kind in value)
        else:
            node.attr[key].tensor.CopyFrom(tf.make_tensor_proto(value))
            node.attr["dtype"].type = node.attr[key].tensor.dtype
    return node


def text(nodes, name: str, value: str) -> str:
    add(nodes, "Const", name, value=tf.constant(value))
    return name


def write(nodes, path: str = WRITTEN) -> str:
    """Nodes that write a file, in a graph or, with outputs named, in a function."""
    inside = ":output:0" if isinstance(nodes, _Body) else ""
    nodes = nodes.nodes if isinstance(nodes, _Body) else nodes
    text(nodes, "evil/path", path)
    text(nodes, "evil/content", "text")
    add(nodes, "WriteFile", "evil/write", f"evil/path{inside}", f"evil/content{inside}")
    return "evil/write"


class _Body(NamedTuple):
    """Nodes of a function, whose tensors have names of their own kind."""

    nodes: object


def function(graph: MetaGraphDef, part: str) -> function_pb2.FunctionDef:
    """The first function of which the name holds a text."""
    return next(one for one in graph.graph_def.library.function if part in one.signature.name)


def new_function(graph: MetaGraphDef, name: str) -> function_pb2.FunctionDef:
    added = graph.graph_def.library.function.add()
    added.signature.name = name
    return added


# Where in a model of TensorFlow 2 a file is written.
def in_function(part: str) -> Change:
    def change(graph: MetaGraphDef) -> None:
        found = function(graph, part)
        found.control_ret["evil"] = write(_Body(found.node_def))
        found.signature.control_output.append("evil")
        found.signature.is_stateful = True

    return change


def in_main_graph(graph: MetaGraphDef) -> None:
    write(graph.graph_def.node)


def in_unused_function(graph: MetaGraphDef) -> None:
    write(_Body(new_function(graph, "unused").node_def))


def behind(op: str, attribute: str) -> Change:
    """A function that only an attribute of a node names."""

    def change(graph: MetaGraphDef) -> None:
        in_unused_function(graph)
        add(graph.graph_def.node, op, "evil/call", **{attribute: "unused"})

    return change


def in_list_of_functions(graph: MetaGraphDef) -> None:
    in_unused_function(graph)
    graph.graph_def.node.add(name="evil/case", op="Case").attr["branches"].list.func.add(
        name="unused"
    )


def in_function_of_function(graph: MetaGraphDef) -> None:
    in_unused_function(graph)
    node = graph.graph_def.node.add(name="evil/call", op="PartitionedCall")
    outer = node.attr["f"].func
    outer.name = function(graph, "labels").signature.name
    outer.attr["inner"].func.name = "unused"


def by_function_name(graph: MetaGraphDef) -> None:
    in_unused_function(graph)
    graph.graph_def.node.add(name="evil/call", op="unused")


def operation_as_function(graph: MetaGraphDef) -> None:
    """A call of an operation, as if it were a function."""
    add(graph.graph_def.node, "StatefulPartitionedCall", "evil", f="ReadFile")


def in_gradient(graph: MetaGraphDef) -> None:
    in_unused_function(graph)
    graph.graph_def.library.gradient.add(
        function_name=function(graph, "labels").signature.name, gradient_func="unused"
    )


def in_another_graph(graph: MetaGraphDef) -> None:
    """Replaced by `build`, which adds a second graph."""


def signature_elsewhere(graph: MetaGraphDef) -> None:
    """The signature is of the main graph, and the object graph calls a function beside it."""
    in_unused_function(graph)
    objects = graph.object_graph_def
    for node in objects.nodes:
        if node.HasField("function") and node.function.concrete_functions:
            node.function.concrete_functions[0] = "unused"
    objects.concrete_functions["unused"].SetInParent()


def operation(op: str) -> Change:
    """An operation in the function that labels, on which no output depends."""

    def change(graph: MetaGraphDef) -> None:
        function(graph, "labels").node_def.add(name="evil", op=op)

    return change


def hidden_operation(graph: MetaGraphDef) -> None:
    """A function that does nothing takes the name of an operation that is refused."""
    new_function(graph, "ReadFile")
    function(graph, "labels").node_def.add(name="evil", op="ReadFile")


# Savers: operations that save and restore, at another time or in another place.
def save_in_function(part: str, op: str = "SaveV2") -> Change:
    def change(graph: MetaGraphDef) -> None:
        function(graph, part).node_def.add(name="evil", op=op)

    return change


def saver_function_as_signature(graph: MetaGraphDef) -> None:
    saver = function(graph, "traced_save").signature.name
    node = next(n for n in graph.object_graph_def.nodes if n.function.concrete_functions)
    node.function.concrete_functions[0] = saver


def saver_function_as_bare_function(graph: MetaGraphDef) -> None:
    saver = function(graph, "traced_save").signature.name
    node = next(n for n in graph.object_graph_def.nodes if n.HasField("bare_concrete_function"))
    node.bare_concrete_function.concrete_function_name = saver


def saver_function_as_gradient(graph: MetaGraphDef) -> None:
    graph.graph_def.library.gradient.add(
        function_name=function(graph, "labels").signature.name,
        gradient_func=function(graph, "traced_save").signature.name,
    )


def saver_function_as_registered_gradient(graph: MetaGraphDef) -> None:
    graph.graph_def.library.registered_gradients.add(
        gradient_func=function(graph, "traced_save").signature.name, registered_op_type="evil"
    )


def saver_function_in_exchange(graph: MetaGraphDef) -> None:
    for part in ("traced_save", "labels"):
        function(graph, part).attr["api_implements"].s = b"same"


def saver_called_by_function(graph: MetaGraphDef) -> None:
    saver = function(graph, "traced_save").signature.name
    add(function(graph, "labels").node_def, "StatefulPartitionedCall", "evil", f=saver)


def saver_called_by_initializer(graph: MetaGraphDef) -> None:
    saver = function(graph, "traced_restore").signature.name
    add(function(graph, "initializer").node_def, "StatefulPartitionedCall", "evil", f=saver)


def saver_node_as_output(graph: MetaGraphDef) -> None:
    graph.signature_def["labels"].outputs["labels"].name = graph.saver_def.save_tensor_name


def saver_node_as_initializer(graph: MetaGraphDef) -> None:
    graph.signature_def["__saved_model_init_op"].outputs[
        "__saved_model_init_op"
    ].name = graph.saver_def.save_tensor_name.split(":")[0]


def saver_node_as_main_op(graph: MetaGraphDef) -> None:
    graph.collection_def["saved_model_main_op"].node_list.value[:] = ["evil"]
    graph.graph_def.node.add(
        name="evil", op="NoOp", input=["^" + graph.saver_def.save_tensor_name.split(":")[0]]
    )


def restore_by_other_function(graph: MetaGraphDef) -> None:
    """The saver restores from a file that the function itself names."""
    restore = function(graph, "traced_restore").node_def
    text(restore, "evil", "/etc/passwd")
    next(node for node in restore if node.op == "RestoreV2").input[0] = "evil:output:0"


def restore_that_saves(graph: MetaGraphDef) -> None:
    add(function(graph, "traced_restore").node_def, "SaveV2", "evil", "file_prefix")


def restore_that_calls_save(graph: MetaGraphDef) -> None:
    saver = function(graph, "traced_save").signature.name
    nodes = function(graph, "traced_restore").node_def
    add(nodes, "StatefulPartitionedCall", "evil", "file_prefix", f=saver)


def restore_in_branch(graph: MetaGraphDef) -> None:
    node = next(n for n in graph.graph_def.node if n.name == graph.saver_def.restore_op_name)
    node.op = "If"


def restore_from_other_argument(graph: MetaGraphDef) -> None:
    node = next(n for n in graph.graph_def.node if n.name == graph.saver_def.restore_op_name)
    node.input[0] = text(graph.graph_def.node, "evil", "/etc/passwd")


def restore_from_shifted_argument(graph: MetaGraphDef) -> None:
    """An argument of two tensors comes before the one that is restored from."""
    arguments = function(graph, "traced_restore").signature.input_arg
    first = arguments.add(name="several", number_attr="N")
    moved = [first, *arguments[:-1]]
    copies = [type(first).FromString(one.SerializeToString()) for one in moved]
    for argument, copy in zip(arguments, copies, strict=True):
        argument.CopyFrom(copy)
    node = next(n for n in graph.graph_def.node if n.name == graph.saver_def.restore_op_name)
    node.input.insert(0, text(graph.graph_def.node, "evil", "/etc/passwd"))


def restore_is_save(graph: MetaGraphDef) -> None:
    graph.saver_def.restore_op_name = graph.saver_def.save_tensor_name.split(":")[0]


# Of TensorFlow 1, whose graph is run.
def v1_write_in_signature(graph: MetaGraphDef) -> None:
    nodes = graph.graph_def.node
    output = graph.signature_def["labels"].outputs["labels"]
    write(nodes)
    add(nodes, "Identity", "evil/out", output.name, "^evil/write", T=tf.float32)
    output.name = "evil/out:0"


def v1_write_in(key: str) -> Change:
    def change(graph: MetaGraphDef) -> None:
        graph.signature_def.pop("__saved_model_init_op", None)
        for other in ("saved_model_main_op", "legacy_init_op"):
            graph.collection_def.pop(other, None)
        name = write(graph.graph_def.node)
        if key == "__saved_model_init_op":
            graph.signature_def[key].outputs[key].name = name
        else:
            graph.collection_def[key].node_list.value.append(name)

    return change


def v1_save_in_signature(graph: MetaGraphDef) -> None:
    nodes = graph.graph_def.node
    output = graph.signature_def["labels"].outputs["labels"]
    add(nodes, "Identity", "evil", output.name, "^save/MergeV2Checkpoints", T=tf.float32)
    output.name = "evil:0"


def v1_save_in_sparse_output(graph: MetaGraphDef) -> None:
    output = graph.signature_def["labels"].outputs["labels"]
    output.coo_sparse.values_tensor_name = "save/RestoreV2:0"


def v1_save_in_parts_of_output(graph: MetaGraphDef) -> None:
    output = graph.signature_def["labels"].outputs["labels"]
    inner = output.composite_tensor.components.add().composite_tensor
    inner.components.add(name="save/RestoreV2:0")


def v1_save_in_initial_value(graph: MetaGraphDef) -> None:
    values = graph.collection_def["variables"].bytes_list.value
    variable = VariableDef.FromString(values[0])
    variable.initial_value_name = "save/RestoreV2:0"
    values[0] = variable.SerializeToString()


def v1_restore_from(change_input: Callable[[MetaGraphDef], str]) -> Change:
    def change(graph: MetaGraphDef) -> None:
        reference = change_input(graph)
        restore = next(n for n in graph.graph_def.node if n.op == "RestoreV2")
        restore.input[0] = reference

    return change


def v1_constant(graph: MetaGraphDef) -> str:
    return text(graph.graph_def.node, "evil", "/etc/passwd")


def v1_second_output(graph: MetaGraphDef) -> str:
    """The file name is the first output of a node, and the second one is not fed."""
    text(graph.graph_def.node, "evil/path", "/etc/passwd")
    add(graph.graph_def.node, "IdentityN", "evil", "evil/path", "evil/path", T=[tf.string] * 2)
    graph.saver_def.filename_tensor_name = "evil:0"
    return "evil:1"


def v1_joined(graph: MetaGraphDef) -> str:
    up = text(graph.graph_def.node, "evil/up", "/../../../other/variables")
    add(graph.graph_def.node, "StringJoin", "evil", "save/Const", up)
    return "evil"


def v1_save_while_restoring(graph: MetaGraphDef) -> None:
    last = next(n for n in graph.graph_def.node if n.name == graph.saver_def.restore_op_name)
    last.input.append("^save/SaveV2")


def v1_table_from_file(graph: MetaGraphDef) -> None:
    nodes = graph.graph_def.node
    path = text(nodes, "evil/path", "/etc/passwd")
    table = next(node.name for node in nodes if node.op == "HashTableV2")
    add(nodes, "InitializeTableFromTextFileV2", "evil", table, path)


# Files beside the graph.
def asset(filename: str) -> Change:
    def change(graph: MetaGraphDef) -> None:
        graph.asset_file_def[0].filename = filename

    return change


def v1_asset_in_collection(graph: MetaGraphDef) -> None:
    packed = graph.collection_def["saved_model_assets"].any_list.value.add()
    packed.Pack(AssetFileDef(filename="../../../etc/passwd"))


# Size.
def calls_itself(graph: MetaGraphDef) -> None:
    labels = function(graph, "labels")
    add(labels.node_def, "PartitionedCall", "evil", f=labels.signature.name)


def calls_in_a_ring(graph: MetaGraphDef) -> None:
    for number in range(9):
        ring = new_function(graph, f"ring{number}")
        add(ring.node_def, "PartitionedCall", "next", f=f"ring{(number + 1) % 9}")


def calls_without_end(graph: MetaGraphDef) -> None:
    """Forty functions, each of which calls the next one twice."""
    for number in range(40):
        body = new_function(graph, f"double{number}").node_def
        for side in "ab" if number < 39 else "":
            add(body, "PartitionedCall", side, f=f"double{number + 1}")


def calls_in_many_levels(graph: MetaGraphDef) -> None:
    for number in range(300):
        body = new_function(graph, f"level{number}").node_def
        if number:
            add(body, "PartitionedCall", "next", f=f"level{number - 1}")


def constant_of_a_terabyte(graph: MetaGraphDef) -> None:
    node = add(graph.graph_def.node, "Const", "evil", value=tf.constant(1.0))
    node.attr["value"].tensor.tensor_shape.dim.add(size=1 << 38)


def two_nodes_of_one_name(graph: MetaGraphDef) -> None:
    for value in ("variables", "/etc/passwd"):
        text(graph.graph_def.node, "twice", value)


def two_functions_of_one_name(graph: MetaGraphDef) -> None:
    new_function(graph, "twice")
    write(_Body(new_function(graph, "twice").node_def))


WRITES = r"not allowed: WriteFile reads or writes files"
SAVES = r"saves or restores variables where it is not to"
PLACES = (
    *("signature_wrapper", "labels", "creator", "initializer", "destroyer", "save_fn"),
    *("restore_fn", "cond_true", "while_body", "while_cond", "traced_restore", "traced_save"),
)
# One of each way out of a computation, and what the message says of it.
OPERATIONS = {
    "ReadFile": "reads or writes files",
    "MatchingFiles": "reads or writes files",
    "ImmutableConst": "reads or writes files",
    "InitializeTableFromTextFileV2": "reads or writes files",
    "InitializeTableFromDataset": "reads a data set",
    "DatasetFromGraph": "reads a data set",
    "SnapshotDataset": "reads a data set",
    "TextLineDataset": "reads a data set",
    "GeneratorDataset": "reads a data set",
    "IteratorGetNext": "reads a data set",
    "FixedUnigramCandidateSampler": "reads or writes files",
    "DecodeProtoV2": "reads or writes files",
    "EncodeProto": "reads or writes files",
    "LoadAndRemapMatrix": "reads or writes files",
    "CalibrationStatisticsSaver": "reads or writes files",
    "DTensorRestoreV2": "reads or writes files",
    "DistributedSave": "reads or writes files",
    "WholeFileReaderV2": "reads or writes files",
    "Skipgram": "reads or writes files",
    "PyFunc": "calls Python",
    "PyFuncStateless": "calls Python",
    "EagerPyFunc": "calls Python",
    "DebugIdentity": "sends tensors to files and servers",
    "DebugIdentityV3": "sends tensors to files and servers",
    "CopyHost": "sends tensors to files and servers",
    "DumpTensor": "sends tensors to files and servers",
    "PrintV2": "prints",
    "CreateSummaryFileWriter": "writes summaries",
    "CreateSummaryDbWriter": "writes summaries",
    "RpcClient": "talks to other processes",
    "RegisterDatasetV2": "talks to other processes",
    "RemoteCall": "talks to other processes",
    "CollectiveReduceV2": "talks to other processes",
    "Recv": "talks to other processes",
    "XlaCustomCall": "a program that this check cannot read",
    "XlaCallModule": "a program that this check cannot read",
    "XlaLaunch": "a program that this check cannot read",
    "TPUExecute": "is for TPUs",
    "QueueDequeueV2": "waits",
    "BarrierTakeMany": "waits",
    "Abort": "ends the process",
    "_Recv": "internal",
    "SleepOp": "TensorFlow's own tests",
    "TheirOwnOperation": "TheirOwnOperation is not known",
    "Examples>Custom": "Examples>Custom is not known",
    "WriteFile\n\x1b[2J": r"WriteFile\\n\\x1b\[2J is not known",
    "Long" * 10_000: "LongLong",
}

HOSTILE = (
    *(Hostile(f"writes in {part}", in_function(part), WRITES) for part in PLACES),
    Hostile("writes in the main graph", in_main_graph, WRITES),
    Hostile("writes in a function that nothing calls", in_unused_function, WRITES),
    Hostile("writes behind a branch", behind("StatelessIf", "then_branch"), WRITES),
    Hostile("writes behind a loop", behind("While", "body"), WRITES),
    Hostile("writes behind a map", behind("MapDefun", "f"), WRITES),
    Hostile("writes behind a gradient", behind("SymbolicGradient", "f"), WRITES),
    Hostile("writes in one of several branches", in_list_of_functions, WRITES),
    Hostile("writes in a function of a function", in_function_of_function, WRITES),
    Hostile("writes in a function called as an operation", by_function_name, WRITES),
    Hostile("calls an operation", operation_as_function, "ReadFile reads or writes files"),
    Hostile("writes in a gradient", in_gradient, WRITES),
    Hostile("writes in a second graph", in_another_graph, WRITES),
    Hostile("calls another function than its signature", signature_elsewhere, WRITES),
    *(Hostile(f"has {op}", operation(op), says) for op, says in OPERATIONS.items()),
    Hostile("hides an operation", hidden_operation, r"named as operations are \(ReadFile\)"),
    *(
        Hostile(f"saves in {part}", save_in_function(part), SAVES)
        for part in ("signature_wrapper", "initializer", "creator", "destroyer", "restore_fn")
    ),
    Hostile("restores in a branch", save_in_function("cond_true", "RestoreV2"), SAVES),
    Hostile("merges files in a signature", save_in_function("labels", "MergeV2Checkpoints"), SAVES),
    Hostile("has a saver as its signature", saver_function_as_signature, SAVES),
    Hostile("has a saver as a function", saver_function_as_bare_function, SAVES),
    Hostile("has a saver as a gradient", saver_function_as_gradient, SAVES),
    Hostile("has a saver as an own gradient", saver_function_as_registered_gradient, SAVES),
    Hostile("exchanges its function for a saver", saver_function_in_exchange, SAVES),
    Hostile("calls a saver", saver_called_by_function, SAVES),
    Hostile("calls a saver in an initializer", saver_called_by_initializer, SAVES),
    Hostile("gives what the saver gives", saver_node_as_output, SAVES),
    Hostile("has a saver as initializer", saver_node_as_initializer, SAVES),
    Hostile("has a saver before its initializer", saver_node_as_main_op, SAVES),
    Hostile("restores from a file of its own", restore_by_other_function, SAVES),
    Hostile("saves while it is restored", restore_that_saves, SAVES),
    Hostile("calls its saver while it is restored", restore_that_calls_save, SAVES),
    Hostile("restores in a branch of the graph", restore_in_branch, SAVES),
    Hostile("restores from a constant", restore_from_other_argument, SAVES),
    Hostile("restores from a shifted argument", restore_from_shifted_argument, SAVES),
    Hostile("saves in place of being restored", restore_is_save, SAVES),
    Hostile("writes for a signature", v1_write_in_signature, WRITES, True),
    *(
        Hostile(f"writes in {key}", v1_write_in(key), WRITES, True)
        for key in ("__saved_model_init_op", "saved_model_main_op", "legacy_init_op")
    ),
    Hostile("saves for a signature", v1_save_in_signature, SAVES, True),
    Hostile("restores for a sparse output", v1_save_in_sparse_output, SAVES, True),
    Hostile("restores for a part of an output", v1_save_in_parts_of_output, SAVES, True),
    Hostile("restores for an initial value", v1_save_in_initial_value, SAVES, True),
    Hostile("restores a constant", v1_restore_from(v1_constant), SAVES, True),
    Hostile("restores a second output", v1_restore_from(v1_second_output), SAVES, True),
    Hostile("restores beside its folder", v1_restore_from(v1_joined), SAVES, True),
    Hostile("saves while restored", v1_save_while_restoring, SAVES, True),
    Hostile("fills a table from a file", v1_table_from_file, "InitializeTableFromTextFileV2", True),
    Hostile("has an asset above", asset("../../etc/passwd"), "asset outside"),
    Hostile("has an absolute asset", asset("/etc/passwd"), "asset outside"),
    Hostile("has an asset at an address", asset("gs://bucket/words"), "asset outside"),
    Hostile("has an old asset above", v1_asset_in_collection, "asset outside", True),
    Hostile("calls itself", calls_itself, "calls itself"),
    Hostile("calls in a ring", calls_in_a_ring, "calls itself: ring"),
    Hostile("calls without end", calls_without_end, "come to more than 2,000,000 nodes"),
    Hostile("calls in many levels", calls_in_many_levels, "more than 200 levels"),
    Hostile("has a large constant", constant_of_a_terabyte, "constants of 1,024 GiB"),
    Hostile("has a node twice", two_nodes_of_one_name, "two nodes of the same name"),
    Hostile("has a function twice", two_functions_of_one_name, "two functions of the same name"),
)


def build(hostile: Hostile, base: bytes) -> bytes:
    """The file of graphs of a hostile model, made of that of a base model."""
    saved = SavedModel.FromString(base)
    if hostile.change is in_another_graph:
        saved.meta_graphs.add().meta_info_def.tags.append("serve")
        in_main_graph(saved.meta_graphs[1])
    else:
        hostile.change(saved.meta_graphs[0])
    return saved.SerializeToString()

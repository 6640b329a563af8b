"""A function of TensorFlow whose weights are computed once, not in each call.

What follows from variables and constants alone is computed when the function is frozen, and held by
the new one. Variables that are used as they are share their memory with it.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import tensorflow as tf

# Tensors up to this size become constants of the graph, which TensorFlow computes with when it
# optimizes; each of them is in memory several times.
MAX_CONSTANT_BYTES = 64 << 10
_LOWERED = "_lower_using_switch_merge"
# Operations that take variables, and leave them as they are.
_READERS = {"Identity", "IdentityN", "ReadVariableOp", "VariableShape"}
# Branches and loops as TensorFlow 1 had them, in which what comes first decides what is computed.
_ORDERED = {"Enter", "Exit", "LoopCond", "Merge", "NextIteration", "Switch"}


class FreezingError(Exception):
    """A function that cannot be frozen; the text says what of its graph stands against it."""


def freeze(function: Any) -> Any:
    """A function that gives the same, with weights computed once.

    Args:
        function: Concrete function, all arguments of which are named tensors.

    Returns:
        Concrete function of the same arguments and results; the variables that it does not hold by
        value must stay alive.

    Raises:
        FreezingError: If the graph does more than read variables, or reads them in branches alone.
    """
    definition = _inlined(function)
    operations = _operations(definition)
    _check_reads_only(operations)
    arguments = _arguments(function)
    inner = function.inputs[len(arguments) :]
    captured = {t.name: held for t, held in zip(inner, function.captured_inputs, strict=True)}
    known = _known(operations, arguments)
    names = _last_known(operations, known)
    values = dict(zip(names, _computed(definition, names, captured), strict=True))
    return _with_values(function, definition, captured | values)


def _arguments(function: Any) -> list[tf.Tensor]:
    """Tensors that stand for arguments of a function; those for what it holds follow them."""
    count = len(function.inputs) - len(function.captured_inputs)
    arguments: list[tf.Tensor] = function.inputs[:count]
    return arguments


def _inlined(function: Any) -> Any:
    """Definition of a function's graph, with the functions that it calls in their places.

    Branches and loops stay what they are. Nothing waits for what it does not compute with, as what
    only reads can come in any order; and what it is computed of decides where it is.
    """
    definition = function.graph.as_graph_def()
    _set_lowered(definition, False)
    optimized = _optimized(
        definition, [tensor.name for tensor in function.inputs + function.outputs]
    )
    _set_lowered(optimized, True)
    _rename_functions(optimized, f"_frozen_{uuid.uuid4().hex}")
    for node in optimized.node:
        values = [name for name in node.input if not name.startswith("^")]
        del node.input[:]
        node.input.extend(values)
        node.attr.pop("_class", None)
    return optimized


def _optimized(definition: Any, names: Sequence[str]) -> Any:
    """What Grappler makes of a graph when it puts called functions in their places, and no more.

    TensorFlow has no public name for it. It need not know the devices of this machine.

    Args:
        definition: The graph.
        names: Names of tensors that keep their names.
    """
    from tensorflow.core.protobuf.device_properties_pb2 import DeviceProperties, NamedDevice
    from tensorflow.python.grappler.cluster import Cluster
    from tensorflow.python.grappler.tf_optimizer import OptimizeGraph

    whole = tf.compat.v1.MetaGraphDef(graph_def=definition)
    whole.collection_def["train_op"].node_list.value.extend(names)
    config = tf.compat.v1.ConfigProto()
    options = config.graph_options.rewrite_options
    options.min_graph_nodes = -1
    options.optimizers.append("function")
    # By itself it leaves some functions that read variables, such as those of ensembles, where they
    # are, lest what they write gets lost. Graphs that write are refused.
    options.function_optimization = options.AGGRESSIVE
    device = NamedDevice(name="/device:CPU:0", properties=DeviceProperties(type="CPU"))
    return OptimizeGraph(config, whole, cluster=Cluster(devices=[device]))


def _nodes(definition: Any) -> Iterator[Any]:
    """Nodes of a graph and of its functions."""
    bodies = (body.node_def for body in definition.library.function)
    return itertools.chain(definition.node, *bodies)


def _rename_functions(definition: Any, suffix: str) -> None:
    """Give the functions of a graph names that no other has in this process."""
    names = {body.signature.name for body in definition.library.function}
    for body in definition.library.function:
        body.signature.name += suffix
    for node in _nodes(definition):
        for value in node.attr.values():
            for called in (value.func, *value.list.func):
                if called.name in names:
                    called.name += suffix


def _set_lowered(definition: Any, is_lowered: bool) -> None:
    """Say whether TensorFlow may make other operations of branches and loops of a graph."""
    for node in _nodes(definition):
        if _LOWERED in node.attr:
            node.attr[_LOWERED].b = is_lowered


def _operations(definition: Any) -> list[tf.Operation]:
    """Operations of a graph, each behind those that it depends on."""
    graph = tf.Graph()
    with graph.as_default():
        tf.graph_util.import_graph_def(definition, name="")
    operations: list[tf.Operation] = graph.get_operations()
    return operations


def _check_reads_only(operations: Iterable[tf.Operation]) -> None:
    """Refuse a graph in which more happens than that variables are read, or in a certain order."""
    for operation in operations:
        kind = operation.type
        takes = any(tensor.dtype == tf.resource for tensor in operation.inputs)
        if kind in _ORDERED or ((takes or operation.op_def.is_stateful) and kind not in _READERS):
            raise FreezingError(f"it has operations {kind}")


def _known(operations: Iterable[tf.Operation], given: Iterable[tf.Tensor]) -> set[str]:
    """Names of operations whose results are the same in each call.

    Args:
        operations: All of a graph, in order.
        given: Tensors that stand for arguments.
    """
    arguments = {tensor.op.name for tensor in given}
    known: set[str] = set()
    for operation in operations:
        if operation.name not in arguments and known.issuperset(
            tensor.op.name for tensor in operation.inputs
        ):
            known.add(operation.name)
    return known


def _last_known(operations: Iterable[tf.Operation], known: set[str]) -> list[str]:
    """Names of known tensors that others are computed of, but for constants."""
    taken = {
        tensor.name: tensor
        for operation in operations
        if operation.name not in known
        for tensor in operation.inputs
        if tensor.op.name in known and tensor.op.type != "Const"
    }
    held = [name for name, tensor in taken.items() if tensor.dtype not in (tf.resource, tf.variant)]
    if not held:
        raise FreezingError("nothing in it is the same in each call")
    return held


def _computed(
    definition: Any, names: Sequence[str], captured: Mapping[str, tf.Tensor]
) -> list[tf.Tensor]:
    """Tensors of a graph that follow from what it holds, on the devices of that."""
    rest, places, outputs = _subgraph(definition, captured, names)

    @tf.function(autograph=False)
    def compute() -> list[tf.Tensor]:
        return _imported(rest, {place: captured[name] for name, place in places.items()}, outputs)

    values: list[tf.Tensor] = compute()
    return values


def _with_values(function: Any, definition: Any, values: Mapping[str, tf.Tensor]) -> Any:
    """A function like another, with values in its graph.

    Args:
        function: Concrete function.
        definition: Its graph, with the functions that it calls in their places.
        values: What stands in the places of tensors, by name.
    """
    arguments = {tensor.name: tensor for tensor in _arguments(function)}
    outputs = [tensor.name for tensor in function.outputs]
    rest, places, outputs = _subgraph(definition, {**arguments, **values}, outputs)

    def run(*given: tf.Tensor) -> list[tf.Tensor]:
        own = dict(zip(arguments, given, strict=True))
        inputs = {
            place: own[name] if name in own else _constant(values[name])
            for name, place in places.items()
        }
        return _imported(rest, inputs, outputs)

    # Unlike `tf.function`, this one knows branches of the graph, which are functions of their own.
    specs = [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in arguments.values()]
    wrapped = tf.compat.v1.wrap_function(run, specs)

    named = {spec.name: spec for spec in tf.nest.flatten(function.structured_input_signature)}

    def frozen(**given: tf.Tensor) -> Any:
        results = wrapped(*(given[name] for name in named))
        return tf.nest.pack_sequence_as(function.structured_outputs, results)

    return tf.function(frozen, autograph=False).get_concrete_function(**named)


def _subgraph(
    definition: Any, given: Mapping[str, tf.Tensor], outputs: Sequence[str]
) -> tuple[Any, dict[str, str], list[str]]:
    """What of a graph computes its outputs once tensors are given.

    Args:
        definition: The graph.
        given: Tensors of the types and shapes of those that are given, by name.
        outputs: Names of its outputs.

    Returns:
        Definition of that, names of the tensors that stand for the given ones that it takes, and of
        the outputs.
    """
    taken = {
        name if ":" in name else f"{name}:0" for node in definition.node for name in node.input
    }
    graph = tf.Graph()
    with graph.as_default():
        places = {
            name: tf.compat.v1.placeholder(tensor.dtype, tensor.shape, "given")
            for name, tensor in given.items()
            if name in taken
        }
        found = tf.graph_util.import_graph_def(definition, places, outputs, name="rest")
    needed = _needed(found)
    whole, rest = graph.as_graph_def(), tf.compat.v1.GraphDef()
    rest.CopyFrom(whole)
    del rest.node[:]
    rest.node.extend(node for node in whole.node if node.name in needed)
    used = {name: place.name for name, place in places.items() if place.op.name in needed}
    return rest, used, [tensor.name for tensor in found]


def _needed(tensors: Iterable[tf.Tensor]) -> set[str]:
    """Names of the operations that tensors are computed by."""
    names: set[str] = set()
    todo = [tensor.op for tensor in tensors]
    while todo:
        operation = todo.pop()
        if operation.name not in names:
            names.add(operation.name)
            todo += [tensor.op for tensor in operation.inputs]
    return names


def _imported(
    definition: Any, values: Mapping[str, tf.Tensor], names: Sequence[str]
) -> list[tf.Tensor]:
    """Tensors of a graph in the function that is traced, with values in the places of others."""
    # The identity of a tensor from elsewhere is one of the function.
    inputs = {name: tf.identity(value) for name, value in values.items()}
    tensors: list[tf.Tensor] = tf.graph_util.import_graph_def(definition, inputs, names, name="")
    return tensors


def _constant(value: tf.Tensor) -> tf.Tensor:
    """A value as a constant of the graph, if it is small."""
    is_number = value.dtype not in (tf.resource, tf.variant)
    if is_number and value.shape.num_elements() * value.dtype.size <= MAX_CONSTANT_BYTES:
        return tf.constant(value.numpy())
    return value

"""Operations that save and restore variables: in the saver of a SavedModel, and nowhere else.

Every SavedModel holds such operations: in functions that only its saver calls, or as nodes that
only its saver needs. Whoever loads a model has its saver restore the variables from the folder of
the model; nobody has it save.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property

from google.protobuf.message import DecodeError
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.framework.variable_pb2 import VariableDef
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef, TensorInfo

from segmodel.safety.calls import CallGraph, names_called
from segmodel.safety.operations import Permission, operation_kinds

RESTORING = frozenset({"Restore", "RestoreSlice", "RestoreV2"})
SAVER_OPERATIONS = frozenset(
    name
    for kind in operation_kinds()
    if kind.permission == Permission.SAVERS
    for name in kind.operations
)
_CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})
# What passes its only input on.
_PASSING = frozenset({"Identity", "PlaceholderWithDefault"})
# Functions with this attribute are put in place of each other.
_EXCHANGED = "api_implements"


class SaverCheck:
    """Finds operations of savers that something else than the saver runs.

    Args:
        graph: A graph of a SavedModel.
        calls: The calls of this graph.
    """

    def __init__(self, graph: MetaGraphDef, calls: CallGraph) -> None:
        self._graph, self._calls = graph, calls
        self._nodes = {node.name: node for node in calls.nodes}
        self._functions = calls.reaching(SAVER_OPERATIONS)

    def misplaced(self) -> bool:
        """Whether an operation saves or restores at another time, or in another place."""
        functions = self._calls.functions
        return (
            not self._functions.isdisjoint(_named_functions(self._graph))
            or any(_EXCHANGED in functions[name].attr for name in self._functions)
            or not self._fed.isdisjoint(map(_node_name, _named_tensors(self._graph)))
            or not self._restores_its_own()
        )

    def _is_saver(self, node: NodeDef) -> bool:
        return any(
            name in SAVER_OPERATIONS or name in self._functions for name in names_called(node)
        )

    @cached_property
    def _fed(self) -> set[str]:
        """Nodes of the saver, and all that depend on them."""
        following = defaultdict(list)
        for node in self._nodes.values():
            for source in node.input:
                following[_node_name(source)].append(node.name)
        return _closure((n.name for n in self._nodes.values() if self._is_saver(n)), following)

    def _restores_its_own(self) -> bool:
        """Whether what restores variables saves nothing, and reads the file that it is told."""
        saver = self._graph.saver_def
        filename = _first_output(saver.filename_tensor_name)
        before = {node.name: [*map(_node_name, node.input)] for node in self._nodes.values()}
        needed = _closure([_node_name(saver.restore_op_name)], before) & self._nodes.keys()
        for node in filter(self._is_saver, map(self._nodes.__getitem__, needed)):
            numbers = {0} if node.op in RESTORING else self._filename_arguments(node)
            sources = [_input(node, number) for number in numbers]
            if not sources or not all(
                filename in map(_first_output, _passed_on(source, self._nodes))
                for source in sources
            ):
                return False
        return True

    def _filename_arguments(self, call: NodeDef) -> set[int]:
        """Numbers of arguments that a call restores from; none if it does anything else."""
        name = call.attr["f"].func.name if "f" in call.attr else ""
        if call.op not in _CALLS or name not in self._functions:
            return set()
        function = self._calls.functions[name]
        arguments = function.signature.input_arg
        if any(one.number_attr or one.type_list_attr for one in arguments):
            # Of several tensors, which would shift the inputs of the call.
            return set()
        nodes = {node.name: node for node in function.node_def}
        numbers = {one.name: number for number, one in enumerate(arguments)}
        found = set()
        for node in filter(self._is_saver, function.node_def):
            *_, source = _passed_on(_input(node, 0), nodes)
            if node.op not in RESTORING or source not in numbers:
                return set()
            found.add(numbers[source])
        return found


def _input(node: NodeDef, number: int) -> str:
    return node.input[number] if number < len(node.input) else ""


def _first_output(reference: str) -> str:
    """The name of a tensor with its number, which may be left out where it is 0."""
    return reference if ":" in reference else f"{reference}:0"


def _passed_on(tensor: str, nodes: Mapping[str, NodeDef]) -> Iterator[str]:
    """A tensor, and those that it is passed on from without a change, up to the first of them."""
    seen: set[str] = set()
    yield tensor
    while (name := _node_name(tensor)) in nodes and name not in seen:
        if nodes[name].op not in _PASSING:
            break
        seen.add(name)
        tensor = _input(nodes[name], 0)
        yield tensor


def _named_functions(graph: MetaGraphDef) -> Iterator[str]:
    """Functions that are called, or may be, by what is outside of the nodes of the graph."""
    objects, library = graph.object_graph_def, graph.graph_def.library
    yield from objects.concrete_functions
    for node in objects.nodes:
        yield from node.function.concrete_functions
        yield node.bare_concrete_function.concrete_function_name
    for gradient in library.gradient:
        yield from (gradient.function_name, gradient.gradient_func)
    yield from (one.gradient_func for one in library.registered_gradients)


def _named_tensors(graph: MetaGraphDef) -> Iterator[str]:
    """Tensors and nodes that are asked for by what is not the saver."""
    infos = [one.tensor_info for one in graph.asset_file_def]
    for signature in graph.signature_def.values():
        infos += [*signature.inputs.values(), *signature.outputs.values()]
    yield from _names_in(infos)
    for collection in graph.collection_def.values():
        yield from collection.node_list.value
        for value in collection.bytes_list.value:
            variable = _variable(value)
            if variable is not None:
                yield from (variable.variable_name, variable.initial_value_name)
                yield from (variable.initializer_name, variable.snapshot_name)


def _names_in(infos: Iterable[TensorInfo]) -> Iterator[str]:
    waiting = [*infos]
    while waiting:
        info = waiting.pop()
        sparse = info.coo_sparse
        yield from (info.name, sparse.values_tensor_name, sparse.indices_tensor_name)
        yield sparse.dense_shape_tensor_name
        waiting += info.composite_tensor.components


def _variable(value: bytes) -> VariableDef | None:
    """A variable in a collection, or None where it holds something else."""
    try:
        return VariableDef.FromString(value)
    except DecodeError:
        return None


def _closure(names: Iterable[str], following: Mapping[str, list[str]]) -> set[str]:
    """Some names, and all to which they lead."""
    found, waiting = set(), [*names]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += following.get(name, ())
    return found


def _node_name(reference: str) -> str:
    return reference.removeprefix("^").split(":")[0]

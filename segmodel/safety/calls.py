"""Which functions of a graph call which, and how large a graph is once all of them are in place."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter

from tensorflow.core.framework.attr_value_pb2 import AttrValue
from tensorflow.core.framework.function_pb2 import FunctionDef
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef

from segmodel.errors import ExportError

# A network for images has some thousand nodes; an ensemble of many, seen in many views, some
# hundred thousand. TensorFlow needs about a kilobyte for each.
MAX_NODES = 2_000_000
# Functions of Keras call each other in less than ten levels.
MAX_DEPTH = 200


def attribute_values(values: Iterable[AttrValue]) -> Iterator[AttrValue]:
    """Values of attributes, and those inside the functions that they name.

    Args:
        values: Values of the attributes of a node or of a function.
    """
    waiting = list(values)
    while waiting:
        value = waiting.pop()
        yield value
        named = [value.func] if value.HasField("func") else value.list.func
        for function in named:
            waiting += function.attr.values()


def names_called(node: NodeDef) -> Iterator[str]:
    """Names that a node calls if they are functions: its operation, and what attributes name."""
    yield node.op
    for value in attribute_values(node.attr.values()):
        if value.HasField("func"):
            yield value.func.name
        yield from (function.name for function in value.list.func)


@dataclass(frozen=True)
class CallGraph:
    """The functions of a graph, and the calls between them.

    Args:
        functions: Functions by name.
        nodes: Nodes outside of functions.
    """

    functions: Mapping[str, FunctionDef]
    nodes: tuple[NodeDef, ...]

    @classmethod
    def of(cls, graph: MetaGraphDef) -> CallGraph:
        """Calls of a graph of a SavedModel.

        Raises:
            ExportError: If it has more nodes than `MAX_NODES`, or two nodes or functions of one
                name.
        """
        library = graph.graph_def.library.function
        count = len(graph.graph_def.node) + sum(len(one.node_def) for one in library)
        if count > MAX_NODES:
            raise ExportError(f"has {count:,} nodes, and more than {MAX_NODES:,} are not read")
        functions = {one.signature.name: one for one in library}
        for nodes in (graph.graph_def.node, *(one.node_def for one in library)):
            if len({node.name for node in nodes}) < len(nodes):
                raise ExportError("has two nodes of the same name")
        if len(functions) < len(library):
            raise ExportError("has two functions of the same name")
        return cls(functions, tuple(graph.graph_def.node))

    def called(self, nodes: Iterable[NodeDef]) -> list[str]:
        """Functions that some nodes call, each as often as they call it."""
        return [name for node in nodes for name in names_called(node) if name in self.functions]

    @cached_property
    def calls(self) -> dict[str, list[str]]:
        """Functions that each function calls, as often as it does."""
        return {name: self.called(one.node_def) for name, one in self.functions.items()}

    @cached_property
    def callees_first(self) -> list[str]:
        """All functions, each after those that it calls.

        Raises:
            ExportError: If a function calls itself, directly or through others.
        """
        try:
            return [*TopologicalSorter(self.calls).static_order()]
        except CycleError as error:
            raise ExportError(f"has a function that calls itself: {error.args[1][0]}") from None

    def reaching(self, names: Container[str]) -> set[str]:
        """Functions that hold one of some operations, or call a function that does."""
        found: set[str] = set()
        for name in self.callees_first:
            has_own = any(node.op in names for node in self.functions[name].node_def)
            if has_own or not found.isdisjoint(self.calls[name]):
                found.add(name)
        return found

    def check_size(self) -> None:
        """Refuse a graph that is too large once TensorFlow has put functions in place of calls.

        Raises:
            ExportError: If it exceeds `MAX_NODES` or `MAX_DEPTH`.
        """
        sizes: dict[str, int] = {}
        depths: dict[str, int] = {}
        for name in self.callees_first:
            called = self.calls[name]
            sizes[name] = len(self.functions[name].node_def) + sum(map(sizes.__getitem__, called))
            depths[name] = 1 + max(map(depths.__getitem__, called), default=0)
            if depths[name] > MAX_DEPTH:
                raise ExportError(
                    f"has functions that call each other in more than {MAX_DEPTH} levels"
                )
        whole = len(self.nodes) + sum(map(sizes.__getitem__, self.called(self.nodes)))
        if max([whole, *sizes.values()]) > MAX_NODES:
            raise ExportError(
                f"has functions that call each other so often that they come to more than "
                f"{MAX_NODES:,} nodes"
            )

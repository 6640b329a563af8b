"""What a SavedModel offers to callers: its signatures and functions, read without loading it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tensorflow.core.framework.tensor_shape_pb2 import TensorShapeProto
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef
from tensorflow.core.protobuf.struct_pb2 import StructuredValue
from tensorflow.dtypes import as_dtype

from segmodel.errors import ConfigurationError, ContractError
from segmodel.escaping import on_one_line
from segmodel.safety.graph_file import read_graphs

# Signatures and attributes of TensorFlow itself.
_INTERNAL = "__saved_model"
_SERVE = "serve"


@dataclass(frozen=True)
class NamedTensor:
    """An input or an output of a signature.

    Args:
        name: Name by which callers know it.
        dtype: Name of its sample type.
        shape: Sizes, None for each that is not fixed; None where not even their number is.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None

    def __str__(self) -> str:
        sizes = "any shape"
        if self.shape is not None:
            sizes = f"({', '.join('?' if n is None else str(n) for n in self.shape)})"
        return f"{self.name} {self.dtype} {sizes}"


@dataclass(frozen=True)
class Endpoint:
    """A signature, or a function of the object that was saved.

    Args:
        name: Name of the signature, or of the attribute that holds the function.
        inputs: Tensors that it takes.
        outputs: Tensors that it gives, in the order of their names.
        is_function: Whether it is a function.
    """

    name: str
    inputs: tuple[NamedTensor, ...]
    outputs: tuple[NamedTensor, ...]
    is_function: bool = False

    def __str__(self) -> str:
        sides = (", ".join(map(str, side)) or "nothing" for side in (self.inputs, self.outputs))
        return f"{self.name}: {' -> '.join(sides)}"


def meta_graph(model: str | Path, tags: Sequence[str] = ()) -> MetaGraphDef:
    """The graph of a SavedModel that is to be used.

    Args:
        model: Folder of the SavedModel.
        tags: Tags of the graph; without any the only graph, or the one with the tag `serve`.

    Raises:
        ContractError: If the folder is no SavedModel.
        ConfigurationError: If it has no such graph; names the tags of those that it has.
    """
    graphs = list(read_graphs(model).meta_graphs)
    if not tags and len(graphs) == 1:
        return graphs[0]
    wanted = set(tags or [_SERVE])
    for graph in graphs:
        if set(graph.meta_info_def.tags) == wanted:
            return graph
    found = "; ".join(", ".join(graph.meta_info_def.tags) or "no tags" for graph in graphs)
    raise ConfigurationError(
        f"savedmodel.tags: {model} has no graph with the tags {', '.join(sorted(wanted))}; "
        f"tags of its graphs: {found or 'there is none'}"
    )


def endpoints(graph: MetaGraphDef) -> list[Endpoint]:
    """Signatures of a graph by name, and then functions of the object that was saved.

    Raises:
        ContractError: If the file names types or functions that there are not.
    """
    try:
        return [*_signatures(graph), *_functions(graph)]
    except (TypeError, IndexError) as error:
        raise ContractError(
            f"the signatures of the SavedModel cannot be read ({on_one_line(str(error))}): export "
            f"it again"
        ) from error


def _signatures(graph: MetaGraphDef) -> list[Endpoint]:
    return [
        Endpoint(name, _tensors(entry.inputs), _tensors(entry.outputs))
        for name, entry in sorted(graph.signature_def.items())
        if not name.startswith(_INTERNAL)
    ]


def _functions(graph: MetaGraphDef) -> Iterator[Endpoint]:
    functions = graph.object_graph_def.concrete_functions
    for name, variants in _variants(graph).items():
        described = [functions[variant] for variant in variants]
        inputs = [
            [leaf for _, leaf in leaves_of(_structure(one.canonicalized_input_signature))]
            for one in described
        ]
        best = min(range(len(variants)), key=lambda n: count_true(inputs[n]))
        outputs = leaves_of(_structure(described[best].output_signature))
        named = [
            NamedTensor(output_name(path, number), leaf.dtype, leaf.shape)
            for number, (path, leaf) in enumerate(outputs)
            if isinstance(leaf, NamedTensor)
        ]
        tensors = [leaf for leaf in inputs[best] if isinstance(leaf, NamedTensor)]
        yield Endpoint(name, tuple(tensors), tuple(named), is_function=True)


def _variants(graph: MetaGraphDef) -> dict[str, list[str]]:
    """Concrete functions of each function of the saved object, by the attribute's name."""
    nodes, known = graph.object_graph_def.nodes, graph.object_graph_def.concrete_functions
    children = nodes[0].children if nodes else ()
    functions = {child.local_name: nodes[child.node_id].function for child in children}
    found = {
        name: [one for one in function.concrete_functions if one in known]
        for name, function in sorted(functions.items())
    }
    return {name: variants for name, variants in found.items() if variants}


def count_true(values: Sequence[Any]) -> int:
    """How many flags are set, such as `training=True`: variants with fewer are for prediction."""
    return sum(value is True for value in values)


def output_name(path: str, number: int) -> str:
    """Name of an output of a function: its path in what the function gives, or its number.

    >>> output_name("scores", 0), output_name("0", 0)
    ('scores', 'output_0')
    """
    return path if path and not path.isdigit() else f"output_{number}"


def leaves_of(structure: Any, path: str = "") -> list[tuple[str, Any]]:
    """Paths and values in nested lists and dictionaries, dictionaries in the order of their keys.

    >>> leaves_of({"b": [1, 2], "a": 0})
    [('a', 0), ('b/0', 1), ('b/1', 2)]
    """
    if isinstance(structure, dict):
        entries = sorted(structure.items())
    elif isinstance(structure, list):
        entries = [(str(number), value) for number, value in enumerate(structure)]
    else:
        return [(path, structure)]
    found = (leaves_of(value, f"{path}/{key}".strip("/")) for key, value in entries)
    return [leaf for part in found for leaf in part]


def _tensors(named: Any) -> tuple[NamedTensor, ...]:
    return tuple(
        NamedTensor(name, as_dtype(info.dtype).name, _shape(info.tensor_shape))
        for name, info in sorted(named.items())
    )


def _shape(shape: TensorShapeProto) -> tuple[int | None, ...] | None:
    if shape.unknown_rank:
        return None
    return tuple(None if dim.size < 0 else dim.size for dim in shape.dim)


def _structure(value: StructuredValue) -> Any:
    """Nested lists and dictionaries of tensors, flags and None; anything else as its kind."""
    kind = value.WhichOneof("kind")
    if kind in ("list_value", "tuple_value"):
        return [_structure(one) for one in getattr(value, kind).values]
    if kind == "named_tuple_value":
        return [_structure(one.value) for one in value.named_tuple_value.values]
    if kind == "dict_value":
        return {name: _structure(one) for name, one in value.dict_value.fields.items()}
    if kind == "tensor_spec_value":
        spec = value.tensor_spec_value
        return NamedTensor(spec.name, as_dtype(spec.dtype).name, _shape(spec.shape))
    return value.bool_value if kind == "bool_value" else kind


def describe_endpoints(found: Sequence[Endpoint]) -> Iterator[str]:
    """Lines of text about signatures and functions, for people."""
    for endpoint in found:
        yield f"{'function ' if endpoint.is_function else 'signature'} {endpoint.name}"
        for what, tensors in (("input", endpoint.inputs), ("output", endpoint.outputs)):
            for tensor in tensors:
                yield f"  {what:<7} {tensor}"

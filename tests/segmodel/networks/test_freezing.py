"""Frozen functions give what they gave before, of weights that were computed once."""

from __future__ import annotations

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from segmodel.networks.freezing import MAX_CONSTANT_BYTES, FreezingError, freeze  # noqa: E402

# Floats that do not fit into a constant, as a side of a square.
LARGE = int(MAX_CONSTANT_BYTES**0.5)


def concrete(function, *names: str):
    """A function as a model has it: in one that is called, with its arguments named."""
    inner = tf.function(function, autograph=False)

    def outer(**given):
        return {"result": inner(*(given[name] for name in names))}

    specs = {name: tf.TensorSpec((None, None), tf.float32, name) for name in names}
    return tf.function(outer, autograph=False).get_concrete_function(**specs)


def result_of(function, **values) -> np.ndarray:
    given = {name: tf.constant(np.float32(value)) for name, value in values.items()}
    return function(**given)["result"].numpy()


def kinds_in(function) -> set[str]:
    """Operations of a function and of those that it calls."""
    definition = function.graph.as_graph_def()
    nodes = [*definition.node, *(n for f in definition.library.function for n in f.node_def)]
    return {node.op for node in nodes}


def test_what_follows_from_variables_is_computed_once_and_named_arguments_stay():
    weight, factor = tf.Variable([[1.0, 2.0], [3.0, 4.0]]), tf.Variable(10.0)
    loaded = concrete(lambda x, y: tf.matmul(x, weight * factor) - y, "x", "y")
    frozen = freeze(loaded)
    weight.assign(tf.zeros((2, 2)))
    assert result_of(loaded, x=[[1, 1]], y=[[1, 2]]).tolist() == [[-1, -2]]
    assert result_of(frozen, y=[[1, 2]], x=[[1, 1]]).tolist() == [[39, 58]]
    assert {"MatMul", "Sub"} <= kinds_in(frozen)
    assert not {"ReadVariableOp", "Mul"} & kinds_in(frozen)
    assert not frozen.captured_inputs


def test_a_large_variable_that_is_used_as_it_is_shares_its_memory():
    weight = tf.Variable(np.full((LARGE, LARGE), 0.5, np.float32))
    frozen = freeze(concrete(lambda x: tf.matmul(x, weight), "x"))
    (held,) = frozen.captured_inputs
    assert np.shares_memory(memoryview(held), memoryview(weight.read_value()))
    assert result_of(frozen, x=np.ones((1, LARGE))).tolist() == [[LARGE / 2] * LARGE]


def test_branches_and_loops_by_values_stay_and_hold_no_variables():
    weight = tf.Variable([[2.0, 1.0]])

    def function(x):
        scaled = x * (weight + 1)
        grown = tf.while_loop(lambda n, _: n < 3, lambda n, v: (n + 1, v + x), (0, scaled))[1]
        return tf.cond(tf.reduce_sum(x) > 0, lambda: grown, lambda: -grown)

    loaded = concrete(function, "x")
    frozen = freeze(loaded)
    for value, expected in (([[1, 2]], [[6, 10]]), ([[-1, -2]], [[6, 10]])):
        assert result_of(loaded, x=value).tolist() == expected
        assert result_of(frozen, x=value).tolist() == expected
    assert "ReadVariableOp" not in kinds_in(frozen)


def counting():
    count = tf.Variable(0.0)
    return concrete(lambda x: x + count.assign_add(1.0), "x"), count


def reading_in_a_branch():
    weight = tf.Variable(2.0)
    return concrete(lambda x: tf.cond(x[0, 0] > 0, lambda: x * weight, lambda: x), "x"), weight


def looking_up():
    keys, values = tf.constant([1, 2], tf.int64), tf.constant([5.0, 6.0])
    pairs = tf.lookup.KeyValueTensorInitializer(keys, values)
    table = tf.lookup.StaticHashTable(pairs, -1.0)
    weight = tf.Variable(0.0)
    return concrete(lambda x: table.lookup(tf.cast(x, tf.int64)) + weight, "x"), (table, weight)


def drawing():
    weight = tf.Variable(2.0)
    return concrete(lambda x: x + tf.random.uniform(()) * weight, "x"), weight


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (counting, "AssignAddVariableOp"),
        (reading_in_a_branch, "If"),
        (looking_up, "LookupTableFindV2"),
        (drawing, "RandomUniform"),
    ],
)
def test_a_graph_that_does_more_than_read_its_variables_is_refused_by_its_operation(make, kind):
    loaded, kept = make()
    with pytest.raises(FreezingError, match=f"^it has operations {kind}$"):
        freeze(loaded)
    assert kept is not None


def test_branches_as_tensorflow_1_had_them_are_refused():
    weight = tf.Variable(2.0)

    def function(x):
        below, above = tf.raw_ops.Switch(data=x * weight, pred=x[0, 0] > 0)
        return tf.raw_ops.Merge(inputs=[below, above]).output

    with pytest.raises(FreezingError, match=r"^it has operations (Switch|Merge)$"):
        freeze(concrete(function, "x"))


def test_a_function_that_computes_with_arguments_alone_is_refused():
    with pytest.raises(FreezingError, match="nothing in it is the same in each call"):
        freeze(concrete(lambda x: x + 1, "x"))

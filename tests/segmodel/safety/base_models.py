"""Two harmless SavedModels, which hostile ones are made of: of TensorFlow 2 and of TensorFlow 1."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf


def save_base(folder: Path) -> None:
    """Objects with variables, tables, an asset, a branch and a loop, as TensorFlow 2 saves them."""
    asset = folder.with_name("words.txt")
    asset.write_text("one\ntwo\n")
    module = tf.Module()
    module.weights = tf.Variable([1.0, 2.0])
    module.asset = tf.saved_model.Asset(str(asset))
    pairs = tf.lookup.KeyValueTensorInitializer(
        tf.range(2, dtype=tf.int64), tf.constant([5.0, 7.0])
    )
    module.table = tf.lookup.StaticHashTable(pairs, 0.0)
    module.grown = tf.lookup.experimental.DenseHashTable(tf.int64, tf.float32, 0.0, -1, -2)

    @tf.function(input_signature=[tf.TensorSpec((2,), tf.float32, name="images")])
    def labels(images):
        found = module.table.lookup(tf.cast(images, tf.int64))
        found += module.grown.lookup(tf.cast(images, tf.int64))
        chosen = tf.cond(images[0] > 0, lambda: images * module.weights, lambda: images)
        (grown,) = tf.while_loop(lambda x: tf.reduce_sum(x) < 9, lambda x: (x + 1,), (chosen,))
        return {"labels": grown + found}

    module.labels = labels
    tf.saved_model.save(module, str(folder), signatures={"labels": labels})


def save_base_v1(folder: Path) -> None:
    """A graph with variables, a table and an initializer, as TensorFlow 1 saved them."""
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        images = v1.placeholder(tf.float32, (None,), name="images")
        weight = v1.get_variable("weight", initializer=2.0, use_resource=False)
        bias = v1.get_variable("bias", initializer=1.0, use_resource=True)
        pairs = tf.lookup.KeyValueTensorInitializer(tf.range(2, dtype=tf.int64), [5.0, 7.0])
        table = v1.lookup.StaticHashTable(pairs, 0.0)
        labels = images * weight + bias + table.lookup(tf.cast(images, tf.int64))
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        builder = v1.saved_model.Builder(str(folder))
        signature = v1.saved_model.predict_signature_def({"images": images}, {"labels": labels})
        builder.add_meta_graph_and_variables(
            session, ["serve"], {"labels": signature}, main_op=v1.tables_initializer()
        )
        builder.save()

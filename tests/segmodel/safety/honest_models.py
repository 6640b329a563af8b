"""SavedModels as people make them: by Keras, as modules, as graphs of TensorFlow 1."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

IMAGES = np.random.default_rng(5).integers(0, 255, (2, 16, 16, 3)).astype(np.float32)
SPEC = tf.TensorSpec((None, None, None, 3), tf.float32, name="images")


class Saved(NamedTuple):
    """A SavedModel that was written.

    Args:
        outputs: Outputs of its first signature for `IMAGES`, by the model before it was saved;
            None where they are drawn at random.
        tags: Tags to load.
    """

    outputs: np.ndarray | None
    tags: tuple[str, ...] = ()


def save_function(function: Callable, path: Path, module: tf.Module | None = None, **options):
    """Save a function of images, beside what it needs."""
    module = module or tf.Module()
    served = tf.function(lambda images: {"labels": function(images)}, input_signature=[SPEC])
    module.served = tf.function(served, **options) if options else served
    tf.saved_model.save(module, str(path), signatures={"labels": served})
    return Saved(served(tf.constant(IMAGES))["labels"].numpy())


# Functions without anything beside them.
def arithmetic(x):
    return tf.math.log1p(tf.sqrt(x) * 0.5 + tf.sin(x)) // 0.25 + tf.math.erf(x / 255)


def reductions(x):
    return tf.reduce_logsumexp(x, -1) - tf.math.reduce_std(x, [1, 2], keepdims=True)[..., 0]


def convolution(x):
    return tf.nn.leaky_relu(tf.nn.conv2d(x, tf.ones((3, 3, 3, 2)) / 27, 2, "SAME"))


def pooling(x):
    return tf.nn.max_pool2d(x, 3, 2, "SAME") - tf.nn.avg_pool2d(x, 3, 2, "SAME")


def dilated(x):
    return tf.nn.atrous_conv2d(x, tf.ones((3, 3, 3, 2)), 2, "SAME")


def transposed(x):
    shape = tf.concat([tf.shape(x)[:3] * [1, 2, 2], [2]], 0)
    return tf.nn.conv2d_transpose(x, tf.ones((2, 2, 2, 3)), shape, 2)


def resized(x):
    return tf.image.resize(x, (7, 9), "bicubic", antialias=True)


def padded_and_cropped(x):
    return (
        tf.image.crop_and_resize(x, [[0.1, 0.1, 0.8, 0.8]], [0], (4, 4))
        + tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], "REFLECT")[:1, :4, :4]
    )


def colours(x):
    return tf.image.adjust_hue(tf.image.rgb_to_hsv(x / 255), 0.1)


def decoded(x):
    one = tf.cast(x[0], tf.uint8)
    return tf.cast(tf.io.decode_png(tf.io.encode_png(one)), tf.float32)


def spectrum(x):
    return tf.abs(tf.signal.rfft2d(tf.transpose(x, [0, 3, 1, 2])))


def algebra(x):
    square = tf.matmul(x[:, 0], x[:, 0], transpose_a=True) + 9 * tf.eye(3)
    return tf.linalg.inv(square) @ tf.linalg.cholesky(square)


def argmax_and_one_hot(x):
    return tf.one_hot(tf.argmax(x, -1), 3) + tf.cast(
        tf.math.top_k(x, 2).indices[..., :1], tf.float32
    )


def gathered(x):
    return tf.tensor_scatter_nd_add(tf.gather(x[0], [2, 1]), [[0]], x[0, :1])


def boxes(x):
    corners = tf.reshape(x[0, :4, :4, :1], (4, 4))
    chosen = tf.image.non_max_suppression(corners, corners[:, 0], 2)
    return tf.gather(corners, chosen)


def branches(x):
    return tf.cond(tf.reduce_mean(x) > 1, lambda: x + 1, lambda: x * 2)


def cases(x):
    return tf.switch_case(tf.shape(x)[0], {0: lambda: x, 1: lambda: -x}, lambda: x * 3)


def loops(x):
    return tf.while_loop(lambda y: tf.reduce_max(y) > 1, lambda y: (y / 2,), (x,))[0]


def maps(x):
    return tf.map_fn(lambda one: one - tf.reduce_mean(one), x)


def scans(x):
    return tf.scan(lambda total, one: total + one, x)


def arrays_of_tensors(x):
    array = tf.TensorArray(tf.float32, 2)
    for number in range(2):
        array = array.write(number, x[number] * number)
    return array.stack()


def nested(x):
    return tf.function(lambda y: tf.function(lambda z: z + 1)(y) * 2)(x)


def checked(x):
    with tf.control_dependencies([tf.debugging.assert_less(x, 256.0)]):
        return tf.debugging.check_numerics(x * 2, "no numbers")


def gradients(x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = tf.reduce_sum(x**3)
    return tape.gradient(total, x)


@tf.custom_gradient
def _clipped(x):
    return tf.clip_by_value(x, 0, 9), lambda upstream: upstream * 2


def own_gradient(x):
    return _clipped(x)


def texts(x):
    joined = tf.strings.join([tf.strings.as_string(tf.shape(x)[0]), "5"])
    return tf.strings.to_number(tf.strings.regex_replace(joined, "2", "7")) + x


def sparse(x):
    return tf.sparse.sparse_dense_matmul(tf.sparse.from_dense(tf.eye(16)), x[0, :, :, 0])


def ragged(x):
    rows = tf.RaggedTensor.from_row_lengths(tf.reshape(x, [-1])[:6], [1, 2, 3])
    return tf.reduce_sum(rows, 1) + tf.cast(tf.reduce_sum(rows.row_lengths()), tf.float32)


def few_bits(x):
    return tf.quantization.fake_quant_with_min_max_args(x, 0, 255) + tf.cast(
        tf.cast(x, tf.bfloat16), tf.float32
    )


def random_numbers(x):
    return x + tf.random.normal(tf.shape(x)) + tf.random.stateless_uniform(tf.shape(x), (1, 2))


def shuffled(x):
    return tf.random.shuffle(tf.image.random_brightness(x, 0.2))


FUNCTIONS = (
    *(arithmetic, reductions, convolution, pooling, dilated, transposed, resized, colours),
    *(padded_and_cropped, decoded, spectrum, algebra, argmax_and_one_hot, gathered, boxes),
    *(branches, cases, loops, maps, scans, arrays_of_tensors, nested, checked, gradients),
    *(own_gradient, texts, sparse, ragged, few_bits),
)
RANDOM = (random_numbers, shuffled)


# Modules that hold something.
def with_variables(path: Path) -> Saved:
    module = tf.Module()
    module.layers = [tf.Variable(tf.ones((3, 3)) * n) for n in range(3)]
    return save_function(lambda x: x @ module.layers[1] @ module.layers[2], path, module)


def with_state(path: Path) -> Saved:
    module = tf.Module()
    module.calls = tf.Variable(0.0)

    def function(x):
        return x + 0 * module.calls.assign_add(1.0)

    return save_function(function, path, module)


def with_generator(path: Path) -> Saved:
    module = tf.Module()
    module.random = tf.random.Generator.from_seed(3)
    saved = save_function(lambda x: x + module.random.normal(tf.shape(x)), path, module)
    return saved._replace(outputs=None)


def with_table(path: Path) -> Saved:
    module = tf.Module()
    pairs = tf.lookup.KeyValueTensorInitializer(tf.range(9, dtype=tf.int64), tf.range(9.0) ** 2)
    module.table = tf.lookup.StaticHashTable(pairs, -1.0)
    return save_function(lambda x: module.table.lookup(tf.cast(x, tf.int64)), path, module)


def with_growing_table(path: Path) -> Saved:
    module = tf.Module()
    module.table = tf.lookup.experimental.DenseHashTable(tf.int64, tf.float32, 4.0, -1, -2)
    module.table.insert(tf.range(9, dtype=tf.int64), tf.range(9.0) ** 2)

    def function(x):
        return module.table.lookup(tf.reshape(tf.cast(x, tf.int64), [-1]))

    return save_function(function, path, module)


def with_asset(path: Path) -> Saved:
    """The asset is saved with the model, and nothing reads it."""
    asset = path.with_name("words.txt")
    asset.write_text("water\nland\n")
    module = tf.Module()
    module.words = tf.saved_model.Asset(str(asset))
    return save_function(lambda x: x * 2, path, module)


def with_training(path: Path) -> Saved:
    """A step of an optimizer is saved beside the function that labels."""
    module = tf.Module()
    module.weights = tf.Variable(tf.ones((3, 2)))
    module.optimizer = keras.optimizers.Adam()
    module.optimizer.build([module.weights])

    @tf.function(input_signature=[SPEC])
    def step(images):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((images @ module.weights) ** 2)
        gradients = tape.gradient(loss, [module.weights])
        module.optimizer.apply_gradients(zip(gradients, [module.weights], strict=True))
        return loss

    module.step = step
    return save_function(lambda x: x @ module.weights, path, module)


def of_tensorflow_hub(path: Path) -> Saved:
    """A module that is called itself, with what trainers look for."""

    class Layer(tf.Module):
        def __init__(self):
            super().__init__()
            self.kernel = tf.Variable(tf.ones((3, 2)))
            self.regularization_losses = [
                tf.function(lambda: tf.nn.l2_loss(self.kernel), input_signature=[])
            ]

        @tf.function(input_signature=[SPEC, tf.TensorSpec((), tf.bool)])
        def __call__(self, images, training):
            return tf.cond(training, lambda: images @ self.kernel, lambda: images @ self.kernel / 2)

    module = Layer()
    return save_function(lambda x: module(x, False), path, module)


def compiled(path: Path) -> Saved:
    """A function that XLA compiles is made of ordinary operations."""
    inner = tf.function(lambda x: tf.nn.softmax(x * 2), jit_compile=True)
    return save_function(inner, path)


# Of Keras.
def save_keras(path: Path, *layers: keras.Layer) -> Saved:
    keras.utils.set_random_seed(1)
    network = keras.Sequential([keras.Input((16, 16, 3)), *layers])
    network.export(str(path), verbose=False)
    return Saved(network(IMAGES).numpy())


def keras_convolutions(path: Path) -> Saved:
    return save_keras(
        path,
        keras.layers.Rescaling(1 / 255),
        keras.layers.Conv2D(4, 3, padding="same", activation="swish"),
        keras.layers.BatchNormalization(),
        keras.layers.SeparableConv2D(4, 3),
        keras.layers.Dropout(0.5),
        keras.layers.Conv2DTranspose(2, 2, strides=2),
        keras.layers.Softmax(),
    )


def keras_normalizations(path: Path) -> Saved:
    return save_keras(
        path,
        keras.layers.LayerNormalization(),
        keras.layers.GroupNormalization(3),
        keras.layers.UnitNormalization(),
        keras.layers.UpSampling2D(2, interpolation="bilinear"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(3, activation="gelu"),
    )


def keras_attention(path: Path) -> Saved:
    images = keras.Input((16, 16, 3))
    rows = keras.layers.Reshape((256, 3))(images)
    seen = keras.layers.MultiHeadAttention(2, 4)(rows, rows)
    network = keras.Model(images, keras.layers.Reshape((16, 16, 3))(seen))
    network.export(str(path), verbose=False)
    return Saved(network(IMAGES).numpy())


def keras_recurrent(path: Path) -> Saved:
    return save_keras(
        path, keras.layers.Reshape((16, 48)), keras.layers.GRU(4), keras.layers.Dense(2)
    )


def keras_u_net(path: Path) -> Saved:
    images = keras.Input((None, None, 3))
    wide = keras.layers.Conv2D(4, 3, padding="same", activation="relu")(images)
    deep = keras.layers.Conv2D(8, 3, padding="same")(keras.layers.MaxPooling2D(2)(wide))
    back = keras.layers.Conv2DTranspose(4, 2, strides=2)(deep)
    scores = keras.layers.Conv2D(2, 1)(keras.layers.Concatenate()([wide, back]))
    network = keras.Model(images, scores)
    network.export(str(path), verbose=False)
    return Saved(network(IMAGES).numpy())


def keras_lookup(path: Path) -> Saved:
    return save_keras(path, keras.layers.IntegerLookup(vocabulary=[1, 2, 250], output_mode="int"))


# Of TensorFlow 1.
def old_graph(path: Path) -> Saved:
    """Variables of both kinds, a table with an initializer, a loop, a summary."""
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        images = v1.placeholder(tf.float32, (None, None, None, 3), name="images")
        weight = v1.get_variable("weight", initializer=2.0, use_resource=False)
        bias = v1.get_variable("bias", initializer=1.0, use_resource=True)
        pairs = tf.lookup.KeyValueTensorInitializer(tf.range(9, dtype=tf.int64), tf.range(9.0))
        table = v1.lookup.StaticHashTable(pairs, 0.0)
        grown = v1.while_loop(lambda x: tf.reduce_max(x) < 999, lambda x: (x * weight,), (images,))
        labels = grown + bias + table.lookup(tf.cast(images, tf.int64))
        v1.summary.scalar("weight", weight)
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        builder = v1.saved_model.Builder(str(path))
        signature = v1.saved_model.predict_signature_def({"images": images}, {"labels": labels})
        arguments = {"signature_def_map": {"labels": signature}}
        arguments["main_op"] = v1.tables_initializer()
        builder.add_meta_graph_and_variables(session, ["serve"], **arguments)
        builder.save()
        return Saved(session.run(labels, {images: IMAGES}))


def two_graphs(path: Path) -> Saved:
    """One graph to train and one to serve, in one SavedModel, with two savers in each."""
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        images = v1.placeholder(tf.float32, (None, None, None, 3), name="images")
        weight = v1.get_variable("weight", initializer=2.0)
        labels = images * weight
        session.run(v1.global_variables_initializer())
        v1.train.Saver(sharded=False)
        builder = v1.saved_model.Builder(str(path))
        signature = v1.saved_model.predict_signature_def({"images": images}, {"labels": labels})
        arguments = {"signature_def_map": {"labels": signature}, "strip_default_attrs": True}
        builder.add_meta_graph_and_variables(session, ["train"], **arguments)
        builder.add_meta_graph(["serve"], **arguments)
        builder.save()
        return Saved(session.run(labels, {images: IMAGES}), ("serve",))


MODELS = (
    *(with_variables, with_state, with_generator, with_table, with_growing_table, with_asset),
    *(with_training, of_tensorflow_hub, compiled, keras_convolutions, keras_normalizations),
    *(keras_attention, keras_recurrent, keras_u_net, keras_lookup, old_graph, two_graphs),
)


def save_plain(function: Callable, path: Path) -> Saved:
    """Save one of `FUNCTIONS` or `RANDOM`."""
    saved = save_function(function, path)
    return saved._replace(outputs=None) if function in RANDOM else saved

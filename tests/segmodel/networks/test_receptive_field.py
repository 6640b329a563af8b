"""Which input pixels an output pixel can see: claimed by arithmetic, checked by perturbation."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from segmodel.errors import ConfigurationError
from segmodel.networks.receptive_field import ReceptiveField

HEIGHT, WIDTH = 96, 16


def conv(kernel: int, stride: int = 1, dilation: int = 1, padding: str = "same"):
    import keras

    return keras.layers.Conv2D(
        1,
        kernel,
        strides=stride,
        dilation_rate=dilation,
        padding=padding,
        kernel_initializer="ones",
    )


def depthwise(kernel: int, stride: int, padding: str):
    import keras

    return keras.layers.DepthwiseConv2D(
        kernel, strides=stride, padding=padding, depthwise_initializer="ones"
    )


def transposed(kernel: int):
    import keras

    return keras.layers.Conv2DTranspose(
        1, kernel, strides=2, padding="same", kernel_initializer="ones"
    )


def pool(kind: str, size: int, stride: int):
    import keras

    kinds = {"max": keras.layers.MaxPooling2D, "mean": keras.layers.AveragePooling2D}
    return kinds[kind](size, strides=stride, padding="same")


def pad():
    import keras

    return keras.layers.ZeroPadding2D(((0, 1), (0, 1)))


def up(factor: int):
    from segmodel.networks.network import BilinearUpsampling

    return BilinearUpsampling(factor)


CHAINS = {
    "nothing wide": lambda: [conv(1)],
    "convolution": lambda: [conv(3)],
    "two convolutions": lambda: [conv(3), conv(5)],
    "even kernel": lambda: [conv(4)],
    "dilation": lambda: [conv(3, dilation=3)],
    "max pooling and up by 2": lambda: [pool("max", 2, 2), up(2)],
    "mean pooling and up by 4": lambda: [pool("mean", 4, 4), up(4)],
    "overlapping pooling": lambda: [pool("max", 3, 2), conv(3), up(2)],
    "strided convolution": lambda: [conv(3, 2), conv(3), up(2)],
    "strided kernel of 7": lambda: [conv(7, 2), pool("max", 3, 2), up(4)],
    "padded depthwise of mobilenet": lambda: [pad(), depthwise(3, 2, "valid"), up(2)],
    "transposed convolution": lambda: [conv(3, 2), transposed(4)],
    "transposed convolution of odd kernel": lambda: [conv(3, 2), transposed(3)],
    "transposed twice": lambda: [conv(3, 2), conv(3, 2), transposed(4), transposed(2)],
    "up by 8": lambda: [conv(3, 2), conv(3, 2), pool("max", 2, 2), up(8)],
}


def network(layers):
    import keras

    images = keras.Input((None, None, 1))
    tensor = images
    for layer in layers:
        tensor = layer(tensor)
    return keras.Model(images, tensor)


def offsets_seen(model) -> tuple[int, int]:
    """Least and greatest offset of an input row that changes an output row far from the edges."""
    images = np.zeros((HEIGHT, HEIGHT, WIDTH, 1), np.float32)
    images[np.arange(HEIGHT), np.arange(HEIGHT)] = 1000.0
    changed = (model(images).numpy() != 0).any(axis=(2, 3))
    offsets = [
        row - output
        for row in range(HEIGHT)
        for output in np.flatnonzero(changed[row])
        if 40 <= output < 56
    ]
    return min(offsets), max(offsets)


@pytest.mark.parametrize("name", CHAINS)
def test_the_reach_of_a_chain_of_positive_layers_is_exact(name):
    from segmodel.networks.network import receptive_field

    model = network(CHAINS[name]())
    actual = receptive_field(model)
    assert actual.scale == 1
    assert offsets_seen(model) == (actual.low, actual.high)
    assert actual.halo_px == max(-actual.low, actual.high)


def test_branches_that_are_added_see_what_the_wider_one_sees():
    import keras

    from segmodel.networks.network import receptive_field

    images = keras.Input((None, None, 1))
    wide = up(2)(conv(7)(conv(3, 2)(images)))
    model = keras.Model(images, keras.layers.Add()([conv(3)(images), wide]))
    actual = receptive_field(model)
    assert offsets_seen(model) == (actual.low, actual.high)


def test_branches_of_different_scale_cannot_be_joined():
    with pytest.raises(ValueError, match="scale 1 and 2 cannot be joined"):
        ReceptiveField().join(ReceptiveField(scale=Fraction(2)))


@pytest.mark.parametrize("kind", ["LayerNormalization", "UpSampling2D", "Flatten"])
def test_a_layer_of_unknown_reach_is_refused_by_name(kind):
    import keras

    from segmodel.networks.network import receptive_field

    layer = getattr(keras.layers, kind)(name="culprit")
    with pytest.raises(ConfigurationError, match=f"'culprit' \\({kind}\\) unknown"):
        receptive_field(network([conv(3), layer]))


@pytest.mark.parametrize("kind", ["GlobalAveragePooling2D", "GlobalMaxPooling2D"])
def test_global_context_has_no_reach(kind):
    import keras

    from segmodel.networks.network import receptive_field

    images = keras.Input((None, None, 1))
    features = conv(3)(images)
    context = getattr(keras.layers, kind)()(features)
    context = conv(1)(keras.layers.Reshape((1, 1, 1))(context))
    assert (
        receptive_field(keras.Model(images, keras.layers.Multiply()([features, context]))) is None
    )
    assert receptive_field(keras.Model(images, features)).halo_px == 1


def test_efficientnet_has_no_reach():
    from segmodel.networks.network import NetworkConfig, build_network, receptive_field

    assert receptive_field(build_network(NetworkConfig(2, "fcn-8s", "efficientnet_v2_s"))) is None


# Araujo, Norris and Sim (2019), table of receptive fields of published networks. VGG19 by hand: a
# kernel of 3 more at strides of 4, 8 and 16. Second ResNets have the kernels of the first.
FIELDS = {
    "vgg16": 212,
    "vgg19": 268,
    "resnet50": 483,
    "resnet101": 1027,
    "resnet152": 1507,
    "resnet50_v2": 483,
    "resnet101_v2": 1027,
    "resnet152_v2": 1507,
    "mobilenet_v2": 491,
}


@pytest.mark.parametrize("name", FIELDS)
def test_backbones_see_what_is_published(name):
    import keras

    from segmodel.networks.backbones import BACKBONES
    from segmodel.networks.network import NetworkConfig, build_network, receptive_field

    model = build_network(NetworkConfig(2, "fcn-32s", name))
    layer = BACKBONES[name].skips[-1][1]
    features = receptive_field(keras.Model(model.inputs[0], model.get_layer(layer).output))
    assert features.high - features.low + 1 == FIELDS[name]
    assert features.scale == 32
    assert model.output_shape == (None, None, None, 2)


def positive(model):
    """Every weight positive and every centre 0, so that no influence of a pixel is lost."""
    for layer in model.layers:
        names = [variable.name for variable in layer.weights]
        zero = ("bias", "beta", "moving_mean")
        for variable in layer.weights:
            value = np.ones(variable.shape, np.float32)
            if variable.name == "kernel":
                value /= value.shape[0] * value.shape[2]
            variable.assign(value * (variable.name not in zero))
        assert not set(names) - {"kernel", "gamma", "moving_variance", *zero}
    return model


NETWORKS = [
    ("vgg16", "fcn-8s", False),
    ("vgg16", "fcn-32s", True),
    ("resnet50", "fcn-16s", False),
    ("resnet50_v2", "fcn-4s", False),
    ("mobilenet_v2", "fcn-4s", True),
]


@pytest.mark.parametrize(("backbone", "variant", "fc_layers"), NETWORKS)
def test_the_reach_of_a_network_is_exact(backbone, variant, fc_layers):
    from segmodel.networks.network import (
        NetworkConfig,
        build_network,
        preprocessing,
        receptive_field,
    )

    config = NetworkConfig(
        1, variant, backbone, width=0.1, bands=("grey",), fc_layers=fc_layers, fc_channels=1
    )
    model = positive(build_network(config))
    seen = receptive_field(model)
    middle = -(-seen.halo_px // 32) * 32 + 32
    images = np.full((32, 2 * middle + 32, 32, 1), preprocessing(config)[0], np.float32)
    rows = middle + np.arange(32)
    images[np.arange(32), rows] = 1e6
    changed = (model.predict(images, batch_size=8, verbose=0) != 0).any(axis=(2, 3))
    offsets = [row - np.flatnonzero(line) for row, line in zip(rows, changed, strict=True)]
    assert (min(map(np.min, offsets)), max(map(np.max, offsets))) == (seen.low, seen.high)


def test_a_wide_kernel_is_refused_or_seen():
    import keras

    from segmodel.networks.network import receptive_field

    wide = keras.layers.Conv2D(1, (1, 9), padding="same", kernel_initializer="ones")
    try:
        actual = receptive_field(network([wide])).halo_px
    except ConfigurationError:
        return
    assert actual >= 4


def test_a_transposed_convolution_without_padding_is_refused_or_seen():
    import keras

    from segmodel.networks.network import receptive_field

    layer = keras.layers.Conv2DTranspose(1, 5, padding="valid", kernel_initializer="ones")
    model = network([layer])
    try:
        actual = receptive_field(model)
    except ConfigurationError:
        return
    assert offsets_seen(model) == (actual.low, actual.high)


@pytest.mark.parametrize(
    ("low", "high", "halo", "field"),
    [
        (0, 0, 0, 1),
        (-1, 0, 1, 3),
        (0, 3, 3, 7),
        (Fraction(-3, 2), 1, 2, 5),
        (0, Fraction(1, 2), 1, 3),
    ],
)
def test_the_receptive_field_is_odd_and_holds_both_sides(low, high, halo, field):
    actual = ReceptiveField(low=Fraction(low), high=Fraction(high))
    assert (actual.halo_px, actual.size_px) == (halo, field)

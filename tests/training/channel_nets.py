"""Models in which channels hang together, one for each way in which they do."""

from collections.abc import Callable

import keras
import numpy as np
from keras import layers

SIDE = 6


def conv(filters: int, size: int = 3, **kwargs) -> keras.Layer:
    return layers.Conv2D(filters, size, padding="same", **kwargs)


def normed(x, layer: keras.Layer):
    return layers.ReLU()(layers.BatchNormalization(momentum=0.5)(layer(x)))


def headed(inputs, x) -> keras.Model:
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, layers.Dense(3, activation="softmax", name="head")(x))
    return shaken(model)


def shaken(model: keras.Model) -> keras.Model:
    """No weight at a round number, as after some training."""
    rng = np.random.default_rng(5)
    for weight in model.weights:
        noise = rng.normal(0.0, 0.1, weight.shape).astype("float32")
        weight.assign(weight.numpy() + np.abs(noise))
    return model


def chain() -> keras.Model:
    inputs = keras.Input((SIDE, SIDE, 3))
    x = normed(inputs, conv(8, name="a"))
    return headed(inputs, normed(x, conv(12, name="b")))


def residual() -> keras.Model:
    inputs = keras.Input((SIDE, SIDE, 3))
    x = short = normed(inputs, conv(8, name="a"))
    x = normed(x, conv(10, name="b"))
    x = layers.BatchNormalization(momentum=0.5)(conv(8, name="c")(x))
    return headed(inputs, layers.ReLU()(layers.Add()([x, short])))


def depthwise() -> keras.Model:
    inputs = keras.Input((SIDE, SIDE, 3))
    x = normed(inputs, conv(8, name="a"))
    x = normed(x, layers.DepthwiseConv2D(3, padding="same", name="deep"))
    return headed(inputs, normed(x, conv(12, 1, name="b")))


def multiplied() -> keras.Model:
    """A depthwise convolution that makes two channels of each."""
    inputs = keras.Input((SIDE, SIDE, 3))
    x = normed(inputs, conv(6, name="a"))
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same", name="deep")(x)
    return headed(inputs, normed(x, conv(10, 1, name="b")))


def grouped() -> keras.Model:
    """Outputs of groups that meet again in a sum."""
    inputs = keras.Input((SIDE, SIDE, 3))
    short = x = normed(inputs, conv(8, name="a"))
    x = normed(x, conv(8, groups=2, name="b"))
    return headed(inputs, layers.Add()([x, short]))


def concatenated() -> keras.Model:
    """Two producers beside each other, and a third that is added to both."""
    inputs = keras.Input((SIDE, SIDE, 3))
    one, two = conv(6, name="a")(inputs), conv(8, 1, name="b")(inputs)
    both = layers.Concatenate()([one, two])
    third = layers.BatchNormalization(momentum=0.5)(conv(14, name="c")(inputs))
    return headed(inputs, layers.ReLU()(layers.Add()([both, third])))


def shared() -> keras.Model:
    """One layer called twice, each time on other channels."""
    inputs = keras.Input((SIDE, SIDE, 3))
    one, two = normed(inputs, conv(8, name="a")), normed(inputs, conv(8, name="b"))
    twice = conv(10, name="twice")
    x = layers.Add()([twice(one), twice(two)])
    return headed(inputs, layers.ReLU()(x))


def gated() -> keras.Model:
    """Squeeze and excite."""
    inputs = keras.Input((SIDE, SIDE, 3))
    x = normed(inputs, conv(12, name="a"))
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = conv(6, 1, activation="relu", name="squeeze")(gate)
    gate = conv(12, 1, activation="sigmoid", name="excite")(gate)
    return headed(inputs, layers.Multiply()([x, gate]))


def flattened() -> keras.Model:
    inputs = keras.Input((SIDE, SIDE, 3))
    x = layers.Flatten()(layers.MaxPooling2D()(normed(inputs, conv(8, name="a"))))
    x = layers.Dense(10, activation="relu", name="b")(x)
    return shaken(keras.Model(inputs, layers.Dense(3, name="head")(x)))


def nested() -> keras.Model:
    inputs = keras.Input((SIDE, SIDE, 8))
    trunk = keras.Model(inputs, normed(inputs, conv(8, name="inner")), name="trunk")
    outer = keras.Input((SIDE, SIDE, 3))
    short = normed(outer, conv(8, name="a"))
    return headed(outer, layers.Add()([trunk(short), short]))


def unscaled() -> keras.Model:
    """Normalisations without a scale, and without an offset."""
    inputs = keras.Input((SIDE, SIDE, 3))
    x = conv(8, name="a")(inputs)
    x = layers.ReLU()(layers.BatchNormalization(scale=False, momentum=0.5)(x))
    x = conv(10, name="b")(x)
    x = layers.ReLU()(layers.BatchNormalization(center=False, momentum=0.5)(x))
    return headed(inputs, x)


def attention() -> keras.Model:
    """Heads, and a feed-forward unit; the stream itself is normalised as a whole."""
    inputs = keras.Input((5, 8))
    x = layers.LayerNormalization()(inputs)
    x = layers.Add()([inputs, layers.MultiHeadAttention(4, 3, name="heads")(x, x)])
    y = layers.Dense(16, activation="relu", name="up")(layers.LayerNormalization()(x))
    x = layers.Add()([x, layers.Dense(8, name="down")(y)])
    outputs = layers.Dense(3, name="head")(layers.GlobalAveragePooling1D()(x))
    return shaken(keras.Model(inputs, outputs))


NETS: dict[str, Callable[[], keras.Model]] = {
    make.__name__: make
    for make in (
        chain,
        residual,
        depthwise,
        multiplied,
        grouped,
        concatenated,
        shared,
        gated,
        flattened,
        nested,
        unscaled,
        attention,
    )
}


def data(model: keras.Model, count: int = 24) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, *model.input_shape[1:])).astype("float32")
    return x, rng.normal(size=(count, 3)).astype("float32")

"""Small nets, one rule of sparse inference each, and random ones of the same pieces."""

import keras
import numpy as np

L = keras.layers
SIZE = 32
WIDTH = 16


def padded(layer, amount=1):
    """A stride-2 layer with explicit zeros around."""
    return lambda x: layer(L.ZeroPadding2D(amount)(x))


def stem(filters=WIDTH, **options):
    """What starts sparse inference."""
    return padded(L.Conv2D(filters, 3, strides=2, **options))


def conv(filters=WIDTH, **options):
    return L.Conv2D(filters, 1, **options)


def net(*layers, inputs=(SIZE, SIZE, 3), start=None, head=True):
    """`inputs -> start -> 1×1 -> layers -> 1×1 -> mean -> Dense`; outputs are logits.

    A list among `layers` is a residual branch: it is applied and added to its input.
    """
    x = first = keras.Input(inputs)
    x = conv(activation="relu")((start or stem(activation="relu"))(x))
    for layer in layers:
        x = layer(x)
    if head:
        x = conv(2 * WIDTH, activation="relu")(x)
        x = L.Dense(10)(L.GlobalAveragePooling2D()(x))
    return keras.Model(first, x)


def residual(*layers):
    def branch(x):
        y = x
        for layer in layers:
            y = layer(y)
        return L.Add()([x, y])

    return branch


def gated(*layers, pool=None):
    """A squeeze-and-excite gate."""

    def gate(x):
        y = (pool or L.GlobalAveragePooling2D(keepdims=True))(x)
        for layer in layers:
            y = layer(y)
        return L.Multiply()([x, y])

    return gate


def swish(x):
    return L.Activation("swish")(x)


def depth_to_space(x):
    import tensorflow as tf

    return L.Lambda(lambda t: tf.nn.depth_to_space(t, 2))(x)


def pruned(model, sparsity=0.9, seed=0):
    """Random weights, kernels of the stated fraction of zeros; statistics as well.

    The scale keeps the logits of deep nets apart: with the kernels that Keras draws,
    nine tenths of them zero, all inputs would give nearly the same.
    """
    generator = np.random.default_rng(seed)
    for weight in model.weights:
        shape = weight.shape
        if len(shape) < 2:
            low, high = (0.5, 1.5) if "variance" in weight.name else (-0.5, 0.5)
            offset = 1.0 if weight.name == "gamma" else 0.0
            weight.assign(offset + generator.uniform(low, high, shape))
            continue
        depthwise = "depthwise" in weight.path
        values = generator.normal(size=shape)
        fan_in = np.prod(shape[:2] if depthwise else shape[:-1])
        keep = 1.0
        if not depthwise:
            count = round(sparsity * values.size)
            order = np.argsort(np.abs(values), axis=None)
            values.reshape(-1)[order[:count]] = 0.0
            keep = max(np.mean(values != 0), 1 / values.size)
        weight.assign(values * np.sqrt(2 / (fan_in * keep)) * 0.6)
    return model


def images(shape, count=64, seed=1):
    """Pictures that differ in more than noise: a colour and a slope each.

    The mean of a map of noise is nearly the same for every sample; logits that hardly
    differ could hide, or feign, a difference between two kernels.
    """
    generator = np.random.default_rng(seed)
    height, width, channels = shape
    colour, down, right = generator.normal(size=(3, count, 1, 1, channels))
    x = colour + down * np.linspace(-1, 1, height)[:, None, None]
    x = x + right * np.linspace(-1, 1, width)[None, :, None]
    return (x + generator.normal(size=(count, *shape))).astype("float32")

"""The nets that benchmarks/edge.py measures, with random weights that behave.

Latency and bytes do not depend on what a net has learned. Agreement needs activations
that are sane, and int8 even more so: BatchNorm takes its statistics from random images,
and depthwise convolutions blur and keep most units alive. With signs at random they are
differences of neighbours, of which little but rounding is left after 14 layers.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import layers

SEED = 7


def mobilenet_v1(size: int = 224, classes: int = 1000) -> keras.Model:
    """keras.applications.MobileNet, with logits as outputs."""
    net = keras.applications.MobileNet(
        (size, size, 3), weights=None, classes=classes, classifier_activation=None
    )
    return _blurring(net)


def mobilenet_v2(size: int = 224, classes: int = 1000) -> keras.Model:
    """keras.applications.MobileNetV2, with logits as outputs."""
    net = keras.applications.MobileNetV2(
        (size, size, 3), weights=None, classes=classes, classifier_activation=None
    )
    return _blurring(net)


def mobilenet_cifar() -> keras.Model:
    """MobileNet with half of the channels, for images of CIFAR-10's size."""
    net = keras.applications.MobileNet(
        (32, 32, 3), alpha=0.5, weights=None, classes=10, classifier_activation=None
    )
    return _blurring(net)


def resnet_cifar(blocks: int = 1, widths: Sequence[int] = (16, 32, 64)) -> keras.Model:
    """The ResNet of CIFAR-10 with 6 * blocks + 2 layers; 8 layers by default."""
    inputs = keras.Input((32, 32, 3))
    x = _conv(inputs, widths[0])
    for stage, width in enumerate(widths):
        for block in range(blocks):
            strides = 2 if stage and not block else 1
            straight = _conv(_conv(x, width, strides), width, activate=False)
            across = x
            if strides > 1:
                across = _conv(x, width, strides, kernel=1, activate=False)
            x = layers.ReLU()(layers.Add()([straight, across]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(10)(x), name="resnet_cifar")


def mlp(width: int = 1024, hidden: int = 3) -> keras.Model:
    """Dense layers only: what the runtime's block kernels are for."""
    inputs = x = keras.Input((width,))
    for _ in range(hidden):
        x = layers.Dense(width, use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
    return keras.Model(inputs, layers.Dense(10)(x), name="mlp")


def pooled(size: int = 96) -> keras.Model:
    """A net whose stem would start the sparse kernels, with max pooling that they don't
    have: sparsely encoded it would give wrong results."""
    inputs = keras.Input((size, size, 3))
    x = layers.ZeroPadding2D(1)(inputs)
    x = layers.Conv2D(16, 3, strides=2, use_bias=False)(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    for width in (32, 64):
        x = _conv(x, width, kernel=1)
        x = layers.MaxPooling2D()(x)
        x = _conv(x, 2 * width, kernel=1)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(10)(x), name="pooled")


def calibrate(model: keras.Model, samples: int = 32) -> keras.Model:
    """Sets the statistics of every BatchNorm to those of random inputs; returns model.

    In training mode each layer normalises by its own batch, so one pass is enough.
    """
    norms = [
        layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)
    ]
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.0
    model(random_inputs(model, samples, seed=1), training=True)
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum
    return model


def random_inputs(
    model: keras.Model, samples: int, seed: int = 0
) -> npt.NDArray[np.float32]:
    """`(samples, ...)` for a model of one input, float32.

    Images are noise of several sizes of grain, more or less bright: white noise looks
    the same to a net that ends in an average over the image, whatever the seed.
    """
    generator = np.random.default_rng(seed)
    shape = model.inputs[0].shape[1:]
    if len(shape) != 3:
        return generator.normal(size=(samples, *shape)).astype("float32")
    height, width, channels = shape
    images = np.zeros((samples, *shape), "float32")
    for cells in (1, 2, 4, 16):
        grain = generator.normal(size=(samples, cells, cells, channels))
        rows, columns = (np.arange(side) * cells // side for side in (height, width))
        images += grain[:, rows][:, :, columns].astype("float32") / 2
    return images * generator.uniform(0.25, 2, (samples, 1, 1, 1)).astype("float32")


def _blurring(net: keras.Model) -> keras.Model:
    for layer, following in itertools.pairwise(net.layers):
        if type(layer) is layers.DepthwiseConv2D:
            layer.kernel.assign(keras.ops.abs(layer.kernel))
            following.beta.assign(keras.ops.ones_like(following.beta))
    return net


def _conv(
    x: Any, width: int, strides: int = 1, kernel: int = 3, activate: bool = True
) -> Any:
    x = layers.Conv2D(
        width,
        kernel,
        strides,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
    )(x)
    x = layers.BatchNormalization()(x)
    return layers.ReLU()(x) if activate else x

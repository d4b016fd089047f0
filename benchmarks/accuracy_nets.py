"""The nets of the accuracy benchmark, each written once for Keras 3 and for Keras 2.

`k` is the module that builds: `keras`, or `tf_keras`, which tfmot needs. All but the
trained reference end in logits, because PQuantML drops a softmax.
"""

from typing import Any

WORDS = 8_000  # the vocabulary of the transformer, and
LENGTH = 32  # the words that it reads of a sentence

# What is pruned, by every method: layers of these classes, and no embeddings.
PRUNED = ("Dense", "Conv1D", "Conv2D", "DepthwiseConv2D", "MultiHeadAttention")


def is_pruned(layer: Any) -> bool:
    """Whether a layer takes part, of whichever Keras it is."""
    return type(layer).__name__ in PRUNED


def lenet(k: Any) -> Any:
    """LeNet-300-100: 266,200 weights in kernels; images `(784,)`."""
    inputs = x = k.Input((784,))
    for units in (300, 100):
        x = k.layers.Dense(units, activation="relu")(x)
    return k.Model(inputs, k.layers.Dense(10)(x))


def convolutions(k: Any) -> Any:
    """Three convolutions and two dense layers, as in the quick start; `(28, 28, 1)`."""
    inputs = k.Input((28, 28, 1))
    x = _normed(k, inputs, 16, 3, strides=2)
    for filters in (32, 64):
        x = k.layers.MaxPooling2D()(_normed(k, x, filters, 3))
    x = k.layers.Dense(128, activation="relu")(k.layers.Flatten()(x))
    return k.Model(inputs, k.layers.Dense(10)(x))


def resnet8(k: Any) -> Any:
    """MLPerf Tiny's image classification, 77,360 weights in kernels; `(32, 32, 3)`."""
    inputs = k.Input((32, 32, 3))
    x = _resnet_normed(k, inputs, 16)
    for filters, strides in ((16, 1), (32, 2), (64, 2)):
        y = _resnet_normed(k, x, filters, strides)
        y = k.layers.BatchNormalization()(_resnet_conv(k, filters, 3)(y))
        short = x if strides == 1 else _resnet_conv(k, filters, 1, strides)(x)
        x = k.layers.ReLU()(k.layers.Add()([short, y]))
    x = k.layers.Flatten()(k.layers.AveragePooling2D(8)(x))
    return k.Model(inputs, k.layers.Dense(10)(x))


def mobilenet(k: Any) -> Any:
    """MobileNetV1-0.25 for small images: depthwise and pointwise; `(32, 32, 3)`."""
    inputs = k.Input((32, 32, 3))
    x = _normed(k, inputs, 16, 3)
    for filters, strides in (
        (16, 1),
        (32, 2),
        (32, 1),
        (64, 2),
        *[(64, 1)] * 3,
        (128, 2),
        (128, 1),
    ):
        x = k.layers.DepthwiseConv2D(
            3, strides=strides, padding="same", use_bias=False
        )(x)
        x = k.layers.ReLU()(k.layers.BatchNormalization(momentum=0.9)(x))
        x = _normed(k, x, filters, 1)
    x = k.layers.GlobalAveragePooling2D()(x)
    return k.Model(inputs, k.layers.Dense(10)(x))


def transformer(k: Any) -> Any:
    """Two blocks of attention and a convolution that tells the order; words `(32,)`.

    A convolution in the place of positions keeps the net in stock layers of one input.
    """
    inputs = k.Input((LENGTH,), dtype="int32")
    x = k.layers.Embedding(WORDS, 64)(inputs)
    x = k.layers.Conv1D(64, 3, padding="same")(x)
    for _ in range(2):
        y = k.layers.LayerNormalization(epsilon=1e-6)(x)
        x = k.layers.Add()([x, k.layers.MultiHeadAttention(4, 16)(y, y)])
        y = k.layers.LayerNormalization(epsilon=1e-6)(x)
        y = k.layers.Dense(64)(k.layers.Dense(128, activation="gelu")(y))
        x = k.layers.Add()([x, y])
    x = k.layers.GlobalAveragePooling1D()(k.layers.LayerNormalization(epsilon=1e-6)(x))
    return k.Model(inputs, k.layers.Dense(2)(x))


def _normed(k: Any, x: Any, filters: int, size: int, strides: int = 1) -> Any:
    conv = k.layers.Conv2D(filters, size, strides, padding="same", use_bias=False)
    return k.layers.ReLU()(k.layers.BatchNormalization(momentum=0.9)(conv(x)))


def _resnet_conv(k: Any, filters: int, size: int, strides: int = 1) -> Any:
    return k.layers.Conv2D(
        filters,
        size,
        strides,
        padding="same",
        kernel_initializer="he_normal",
        kernel_regularizer=k.regularizers.L2(1e-4),
    )


def _resnet_normed(k: Any, x: Any, filters: int, strides: int = 1) -> Any:
    conv = _resnet_conv(k, filters, 3, strides)
    return k.layers.ReLU()(k.layers.BatchNormalization()(conv(x)))

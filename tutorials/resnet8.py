"""The small residual net of MLPerf Tiny's image classification, untrained."""

import keras
from keras import layers


def resnet8() -> keras.Model:
    """78,666 parameters, 12.5 million multiply-accumulates; 32 x 32 x 3 in 0 ... 255.

    The architecture of the reference (mlcommons/tiny); the first normalisation takes
    the place of scaling the images.
    """
    inputs = keras.Input((32, 32, 3))
    x = _normed(inputs, 16, 3)
    for filters, strides in ((16, 1), (32, 2), (64, 2)):
        y = _normed(x, filters, 3, strides)
        y = layers.BatchNormalization()(_conv(filters, 3)(y))
        short = x if strides == 1 else _conv(filters, 1, strides)(x)
        x = layers.ReLU()(layers.Add()([short, y]))
    x = layers.Flatten()(layers.AveragePooling2D(8)(x))
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(x))


def _normed(x, filters: int, size: int, strides: int = 1):
    x = layers.BatchNormalization()(_conv(filters, size, strides)(x))
    return layers.ReLU()(x)


def _conv(filters: int, size: int, strides: int = 1) -> keras.Layer:
    return layers.Conv2D(
        filters,
        size,
        strides,
        padding="same",
        kernel_initializer="he_normal",
        kernel_regularizer=keras.regularizers.L2(1e-4),
    )

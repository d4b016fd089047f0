"""The layers that keras_pdp prunes, one row each, and what is done with every row."""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers

BATCH = 4


@keras.saving.register_keras_serializable(package="tests")
class Scaled(layers.Dense):
    """A subclass of a layer we know."""

    def call(self, inputs, training=None):
        return 2.0 * super().call(inputs)


@keras.saving.register_keras_serializable(package="tests")
class Declared(layers.Layer):
    """A user's layer that says which of its weights are kernels."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape):
        shape = (input_shape[-1], self.units)
        self.left = self.add_weight(shape=shape, name="left")
        self.right = self.add_weight(shape=shape, name="right")
        self.table = self.add_weight(shape=shape, name="table")

    def pdp_weights(self):
        return [self.left, self.right]

    def call(self, inputs):  # no `training` argument
        return (inputs @ self.left) * (inputs @ self.right) + inputs @ self.table

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable(package="tests")
class Residual(layers.Layer):
    """A user's composite layer: nothing declared, kernels inside, in a list."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.steps = [layers.Dense(units, activation="relu"), layers.Dense(units)]
        self.norm = layers.BatchNormalization()

    def build(self, input_shape):
        for step in self.steps:
            step.build(input_shape)
        self.norm.build(input_shape)

    def call(self, inputs, training=None):
        x = inputs
        for step in self.steps:
            x = step(x)
        return self.norm(x + inputs, training=training)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def block_of(kind: str) -> keras.Model:
    """A Sequential or functional block with a layer that keeps statistics."""
    inner = [layers.Dense(6, activation="gelu"), layers.BatchNormalization()]
    if kind == "sequential":
        return keras.Sequential([keras.Input((5,)), *inner, layers.Dense(3)])
    x = inputs = keras.Input((5,))
    for layer in inner:
        x = layer(x)
    return keras.Model(inputs, layers.Dense(3)(x))


@dataclasses.dataclass(frozen=True)
class Case:
    """A layer to wrap.

    Args:
        make: Makes a new one.
        shapes: Its inputs' shapes, batch left out.
        kernels: How many kernels are pruned in it.
        tokens: Inputs are integers below this number.
        rounds: TensorFlow fuses its steps otherwise when the kernel is a tensor, or
            sums its gradient in another order: the last bit may differ.
    """

    make: Callable[[], keras.Layer]
    shapes: tuple[tuple[int, ...], ...]
    kernels: int = 1
    tokens: int | None = None
    rounds: bool = False

    def assert_equal(self, one: np.ndarray, other: np.ndarray) -> None:
        """Equal to the bit, but for layers that round otherwise."""
        tolerance = 1e-6 if self.rounds else 0.0
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)

    def inputs(self, seed: int = 0) -> list[np.ndarray]:
        rng = np.random.default_rng(seed)
        if self.tokens:
            return [rng.integers(0, self.tokens, (BATCH, *s)) for s in self.shapes]
        return [rng.normal(size=(BATCH, *s)).astype("float32") for s in self.shapes]

    def model(self, wrapper: Callable[[keras.Layer], Any] = lambda x: x) -> keras.Model:
        """The layer between inputs and one number per example, compiled."""
        dtype = "int32" if self.tokens else "float32"
        inputs = [keras.Input(shape, dtype=dtype) for shape in self.shapes]
        x = wrapper(self.make())(*inputs)
        outputs = layers.Dense(1, name="readout")(layers.Flatten()(x))
        model = keras.Model(inputs, outputs)
        # Adam updates only the rows that were looked up of a plain embedding, and all
        # of a masked one; SGD treats both alike.
        adam, sgd = keras.optimizers.Adam(0.01), keras.optimizers.SGD(0.01)
        model.compile(sgd if self.tokens else adam, "mse", jit_compile=False)
        return model


SEQUENCE, IMAGE, VOLUME = (6, 8), (6, 6, 4), (4, 4, 4, 2)

LAYERS: dict[str, Case] = {
    "Dense": Case(lambda: layers.Dense(8, activation="relu"), ((8,),)),
    "EinsumDense": Case(
        lambda: layers.EinsumDense("abc,cde->abde", (6, 2, 4), bias_axes="de"),
        (SEQUENCE,),
    ),
    "Conv1D": Case(lambda: layers.Conv1D(4, 3), (SEQUENCE,)),
    "Conv2D": Case(lambda: layers.Conv2D(4, 3, activation="relu"), (IMAGE,)),
    "Conv2D, groups": Case(lambda: layers.Conv2D(4, 3, groups=2), (IMAGE,)),
    "Conv3D": Case(lambda: layers.Conv3D(4, 2), (VOLUME,)),
    "Conv1DTranspose": Case(lambda: layers.Conv1DTranspose(4, 3), (SEQUENCE,)),
    "Conv2DTranspose": Case(lambda: layers.Conv2DTranspose(4, 3), (IMAGE,)),
    "Conv3DTranspose": Case(lambda: layers.Conv3DTranspose(4, 2), (VOLUME,)),
    "DepthwiseConv1D": Case(lambda: layers.DepthwiseConv1D(3), (SEQUENCE,)),
    "DepthwiseConv2D": Case(
        lambda: layers.DepthwiseConv2D(3, depth_multiplier=2), (IMAGE,)
    ),
    "SeparableConv1D": Case(lambda: layers.SeparableConv1D(4, 3), (SEQUENCE,), 2),
    "SeparableConv2D": Case(lambda: layers.SeparableConv2D(4, 3), (IMAGE,), 2),
    "Embedding": Case(lambda: layers.Embedding(20, 8), ((6,),), tokens=20, rounds=True),
    "SimpleRNN": Case(lambda: layers.SimpleRNN(5), (SEQUENCE,), 2, rounds=True),
    "LSTM": Case(
        lambda: layers.LSTM(5, return_sequences=True), (SEQUENCE,), 2, rounds=True
    ),
    "GRU": Case(lambda: layers.GRU(5, dropout=0.2), (SEQUENCE,), 2, rounds=True),
    "RNN, stacked cells": Case(
        lambda: layers.RNN([layers.LSTMCell(4), layers.GRUCell(3)]),
        (SEQUENCE,),
        4,
        rounds=True,
    ),
    "ConvLSTM1D": Case(lambda: layers.ConvLSTM1D(3, 2), ((3, 6, 4),), 2, rounds=True),
    "ConvLSTM2D": Case(
        lambda: layers.ConvLSTM2D(3, 2), ((3, 5, 5, 2),), 2, rounds=True
    ),
    "ConvLSTM3D": Case(
        lambda: layers.ConvLSTM3D(2, 2), ((2, 3, 3, 3, 2),), 2, rounds=True
    ),
    "Bidirectional": Case(
        lambda: layers.Bidirectional(layers.LSTM(4)), (SEQUENCE,), 4, rounds=True
    ),
    "TimeDistributed": Case(
        lambda: layers.TimeDistributed(layers.Conv1D(3, 2)), ((3, 6, 4),)
    ),
    "MultiHeadAttention": Case(
        lambda: layers.MultiHeadAttention(2, 4, dropout=0.1), (SEQUENCE, (5, 8)), 4
    ),
    "GroupQueryAttention": Case(
        lambda: layers.GroupQueryAttention(4, 4, 2), (SEQUENCE, (5, 8)), 4
    ),
    "Sequential block": Case(lambda: block_of("sequential"), ((5,),), 2),
    "functional block": Case(lambda: block_of("functional"), ((5,),), 2),
    "subclass": Case(lambda: Scaled(8), ((8,),)),
    "pdp_weights()": Case(lambda: Declared(6), ((8,),), 2),
    "composite layer": Case(lambda: Residual(8), ((8,),), 2),
}

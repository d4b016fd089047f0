"""Layers and functions that take every element by itself."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import layers

from keras_pdp.channels.rules import family
from keras_pdp.channels.rules.family import Rule
from keras_pdp.channels.tensor import Tensor, Value
from keras_pdp.channels.trace import Called, Knowledge, Trace


def each_alone(called: Called, trace: Trace) -> list[Tensor]:
    """The channels stay, the numbers change."""
    (tensor,) = called.inputs
    return trace.passes(called, [tensor], family.each_alone(called.layer, tensor))


def unchanged(called: Called, trace: Trace) -> list[Tensor]:
    """In inference the tensor itself."""
    tensor = called.inputs[0]
    return trace.passes(called, [tensor], family.unchanged(tensor))


def activation(called: Called, trace: Trace) -> list[Tensor]:
    reason = family.mixes(called.layer.activation)
    if reason:
        return trace.refuse(called, f"'{called.name}': {reason}")
    return each_alone(called, trace)


def softmax(called: Called, trace: Trace) -> list[Tensor]:
    (tensor,) = called.inputs
    axes: Any = called.layer.axis
    axes = [axes] if isinstance(axes, int) else list(axes)
    for axis in axes:
        trace.hold(tensor, axis, f"'{called.name}': softmax runs over the channels")
    # Over space or time a constant becomes 1 / length, which is left alone.
    return trace.passes(called, [tensor])


def prelu(called: Called, trace: Trace) -> list[Tensor]:
    (tensor,) = called.inputs
    alpha = called.layer.alpha
    for axis in range(1, tensor.rank):
        if alpha.shape[axis - 1] != 1:
            trace.cut(called, alpha, axis - 1, tensor.ids[axis])

    def flow(inputs: Sequence[Value], told: Knowledge) -> list[Value]:
        (value,) = inputs
        slope = told.weight(alpha)[None]
        number = np.where(value.number > 0.0, value.number, slope * value.number)
        return [family.collapsed(number, value.known, tensor)]

    return trace.passes(called, [tensor], flow)


def rescaling(called: Called, trace: Trace) -> list[Tensor]:
    if _is_number(called.layer.scale) and _is_number(called.layer.offset):
        return each_alone(called, trace)
    return trace.refuse(called, f"'{called.name}' rescales every channel otherwise")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


LAYERS: dict[type, Rule] = {
    layers.Activation: activation,
    layers.ReLU: each_alone,
    layers.LeakyReLU: each_alone,
    layers.ELU: each_alone,
    layers.PReLU: prelu,
    layers.Softmax: softmax,
    layers.Rescaling: rescaling,
    layers.ActivityRegularization: unchanged,
    layers.AlphaDropout: unchanged,
    layers.Dropout: unchanged,
    layers.GaussianDropout: unchanged,
    layers.GaussianNoise: unchanged,
    layers.Identity: unchanged,
    layers.SpatialDropout1D: unchanged,
    layers.SpatialDropout2D: unchanged,
    layers.SpatialDropout3D: unchanged,
}

_NAMES = (
    "Absolute Arctan Arcsinh Cast Cbrt Ceil Celu Clip Cos Cosh Elu Erf Exp Exp2 Expm1 "
    "Floor Gelu HardShrink HardSigmoid HardSilu HardTanh LeakyRelu Log Log10 Log1p "
    "Log2 LogSigmoid NanToNum Negative Reciprocal Relu Relu6 Round Rsqrt Selu Sigmoid "
    "Sign Silu Sin Sinh SoftShrink Softplus Softsign SparsePlus SparseSigmoid Sqrt "
    "Square Squareplus StopGradient Tan Tanh TanhShrink Threshold Trunc"
)
FUNCTIONS: dict[str, Rule] = dict.fromkeys(_NAMES.split(), each_alone)

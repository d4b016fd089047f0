"""What the families of rules share."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_pdp.channels.tensor import Array, Tensor, Value
from keras_pdp.channels.trace import Called, Flow, Knowledge, Trace

Rule = Callable[[Called, Trace], list[Tensor]]


def channel_axis(layer: Any, rank: int) -> int:
    """Where the channels are, by the layer's `data_format`."""
    return 1 if getattr(layer, "data_format", None) == "channels_first" else rank - 1


def along(array: Array, axis: int, size: int) -> Array:
    """An array of a tensor's extent along one axis, spread to its size.

    Where another axis is followed as well nothing is known: False, or 0.
    """
    lines = np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)
    line = lines[:, 0] if lines.shape[1] == 1 else np.zeros(len(lines), array.dtype)
    return np.broadcast_to(line, (size,))


def ran(operation: Any, *arrays: Any) -> Array:
    """What an operation makes of numpy arrays, in inference."""
    tensors = [ops.convert_to_tensor(each) for each in arrays]
    return np.asarray(ops.convert_to_numpy(ops.cast(operation(*tensors), "float32")))


def collapsed(number: Array, known: Array, tensor: Tensor) -> Value:
    """Values of a larger shape brought to a tensor's extent.

    A channel stays known when it holds one number at all of its positions.
    """
    # 0 times infinity is no constant to be folded.
    known = known & np.isfinite(number)
    shape = np.broadcast_shapes(number.shape, tensor.extent)
    number, known = np.broadcast_to(number, shape), np.broadcast_to(known, shape)
    free = tuple(i for i, n in enumerate(tensor.extent) if n == 1 and shape[i] > 1)
    if free:
        same = number.min(axis=free, keepdims=True) == number.max(
            axis=free, keepdims=True
        )
        known = known.all(axis=free, keepdims=True) & same
        number = number[
            tuple(slice(1) if i in free else slice(None) for i in range(len(shape)))
        ]
    return Value(np.array(number), np.array(known))


def each_alone(operation: Any, output: Tensor) -> Flow:
    """The flow of an operation that takes every element by itself: it is run."""

    def flow(inputs: Sequence[Value], _: Knowledge) -> list[Value]:
        (value,) = inputs
        if not value.known.any():
            return [Value.unknown(output)]
        safe = np.where(value.known, value.number, 0.0).astype("float32")
        return [collapsed(ran(operation, safe), value.known, output)]

    return flow


def unchanged(output: Tensor) -> Flow:
    """The flow of an operation that leaves constants as they are."""

    def flow(inputs: Sequence[Value], _: Knowledge) -> list[Value]:
        return [collapsed(inputs[0].number, inputs[0].known, output)]

    return flow


_BY_ELEMENT = (
    "celu elu exponential gelu hard_shrink hard_sigmoid hard_silu hard_swish hard_tanh "
    "leaky_relu linear log_sigmoid mish relu relu6 selu sigmoid silu soft_shrink "
    "softplus softsign sparse_plus sparse_sigmoid squareplus swish tanh tanh_shrink "
    "threshold"
)
_ACTIVATIONS = {
    getattr(keras.activations, name)
    for name in _BY_ELEMENT.split()
    if hasattr(keras.activations, name)
}


def mixes(activation: Any) -> str | None:
    """Why an activation ties channels together; None when it takes each by itself."""
    if activation is None or activation in _ACTIVATIONS:
        return None
    layers = (keras.layers.ReLU, keras.layers.LeakyReLU, keras.layers.ELU)
    if isinstance(activation, layers):
        return None
    name = getattr(activation, "__name__", type(activation).__name__)
    return f"the activation '{name}' is not known to take every channel by itself"


def activated(layer: Any, number: Array) -> Array:
    """A layer's own activation on an array."""
    activation = getattr(layer, "activation", None)
    if activation is None or activation is keras.activations.linear:
        return number
    return ran(activation, number.astype("float32")).astype("float64")

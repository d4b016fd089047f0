"""Multiply-accumulates of one sample, by the formula of each layer."""

import math

import keras
from keras import layers

# a depthwise kernel (height, width, in, multiplier) has no sum over its inputs, and so
# falls under the same formula
_WITH_KERNEL = (layers.Dense, layers.Conv2D, layers.DepthwiseConv2D)


def macs(model: keras.Model) -> int:
    """Multiply-accumulates of the convolutions and dense layers of a functional model.

    Zeros count: this is the work of a runtime with dense kernels.

    Args:
        model: of layers that are called once, with static shapes but the batch.

    Raises:
        ValueError: a layer has a kernel and no formula.
    """
    return sum(_of(layer) for layer in model.layers)


def nonzero_macs(model: keras.Model) -> int:
    """What stays of `macs` if every zero weight saves its multiplications."""
    return sum(_nonzero(layer) for layer in model.layers)


def _of(layer: keras.Layer) -> int:
    if isinstance(layer, keras.Model):
        return macs(layer)
    if type(layer) in _WITH_KERNEL:
        # all of the kernel, (…, in, out), at every position of the output
        positions = math.prod(layer.output.shape[1:-1])
        return positions * math.prod(layer.kernel.shape)
    if any(len(weight.shape) > 1 for weight in layer.weights):
        kinds = ", ".join(kind.__name__ for kind in _WITH_KERNEL)
        raise ValueError(
            f"layer {layer.name!r}: no formula for {type(layer).__name__}; expected "
            f"one of {kinds}"
        )
    return 0


def _nonzero(layer: keras.Layer) -> int:
    if isinstance(layer, keras.Model):
        return nonzero_macs(layer)
    if type(layer) not in _WITH_KERNEL:
        return 0
    kernel = keras.ops.convert_to_numpy(layer.kernel)
    return math.prod(layer.output.shape[1:-1]) * int((kernel != 0).sum())

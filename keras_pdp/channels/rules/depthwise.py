"""Depthwise convolution: every channel has a window of its own and goes with it."""

import math
from collections.abc import Sequence

import numpy as np
from keras import layers

from keras_pdp.channels.rules import family
from keras_pdp.channels.rules.family import Rule
from keras_pdp.channels.rules.producing import cut_at_border, hold_space, space
from keras_pdp.channels.tensor import Tensor, Value
from keras_pdp.channels.ties import Ids
from keras_pdp.channels.trace import Called, Knowledge, Trace, size_of


def depthwise(called: Called, trace: Trace) -> list[Tensor]:
    """With a depth multiplier the copies of a channel are tied to it."""
    (tensor,) = called.inputs
    layer = called.layer
    axis = family.channel_axis(layer, tensor.rank)
    inside = tensor.ids[axis]
    kernel, bias, times = layer.kernel, layer.bias, layer.depth_multiplier
    reason = family.mixes(layer.activation)
    if inside is None or not called.shapes or reason:
        return trace.refuse(called, f"'{called.name}': {reason or 'shape unknown'}")
    hold_space(called, trace, tensor, axis)
    outside = np.repeat(inside, times)
    shape = called.shapes[0]
    ids: list[Ids | None] = [None] * tensor.rank
    ids[axis] = outside
    output = Tensor(shape, tuple(ids))
    trace.cut(called, kernel, -2, inside, makes=True)
    trace.cut(called, bias, 0, outside)
    window = math.prod(kernel.shape[:-2])
    places = size_of(space(output, axis))
    trace.works_on(layer, places * window * times, inside)
    cuts = cut_at_border(called, kernel.shape[:-2])

    def flow(inputs: Sequence[Value], told: Knowledge) -> list[Value]:
        stored = told.weight(kernel).astype("float64").reshape(window, -1)
        silent = ~stored.any(axis=0)
        value = inputs[0]
        known = np.repeat(family.along(value.known, axis, len(inside)), times)
        number = np.where(
            known, np.repeat(family.along(value.number, axis, len(inside)), times), 0.0
        )
        total = np.where(silent, 0.0, number * stored.sum(axis=0))
        if cuts:
            broken = known & ~silent & (number != 0.0)
            told.lost(outside, broken, cuts)
            known = known & ~broken
        stays = told.bias(layer, bias)
        total = family.activated(layer, total + np.asarray(stays, "float64"))
        made = (known | silent).reshape(output.extent)
        return [Value(total.reshape(output.extent), made)]

    return trace.passes(called, [output], flow)


LAYERS: dict[type, Rule] = {
    layers.DepthwiseConv1D: depthwise,
    layers.DepthwiseConv2D: depthwise,
}

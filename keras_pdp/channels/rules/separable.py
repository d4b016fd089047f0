"""Separable convolution: depthwise, then a sum over channels."""

import math
from collections.abc import Sequence

import numpy as np
from keras import layers

from keras_pdp.channels.rules import family
from keras_pdp.channels.rules.family import Rule
from keras_pdp.channels.rules.producing import (
    cut_at_border,
    fresh_channels,
    hold_space,
    image_shape,
    space,
)
from keras_pdp.channels.rules.sums import as_is, matrix_sum
from keras_pdp.channels.tensor import Tensor, Value
from keras_pdp.channels.ties import Ids
from keras_pdp.channels.trace import Called, Knowledge, Trace, size_of


def separable(called: Called, trace: Trace) -> list[Tensor]:
    """A depthwise window for each input channel, then a sum over all of them."""
    (tensor,) = called.inputs
    layer = called.layer
    axis = family.channel_axis(layer, tensor.rank)
    hold_space(called, trace, tensor, axis)
    shape = image_shape(called, tensor, axis)
    output = fresh_channels(called, trace, shape, axis, None)
    inside, outside = tensor.ids[axis], output.ids[axis]
    deep, point = layer.depthwise_kernel, layer.pointwise_kernel
    times = layer.depth_multiplier
    many = None if inside is None else np.repeat(inside, times)
    trace.cut(called, deep, -2, inside)
    trace.cut(called, point, -2, many)
    trace.cut(called, point, -1, outside, makes=True)
    trace.cut(called, layer.bias, 0, outside)
    places = size_of(space(output, axis))
    window = math.prod(deep.shape[:-2])
    trace.works_on(layer, places * window * times, inside, sizes=deep.shape[-2:-1])
    trace.works_on(
        layer, places * times, inside, outside, sizes=(deep.shape[-2], point.shape[-1])
    )
    total = matrix_sum(
        called,
        point,
        output,
        many,
        view=lambda x: x.reshape(x.shape[-2:]),
        view_input=as_is,
    )
    summed = total.flow(output)

    def flow(inputs: Sequence[Value], told: Knowledge) -> list[Value]:
        return summed([_after_window(called, inputs[0], axis, many, told)], told)

    return trace.passes(called, [output], flow)


def _after_window(
    called: Called, value: Value, axis: int, many: Ids | None, told: Knowledge
) -> Value:
    """What the depthwise half makes of constants; it has no bias."""
    kernel, times = called.layer.depthwise_kernel, called.layer.depth_multiplier
    size = kernel.shape[-2]
    stored = told.weight(kernel).astype("float64").reshape(-1, size * times)
    silent = ~stored.any(axis=0)
    known = np.repeat(family.along(value.known, axis, size), times)
    number = np.repeat(family.along(value.number, axis, size), times)
    number = np.where(silent, 0.0, number * stored.sum(axis=0))
    cuts = cut_at_border(called, kernel.shape[:-2])
    if cuts is not None:
        broken = known & (number != 0.0)
        if many is not None:
            told.lost(many, broken, cuts)
        known = known & ~broken
    return Value(number, known | silent)


LAYERS: dict[type, Rule] = {
    layers.SeparableConv1D: separable,
    layers.SeparableConv2D: separable,
}

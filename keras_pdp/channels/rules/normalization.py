"""Normalisations: those with statistics of each channel's own pass channels on."""

import math
from collections.abc import Sequence

import numpy as np
from keras import layers

from keras_pdp.channels.rules import elementwise, family
from keras_pdp.channels.rules.family import Rule
from keras_pdp.channels.tensor import Tensor, Value
from keras_pdp.channels.trace import Called, Knowledge, Trace


def batch(called: Called, trace: Trace) -> list[Tensor]:
    (tensor,) = called.inputs
    layer = called.layer
    axis = layer.axis % tensor.rank
    for weight in layer.weights:  # with `renorm` three more
        trace.cut(called, weight, 0, tensor.ids[axis])
    if tensor.ids[axis] is None:
        return trace.passes(called, [tensor])
    return elementwise.each_alone(called, trace)


def unit(called: Called, trace: Trace) -> list[Tensor]:
    """A channel of zeros adds nothing to the norm, any other does, read or not."""
    (tensor,) = called.inputs
    given = called.layer.axis
    given = given if isinstance(given, list | tuple) else [given]
    summed = {axis % tensor.rank for axis in given}

    def flow(inputs: Sequence[Value], told: Knowledge) -> list[Value]:
        (value,) = inputs
        for axis in tensor.followed:
            ids = tensor.ids[axis]
            assert ids is not None
            if axis in summed:
                told.needed(ids, ~family.along(value.zero, axis, len(ids)))
            constant = family.along(value.known & ~value.zero, axis, len(ids))
            told.lost(ids, constant, f"'{called.name}' sums it into its norm")
        return [Value(np.zeros(tensor.extent), value.zero)]

    return trace.passes(called, [tensor], flow)


def group(called: Called, trace: Trace) -> list[Tensor]:
    """With one group for each channel it is an instance normalisation."""
    (tensor,) = called.inputs
    layer = called.layer
    axis = layer.axis % tensor.rank
    ids = tensor.ids[axis]
    if ids is None or layer.groups != len(ids):
        return trace.refuse(called, _over_channels(called))
    trace.cut(called, layer.gamma, 0, ids)
    trace.cut(called, layer.beta, 0, ids)
    if layer.get_config()["groups"] != -1:
        trace.count(layer, "groups", ids)

    def flow(inputs: Sequence[Value], told: Knowledge) -> list[Value]:
        (value,) = inputs
        beta = 0.0 if layer.beta is None else told.weight(layer.beta)
        shape = [1] * tensor.rank
        shape[axis] = math.prod(np.shape(beta)) or 1
        # Less its own mean a constant is 0, and beta is what remains.
        number = np.broadcast_to(np.reshape(beta, shape), tensor.extent)
        return [family.collapsed(number, value.known, tensor)]

    return trace.passes(called, [tensor], flow)


def over_channels(called: Called, trace: Trace) -> list[Tensor]:
    """Its statistics run over the channels, so one channel less changes them all."""
    return trace.refuse(called, _over_channels(called))


def _over_channels(called: Called) -> str:
    kind = type(called.layer).__name__
    return f"{kind} '{called.name}' has statistics over the channels"


LAYERS: dict[type, Rule] = {
    layers.BatchNormalization: batch,
    layers.UnitNormalization: unit,
    layers.GroupNormalization: group,
    layers.LayerNormalization: over_channels,
    layers.RMSNormalization: over_channels,
}

"""Convolutions of 1 to 3 axes, grouped and transposed ones as well."""

import math

import numpy as np
from keras import layers

from keras_pdp.channels.rules import family
from keras_pdp.channels.rules.family import Rule
from keras_pdp.channels.rules.producing import (
    computed,
    cut_at_border,
    fresh_channels,
    hold_space,
    image_shape,
    space,
)
from keras_pdp.channels.rules.sums import Sum
from keras_pdp.channels.tensor import Array, Tensor
from keras_pdp.channels.ties import Ids
from keras_pdp.channels.trace import Called, Trace, size_of


def convolution(called: Called, trace: Trace) -> list[Tensor]:
    """Also grouped: position j of every group is tied to position j of the others."""
    return _convolved(called, trace, transposed=False)


def transposed(called: Called, trace: Trace) -> list[Tensor]:
    return _convolved(called, trace, transposed=True)


def _convolved(called: Called, trace: Trace, transposed: bool) -> list[Tensor]:
    (tensor,) = called.inputs
    layer = called.layer
    if computed(layer):
        return trace.refuse(called, f"the kernel of '{called.name}' is computed")
    axis = family.channel_axis(layer, tensor.rank)
    hold_space(called, trace, tensor, axis)
    groups = getattr(layer, "groups", 1)
    shape = image_shape(called, tensor, axis)
    output = fresh_channels(called, trace, shape, axis, None)
    inside, outside = tensor.ids[axis], output.ids[axis]
    first, last = (-1, -2) if transposed else (-2, -1)
    narrow = _per_group(trace, inside, groups)
    _per_group(trace, outside, groups)
    trace.cut(called, layer.kernel, first, narrow)
    trace.cut(called, layer.kernel, last, outside, makes=True)
    trace.cut(called, layer.bias, 0, outside)
    places = size_of(space(tensor if transposed else output, axis))
    constant = places * math.prod(layer.kernel.shape[:-2])
    sizes = (layer.kernel.shape[first], layer.kernel.shape[last])
    trace.works_on(layer, constant, narrow, outside, sizes=sizes)
    total = _sum(called, axis, narrow, output, transposed)
    return trace.passes(called, [output], total.flow(output))


def _sum(
    called: Called, axis: int, narrow: Ids | None, output: Tensor, transposed: bool
) -> Sum:
    """The convolution as a sum over the inputs of a group, window and all."""
    layer = called.layer
    kernel, groups = layer.kernel, getattr(layer, "groups", 1)
    first = -1 if transposed else -2
    window = tuple(kernel.shape[:-2])
    high = kernel.shape[first]

    def view(stored: Array) -> Array:
        """As `(window, in, group, out)`."""
        if transposed:
            stored = np.swapaxes(stored, -1, -2)
        return stored.reshape(math.prod(window), high, groups, -1)

    def view_input(array: Array) -> Array:
        return family.along(array, axis, high * groups).reshape(groups, high)

    return Sum(
        layer=layer,
        name=called.name,
        kernel=kernel,
        bias=layer.bias,
        letters="wigo",
        view=view,
        inputs="gi",
        view_input=view_input,
        outputs="go",
        restore=lambda x: x.reshape(output.extent),
        bias_view=lambda x: x.reshape(groups, -1),
        bias_store=lambda x: x.reshape(-1),
        summed={} if narrow is None else {"i": narrow},
        cuts=_cuts(called, window, transposed),
        axis=first if groups == 1 else None,
    )


def _per_group(trace: Trace, ids: Ids | None, groups: int) -> Ids | None:
    """Ties the groups position by position; gives the ids of the first."""
    if ids is None or groups == 1:
        return ids
    rows = ids.reshape(groups, -1)
    for row in rows[1:]:
        trace.ties.tie(rows[0], row)
    return rows[0]


def _cuts(called: Called, window: tuple[int, ...], transposed: bool) -> str | None:
    """Why a constant has not the same sum everywhere."""
    if not transposed:
        return cut_at_border(called, window)
    strided = any(step > 1 for step in called.layer.strides)
    if all(size == 1 for size in window):
        return f"'{called.name}' leaves gaps" if strided else None
    return f"a constant overlaps itself unevenly in '{called.name}'"


LAYERS: dict[type, Rule] = {
    layers.Conv1D: convolution,
    layers.Conv2D: convolution,
    layers.Conv3D: convolution,
    layers.Conv1DTranspose: transposed,
    layers.Conv2DTranspose: transposed,
    layers.Conv3DTranspose: transposed,
}

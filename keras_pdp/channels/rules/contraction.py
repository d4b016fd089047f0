"""Dense, EinsumDense, convolutions and Embedding: old channels in, new channels out."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import layers

from keras_pdp.channels.rules import family
from keras_pdp.channels.rules.family import Rule
from keras_pdp.channels.rules.sums import Sum, as_is
from keras_pdp.channels.tensor import Array, Tensor, Value
from keras_pdp.channels.ties import Ids
from keras_pdp.channels.trace import Called, Knowledge, Trace, size_of


def dense(called: Called, trace: Trace) -> list[Tensor]:
    (tensor,) = called.inputs
    layer = called.layer
    if computed(layer):
        return trace.refuse(called, f"the kernel of '{called.name}' is computed")
    shape = (*tensor.shape[:-1], layer.units)
    output = fresh_channels(called, trace, shape, len(shape) - 1, tensor, "units")
    return _matrix_sum(called, trace, tensor, output, positions=size_of(shape[:-1]))


def fresh_channels(
    called: Called,
    trace: Trace,
    shape: Sequence[int | None],
    axis: int,
    tensor: Tensor | None,
    key: str,
) -> Tensor:
    """The output: new ids on one axis, the input's on the axes before the last."""
    layer = called.layer
    made = trace.new(tuple(shape), [axis])
    ids = list(made.ids)
    if tensor is not None:
        for other in tensor.followed:
            if other != tensor.rank - 1 and other != axis and other < len(ids):
                ids[other] = tensor.ids[other]
    output = Tensor(made.shape, tuple(ids))
    new = output.ids[axis]
    reason = family.mixes(getattr(layer, "activation", None))
    if reason and new is not None:
        trace.ties.pin(new, f"'{called.name}': {reason}")
    trace.count(layer, key, new)
    return output


def computed(layer: Any) -> bool:
    """Whether the kernel is no variable of the layer's: LoRA, quantized."""
    if getattr(layer, "lora_enabled", False):
        return True
    return getattr(layer, "quantization_mode", None) is not None


def _matrix_sum(
    called: Called, trace: Trace, tensor: Tensor, output: Tensor, positions: int
) -> list[Tensor]:
    layer = called.layer
    inside, outside = tensor.ids[-1], output.ids[-1]
    kernel, bias = layer.kernel, layer.bias
    trace.cut(called, kernel, 0, inside)
    trace.cut(called, kernel, 1, outside, makes=True)
    trace.cut(called, bias, 0, outside)
    trace.works_on(layer, positions, inside, outside, sizes=kernel.shape)
    rest = output.extent[:-1]
    if math.prod(rest) != 1:
        # Another axis is followed too; constants are left alone there.
        _hold_sum(called, trace, tensor)
        return trace.passes(called, [output])
    total = Sum(
        layer=layer,
        name=called.name,
        kernel=kernel,
        bias=bias,
        letters="io",
        view=as_is,
        inputs="i",
        view_input=lambda x: family.along(x, -1, kernel.shape[0]),
        outputs="o",
        restore=lambda x: x.reshape(output.extent),
        bias_view=as_is,
        bias_store=as_is,
        summed={} if inside is None else {"i": inside},
        cuts=None,
    )
    return trace.passes(called, [output], total.flow(output))


def _hold_sum(called: Called, trace: Trace, tensor: Tensor) -> None:
    trace.ties.pin(
        tensor.every_id, f"'{called.name}' meets channels on more than one axis"
    )


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
    for other in tensor.followed:
        if other != axis:
            trace.hold(tensor, other, f"'{called.name}' convolves along this axis")
    shape = called.shapes[0] if called.shapes else _same_rank(tensor, axis, layer)
    key, groups = "filters", getattr(layer, "groups", 1)
    output = fresh_channels(called, trace, shape, axis, None, key)
    inside, outside = tensor.ids[axis], output.ids[axis]
    kernel, bias = layer.kernel, layer.bias
    first, last = (-1, -2) if transposed else (-2, -1)
    trace.cut(called, kernel, first, _per_group(trace, inside, groups))
    trace.cut(called, kernel, last, outside, makes=True)
    _per_group(trace, outside, groups)
    trace.cut(called, bias, 0, outside)
    window = tuple(kernel.shape[:-2])
    places = size_of((None, *_space(tensor if transposed else output, axis)))
    constant = places * math.prod(window)
    narrow = None if inside is None else inside[: len(inside) // groups]
    sizes = (kernel.shape[first], kernel.shape[last])
    trace.works_on(layer, constant, narrow, outside, sizes=sizes)

    def view(stored: Array) -> Array:
        """As `(window, in, group, out)`."""
        if transposed:
            stored = np.swapaxes(stored, -1, -2)
        taps, high, wide = math.prod(window), stored.shape[-2], stored.shape[-1]
        return stored.reshape(taps, high, groups, wide // groups)

    channels = kernel.shape[first] * groups

    def view_input(array: Array) -> Array:
        flat = family.along(array, axis, channels)
        return flat.reshape(groups, channels // groups)

    total = Sum(
        layer=layer,
        name=called.name,
        kernel=kernel,
        bias=bias,
        letters="wigo",
        view=view,
        inputs="gi",
        view_input=view_input,
        outputs="go",
        restore=lambda x: x.reshape(output.extent),
        bias_view=lambda x: x.reshape(groups, -1),
        bias_store=lambda x: x.reshape(-1),
        summed={} if inside is None else {"i": _narrow(inside, groups)},
        cuts=_cuts(called, window, transposed),
        axis=first if groups == 1 else None,
    )
    return trace.passes(called, [output], total.flow(output))


def _per_group(trace: Trace, ids: Ids | None, groups: int) -> Ids | None:
    """Ties the groups position by position; gives the ids of the first."""
    if ids is None or groups == 1:
        return ids
    rows = ids.reshape(groups, -1)
    for row in rows[1:]:
        trace.ties.tie(rows[0], row)
    return rows[0]


def _narrow(ids: Ids, groups: int) -> Ids:
    return ids.reshape(groups, -1)[0]


def _space(tensor: Tensor, axis: int) -> list[int | None]:
    return [n for i, n in enumerate(tensor.shape) if i not in (0, axis)]


def _same_rank(tensor: Tensor, axis: int, layer: Any) -> tuple[int | None, ...]:
    shape: list[int | None] = [None] * tensor.rank
    shape[axis] = layer.filters
    return tuple(shape)


def _cuts(called: Called, window: tuple[int, ...], transposed: bool) -> str | None:
    """Whether some output positions see only part of the window."""
    layer = called.layer
    if all(size == 1 for size in window):
        strided = any(step > 1 for step in layer.strides)
        return f"'{called.name}' leaves gaps" if transposed and strided else None
    if transposed:
        return f"a constant overlaps itself unevenly in '{called.name}'"
    if layer.padding == "valid":
        return None
    return f"its constant meets the padding of '{called.name}'"


def separable(called: Called, trace: Trace) -> list[Tensor]:
    """A depthwise window for each input channel, then a sum over all of them."""
    (tensor,) = called.inputs
    layer = called.layer
    axis = family.channel_axis(layer, tensor.rank)
    shape = called.shapes[0] if called.shapes else _same_rank(tensor, axis, layer)
    output = fresh_channels(called, trace, shape, axis, None, "filters")
    inside, outside = tensor.ids[axis], output.ids[axis]
    deep, point = layer.depthwise_kernel, layer.pointwise_kernel
    times = layer.depth_multiplier
    many = None if inside is None else np.repeat(inside, times)
    trace.cut(called, deep, -2, inside)
    trace.cut(called, point, -2, many)
    trace.cut(called, point, -1, outside, makes=True)
    trace.cut(called, layer.bias, 0, outside)
    places = size_of((None, *_space(output, axis)))
    window = tuple(deep.shape[:-2])
    trace.works_on(
        layer, places * math.prod(window) * times, inside, sizes=deep.shape[-2:-1]
    )
    trace.works_on(
        layer, places * times, inside, outside, sizes=(deep.shape[-2], point.shape[-1])
    )
    cuts = _cuts(called, window, transposed=False)

    def after_window(value: Value, told: Knowledge) -> Value:
        """What the depthwise half makes of constants; it has no bias."""
        stored = told.weight(deep).astype("float64")
        taps = stored.reshape(-1, stored.shape[-2] * times).sum(axis=0)
        silent = ~stored.reshape(-1, stored.shape[-2] * times).any(axis=0)
        size = stored.shape[-2]
        known = np.repeat(family.along(value.known, axis, size), times)
        number = np.repeat(family.along(value.number, axis, size), times)
        number = np.where(silent, 0.0, number * taps)
        if cuts is not None:
            broken = known & (number != 0.0)
            if many is not None:
                told.lost(many, broken, cuts)
            known = known & ~broken
        return Value(number, known | silent)

    total = Sum(
        layer=layer,
        name=called.name,
        kernel=point,
        bias=layer.bias,
        letters="io",
        view=lambda x: x.reshape(x.shape[-2:]),
        inputs="i",
        view_input=lambda x: x,
        outputs="o",
        restore=lambda x: x.reshape(output.extent),
        bias_view=as_is,
        bias_store=as_is,
        summed={} if many is None else {"i": many},
        cuts=None,
    )
    summed = total.flow(output)

    def flow(inputs: Sequence[Value], told: Knowledge) -> list[Value]:
        return summed([after_window(inputs[0], told)], told)

    return trace.passes(called, [output], flow)


def einsum(called: Called, trace: Trace) -> list[Tensor]:
    """Letters of kernel and input are summed over, letters of the kernel are new.

    Only equations without an ellipsis, whose output has no letter of a followed axis
    of the input but those that the kernel has not.
    """
    (tensor,) = called.inputs
    layer = called.layer
    equation = layer.equation.replace(" ", "")
    if computed(layer) or "..." in equation:
        return trace.refuse(called, f"the equation '{equation}' is not followed")
    left, letters = equation.split("->")[0].split(",")
    right = equation.split("->")[1]
    kernel, bias = layer.kernel, layer.bias
    ids: dict[str, Ids | None] = dict(zip(left, tensor.ids, strict=True))
    for at, letter in enumerate(letters):
        if letter not in left:  # a new channel axis, or one summed inside the kernel
            ids[letter] = trace.ties.fresh(kernel.shape[at])
        trace.cut(called, kernel, at, ids[letter], makes=letter not in left)
    shape = (
        called.shapes[0]
        if called.shapes
        else tuple(
            kernel.shape[letters.index(x)] if x in letters else None for x in right
        )
    )
    output = Tensor(shape, tuple(ids[x] for x in right))
    described = layer.get_config()["output_shape"]
    described = [described] if isinstance(described, int) else list(described)
    for back, letter in enumerate(reversed(right)):
        if back < len(described) and described[-1 - back] is not None:
            trace.count(layer, "output_shape", ids[letter], len(described) - 1 - back)
    bias_letters = _bias_letters(layer, right)
    if bias is not None:
        for at, letter in enumerate(bias_letters):
            trace.cut(called, bias, at, ids[letter])
    reason = family.mixes(layer.activation)
    if reason:
        trace.ties.pin(output.every_id, f"'{called.name}': {reason}")
    dims = dict(zip(right, shape, strict=True)) | dict(
        zip(left, tensor.shape, strict=True)
    )
    free = [x for x in dict.fromkeys(left + right) if x not in letters]
    positions = math.prod(dims[x] or 1 for x in free[1:]) if free else 1
    trace.works_on(layer, positions, *[ids[x] for x in letters], sizes=kernel.shape)

    common = "".join(x for x in left if x in letters)
    made = "".join(x for x in right if x in letters)
    others = [x for x in left if x not in letters and ids[x] is not None]
    if others or any(x in left for x in made):
        _hold_sum(called, trace, tensor)
        return trace.passes(called, [output])

    def view_input(array: Array) -> Array:
        sizes = [kernel.shape[letters.index(x)] for x in common]
        kept = np.transpose(
            array,
            [left.index(x) for x in common]
            + [i for i, x in enumerate(left) if x not in common],
        )
        return np.broadcast_to(kept.reshape(kept.shape[: len(common)]), sizes)

    def bias_view(stored: Array) -> Array:
        sizes = [1] * len(made)
        for at, letter in enumerate(bias_letters):
            if letter in made:
                sizes[made.index(letter)] = stored.shape[at]
        return stored.reshape(sizes)

    total = Sum(
        layer=layer,
        name=called.name,
        kernel=kernel,
        bias=bias,
        letters=letters,
        view=as_is,
        inputs=common,
        view_input=view_input,
        outputs=made,
        restore=lambda x: x.reshape(output.extent),
        bias_view=bias_view,
        bias_store=lambda x: x,
        summed={x: i for x in common if (i := ids[x]) is not None},
        # A bias that lacks a letter of the output can't hold every constant.
        cuts=None
        if bias is not None and set(bias_letters) == set(made)
        else f"'{called.name}' has no bias that could take its constant",
    )
    return trace.passes(called, [output], total.flow(output))


def _bias_letters(layer: Any, right: str) -> str:
    """The letters of the bias, in the order of the output."""
    axes = layer.get_config()["bias_axes"] or ""
    return "".join(x for x in right if x in axes)


def embedding(called: Called, trace: Trace) -> list[Tensor]:
    """New channels; one that is the same for all tokens is a constant."""
    (tensor,) = called.inputs
    layer = called.layer
    if computed(layer) or layer.mask_zero:
        return trace.refuse(called, f"'{called.name}' makes a mask or is computed")
    shape = (*tensor.shape, layer.output_dim)
    output = Tensor(shape, (None,) * tensor.rank + (trace.ties.fresh(shape[-1]),))
    trace.cut(called, layer.embeddings, 1, output.ids[-1], makes=True)
    trace.count(layer, "output_dim", output.ids[-1])

    def flow(inputs: Sequence[Value], told: Knowledge) -> list[Value]:
        table = told.weight(layer.embeddings)
        same = (table == table[:1]).all(axis=0)
        return [
            family.collapsed(
                table[0].reshape(output.extent), same.reshape(output.extent), output
            )
        ]

    return trace.passes(called, [output], flow)


LAYERS: dict[type, Rule] = {
    layers.Dense: dense,
    layers.EinsumDense: einsum,
    layers.Embedding: embedding,
    layers.Conv1D: convolution,
    layers.Conv2D: convolution,
    layers.Conv3D: convolution,
    layers.Conv1DTranspose: transposed,
    layers.Conv2DTranspose: transposed,
    layers.Conv3DTranspose: transposed,
    layers.SeparableConv1D: separable,
    layers.SeparableConv2D: separable,
}

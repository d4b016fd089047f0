"""Layers that arrange elements anew: ids are arranged with them."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import layers

from keras_pdp.channels.rules import family
from keras_pdp.channels.rules.family import Rule
from keras_pdp.channels.tensor import Array, Tensor, Value
from keras_pdp.channels.ties import Ids
from keras_pdp.channels.trace import Called, Knowledge, Trace


def flattened(called: Called, trace: Trace) -> list[Tensor]:
    if getattr(called.layer, "data_format", None) == "channels_first":
        return trace.refuse(called, f"'{called.name}' flattens channels first")
    (tensor,) = called.inputs
    return _rearranged(called, trace, (None, math.prod(map(_or_0, tensor.shape[1:]))))


def reshaped(called: Called, trace: Trace) -> list[Tensor]:
    if not called.shapes:
        return trace.refuse(called, f"'{called.name}': nobody uses it")
    return _rearranged(called, trace, called.shapes[0])


def _rearranged(called: Called, trace: Trace, shape: Any) -> list[Tensor]:
    """One followed axis in, one followed axis out: the last that holds channels."""
    (tensor,) = called.inputs
    inside, outside = tensor.shape[1:], tuple(shape[1:])
    if not all(inside) or not all(outside) or len(tensor.followed) != 1:
        return trace.refuse(called, f"'{called.name}' has more than one axis to follow")
    (axis,) = tensor.followed
    ids = tensor.ids[axis]
    assert ids is not None
    spread = _spread(ids, axis - 1, inside).reshape(outside)
    target = _last_varying(spread)
    rows = np.moveaxis(spread, target, -1).reshape(-1, outside[target])
    for row in rows[1:]:
        if not np.array_equal(row, rows[0]):
            trace.ties.tie(rows[0], row)
    made: list[Ids | None] = [None] * len(shape)
    made[target + 1] = rows[0]
    output = Tensor(tuple(shape), tuple(made))
    _count(called, trace, output, target)

    def flow(inputs: Sequence[Value], _: Knowledge) -> list[Value]:
        (value,) = inputs
        number, known = (
            _spread(each.reshape(-1), axis - 1, inside).reshape((1, *outside))
            for each in (value.number, value.known)
        )
        return [family.collapsed(number, known, output)]

    return trace.passes(called, [output], flow)


def _count(called: Called, trace: Trace, output: Tensor, target: int) -> None:
    described = called.layer.get_config().get("target_shape")
    if described is not None and described[target] != -1:
        trace.count(called.layer, "target_shape", output.ids[target + 1], target)


def _spread(along: Array, axis: int, shape: Any) -> Array:
    """An array along one axis, as an array of the whole shape."""
    sizes = [1] * len(shape)
    sizes[axis] = len(along)
    return np.broadcast_to(along.reshape(sizes), shape)


def _last_varying(ids: Array) -> int:
    """The last axis along which ids differ."""
    for axis in reversed(range(ids.ndim)):
        if (np.take(ids, [0], axis) != ids).any():
            return axis
    return ids.ndim - 1


def _or_0(size: int | None) -> int:
    return 0 if size is None else size


def permuted(called: Called, trace: Trace) -> list[Tensor]:
    (tensor,) = called.inputs
    order = (0, *called.layer.dims)
    output = Tensor(
        tuple(tensor.shape[i] for i in order), tuple(tensor.ids[i] for i in order)
    )

    def flow(inputs: Sequence[Value], _: Knowledge) -> list[Value]:
        (value,) = inputs
        return [
            Value(np.transpose(value.number, order), np.transpose(value.known, order))
        ]

    return trace.passes(called, [output], flow)


LAYERS: dict[type, Rule] = {
    layers.Flatten: flattened,
    layers.Reshape: reshaped,
    layers.Permute: permuted,
}

"""Where tensors meet: sums and products tie channels, concatenation lines them up."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_pdp.channels.graph import Ref
from keras_pdp.channels.rules import family
from keras_pdp.channels.rules.family import Rule
from keras_pdp.channels.tensor import Array, Tensor, Value
from keras_pdp.channels.ties import Ids
from keras_pdp.channels.trace import Called, Knowledge, Trace


def merged(called: Called, trace: Trace) -> list[Tensor]:
    """Channels that meet in a sum, a maximum or a mean are tied."""
    return _met(called, trace, product=False)


def multiplied(called: Called, trace: Trace) -> list[Tensor]:
    """Tied as well; a channel of zeros stays one, whatever it is multiplied by."""
    return _met(called, trace, product=True)


def _met(called: Called, trace: Trace, product: bool) -> list[Tensor]:
    others = _other_arguments(called)
    if not all(isinstance(x, int | float | np.ndarray) for x in others) or any(
        np.size(each) != 1 for each in others
    ):
        return trace.refuse(called, f"'{called.name}' takes an array of constants")
    if not called.shapes:
        return trace.refuse(called, f"'{called.name}': nobody uses it")
    shape = called.shapes[0]
    output = Tensor(
        shape,
        tuple(
            _met_on_axis(called, trace, axis - len(shape), len(shape))
            for axis in range(len(shape))
        ),
    )
    operation = _of_arrays(called)

    def flow(inputs: Sequence[Value], told: Knowledge) -> list[Value]:
        rank = len(shape)
        known = [_to_rank(v.known, rank) for v in inputs]
        number = [_to_rank(np.where(v.known, v.number, 0.0), rank) for v in inputs]
        every = np.logical_and.reduce(np.broadcast_arrays(*known))
        sure = every
        if product:
            zero = [_to_rank(v.zero, rank) for v in inputs]
            sure = every | np.logical_or.reduce(np.broadcast_arrays(*zero))
        _note_mixed(called, told, output, known, sure)
        result = operation(*[each.astype("float32") for each in number])
        return [family.collapsed(np.where(sure, result, 0.0), sure, output)]

    return trace.passes(called, [output], flow)


def _met_on_axis(called: Called, trace: Trace, back: int, rank: int) -> Ids | None:
    """The ids of an axis, counted from the end, of all tensors together."""
    there = [t for t in called.inputs if t.rank >= -back]
    size = max((t.shape[back] or 0 for t in there), default=0)
    full: Ids | None = None
    for tensor in there:
        ids = tensor.ids[back]
        if ids is None:
            continue
        if tensor.shape[back] != size:  # broadcast along this axis
            trace.ties.pin(ids, f"'{called.name}' spreads it over other channels")
        elif full is None:
            full = ids
        else:
            trace.ties.tie(full, ids)
    if full is None:
        return None
    for tensor in there:
        if tensor.ids[back] is None and tensor.shape[back] != 1:
            trace.ties.pin(full, f"'{called.name}' meets an axis that is not followed")
    return full


def _note_mixed(
    called: Called,
    told: Knowledge,
    output: Tensor,
    known: list[Array],
    sure: Array,
) -> None:
    """A constant that meets a living channel is no constant any more."""
    some = np.logical_or.reduce(np.broadcast_arrays(*known)) & ~sure
    reason = f"it meets a channel in '{called.name}' that is not constant"
    for axis in output.followed:
        ids = output.ids[axis]
        others = tuple(i for i in range(output.rank) if i != axis)
        if ids is not None and some.shape[axis] == len(ids):
            told.lost(ids, some.any(axis=others), reason)


def _to_rank(array: Array, rank: int) -> Array:
    return array.reshape((1,) * (rank - array.ndim) + array.shape)


def _other_arguments(called: Called) -> list[Any]:
    """Numbers beside tensors, as in `x * 0.5`."""
    values = [*called.call.args, *called.call.kwargs.values()]
    flat = [x for v in values for x in (v if isinstance(v, list | tuple) else [v])]
    return [x for x in flat if not isinstance(x, Ref) and x is not None]


def _of_arrays(called: Called) -> Callable[..., Array]:
    """The operation with arrays in the places of its tensors."""
    call = called.call

    def run(*arrays: Array) -> Array:
        given = dict(zip(call.refs, arrays, strict=True))
        args = [_filled(each, given) for each in call.args]
        kwargs = {key: _filled(each, given) for key, each in call.kwargs.items()}
        result = called.layer(*args, **kwargs)
        return np.asarray(keras.ops.convert_to_numpy(result), "float64")

    return run


def _filled(value: Any, arrays: dict[Ref, Array]) -> Any:
    if isinstance(value, Ref):
        return keras.ops.convert_to_tensor(arrays[value])
    if isinstance(value, list | tuple):
        return [_filled(each, arrays) for each in value]
    return value


def concatenated(called: Called, trace: Trace) -> list[Tensor]:
    axis = getattr(called.layer, "axis", -1)
    rank = called.inputs[0].rank
    axis %= rank
    shape = called.shapes[0] if called.shapes else called.inputs[0].shape
    ids: list[Ids | None] = []
    for at in range(rank):
        every = [tensor.ids[at] for tensor in called.inputs]
        if at != axis:
            ids.append(_met_on_axis(called, trace, at - rank, rank))
        elif any(each is None for each in every):
            for each in every:
                if each is not None:
                    reason = f"'{called.name}' puts it beside an axis not followed"
                    trace.ties.pin(each, reason)
            ids.append(None)
        else:
            ids.append(np.concatenate([e for e in every if e is not None]))
    output = Tensor(shape, tuple(ids))

    def flow(inputs: Sequence[Value], _: Knowledge) -> list[Value]:
        if ids[axis] is None:
            return [Value.unknown(output)]
        sizes = [t.shape[axis] or 1 for t in called.inputs]
        number = _beside([v.number for v in inputs], axis, sizes)
        known = _beside([v.known for v in inputs], axis, sizes)
        return [family.collapsed(number, known, output)]

    return trace.passes(called, [output], flow)


def _beside(arrays: list[Array], axis: int, sizes: list[int]) -> Array:
    shape = np.max([a.shape for a in arrays], axis=0)
    spread = []
    for array, size in zip(arrays, sizes, strict=True):
        target = list(shape)
        target[axis] = size
        spread.append(np.broadcast_to(array, target))
    return np.concatenate(spread, axis=axis)


LAYERS: dict[type, Rule] = {
    layers.Add: merged,
    layers.Subtract: merged,
    layers.Average: merged,
    layers.Maximum: merged,
    layers.Minimum: merged,
    layers.Multiply: multiplied,
    layers.Concatenate: concatenated,
}
FUNCTIONS: dict[str, Rule] = {
    "Concatenate": concatenated,
    "Add": merged,
    "Subtract": merged,
    "Maximum": merged,
    "Minimum": merged,
    "Multiply": multiplied,
    "TrueDivide": merged,
    "Divide": merged,
    "Mod": merged,
    "Power": merged,
}

"""Layers that work on space or time and leave the channels where they are."""

from collections.abc import Sequence

import numpy as np
from keras import layers

from keras_pdp.channels.rules import family
from keras_pdp.channels.rules.family import Rule
from keras_pdp.channels.tensor import Tensor, Value
from keras_pdp.channels.ties import Ids
from keras_pdp.channels.trace import Called, Knowledge, Trace


def resized(called: Called, trace: Trace) -> list[Tensor]:
    """Pooling, cropping, up-sampling: a constant stays the constant.

    Average pooling does not count its padding, and maximum pooling pads with -inf.
    """
    output = _with_channels(called, trace)
    if _across(called):
        return trace.passes(called, [output])
    return trace.passes(called, [output], family.unchanged(output))


def padded(called: Called, trace: Trace) -> list[Tensor]:
    """The border holds zeros: only a channel of zeros is still constant."""
    output = _with_channels(called, trace)
    if _across(called):
        return trace.passes(called, [output])
    axis = family.channel_axis(called.layer, output.rank)

    def flow(inputs: Sequence[Value], told: Knowledge) -> list[Value]:
        (value,) = inputs
        ids = output.ids[axis]
        if ids is not None:
            broken = family.along(value.known & ~value.zero, axis, len(ids))
            told.lost(ids, broken, f"its constant meets the padding of '{called.name}'")
        return [Value(np.zeros(output.extent), value.zero)]

    return trace.passes(called, [output], flow)


def _across(called: Called) -> bool:
    """Whether channels lie on an axis of space of the layer: no constant stays one."""
    (tensor,) = called.inputs
    source = family.channel_axis(called.layer, tensor.rank)
    return any(axis != source for axis in tensor.followed)


def _with_channels(called: Called, trace: Trace) -> Tensor:
    """The output, with the input's ids on its channel axis."""
    (tensor,) = called.inputs
    shape = called.shapes[0] if called.shapes else tensor.shape
    source = family.channel_axis(called.layer, tensor.rank)
    target = family.channel_axis(called.layer, len(shape))
    for axis in tensor.followed:
        if axis != source:  # ids on an axis of space, which here changes
            trace.hold(tensor, axis, f"'{called.name}' works along this axis")
    ids: list[Ids | None] = [None] * len(shape)
    ids[target] = tensor.ids[source]
    return Tensor(shape, tuple(ids))


LAYERS: dict[type, Rule] = {
    kind: rule
    for rule, names in {
        resized: (
            "AveragePooling{} MaxPooling{} GlobalAveragePooling{} GlobalMaxPooling{} "
            "Cropping{} UpSampling{}"
        ),
        padded: "ZeroPadding{}",
    }.items()
    for name in names.split()
    for kind in (getattr(layers, name.format(f"{n}D")) for n in (1, 2, 3))
}

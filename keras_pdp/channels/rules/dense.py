"""Dense and Embedding: a matrix from old channels to new ones, or a table of them."""

import math
from collections.abc import Sequence

from keras import layers

from keras_pdp.channels.rules import family
from keras_pdp.channels.rules.family import Rule
from keras_pdp.channels.rules.producing import computed, fresh_channels, hold_sum
from keras_pdp.channels.rules.sums import as_is, matrix_sum
from keras_pdp.channels.tensor import Tensor, Value
from keras_pdp.channels.trace import Called, Knowledge, Trace, size_of


def dense(called: Called, trace: Trace) -> list[Tensor]:
    (tensor,) = called.inputs
    layer = called.layer
    if computed(layer):
        return trace.refuse(called, f"the kernel of '{called.name}' is computed")
    shape = (*tensor.shape[:-1], layer.units)
    output = fresh_channels(called, trace, shape, len(shape) - 1, tensor)
    return _matrix_sum(called, trace, tensor, output, positions=size_of(shape[:-1]))


def _matrix_sum(
    called: Called, trace: Trace, tensor: Tensor, output: Tensor, positions: int
) -> list[Tensor]:
    layer = called.layer
    inside, outside = tensor.ids[-1], output.ids[-1]
    kernel = layer.kernel
    trace.cut(called, kernel, 0, inside)
    trace.cut(called, kernel, 1, outside, makes=True)
    trace.cut(called, layer.bias, 0, outside)
    trace.works_on(layer, positions, inside, outside, sizes=kernel.shape)
    rest = output.extent[:-1]
    if math.prod(rest) != 1:
        # Another axis is followed too; constants are left alone there.
        hold_sum(called, trace, tensor)
        return trace.passes(called, [output])
    total = matrix_sum(
        called,
        kernel,
        output,
        inside,
        view=as_is,
        view_input=lambda x: family.along(x, -1, kernel.shape[0]),
    )
    return trace.passes(called, [output], total.flow(output))


def embedding(called: Called, trace: Trace) -> list[Tensor]:
    """New channels; one that is the same for all tokens is a constant."""
    (tensor,) = called.inputs
    layer = called.layer
    if computed(layer):
        return trace.refuse(called, f"the table of '{called.name}' is computed")
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


LAYERS: dict[type, Rule] = {layers.Dense: dense, layers.Embedding: embedding}

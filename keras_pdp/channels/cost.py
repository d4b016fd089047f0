"""What a model costs when only some of its channels are kept."""

import math

import keras
import numpy as np

from keras_pdp.channels.tensor import Array
from keras_pdp.channels.trace import Trace


def parameters(model: keras.Model, trace: Trace, keep: Array | None = None) -> int:
    """Weights of the model, trainable or not.

    Args:
        model: The model that was traced.
        trace: Its channels.
        keep: bool by id, which channels are kept. Defaults to all.
    """
    lengths: dict[int, dict[int, int]] = {}
    for each in trace.slices.values():
        kept = len(each.ids) if keep is None else int(keep[each.ids].sum())
        lengths.setdefault(id(each.variable), {})[each.axis] = kept
    return sum(
        math.prod(
            lengths.get(id(weight), {}).get(axis, size)
            for axis, size in enumerate(weight.shape)
        )
        for weight in model.weights
    )


def macs(trace: Trace, keep: Array | None = None) -> int:
    """Multiply-accumulates of one sample, in the layers that sum over channels.

    An axis of unknown length (a sequence's, say) counts as 1.

    Args:
        trace: The channels of a model.
        keep: bool by id, which channels are kept. Defaults to all.
    """
    total = 0
    for work in trace.works:
        kept = [len(i) if keep is None else int(np.sum(keep[i])) for i in work.ids]
        total += work.constant * math.prod(kept)
    return total

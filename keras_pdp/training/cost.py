"""What a model costs, as a function of how many channels it keeps."""

import math
from collections.abc import Callable, Sequence

import keras

from keras_pdp.channels.trace import Trace, Work
from keras_pdp.training import tree
from keras_pdp.training.wrapper import PDPWrapper

# A cost is a sum of `constant * product of the kept ids`.
Cost = Callable[[keras.Model, Trace], Sequence[Work]]


def parameters(model: keras.Model, trace: Trace) -> list[Work]:
    """All weights of the model: how large its file is.

    A value for `PDPCallback(cost=...)`.

    Args:
        model: The model, wrapped or not; what pruning itself stores is not counted.
        trace: Its channels.

    Returns:
        One product of channel counts for each weight, and what no channel changes.
    """
    along: dict[int, list[int]] = {}
    for variable, axis in trace.slices:
        along.setdefault(variable, []).append(axis)
    works = []
    for key, axes in along.items():
        first = trace.slices[key, axes[0]]
        shape = tuple(first.variable.shape)
        rest = math.prod(n for axis, n in enumerate(shape) if axis not in axes)
        ids = tuple(trace.slices[key, axis].ids for axis in axes)
        works.append(Work(first.layer, rest, ids))
    others = {id(v): math.prod(v.shape) for v in model.weights if id(v) not in along}
    for state in _states(model):
        others.pop(id(state), None)
    return [*works, Work(model, sum(others.values()), ())]


def macs(model: keras.Model, trace: Trace) -> list[Work]:
    """Multiply-accumulates for one input: how long the model computes.

    A value for `PDPCallback(cost=...)`. Sizes of the input that are not known, such as
    a free length of a sequence, count as 1.

    Args:
        model: The model.
        trace: Its channels.

    Returns:
        One product of channel counts for each call of a layer that multiplies.
    """
    return trace.works


def _states(model: keras.Model) -> list[keras.Variable]:
    wrappers = [x for _, x in tree.walk(model) if isinstance(x, PDPWrapper)]
    return [
        variable
        for wrapper in wrappers
        for variable in wrapper.variables
        if all(variable is not inner for inner in wrapper.layer.variables)
    ]

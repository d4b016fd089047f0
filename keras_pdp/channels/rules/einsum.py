"""EinsumDense: its equation says which axes are summed over and which are new."""

import dataclasses
import math
from typing import Any

import numpy as np
from keras import layers

from keras_pdp.channels.graph import Shape
from keras_pdp.channels.rules import family
from keras_pdp.channels.rules.family import Rule
from keras_pdp.channels.rules.producing import computed, hold_sum
from keras_pdp.channels.rules.sums import Sum, as_is
from keras_pdp.channels.tensor import Array, Tensor
from keras_pdp.channels.ties import Ids
from keras_pdp.channels.trace import Called, Trace


@dataclasses.dataclass(frozen=True)
class _Equation:
    """The letters of `left,kernel->right`.

    Args:
        left: Of the input.
        kernel: Of the kernel.
        right: Of the output.
        bias: Of the bias, in the order of the output, from its first axis on.
        biased: Those of them along which it has numbers; along others its size is 1.
    """

    left: str
    kernel: str
    right: str
    bias: str
    biased: str

    @classmethod
    def of(cls, layer: Any) -> "_Equation":
        inputs, right = layer.equation.replace(" ", "").split("->")
        left, kernel = inputs.split(",")
        axes = layer.get_config()["bias_axes"] or ""
        biased = "".join(x for x in right if x in axes)
        bias = right[right.index(biased[0]) :] if biased else ""
        return cls(left, kernel, right, bias, biased)

    @property
    def summed(self) -> str:
        """Letters that the kernel has in common with the input."""
        return "".join(x for x in self.left if x in self.kernel)

    @property
    def made(self) -> str:
        """Letters that the kernel has in common with the output."""
        return "".join(x for x in self.right if x in self.kernel)

    def positions(self, left: Shape, right: Shape) -> int:
        """How often the kernel is applied to one sample."""
        sizes = dict(zip(self.right, right, strict=True))
        sizes |= dict(zip(self.left, left, strict=True))
        free = [x for x in dict.fromkeys(self.left) if x not in self.kernel]
        return math.prod(sizes[x] or 1 for x in free[1:])  # the first is the batch


def einsum(called: Called, trace: Trace) -> list[Tensor]:
    """Letters of kernel and input are summed over, letters of the kernel are new."""
    (tensor,) = called.inputs
    layer = called.layer
    if computed(layer) or "..." in layer.equation or not called.shapes:
        return trace.refuse(called, f"the equation '{layer.equation}' is not followed")
    equation = _Equation.of(layer)
    ids = _ids(called, trace, equation)
    shape = called.shapes[0]
    output = Tensor(shape, tuple(ids[x] for x in equation.right))
    _count(called, trace, equation, ids)
    for at, letter in enumerate(equation.bias):
        if letter in equation.biased:
            trace.cut(called, layer.bias, at, ids[letter])
    reason = family.mixes(layer.activation)
    if reason:
        trace.ties.pin(output.every_id, f"'{called.name}': {reason}")
    trace.works_on(
        layer,
        equation.positions(tensor.shape, shape),
        *[ids[x] for x in equation.kernel],
        sizes=layer.kernel.shape,
    )
    passing = [x for x in equation.left if x not in equation.kernel]
    if (
        any(ids[x] is not None for x in passing)
        or set(equation.made) & set(equation.left)
        or not set(equation.biased) <= set(equation.made)  # another at each position
    ):
        hold_sum(called, trace, tensor)
        return trace.passes(called, [output])
    total = _sum(called, equation, ids, output)
    return trace.passes(called, [output], total.flow(output))


def _ids(called: Called, trace: Trace, equation: _Equation) -> dict[str, Ids | None]:
    """The ids along every letter."""
    kernel = called.layer.kernel
    ids: dict[str, Ids | None] = dict(
        zip(equation.left, called.inputs[0].ids, strict=True)
    )
    for at, letter in enumerate(equation.kernel):
        new = letter not in equation.left
        if new:
            ids[letter] = trace.ties.fresh(kernel.shape[at])
        trace.cut(called, kernel, at, ids[letter], makes=new)
    return ids


def _count(
    called: Called,
    trace: Trace,
    equation: _Equation,
    ids: dict[str, Ids | None],
) -> None:
    """`output_shape` says the sizes of the last axes; None where the input does."""
    described = called.layer.get_config()["output_shape"]
    described = [described] if isinstance(described, int) else list(described)
    letters = equation.right[-len(described) :]
    for at, (letter, size) in enumerate(zip(letters, described, strict=True)):
        if size is not None:
            trace.count(called.layer, "output_shape", ids[letter], at)


def _sum(
    called: Called,
    equation: _Equation,
    ids: dict[str, Ids | None],
    output: Tensor,
) -> Sum:
    layer = called.layer
    kernel, bias = layer.kernel, layer.bias
    summed, made = equation.summed, equation.made
    sizes = [kernel.shape[equation.kernel.index(x)] for x in summed]

    def view_input(array: Array) -> Array:
        rest = [i for i, x in enumerate(equation.left) if x not in summed]
        order = [equation.left.index(x) for x in summed] + rest
        kept = np.transpose(array, order)
        return np.broadcast_to(kept.reshape(kept.shape[: len(summed)]), sizes)

    # A bias that lacks a letter of the output can't hold every constant.
    whole = bias is not None and set(equation.biased) == set(made)
    return Sum(
        layer=layer,
        name=called.name,
        kernel=kernel,
        bias=bias,
        letters=equation.kernel,
        view=as_is,
        inputs=summed,
        view_input=view_input,
        outputs=made,
        restore=lambda x: x.reshape(output.extent),
        bias_view=lambda x: x.reshape(
            [
                x.shape[equation.bias.index(y)] if y in equation.biased else 1
                for y in made
            ]
        ),
        bias_store=lambda x: x.reshape(bias.shape) if whole else x,
        summed={x: i for x in summed if (i := ids[x]) is not None},
        cuts=None
        if whole
        else f"'{called.name}' has no bias that could take its constant",
    )


LAYERS: dict[type, Rule] = {layers.EinsumDense: einsum}

"""How a layer's kernel is brought to the layout `(*window, in, out)`.

Granularities count axes in that layout, which Dense and Conv store. Transposed,
depthwise and einsum kernels are stored otherwise; a layout is the permutation and the
reshape that lead there, and back. Most are the identity or a free reshape.
"""

import dataclasses
import math
from typing import Any

from keras import ops

from keras_pdp.sparsity.granularity import Shape, Tensor


@dataclasses.dataclass(frozen=True)
class Layout:
    """A stored kernel as `(*window, in, out)`: a permutation, then a merge of axes.

    Args:
        order: The stored axes in the order in which they are wanted.
        groups: How many of the ordered axes merge into each axis of the result.
    """

    order: tuple[int, ...]
    groups: tuple[int, ...]

    def shape(self, stored: Shape) -> Shape:
        """The shape of the kernel in the layout."""
        sides = [stored[axis] for axis in self.order]
        starts = [sum(self.groups[:i]) for i in range(len(self.groups))]
        return tuple(
            math.prod(sides[start : start + length])
            for start, length in zip(starts, self.groups, strict=True)
        )

    def bring(self, w: Tensor, xp: Any = ops) -> Tensor:
        """A stored kernel (or mask) in the layout."""
        shape = self.shape(tuple(w.shape))
        if not self.in_order:
            w = xp.transpose(w, self.order)
        return w if tuple(w.shape) == shape else xp.reshape(w, shape)

    def restore(self, w: Tensor, stored: Shape, xp: Any = ops) -> Tensor:
        """The inverse of `bring`."""
        ordered = tuple(stored[axis] for axis in self.order)
        if tuple(w.shape) != ordered:
            w = xp.reshape(w, ordered)
        if self.in_order:
            return w
        return xp.transpose(w, tuple(self.order.index(i) for i in range(len(stored))))

    @property
    def output_axes(self) -> tuple[int, ...]:
        """The stored axes that make up the last axis of the layout, the outputs."""
        return self.order[len(self.order) - self.groups[-1] :]

    def along_outputs(self, stored: Shape) -> Shape:
        """The stored shape with 1 for every axis but those of the outputs.

        One number for each output channel, in this shape, multiplies a stored kernel.
        """
        axes = self.output_axes
        return tuple(n if i in axes else 1 for i, n in enumerate(stored))

    @property
    def in_order(self) -> bool:
        """Whether `bring` only reshapes."""
        return self.order == tuple(range(len(self.order)))


def as_stored(axes: int) -> Layout:
    """Dense, Conv, recurrent kernels and embeddings: nothing to do."""
    return Layout(tuple(range(axes)), (1,) * axes)


def transposed(axes: int) -> Layout:
    """Conv*DTranspose stores `(*window, out, in)`."""
    order = (*range(axes - 2), axes - 1, axes - 2)
    return Layout(order, (1,) * axes)


def depthwise(axes: int) -> Layout:
    """Depthwise kernels `(*window, in, mult)` sum over the window alone.

    As a matrix: the window is the input axis, every one of the `in * mult` channels is
    an output.
    """
    return Layout(tuple(range(axes)), (axes - 2, 2))


def einsum(equation: str) -> Layout:
    """An EinsumDense kernel as `(shared, in, out)` or `(in, out)`.

    Letters of the kernel that the input has and the output has not are summed over:
    the input axis. Those of the output alone are the output axis. Letters that all
    three share run over independent matrices, like a window.

    Args:
        equation: The layer's equation, for example `"abc,cde->abde"`.

    Example:

    >>> einsum("abc,cde->abde").shape((8, 2, 4))
    (8, 8)
    """
    inputs, right = equation.replace(" ", "").split(",")
    kernel, outputs = right.split("->")
    shared = [i for i, x in enumerate(kernel) if x in inputs and x in outputs]
    summed = [i for i, x in enumerate(kernel) if x not in outputs]
    made = [i for i, x in enumerate(kernel) if x not in inputs and x in outputs]
    groups = [len(shared)] if shared else []
    return Layout((*shared, *summed, *made), (*groups, len(summed), len(made)))

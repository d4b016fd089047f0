"""A sum over channels, the one operation that lets a channel go.

A kernel is seen as an array whose axes have letters. Letters of the input alone are
summed over: removing one of their positions is exact where its contribution is a
constant, which goes to the bias. Letters of the output alone are new channels.

`known` below means: the same number at every place and for every input of the model.
"""

import dataclasses
from collections.abc import Callable, Sequence

import keras
import numpy as np

from keras_pdp.channels.rules import family
from keras_pdp.channels.tensor import Array, Tensor, Value
from keras_pdp.channels.ties import Ids
from keras_pdp.channels.trace import Called, Knowledge


@dataclasses.dataclass(frozen=True, eq=False)
class Sum:
    """One call of a layer that sums `input * kernel` over letters.

    Args:
        layer, name: Which layer.
        kernel, bias: Its weights; the bias may be None.
        letters: The axes of the kernel, as `view` gives it.
        view: Brings the stored kernel to these axes. Window axes are summed away.
        inputs: Letters of the input as `view_input` gives it, those in `letters`.
        view_input: Brings an array of the input tensor's extent to these axes.
        outputs: Letters of the output, those in `letters`.
        restore: Brings an array with the output's letters to the output's extent.
        bias_view: Brings the stored bias to something that adds to the output's
            letters; `bias_store` is its inverse for a full array.
        summed: The ids along each letter that is summed over.
        cuts: Why a constant other than 0 has another sum at the border; None where
            every position sees all of the window.
        axis: The stored kernel's axis of the one letter that is summed over, where
            constants that are cut can still be put on another channel's taps.
    """

    layer: keras.Layer
    name: str
    kernel: keras.Variable
    bias: keras.Variable | None
    letters: str
    view: Callable[[Array], Array]
    inputs: str
    view_input: Callable[[Array], Array]
    outputs: str
    restore: Callable[[Array], Array]
    bias_view: Callable[[Array], Array]
    bias_store: Callable[[Array], Array]
    summed: dict[str, Ids]
    cuts: str | None
    axis: int | None = None

    def flow(self, output: Tensor) -> Callable[..., list[Value]]:
        """What comes out, and what could be done without."""

        def flow(inputs: Sequence[Value], told: Knowledge) -> list[Value]:
            told.consumed(self, inputs[0])
            self._note_cut(inputs[0], told)
            return [self.result(self.whole(inputs[0]), told, output)]

        return flow

    def free(self, value: Value, told: Knowledge) -> dict[str, Array]:
        """For each letter that is summed over: the positions that could go."""
        used = self._used(told)
        fine = ~used | self._along(value.known)
        found = {}
        for letter in self.summed:
            others = tuple(i for i, x in enumerate(self.letters) if x != letter)
            found[letter] = np.asarray(fine.all(axis=others))
        return found

    def reads(self, letter: str, told: Knowledge) -> Array:
        """For each position of a letter: the kernel has something for it."""
        others = tuple(i for i, x in enumerate(self.letters) if x != letter)
        return np.asarray(self._used(told).any(axis=others))

    def numbers(self, value: Value) -> dict[str, Array]:
        """For each letter the constants along it, to compare calls of one layer."""
        seen = self._along(np.where(value.known, value.number, np.nan))
        found = {}
        for letter in self.summed:
            at = self.letters.index(letter)
            found[letter] = np.moveaxis(seen, at, 0).reshape(seen.shape[at], -1)
        return found

    def share(self, value: Value, gone: dict[str, Array], told: Knowledge) -> Array:
        """What the removed positions add, in the form in which the bias is stored."""
        kernel = self.view(told.weight(self.kernel)).astype("float64")
        goes = np.zeros(kernel.shape, bool)
        for letter, positions in gone.items():
            goes |= self._spread(letter, positions)
        number = np.where(value.known, value.number, 0.0)
        part = kernel * goes * self._along(number)
        others = tuple(i for i, x in enumerate(self.letters) if x not in self.outputs)
        order = "".join(x for x in self.letters if x in self.outputs)
        added = part.sum(axis=others)
        return self.bias_store(
            np.transpose(added, [order.index(x) for x in self.outputs])
        )

    def whole(self, value: Value) -> Value:
        """The constants that every output position sees whole."""
        if self.cuts is None:
            return value
        return Value(np.zeros(value.number.shape), value.zero)

    def _note_cut(self, value: Value, told: Knowledge) -> None:
        broken = value.known & ~value.zero
        if self.cuts is None or not broken.any():
            return
        for letter, ids in self.summed.items():
            others = tuple(i for i, x in enumerate(self.letters) if x != letter)
            where = np.asarray(self._along(broken).any(axis=others))
            told.lost(ids, where, self.cuts)

    def result(self, value: Value, told: Knowledge, output: Tensor) -> Value:
        """What comes out, where the input holds constants or the kernel zeros."""
        kernel = self.view(told.weight(self.kernel)).astype("float64")
        known = self._along(value.known)
        number = self._along(np.where(value.known, value.number, 0.0))
        others = tuple(i for i, x in enumerate(self.letters) if x not in self.outputs)
        order = "".join(x for x in self.letters if x in self.outputs)
        turn = [order.index(x) for x in self.outputs]
        sure = np.transpose((~self._used(told) | known).all(axis=others), turn)
        total = np.transpose((kernel * number).sum(axis=others), turn)
        bias = told.bias(self.layer, self.bias)
        if not np.isscalar(bias):
            total = total + self.bias_view(np.asarray(bias, "float64"))
        if family.mixes(getattr(self.layer, "activation", None)):
            return Value.unknown(output)
        total = family.activated(self.layer, total)
        return family.collapsed(self.restore(total), self.restore(sure), output)

    def _used(self, told: Knowledge) -> Array:
        return self.view(told.weight(self.kernel)) != 0.0

    def _along(self, array: Array) -> Array:
        """An array of the input's extent, broadcast along the kernel's axes."""
        seen = self.view_input(array)
        order = [x for x in self.letters if x in self.inputs]
        seen = np.transpose(seen, [self.inputs.index(x) for x in order])
        shape = [
            seen.shape[order.index(x)] if x in self.inputs else 1 for x in self.letters
        ]
        return seen.reshape(shape)

    def _spread(self, letter: str, positions: Array) -> Array:
        shape = [len(positions) if x == letter else 1 for x in self.letters]
        return positions.reshape(shape)


def matrix_sum(
    called: Called,
    kernel: keras.Variable,
    output: Tensor,
    summed: Ids | None,
    view: Callable[[Array], Array],
    view_input: Callable[[Array], Array],
) -> Sum:
    """The sum of a kernel that `view` brings to `(in, out)`, with a bias of `(out)`."""
    return Sum(
        layer=called.layer,
        name=called.name,
        kernel=kernel,
        bias=called.layer.bias,
        letters="io",
        view=view,
        inputs="i",
        view_input=view_input,
        outputs="o",
        restore=lambda x: x.reshape(output.extent),
        bias_view=as_is,
        bias_store=as_is,
        summed={} if summed is None else {"i": summed},
        cuts=None,
    )


def as_is(array: Array) -> Array:
    """No other view."""
    return array

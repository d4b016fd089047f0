"""The output channels of a kernel, with all that goes with a channel when it goes."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from keras_pdp.sparsity import mask, threshold
from keras_pdp.sparsity.granularity import Channel, Granularity, Tensor
from keras_pdp.sparsity.layout import Layout
from keras_pdp.sparsity.temperature import Temperature
from keras_pdp.training.compiled import compiled, read
from keras_pdp.training.prunable import PrunableWeight
from keras_pdp.training.pruned_kernel import UNSET, PrunedKernel, Values, scaled, state


def prunes_outputs(granularity: Granularity, axes: int) -> bool:
    """Whether a granularity prunes the output channels of a kernel with these axes."""
    if not isinstance(granularity, Channel):
        return False
    return axes == 1 or granularity.axis in (-1, axes - 1)


class PrunedChannels(PrunedKernel):
    """A kernel whose output channels are pruned, alone or coupled to other layers'.

    One gate for each channel acts on the kernel's column and on what stands beside it:
    the bias, or the offset of a scale. Alone, the gate comes from the kernel's own
    scores, as for every other granularity. Coupled, channels of several layers live and
    die together; the callback then sets, after each step, from the scores of all:

    * `goal`: int32, for each channel how many of its group go in the end; -1 where the
      kernel is not coupled.
    * `margin`: float32, `(s^2 - t^2) / tau`, how far the channel is above the cut.
    * `share`: float32, the slope of `margin` in the channel's own mean square.
    * `keep`: bool, the hard mask.

    All are of shape `(channels,)`, and so is `tau`.
    """

    def __init__(
        self,
        weight: PrunableWeight,
        granularity: Granularity,
        temperature: Temperature,
        owner: keras.Layer,
    ) -> None:
        super().__init__(weight, granularity, temperature, owner)
        self.beside = weight.beside
        self.settled = weight.settled
        label, shape = weight.name.replace("/", "_"), (self.units,)
        self.goal = state(owner, f"{label}_goal", "int32", UNSET, shape)
        self.margin = state(owner, f"{label}_margin", "float32", 0.0, shape)
        self.share = state(owner, f"{label}_share", "float32", 0.0, shape)
        self.keep = state(owner, f"{label}_keep", "bool", 1, shape)

    @property
    def covers(self) -> tuple[keras.Variable, ...]:
        return (self.variable, *self.beside, *self.settled)

    @property
    def coupled(self) -> bool:
        """Whether its gate is set from outside."""
        return int(ops.max(read(self.goal))) != UNSET

    def masked(self, values: Values, frozen: Tensor, training: bool) -> Values:
        ids = [id(variable) for variable in self.covers]
        given = [values[each] for each in ids]
        gated = ops.cond(
            frozen,
            lambda: self._silenced(given, read(self.keep)),
            lambda: ops.cond(
                read(self.pruned) > 0,
                lambda: self._gated(given, training),
                lambda: given,
            ),
        )
        return dict(zip(ids, gated, strict=True))

    def stripped(self, values: Values, frozen: bool) -> Values:
        ids = [id(variable) for variable in self.covers]
        keep = read(self.keep) if frozen else self._keeps_now()
        silenced = self._silenced([values[each] for each in ids], keep)
        return dict(zip(ids, silenced, strict=True))

    def hard(self) -> Tensor:
        keep = self._along(self._keeps_now(), self.variable)
        return ops.broadcast_to(keep, tuple(self.variable.shape))

    def freeze(self) -> None:
        keep = ops.copy(self._keeps_now())
        super().freeze()
        self.keep.assign(keep)

    def _keeps_now(self) -> Tensor:
        w = read(self.variable)
        return read(self.keep) if self.coupled else self._own_keep(w)

    def _gated(self, given: list[Tensor], training: bool) -> list[Tensor]:
        def hard() -> list[Tensor]:
            keep = ops.cond(
                self._is_coupled,
                lambda: read(self.keep),
                lambda: self._own_keep(given[0]),
            )
            return self._silenced(given, keep)

        def soft() -> list[Tensor]:
            gate = ops.cond(
                self._is_coupled,
                # A few cheap operations: not worth a program of their own.
                lambda: mask.coupled_mask(
                    _mean_square(given[0], self.layout),
                    read(self.margin),
                    read(self.share),
                ),
                lambda: self._own_gate(given[0]),
            )
            return self._scaled(given, gate)

        return soft() if training else hard()

    def _silenced(self, given: list[Tensor], keep: Tensor) -> list[Tensor]:
        return [
            ops.where(self._along(keep, variable), value, 0.0)
            for variable, value in zip(self.covers, given, strict=True)
        ]

    def _scaled(self, given: list[Tensor], gate: Tensor) -> list[Tensor]:
        statistics = {id(variable) for variable in self.settled}
        return [
            value
            if id(variable) in statistics
            else scaled(value, self._along(gate, variable))
            for variable, value in zip(self.covers, given, strict=True)
        ]

    def _along(self, gate: Tensor, variable: keras.Variable) -> Tensor:
        """One number a channel, in a shape that multiplies a variable's value."""
        shape = tuple(variable.shape)
        if variable is self.variable:
            shape = self.layout.along_outputs(shape)
        return ops.reshape(gate, shape)

    @property
    def _is_coupled(self) -> Tensor:
        return ops.max(read(self.goal)) > UNSET

    @property
    def _tau_shape(self) -> tuple[int, ...]:
        return (self.units,)

    def _own_keep(self, w: Tensor) -> Tensor:
        return compiled(_own_hard, layout=self.layout)(w, read(self.pruned))

    def _own_gate(self, w: Tensor) -> Tensor:
        # Not the kernel: TensorFlow keeps a copy of what a compiled function takes.
        square = _mean_square(w, self.layout)
        gate = compiled(_own_soft, granularity=self.granularity)
        return gate(square, read(self.pruned), read(self.tau))


def mean_squares(kernels: Sequence[PrunedChannels]) -> list[np.ndarray]:
    """Of each kernel the mean square of every channel, float32 `(channels,)`.

    One compiled program and one transfer for all of them.
    """
    layouts = tuple(kernel.layout for kernel in kernels)
    weights = [read(kernel.variable) for kernel in kernels]
    together = ops.convert_to_numpy(compiled(_mean_squares, layouts=layouts)(*weights))
    ends = np.cumsum([kernel.units for kernel in kernels])
    return np.split(np.asarray(together), ends[:-1])


def _mean_squares(*weights: Tensor, layouts: tuple[Layout, ...]) -> Tensor:
    return ops.concatenate(
        [_mean_square(w, layout) for w, layout in zip(weights, layouts, strict=True)]
    )


def _mean_square(w: Tensor, layout: Layout) -> Tensor:
    """Of each output channel; reduced as it is stored, without a transposition."""
    others = tuple(i for i in range(len(w.shape)) if i not in layout.output_axes)
    square = ops.square(ops.cast(w, "float32"))
    return ops.reshape(ops.mean(square, axis=others) if others else square, (-1,))


def _scores(square: Tensor) -> Tensor:
    """The root mean squares, as in `mask.scores`."""
    alive = square > 0.0  # the root's slope at 0 is infinite
    return ops.where(alive, ops.sqrt(ops.where(alive, square, 1.0)), 0.0)


def _own_soft(
    square: Tensor, pruned: Tensor, tau: Tensor, *, granularity: Granularity
) -> Tensor:
    s = _scores(square)
    t = ops.stop_gradient(mask.cut(ops.expand_dims(s, 0), pruned, granularity))
    return mask.sigmoid_mask(s, t[0], tau)


def _own_hard(w: Tensor, pruned: Tensor, *, layout: Layout) -> Tensor:
    return threshold.kept(_scores(_mean_square(w, layout)), pruned)

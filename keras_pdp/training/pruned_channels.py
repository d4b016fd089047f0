"""The output channels of a kernel, with all that goes with a channel when it goes."""

import functools
from collections.abc import Hashable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_pdp.sparsity import mask, threshold
from keras_pdp.sparsity.granularity import Channel, Granularity, Tensor
from keras_pdp.sparsity.layout import Layout
from keras_pdp.sparsity.temperature import Temperature
from keras_pdp.training.compiled import (
    choose,
    compiled,
    learning_as,
    pulled_back,
    read,
    with_gradient,
)
from keras_pdp.training.masked_kernel import scaled
from keras_pdp.training.prunable import PrunableWeight
from keras_pdp.training.pruned_kernel import UNSET, PrunedKernel, Values, state


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
        gate = self._soft_gated if training else self._hard_gated
        gated = gate(given, frozen)
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

    def _hard_gated(self, given: list[Tensor], frozen: Tensor) -> list[Tensor]:
        def keep() -> Tensor:
            return ops.cond(
                self._is_coupled,
                lambda: read(self.keep),
                lambda: self._own_keep(given[0]),
            )

        return choose(
            self.phase(frozen),
            [
                lambda: given,
                lambda: self._silenced(given, keep()),
                lambda: self._silenced(given, read(self.keep)),
            ],
        )

    def _soft_gated(self, given: list[Tensor], frozen: Tensor) -> list[Tensor]:
        phase, keep = self.phase(frozen), read(self.keep)
        hardness = read(self.hardness)
        # The statistics that a normalisation gathers are not scaled.
        end = 1 + len(self.beside)
        static: dict[str, Hashable] = {
            "layout": self.layout,
            "shapes": tuple(map(self._gate_shape, self.covers[:end])),
        }

        def ungated() -> tuple[Tensor, Tensor]:
            nothing = ops.zeros((self.units,), "float32")
            return nothing, nothing

        def value(*given: Tensor) -> tuple[list[Tensor], tuple[Tensor, Tensor]]:
            def gated() -> Any:
                margin, share = self._margin(given[0])
                program = compiled(_gated, **static)
                through = program(hardness, margin, share, *given[:end])
                return [*through, *given[end:]], (margin, share)

            return choose(
                phase,
                [
                    lambda: ([*given], ungated()),
                    gated,
                    lambda: (self._silenced(given, keep), ungated()),
                ],
            )

        def gradient(
            upstream: list[Tensor],
            given: tuple[Tensor, ...],
            kept: tuple[Tensor, Tensor],
        ) -> list[Tensor]:
            def gated() -> list[Tensor]:
                soft = compiled(_gated_gradient, **static)
                return [*soft(*kept, *given[:end], *upstream[:end]), *upstream[end:]]

            return choose(
                phase,
                [lambda: upstream, gated, lambda: self._silenced(upstream, keep)],
            )

        return with_gradient(value, gradient)(*given)

    def _margin(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """How far each channel is above the cut, and the slope of that."""
        own = compiled(_own_margin, layout=self.layout, granularity=self.granularity)
        return ops.cond(
            self._is_coupled,
            lambda: (read(self.margin), read(self.share)),
            lambda: own(w, read(self.pruned), read(self.tau)),
        )

    def _silenced(self, given: Sequence[Tensor], keep: Tensor) -> list[Tensor]:
        return [
            ops.where(self._along(keep, variable), value, 0.0)
            for variable, value in zip(self.covers, given, strict=True)
        ]

    def _along(self, gate: Tensor, variable: keras.Variable) -> Tensor:
        """One number a channel, in a shape that multiplies a variable's value."""
        return ops.reshape(gate, self._gate_shape(variable))

    def _gate_shape(self, variable: keras.Variable) -> tuple[int, ...]:
        shape = tuple(variable.shape)
        return self.layout.along_outputs(shape) if variable is self.variable else shape

    @property
    def _is_coupled(self) -> Tensor:
        return ops.max(read(self.goal)) > UNSET

    @property
    def _tau_shape(self) -> tuple[int, ...]:
        return (self.units,)

    def _own_keep(self, w: Tensor) -> Tensor:
        return compiled(_own_hard, layout=self.layout)(w, read(self.pruned))


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


def _own_margin(
    w: Tensor,
    pruned: Tensor,
    tau: Tensor,
    *,
    layout: Layout,
    granularity: Granularity,
) -> tuple[Tensor, Tensor]:
    """`margin` and `share` of a kernel whose channels are not coupled."""
    s = _scores(_mean_square(w, layout))
    t = mask.cut(ops.expand_dims(s, 0), pruned, granularity)
    share = ops.minimum(1.0 / tau, float(np.finfo(np.float32).max))
    return ops.stop_gradient(mask.margin(s, t[0], tau)), share


def _gated(
    hardness: Tensor,
    margin: Tensor,
    share: Tensor,
    *given: Tensor,
    layout: Layout,
    shapes: tuple[tuple[int, ...], ...],
) -> list[Tensor]:
    """The kernel and what stands beside it, times the gate of each channel.

    The gate hardens, while the gradients stay those of the soft one.
    """
    through = _times(given, ops.sigmoid(margin * hardness), shapes)
    return learning_as(
        through,
        lambda: _softly_gated(margin, share, *given, layout=layout, shapes=shapes),
    )


def _softly_gated(
    margin: Tensor,
    share: Tensor,
    *given: Tensor,
    layout: Layout,
    shapes: tuple[tuple[int, ...], ...],
) -> list[Tensor]:
    gate = mask.coupled_mask(_mean_square(given[0], layout), margin, share)
    return _times(given, gate, shapes)


def _times(
    given: Sequence[Tensor], gate: Tensor, shapes: Sequence[tuple[int, ...]]
) -> list[Tensor]:
    return [
        scaled(value, ops.reshape(gate, shape))
        for value, shape in zip(given, shapes, strict=True)
    ]


def _gated_gradient(
    margin: Tensor,
    share: Tensor,
    *given_and_upstream: Tensor,
    layout: Layout,
    shapes: tuple[tuple[int, ...], ...],
) -> list[Tensor]:
    given = given_and_upstream[: len(shapes)]
    upstream = given_and_upstream[len(shapes) :]
    soft = functools.partial(_softly_gated, margin, share, layout=layout, shapes=shapes)
    return pulled_back(soft, list(given), list(upstream))


def _own_hard(w: Tensor, pruned: Tensor, *, layout: Layout) -> Tensor:
    return threshold.kept(_scores(_mean_square(w, layout)), pruned)

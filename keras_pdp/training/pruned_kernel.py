"""One kernel and the state of its pruning: what a step reads and a callback sets."""

import math
from collections.abc import Hashable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_pdp.sparsity import mask
from keras_pdp.sparsity.allocation import Candidate
from keras_pdp.sparsity.granularity import Granularity, Tensor
from keras_pdp.sparsity.temperature import Temperature
from keras_pdp.training import masked_kernel
from keras_pdp.training.compiled import number, read, traced_once, with_gradient
from keras_pdp.training.prunable import PrunableWeight

Values = dict[int, Tensor]

# `target` before the budget is shared out.
UNSET = -1


class PrunedKernel:
    """The kernel of a layer, how it is pruned, and its state variables.

    The variables belong to the wrapper, so that every checkpoint has them:

    * `target`: int32 scalar, units pruned at the end; -1 until the budget is shared.
    * `pruned`: int32 scalar, units pruned now.
    * `tau`: float32 scalar, the temperature.
    * `hardness`: float32 scalar, what tau is divided by in the forward pass; it rises
      with the schedule from 1.
    * `mask`: bool, of the kernel's shape, the mask in use once frozen.

    Counts rather than fractions: float32 can't tell 0.9 of 2.4e7 to one weight.
    """

    def __init__(
        self,
        weight: PrunableWeight,
        granularity: Granularity,
        temperature: Temperature,
        owner: keras.Layer,
    ) -> None:
        self.name = weight.name
        self.variable = weight.variable
        self.layout = weight.layout
        self.granularity = granularity
        self.temperature = temperature
        self.shape = self.layout.shape(tuple(weight.variable.shape))
        self.units = granularity.unit_count(self.shape)
        self.prunable = granularity.prunable_count(self.shape)
        label = weight.name.replace("/", "_")
        self.target = state(owner, f"{label}_target", "int32", UNSET)
        self.pruned = state(owner, f"{label}_pruned", "int32", 0)
        self.tau = state(owner, f"{label}_tau", "float32", 1.0, self._tau_shape)
        self.hardness = state(owner, f"{label}_hardness", "float32", 1.0)
        shape = tuple(weight.variable.shape)
        self.mask = state(owner, f"{label}_mask", "bool", 1, shape)

    def masked(self, values: Values, frozen: Tensor, training: bool) -> Values:
        """What the layer computes with instead, in the same dtypes and shapes.

        At sparsity 0 and when frozen no threshold is computed.

        Args:
            values: Of all the layer's variables, by their ids.
            frozen: bool scalar tensor, whether the stored mask is in use.
            training: Whether the mask is soft, where it is not frozen.

        Returns:
            The values that are masked, by the same ids.
        """
        w = values[id(self.variable)]
        masked = self._soft(w, frozen) if training else self._hard(w, frozen)
        return {id(self.variable): masked}

    def phase(self, frozen: Tensor) -> Tensor:
        """0 before pruning begins, 1 while masks are computed, 2 with a frozen one.

        One choice among three branches: each of two nested ones would take its time in
        every step, for every kernel.
        """
        return ops.where(frozen, 2, ops.cast(read(self.pruned) > 0, "int32"))

    def _hard(self, w: Tensor, frozen: Tensor) -> Tensor:
        state = self.phase(frozen), read(self.pruned), read(self.mask)
        return traced_once(masked_kernel.hard, **self._static)(w, *state)

    def _soft(self, w: Tensor, frozen: Tensor) -> Tensor:
        phase, pruned, tau = self.phase(frozen), read(self.pruned), read(self.tau)
        hardness, stored = read(self.hardness), read(self.mask)

        def value(w: Tensor) -> tuple[list[Tensor], list[Tensor]]:
            soft = traced_once(masked_kernel.soft, **self._static)
            masked, *kept = soft(w, phase, pruned, tau, hardness, stored)
            return [masked], kept

        def gradient(
            upstreams: list[Tensor], given: tuple[Tensor, ...], kept: list[Tensor]
        ) -> list[Tensor]:
            t, *slope = kept
            state = phase, pruned, tau, stored
            given = *upstreams, *given, t, slope[0] if slope else None, *state
            back = masked_kernel.soft_gradient
            return [back(*given, granularity=self.granularity, layout=self.layout)]

        return with_gradient(value, gradient)(w)[0]

    def stripped(self, values: Values, frozen: bool) -> Values:
        """The values with exact zeros for what the hard mask removes, by id."""
        w = values[id(self.variable)]
        return {id(self.variable): ops.where(self.keeps(frozen), w, 0.0)}

    @property
    def covers(self) -> tuple[keras.Variable, ...]:
        """The variables that are masked."""
        return (self.variable,)

    @property
    def _tau_shape(self) -> tuple[int, ...]:
        return ()

    def hard(self) -> Tensor:
        """The mask that ships, bool, of the kernel's shape, from the weights now."""
        return masked_kernel.kept(
            read(self.variable),
            read(self.pruned),
            granularity=self.granularity,
            layout=self.layout,
        )

    def keeps(self, frozen: bool) -> Tensor:
        """The hard mask in use: the stored one, once frozen."""
        return read(self.mask) if frozen else self.hard()

    def freeze(self) -> None:
        """Stores the hard mask; raises where a weight is not finite."""
        self.values()
        # A copy: JAX gives the buffers of variables away, so none may be shared.
        self.mask.assign(ops.copy(self.hard()))

    def candidate(self) -> Candidate:
        """The units as they compete for a shared budget."""
        w = self.layout.bring(self.values(), np)
        sizes = self.granularity.sizes(self.shape).reshape(-1)
        s = np.asarray(
            ops.convert_to_numpy(
                mask.scores(ops.convert_to_tensor(w), self.granularity)
            )
        ).reshape(-1)
        there = sizes > 0
        if not there.all():  # a copy only where there is padding to leave out
            s, sizes = s[there], sizes[there]
        return Candidate(s, sizes, self.shape)

    def values(self) -> np.ndarray:
        """The kernel's weights as float32; raises where one is not finite."""
        w = np.asarray(ops.convert_to_numpy(ops.cast(read(self.variable), "float32")))
        if not np.isfinite(w).all():
            count = int(np.size(w) - np.isfinite(w).sum())
            raise ValueError(
                f"{count} of {w.size} weights of '{self.variable.path}' are NaN or "
                "Inf, so they have no order to prune by. The training has diverged: "
                "lower the learning rate or clip gradients, and start again from a "
                "checkpoint before it."
            )
        return w

    def set_target(self, sparsity: float) -> None:
        """Aims at a fraction of units; N:M always aims at its pattern."""
        self.target.assign(self.target_for(sparsity))

    def target_for(self, sparsity: float) -> int:
        """Units to prune for a fraction of them; one always stays."""
        if self.granularity.kept_per_pool is not None:
            return self.prunable
        return self.granularity.allowed(round(sparsity * self.units), self.shape)

    def calibrate(self) -> float:
        """Sets tau from the threshold at the target, with the weights as they are.

        Returns:
            kappa = t^2 / tau; 0 where nothing is to be pruned, or t is 0.
        """
        threshold = self._heading_for()
        tau = self.temperature.at(threshold)
        self.tau.assign(np.full(self._tau_shape, tau, "float32"))
        return threshold**2 / tau

    def _heading_for(self) -> float:
        """The threshold at the target; for N:M the root mean square of the groups'."""
        target = number(self.target)
        if target < 1:
            return 0.0
        w = ops.cast(self.layout.bring(read(self.variable)), "float32")
        s = mask.scores(w, self.granularity)
        t = mask.cut(s, ops.convert_to_tensor(target, "int32"), self.granularity)
        squares = np.square(ops.convert_to_numpy(t), dtype="float64")
        return float(np.sqrt(np.mean(squares)))

    @property
    def has_target(self) -> bool:
        """Whether the budget has been shared out."""
        return number(self.target) != UNSET

    @property
    def size(self) -> int:
        """Weights in the kernel."""
        return math.prod(self.shape)

    def removed_by(self, pruned: int) -> int:
        """Weights that go with that many units, as they are ranked now."""
        if self.granularity.kept_per_pool is not None:
            return self.prunable if pruned > 0 else 0
        largest = int(self.granularity.sizes(self.shape).max())
        if pruned <= 0 or self.size == self.units * largest:
            return max(pruned, 0) * largest
        units = self.candidate()  # blocks at the edges are smaller
        first = np.argsort(units.scores, kind="stable")[:pruned]
        return int(units.sizes[first].sum())

    def removed_at_target(self) -> int:
        """Weights that go with the target."""
        return self.removed_by(number(self.target))

    @property
    def _static(self) -> dict[str, Hashable]:
        return {"granularity": self.granularity, "layout": self.layout}


def state(
    owner: keras.Layer, name: str, dtype: str, value: int | float, shape: Any = ()
) -> keras.Variable:
    """A variable of the wrapper that no training step changes."""
    # Keras 3.13 makes no constant of bools.
    simple = {0.0: "zeros", 1.0: "ones"}.get(value)
    variable = owner.add_weight(
        name=name,
        shape=shape,
        dtype=dtype,
        initializer=simple or keras.initializers.Constant(value),
        trainable=False,
        autocast=False,
        # Every replica sets the same value; summed they would be doubled.
        aggregation="only_first_replica",
    )
    # tf.train.Checkpoint saves what is an attribute, and says nothing of the rest.
    setattr(owner, name, variable)
    return variable

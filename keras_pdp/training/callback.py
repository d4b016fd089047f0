"""PDPCallback: reads the schedule, sets the wrappers, writes floats to the logs."""

import threading
import warnings
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_pdp.sparsity import hardening, validation
from keras_pdp.sparsity import schedule as schedules
from keras_pdp.sparsity.allocation import Allocation
from keras_pdp.sparsity.layer_adaptive import lamp
from keras_pdp.sparsity.schedule import (
    OF_A_BUDGET,
    OF_PATTERNS,
    TWO_FIFTHS_OF_THE_REST,
    Moment,
    Position,
    Schedule,
    TwoFifthsOfTheRest,
)
from keras_pdp.training import budget, optimizer_state
from keras_pdp.training import cost as costs
from keras_pdp.training.budget import Budget
from keras_pdp.training.channel_gates import ChannelGates
from keras_pdp.training.clock import Clock
from keras_pdp.training.compiled import Setter, number, setter
from keras_pdp.training.cost import Cost
from keras_pdp.training.coupling import Coupling, coupling_of
from keras_pdp.training.pruned_channels import PrunedChannels
from keras_pdp.training.surgery import named_wrappers
from keras_pdp.training.wrapper import PDPWrapper


class PDPCallback(keras.callbacks.Callback):
    """Takes a model with `PDPWrapper` layers to its sparsity during `model.fit`.

    The run begins dense. When the schedule leaves 0 the budget is shared out among the
    kernels, once, and each kernel's temperature is set; then every kernel rises to its
    own target with the schedule, and its mask hardens; from `freeze_at` on the masks
    are stored and the rest of the run trains with them. A run of any length ends at the
    target, even one step.

    Weights need time at the final sparsity to choose their side before the masks are
    frozen, and the net needs time after that. So the ramp ends early: that matters most
    with a learning rate that falls to zero.

    Channels (`Channel()`) that hang together in the model's graph, such as both sides
    of a residual sum, are pruned as one: they share one score, the mean of each layer's
    relative mean squares, and one mask. `sparsity` is then the fraction of the model's
    `cost` that their removal by `shrink` will save, counted on the model that remains,
    whatever two layers save together, with as little more as whole channels and
    `round_to` allow where the allocation puts them; kernels of other granularities meet
    it in their own weights.
    Channels that can't be removed, above all the model's outputs, stay whole, and are
    named. Scores are taken after each step; with `steps_per_execution` the steps of one
    execution use those from before it.

    What is set sits in the model's variables, and the position comes from the epoch and
    the step that `fit` reports, so that a run continued with `initial_epoch` or by
    BackupAndRestore goes on where it was. Sparsity never falls: a `fit` that starts
    again at epoch 0 holds what it finds until the schedule has caught up, and frozen
    masks stay frozen. To spread one schedule over several `fit`s, pass `epochs` here
    and `initial_epoch` there.

    Where the number of steps is unknown (a generator without `steps_per_epoch`), the
    first epoch counts as its beginning until it is over, and in a run that goes on the
    first one from there, which a warning says.

    Callbacks that restore the best weights (EarlyStopping, `save_best_only`) should
    begin after the ramp, or the best may be dense ones; `strip` warns of it.

    Logs at the end of each epoch: `sparsity`, the fraction of the wrapped kernels that
    the hard masks remove. History, the progress bar and callbacks after this one see
    it; put CSVLogger after it.

    Args:
        sparsity: Final fraction of weights removed, over all kernels that share the
            budget, in [0, 1). None where every wrapper brings its own (`sparsity=` or
            N:M) or `allocation` is a mapping.
        schedule: How the sparsity rises. Defaults to `Polynomial(0.1, 0.5)`: fast
            at first, slow at the end, and over at half of the run. Where every kernel
            has a pattern n:m, nothing is shared out, so nothing needs to be waited
            for: there it defaults to `Polynomial(0.0, 0.1)`.
        allocation: How the budget is shared: `lamp`, `global_magnitude`, `uniform`,
            `erdos_renyi`, a function of the same form, or a mapping from layer names
            (or `layer/weight`) to sparsities. Defaults to `lamp`.
        cost: What removed channels save: `keras_pdp.parameters`, `keras_pdp.macs`, or a
            function of the same form. Defaults to `parameters`.
        freeze_at: When the masks are stored: a fraction of the run, `Epochs(n)`,
            `Steps(n)`, or None for never. It waits for the schedule to end. Defaults
            to two fifths of the way from the end of the schedule to that of the run: to
            0.7 with the default schedule, 0.46 with that of patterns, and 0.7 with one
            of epochs or steps.
        harden: How many times harder the masks are at the final sparsity than when
            pruning begins, between 1 and 1e6. With the schedule's fraction f, a step
            computes with the temperature `tau / harden**f`; the gradient stays that of
            `tau`. Defaults to 100.0; 1 leaves the masks as they are, as in the paper.
        epochs: Epochs of the whole run, where it is more than one `fit`. Defaults to
            those of `fit`.
        verbose: 1 prints each kernel's target when pruning begins. Defaults to 0.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If a number is out of range, or `freeze_at` is before the end of
            the schedule.

    Example:

    >>> model.fit(x, y, epochs=10, callbacks=[PDPCallback(0.9)])

    In a training loop of your own:

    >>> pdp = PDPCallback(0.9)
    >>> pdp.set_model(model)
    >>> for step in range(steps):
    ...     pdp.update(step / steps)
    ...     train_step()
    >>> pdp.update(1.0)

    (With Epochs or Steps in the schedule: `pdp.update(Position(epoch, step, epochs))`.)
    """

    def __init__(
        self,
        sparsity: float | None = None,
        *,
        schedule: Schedule | None = None,
        allocation: Allocation | Mapping[str, float] = lamp,
        cost: Cost = costs.parameters,
        freeze_at: Moment | TwoFifthsOfTheRest | None = TWO_FIFTHS_OF_THE_REST,
        harden: float = 100.0,
        epochs: int | None = None,
        verbose: int = 0,
    ) -> None:
        super().__init__()
        if sparsity is not None:
            validation.sparsity("sparsity", sparsity)
        if epochs is not None:
            validation.integer("epochs", epochs, minimum=1)
        budget.check_allocation(allocation, sparsity)
        if not callable(cost):
            raise TypeError(
                "`cost` should be keras_pdp.parameters, keras_pdp.macs or a function "
                f"of the same form. Received: {cost!r}."
            )
        self.sparsity = sparsity
        if schedule is not None:
            schedules.check(schedule)
        if not isinstance(freeze_at, TwoFifthsOfTheRest | None):
            schedules.check_moment("freeze_at", freeze_at)
        self.allocation = allocation
        self.cost = cost
        self.harden = hardening.check(harden)
        self.epochs = epochs
        self.verbose = verbose
        self._schedule = schedule
        self._freeze_at = freeze_at
        # Whether all kernels have patterns: without a budget they may, until the model
        # is known.
        self._patterns_alone = sparsity is None
        self._check_order()
        self._wrappers: dict[str, PDPWrapper] = {}
        # A copy of the counts in the variables, so that a step in which nothing changes
        # touches no device. Read anew in every epoch: checkpoints may be restored.
        self._pruned: dict[str, int] | None = None
        self._closing: bool | None = None
        self._hardness: dict[str, float] = {}
        self._targets: dict[str, int] = {}
        # Of the variables, those of `_hardness` with the scales that follow channels,
        # which harden with them.
        self._set_pruned: dict[str, Setter] = {}
        self._set_hardness: dict[str, Setter] = {}
        # How channels hang together, once the model is built, and their gates.
        self._coupling: Coupling | None = None
        self._followed = False
        self._gates = ChannelGates(())
        self._frozen = False
        # Whether targets that the model has were held against the budget of this one.
        self._compared = False
        self._fraction = 0.0
        self._last_epoch = 0.0  # of the last position
        self._reach = 1.0
        self._clock = Clock()
        self._thread = threading.get_ident()

    @property
    def schedule(self) -> Schedule:
        """How the sparsity rises: as given, or the default for the model."""
        if self._schedule is not None:
            return self._schedule
        return OF_PATTERNS if self._patterns_alone else OF_A_BUDGET

    @property
    def freeze_at(self) -> Moment | None:
        """When the masks are stored: as given, or the default for the schedule."""
        if isinstance(self._freeze_at, TwoFifthsOfTheRest):
            return self._freeze_at.after(self.schedule)
        return self._freeze_at

    # The two operations, for `fit` and for training loops of one's own.

    def allocate(self) -> dict[str, float]:
        """Shares the budget out and sets the temperatures, from the weights now.

        `update` calls it when pruning begins. A kernel that has its target keeps it.

        Returns:
            The final fraction of units removed, by `layer/weight`.

        Raises:
            ValueError: If a weight is NaN or Inf, or the budget does not fit the model.
        """
        self._sync()
        coupling = self._coupled_channels()
        budget.check_budget(self._wrappers, self._budget, coupling)
        budget.share_out(self.model, self._wrappers, self._budget, coupling)
        groups = coupling.groups if coupling else ()
        self._gates = ChannelGates(groups, budget.frozen_kernels(self._wrappers))
        kernels = budget.kernels_of(self._wrappers)
        self._targets = {n: number(k.target) for n, k in kernels.items()}
        self._pruned = {n: number(k.pruned) for n, k in kernels.items()}
        self._set_pruned = {n: setter(k.pruned) for n, k in kernels.items()}
        gated = {
            f"{name}/{kernel.name}": kernel
            for name, wrapper in self._wrappers.items()
            for kernel in wrapper.gated
        }
        self._hardness = {n: number(k.hardness) for n, k in gated.items()}
        self._set_hardness = {n: setter(k.hardness) for n, k in gated.items()}
        return {n: self._targets[n] / k.units for n, k in kernels.items()}

    def update(self, position: Position | float) -> None:
        """Sets every wrapper for the step that follows.

        Args:
            position: Where the run stands; a number is the fraction that is done.

        Raises:
            ValueError: If a weight is NaN or Inf when pruning begins or masks freeze,
                a number is given to a schedule of epochs or steps, or the schedule
                gives no fraction.
        """
        if not isinstance(position, Position):
            done = validation.real("position", position)
            schedules.check_in_fractions(self.schedule, self.freeze_at)
            position = Position(epoch=done, step=done, epochs=1)
        if position.epoch < self._last_epoch:
            # Whoever goes back has restored a checkpoint: what it holds counts.
            self._forget()
        self._last_epoch = position.epoch
        self._fraction = schedules.fraction_at(self.schedule, position)
        if self._fraction <= 0.0 and not self._goes_on():
            return
        if self._pruned is None and not self._begin():
            return
        self._raise_to(self._fraction)
        tail = self.freeze_at is not None and schedules.reached(
            self.freeze_at, position
        )
        if tail and self._fraction >= 1.0 and not self._frozen:
            self._freeze()

    def hard_sparsity(self) -> float:
        """The fraction of the wrapped kernels that the hard masks remove now."""
        self._sync()
        kept, size = 0, 0
        for wrapper in self._wrappers.values():
            for kernel in wrapper.kernels:
                mask = kernel.keeps(number(wrapper.frozen))
                kept += int(np.count_nonzero(ops.convert_to_numpy(mask)))
                size += kernel.size
        return 1.0 - kept / size if size else 0.0

    # The hooks of `fit`: they only find out the position.

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        self._wrappers = named_wrappers(model)
        if not self._wrappers:
            raise ValueError(
                f"PDPCallback found no PDPWrapper in '{model.name}', so there is "
                "nothing to prune. Wrap layers in the definition, or fit wrap(model)."
            )
        self._patterns_alone = all(
            wrapper.granularity.kept_per_pool is not None
            for wrapper in self._wrappers.values()
        )
        self._check_order()
        self._pruned, self._closing = None, None
        self._coupling, self._followed = None, False
        for wrapper in self._wrappers.values():
            wrapper.driven = True

    def on_train_begin(self, logs: Any = None) -> None:
        self._thread = threading.get_ident()
        self._compared = False
        epochs = self.epochs or self.params["epochs"]
        self._clock.begin(epochs, self.params.get("steps"))
        if all(wrapper.gated for wrapper in self._wrappers.values()):
            coupling = self._coupled_channels()
            budget.check_budget(self._wrappers, self._budget, coupling)
            self._compare()
        self._warn_if_too_short()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._clock.begin_epoch(epoch)
        self._forget()
        self.update(self._clock.now)
        if epoch and not self._clock.knows_steps:
            self._warn_if_it_stands_still()

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        # Not on JAX, where to read `model` is to put its whole state into variables.
        if keras.backend.backend() == "tensorflow":
            # Not before: what is trainable may change as late as when an epoch begins.
            optimizer_state.build(self.model)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if threading.get_ident() != self._thread:
            raise ValueError(
                "Expected PDPCallback in a list, `callbacks=[PDPCallback(...)]`. "
                f"Received it by itself; Keras on {keras.backend.backend()} then runs "
                "it beside the training, and masks would change in the middle of a "
                "step."
            )
        self._clock.end_batch(batch)
        self.update(self._clock.now)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if not self._clock.knows_steps:
            self._warn_if_jumped()
        self._clock.end_epoch()
        self.update(self._clock.now)
        if logs is not None:
            logs["sparsity"] = self.hard_sparsity()

    def on_train_end(self, logs: Any = None) -> None:
        wanted = self.params["epochs"]
        to_be_continued = self._clock.epochs_done == wanted < self._clock.epochs
        if self._fraction < self._reach and not to_be_continued:
            warnings.warn(
                f"The training ended when {self.schedule} had come to "
                f"{self._fraction:.0%} of the final sparsity; the model's is "
                f"{self.hard_sparsity():.2%} now. Go on with `initial_epoch` and "
                "`epochs=` here, or let early stopping wait for the ramp's end "
                "(`start_from_epoch`).",
                stacklevel=2,
            )

    def _forget(self) -> None:
        """The variables may hold something else."""
        self._pruned, self._closing, self._frozen = None, None, False

    def _goes_on(self) -> bool:
        """Whether an earlier run has closed channels, whose gates follow the weights.

        Before the ramp of this one as well: they are computed here, not in the layers.
        """
        if self._closing is None:
            kernels = budget.kernels_of(self._wrappers).values()
            channels = [k for k in kernels if isinstance(k, PrunedChannels)]
            if channels:
                self._sync()
            self._closing = all(k.has_target for k in kernels) and any(
                number(k.pruned) for k in channels
            )
        return self._closing

    def _begin(self) -> bool:
        """Shares the budget out, where that is still to do; False if it is too early.

        A model without a known input is built by its first batch.
        """
        wrappers = named_wrappers(self.model)
        unbuilt = [name for name, wrapper in wrappers.items() if not wrapper.gated]
        if len(unbuilt) == len(wrappers):
            return False
        if unbuilt and set(wrappers) == set(self._wrappers):
            warnings.warn(
                f"The model does not call its PDPWrapper layers {unbuilt}, so they "
                "have nothing to prune.",
                stacklevel=2,
            )
        self._wrappers = {n: w for n, w in wrappers.items() if n not in unbuilt}
        kernels = budget.kernels_of(self._wrappers)
        first = not all(kernel.has_target for kernel in kernels.values())
        if first:
            self._compared = True
        else:
            self._compare()  # with what a checkpoint or another callback has set
        targets = self.allocate()
        self._frozen = all(number(w.frozen) for w in self._wrappers.values())
        if first and self.verbose:
            rows = [f"  {name:<40} {share:8.2%}" for name, share in targets.items()]
            print("\nPDP, units to remove:", *rows, sep="\n")
        return True

    def _compare(self) -> None:
        """Warns, once, where the model keeps what another callback has set."""
        kernels = budget.kernels_of(self._wrappers).values()
        if self._compared or not all(kernel.has_target for kernel in kernels):
            return
        self._compared = True
        coupling = self._coupled_channels()
        budget.warn_if_other(self.model, self._wrappers, self._budget, coupling)
        budget.warn_if_harder(self._wrappers, self.harden)

    def _raise_to(self, fraction: float) -> None:
        """Sets the counts that have risen, and hardens the masks that are softer."""
        assert self._pruned is not None
        wanted = {n: round(fraction * target) for n, target in self._targets.items()}
        risen = {n: p for n, p in wanted.items() if p > self._pruned[n]}
        # As the variables hold it, or it would always be a little more than theirs.
        hardness = float(np.float32(hardening.hardness(self.harden, fraction)))
        # Nothing reads it once they are frozen.
        softer = [
            n for n, h in self._hardness.items() if not self._frozen and hardness > h
        ]
        coupled = bool(self._gates.groups) and not self._frozen
        if not risen and not softer and not coupled:
            return
        self._sync()
        for name, pruned in risen.items():
            self._set_pruned[name](pruned)
            self._pruned[name] = pruned
        for name in softer:
            self._set_hardness[name](hardness)
            self._hardness[name] = hardness
        if coupled:
            self._gates.raise_to(fraction)

    def _coupled_channels(self) -> Coupling | None:
        """Found once; a model without a known input is built by its first batch."""
        channels = any(
            isinstance(kernel, PrunedChannels)
            for wrapper in self._wrappers.values()
            for kernel in wrapper.gated
        )
        if channels and not self._followed:
            self._followed = True
            self._coupling = coupling_of(self.model, self._wrappers)
            if self._coupling is None:
                warnings.warn(
                    f"The graph of '{self.model.name}' can't be read, because it is a "
                    "subclassed model, so channels that hang together (both sides of "
                    "a sum, a layer and the normalisation behind it) are not pruned "
                    "together and can't be removed later. Build it as a Sequential or "
                    "functional model.",
                    stacklevel=2,
                )
        return self._coupling

    def _check_order(self) -> None:
        if self.freeze_at is not None:
            schedules.check_order(self.schedule, self.freeze_at)

    @property
    def _budget(self) -> Budget:
        return Budget(self.sparsity, self.allocation, self.cost)

    def _freeze(self) -> None:
        self._sync()
        for wrapper in self._wrappers.values():
            if not number(wrapper.frozen):
                wrapper.freeze()
        self._frozen = True

    def _sync(self) -> None:
        # On JAX, `fit` keeps the state outside the variables; reading `model` in a
        # callback is what brings it back before they are read or written.
        self.model  # noqa: B018

    def _warn_if_too_short(self) -> None:
        self._fraction = schedules.fraction_at(self.schedule, self._clock.end)
        self._reach = self._fraction
        if self._reach < 1.0:
            warnings.warn(
                f"In this run of {self._clock.epochs} epochs {self.schedule} comes to "
                f"{self._reach:.0%} of the final sparsity. Train for longer, or use a "
                "schedule that ends earlier; fractions of the run always fit.",
                stacklevel=2,
            )
        elif self.freeze_at and not schedules.reached(self.freeze_at, self._clock.end):
            warnings.warn(
                f"This run of {self._clock.epochs} epochs ends before freeze_at="
                f"{self.freeze_at}, so the masks change to its end, and nothing "
                "makes up for what `strip` then takes away. Train for longer, or "
                "freeze earlier; fractions of the run always fit.",
                stacklevel=2,
            )

    def _warn_if_it_stands_still(self) -> None:
        """Where a run goes on whose first part knew the steps by this epoch."""
        end = Position(self._clock.epochs_done + 1, float("inf"), self._clock.epochs)
        rises = schedules.fraction_at(self.schedule, end) > self._fraction
        freezes = self.freeze_at is not None and schedules.reached(self.freeze_at, end)
        if rises or (freezes and not self._frozen):
            warnings.warn(
                "The run goes on with data whose number of steps is not known, so this "
                "epoch counts as its beginning until it is over: what its steps would "
                "change comes at its end, and the result is not that of an "
                "uninterrupted run. Pass `steps_per_epoch` to `fit`.",
                stacklevel=2,
            )

    def _warn_if_jumped(self) -> None:
        if self._clock.epochs == 1:
            warnings.warn(
                "The number of steps of this single epoch was not known, so the "
                "sparsity is set at its end, with no training after it. Pass "
                "`steps_per_epoch` to `fit`, or train for more epochs.",
                stacklevel=2,
            )

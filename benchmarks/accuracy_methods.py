"""The methods of the accuracy benchmark: ours, and those made of our own parts."""

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from benchmarks.accuracy_targets import Channels, Pattern, Target, Weights
from benchmarks.accuracy_task import Prepared, Task, read_weights
from keras_pdp import (
    Absolute,
    Calibrated,
    Channel,
    Linear,
    NofM,
    PDPCallback,
    PDPWrapper,
    PerEpoch,
    Polynomial,
    Unstructured,
    global_magnitude,
    strip,
    wrap,
)
from keras_pdp.sparsity.granularity import Granularity, Tensor
from keras_pdp.sparsity.temperature import Temperature
from keras_pdp.training.prunable import PrunableWeight
from keras_pdp.training.pruned_channels import PrunedChannels, prunes_outputs
from keras_pdp.training.pruned_kernel import PrunedKernel, Values

Change = Callable[[keras.Model], keras.Model]
Options = tuple[tuple[str, Any], ...]


class Method(abc.ABC):
    """A way to a sparse net."""

    title: str

    @abc.abstractmethod
    def prepare(self, task: Task) -> Prepared:
        """The model to train.

        Raises:
            Refused: it can't do this.
        """

    @abc.abstractmethod
    def settings(self, target: Target) -> str:
        """What decides its result beside the case."""

    @property
    def note(self) -> str:
        """What a reader of the table should know."""
        return ""

    @property
    def failures(self) -> tuple[type[Exception], ...]:
        """Errors that are a peer's inability, and a result; ours are faults."""
        return ()

    @property
    def environment(self) -> dict[str, str]:
        """Variables that its process needs."""
        return {}


@dataclass(frozen=True)
class Dense(Method):
    """No pruning."""

    title: str = "dense"

    def prepare(self, task: Task) -> Prepared:
        return Prepared(keras, task.net(keras), read_weights)

    def settings(self, target: Target) -> str:
        return ""


@dataclass(frozen=True)
class Wrapped(Method):
    """Our wrapper and our callback.

    Args:
        title: in the table.
        temperature: of `wrap`; `None` for its default.
        options: of the callback.
        change: what is done to the wrapped model.
        of_patterns: the options where a pattern is asked for; `None` for the same.
    """

    title: str
    temperature: Temperature | None = None
    options: Options = ()
    change: Change = lambda model: model
    of_patterns: Options | None = None

    def prepare(self, task: Task) -> Prepared:
        wrapped = wrap(
            task.net(keras),
            granularity_for(task.target),
            temperature=self.temperature,
        )
        callback = self._callback(task.target)
        return Prepared(
            keras,
            self.change(wrapped),
            lambda model: read_weights(strip(model)),
            [callback],
        )

    def settings(self, target: Target) -> str:
        """With the defaults spelt out, so that results of other defaults are told."""
        callback = self._callback(target)
        wrapper = PDPWrapper(keras.layers.Dense(1), granularity_for(target))
        temperature = self.temperature or wrapper.temperature
        named = getattr(callback.allocation, "__name__", callback.allocation)
        hardened = ""
        if callback.harden != 1.0:
            hardened = f", harden={callback.harden:g} with the schedule"
        return (
            f"{temperature}, {callback.schedule}, {named}, "
            f"freeze_at={callback.freeze_at}{hardened}"
        )

    def _callback(self, target: Target) -> PDPCallback:
        options = self.options
        if isinstance(target, Pattern) and self.of_patterns is not None:
            options = self.of_patterns
        return PDPCallback(budget(target), **dict(options))


def granularity_for(target: Target) -> Granularity:
    """How kernels are cut for a target."""
    match target:
        case Pattern(keep, of):
            return NofM(keep, of)
        case Channels():
            return Channel()
    return Unstructured()


def budget(target: Target) -> float | None:
    """What the callback shares out; a pattern brings its own."""
    match target:
        case Weights(share) | Channels(share):
            return share
    return None


class _Hard:
    """The hard mask in training too: the gradient of a pruned weight is 0.

    There is no half of a pattern, so that a pattern is whole as soon as pruning begins.
    """

    def masked(self, values: Values, frozen: Tensor, training: bool) -> Values:
        hard: Values = super().masked(values, frozen, False)  # type: ignore[misc]
        return hard


class _Straight(_Hard):
    """The hard mask in training too, which gradients pass as if it were not there."""

    def masked(self, values: Values, frozen: Tensor, training: bool) -> Values:
        hard = super().masked(values, frozen, training)
        return {
            key: values[key] + ops.stop_gradient(value - values[key])
            for key, value in hard.items()
        }


class _HardKernel(_Hard, PrunedKernel):
    pass


class _HardChannels(_Hard, PrunedChannels):
    pass


class HardMask(PDPWrapper):
    """A `PDPWrapper` whose mask is 0 or 1 in every step, and so is its gradient."""

    kinds: tuple[type, type] = (_HardKernel, _HardChannels)

    def _pruned(self, weight: PrunableWeight) -> PrunedKernel:
        outputs = prunes_outputs(self.granularity, len(weight.layout.groups))
        made: PrunedKernel = self.kinds[outputs](
            weight, self.granularity, self.temperature, self
        )
        return made


class _StraightKernel(_Straight, PrunedKernel):
    pass


class _StraightChannels(_Straight, PrunedChannels):
    pass


class StraightThrough(HardMask):
    """A `PDPWrapper` whose gradients pass its hard mask."""

    kinds = (_StraightKernel, _StraightChannels)


def remade(wrapped: keras.Model, kind: type[PDPWrapper]) -> keras.Model:
    """The same model with another wrapper in the place of `PDPWrapper`."""

    def made(layer: keras.Layer) -> keras.Layer:
        chosen = kind if isinstance(layer, PDPWrapper) else type(layer)
        return chosen.from_config(layer.get_config())

    model = keras.models.clone_model(wrapped, clone_function=made)
    model.set_weights(wrapped.get_weights())
    return model


def hard(wrapped: keras.Model) -> keras.Model:
    """The same model with `HardMask` in the place of `PDPWrapper`."""
    return remade(wrapped, HardMask)


def straight_through(wrapped: keras.Model) -> keras.Model:
    """The same model with `StraightThrough` in the place of `PDPWrapper`."""
    return remade(wrapped, StraightThrough)


# The paper's ramp (epochs 16 to 82 of 100), as fractions of the run, no tail, and one
# cut through the magnitudes of all kernels.
_PAPER = (
    ("schedule", PerEpoch(Linear(0.16, 0.82))),
    ("freeze_at", None),
    ("harden", 1.0),
    ("allocation", global_magnitude),
)
# The cubic ramp of gradual magnitude pruning (Zhu and Gupta 2017), where ours is; the
# budget is shared out as ours.
_HARD_MASKED = (("freeze_at", None), ("harden", 1.0))
_CUBIC = (("schedule", Polynomial(0.1, 0.5, 3)), *_HARD_MASKED)

WRAPPED = {
    "ours": Wrapped("ours, defaults"),
    "pdp-1e-4": Wrapped("PDP, τ = 1e-4, no tail", Absolute(1e-4), _PAPER),
    "pdp-1e-5": Wrapped("PDP, τ = 1e-5, no tail", Absolute(1e-5), _PAPER),
    # The temperature plays no part in a hard mask.
    "gradual": Wrapped(
        "gradual magnitude, no tail", Calibrated(5.0), _CUBIC, hard, _HARD_MASKED
    ),
    "straight-through": Wrapped(
        "straight-through, no tail",
        Absolute(1e-30),
        _CUBIC,
        straight_through,
        _HARD_MASKED,
    ),
}

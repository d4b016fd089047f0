"""What the study of the defaults compares: a base, and one thing changed at a time."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import keras

from benchmarks.accuracy_cases import CASES, AdamCosine, Case
from benchmarks.accuracy_methods import (
    Change,
    Dense,
    Wrapped,
    budget,
    granularity_for,
    hard,
    remade,
    straight_through,
)
from benchmarks.accuracy_nets import is_pruned
from benchmarks.accuracy_targets import Channels, Pattern, Target, Weights
from benchmarks.accuracy_task import Prepared, Task, read_weights, train, write_weights
from benchmarks.study_parts import (
    BudgetWrapper,
    HardForward,
    RisingKappa,
    SoftToHard,
    taught,
)
from keras_pdp import (
    Absolute,
    Calibrated,
    Exponential,
    Linear,
    PDPCallback,
    Polynomial,
    erdos_renyi,
    global_magnitude,
    strip,
    uniform,
    wrap,
)

Options = tuple[tuple[str, Any], ...]
Recipe = Callable[[Case], Case]

# The ramp's begin and end and the freezing, in fractions of the run. The base is what
# the questions after the first are asked about: the best answer to that one.
BEGIN, END, FREEZE = 0.1, 0.5, 0.6
KAPPA = 5.0  # how soft its masks are

TARGETS = Weights(0.9), Weights(0.95), Weights(0.98), Weights(0.99)


def same_model(model: keras.Model) -> keras.Model:
    """The model as it is."""
    return model


def same(case: Case) -> Case:
    """The case as it is."""
    return case


@dataclass(frozen=True)
class Variant(Wrapped):
    """Ours, with something changed.

    Args:
        recipe: changes how the case is trained.
        select: which layers take part; the budget stays that of all of them.
        dress: changes the model and adds callbacks, given the task, the wrapped model
            and the callbacks.
    """

    recipe: Recipe = same
    select: Callable[[Any], bool] = is_pruned
    dress: (
        Callable[[Task, keras.Model, list[Any]], tuple[keras.Model, list[Any]]] | None
    ) = None

    def __post_init__(self) -> None:
        if self.temperature is None:  # of the base, whatever the default is today
            object.__setattr__(self, "temperature", Calibrated(KAPPA))

    def prepare(self, task: Task) -> Prepared:
        net = task.net(keras)
        cut = granularity_for(task.target)
        wrapped = self.change(
            wrap(net, cut, temperature=self.temperature, select=self.select)
        )
        asked = budget(task.target)
        if asked is not None and self.select is not is_pruned:
            asked *= _size(net, is_pruned) / _size(net, self.select)
        callbacks: list[Any] = [PDPCallback(asked, **dict(self.options))]
        model = wrapped
        if self.dress is not None:
            model, callbacks = self.dress(task, wrapped, callbacks)
        return Prepared(keras, model, lambda _: read_weights(strip(wrapped)), callbacks)


def _size(net: keras.Model, select: Callable[[Any], bool]) -> int:
    """The weights in the kernels of a net of plain layers."""
    return sum(
        math.prod(layer.kernel.shape)
        for layer in net.layers
        if is_pruned(layer) and select(layer)
    )


def _in_ramp(
    schedule: Any, freeze: float | None = FREEZE, harden: float = 1.0
) -> Options:
    return ("schedule", schedule), ("freeze_at", freeze), ("harden", harden)


def ramp(begin: float, end: float, freeze: float | None) -> Options:
    """The options of a linear ramp and its tail."""
    return _in_ramp(Linear(begin, end), freeze)


BASE = ramp(BEGIN, END, FREEZE)
BASE_NAME = f"ramp-{BEGIN:g}-{END:g}-{FREEZE}"


def _budgeted(model: keras.Model) -> keras.Model:
    return remade(model, BudgetWrapper)


def _hard_forward(model: keras.Model) -> keras.Model:
    return remade(model, HardForward)


def _rising(first: float, last: float) -> Any:
    def dress(
        task: Task, wrapped: keras.Model, callbacks: list[Any]
    ) -> tuple[keras.Model, list[Any]]:
        return wrapped, [*callbacks, RisingKappa(first, last, BEGIN, END)]

    return dress


def _soft_to_hard(
    task: Task, wrapped: keras.Model, callbacks: list[Any]
) -> tuple[keras.Model, list[Any]]:
    teacher = task.net(keras)
    to_hard = SoftToHard(wrapped, teacher, FREEZE - 0.01, share=1.0)
    return taught(wrapped, teacher, 0.0), [to_hard, *callbacks]


def _by_the_dense(
    task: Task, wrapped: keras.Model, callbacks: list[Any]
) -> tuple[keras.Model, list[Any]]:
    """The dense net, trained first; twice the time and more."""
    teacher = task.net(keras)
    write_weights(teacher, train(task, Dense().prepare(task)).weights)
    return taught(wrapped, teacher, 1.0), callbacks


def _decayed(decay: float) -> Recipe:
    @dataclass(frozen=True)
    class Decayed:
        inner: Any
        decay: float

        def build(self, k: Any, steps: int) -> Any:
            optimizer = self.inner.build(k, steps)
            config = {**optimizer.get_config(), "weight_decay": self.decay}
            return type(optimizer).from_config(config)

    def recipe(case: Case) -> Case:
        return dataclasses.replace(case, optimizer=Decayed(case.optimizer, decay))  # type: ignore[arg-type]

    return recipe


def inner(layer: Any) -> bool:
    """Not the first layer of an image net, and not the classes."""
    return (
        is_pruned(layer)
        and getattr(layer, "units", None) != 10
        and layer.input.shape[-1] not in (1, 3)
    )


def _softness(kappa: float, options: Options = BASE) -> Variant:
    return Variant(f"κ = {kappa:g}", Calibrated(kappa), options)


def _steep(
    title: str,
    freeze: float | None = FREEZE,
    kappa: float | None = None,
    harden: float = 1.0,
    change: Change = same_model,
    begin: float = BEGIN,
    end: float = END,
) -> Variant:
    """On the cubic ramp, which is the default."""
    temperature = None if kappa is None else Calibrated(kappa)
    options = _in_ramp(Polynomial(begin, end, 3), freeze, harden)
    return Variant(title, temperature, options, change)


def _ramped(begin: float, end: float, freeze: float | None) -> Variant:
    tail = "no tail" if freeze is None else f"frozen at {freeze:.0%}"
    return Variant(
        f"ramp {begin:.0%} to {end:.0%}, {tail}", None, ramp(begin, end, freeze)
    )


SCHEDULES = {
    f"ramp-{begin:g}-{end:g}-{freeze}": _ramped(begin, end, freeze)
    for begin, end, freeze in (
        (0.15, 0.75, 0.9),
        (0.15, 0.75, 0.75),
        (0.15, 0.75, None),
        (0.1, 0.6, 0.75),
        (0.1, 0.5, 0.6),
        (0.1, 0.5, 0.5),
        (0.1, 0.5, 0.75),
        (0.1, 0.5, 0.9),
        (0.1, 0.5, None),
        (0.05, 0.4, 0.5),
        (0.05, 0.4, 0.7),
        (0.1, 0.4, 0.4),
        (0.1, 0.3, 0.4),
    )
}


def _hardening(kappas: Iterable[float], times: float = 100) -> dict[str, Variant]:
    """The defaults, with masks of another softness."""
    return {
        f"harden-{k:g}-{times:g}": _steep(
            f"κ = {k:g}, forwards rising to {k * times:g}", 0.7, k, times
        )
        for k in kappas
    }


# A pattern may be set sooner than a sparsity: nothing has to be shared out before it.
SOONER = {
    **{
        f"sooner-{begin:g}-{end:g}": _steep(
            f"κ = 2, ramp {begin:.0%} to {end:.0%}", 0.7, 2, 100, begin=begin, end=end
        )
        for begin, end in ((0, 0.3), (0, 0.1))
    },
    # Where `freeze_at` puts it by itself.
    "sooner-0-0.1-frozen-0.46": _steep(
        "κ = 2, ramp 0% to 10%, frozen at 46%", 0.46, 2, 100, begin=0, end=0.1
    ),
}


# When they freeze, with the defaults of weights in everything else.
FREEZINGS = {
    f"frozen-{moment:g}": _steep(
        f"κ = 2, forwards rising to 200, frozen at {moment:.0%}", moment, 2, 100
    )
    for moment in (0.5, 0.6, 0.8, 0.9)
}


@dataclass(frozen=True)
class Question:
    """Variants that are compared with each other.

    Args:
        variants: by name.
        base: the variant that the others are compared with.
        targets: at which.
        run: those of the targets that are run where none is asked for.
    """

    variants: dict[str, Variant]
    base: str = BASE_NAME
    targets: tuple[Target, ...] = TARGETS
    run: tuple[Target, ...] = TARGETS[1:3]


def _together(
    targets: tuple[Target, ...],
    kappas: Iterable[float],
    more: Mapping[str, Variant] = MappingProxyType({}),
) -> Question:
    """How soft, where weights are not all alone: the default of weights is the base."""
    variants = {
        **_hardening((2, *kappas)),
        **_hardening((2,), 1000),
        "gradual": _steep("hard masks, gradual magnitude", None, change=hard),
        **more,
    }
    return Question(variants, "harden-2-100", targets, targets)


_OF_WEIGHTS: dict[str, dict[str, Variant]] = {
    "schedule": SCHEDULES,
    "softness": {f"kappa-{k:g}": _softness(k) for k in (1, 2, 3, 7, 10, 20, 50)},
    "shape": {
        "cubic": Variant("cubic", None, _in_ramp(Polynomial(BEGIN, END, 3))),
        "cubic-later": Variant(
            "cubic, frozen at 75%", None, _in_ramp(Polynomial(BEGIN, END, 3), 0.75)
        ),
        "exponential": Variant("exponential", None, _in_ramp(Exponential(BEGIN, END))),
        "exponential-later": Variant(
            "exponential, frozen at 75%", None, _in_ramp(Exponential(BEGIN, END), 0.75)
        ),
    },
    "allocation": {
        "uniform": Variant("uniform", None, (*BASE, ("allocation", uniform))),
        "erdos-renyi": Variant(
            "Erdős–Rényi", None, (*BASE, ("allocation", erdos_renyi))
        ),
        "global": Variant(
            "global magnitude", None, (*BASE, ("allocation", global_magnitude))
        ),
        "inner": Variant(
            "first convolution and last layer dense", None, BASE, select=inner
        ),
    },
    "decay": {
        f"decay-{d:g}": Variant(
            f"weight decay of {d:g}", None, BASE, recipe=_decayed(d)
        )
        for d in (1e-4, 1e-3, 1e-2)
    },
    "family": {
        "straight": Variant(
            "straight-through, same ramp and tail",
            Absolute(1e-30),
            BASE,
            straight_through,
        ),
        "budgeted": Variant("masks that sum to the budget", None, BASE, _budgeted),
        "rising": Variant(
            "κ from 2.5 to 25 along the ramp", None, BASE, dress=_rising(0.5, 5.0)
        ),
        "soft-to-hard": Variant(
            "the soft net teaches the frozen one", None, BASE, dress=_soft_to_hard
        ),
        "dense-teacher": Variant(
            "the trained dense net teaches", None, BASE, dress=_by_the_dense
        ),
    },
    # The gradient of soft masks, with masks that harden forwards along the ramp, or
    # that are hard there from the start.
    "hardening": {
        **_hardening((1, 2, 5, 20)),
        **_hardening((2,), 10),
        **_hardening((2,), 30),
        **_hardening((2,), 1000),
        **{
            f"forward-{k:g}": _steep(
                f"κ = {k:g}, hard forwards", 0.7, k, change=_hard_forward
            )
            for k in (1, 2, 5, 20)
        },
    },
    # From a trained net: what its training has found is to be kept.
    "trained": {
        **{
            f"cubic-kappa-{k:g}": _steep(f"cubic, κ = {k:g}", kappa=k)
            for k in (10, 20, 50)
        },
        **{
            f"cubic-freeze-{f:g}": _steep(f"cubic, frozen at {f:.0%}", f)
            for f in (0.5, 0.9)
        },
        "cubic-kappa-20-freeze-0.9": _steep("cubic, κ = 20, frozen at 90%", 0.9, 20),
        "cubic-straight": Variant(
            "straight-through, cubic",
            Absolute(1e-30),
            _in_ramp(Polynomial(BEGIN, END, 3)),
            straight_through,
        ),
    },
}
QUESTIONS = {
    **{name: Question(variants) for name, variants in _OF_WEIGHTS.items()},
    "freezing": Question({**_hardening((2,)), **FREEZINGS}, "harden-2-100"),
    "channels": _together((Channels(0.5),), (5, 10, 20, 50, 100)),
    "patterns": _together((Pattern(2, 4), Pattern(1, 4)), (5, 20, 50), SOONER),
}
VARIANTS = {
    name: variant
    for question in QUESTIONS.values()
    for name, variant in question.variants.items()
}

_LENET = CASES["lenet"]
STUDIED = {
    case.name: case
    for case in (
        _LENET,
        dataclasses.replace(
            _LENET,
            name="lenet-cosine",
            title="LeNet-300-100, Fashion-MNIST, Adam to zero",
            optimizer=AdamCosine(1e-3),
        ),
        dataclasses.replace(CASES["convolutions"], training=20_000, epochs=12),
        dataclasses.replace(CASES["resnet8"], training=45_000, epochs=10, batch=128),
        CASES["resnet8-trained"],
        CASES["transformer"],
    )
}

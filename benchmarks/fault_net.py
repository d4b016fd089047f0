"""The run that is interrupted: a net with every granularity, 4 epochs of 4 steps."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from collections.abc import Sequence

import keras
import numpy as np
from keras import layers

from keras_pdp import (
    Block,
    Channel,
    Linear,
    NofM,
    PDPCallback,
    Unstructured,
    pruned_layers,
    wrap,
)
from keras_pdp.sparsity.granularity import Granularity
from keras_pdp.sparsity.schedule import Schedule

EPOCHS, STEPS, BATCH = 4, 4, 8

# What is pruned, by the beginning of the layers' names.
GRANULARITIES: dict[str, Granularity | None] = {
    "unstructured": Unstructured(),
    "n_of_m": NofM(2, 4),
    "block": Block((4, 1)),
    "channel": Channel(),  # alone
    "coupled": Channel(),  # with others: a residual sum and a normalisation
    "plain": None,
}

# The kinds of one layer each.
ALONE = ("unstructured", "n_of_m", "block", "channel")

# Where the end of the second epoch, half of the run, lies: schedule and `freeze_at`.
MOMENTS: dict[str, tuple[Schedule, float | None]] = {
    "before the ramp": (Linear(0.6, 0.8), 0.9),
    "at its beginning": (Linear(0.5, 0.75), 0.9),
    "in it": (Linear(0.2, 0.8), 0.9),
    "at its end": (Linear(0.1, 0.5), 0.75),
    "after it": (Linear(0.1, 0.4), 0.75),
    "frozen": (Linear(0.1, 0.3), 0.4),
}

_RNG = np.random.default_rng(0)
X = _RNG.normal(size=(STEPS * BATCH, 8)).astype("float32")
Y = _RNG.normal(size=(STEPS * BATCH, 3)).astype("float32")


def kind_of(name: str) -> str:
    """The row of GRANULARITIES that a layer belongs to."""
    return next(kind for kind in GRANULARITIES if name.startswith(kind))


def net(
    dropout: float = 0.0, kinds: Sequence[str] = ALONE, eager: bool = False
) -> keras.Model:
    """Compiled with Adam on a learning rate that depends on the step.

    Args:
        dropout: The rate, behind each layer of `kinds`.
        kinds: Of ALONE; with all of them there are coupled layers as well.
        eager: Whether steps run without being traced: quicker, where they are few.
    """
    keras.utils.set_random_seed(1)
    inputs = keras.Input((8,))
    x = inputs
    if kinds == ALONE:
        x = short = layers.Dense(8, activation="relu", name="coupled_a")(x)
        x = layers.Dense(8, name="coupled_b")(x)
        x = layers.BatchNormalization(momentum=0.5, name="coupled_norm")(x)
        x = layers.Add(name="plain_sum")([x, short])
    for name in kinds:
        x = layers.Dense(12, activation="relu", name=name)(x)
        if dropout:
            x = layers.Dropout(dropout, name=f"plain_{name}_dropout")(x)
    dense = keras.Model(inputs, layers.Dense(3, name="plain_head")(x))
    model = wrap(dense, select=lambda layer: GRANULARITIES[kind_of(layer.name)])
    rate = keras.optimizers.schedules.CosineDecay(0.01, EPOCHS * STEPS)
    # Named, for Keras numbers those after the first, and Orbax goes by names.
    adam = keras.optimizers.Adam(rate, name="adam")
    # Compiled steps would take longer than the steps.
    model.compile(adam, "mse", jit_compile=False, run_eagerly=eager)
    model.optimizer.build(model.trainable_variables)
    return model


def fit(
    model: keras.Model,
    moment: str,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    begin: int = 0,
) -> None:
    """Trains to the end of the run."""
    schedule, freeze_at = MOMENTS[moment]
    ours = PDPCallback(0.5, schedule=schedule, freeze_at=freeze_at, epochs=EPOCHS)
    model.fit(
        X,
        Y,
        batch_size=BATCH,
        shuffle=False,
        initial_epoch=begin,
        epochs=EPOCHS,
        verbose=0,
        callbacks=[ours, *callbacks],
    )


def state(model: keras.Model) -> dict[str, np.ndarray]:
    """Every number that a training depends on, by a name that begins with its kind."""
    ordered = [*model.variables, *model.optimizer.variables]
    kinds = {
        id(variable): f"{kind_of(wrapper.name)} {wrapper.name}"
        for wrapper in pruned_layers(model)
        for variable in wrapper.variables
    }
    # By number as well: paths are others in a model that was loaded.
    return {
        f"{kinds.get(id(v), 'plain')} {number} {v.path}": keras.ops.convert_to_numpy(v)
        for number, v in enumerate(ordered)
    }


def values(model: keras.Model) -> list[np.ndarray]:
    """Every number of the model and its optimizer."""
    variables = [*model.variables, *model.optimizer.variables]
    return [keras.ops.convert_to_numpy(v).copy() for v in variables]


def assign(model: keras.Model, numbers: Sequence[np.ndarray]) -> None:
    """Sets what `values` gave."""
    variables = [*model.variables, *model.optimizer.variables]
    for variable, number in zip(variables, numbers, strict=True):
        variable.assign(number)


def spoil(model: keras.Model) -> None:
    """Overwrites every number, so that only what is restored can be right."""
    for variable in [*model.variables, *model.optimizer.variables]:
        wrong = 1 if variable.dtype == "bool" else 3
        variable.assign(np.full(tuple(variable.shape), wrong, variable.dtype))


def differing(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> list[str]:
    """The names in `one` of arrays that are not equal to the bit, by position."""
    if len(one) != len(other):
        raise ValueError(f"{len(one)} variables against {len(other)}")
    pairs = zip(one.items(), other.values(), strict=True)
    return [name for (name, a), b in pairs if a.tobytes() != b.tobytes()]

"""The states that random layers (dropout) draw from, which Keras saves in no file.

They are variables of the model, the states of its seed generators. On PyTorch a layer
without a seed of its own draws from the generator of the process instead.
"""

from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
from keras import ops


def save(model: keras.Model, path: Path) -> None:
    """Writes them to an `.npz` file."""
    states = [ops.convert_to_numpy(variable) for variable in _variables(model)]
    np.savez(path, *states, *_of_the_process())


def restore(model: keras.Model, path: Path) -> None:
    """Sets them to what a file has; raises ValueError if it is another model's."""
    with np.load(path, allow_pickle=False) as file:
        states = [file[f"arr_{number}"] for number in range(len(file.files))]
    variables = list(_variables(model))
    expected = len(variables) + len(_of_the_process())
    if len(states) != expected:
        raise ValueError(
            f"Expected the states of {expected} random generators; it has "
            f"{len(states)}."
        )
    for variable, state in zip(variables, states, strict=False):
        variable.assign(state)
    if keras.backend.backend() == "torch":
        import torch

        torch.set_rng_state(torch.from_numpy(states[-1]))


def _variables(model: keras.Model) -> Iterator[keras.Variable]:
    saved = {id(variable) for variable in model.weights}
    return (v for v in model.variables if id(v) not in saved)


def _of_the_process() -> list[np.ndarray]:
    """The CPU's; those of GPUs are left alone."""
    if keras.backend.backend() != "torch":
        return []
    import torch

    return [torch.get_rng_state().numpy()]

"""Whether the state of a wrapper, as it was read from a file, is one that can occur."""

from collections.abc import Iterable

import keras
import numpy as np
from keras import ops

from keras_pdp.sparsity.hardening import MOST
from keras_pdp.training.pruned_kernel import UNSET, PrunedKernel

_FLOAT = np.finfo(np.float32)


def check_state(
    name: str, kernels: Iterable[PrunedKernel], state: Iterable[keras.Variable]
) -> None:
    """Raises a ValueError that names the variable and its value.

    A count past the number of units, or a temperature that is no number, would give
    masks that are wrong and raise nowhere.

    Args:
        name: The wrapper's name.
        kernels: What it prunes.
        state: Its variables, those of the kernels' among them.
    """
    for kernel in kernels:
        most = kernel.prunable
        _check(name, kernel.target, UNSET, most)
        _check(name, kernel.pruned, 0, most)
        # Positive: a temperature of 0 divides nothing.
        _check(name, kernel.tau, float(_FLOAT.tiny), float(_FLOAT.max))
        _check(name, kernel.hardness, 1.0, MOST)
    for variable in state:
        values = _values(variable)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise _wrong(name, variable, "finite numbers", values)


def _check(
    name: str, variable: keras.Variable, least: float | int, most: float | int
) -> None:
    values = _values(variable)
    if not ((values >= least) & (values <= most)).all():
        raise _wrong(name, variable, f"in [{least}, {most}]", values)


def _values(variable: keras.Variable) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(variable))


def _wrong(
    name: str, variable: keras.Variable, expected: str, values: np.ndarray
) -> ValueError:
    return ValueError(
        f"The weights of '{name}' that were loaded are damaged, or of another model: "
        f"`{variable.name}` should be {expected}. Received: {values.tolist()}. Load "
        "another checkpoint."
    )

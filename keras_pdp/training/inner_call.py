"""What it takes to run one layer inside another as if it were called by the user."""

import inspect
from typing import Any

import keras


class Recording(keras.StatelessScope):
    """A scope that remembers which variables were assigned to in it.

    Not all of them are among a layer's variables: a stateful RNN's states are not.
    """

    def __init__(self, state_mapping: list[tuple[keras.Variable, Any]]) -> None:
        super().__init__(state_mapping, collect_losses=True, initialize_variables=False)
        self.updated: dict[int, keras.Variable] = {}

    def add_update(self, update: tuple[keras.Variable, Any]) -> None:
        self.updated[id(update[0])] = update[0]
        super().add_update(update)


def signature_of(layer: keras.Layer) -> inspect.Signature:
    """The layer's call signature, with `training` where it has none."""
    signature = inspect.signature(layer.call)
    if "training" in signature.parameters:
        return signature
    parameters = list(signature.parameters.values())
    training = inspect.Parameter(
        "training", inspect.Parameter.KEYWORD_ONLY, default=None
    )
    has_rest = parameters and parameters[-1].kind is inspect.Parameter.VAR_KEYWORD
    parameters.insert(len(parameters) - bool(has_rest), training)
    return signature.replace(parameters=parameters)


def placeholders(arguments: Any) -> Any:
    """The same structure with a symbolic tensor for every array or tensor."""

    def placeholder(x: Any) -> Any:
        if not (hasattr(x, "shape") and hasattr(x, "dtype")):
            return x
        dtype = keras.backend.standardize_dtype(x.dtype)
        return keras.KerasTensor(tuple(x.shape), dtype=dtype)

    return keras.tree.map_structure(placeholder, arguments)

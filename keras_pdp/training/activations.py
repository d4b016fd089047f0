"""Activations that are functions: what a configuration tells of them, and what not.

By its name a function may not be found again, or another one that has the name, and
the code of one without a name Keras refuses to unpack. So copies get the functions
themselves.
"""

import types
from typing import Any

import keras

from keras_pdp.training import tree
from keras_pdp.training.attributes import of_keras

# The arguments of Keras's layers that may be functions of the user's.
_ACTIVATIONS = ("activation", "recurrent_activation")


def lost(layer: keras.Layer) -> dict[str, Any]:
    """The activations that are functions and that no configuration tells rightly."""
    held = {name: vars(layer).get(name) for name in _ACTIVATIONS}
    return {
        name: value
        for name, value in held.items()
        # A method is the layer's own: the copy has its own.
        if callable(value) and not isinstance(value, keras.Layer | types.MethodType)
        if not _is_found_again(value)
    }


def give(
    old: keras.Layer, new: keras.Layer, seen: frozenset[int] = frozenset()
) -> None:
    """Puts such functions into Keras's layers inside of a copy, such as cells.

    What others hold their classes make, from what their configurations tell.
    """
    # Level by level: some layers make what is inside of them when they are built,
    # which comes last.
    for one, other in zip(tree.children(old), tree.children(new), strict=False):
        if type(one) is not type(other) or id(one) in seen:
            continue
        if of_keras(type(one)):
            for name, function in lost(one).items():
                setattr(other, name, function)
        give(one, other, seen | {id(old)})


def _is_found_again(function: Any) -> bool:
    """Whether Keras finds the very same by what it writes into a configuration."""
    try:
        written = keras.activations.serialize(function)
        return keras.activations.get(written) is function
    except (AttributeError, TypeError, ValueError):
        return False


def without_lambdas(config: Any) -> Any:
    """Keras refuses to unpack their code, which is in memory."""
    if isinstance(config, list | tuple):
        return type(config)(map(without_lambdas, config))
    if not isinstance(config, dict):
        return config
    return {
        key: "linear"
        if key in _ACTIVATIONS and _is_lambda(value)
        else without_lambdas(value)
        for key, value in config.items()
    }


def _is_lambda(written: Any) -> bool:
    """Whether it is what Keras writes for one: its code, with the kind or without."""
    if not isinstance(written, dict):
        return False
    return written.get("class_name") == "__lambda__" or set(written) == {"value"}

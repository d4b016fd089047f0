"""Copies what a functional model's class holds beside its graph into another instance.

Layers that a training step calls, state of its own, plain data: all that is in its
attributes, in lists, tuples and dictionaries too. What would go on computing with the
layers of the first instance is refused.
"""

import contextlib
import functools
import types
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import ops

from keras_pdp.training import copies, tree, trial
from keras_pdp.training.attributes import beside_graph
from keras_pdp.training.compiled import read
from keras_pdp.training.in_place import bare
from keras_pdp.training.wrapper import PDPWrapper

NewLayer = Callable[[keras.Layer], keras.Layer]

# What two models must not share, besides layers.
_STATES = (
    keras.Variable,
    keras.random.SeedGenerator,
    keras.metrics.Metric,
    keras.optimizers.Optimizer,
)
# How far what is held is looked through: a function in an object in a list, ...
_DEPTH = 4
# What a constructor may set of what Keras keeps in every layer.
_SETTINGS = ("activity_regularizer", "supports_jit", "supports_masking")


def carry(model: keras.Model, to: keras.Model, new_layer: NewLayer) -> None:
    """Gives a second instance of a functional model's class all that the first holds.

    Args:
        model: The first.
        to: The second, with a graph and nothing beside it.
        new_layer: Gives the new layer for an old one.

    Raises:
        ValueError: If something is held where it can't be replaced.
    """
    states: dict[int, Any] = {}
    layers = [layer for _, layer in tree.walk(model)]
    own = {id(each) for each in (*layers, *model.variables)}

    def mapped(value: Any) -> Any:
        if isinstance(value, keras.Layer):
            return new_layer(value)
        if isinstance(value, _STATES):
            if id(value) not in states:
                states[id(value)] = _copy_of_state(value)
            return states[id(value)]
        if isinstance(value, dict):
            return {key: mapped(item) for key, item in value.items()}
        if isinstance(value, list):
            return [mapped(item) for item in value]
        if isinstance(value, tuple):
            items = [mapped(item) for item in value]
            make: Callable[..., Any] = getattr(value, "_make", tuple)
            return make(items)
        if isinstance(value, types.MethodType) and value.__self__ is model:
            return types.MethodType(value.__func__, to)
        return value

    for name, value in beside_graph(model):
        # The History of a `fit` knows its model.
        if not isinstance(value, keras.callbacks.Callback):
            _check_copied(model, name, value, own)
            setattr(to, name, mapped(value))
    for name in _SETTINGS:
        if getattr(to, name) != getattr(model, name):
            setattr(to, name, getattr(model, name))
    shared = {id(v) for v in model.variables} & {id(v) for v in to.variables}
    if shared:
        _refuse(model, f"{len(shared)} of its variables are held")


def built_like(old: keras.Layer, new: keras.Layer) -> None:
    """Builds a new layer for the shapes of the old one, where that was built."""
    inner, model = bare(new), bare(old)
    config = model.get_build_config()
    if not old.built or new.built or config is None:
        return
    if type(model).build is not keras.Layer.build:
        wraps = isinstance(new, PDPWrapper)
        new.build_from_config({"layer": config} if wraps else config)
        return
    # Keras would call it built, with nothing in it that is.
    trial.build_by_running(model, inner)
    if new is not inner:
        new.build()


def _check_copied(model: keras.Model, name: str, value: Any, own: set[int]) -> None:
    """Refuses what would go on computing with the model's own layers."""
    if isinstance(value, (keras.Layer, *_STATES)):
        return
    if isinstance(value, types.MethodType) and value.__self__ is model:
        return
    if isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            _check_copied(model, name, item, own)
        return
    if _holds(value, own, _DEPTH):
        _refuse(model, f"'{name}' holds layers or variables of the model")


def _holds(value: Any, own: set[int], depth: int) -> bool:
    """Whether one of some objects is in a value, in what it refers to, and so on."""
    if id(value) in own:
        return True
    others = (type, types.ModuleType, keras.Layer, *_STATES)
    if not depth or copies.is_plain(value) or isinstance(value, others):
        return False
    return any(_holds(part, own, depth - 1) for part in _parts(value))


def _parts(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, list | tuple | set | frozenset):
        return list(value)
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, types.MethodType):
        return [value.__self__, value.__func__]
    if isinstance(value, types.FunctionType):
        return list(_captured(value))
    # What TensorFlow has compiled knows the function it was made of.
    compiled = getattr(value, "python_function", None)
    return [compiled, *getattr(value, "__dict__", {}).values()]


def _captured(function: types.FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):  # it is empty
            yield cell.cell_contents


def _refuse(model: keras.Model, what: str) -> None:
    raise ValueError(
        f"No faithful copy of '{model.name}' (a {type(model).__name__}) can be made: "
        f"{what} where they can't be replaced, such as a set, a function or an object. "
        "Keep them in attributes, lists, tuples and dictionaries, or use "
        "PDPWrapper(layer) in its definition."
    )


def _copy_of_state(state: Any) -> Any:
    if isinstance(state, keras.Variable):
        variable = keras.Variable(
            ops.copy(read(state)),
            trainable=state.trainable,
            dtype=state.dtype,
            aggregation=state.aggregation,
            name=state.name,
        )
        copies.copy_options(state, variable)
        return variable
    known = copies.for_constructor(type(state), state.get_config())
    copy = type(state).from_config(known)
    if isinstance(state, keras.random.SeedGenerator):
        copy.state.assign(ops.copy(read(state.state)))
    return copy

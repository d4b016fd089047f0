"""Rebuilds a model with other layers in the places of its own.

The model's configuration is read, each layer's entry is replaced by a reference to a
new layer, and Keras builds the model from that. So the graph, its inputs, the order of
calls to a shared layer and every option that Keras knows stay as they were, which
`keras.models.clone_model` does not keep (it renames inputs and reorders calls).
"""

import types
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import keras

from keras_pdp.channels.graph import first_call
from keras_pdp.training import tree
from keras_pdp.training.attributes import a_functional_model, beside_graph, of_keras
from keras_pdp.training.copies import (
    Transfer,
    carry_over,
    config_of,
    copy_data,
)
from keras_pdp.training.slots import held_in

Replace = Callable[[keras.Layer], keras.Layer]
Describe = Callable[[keras.Model, dict[str, Any]], dict[str, Any]]
Enter = Callable[[keras.Layer], bool]
# Old layers with their new ones, by the ids of the old.
Made = dict[int, tuple[keras.Layer, keras.Layer]]
Dress = Callable[[keras.Model, keras.Model, Replace, Made], keras.Model]

# What Keras finds again by the name of its class.
_DESCRIBED = (
    keras.Initializer,
    keras.constraints.Constraint,
    keras.regularizers.Regularizer,
)

# How often new layers have been called while graphs were built.
_CALLS: weakref.WeakKeyDictionary[keras.Layer, int] = weakref.WeakKeyDictionary()

# The name under which a configuration refers to a layer made beforehand.
_REFERENCE = "keras_pdp_layer"


def possible(layer: keras.Layer) -> bool:
    """Whether it is a Sequential or functional model."""
    if not isinstance(layer, keras.Model):
        return False
    return isinstance(layer, keras.Sequential) or hasattr(layer, "operations")


def rebuilt(
    model: keras.Model,
    replace: Replace,
    transfer: Transfer | None = None,
    describe: Describe = lambda model, config: config,
    enter: Enter = possible,
    dress: Dress | None = None,
) -> keras.Model:
    """The model with every layer replaced, and the weights of the old ones.

    Args:
        model: A built Sequential or functional model; nested ones are entered.
        replace: Gives the new layer for an old one, not a model; called once for each.
        transfer: Gives a new layer the weights of the old one, both built. Defaults to
            `copies.copy_state`.
        describe: Changes the configuration of a model, also of nested ones. Defaults
            to leaving it as it is.
        enter: Whether a nested layer is a model to rebuild, rather than a layer to
            replace. Defaults to all that are `possible`.
        dress: Makes of the plain functional model that takes the place of one of a
            class of its own one of that class, with all that it holds. Defaults to
            leaving that to Keras, and to refusing a class with a constructor of its
            own.

    Returns:
        A new model of the same class, compiled as the old one is.
    """
    made: Made = {}
    with classes_of(model):
        result = graph_of(model, replace, made, describe, enter, dress)
    leaves = [pair for pair in made.values() if not enter(pair[0])]
    carry_over(leaves, transfer)
    copy_compile(model, result)
    return result


def classes_of(model: keras.Layer) -> Any:
    """A scope in which Keras knows what the user did not register.

    The classes of layers, and of what their attributes hold: regularizers, constraints,
    initializers, and functions.
    """
    kinds: set[Any] = set()
    for _, layer in tree.walk(model):
        kinds.add(type(layer))
        for value in vars(layer).values():
            if isinstance(value, types.FunctionType):
                kinds.add(value)
            elif isinstance(value, _DESCRIBED):
                kinds.add(type(value))
    # Keras's own stay out: keras.ops has functions of the same names (Add, Multiply).
    own = {kind.__name__: kind for kind in kinds if not of_keras(kind)}
    return keras.saving.custom_object_scope(own)


def of_own_class(model: keras.Model) -> bool:
    """Whether it is not just a Sequential or functional model, but a class of those."""
    return type(model) not in (keras.Sequential, type(a_functional_model()))


def computes_more(model: keras.Model) -> bool:
    """Whether the class of a graph model computes more than its graph."""
    if isinstance(model, keras.Sequential):
        return type(model).call is not keras.Sequential.call
    return type(model).call is not type(a_functional_model()).call


def _holds_state(model: keras.Model) -> bool:
    held = held_in(beside_graph(model)).values()
    own = (x for x in held if id(x) not in {id(layer) for layer in model.layers})
    return any(layer.variables for layer in own)


def own_constructor(model: keras.Model) -> bool:
    """Whether a graph model's class makes its layers from arguments of its own.

    Keras can't give such a class other layers, whatever its configuration says.
    """
    if not of_own_class(model):
        return False
    if isinstance(model, keras.Sequential):
        if type(model).__init__ is keras.Sequential.__init__:
            return False
        try:
            return bool(type(model)(name=model.name).layers)
        except TypeError:
            return True
    try:
        return not {"layers", "input_layers"} <= set(model.get_config())
    except (AttributeError, NotImplementedError):
        return True  # it has none, or asks layers that are wrapped now


def graph_of(
    model: keras.Model,
    replace: Replace,
    made: Made,
    describe: Describe = lambda model, config: config,
    enter: Enter = possible,
    dress: Dress | None = None,
) -> keras.Model:
    """As `rebuilt`, but without the weights; the pairs of layers go into `made`."""
    can_dress = dress is not None and not isinstance(model, keras.Sequential)
    if not can_dress and (own_constructor(model) or _holds_state(model)):
        raise ValueError(
            f"'{model.name}' is a {type(model).__name__}, a model with a constructor "
            "and configuration, or with layers beside its graph, of its own, in which "
            "layers can't be replaced. Use PDPWrapper(layer) in its definition, or a "
            "plain keras.Model(model.input, model.output) in its place."
        )
    if dress is not None and can_dress and of_own_class(model):
        graph = keras.Model(model.input, model.output, name=model.name)
        plain = graph_of(graph, replace, made, describe, enter, dress)
        dressed = dress(model, plain, replace, made)
        if not model.trainable:
            dressed.trainable = False
        return dressed
    config = describe(model, config_of(model))
    new_layers: dict[str, keras.Layer] = {}

    def reference(entry: dict[str, Any], layer: keras.Layer | None) -> dict[str, Any]:
        if layer is None:
            return entry  # an input, or a node of keras.ops
        if id(layer) not in made:
            if enter(layer):
                new = graph_of(layer, replace, made, describe, enter, dress)
            else:
                new = replace(layer)
            made[id(layer)] = (layer, new)
        new_layers[layer.name] = made[id(layer)][1]
        kept = {k: entry[k] for k in ("name", "inbound_nodes") if k in entry}
        # A new layer may be called otherwise: the graph is told by the old name.
        return kept | {
            "module": None,
            "class_name": _REFERENCE,
            "registered_name": _REFERENCE,
            "config": {"name": layer.name},
        }

    class Reference:
        @classmethod
        def from_config(cls, config: dict[str, Any]) -> keras.Layer:
            return new_layers[config["name"]]

    entries = zip(config["layers"], _layers_of(model, config["layers"]), strict=True)
    config = {**config, "layers": [reference(*entry) for entry in entries]}
    config = _after_earlier_calls(config, new_layers, _shifts(model, new_layers))
    # A Sequential model with an input calls all its layers for each one that it gets.
    left = sum(x.get("class_name") == _REFERENCE for x in config["layers"])
    left = left if len(config["layers"]) > left else 1
    for entry in config["layers"]:
        if entry.get("class_name") == _REFERENCE:
            new = new_layers[entry["config"]["name"]]
            calls = len(entry["inbound_nodes"]) if "inbound_nodes" in entry else left
            _CALLS[new] = _CALLS.get(new, 0) + calls
            left = max(left - 1, 1)
    custom = {_REFERENCE: Reference}
    result = type(model).from_config(config, custom_objects=custom)
    known = vars(a_functional_model()) if hasattr(model, "operations") else vars(result)
    copy_data(model, result, set(known))
    if not model.trainable:
        result.trainable = False
    return result


def _shifts(model: keras.Model, new_layers: dict[str, keras.Layer]) -> dict[str, int]:
    """By how much outputs' calls count otherwise, of a wrapped model for example."""
    old = {layer.name: layer for layer in model.layers}
    return {n: first_call(new) - first_call(old[n]) for n, new in new_layers.items()}


def _after_earlier_calls(
    config: dict[str, Any], new_layers: dict[str, keras.Layer], shifts: dict[str, int]
) -> dict[str, Any]:
    """A graph's configuration where its layers have been called in other graphs.

    A configuration counts the calls of a layer from 0, in its own graph. Read again, it
    means the first calls that there are. And where it tells of the model's outputs, it
    counts those of some layers from 1.
    """
    earlier = {name: _CALLS.get(layer, 0) for name, layer in new_layers.items()}
    moved = [*earlier.values(), *shifts.values()]
    if "output_layers" not in config or not any(moved):
        return config

    def later(history: list[Any]) -> list[Any]:
        name, call, output = history
        return [name, call + earlier.get(name, 0), output]

    def arguments(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                key: later(item) if key == "keras_history" else arguments(item)
                for key, item in value.items()
            }
        return [*map(arguments, value)] if isinstance(value, list | tuple) else value

    def ends(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: ends(item) for key, item in value.items()}
        if len(value) == 3 and isinstance(value[0], str):
            name, call, output = later(value)
            return [name, call + shifts.get(name, 0), output]
        return type(value)(map(ends, value))

    layers = [
        {**entry, "inbound_nodes": arguments(entry["inbound_nodes"])}
        for entry in config["layers"]
    ]
    return {**config, "layers": layers, "output_layers": ends(config["output_layers"])}


def _layers_of(
    model: keras.Model, entries: list[dict[str, Any]]
) -> list[keras.Layer | None]:
    """The layer that each entry of a configuration describes; None for other nodes."""
    layers = [x for x in model.layers if not isinstance(x, keras.layers.InputLayer)]
    if isinstance(model, keras.Sequential):
        # In order; a class without `get_config` leaves its name out of the entry.
        return [None] * (len(entries) - len(layers)) + layers
    by_name = {layer.name: layer for layer in layers}
    return [by_name.get(entry["name"]) for entry in entries]


def copy_compile(old: keras.Model, new: keras.Model) -> None:
    if not old.compiled:
        return
    try:
        settings = keras.saving.deserialize_keras_object(old.get_compile_config())
        # Not `compile_from_config`: it builds the optimizer, whose moments would make
        # a stripped model's file three times as large.
        new.compile(**settings)
    except (TypeError, ValueError) as error:
        warnings.warn(
            f"The compile settings of '{old.name}' can't be copied, so the new model "
            f"is not compiled; call `compile` on it. Keras said: {error}",
            stacklevel=4,
        )

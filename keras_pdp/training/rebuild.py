"""Rebuilds a model with other layers in the places of its own.

The model's configuration is read, each layer's entry is replaced by a reference to a
new layer, and Keras builds the model from that. So the graph, its inputs, the order of
calls to a shared layer and every option that Keras knows stay as they were, which
`keras.models.clone_model` does not keep (it renames inputs and reorders calls).
"""

import warnings
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_pdp.training import tree
from keras_pdp.training.compiled import read
from keras_pdp.training.wrapper import PDPWrapper

Replace = Callable[[keras.Layer], keras.Layer]

# The name under which a configuration refers to a layer made beforehand.
_REFERENCE = "keras_pdp_layer"


def possible(layer: keras.Layer) -> bool:
    """Whether it is a Sequential or functional model."""
    if not isinstance(layer, keras.Model):
        return False
    return isinstance(layer, keras.Sequential) or hasattr(layer, "operations")


def rebuilt(model: keras.Model, replace: Replace) -> keras.Model:
    """The model with every layer replaced, and the weights of the old ones.

    Args:
        model: A built Sequential or functional model; nested ones are entered.
        replace: Gives the new layer for an old one, not a model; called once for each.

    Returns:
        A new model of the same class, compiled as the old one is.
    """
    made: dict[int, tuple[keras.Layer, keras.Layer]] = {}
    # Classes that the user did not register are known from the model itself.
    own = {type(layer).__name__: type(layer) for _, layer in tree.walk(model)}
    with keras.saving.custom_object_scope(own):
        result = _rebuilt(model, replace, made)
    for old, new in made.values():
        if not possible(old):
            _copy_weights(old, new)
    _copy_compile(model, result)
    return result


def copy_of(layer: keras.Layer) -> keras.Layer:
    """A new layer of the same configuration."""
    return type(layer).from_config(layer.get_config())


def _rebuilt(
    model: keras.Model,
    replace: Replace,
    made: dict[int, tuple[keras.Layer, keras.Layer]],
) -> keras.Model:
    config = model.get_config()
    if "layers" not in config:
        raise ValueError(
            f"'{model.name}' is a {type(model).__name__}, a functional model with a "
            "constructor and configuration of its own, in which layers can't be "
            "replaced. Use PDPWrapper(layer) in its definition."
        )
    by_name = {layer.name: layer for layer in model.layers}
    new_layers: dict[str, keras.Layer] = {}

    def reference(entry: dict[str, Any]) -> dict[str, Any]:
        # A functional entry has its name outside, a Sequential one inside.
        name = entry.get("name") or entry["config"].get("name")
        layer = by_name.get(name)
        if layer is None or isinstance(layer, keras.layers.InputLayer):
            return entry  # a node of keras.ops, or an input
        if id(layer) not in made:
            nested = possible(layer)
            new = _rebuilt(layer, replace, made) if nested else replace(layer)
            made[id(layer)] = (layer, new)
        new_layers[name] = made[id(layer)][1]
        kept = {k: entry[k] for k in ("name", "inbound_nodes") if k in entry}
        # A new layer may be called otherwise: the graph is told by the old name.
        return kept | {
            "module": None,
            "class_name": _REFERENCE,
            "registered_name": _REFERENCE,
            "config": {"name": name},
        }

    class Reference:
        @classmethod
        def from_config(cls, config: dict[str, Any]) -> keras.Layer:
            return new_layers[config["name"]]

    config = {**config, "layers": [reference(entry) for entry in config["layers"]]}
    custom = {_REFERENCE: Reference}
    result = type(model).from_config(config, custom_objects=custom)
    if not model.trainable:
        result.trainable = False
    return result


def _copy_weights(old: keras.Layer, new: keras.Layer) -> None:
    """Copies variables; from a wrapper to a plain layer, the kernels pruned."""
    strips = isinstance(old, PDPWrapper) and not isinstance(new, PDPWrapper)
    wraps = isinstance(new, PDPWrapper) and not isinstance(old, PDPWrapper)
    values = {id(v): read(v) for v in old.variables}
    if strips:
        for kernel in old.kernels:
            w = values[id(kernel.variable)]
            keep = kernel.keeps(bool(old.frozen.value))
            values[id(kernel.variable)] = ops.where(keep, w, ops.zeros_like(w))
    source = old.layer.variables if strips else old.variables
    target = new.layer.variables if wraps else new.variables
    for variable, to in zip(source, target, strict=True):
        # A copy: some backends would share the tensor between the two models.
        to.assign(ops.copy(values[id(variable)]))


def _copy_compile(old: keras.Model, new: keras.Model) -> None:
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

"""What the class of a layer or model keeps in its attributes."""

import functools
from typing import Any

import keras


def attributes(owner: keras.Layer) -> list[tuple[str, Any]]:
    """What the owner's class keeps in an owner, without what Keras keeps there."""
    own = _keras_names(isinstance(owner, keras.Model))
    held = dict(vars(owner))
    if hasattr(owner, "named_children"):
        held |= _modules(owner)
    return [(name, value) for name, value in held.items() if name not in own]


def beside_graph(model: keras.Layer) -> list[tuple[str, Any]]:
    """What a functional model's own class keeps in it beside its graph.

    Nothing for a Sequential or plain functional model: nothing of its class would use
    what is put there.
    """
    plain = a_functional_model()
    if type(model) is type(plain) or not hasattr(model, "operations"):
        return []
    return [(k, v) for k, v in attributes(model) if k not in vars(plain)]


@functools.cache
def a_functional_model() -> keras.Model:
    """The simplest one."""
    inputs = keras.Input((1,), name="inputs")
    outputs = keras.layers.Identity(name="outputs")(inputs)
    return keras.Model(inputs, outputs, name="plain")


def of_keras(kind: type) -> bool:
    """Whether a class is one of Keras's."""
    return kind.__module__.split(".")[0] == "keras"


def _modules(owner: keras.Layer) -> dict[str, Any]:
    """Where PyTorch keeps the layers in attributes, those of two names twice."""
    every = owner.named_modules(remove_duplicate=False)
    return {name: module for name, module in every if name and "." not in name}


@functools.cache
def _keras_names(model: bool) -> frozenset[str]:
    """The attributes in which Keras and its backends keep what a layer holds."""
    owner = keras.Model() if model else keras.Layer()
    if model:
        owner.compile("sgd", "mse")
    owner.held = keras.Layer()  # some come with the first layer
    names = set(vars(owner))
    if hasattr(owner, "named_children"):
        names |= _modules(owner).keys()
    return frozenset(names) - {"held"}

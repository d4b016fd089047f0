"""Walks the layers inside a model or layer, however they are nested."""

import itertools
from collections.abc import Iterator
from typing import Any

import keras

from keras_pdp.training.attributes import beside_graph


def walk(layer: keras.Layer, prefix: str = "") -> Iterator[tuple[str, keras.Layer]]:
    """Yields every layer once, the argument first, with a name that says where it is.

    Models are entered through `layers`, other layers through the attributes that hold
    layers, in lists and dictionaries too. The layers of the outermost model keep their
    own names; deeper ones are prefixed, for example `backbone/conv`. No two are equal.
    """
    yield from _walk(layer, prefix, set())


def computing(model: keras.Layer) -> Iterator[tuple[str, keras.Layer]]:
    """As `walk`, of a model's outputs: without what is held beside a graph."""
    if not hasattr(model, "operations"):
        yield from walk(model)
        return
    seen = {id(model)}
    yield "", model
    for layer in model.layers:
        if id(layer) not in seen:
            yield from _walk(layer, layer.name, seen)


def children(layer: keras.Layer) -> list[keras.Layer]:
    """The layers directly inside a layer, in a stable order, each once."""
    held: list[Any] = list(vars(layer).values())
    if isinstance(layer, keras.Model):
        # Those beside a functional model's graph are for a training step of its class.
        held = [layer.layers, [value for _, value in beside_graph(layer)]]
    unique = {id(child): child for child in _layers_in(held) if child is not layer}
    return list(unique.values())


def _walk(
    layer: keras.Layer, name: str, seen: set[int]
) -> Iterator[tuple[str, keras.Layer]]:
    seen.add(id(layer))
    yield name, layer
    taken: set[str] = set()
    for child in children(layer):
        if id(child) in seen:
            continue
        # Keras allows equal names beside each other inside a layer.
        own = unique(child.name, taken)
        yield from _walk(child, f"{name}/{own}" if name else own, seen)


def unique(name: str, taken: set[str]) -> str:
    """The name, with a number where it is taken already; takes it."""
    candidates = (f"{name}_{i}" if i else name for i in itertools.count())
    free = next(each for each in candidates if each not in taken)
    taken.add(free)
    return free


def _layers_in(value: Any) -> Iterator[keras.Layer]:
    if isinstance(value, keras.Layer):
        yield value
    elif isinstance(value, dict):
        yield from _layers_in(list(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _layers_in(item)

"""Walks the layers inside a model or layer, however they are nested."""

from collections.abc import Iterator
from typing import Any

import keras


def walk(layer: keras.Layer, prefix: str = "") -> Iterator[tuple[str, keras.Layer]]:
    """Yields every layer once, the argument first, with a name that says where it is.

    Models are entered through `layers`, other layers through the attributes that hold
    layers, in lists and dictionaries too. The layers of the outermost model keep their
    own names; deeper ones are prefixed, for example `backbone/conv`.
    """
    yield from _walk(layer, prefix, set())


def children(layer: keras.Layer) -> list[keras.Layer]:
    """The layers directly inside a layer, in a stable order, each once."""
    held = (
        layer.layers if isinstance(layer, keras.Model) else list(vars(layer).values())
    )
    unique = {id(child): child for child in _layers_in(held) if child is not layer}
    return list(unique.values())


def _walk(
    layer: keras.Layer, name: str, seen: set[int]
) -> Iterator[tuple[str, keras.Layer]]:
    seen.add(id(layer))
    yield name, layer
    for child in children(layer):
        if id(child) not in seen:
            inner = f"{name}/{child.name}" if name else child.name
            yield from _walk(child, inner, seen)


def _layers_in(value: Any) -> Iterator[keras.Layer]:
    if isinstance(value, keras.Layer):
        yield value
    elif isinstance(value, dict):
        yield from _layers_in(list(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _layers_in(item)

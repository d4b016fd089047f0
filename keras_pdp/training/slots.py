"""Where a layer or subclassed model holds its layers, and how others are put there.

An attribute, a list, a tuple or a dictionary in one, nested to any depth, is a slot. A
set, a closure or an object of another kind is none: what is held there can't be
replaced.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras

from keras_pdp.training import tree
from keras_pdp.training.attributes import attributes

Swap = dict[int, keras.Layer]


def slots(owner: keras.Layer) -> dict[str, keras.Layer]:
    """The layers by where they are held, such as `head` or `blocks/0`.

    Args:
        owner: A layer or a subclassed model.

    Returns:
        In the order in which the attributes were first set. A layer that is held at
        several places is there several times.
    """
    return held_in(attributes(owner))


def held_in(values: Iterable[tuple[str, Any]]) -> dict[str, keras.Layer]:
    """The layers in some values, by the values' names and the places in them."""
    return {
        "/".join(map(str, (name, *path))): layer
        for name, value in values
        for path, layer in _held(value)
    }


def out_of_reach(owner: keras.Layer) -> list[keras.Layer]:
    """The layers that Keras finds in an owner and that are in no slot."""
    known = {id(layer) for layer in slots(owner).values()}
    return [layer for layer in tree.children(owner) if id(layer) not in known]


def put(owner: keras.Layer, swap: Swap) -> None:
    """Puts other layers into the slots, and tells Keras to forget the old ones.

    The order of the owner's layers, and so of its weights, stays.

    Args:
        owner: A layer or a subclassed model that is not built.
        swap: New layers by the ids of the old ones; others stay where they are.

    Raises:
        ValueError: If the owner takes no layers any more, because it is built.
    """
    at = {id(layer): number for number, layer in enumerate(tree.children(owner))}
    held = [(name, value) for name, value in attributes(owner) if any(_held(value))]
    held.sort(key=lambda each: min(at[id(layer)] for _, layer in _held(each[1])))
    swapped = [(name, _mapped(value, swap)) for name, value in held]
    if held:
        gone = [layer for _, value in held for _, layer in _held(value)]
        _forget(owner, gone, held[0][0])
    for name, value in swapped:
        setattr(owner, name, value)


def _forget(owner: keras.Layer, layers: list[keras.Layer], name: str) -> None:
    """Keras forgets what is taken out of a list, not what is overwritten.

    So they are put into one and taken out. On TensorFlow it takes the place of one of
    them, because an export asks for every attribute that has ever been a list; on
    PyTorch no list can take the place of a layer.
    """
    place = "taken_out" if hasattr(owner, "named_children") else name
    setattr(owner, place, layers)
    getattr(owner, place).clear()
    if place != name:
        delattr(owner, place)


def retire(layer: keras.Layer, owner: keras.Layer, place: str) -> None:
    """Makes a layer that has been replaced an error to call.

    Whoever still calls it, such as a closure, would compute without the new one.
    """

    def call(*args: Any, **kwargs: Any) -> Any:
        raise ValueError(
            f"'{layer.name}' was replaced at '{place}' of {type(owner).__name__} "
            f"'{owner.name}', and is still called from somewhere else, such as a "
            "function that holds it. Call it by the attribute, or use "
            "PDPWrapper(layer) in the definition."
        )

    object.__setattr__(layer, "call", call)


def _held(value: Any) -> Iterator[tuple[tuple[Any, ...], keras.Layer]]:
    if isinstance(value, keras.Layer):
        yield (), value
        return
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    for key, item in items:
        for path, layer in _held(item):
            yield (key, *path), layer


def _mapped(value: Any, swap: Swap) -> Any:
    if isinstance(value, keras.Layer):
        return swap.get(id(value), value)
    if isinstance(value, dict):
        return _like(value, {k: _mapped(v, swap) for k, v in value.items()})
    if isinstance(value, list):
        return [_mapped(v, swap) for v in value]
    if isinstance(value, tuple):
        parts = [_mapped(v, swap) for v in value]
        named: Callable[..., Any] | None = getattr(type(value), "_make", None)
        return named(parts) if named else tuple(parts)
    return value


def _like(value: dict[Any, Any], items: dict[Any, Any]) -> dict[Any, Any]:
    return OrderedDict(items) if isinstance(value, OrderedDict) else items

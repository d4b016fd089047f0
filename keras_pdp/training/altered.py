"""Models whose layers were replaced although their class makes them itself.

`Net(...)` makes its own layers, so a wrapped `Net` can't be told by the configuration
of `Net` alone. It becomes a subclass of `Net`, which behaves as `Net` in everything and
adds to the configuration which layers are wrapped, and how. So it is saved and loaded
like any model. Where the layers are again those that `Net` makes, it is a `Net` again.
"""

import functools
from typing import Any

import keras

from keras_pdp.training import copies, in_place, rebuild, tree
from keras_pdp.training.attributes import beside_graph
from keras_pdp.training.beside import built_like, carry
from keras_pdp.training.in_place import Surgery, bare
from keras_pdp.training.rebuild import Made, Replace
from keras_pdp.training.slots import held_in, slots
from keras_pdp.training.wrapper import PDPWrapper


def alter(model: keras.Layer, replace: Replace) -> keras.Layer:
    """A copy with every layer replaced, of whatever kind the model is.

    Args:
        model: A built model, or a layer that holds wrapped layers.
        replace: Gives the new layer for an old one.

    Returns:
        A new model of the same class, or of a subclass that also knows the wrappers.

    Raises:
        ValueError: If no copy can be made that is surely the same.
    """
    if rebuild.possible(model):
        return rebuild.rebuilt(model, replace, _transfer, dress=_dress)
    origin = _origin(type(model))
    makes_wrappers = []

    def fresh(layer: keras.Layer) -> keras.Layer:
        made = origin.from_config(_config(origin, layer))
        makes_wrappers.append(_has_wrappers(made))
        return made

    copy = in_place.copied(model, Surgery(replace, fresh, _dress))
    if makes_wrappers[0] and not _has_wrappers(copy):
        # A layer around a layer (TimeDistributed) makes what its configuration says.
        makes_wrappers[0] = _has_wrappers(origin.from_config(_config(origin, copy)))
    _become(copy, origin, makes_wrappers[0])
    return copy


@keras.saving.register_keras_serializable(package="keras_pdp")
class Altered:
    """What a class gains when layers of its instances are replaced.

    Its configuration is `{"origin": the class and its configuration, "wrappers": the
    arguments of each PDPWrapper, by where it is}`.
    """

    origin: Any
    # Whether the class itself puts wrappers around its layers.
    makes_wrappers: bool

    def get_config(self) -> dict[str, Any]:
        config = _config(self.origin, self)
        serialize = keras.saving.serialize_keras_object
        return {
            "origin": {
                "module": self.origin.__module__,
                "class_name": self.origin.__name__,
                "registered_name": keras.saving.get_registered_name(self.origin),
                "config": {k: serialize(v) for k, v in config.items()},
            },
            "wrappers": {
                place: _arguments(layer)
                for place, layer in _places(self).items()
                if isinstance(layer, PDPWrapper)
            },
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> keras.Layer:
        made = keras.saving.deserialize_keras_object(config["origin"])
        makes_wrappers = _has_wrappers(made)
        origin = _origin(type(made))
        arguments = {
            id(layer): config["wrappers"].get(place)
            for place, layer in _places(made).items()
        }

        def replace(layer: keras.Layer) -> keras.Layer:
            wanted = arguments.get(id(layer))
            if wanted is None:
                return copies.copy_of(bare(layer))
            inner = copies.copy_of(bare(layer), name=wanted["name"])
            values = {
                key: keras.saving.deserialize_keras_object(wanted[key])
                for key in ("granularity", "temperature")
            }
            return PDPWrapper(inner, **{**wanted, **values})

        if rebuild.possible(made):
            return rebuild.rebuilt(made, replace, dress=_dress)
        in_place.filled(made, Surgery(replace, lambda layer: layer, _dress))
        _become(made, origin, makes_wrappers)
        return made


def _dress(
    model: keras.Model, plain: keras.Model, replace: Replace, made: Made
) -> keras.Model:
    """A model of the class of `model` with the graph of a plain functional one.

    The class's own constructor, which would make a graph of its own, does not run.
    """
    origin = _origin(type(model))
    dressed: keras.Model = origin.__new__(origin)
    functional: Any = type(plain)
    functional.__init__(dressed, plain.input, plain.output, name=model.name)
    dressed.dtype_policy = model.dtype_policy
    made[id(model)] = (model, dressed)

    def new_layer(layer: keras.Layer) -> keras.Layer:
        if id(layer) not in made:
            made[id(layer)] = (layer, _beside(layer, replace, made))
        return made[id(layer)][1]

    own = rebuild.own_constructor(model)  # before its layers are others
    carry(model, dressed, new_layer)
    _become(dressed, origin, _makes_wrappers(model), own)
    counts = [len(in_place.own_variables(each)) for each in (model, dressed)]
    if counts[0] != counts[1]:
        raise ValueError(
            f"No faithful copy of '{model.name}' (a {type(model).__name__}) can be "
            f"made: it has {counts[0]} variables of its own, of which {counts[1]} are "
            "in its attributes, lists and dictionaries. Keep all of them there, or use "
            "PDPWrapper(layer) in its definition."
        )
    return dressed


def _transfer(old: keras.Layer, new: keras.Layer) -> None:
    block = not isinstance(old, PDPWrapper) and _has_wrappers(old)
    if block and not _has_wrappers(new):
        return  # it was altered itself, and has its weights
    copies.copy_state(old, new)


def _beside(layer: keras.Layer, replace: Replace, made: Made) -> keras.Layer:
    """The new layer for one that is held beside the graph."""
    if rebuild.possible(layer):
        # Such as the way to an inner layer, which it shares with the graph.
        return rebuild.graph_of(layer, replace, made, dress=_dress)
    new = replace(layer)
    built_like(layer, new)
    return new


def _config(origin: type[keras.Layer], layer: keras.Layer) -> dict[str, Any]:
    """The layer's configuration as a member of the class, for the constructor."""
    kind = type(layer)
    # Of the altered class, Keras would not tell the arguments that it has noted for a
    # class without a `get_config`.
    object.__setattr__(layer, "__class__", origin)
    try:
        config = copies.config_of(layer)
    finally:
        object.__setattr__(layer, "__class__", kind)
    return copies.for_constructor(origin, config)


def _makes_wrappers(model: keras.Layer) -> bool:
    if isinstance(model, Altered):
        return model.makes_wrappers
    return _has_wrappers(model)


def _has_wrappers(layer: keras.Layer, own: bool | None = None) -> bool:
    """Whether there are wrappers of which the layer's own configuration can't tell.

    Args:
        layer: A layer or model.
        own: Whether it is a graph model that `own_constructor`; found out if None.
    """
    inside = [layer]
    if own is None:
        own = not rebuild.possible(layer) or rebuild.own_constructor(layer)
    if not own:
        inside = list(held_in(beside_graph(layer)).values())
    return any(
        isinstance(inner, PDPWrapper) for each in inside for _, inner in tree.walk(each)
    )


def _origin(kind: Any) -> Any:
    return kind.origin if issubclass(kind, Altered) else kind


def _become(
    layer: keras.Layer, origin: Any, makes_wrappers: bool, own: bool = True
) -> None:
    """Makes it an instance of the class, or of its altered subclass where needed."""
    as_made = not makes_wrappers and not _has_wrappers(layer, own)
    kind = origin if as_made else _altered(origin, makes_wrappers)
    object.__setattr__(layer, "__class__", kind)


@functools.cache
def _altered(origin: Any, makes_wrappers: bool) -> type[keras.Layer]:
    # By this name Keras finds `Altered` when it loads a file.
    name = keras.saving.get_registered_name(Altered)
    known = {
        "origin": origin,
        "makes_wrappers": makes_wrappers,
        "__module__": Altered.__module__,
        "__qualname__": origin.__qualname__,
        "__doc__": origin.__doc__,
    }
    return type(name, (Altered, origin), known)


def _places(root: keras.Layer, prefix: str = "") -> dict[str, keras.Layer]:
    """The layers that can be replaced, by where they are, such as `encoder/0/head`.

    In a graph by number: names that Keras counts up are others in every instance.
    """
    graph = rebuild.possible(root)
    held = held_in(beside_graph(root)) if graph else slots(root)
    if graph:
        held = {str(n): x for n, x in enumerate(root.layers)} | held
    entered = rebuild.possible if graph else in_place.entered
    found: dict[str, keras.Layer] = {}
    for name, layer in held.items():
        place = f"{prefix}{name}"
        if entered(layer):
            found |= _places(layer, f"{place}/")
        else:
            found[place] = layer
    return found


def _arguments(wrapper: PDPWrapper) -> dict[str, Any]:
    return {k: v for k, v in wrapper.get_config().items() if k != "layer"}

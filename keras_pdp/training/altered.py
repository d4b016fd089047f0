"""Models whose layers were replaced although their class makes them itself.

`Net(...)` makes its own layers, so a wrapped `Net` can't be told by the configuration
of `Net` alone. It becomes a subclass of `Net`, which behaves as `Net` in everything and
adds to the configuration which layers are wrapped, and how. So it is saved and loaded
like any model. Where the layers are again those that `Net` makes, it is a `Net` again.
"""

import functools
from typing import Any

import keras
from keras import ops

from keras_pdp.training import copies, in_place, rebuild, tree
from keras_pdp.training.compiled import read
from keras_pdp.training.in_place import Surgery, bare
from keras_pdp.training.rebuild import Made, Replace
from keras_pdp.training.slots import attributes, slots
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


# What two models must not share, besides layers.
_STATES = (
    keras.Variable,
    keras.random.SeedGenerator,
    keras.metrics.Metric,
    keras.optimizers.Optimizer,
)


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
) -> None:
    """Turns a plain functional model into one of the class of `model`, in place."""
    own = set(vars(plain))
    origin = _origin(type(model))
    _become(plain, origin, _makes_wrappers(model))
    plain.dtype_policy = model.dtype_policy
    made[id(model)] = (model, plain)
    states: dict[int, Any] = {}

    def mapped(value: Any) -> Any:
        if isinstance(value, keras.Layer):
            if id(value) not in made:
                made[id(value)] = (value, _beside(value, replace, made))
            return made[id(value)][1]
        if isinstance(value, _STATES):
            if id(value) not in states:
                states[id(value)] = _copy_of_state(value)
            return states[id(value)]
        if isinstance(value, dict):
            return {key: mapped(item) for key, item in value.items()}
        if isinstance(value, list):
            return [mapped(item) for item in value]
        return tuple(map(mapped, value)) if type(value) is tuple else value

    for name, value in attributes(model):
        # The History of a `fit` knows its model.
        if name not in own and not isinstance(value, keras.callbacks.Callback):
            setattr(plain, name, mapped(value))
    counts = [len(in_place.own_variables(each)) for each in (model, plain)]
    if counts[0] != counts[1]:
        raise ValueError(
            f"No faithful copy of '{model.name}' (a {type(model).__name__}) can be "
            f"made: it has {counts[0]} variables of its own, of which {counts[1]} are "
            "in its attributes, lists and dictionaries. Keep all of them there, or use "
            "PDPWrapper(layer) in its definition."
        )


def _transfer(old: keras.Layer, new: keras.Layer) -> None:
    block = not isinstance(old, PDPWrapper) and _has_wrappers(old)
    if block and not _has_wrappers(new):
        return  # it was altered itself, and has its weights
    copies.copy_state(old, new)


def _copy_of_state(state: Any) -> Any:
    if isinstance(state, keras.Variable):
        return keras.Variable(
            ops.copy(read(state)),
            trainable=state.trainable,
            dtype=state.dtype,
            name=state.name,
        )
    copy = type(state).from_config(state.get_config())
    if isinstance(state, keras.random.SeedGenerator):
        copy.state.assign(ops.copy(read(state.state)))
    return copy


def _beside(layer: keras.Layer, replace: Replace, made: Made) -> keras.Layer:
    """The new layer for one that is held beside the graph."""
    if rebuild.possible(layer):
        # Such as the way to an inner layer, which it shares with the graph.
        return rebuild.graph_of(layer, replace, made, dress=_dress)
    new = replace(layer)
    config = bare(layer).get_build_config()
    if layer.built and not new.built and config is not None:
        wraps = isinstance(new, PDPWrapper)
        new.build_from_config({"layer": config} if wraps else config)
    return new


def _config(origin: type[keras.Layer], layer: keras.Layer) -> dict[str, Any]:
    """The layer's configuration as a member of the class, for the constructor."""
    return copies.for_constructor(origin, origin.get_config(layer))


def _makes_wrappers(model: keras.Layer) -> bool:
    if isinstance(model, Altered):
        return model.makes_wrappers
    return _has_wrappers(model)


def _has_wrappers(layer: keras.Layer) -> bool:
    return any(isinstance(inner, PDPWrapper) for _, inner in tree.walk(layer))


def _origin(kind: Any) -> Any:
    return kind.origin if issubclass(kind, Altered) else kind


def _become(layer: keras.Layer, origin: Any, makes_wrappers: bool) -> None:
    """Makes it an instance of the class, or of its altered subclass where needed."""
    as_made = not makes_wrappers and not _has_wrappers(layer)
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
    held = {str(n): x for n, x in enumerate(root.layers)} if graph else slots(root)
    found: dict[str, keras.Layer] = {}
    for name, layer in held.items():
        place = f"{prefix}{name}"
        if in_place.entered(layer):
            found |= _places(layer, f"{place}/")
        else:
            found[place] = layer
    return found


def _arguments(wrapper: PDPWrapper) -> dict[str, Any]:
    return {k: v for k, v in wrapper.get_config().items() if k != "layer"}

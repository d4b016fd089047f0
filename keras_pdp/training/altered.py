"""Models whose layers were replaced although their class makes them itself.

`Net(...)` makes its own layers, so a wrapped `Net` can't be told by the configuration
of `Net` alone. It becomes a subclass of `Net`, which behaves as `Net` in everything and
adds to the configuration which layers are wrapped, and how. So it is saved and loaded
like any model. Where the layers are again those that `Net` makes, it is a `Net` again.
"""

import functools
import inspect
from typing import Any

import keras

from keras_pdp.training import in_place, rebuild, tree
from keras_pdp.training.in_place import Surgery, bare
from keras_pdp.training.rebuild import Made, Replace
from keras_pdp.training.slots import slots
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
                return rebuild.copy_of(bare(layer))
            inner = rebuild.copy_of(bare(layer), name=wanted["name"])
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

    def mapped(value: Any) -> Any:
        if isinstance(value, keras.Layer):
            if id(value) not in made:
                made[id(value)] = (value, _beside(value, replace))
            return made[id(value)][1]
        if isinstance(value, keras.metrics.Metric):
            return type(value).from_config(value.get_config())
        if isinstance(value, dict):
            return {key: mapped(item) for key, item in value.items()}
        if isinstance(value, list):
            return [mapped(item) for item in value]
        return tuple(map(mapped, value)) if type(value) is tuple else value

    for name, value in vars(model).items():
        if name not in own:
            setattr(plain, name, mapped(value))


def _transfer(old: keras.Layer, new: keras.Layer) -> None:
    block = not isinstance(old, PDPWrapper) and _has_wrappers(old)
    if block and not _has_wrappers(new):
        return  # it was altered itself, and has its weights
    rebuild.copy_weights(old, new)


def _beside(layer: keras.Layer, replace: Replace) -> keras.Layer:
    """The new layer for one that is held beside the graph."""
    new = replace(layer)
    config = bare(layer).get_build_config()
    if layer.built and not new.built and config is not None:
        wraps = isinstance(new, PDPWrapper)
        new.build_from_config({"layer": config} if wraps else config)
    return new


def _config(origin: type[keras.Layer], layer: keras.Layer) -> dict[str, Any]:
    """The layer's configuration as a member of the class, for the constructor."""
    config: dict[str, Any] = origin.get_config(layer)
    accepted = inspect.signature(origin.__init__).parameters
    if any(p.kind is p.VAR_KEYWORD for p in accepted.values()):
        return config
    # Keras gives these even where the constructor takes none of them.
    return {
        key: value
        for key, value in config.items()
        if key in accepted or key not in ("name", "trainable", "dtype")
    }


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
    """The layers that can be replaced, by where they are, such as `encoder/0/dense`."""
    graph = rebuild.possible(root)
    held = {x.name: x for x in root.layers} if graph else slots(root)
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

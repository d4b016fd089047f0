"""Second instances of layers: made from the configuration, given all that it omits."""

import inspect
import tempfile
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_pdp.training import activations, tree
from keras_pdp.training.attributes import attributes, of_keras
from keras_pdp.training.compiled import number, read
from keras_pdp.training.wrapper import PDPWrapper

Transfer = Callable[[keras.Layer, keras.Layer], None]

_WITH_TABLES = (
    keras.layers.IntegerLookup,
    keras.layers.StringLookup,
    keras.layers.TextVectorization,
)

SEED_STATE = "seed_generator_state"

# What Keras puts into every configuration, even where the constructor takes none of it.
_COMMON = ("name", "trainable", "dtype")


def copy_of(layer: keras.Layer, /, **changed: Any) -> keras.Layer:
    """A new layer of the same configuration and name, but for what is to change.

    Raises:
        ValueError: If its class does not tell its configuration.
    """
    config = {**config_of(layer), **changed}
    accepted = inspect.signature(type(layer).__init__).parameters
    if "name" in accepted or _takes_rest(type(layer)):
        # Keras leaves it out for a class without `get_config`.
        config.setdefault("name", layer.name)
    if isinstance(layer, keras.layers.Lambda):
        return _copy_of_lambda(layer, config)
    # By its name a function may not be found, or another one that has it.
    lost = list(activations.lost(layer))
    config = activations.without_lambdas(config) | {
        n: "linear" for n in lost if n in config
    }
    known = for_constructor(type(layer), config)
    try:
        copy = type(layer).from_config(known)
    except TypeError:
        named = _named_arguments(type(layer))
        if set(known) <= named:
            raise
        # Some classes tell in their configuration what they computed from the rest.
        rest = {k: v for k, v in known.items() if k in named}
        copy = type(layer).from_config(rest)
    if "name" not in known:
        copy.name = config.get("name", layer.name)
    if "dtype" in config and "dtype" not in known:
        copy.dtype_policy = keras.dtype_policies.get(config["dtype"])
    for name in lost:
        if name in config:
            setattr(copy, name, getattr(layer, name))
    activations.give(layer, copy)
    return copy


def config_of(layer: keras.Layer) -> dict[str, Any]:
    """The configuration, or a ValueError that says that there is none."""
    try:
        config: dict[str, Any] = layer.get_config()
    except NotImplementedError as error:
        raise ValueError(
            f"No copy of '{layer.name}' (a {type(layer).__name__}) can be made, "
            "because it, or a layer in it, does not tell its configuration: define "
            f"get_config(). Keras said: {error}"
        ) from error
    return config


def for_constructor(kind: type[Any], config: dict[str, Any]) -> dict[str, Any]:
    """A configuration without what Keras adds and the constructor does not take."""
    if _takes_rest(kind):
        return config
    accepted = inspect.signature(kind.__init__).parameters
    return {k: v for k, v in config.items() if k in accepted or k not in _COMMON}


def carry_over(
    leaves: list[tuple[keras.Layer, keras.Layer]], transfer: Transfer | None = None
) -> None:
    """Gives new layers what the old ones have got since they were made.

    Args:
        leaves: Old layers with their new ones, both built.
        transfer: Copies the weights. Defaults to `copy_state`.
    """
    for old, new in leaves:
        _copy_frozen(old, new)
        (transfer or copy_state)(old, new)
        _copy_tables(old, new)
    _warn_untied(leaves)


def copy_state(old: keras.Layer, new: keras.Layer) -> None:
    """Copies variables and settings; from a wrapper to a plain layer, kernels pruned.

    Only between layers of the same configuration.
    """
    strips = isinstance(old, PDPWrapper) and not isinstance(new, PDPWrapper)
    wraps = isinstance(new, PDPWrapper) and not isinstance(old, PDPWrapper)
    values = {id(v): read(v) for v in old.variables}
    if strips:
        for kernel in old.gated:
            values |= kernel.stripped(values, number(old.frozen))
    source = old.layer.variables if strips else old.variables
    target = new.layer.variables if wraps else new.variables
    for variable, to in _paired(old, source, target):
        # A copy: some backends would share the tensor between the two models.
        to.assign(ops.copy(values[id(variable)]))
        copy_options(variable, to)
    for one, other in _inside(old, new):
        if not of_keras(type(one)):
            copy_settings(one, other)


def _paired(
    layer: keras.Layer, source: list[keras.Variable], target: list[keras.Variable]
) -> Iterable[tuple[keras.Variable, keras.Variable]]:
    if len(source) != len(target):
        # A dropout whose rate has been set to 0 since has no use for a seed.
        source, target = (
            [v for v in each if v.name != SEED_STATE] for each in (source, target)
        )
    if len(source) != len(target):
        raise ValueError(
            f"No faithful copy of '{layer.name}' (a {type(layer).__name__}) can be "
            f"made: it has {len(source)} variables, and made again from its "
            f"configuration {len(target)}. Was an attribute changed after it was built?"
        )
    return zip(source, target, strict=True)


def copy_options(old: keras.Variable, new: keras.Variable) -> None:
    """What has been set on a variable itself: nothing else has an effect once built."""
    if new.trainable != old.trainable:
        new.trainable = old.trainable
    for name in ("regularizer", "constraint"):
        value = getattr(old, name, None)
        if value is not None or getattr(new, name, None) is not None:
            setattr(new, name, value)


def copy_data(old: keras.Layer, new: keras.Layer, known: set[str]) -> None:
    """The data that a user has put into attributes, which are none of the known."""
    for name, value in attributes(old):
        if name not in known and name[0] != "_" and _is_data(value):
            setattr(new, name, _own_copy(value))


def copy_settings(old: keras.Layer, new: keras.Layer) -> None:
    """The data in a layer's attributes, which may have been set after it was made."""
    for name, value in attributes(old):
        if _is_data(value):
            setattr(new, name, _own_copy(value))


def is_plain(value: Any) -> bool:
    """Whether it is a number, a string, or the like: nothing that holds anything."""
    return isinstance(value, bool | int | float | complex | str | bytes | None)


def _is_data(value: Any) -> bool:
    if isinstance(value, dict):
        return all(is_plain(k) and _is_data(v) for k, v in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return all(_is_data(each) for each in value)
    return is_plain(value) or isinstance(value, np.ndarray | np.generic)


def _own_copy(data: Any) -> Any:
    """A copy that does not change with the original, in plain containers."""
    if isinstance(data, dict):
        return {key: _own_copy(value) for key, value in data.items()}
    if isinstance(data, list | set):
        kind = list if isinstance(data, list) else set
        return kind(map(_own_copy, data))
    return data.copy() if isinstance(data, np.ndarray) else data


def _inside(
    old: keras.Layer, new: keras.Layer
) -> Iterable[tuple[keras.Layer, keras.Layer]]:
    """The layers in two of the same configuration side by side, without wrappers."""
    inner = [
        [x for _, x in tree.walk(layer) if not isinstance(x, PDPWrapper)]
        for layer in (old, new)
    ]
    return zip(*inner, strict=True)


def _takes_rest(kind: type[Any]) -> bool:
    parameters = inspect.signature(kind.__init__).parameters.values()
    return any(p.kind is p.VAR_KEYWORD for p in parameters)


def _named_arguments(kind: type[keras.Layer]) -> set[str]:
    """What the constructors of a class and of its parents take by name."""
    constructors = [vars(x)["__init__"] for x in kind.__mro__ if "__init__" in vars(x)]
    return {
        name for each in constructors for name in inspect.signature(each).parameters
    }


def _copy_of_lambda(layer: keras.Layer, config: dict[str, Any]) -> keras.Layer:
    # Its code is in memory, not in a file: nothing is unpacked, the function is taken.
    function = keras.saving.serialize_keras_object(keras.activations.linear)
    copy = type(layer).from_config({**config, "function": function}, safe_mode=False)
    copy.function = layer.function
    return copy


def _copy_frozen(old: keras.Layer, new: keras.Layer) -> None:
    """Which layers are frozen, inside of composite ones as well."""
    for source, target in _inside(old, new):
        # It sets all that is inside as well, which comes later here.
        if target.trainable != source.trainable:
            target.trainable = source.trainable


def _copy_tables(old: keras.Layer, new: keras.Layer) -> None:
    """What layers keep beside their variables: vocabularies, finished statistics."""
    for source, target in _inside(old, new):
        if isinstance(source, _WITH_TABLES):
            with tempfile.TemporaryDirectory() as folder:
                source.save_assets(folder)
                target.load_assets(folder)
        if isinstance(target, keras.layers.Normalization):
            target.finalize_state()


def _warn_untied(pairs: Iterable[tuple[keras.Layer, keras.Layer]]) -> None:
    """Names the layers that shared a variable and no longer do."""
    owners: dict[int, tuple[keras.Layer, int]] = {}
    for old, new in pairs:
        source = old.layer if isinstance(old, PDPWrapper) else old
        target = new.layer if isinstance(new, PDPWrapper) else new
        # A shrunk layer may have got a bias at the end.
        for variable, to in zip(source.variables, target.variables, strict=False):
            first, copy = owners.setdefault(id(variable), (old, id(to)))
            if copy != id(to):
                warnings.warn(
                    f"'{first.name}' and '{old.name}' share '{variable.path}'; in the "
                    "new model each has its own, with the same values. Tie them by "
                    "calling one layer twice, or wrap them in the definition.",
                    stacklevel=5,
                )

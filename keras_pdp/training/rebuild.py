"""Rebuilds a model with other layers in the places of its own.

The model's configuration is read, each layer's entry is replaced by a reference to a
new layer, and Keras builds the model from that. So the graph, its inputs, the order of
calls to a shared layer and every option that Keras knows stay as they were, which
`keras.models.clone_model` does not keep (it renames inputs and reorders calls).
"""

import functools
import inspect
import tempfile
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import keras
from keras import ops

from keras_pdp.training import tree
from keras_pdp.training.compiled import number, read
from keras_pdp.training.wrapper import PDPWrapper

Replace = Callable[[keras.Layer], keras.Layer]
Transfer = Callable[[keras.Layer, keras.Layer], None]
Describe = Callable[[keras.Model, dict[str, Any]], dict[str, Any]]
Enter = Callable[[keras.Layer], bool]
# Old layers with their new ones, by the ids of the old.
Made = dict[int, tuple[keras.Layer, keras.Layer]]
Dress = Callable[[keras.Model, keras.Model, Replace, Made], None]

_WITH_TABLES = (
    keras.layers.IntegerLookup,
    keras.layers.StringLookup,
    keras.layers.TextVectorization,
)

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
            copying them, pruned where a wrapper is left out.
        describe: Changes the configuration of a model, also of nested ones. Defaults
            to leaving it as it is.
        enter: Whether a nested layer is a model to rebuild, rather than a layer to
            replace. Defaults to all that are `possible`.
        dress: Makes the plain functional model that takes the place of one whose
            class has a constructor of its own into one of that class, in place.
            Defaults to refusing such models.

    Returns:
        A new model of the same class, compiled as the old one is.
    """
    made: Made = {}
    with classes_of(model):
        result = graph_of(model, replace, made, describe, enter, dress)
    leaves = [pair for pair in made.values() if not enter(pair[0])]
    carry_over(leaves, transfer or copy_weights)
    copy_compile(model, result)
    return result


def classes_of(model: keras.Layer) -> Any:
    """A scope in which Keras knows the classes that the user did not register."""
    # Keras's own stay out: keras.ops has functions of the same names (Add, Multiply).
    kinds = {type(layer) for _, layer in tree.walk(model)}
    own = {kind.__name__: kind for kind in kinds if not _of_keras(kind)}
    return keras.saving.custom_object_scope(own)


def carry_over(
    leaves: list[tuple[keras.Layer, keras.Layer]], transfer: Transfer | None = None
) -> None:
    """Gives new layers the weights, vocabularies and statistics of the old ones."""
    for old, new in leaves:
        (transfer or copy_weights)(old, new)
        _copy_tables(old, new)
    _warn_untied(leaves)


def _of_keras(kind: type) -> bool:
    return kind.__module__.split(".")[0] == "keras"


def copy_of(layer: keras.Layer, /, **changed: Any) -> keras.Layer:
    """A new layer of the same configuration and name, but for what is to change."""
    config = {**layer.get_config(), **changed}
    accepted = inspect.signature(type(layer).__init__).parameters
    takes_rest = any(p.kind is p.VAR_KEYWORD for p in accepted.values())
    if "name" in accepted or takes_rest:
        # Keras leaves it out for a class without `get_config`.
        config.setdefault("name", layer.name)
    if isinstance(layer, keras.layers.Lambda):
        return _copy_of_lambda(layer, config)
    activation = getattr(layer, "activation", None)
    if getattr(activation, "__name__", "") == "<lambda>":
        copy = type(layer).from_config({**config, "activation": "linear"})
        copy.activation = activation
        return copy
    try:
        return type(layer).from_config(config)
    except TypeError:
        named = _named_arguments(type(layer))
        if set(config) <= named:
            raise
    # Some classes tell in their configuration what they computed from the rest.
    return type(layer).from_config({k: v for k, v in config.items() if k in named})


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


def own_constructor(model: keras.Model) -> bool:
    """Whether a graph model's class makes its layers from arguments of its own.

    Keras can't give such a class other layers, whatever its configuration says.
    """
    if type(model) in (keras.Sequential, type(_a_functional_model())):
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
    except NotImplementedError:
        return True


@functools.cache
def _a_functional_model() -> keras.Model:
    inputs = keras.Input((1,))
    return keras.Model(inputs, keras.layers.Identity()(inputs))


def graph_of(
    model: keras.Model,
    replace: Replace,
    made: Made,
    describe: Describe = lambda model, config: config,
    enter: Enter = possible,
    dress: Dress | None = None,
) -> keras.Model:
    """As `rebuilt`, but without the weights; the pairs of layers go into `made`."""
    if own_constructor(model):
        if dress is None or isinstance(model, keras.Sequential):
            raise ValueError(
                f"'{model.name}' is a {type(model).__name__}, a model with a "
                "constructor and configuration of its own, in which layers can't be "
                "replaced. Use PDPWrapper(layer) in its definition, or a plain "
                "keras.Model(model.input, model.output) in its place."
            )
        graph = keras.Model(model.input, model.output, name=model.name)
        plain = graph_of(graph, replace, made, describe, enter, dress)
        dress(model, plain, replace, made)
        return plain
    config = describe(model, model.get_config())
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
    custom = {_REFERENCE: Reference}
    result = type(model).from_config(config, custom_objects=custom)
    if not model.trainable:
        result.trainable = False
    return result


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


def copy_weights(old: keras.Layer, new: keras.Layer) -> None:
    """Copies variables; from a wrapper to a plain layer, the kernels pruned."""
    strips = isinstance(old, PDPWrapper) and not isinstance(new, PDPWrapper)
    wraps = isinstance(new, PDPWrapper) and not isinstance(old, PDPWrapper)
    values = {id(v): read(v) for v in old.variables}
    if strips:
        for kernel in old.gated:
            values |= kernel.stripped(values, number(old.frozen))
    source = old.layer.variables if strips else old.variables
    target = new.layer.variables if wraps else new.variables
    for variable, to in zip(source, target, strict=True):
        # A copy: some backends would share the tensor between the two models.
        to.assign(ops.copy(values[id(variable)]))


def _copy_tables(old: keras.Layer, new: keras.Layer) -> None:
    """What layers keep beside their variables: vocabularies, finished statistics."""
    inner = [
        [x for _, x in tree.walk(layer) if not isinstance(x, PDPWrapper)]
        for layer in (old, new)
    ]
    for source, target in zip(*inner, strict=True):
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

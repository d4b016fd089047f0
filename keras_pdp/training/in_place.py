"""Copies a subclassed model, or a layer of layers, with other layers in its slots.

Its `call` is code, which nobody can rewrite; but that code finds its layers through the
owner's attributes. So the class makes a second instance from the configuration of the
first, the layers in its attributes are replaced before it is built, and it is built for
the shapes of the first. Where that would not give the same model, it is refused.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import NoReturn

import keras
from keras import ops

from keras_pdp.training import copies, rebuild, tree, trial
from keras_pdp.training.attributes import attributes
from keras_pdp.training.compiled import read
from keras_pdp.training.rebuild import Dress, Made, Replace
from keras_pdp.training.slots import out_of_reach, put, retire, slots
from keras_pdp.training.trial import Inputs
from keras_pdp.training.wrapper import PDPWrapper

Fresh = Callable[[keras.Layer], keras.Layer]


@dataclasses.dataclass(frozen=True)
class Surgery:
    """How layers are replaced.

    Args:
        replace: Gives the new layer for an old one.
        fresh: Gives a second instance of a layer's class, of the same configuration.
        dress: As for `rebuild.rebuilt`.
    """

    replace: Replace
    fresh: Fresh
    dress: Dress


def copied(model: keras.Layer, surgery: Surgery) -> keras.Layer:
    """A copy with every layer replaced, and the weights of the old ones.

    Args:
        model: A built subclassed model or a layer that holds layers.
        surgery: How.

    Returns:
        A new layer of the class that `surgery.fresh` gives, compiled as the old one.

    Raises:
        ValueError: If no copy can be made that is surely the same.
    """
    made: Made = {}
    with rebuild.classes_of(model):
        copy = _fresh(model, surgery)
        owners = list(_filled(model, copy, surgery, made))
        inputs = _build_like(model, copy, made)
    _check_complete(copy)
    for old, new in owners:
        _copy_own(old, new)
        # Only now: building may have added to a list.
        copies.copy_settings(old, new)
    leaves = [pair for pair in made.values() if not rebuild.possible(pair[0])]
    for old, new in leaves:
        _check_same_weights(old, new)
    copies.carry_over(leaves)
    _check_same_outputs(model, copy, inputs)
    if isinstance(model, keras.Model):
        rebuild.copy_compile(model, copy)
    return copy


def filled(copy: keras.Layer, surgery: Surgery) -> keras.Layer:
    """A layer that is not built yet, with every layer in it replaced by another."""
    list(_filled(copy, copy, surgery, {}))
    return copy


def entered(layer: keras.Layer) -> bool:
    """Whether it is what is inside a layer that is replaced, rather than the layer."""
    if isinstance(layer, PDPWrapper):
        return False
    return isinstance(layer, keras.Model) or any(
        isinstance(inner, PDPWrapper) for _, inner in tree.walk(layer)
    )


def bare(layer: keras.Layer) -> keras.Layer:
    """The layer without its wrapper."""
    return layer.layer if isinstance(layer, PDPWrapper) else layer


def _fresh(model: keras.Layer, surgery: Surgery) -> keras.Layer:
    try:
        copy = surgery.fresh(model)
    except Exception as error:  # whatever the class's own code raises
        _refuse(
            model,
            "it can't be made again from its configuration; define get_config() and, "
            "where the constructor takes more than plain values, from_config(). Keras "
            f"said: {error}",
            error,
        )
    copy.name = model.name  # a constructor without `name` counts it up
    return copy


def _filled(
    old: keras.Layer, new: keras.Layer, surgery: Surgery, made: Made
) -> Iterator[tuple[keras.Layer, keras.Layer]]:
    """Fills the slots of a copy; yields the owners of slots, old and new."""
    theirs, ours = slots(old), slots(new)
    for layer in out_of_reach(old):
        if layer.variables:
            _refuse(old, f"'{layer.name}' is held where it can't be replaced")
    if list(theirs) != list(ours):
        _refuse(
            old,
            "made again from its configuration it holds other layers: "
            f"{sorted(set(theirs) ^ set(ours)) or list(ours)}. Make all of them in the "
            "constructor, from what get_config() tells",
        )
    swap = {}
    for place, layer in theirs.items():
        mine = ours[place]
        # The old one may be of an altered subclass, which behaves as its class.
        if not isinstance(bare(layer), type(bare(mine))):
            _refuse(old, f"made again it has a {type(mine).__name__} at '{place}'")
        if id(layer) in made:
            swap[id(mine)] = made[id(layer)][1]
        elif entered(layer) and not rebuild.possible(layer):
            yield from _filled(layer, mine, surgery, made)
        else:
            swap[id(mine)] = _new(layer, mine, surgery, made)
            if swap[id(mine)] is not mine:
                retire(bare(mine), old, place)
    if any(id(mine) in swap and swap[id(mine)] is not mine for mine in ours.values()):
        try:
            put(new, swap)
        except ValueError as error:
            _refuse(old, f"it is built in its constructor ({error})", error)
    _copy_settings(old, new)
    yield old, new


def _new(
    layer: keras.Layer, mine: keras.Layer, surgery: Surgery, made: Made
) -> keras.Layer:
    """The new layer for an old one; the copy's own one where it is as good."""
    if rebuild.possible(layer):
        new: keras.Layer = rebuild.graph_of(
            layer, surgery.replace, made, dress=surgery.dress
        )
    else:
        new = surgery.replace(layer)
        plain = not any(isinstance(x, PDPWrapper) for x in (layer, mine, new))
        if plain and _same_settings(layer, mine):
            mine.name = layer.name
            new = mine
    made[id(layer)] = (layer, new)
    return new


def _same_settings(one: keras.Layer, other: keras.Layer) -> bool:
    try:
        settings = [
            # As Keras writes them: arrays have no truth when they are compared.
            keras.saving.serialize_keras_object({**layer.get_config(), "name": ""})
            for layer in (one, other)
        ]
    except (OSError, TypeError, ValueError):  # what it can't write
        return False
    return bool(settings[0] == settings[1])


def _copy_settings(old: keras.Layer, new: keras.Layer) -> None:
    """The plain values of an owner, which its building may read."""
    new.name = old.name
    if new.dtype_policy != old.dtype_policy:
        new.dtype_policy = old.dtype_policy
    for name, value in attributes(old):
        if copies.is_plain(value):
            setattr(new, name, value)


def _build_like(model: keras.Layer, copy: keras.Layer, made: Made) -> Inputs | None:
    """Builds a copy for the shapes of its model; gives inputs on which it runs."""
    inputs = None
    for old, new in made.values():
        # It makes constants, which would belong to the trial's graph if made there.
        if isinstance(new, keras.layers.Normalization) and old.built:
            _build_leaf(old, new)
    if type(model).call not in (keras.Model.call, keras.Layer.call):
        inputs = _run_like(model, copy)
    for old, new in made.values():
        # What only a training step calls.
        if old.built and not new.built:
            _build_leaf(old, new)
    return inputs


def _run_like(model: keras.Layer, copy: keras.Layer) -> Inputs | None:
    for dtype in trial.DTYPES:
        inputs = trial.inputs_of(model, dtype)
        missing = trial.missing(model, inputs) if inputs else []
        if missing:
            _refuse(
                model,
                f"its `call` needs {missing} too, of which Keras keeps no shapes: let "
                "it take all inputs as one list or dictionary, or define build() with "
                "a shape for each",
            )
        try:
            if inputs:
                trial.run_on_shapes(copy, inputs)
            return inputs
        except Exception as error:  # whatever the model's own code raises
            failure = error
    return _refuse(
        model,
        f"its copy does not run on inputs of the shapes {model.get_build_config()}: "
        f"{failure} (Code that reads a layer's own attributes, such as "
        "`self.dense.kernel`, can't see the mask: leave that layer out by `select`.)",
        failure,
    )


def _check_same_outputs(
    model: keras.Layer, copy: keras.Layer, inputs: Inputs | None
) -> None:
    if inputs is not None and trial.differs(model, copy, inputs):
        _refuse(
            model,
            "its copy computes other outputs. Code that asks for the class of a "
            "layer, with isinstance, finds a PDPWrapper: leave that layer out by "
            "`select`. A function that was set in an attribute should be an argument "
            "that get_config() tells",
        )


def _build_leaf(old: keras.Layer, new: keras.Layer) -> None:
    config = bare(old).get_build_config()
    if config is None:
        _refuse(old, "its shapes are not known; call it in the model's `call`")
    new.build_from_config({"layer": config} if isinstance(new, PDPWrapper) else config)


def _check_complete(copy: keras.Layer) -> None:
    for _, layer in tree.walk(copy):
        if "call" in vars(layer):
            _refuse(copy, f"'{layer.name}' is held where it can't be replaced")


def _check_same_weights(old: keras.Layer, new: keras.Layer) -> None:
    shapes = [
        # A dropout that has been turned off since has no seed in its copy.
        [(tuple(v.shape), v.dtype) for v in variables if v.name != copies.SEED_STATE]
        for variables in (bare(old).variables, bare(new).variables)
    ]
    if shapes[0] != shapes[1]:
        _refuse(old, f"its copy has weights of {shapes[1]} rather than {shapes[0]}")


def _copy_own(old: keras.Layer, new: keras.Layer) -> None:
    """The variables of an owner itself, and which layers are frozen."""
    ours, theirs = own_variables(old), own_variables(new)
    shapes = [[tuple(v.shape) for v in each] for each in (ours, theirs)]
    if shapes[0] != shapes[1]:
        _refuse(old, f"its copy has weights of {shapes[1]} rather than {shapes[0]}")
    for variable, to in zip(ours, theirs, strict=True):
        to.assign(ops.copy(read(variable)))
        copies.copy_options(variable, to)
    if new.trainable != old.trainable:
        flags = [(layer, layer.trainable) for _, layer in tree.walk(new)][1:]
        new.trainable = old.trainable
        for layer, flag in flags:
            layer.trainable = flag


def own_variables(owner: keras.Layer) -> list[keras.Variable]:
    """The variables of an owner that belong to no layer in it."""
    inside = {id(v) for layer in tree.children(owner) for v in layer.variables}
    return [v for v in owner.variables if id(v) not in inside]


def _refuse(model: keras.Layer, why: str, cause: Exception | None = None) -> NoReturn:
    # Not its `__name__`, which in an altered class is the one for the file.
    kind = type(model).__qualname__.split(".")[-1]
    raise ValueError(
        f"No faithful copy of '{model.name}' (a {kind}) can be made: "
        f"{why}. Use PDPWrapper(layer) in its definition, or build it as a functional "
        "model."
    ) from cause

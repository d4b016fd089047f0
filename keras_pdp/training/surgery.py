"""Model in, model out: wrap the layers of a model, find the wrappers, strip them."""

import warnings
from collections.abc import Callable
from typing import Any

import keras

from keras_pdp.sparsity import granularity as granularities
from keras_pdp.sparsity import temperature as temperatures
from keras_pdp.sparsity.granularity import Channel, Granularity, Unstructured
from keras_pdp.sparsity.temperature import Temperature
from keras_pdp.training import copies, prunable, tree
from keras_pdp.training.altered import alter
from keras_pdp.training.compiled import number
from keras_pdp.training.coupling import scales_along
from keras_pdp.training.prunable import PrunableWeight, Skipped
from keras_pdp.training.pruned_channels import prunes_outputs
from keras_pdp.training.pruned_kernel import PrunedKernel
from keras_pdp.training.wrapper import PDPWrapper

Select = Callable[[keras.Layer], bool | Granularity | None]


def wrap(
    model: keras.Model,
    granularity: Granularity | None = None,
    *,
    temperature: Temperature | None = None,
    select: Select | None = None,
    strict: bool = False,
) -> keras.Model:
    """A copy of the model in which every layer with kernels is in a `PDPWrapper`.

    Sequential and functional models, nested to any depth, with shared layers, several
    inputs and outputs and `keras.ops` in the graph. The argument is left as it was;
    its weights are copied, its compile settings kept, layer names stay, and the copy's
    outputs are equal to the bit. A subclassed model is made again from its
    configuration, and the layers in its attributes (also in lists and dictionaries)
    are replaced; where that would not surely give the same model, it is refused with
    the reason. The copy is of the model's class, with its methods.

    Embeddings are left as they are, unless `select` accepts them; by `NofM` depthwise
    kernels as well, because a pattern is for hardware that multiplies matrices.

    Layers that a functional model's class holds beside its graph are wrapped as well; a
    teacher, for example, is to be left out by `select`.

    Layers without kernels pass through, wrappers are not wrapped again. With
    `Channel()` a BatchNormalization along channels that are pruned is wrapped as well,
    to fall silent with them. What has kernels that keras_pdp can't prune is named in
    one warning with its reasons, and later in `sparsity_report`.

    Args:
        model: A built model.
        granularity: What is pruned together. Defaults to `Unstructured()`.
        temperature: How soft the masks are. Defaults to `Calibrated(2.0)`, where
            channels are pruned to `Calibrated(20.0)`.
        select: Called with each layer that has kernels, frozen ones too; answers
            whether to wrap it, or a granularity of its own. False and None leave the
            layer as it is. Defaults to wrapping all but embeddings, and by `NofM`
            depthwise convolutions.
        strict: Raise where something can't be pruned, rather than warn. Defaults to
            False.

    Returns:
        The wrapped model.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If the model is not built, can't be copied faithfully, if nothing
            can be wrapped, or, with `strict`, if a layer can't.

    Example:

    >>> wrapped = wrap(model)

    By channels, for `shrink`; the model's outputs stay whole:

    >>> wrapped = wrap(model, Channel(round_to=8))
    """
    check_model("wrap", model)
    default = Unstructured() if granularity is None else granularity
    granularities.check(default)
    if temperature is not None:
        temperatures.check(temperature)
    if select is not None and not callable(select):
        raise TypeError(f"`select` should be a function. Received: {select!r}.")

    skipped: list[Skipped] = []
    choices: dict[int, Granularity | None] = {}

    def chosen(layer: keras.Layer) -> Granularity | None:
        if id(layer) not in choices:
            found, reasons = prunable.inside(layer, default, asked=select is not None)
            known = found or reasons
            choices[id(layer)] = _choice(select, layer, default) if known else None
        return choices[id(layer)]

    by_channels = select is not None or prunes_outputs(default, axes=2)
    followers = scales_along(model, chosen) if by_channels else set()

    def wrapped(layer: keras.Layer) -> keras.Layer:
        copy = copies.copy_of(layer)
        if named_wrappers(layer):
            return copy  # it, or what is in it, is wrapped already
        if id(layer) in followers:
            return PDPWrapper(copy, Channel(), temperature=temperature)
        if not layer.built and prunable.has_kernels(layer):
            skipped.append(Skipped(layer.name, "it is not built: call it once, before"))
        choice = chosen(layer)
        if choice is None:
            return copy
        found, reasons = prunable.inside(layer, choice, asked=select is not None)
        skipped.extend(_named(layer, reasons))
        if not found:
            return copy
        stuck = _out_of_reach(found, choice)
        skipped.extend(_named(layer, stuck))
        if len(stuck) == len(found):
            return copy
        return PDPWrapper(copy, choice, temperature=temperature)

    result = alter(model, wrapped)
    _report_skipped(skipped, strict)
    if not pruned_layers(result):
        raise ValueError(
            f"`wrap` found no layer to prune in '{model.name}'. It wraps layers with "
            "kernels that `select` accepts; see sparsity_report(model) for the reasons."
        )
    return result


def strip(model: keras.Model) -> keras.Model:
    """A copy of the model without wrappers: the original layers, sparse kernels.

    The pruned weights are exact zeros, by rank, and `evaluate` gives what the wrapped
    model's does (but for a kernel regulariser's term, which then sees the zeros). Works
    at any moment of the training; the argument is left as it was and shares nothing
    with the copy.

    Training the result further does not keep its zeros: finish training first.

    The result is of plain Keras layers alone, and its file is loaded without keras_pdp,
    except where a class of yours makes its layers in a PDPWrapper itself: its
    configuration can't tell that they are gone, so the result is of a subclass that
    does, and `import keras_pdp` comes before loading its file.

    Args:
        model: A model with `PDPWrapper` layers; one without is copied as it is.

    Returns:
        A plain Keras model with the original names and configuration.

    Raises:
        TypeError: If `model` is no Keras 3 model.
        ValueError: If a kernel holds NaN or Inf (the layer is named), if a layer was
            quantized while it was wrapped, or if the model can't be copied faithfully.
    """
    check_model("strip", model)
    wrappers = pruned_layers(model)
    for wrapper in wrappers:
        wrapper.check_kernels()
    kernels = [kernel for wrapper in wrappers for kernel in wrapper.kernels]
    for kernel in kernels:
        kernel.values()  # raises on NaN and Inf before any work is done
    _warn_not_there_yet(model, kernels)

    def stripped(layer: keras.Layer) -> keras.Layer:
        if isinstance(layer, PDPWrapper):
            return copies.copy_of(layer.layer)
        return (
            alter(layer, stripped) if named_wrappers(layer) else copies.copy_of(layer)
        )

    return alter(model, stripped)


def pruned_layers(model: keras.Layer) -> list[PDPWrapper]:
    """Every `PDPWrapper` in a model or layer, nested ones too, in the model's order."""
    return list(named_wrappers(model).values())


def named_wrappers(model: keras.Layer) -> dict[str, PDPWrapper]:
    """The wrappers by name; those of nested models are prefixed, as in `trunk/conv`."""
    if not isinstance(model, keras.Layer):
        raise TypeError(
            "Expected a Keras 3 model or layer. Received: "
            f"{type(model).__module__}.{type(model).__qualname__}."
        )
    return {
        name or layer.name: layer
        for name, layer in tree.walk(model)
        if isinstance(layer, PDPWrapper)
    }


def _warn_not_there_yet(model: keras.Model, kernels: list[PrunedKernel]) -> None:
    now = sum(kernel.removed_by(number(kernel.pruned)) for kernel in kernels)
    ahead = sum(kernel.removed_at_target() for kernel in kernels)
    unset = sum(not kernel.has_target for kernel in kernels)
    if not unset and now >= ahead:
        return
    size = sum(kernel.size for kernel in kernels)
    aim = "has not been pruned yet" if unset else f"is heading for {ahead / size:.2%}"
    warnings.warn(
        f"'{model.name}' is stripped at a sparsity of {now / size:.2%}; it {aim}. If "
        "its training is over, weights from before the end of the ramp were restored "
        "(EarlyStopping, save_best_only): let these callbacks begin after it.",
        stacklevel=3,
    )


def check_model(what: str, model: Any) -> None:
    """Raises unless it is a Keras 3 model, and built."""
    check_kind(what, model)
    if not model.built:
        raise ValueError(
            f"`{what}` needs the shapes of '{model.name}', which is not built: add a "
            "keras.Input, or call the model once on data."
        )


def check_kind(what: str, model: Any) -> None:
    """Raises a TypeError unless it is a Keras 3 model."""
    if isinstance(model, keras.Model):
        return
    name = f"{type(model).__module__}.{type(model).__qualname__}"
    hint = ""
    if "tf_keras" in name or hasattr(model, "_keras_api_names"):
        hint = " It is a legacy Keras 2 model; build it with `import keras`."
    elif isinstance(model, keras.Layer):
        hint = " For a single layer use PDPWrapper(layer)." if what == "wrap" else ""
    raise TypeError(f"`{what}` takes a Keras 3 model. Received: {name}.{hint}")


def _choice(
    select: Select | None, layer: keras.Layer, default: Granularity
) -> Granularity | None:
    answer = True if select is None else select(layer)
    if answer is None or answer is False:
        return None
    if answer is True:
        return default
    if isinstance(answer, Granularity):
        return answer
    raise TypeError(
        "`select` should answer True, False, None or a granularity. "
        f"Received, for layer '{layer.name}': {answer!r}."
    )


def _out_of_reach(
    found: list[PrunableWeight], granularity: Granularity
) -> list[Skipped]:
    """The kernels of which a granularity can remove no unit."""
    shapes = {w.name: w.layout.shape(tuple(w.variable.shape)) for w in found}
    return [
        Skipped(name, f"{granularity} can remove nothing from its shape {shape}")
        for name, shape in shapes.items()
        if granularity.prunable_count(shape) < 1
    ]


def _named(layer: keras.Layer, skipped: list[Skipped]) -> list[Skipped]:
    return [
        Skipped(s.name if s.name == layer.name else f"{layer.name}/{s.name}", s.reason)
        for s in skipped
    ]


def _report_skipped(skipped: list[Skipped], strict: bool) -> None:
    if not skipped:
        return
    reasons = "; ".join(f"{s.name}: {s.reason}" for s in skipped)
    message = f"Not pruned, {len(skipped)} of the model's weights or layers: {reasons}."
    if strict:
        raise ValueError(message + " Pass strict=False to leave them dense.")
    warnings.warn(message, stacklevel=3)

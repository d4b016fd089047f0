"""The weights of a plain model, from a file, into a model that is wrapped."""

import os
from pathlib import Path

import keras
from keras import ops

from keras_pdp.training import copies, tree
from keras_pdp.training.altered import alter
from keras_pdp.training.compiled import read
from keras_pdp.training.surgery import check_model, pruned_layers
from keras_pdp.training.wrapper import PDPWrapper


def load_plain_weights(model: keras.Model, path: str | os.PathLike[str]) -> None:
    """Loads weights saved before wrapping, or without keras_pdp, into a wrapped model.

    `model.load_weights` expects the wrappers' own state in the file as well. This reads
    what `plain_model.save_weights(path)` wrote, for the same layers without wrappers,
    and leaves the state of the pruning at its beginning.

    Args:
        model: A built model with `PDPWrapper` layers, which has not been pruned yet.
        path: A `.weights.h5` or `.keras` file of the model without wrappers.

    Raises:
        TypeError: If `model` is no Keras 3 model, or `path` no path.
        FileNotFoundError: If there is no such file.
        ValueError: If the model is not built, has no wrappers or its pruning has begun,
            or the file is not that of the model without its wrappers.

    Example:

    >>> wrapped = wrap(build_model())
    >>> load_plain_weights(wrapped, "dense.weights.h5")
    """
    check_model("load_plain_weights", model)
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"`path` should be a file's path. Received: {path!r}.")
    wrappers = pruned_layers(model)
    if not wrappers:
        raise ValueError(
            f"'{model.name}' has no PDPWrapper layers: use model.load_weights."
        )
    if any(kernel.has_target for wrapper in wrappers for kernel in wrapper.kernels):
        raise ValueError(
            f"The pruning of '{model.name}' has begun, with targets and temperatures "
            "for the weights it has. Load plain weights before that, into wrap(...) of "
            "a new model."
        )
    if not Path(path).exists():
        raise FileNotFoundError(f"There is no file '{path}'.")
    plain = alter(model, _without_wrapper)
    try:
        plain.load_weights(path)
    except (ValueError, OSError, KeyError) as error:
        raise ValueError(
            f"'{path}' does not hold the weights of '{model.name}' without wrappers. "
            "Where it was saved while wrapped, use model.load_weights. Keras said: "
            f"{error}"
        ) from error
    state = {id(v) for wrapper in wrappers for v in _state_of(wrapper)}
    own = [v for v in model.variables if id(v) not in state]
    for variable, to in zip(plain.variables, own, strict=True):
        to.assign(ops.copy(read(variable)))
    for _, layer in tree.walk(model):
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()  # it computes with numbers made of its weights


def _without_wrapper(layer: keras.Layer) -> keras.Layer:
    return copies.copy_of(layer.layer if isinstance(layer, PDPWrapper) else layer)


def _state_of(wrapper: PDPWrapper) -> list[keras.Variable]:
    inside = {id(v) for v in wrapper.layer.variables}
    return [v for v in wrapper.variables if id(v) not in inside]

"""Runs a copy of a layer on the shapes for which the original was built, and compares.

A class may do what no inspection finds: ask a layer for its class, call a function that
was set from outside. So the outputs of a copy are held against those of the original.
"""

import dataclasses
import inspect
import warnings
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_pdp.training.compiled import read

# What inputs may be of: Keras keeps their shapes alone.
DTYPES = ("float32", "int32")
# The size of an axis of unknown length, such as the time steps.
_UNKNOWN = 32
# At most so many samples: a model may have been called on a whole data set.
_SAMPLES = 2
# Far above rounding in 16 bits, far below what another function gives.
_TOLERANCE = 1e-2


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What a layer is called with: placeholders in structures.

    Args:
        args: By position.
        kwargs: By name.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def inputs_of(layer: keras.Layer, dtype: str) -> Inputs | None:
    """Placeholders of the shapes that a layer was built for; None where it has none."""
    config = layer.get_build_config() or {}
    named = config.get("shapes_dict")
    shapes = config.get("input_shape") if named is None else named
    if shapes is None:
        return None
    made = keras.tree.map_shape_structure(
        lambda shape: keras.KerasTensor(shape, dtype=dtype), shapes
    )
    kwargs = {}
    if named is not None:
        kwargs = {name.removesuffix("_shape"): each for name, each in made.items()}
    training = inspect.signature(layer.call).parameters.get("training")
    if training is not None and training.default is training.empty:
        kwargs["training"] = False
    return Inputs((made,) if named is None else (), kwargs)


def missing(layer: keras.Layer, inputs: Inputs) -> list[str]:
    """The arguments that `call` needs besides."""
    parameters = inspect.signature(layer.call).parameters.values()
    needed = [
        each.name
        for each in parameters
        if each.default is each.empty
        and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    ]
    return [name for name in needed[len(inputs.args) :] if name not in inputs.kwargs]


def run_on_shapes(layer: keras.Layer, inputs: Inputs) -> None:
    """Runs and builds a layer on shapes alone, outside of any graph."""
    with warnings.catch_warnings():
        # Keras warns of what is raised in the line after.
        warnings.filterwarnings("ignore", "Layer '.*' looks like it has")
        _Trial(layer).compute_output_spec(*inputs.args, **inputs.kwargs)


def build_by_running(like: keras.Layer, layer: keras.Layer) -> None:
    """Builds what is inside of a layer by a run on the shapes for which one was built.

    Raises:
        ValueError: If it does not run on them.
    """
    failure: Exception | None = None
    for dtype in DTYPES:
        inputs = inputs_of(like, dtype)
        if inputs is None:
            return
        try:
            run_on_shapes(layer, inputs)
            return
        except Exception as error:  # whatever the layer's own code raises
            failure = error
    raise ValueError(
        f"'{like.name}' (a {type(like).__name__}) can't be built again, as it does not "
        f"run on inputs of the shapes {like.get_build_config()}: {failure}. Define "
        "build() in its class."
    ) from failure


def differs(one: keras.Layer, other: keras.Layer, inputs: Inputs) -> bool:
    """Whether two layers are seen to compute different outputs in evaluation.

    Nothing is seen, and the answer is False with a warning, where the first does not
    run on the sizes that are made up for unknown ones, or gives something else each
    time.
    """
    generator = np.random.default_rng(0)

    def sample(placeholder: Any) -> Any:
        if not isinstance(placeholder, keras.KerasTensor):
            return placeholder
        sizes = [_UNKNOWN if size is None else size for size in placeholder.shape]
        sizes[:1] = [min(size, _SAMPLES) for size in sizes[:1]]
        # Below 1: in integers it is 0, which every table of embeddings has.
        values = generator.uniform(size=sizes).astype(placeholder.dtype)
        return ops.convert_to_tensor(values)

    numbers: Inputs = Inputs(
        *keras.tree.map_structure(sample, (inputs.args, inputs.kwargs))
    )
    try:
        first, again = _outputs(one, numbers), _outputs(one, numbers)
    except Exception as error:  # whatever its own code raises on sizes made up here
        _warn_unseen(one, f"it does not run on the inputs made up for it: {error}")
        return False
    if not _close(first, again):
        _warn_unseen(one, "it gives another output each time")
        return False
    return not _close(first, _outputs(other, numbers))


def _warn_unseen(layer: keras.Layer, why: str) -> None:
    warnings.warn(
        f"The copy of '{layer.name}' was made without being compared with it, as {why}."
        " Compare their outputs on inputs of your own before you train the copy.",
        stacklevel=2,
    )


class _Trial(keras.Operation):
    def __init__(self, layer: keras.Layer) -> None:
        super().__init__()
        self._layer = layer

    def call(self, *args: Any, **kwargs: Any) -> Any:
        return self._layer(*args, **kwargs)


def _outputs(layer: keras.Layer, inputs: Inputs) -> list[np.ndarray]:
    """The outputs, of a layer that stays as it is."""
    outputs = layer.stateless_call(
        [read(v) for v in layer.trainable_variables],
        [read(v) for v in layer.non_trainable_variables],
        *inputs.args,
        **inputs.kwargs,
    )[0]
    tensors = [x for x in keras.tree.flatten(outputs) if ops.is_tensor(x)]
    return [ops.convert_to_numpy(ops.cast(x, "float32")) for x in tensors]


def _close(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return len(one) == len(other) and all(
        a.shape == b.shape and np.allclose(a, b, _TOLERANCE, _margin(a), equal_nan=True)
        for a, b in zip(one, other, strict=True)
    )


def _margin(values: np.ndarray) -> float:
    """What counts as nothing beside the largest of them."""
    sizes = np.abs(values[np.isfinite(values)])
    return _TOLERANCE * float(sizes.max(initial=0.0))

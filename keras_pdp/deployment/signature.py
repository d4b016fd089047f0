"""What goes into a model and what comes out, by name and with static shapes."""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from keras_pdp.training import tree

# What Keras calls an input that nobody named; the number changes from run to run.
_UNNAMED = re.compile(r"keras_tensor(_\d+)?")

_BATCH = 32


@dataclass(frozen=True)
class Input:
    """One input of a model.

    Args:
        name: its name in the exported file, an identifier.
        keras_name: its name in the model.
        shape: its shape without the batch axis; every axis is known.
        dtype: its dtype in Keras.
        ids: for an integer input, 1 + the largest value that is surely valid.
    """

    name: str
    keras_name: str
    shape: tuple[int, ...]
    dtype: str
    ids: int

    @property
    def is_float(self) -> bool:
        """Whether it takes real numbers rather than ids, counts or flags."""
        return self.dtype.startswith(("float", "bfloat"))


@dataclass(frozen=True)
class Signature:
    """A model with its inputs in a fixed order.

    Args:
        model: a functional or Sequential model.
        inputs: its inputs, in the order of `model.inputs`.
    """

    model: keras.Model
    inputs: tuple[Input, ...]

    @property
    def max_batch(self) -> int:
        """How many samples the Keras model may take at once; small enough to fit."""
        return 1 if self.model.inputs[0].shape[0] == 1 else _BATCH

    def call(self, values: Sequence[Any]) -> dict[str, Any]:
        """Runs the model for inference.

        Args:
            values: one tensor for each input, in order.

        Returns:
            The outputs by name: the keys of a model that returns a dictionary, else
            `output_0`, `output_1`, … Exported file and Keras model are compared by
            these names, so no order of outputs can be confused.
        """
        outputs = self.model(self._structured(values), training=False)
        if isinstance(outputs, dict) and not any(
            map(keras.tree.is_nested, outputs.values())
        ):
            return dict(zip(_identifiers(outputs), outputs.values(), strict=True))
        flat = keras.tree.flatten(outputs)
        return {f"output_{index}": value for index, value in enumerate(flat)}

    def _structured(self, values: Sequence[Any]) -> Any:
        if isinstance(self.model, keras.Sequential):
            return values[0]
        return keras.tree.pack_sequence_as(self.model.input, list(values))


def signature_of(model: keras.Model) -> Signature:
    """The inputs of a model, with the static shapes that an export needs.

    Args:
        model: any Keras model that knows its inputs: functional, Sequential with an
            `Input`, or subclassed and built or called.

    Returns:
        The signature. A subclassed model comes as a functional one of float32 inputs
        that calls it; the weights are the same variables.

    Raises:
        TypeError: it is no Keras model.
        ValueError: the inputs are unknown, or an axis other than the batch is free, or
            the batch axis is fixed to a size that is not 1, or an input takes strings,
            or a layer computes in half precision.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(f"expected a Keras model, received {type(model).__name__}")
    _check_precision(model)
    # only functional models and Sequential ones with an Input have `inputs`
    tensors = getattr(model, "inputs", None)
    if not tensors:
        model = _functional(model)
        tensors = model.inputs
    keras_names = _keras_names(model)
    names = _identifiers(_input_name(i, name) for i, name in enumerate(keras_names))
    _check_dtypes(names, tensors)
    ids = min(
        (
            layer.input_dim
            for _, layer in tree.computing(model)
            if isinstance(layer, keras.layers.Embedding)
        ),
        default=2,
    )
    inputs = (
        Input(name, known, _static(name, tensor.shape), str(tensor.dtype), ids)
        for name, known, tensor in zip(names, keras_names, tensors, strict=True)
    )
    return Signature(model, tuple(inputs))


def _keras_names(model: keras.Model) -> list[str]:
    """What each input is called: where it has no name, its keys in dictionaries."""
    names = [tensor.name for tensor in model.inputs]
    if isinstance(model, keras.Sequential):
        return names
    keys = {id(tensor): "_".join(path) for path, tensor in _by_keys(model.input)}
    called = [
        (keys.get(id(tensor)) or name) if _UNNAMED.fullmatch(name) else name
        for name, tensor in zip(names, model.inputs, strict=True)
    ]
    # Of two that are called alike, data by name would reach one alone.
    return called if len(set(called)) == len(called) else names


def _by_keys(given: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(given, dict):
        for key, value in given.items():
            for path, tensor in _by_keys(value):
                yield (str(key), *path), tensor
    elif isinstance(given, list | tuple):
        for value in given:
            yield from _by_keys(value)
    else:
        yield (), given


def _check_dtypes(names: Sequence[str], tensors: Sequence[Any]) -> None:
    strings = [n for n, t in zip(names, tensors, strict=True) if t.dtype == "string"]
    if strings:
        raise ValueError(
            f"inputs {strings} take strings, which no layer that can be exported "
            "reads. Look them up before the model (StringLookup, TextVectorization), "
            "where its data is prepared, and let it begin with the numbers"
        )


def _check_precision(model: keras.Model) -> None:
    half = [
        f"{name or model.name} ({layer.compute_dtype})"
        for name, layer in tree.computing(model)
        if layer.compute_dtype in ("float16", "bfloat16")
    ]
    if half:
        raise ValueError(
            f"TFLite computes in float32, and layers of {model.name!r} in half "
            f"precision: {half[0]} and {len(half) - 1} more. Build the model again "
            "under keras.config.set_dtype_policy('float32') and copy the weights with "
            "set_weights; quantize='float16' makes the file small"
        )


def _functional(model: keras.Model) -> keras.Model:
    shapes = model.get_build_config() or {}
    if shapes.get("input_shape") is None and "shapes_dict" not in shapes:
        raise ValueError(
            f"the inputs of {model.name!r} are unknown. Call the model on a batch of "
            "data first, or give a Sequential model a keras.Input"
        )
    if "shapes_dict" in shapes:
        arguments = {
            key.removesuffix("_shape"): _inputs(shape)
            for key, shape in shapes["shapes_dict"].items()
        }
        return keras.Model(arguments, model(**arguments))
    inputs = _inputs(shapes["input_shape"])
    try:
        return keras.Model(inputs, model(inputs))
    except TypeError as error:
        # Keras remembers the shape of the first argument alone
        raise ValueError(
            f"{model.name!r} cannot be called with one argument ({error}). Make a "
            "functional model of it: keras.Model(inputs, model(...)) of keras.Input"
        ) from error


def _inputs(shapes: Any) -> Any:
    # Without names, which have to differ from each other and from the model's:
    # `_keras_names` finds the keys.
    return keras.tree.map_shape_structure(
        lambda shape: keras.Input(tuple(shape[1:]), dtype="float32"), shapes
    )


def _static(name: str, shape: Sequence[int | None]) -> tuple[int, ...]:
    if shape[0] not in (None, 1):
        raise ValueError(
            f"input {name!r} has a batch axis fixed to {shape[0]}; a .tflite file is "
            "made for batches of 1. Build the model with a free batch axis"
        )
    sizes = tuple(size for size in shape[1:] if size is not None)
    if len(sizes) != len(shape) - 1:
        raise ValueError(
            f"input {name!r} has shape {tuple(shape)}; expected all axes but the "
            "first to be known. Build the model with keras.Input(shape) of the sizes "
            "that it will be used with"
        )
    return sizes


def _input_name(index: int, name: str) -> str:
    return f"input_{index}" if _UNNAMED.fullmatch(name) else name


def _identifiers(names: Any) -> list[str]:
    """Names made fit for the signature of a function, and different."""
    found: list[str] = []
    for name in names:
        # TensorFlow's: no other letters, no `_` first, and capitals are no difference.
        plain = re.sub(r"[^A-Za-z0-9_]", "_", str(name)).lstrip("_") or "tensor"
        taken = {each.lower() for each in found}
        numbered = (f"{plain}_{number}" for number in itertools.count(len(found)))
        free = (n for n in itertools.chain([plain], numbered) if n.lower() not in taken)
        found.append(next(free))
    return found

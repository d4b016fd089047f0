"""Inputs that a model is calibrated and compared on, checked before they are used."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np

from keras_pdp.deployment.signature import Input
from keras_pdp.deployment.sparse_encoding import Array


def as_samples(
    data: Any, inputs: Sequence[Input], limit: int, what: str
) -> dict[str, Array]:
    """Brings data of any usual form into one array for each input.

    Args:
        data: an array; a list or tuple with one array for each input; a dictionary of
            arrays by input name, the model's or the file's; or an iterable of batches
            of these, where a tuple `(x, y)` or `(x, y, weights)` means `x`. The first
            axis is the batch.
        inputs: what the model expects.
        limit: how many samples to take: evenly spread over arrays, the first ones of
            an iterable, which may be endless.
        what: the name of the argument, for messages.

    Returns:
        One array `(samples, *shape)` for each input, by its name and in the order of
        `inputs`.

    Raises:
        ValueError: the data does not fit the inputs, or is empty or not finite.
    """
    whole = _one_batch(data, inputs)
    if whole is not None:
        arrays = _checked(whole, inputs, what)
        spread = np.linspace(0, len(arrays[0]) - 1, min(limit, len(arrays[0])))
        return _by_name(inputs, [array[spread.astype(int)] for array in arrays])
    if isinstance(data, str | bytes) or not isinstance(data, Iterable):
        raise ValueError(
            f"{what}: expected an array, arrays for the inputs {_named(inputs)}, or an "
            f"iterable of batches; received {type(data).__name__}"
        )
    batches = list(_batches(data, inputs, limit, what))
    if not batches:
        raise ValueError(f"{what} is empty; expected at least one batch")
    joined = [np.concatenate(parts) for parts in zip(*batches, strict=True)]
    return _by_name(inputs, [array[:limit] for array in joined])


def random_samples(inputs: Sequence[Input], count: int) -> dict[str, Array]:
    """Stand-ins for data: normal numbers, or valid ids for integer inputs.

    Args:
        inputs: what the model expects.
        count: number of samples.

    Returns:
        One array `(count, *shape)` for each input, by name; the same in every run.
    """
    generator = np.random.default_rng(0)
    return {each.name: _random(each, count, generator) for each in inputs}


def _random(each: Input, count: int, generator: np.random.Generator) -> Array:
    shape = (count, *each.shape)
    if each.is_float:
        return generator.normal(size=shape).astype(_numpy_dtype(each))
    return generator.integers(0, each.ids, size=shape).astype(_numpy_dtype(each))


def _by_name(inputs: Sequence[Input], arrays: Sequence[Array]) -> dict[str, Array]:
    return {each.name: array for each, array in zip(inputs, arrays, strict=True)}


def _one_batch(data: Any, inputs: Sequence[Input]) -> list[Any] | None:
    """`data` as one value for each input; `None` if it looks like many batches."""
    if isinstance(data, Mapping):
        names = [each.keras_name for each in inputs]
        if not set(names) <= set(data):
            names = [each.name for each in inputs]
        return [data.get(name) for name in names]
    if _is_array(data):
        return [data]
    # a list of as many arrays as there are inputs is one batch for all of them
    if isinstance(data, list | tuple) and len(data) == len(inputs):
        return list(data) if all(map(_is_array, data)) else None
    return None


def _batches(
    data: Iterable[Any], inputs: Sequence[Input], limit: int, what: str
) -> Iterator[list[Array]]:
    taken = 0
    for number, batch in enumerate(islice(data, limit)):
        values = _one_batch(_without_targets(batch, inputs), inputs)
        label = f"{what}, batch {number}"
        if values is None:
            raise ValueError(
                f"{label}: expected arrays for the inputs {_named(inputs)}, received "
                f"{_described(batch)}"
            )
        yield (arrays := _checked(values, inputs, label))
        taken += len(arrays[0])
        if taken >= limit:
            return


def _without_targets(batch: Any, inputs: Sequence[Input]) -> Any:
    """`x` of an `(x, y)` tuple, as Keras reads it."""
    if not isinstance(batch, tuple) or not batch:
        return batch
    for_each_input = len(batch) == len(inputs) and all(map(_is_array, batch))
    return batch if for_each_input and len(inputs) > 1 else batch[0]


def _checked(values: Sequence[Any], inputs: Sequence[Input], what: str) -> list[Array]:
    if len(values) != len(inputs) or any(value is None for value in values):
        raise ValueError(
            f"{what}: expected one array for each of the inputs {_named(inputs)}, "
            f"received {sum(value is not None for value in values)} that fit"
        )
    arrays = [
        _checked_array(np.asarray(value), each, what)
        for value, each in zip(values, inputs, strict=True)
    ]
    lengths = {len(array) for array in arrays}
    if len(lengths) > 1:
        raise ValueError(f"{what}: inputs of different lengths {sorted(lengths)}")
    return arrays


def _checked_array(array: Array, each: Input, what: str) -> Array:
    if array.shape[1:] != each.shape or not array.ndim:
        hint = "; add the batch axis" if array.shape == each.shape else ""
        raise ValueError(
            f"{what}: expected shape {(None, *each.shape)} for input {each.name!r}, "
            f"received {array.shape}{hint}"
        )
    if not len(array):
        raise ValueError(f"{what} is empty; expected at least one sample")
    # booleans and integers are fine as real numbers, but 0.7 is no token
    if array.dtype.kind not in ("biuf" if each.is_float else "biu"):
        raise ValueError(
            f"{what}: expected {each.dtype} for input {each.name!r}, received "
            f"{array.dtype}"
        )
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{what}: input {each.name!r} holds NaN or infinity")
    return array.astype(_numpy_dtype(each))


def _numpy_dtype(each: Input) -> str:
    # numpy has no bfloat16; Keras casts
    return "float32" if each.dtype == "bfloat16" else each.dtype


def _is_array(value: Any) -> bool:
    # arrays of numpy, TensorFlow, … but no lists, which could be anything
    return hasattr(value, "shape") and hasattr(value, "__array__")


def _named(inputs: Sequence[Input]) -> str:
    return ", ".join(f"{each.name} {(None, *each.shape)}" for each in inputs)


def _described(batch: Any) -> str:
    if isinstance(batch, list | tuple):
        return f"{type(batch).__name__} of {len(batch)}"
    return type(batch).__name__

"""How far the outputs of two files are apart, in a way that garbage can't pass.

The largest logit stood at the same place on 64 of 64 inputs in files whose outputs were
noise, because a net's mean output hides how it depends on its input. So differences are
measured against what changes from input to input.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

SAMPLES = 64


class Unreadable(ValueError):
    """What should be a .tflite file is missing, or can't be loaded."""


def difference(reference: npt.NDArray[Any], received: npt.NDArray[Any]) -> float:
    """The relative difference of outputs, where what changes with the input counts.

    Args:
        reference: `(samples, ...)`, at least two samples.
        received: of the same shape.

    Returns:
        The larger of two ratios: of the differences after both are centred over the
        samples, to the spread of the reference, rms to rms; and of the difference of
        the means to the size of the reference. Infinite if a value is NaN or infinite,
        or if nothing of the reference depends on the input.

    Raises:
        ValueError: the shapes differ, or there is but one sample.
    """
    if reference.shape != received.shape or len(reference) < 2:
        raise ValueError(
            "expected two arrays of one shape, of at least two samples, received "
            f"{reference.shape} and {received.shape}"
        )
    expected, found = reference.astype(np.float64), received.astype(np.float64)
    mean, found_mean = expected.mean(axis=0), found.mean(axis=0)
    spread = _rms(expected - mean)
    if not np.isfinite(found).all() or not spread:
        return float("inf")
    changing = _rms((found - found_mean) - (expected - mean)) / spread
    return max(changing, _rms(found_mean - mean) / _rms(expected))


def largest_difference(
    reference: Mapping[str, npt.NDArray[Any]], received: Mapping[str, npt.NDArray[Any]]
) -> float:
    """The largest `difference` of any output; infinite if one is missing."""
    if reference.keys() != received.keys():
        return float("inf")
    return max(difference(reference[name], received[name]) for name in reference)


def identical(
    reference: Mapping[str, npt.NDArray[Any]], received: Mapping[str, npt.NDArray[Any]]
) -> bool:
    """Whether all outputs are the same to the bit."""
    return reference.keys() == received.keys() and all(
        (array.dtype, array.shape, array.tobytes())
        == (received[name].dtype, received[name].shape, received[name].tobytes())
        for name, array in reference.items()
    )


def renamed(
    arrays: Mapping[str, npt.NDArray[Any]], names: Collection[str]
) -> dict[str, npt.NDArray[Any]]:
    """The same arrays by the names that another file has for them.

    Args:
        arrays: by their names in one file.
        names: those of another, which pairs them in order unless they are the same.

    Raises:
        ValueError: there are more of one than of the other.
    """
    if set(names) == set(arrays):
        return {name: arrays[name] for name in names}
    if len(names) != len(arrays):
        raise ValueError(
            f"expected as many as {sorted(arrays)}, received {sorted(names)}"
        )
    return dict(zip(names, arrays.values(), strict=True))


def normal_inputs(
    path: Path, samples: int = SAMPLES, seed: int = 0
) -> dict[str, npt.NDArray[Any]]:
    """Normal numbers for each float32 input of a file, and zeros and ones for others.

    Args:
        path: the .tflite file.
        samples: how many.
        seed: of the random numbers.

    Returns:
        `(samples, ...)` by the input's name.

    Raises:
        Unreadable: there is no such file, or the runtime can't load it.
    """
    from ai_edge_litert.interpreter import Interpreter

    if not path.is_file():
        raise Unreadable(f"expected a .tflite file, received {path}: no such file")
    try:
        details = Interpreter(str(path)).get_signature_runner().get_input_details()
    except (ValueError, RuntimeError) as error:
        raise Unreadable(
            f"expected a .tflite file with a signature, received {path}, of which the "
            f"runtime says: {error}"
        ) from error
    generator = np.random.default_rng(seed)
    inputs = {}
    for name, detail in details.items():
        shape = (samples, *detail["shape"][1:])
        is_float = np.issubdtype(detail["dtype"], np.floating)
        values = (
            generator.normal(size=shape)
            if is_float
            else generator.integers(0, 2, size=shape)
        )
        inputs[name] = values.astype(detail["dtype"])
    return inputs


def native_outputs(
    path: Path, inputs: Mapping[str, npt.NDArray[Any]]
) -> dict[str, npt.NDArray[Any]]:
    """What the runtime of this machine gives, one thread, sample after sample."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    run = interpreter.get_signature_runner()
    count = len(next(iter(inputs.values())))
    rows = [
        run(**{name: array[i : i + 1] for name, array in inputs.items()})
        for i in range(count)
    ]
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def _rms(values: npt.NDArray[Any]) -> float:
    return float(np.sqrt(np.mean(np.square(values))))

"""Weights without the zeros of pruning: what the sizes of a file are compared with."""

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from keras_pdp.deployment.sparse_encoding import Array
from keras_pdp.training.wrapper import PDPWrapper

# Variables of several axes whose zeros are no pruned weights: they start as zeros.
_NO_KERNELS = ("bias", "beta", "alpha")


def dense_values(
    plain: keras.Model, wrappers: Sequence[PDPWrapper]
) -> tuple[list[tuple[Any, Array]], str]:
    """Values for the kernels of a model that hold zeros, without these zeros.

    Args:
        plain: a stripped or plain model. It stays as it is.
        wrappers: the PDPWrappers that it was stripped of, if any.

    Returns:
        The variables with new values, and what the values are: `"unmasked weights"`
        when all zeros come from the wrappers' masks, else `"random weights"`, where
        zeros became normal numbers of the standard deviation of the other weights;
        `"the file itself"` when no kernel holds zeros.
    """
    unmasked = [
        keras.ops.convert_to_numpy(kernel.variable)
        for wrapper in wrappers
        for kernel in wrapper.kernels
    ]
    found = []
    drawn = False
    generator = np.random.default_rng(0)
    for variable, masked in _with_zeros(plain):
        # In the model's dtype: an exported one is float32, whatever was trained.
        originals = (w.astype(masked.dtype) for w in unmasked)
        original = next((w for w in originals if _is_masked(masked, w)), None)
        drawn = drawn or original is None
        values = _filled(masked, generator) if original is None else original
        found.append((variable, values))
    if not found:
        return found, "the file itself"
    return found, "random weights" if drawn else "unmasked weights"


def _with_zeros(model: keras.Model) -> Iterator[tuple[Any, Array]]:
    for variable in model.weights:
        values = keras.ops.convert_to_numpy(variable)
        is_kernel = values.ndim > 1 and values.dtype.kind == "f"
        if variable.name in _NO_KERNELS or not is_kernel:
            continue
        if not values.all():
            yield variable, values


def _is_masked(masked: Array, original: Array) -> bool:
    """Whether `masked` is `original` with some values set to zero.

    Asking the values rather than the names: a stripped model has other paths, and two
    layers of different submodels may have the same name.
    """
    if masked.shape != original.shape or not original.any():
        return False
    return bool(np.all((masked == 0) | (masked == original)))


def _filled(masked: Array, generator: np.random.Generator) -> Array:
    kept = masked[masked != 0]
    # a kernel without any weight left: the scale that Keras would start it with
    scale = kept.std() if kept.any() else masked.shape[-2] ** -0.5
    drawn = generator.normal(scale=scale, size=masked.shape).astype(masked.dtype)
    return np.where(masked == 0, drawn, masked)

"""Granularities x shapes, and the ways in which a pure function can be run."""

import itertools

import keras
import numpy as np
import pytest
from keras import ops

from keras_pdp import Block, Channel, NofM, Unstructured

SHAPES = [
    (1,),
    (7,),
    (1, 1),
    (10, 3),
    (8, 4),
    (3, 3, 5),
    (1, 1, 6, 4),
    (3, 2, 7, 5),
    (2, 3, 2, 5, 3),
]
BY_BUDGET = [
    Unstructured(),
    Block((4, 1)),
    Block((2, 3)),
    Block((1, 16)),
    Channel(),
    Channel(axis=0),
    Channel(axis=-2),
]
BY_PATTERN = [
    NofM(2, 4),
    NofM(1, 2, axis=0),
    NofM(1, 4, axis=-1),
    NofM(3, 8),
]
if keras.backend.backend() != "tensorflow":  # one of a kind, see test_backends.py
    BY_BUDGET = [Unstructured(), Block((2, 3)), Channel()]
    BY_PATTERN = [NofM(2, 4)]
GRANULARITIES = BY_BUDGET + BY_PATTERN

ALL = list(itertools.product(GRANULARITIES, SHAPES))
BUDGET_CASES = list(itertools.product(BY_BUDGET, SHAPES))
PATTERN_CASES = list(itertools.product(BY_PATTERN, SHAPES))

MODES = {
    "tensorflow": ["eager", "graph", "xla"],
    "jax": ["xla"],
    "torch": ["eager"],
    "numpy": ["eager"],  # no gradients; what benchmarks/mutation runs on, being quick
}[keras.backend.backend()]


def run(function, mode):
    """The function, run eagerly, as a graph, or compiled."""
    if mode == "eager":
        return function
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(function)
    import tensorflow as tf

    return tf.function(function, jit_compile=mode == "xla", autograph=False)


def gradient(function, w):
    """d sum(function(w)) / dw by the backend's automatic differentiation."""
    if keras.backend.backend() == "jax":
        import jax

        return np.asarray(jax.grad(lambda w: ops.sum(function(w)))(w))
    if keras.backend.backend() == "numpy":
        pytest.skip("numpy has no gradients")
    if keras.backend.backend() == "torch":
        w = w.detach().clone().requires_grad_(True)
        ops.sum(function(w)).backward()
        return w.grad.numpy()
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(w)
        total = tf.reduce_sum(function(w))
    return tape.gradient(total, w).numpy()


def tensor(values, dtype="float32"):
    return ops.convert_to_tensor(np.asarray(values), dtype)


def count(value):
    return ops.convert_to_tensor(value, "int32")


def array(value):
    return ops.convert_to_numpy(value)


def weights(shape, std=0.1, seed=0):
    """A kernel of realistic size, without ties."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=shape) * std).astype("float32")


def membership(granularity, shape):
    """The pool and the unit of every weight, by its indices instead of by reshapes.

    Returns:
        Two int arrays of the kernel's shape; equal pairs live or die together.
    """
    index = np.indices(shape)
    pool = np.zeros(shape, int)
    if isinstance(granularity, Channel):
        return pool, index[granularity.axis if len(shape) > 1 else 0]
    if isinstance(granularity, Block):
        rows, columns = granularity.shape
        if len(shape) == 1:
            return pool, index[0] // rows
        window = np.arange(int(np.prod(shape[:-2]))).reshape(*shape[:-2], 1, 1)
        high, wide = -(-shape[-2] // rows), -(-shape[-1] // columns)
        row = window * high + index[-2] // rows
        return pool, row * wide + index[-1] // columns
    every = np.arange(int(np.prod(shape))).reshape(shape)
    if isinstance(granularity, Unstructured):
        return pool, every
    axis = granularity.axis % len(shape) if len(shape) > 1 else 0
    beside = np.delete(index, axis, axis=0)
    line = np.zeros(shape, int)
    for i, size in zip(beside, np.delete(shape, axis), strict=True):
        line = line * size + i
    groups = -(-shape[axis] // granularity.m)
    return line * groups + index[axis] // granularity.m, every


def numbered(pool, unit):
    """The pairs (pool, unit) as numbers 0, 1, ... of the kernel's shape."""
    pairs = np.stack([pool.ravel(), unit.ravel()])
    _, number = np.unique(pairs, axis=1, return_inverse=True)
    return number.reshape(pool.shape)


def unit_scores(w, granularity):
    """Root mean square of every unit in float64, by the unit's number."""
    number = numbered(*membership(granularity, w.shape)).ravel()
    square = np.bincount(number, np.square(w.astype("float64")).ravel())
    return np.sqrt(square / np.bincount(number))

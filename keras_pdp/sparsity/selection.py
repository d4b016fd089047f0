"""Counting keys, and the k-th smallest of them by its bits.

For non-negative floats the bit pattern, read as an integer, orders like the number. So
order statistics of scores are found among integers, by passes that ask "how many keys
are below this candidate?". That is O(n) with static shapes, takes k as a tensor (no
retrace when the sparsity changes), and needs no special case for ties, zeros or
subnormals.
"""

import keras
import numpy as np
from keras import ops

from keras_pdp.sparsity.granularity import Tensor

TOP = np.int32(2**31 - 1)  # above every finite score's key
_BITS = 31  # of a non-negative int32

# Rows x columns of a counting tile. XLA on CPU vectorises a sum over the rows of a
# tile, but not one over a long vector, which takes 2.6 to 2.8 times as long. Of the
# tiles that `python -m benchmarks.tiles` tries, these are the fastest for large
# kernels, by 9 % or more, and within a fifth of the fastest for small ones.
_ROWS, _COLUMNS = 16, 8


def ordered_keys(scores: Tensor) -> Tensor:
    """int32 keys that order like the non-negative scores; -0.0 counts as 0.0."""
    return ops.bitwise_and(ops.view(scores, "int32"), TOP)


def tiles(keys: Tensor, filling: np.int32 | float = TOP) -> Tensor:
    """Keys as `(tiles, rows, columns)`, filled up with a key above every other.

    Args:
        keys: Tensor of shape `(n,)`; or scores.
        filling: For the last tile; no finite score's should be larger.
    """
    n = keys.shape[0]
    rows = min(_ROWS, -(-n // _COLUMNS))
    padding = -n % (rows * _COLUMNS)
    if padding:
        keys = ops.pad(keys, [(0, padding)], constant_values=filling)
    return ops.reshape(keys, (-1, rows, _COLUMNS))


def tiled_keys(scores: Tensor) -> Tensor:
    """The scores' keys as `tiles`.

    Computed from tiles: XLA makes keys that are tiled afterwards twice, as a vector and
    in tiles.
    """
    return ops.bitwise_and(tiles(ops.view(scores, "int32")), TOP)


def count(condition: Tensor) -> Tensor:
    """How many entries of a tiled condition hold, as an int32 scalar."""
    if keras.backend.backend() == "torch":  # runs one operation at a time: few of them
        return ops.sum(condition)
    in_tile = ops.sum(ops.cast(condition, "int32"), axis=1)
    # The minimum changes nothing: it keeps the compiler from merging the two sums into
    # one long reduction, which it does not vectorise.
    return _int32(ops.sum(ops.minimum(in_tile, condition.shape[1])))


def smallest(tiled: Tensor, condition: Tensor) -> Tensor:
    """The smallest of the tiled keys for which the condition holds; else `TOP`."""
    in_tile = ops.min(ops.where(condition, tiled, TOP), axis=1)
    # Again in two steps that are kept apart: six times faster than in one.
    return ops.min(ops.bitwise_and(in_tile, TOP))


def counts(tiled: Tensor, candidates: Tensor) -> Tensor:
    """How many of the tiled keys are below each of several candidates.

    In one pass over memory: a tile is in the cache when the next candidate asks.

    Args:
        tiled: int32 tensor of shape `(tiles, rows, columns)`.
        candidates: int32 tensor of shape `(m,)`.

    Returns:
        int32 tensor of shape `(m,)`.
    """
    below = ops.expand_dims(tiled, 1) < ops.reshape(candidates, (1, -1, 1, 1))
    in_tile = ops.sum(ops.cast(below, "int32"), axis=2)
    # In two steps, see `count`.
    return _int32(ops.sum(ops.minimum(in_tile, tiled.shape[1]), axis=(0, 2)))


def _int32(sums: Tensor) -> Tensor:
    """JAX sums integers of 32 bits in 64, where these are enabled."""
    return ops.cast(sums, "int32")


def largest(holds, bits: int) -> Tensor:  # type: ignore[no-untyped-def]
    """The largest int32 below 2**bits for which the monotone predicate holds."""

    def set_next_bit(bit: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        candidate = ops.bitwise_or(value, bit)
        return ops.right_shift(bit, 1), ops.where(holds(candidate), candidate, value)

    start = ops.convert_to_tensor(1 << (bits - 1), "int32")
    zero = ops.convert_to_tensor(0, "int32")
    _, value = ops.while_loop(
        lambda bit, value: bit > 0, set_next_bit, (start, zero), maximum_iterations=bits
    )
    return value


def by_bits(tiled: Tensor, k: Tensor) -> Tensor:
    """The k-th smallest key: the largest value with fewer than `k` keys below it."""
    return largest(lambda candidate: count(tiled < candidate) < k, _BITS)

"""Exact order statistics of scores, by searching the bits of the answer.

For non-negative floats the bit pattern, read as an integer, orders like the number.
So the p-th smallest score is found bit by bit from the top: 31 rounds of "how many
keys are below this candidate?". That is O(n) with static shapes, takes the count as a
tensor (no retrace when the sparsity changes), and needs no special case for ties,
zeros or subnormals. A full sort costs 10 to 40 times more (see benchmarks/).
"""

import math

import numpy as np
from keras import ops

from keras_pdp.sparsity.granularity import Tensor

_BITS = 31  # of a non-negative int32
_TOP = np.int32(2**31 - 1)  # above every finite score's key

# Rows x columns of a counting tile. XLA on CPU vectorises a sum over the rows of a
# tile, but not one over a long vector: measured 2 to 3 times faster than untiled from
# 1e5 keys on. Up to 1e6 keys the tile's shape makes little difference; beyond, narrow
# ones, which read the memory in its order, take half the time of 32 x 64.
_ROWS, _COLUMNS = 16, 8


def neighbours(scores: Tensor, pruned: Tensor) -> tuple[Tensor, Tensor]:
    """The two scores on either side of the cut.

    Args:
        scores: float32 tensor of shape `(n,)`, finite and >= 0, n >= 2.
        pruned: int32 scalar tensor, how many scores are below the cut, 1 <= pruned < n.

    Returns:
        `(lo, hi)`, float32 scalars: the largest pruned and the smallest kept score, the
        `pruned`-th and the `pruned + 1`-th smallest. Equal where a tie is cut.
    """
    keys = _tiles(ordered_keys(scores))
    lo = _kth_smallest(keys, pruned)
    above = ops.min(ops.where(keys > lo, keys, _TOP))
    hi = ops.where(_count(keys <= lo) > pruned, lo, above)
    return ops.view(lo, "float32"), ops.view(hi, "float32")


def kept(scores: Tensor, pruned: Tensor) -> Tensor:
    """Which scores are kept, by rank; of equal scores the first ones stay.

    Args:
        scores: float32 tensor of shape `(n,)`, finite and >= 0.
        pruned: int32 scalar tensor, how many to prune, 0 <= pruned < n.

    Returns:
        bool tensor of shape `(n,)` with exactly `n - pruned` entries True.
    """
    n = scores.shape[0]
    keys = _tiles(ordered_keys(scores))
    lo = _kth_smallest(keys, ops.maximum(pruned, 1))
    tied = keys == lo
    # Ties at the cut: keep those whose index is below the last `spare` tied indices.
    keep_tied = _count(keys <= lo) - pruned
    index = ops.reshape(ops.arange(math.prod(keys.shape), dtype="int32"), keys.shape)
    end = _first_indices(tied, index, keep_tied)
    mask = ops.logical_or(keys > lo, ops.logical_and(tied, index < end))
    return ops.logical_or(ops.reshape(mask, (-1,))[:n], pruned < 1)


def ordered_keys(scores: Tensor) -> Tensor:
    """int32 keys that order like the non-negative scores; -0.0 counts as 0.0."""
    return ops.bitwise_and(ops.view(scores, "int32"), _TOP)


def _kth_smallest(keys: Tensor, k: Tensor) -> Tensor:
    """The largest value with fewer than `k` keys below it: the k-th smallest key."""
    return _largest(lambda candidate: _count(keys < candidate) < k, _BITS)


def _first_indices(tied: Tensor, index: Tensor, wanted: Tensor) -> Tensor:
    """The index below which exactly `wanted` of the tied entries lie."""

    def not_too_many(candidate: Tensor) -> Tensor:
        inside = ops.logical_and(tied, index < candidate)
        return _count(inside) <= wanted

    return _largest(not_too_many, math.prod(index.shape).bit_length())


def _largest(holds, bits: int) -> Tensor:  # type: ignore[no-untyped-def]
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


def _tiles(keys: Tensor) -> Tensor:
    """Keys as `(tiles, rows, columns)`, filled up with a key above every other."""
    n = keys.shape[0]
    rows = min(_ROWS, -(-n // _COLUMNS))
    padding = -n % (rows * _COLUMNS)
    if padding:
        keys = ops.pad(keys, [(0, padding)], constant_values=_TOP)
    return ops.reshape(keys, (-1, rows, _COLUMNS))


def _count(condition: Tensor) -> Tensor:
    """How many entries of a tiled condition hold, as an int32 scalar."""
    in_tile = ops.sum(ops.cast(condition, "int32"), axis=1)
    # The minimum changes nothing: it keeps the compiler from merging the two sums into
    # one long reduction, which it does not vectorise.
    return ops.sum(ops.minimum(in_tile, condition.shape[1]))

"""Exact order statistics of scores: what is next to the cut, and what is kept."""

import math

import keras
from keras import ops

from keras_pdp.sparsity import bracket, partition
from keras_pdp.sparsity.granularity import Tensor
from keras_pdp.sparsity.selection import (
    by_bits,
    count,
    largest,
    ordered_keys,
    smallest,
    tiled_keys,
)

# Scores; fewer are searched bit by bit, which takes little longer up to here and
# compiles much sooner.
MANY = 2**19


def neighbours(scores: Tensor, pruned: Tensor) -> tuple[Tensor, Tensor]:
    """The two scores on either side of the cut.

    Args:
        scores: float32 tensor of shape `(n,)`, finite, n >= 2. Signs count for
            nothing: a caller that takes them off has XLA write one more copy.
        pruned: int32 scalar tensor, how many scores are below the cut, 1 <= pruned < n.

    Returns:
        `(lo, hi)`, float32 scalars: the largest pruned and the smallest kept score, the
        `pruned`-th and the `pruned + 1`-th smallest. Equal where a tie is cut.
    """
    if keras.backend.backend() == "torch":
        return partition.neighbours(scores, pruned)
    if scores.shape[0] < MANY:
        lo, hi = _by_bits(scores, pruned)
    else:
        lo, hi = bracket.neighbours(scores, pruned)
    return ops.view(lo, "float32"), ops.view(hi, "float32")


def _by_bits(scores: Tensor, pruned: Tensor) -> tuple[Tensor, Tensor]:
    tiled = tiled_keys(scores)
    lo = by_bits(tiled, pruned)
    above = smallest(tiled, tiled > lo)
    return lo, ops.where(count(tiled <= lo) > pruned, lo, above)


def kept(scores: Tensor, pruned: Tensor) -> Tensor:
    """Which scores are kept, by rank; of equal scores the first ones stay.

    Args:
        scores: float32 tensor of shape `(n,)`, finite and >= 0.
        pruned: int32 scalar tensor, how many to prune, 0 <= pruned < n.

    Returns:
        bool tensor of shape `(n,)` with exactly `n - pruned` entries True.
    """
    n = scores.shape[0]
    if n == 1:
        return ops.ones((1,), "bool")
    lo = ordered_keys(neighbours(scores, ops.maximum(pruned, 1))[0])
    tiled = tiled_keys(scores)
    tied = tiled == lo
    # Ties at the cut, seldom more than one: the first of them stay.
    keep_tied = count(tiled <= lo) - pruned
    index = ops.reshape(ops.arange(math.prod(tiled.shape), dtype="int32"), tiled.shape)
    end = ops.cond(
        keep_tied > 0,
        lambda: _first_indices(tied, index, keep_tied),
        lambda: ops.zeros((), "int32"),
    )
    mask = ops.logical_or(tiled > lo, ops.logical_and(tied, index < end))
    return ops.logical_or(ops.reshape(mask, (-1,))[:n], pruned < 1)


def _first_indices(tied: Tensor, index: Tensor, wanted: Tensor) -> Tensor:
    """The index below which exactly `wanted` of the tied entries lie."""

    def not_too_many(candidate: Tensor) -> Tensor:
        inside = ops.logical_and(tied, index < candidate)
        return count(inside) <= wanted

    return largest(not_too_many, math.prod(index.shape).bit_length())

"""The k-th smallest of many numbers, exactly, by counting.

For non-negative floats the bit pattern, read as an integer, orders like the number. So
the k-th smallest score is found among integers, by passes that ask "how many keys are
below this candidate?". That is O(n) with static shapes, takes k as a tensor (no retrace
when the sparsity changes), and needs no special case for ties, zeros or subnormals. A
full sort of a million takes 29 to 112 times as long, compiled, and 4 times on PyTorch
(benchmarks/threshold.py).

Few keys are searched bit by bit, 31 passes. Many are searched between bounds: a sample
says where the answer should be, later candidates where it would be if the keys between
the bounds were evenly spread. These are guesses that only save passes: what each is
worth is counted.
"""

import math
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from keras_pdp.sparsity.granularity import Tensor

TOP = np.int32(2**31 - 1)  # above every finite score's key
_BITS = 31  # of a non-negative int32
_INFINITE = np.int32(0x7F800000)  # the key of infinity

# Rows x columns of a counting tile. XLA on CPU vectorises a sum over the rows of a
# tile, but not one over a long vector: measured 2 to 3 times faster than untiled from
# 1e5 keys on. Up to 1e6 keys the tile's shape makes little difference; beyond, narrow
# ones, which read the memory in its order, take half the time of 32 x 64.
_ROWS, _COLUMNS = 16, 8

_MANY = 2**17  # keys; fewer are searched bit by bit, which starts sooner
_STRIDE = 61  # of the sample: prime, so that it meets every channel of a kernel
_DEVIATIONS = 3.0  # from a guessed rank to the bounds around it
_PATIENCE = 12  # rounds of guessing: keys that defeat it are bisected from then on


class _Bounds(NamedTuple):
    """Between which the answer is: `low <= answer < high`, int32 scalars.

    Args:
        low, high: the bounds.
        below: how many keys are below `low`, fewer than k.
        upto: how many keys are below `high`, k or more.
    """

    low: Tensor
    high: Tensor
    below: Tensor
    upto: Tensor


def ordered_keys(scores: Tensor) -> Tensor:
    """int32 keys that order like the non-negative scores; -0.0 counts as 0.0."""
    return ops.bitwise_and(ops.view(scores, "int32"), TOP)


def tiles(keys: Tensor) -> Tensor:
    """Keys as `(tiles, rows, columns)`, filled up with a key above every other."""
    n = keys.shape[0]
    rows = min(_ROWS, -(-n // _COLUMNS))
    padding = -n % (rows * _COLUMNS)
    if padding:
        keys = ops.pad(keys, [(0, padding)], constant_values=TOP)
    return ops.reshape(keys, (-1, rows, _COLUMNS))


def count(condition: Tensor) -> Tensor:
    """How many entries of a tiled condition hold, as an int32 scalar."""
    if keras.backend.backend() == "torch":  # runs one operation at a time: few of them
        return ops.sum(condition)
    in_tile = ops.sum(ops.cast(condition, "int32"), axis=1)
    # The minimum changes nothing: it keeps the compiler from merging the two sums into
    # one long reduction, which it does not vectorise.
    return ops.sum(ops.minimum(in_tile, condition.shape[1]))


def smallest(tiled: Tensor, condition: Tensor) -> Tensor:
    """The smallest of the tiled keys for which the condition holds; else `TOP`."""
    in_tile = ops.min(ops.where(condition, tiled, TOP), axis=1)
    # Again in two steps that are kept apart: six times faster than in one.
    return ops.min(ops.bitwise_and(in_tile, TOP))


def kth_smallest(keys: Tensor, k: Tensor) -> Tensor:
    """The `k`-th smallest of the keys.

    Args:
        keys: int32 tensor of shape `(n,)`, of finite scores.
        k: int32 scalar tensor, 1 <= k <= n.

    Returns:
        int32 scalar.
    """
    if keys.shape[0] < _MANY:
        return _by_bits(tiles(keys), k)
    return _between(tiles(keys), _guesses(keys, k), k)


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


def _by_bits(tiled: Tensor, k: Tensor) -> Tensor:
    """The largest value with fewer than `k` keys below it: the k-th smallest key."""
    return largest(lambda candidate: count(tiled < candidate) < k, _BITS)


def _guesses(keys: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """Between which a sample of the keys expects the answer."""
    sample = keys[::_STRIDE]
    n = sample.shape[0]
    share = ops.cast(k, "float32") / keys.shape[0]
    spread = _DEVIATIONS * ops.sqrt(n * share * (1 - share)) + 1
    ranks = [ops.cast(n * share + side, "int32") for side in (-spread, spread)]
    tiled = tiles(sample)
    low, high = (_by_bits(tiled, ops.clip(rank, 1, n)) for rank in ranks)
    return low, high + 1


def _between(tiled: Tensor, guesses: tuple[Tensor, Tensor], k: Tensor) -> Tensor:
    """The k-th smallest key, from bounds that close in on it."""

    def is_open(turn: Tensor, *state: Tensor) -> Tensor:
        now = _Bounds(*state)
        found = ops.logical_or(now.below == k - 1, now.upto == k)
        return ops.logical_and(now.high - now.low > 1, ops.logical_not(found))

    def narrow(turn: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        now = _Bounds(*state)
        candidate = _candidate(now, turn - len(guesses), k)
        for number, guess in enumerate(guesses):
            candidate = ops.where(turn == number, guess, candidate)
        candidate = ops.clip(candidate, now.low + 1, now.high - 1)
        return turn + 1, *_narrowed(now, candidate, count(tiled < candidate), k)

    zero, all_of_them, infinite = (
        ops.convert_to_tensor(number, "int32")
        for number in (0, math.prod(tiled.shape), _INFINITE)
    )
    _, *state = ops.while_loop(
        is_open,
        narrow,
        (zero, zero, infinite, zero, all_of_them),
        maximum_iterations=len(guesses) + _PATIENCE + _BITS,
    )
    end = _Bounds(*state)
    from_above = ops.max(ops.max(ops.where(tiled < end.high, tiled, 0), axis=1))
    return ops.where(end.upto == k, from_above, smallest(tiled, tiled >= end.low))


def _narrowed(bounds: _Bounds, candidate: Tensor, below: Tensor, k: Tensor) -> _Bounds:
    """With the candidate, below which so many keys are, as one of the bounds."""
    fewer = below < k
    return _Bounds(
        ops.where(fewer, candidate, bounds.low),
        ops.where(fewer, bounds.high, candidate),
        ops.where(fewer, below, bounds.below),
        ops.where(fewer, bounds.upto, below),
    )


def _candidate(bounds: _Bounds, turn: Tensor, k: Tensor) -> Tensor:
    """The next candidate.

    In turn a standard deviation below and above where the answer is if the keys between
    the bounds are evenly spread, and the middle, which halves whatever there is.
    """
    inside = ops.cast(bounds.upto - bounds.below, "float32")
    share = (ops.cast(k - bounds.below, "float32") - 0.5) / inside
    deviation = ops.sqrt(share * (1 - share) / inside)
    side = ops.where(turn % 3 == 0, -deviation, deviation)
    halve = ops.logical_or(turn % 3 == 2, turn >= _PATIENCE)
    at = ops.where(halve, 0.5, ops.clip(share + side, 0.0, 1.0))
    width = ops.cast(bounds.high - bounds.low, "float32")
    return bounds.low + ops.cast(at * width, "int32")

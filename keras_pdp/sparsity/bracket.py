"""The two keys at a cut through many, by counting between bounds that close in.

1. A sample says between which keys the cut should be.
2. Passes over all keys count how many are below three candidates each. The first are
   the sample's; the next are where the cut would be if the keys between the bounds
   were evenly spread.
3. With few keys left between the bounds, the smallest of them in each column of a tile
   are as many as there are, seven times in eight or more often where keys lie in no
   order. These columns, a sixteenth of the keys, are searched bit by bit.

A guess only saves passes: what each is worth is counted, and where guesses fail, bounds
are divided evenly. benchmarks/threshold.py measures what all of it costs.
"""

import math
from typing import NamedTuple

import numpy as np
from keras import ops

from keras_pdp.sparsity.granularity import Tensor
from keras_pdp.sparsity.selection import (
    TOP,
    count,
    counts,
    ordered_keys,
    smallest,
    tiles,
)

_INFINITE = 0x7F800000  # the key of infinity
_SAMPLE = 2**16  # keys, at most, if the last stride allows
# Between the keys of a sample: primes, so that it meets every channel of a kernel.
_STRIDES = (61, 127, 257, 509, 1021, 2053, 4099)
_DEVIATIONS = 3.0  # from a guessed rank to the bounds around it

_GUESSES = 3  # passes that suppose even spreading; later ones divide evenly
_ASIDE = np.array([-2.2, 0, 2.2], "float32")  # of a guess, in deviations
# 1 is the last key inside: where many scores are equal the cut is often there.
_EVENLY = np.array([1 / 3, 2 / 3, 1], "float32")
# More than there can be: four may be worth little, then every two are worth three bits.
_PASSES = 64
_NEVER = 2**20  # passes: no search takes as many, which the compiler doesn't know


class Bounds(NamedTuple):
    """Between which the k-th smallest key is: `low <= key < high`, int32 scalars.

    Args:
        low, high: the bounds.
        below: how many keys are below `low`, fewer than k.
        upto: how many keys are below `high`, k or more.
    """

    low: Tensor
    high: Tensor
    below: Tensor
    upto: Tensor

    def inside(self) -> Tensor:
        """How many keys are between the bounds."""
        return self.upto - self.below

    def one_value(self) -> Tensor:
        """Whether all of them are the same."""
        return self.high - self.low == 1


def neighbours(scores: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """The keys of the `k`-th and the `k + 1`-th smallest score.

    Args:
        scores: float32 tensor of shape `(n,)`, finite; signs count for nothing.
        k: int32 scalar tensor, 1 <= k < n.

    Returns:
        Two int32 scalars.
    """
    tiled = tiles(scores, np.nan)  # whose key is above all others
    few, passes, bounds = _few_around(tiled, _guesses(scores, k), k)
    ranks = k - bounds.below + np.arange(2, dtype="int32")
    width = bounds.high - bounds.low
    found = _within(few, ranks, bounds.low, width)

    def above_all() -> Tensor:
        keys = _keys(tiled, passes)
        return smallest(keys, keys >= bounds.high)

    return found[0], ops.cond(bounds.upto > k, lambda: found[1], above_all)


def _few_around(
    tiled: Tensor, guesses: Tensor, k: Tensor
) -> tuple[Tensor, Tensor, Bounds]:
    """The keys between bounds so close that none hides another of its column.

    Or bounds around a single value, however many keys have it.

    Returns:
        The smallest key between the bounds in each column of the tiles, `TOP` where
        there is none, tiled anew; how many passes it took; and the bounds.
    """
    size = math.prod(tiled.shape)
    # Of m keys in n / 16 columns any two share one with probability 8 m^2 / n.
    most = ops.convert_to_tensor(int(math.sqrt(size) / 8), "int32")
    zero, high, upto = (
        ops.convert_to_tensor(number, "int32") for number in (0, _INFINITE, size)
    )
    columns = tiled.shape[0] * tiled.shape[2]
    nothing = tiles(ops.full((columns,), TOP, "int32"))

    def hidden(hides: Tensor, *state: Tensor) -> Tensor:
        return hides

    def closer(
        hides: Tensor, few: Tensor, most: Tensor, *state: Tensor
    ) -> tuple[Tensor, ...]:
        state = _narrowed(tiled, k, most, state)
        bounds = Bounds(*state[-4:])
        keys = _keys(tiled, state[0])
        between = ops.logical_and(keys >= bounds.low, keys < bounds.high)
        in_columns = ops.min(ops.where(between, keys, TOP), axis=1)
        few = tiles(ops.reshape(in_columns, (-1,)))
        hides = ops.logical_and(
            count(few < TOP) < bounds.inside(), ops.logical_not(bounds.one_value())
        )
        return hides, few, bounds.inside() // 2, *state  # where some hide, closer still

    start = ops.convert_to_tensor(True), nothing, most
    _, few, _, *state = ops.while_loop(
        hidden,
        closer,
        (*start, zero, guesses, zero, high, zero, upto),
        maximum_iterations=_PASSES,
    )
    return few, state[0], Bounds(*state[-4:])


def _narrowed(
    tiled: Tensor, k: Tensor, most: Tensor, state: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """The search with at most so many keys, or one value, between the bounds.

    Its state: the number of passes, the candidates of the next one, the bounds.
    """

    def is_open(turn: Tensor, candidates: Tensor, *state: Tensor) -> Tensor:
        bounds = Bounds(*state)
        several = ops.logical_not(bounds.one_value())
        return ops.logical_and(several, bounds.inside() > most)

    def narrow(turn: Tensor, candidates: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        below = counts(_keys(tiled, turn), candidates)
        bounds = _between(Bounds(*state), candidates, below, k)
        return turn + 1, _candidates(bounds, turn, k), *bounds

    return tuple(ops.while_loop(is_open, narrow, state, maximum_iterations=_PASSES))


def _keys(tiled: Tensor, passes: Tensor) -> Tensor:
    """The keys of the scores, made anew in every pass.

    What is the same in every turn of a loop XLA computes once, before it. To write all
    keys to memory takes longer than to make them, so here they depend on the turn.

    Args:
        tiled: The scores, in tiles.
        passes: int32 scalar that no compiler knows, the number of the pass.
    """
    return ordered_keys(ops.where(passes < _NEVER, tiled, 0.0))


def _between(bounds: Bounds, candidates: Tensor, below: Tensor, k: Tensor) -> Bounds:
    """The closest bounds around the k-th key among old ones and counted candidates."""
    fewer = below < k
    return Bounds(
        ops.max(ops.where(fewer, candidates, bounds.low)),
        ops.min(ops.where(fewer, bounds.high, candidates)),
        ops.max(ops.where(fewer, below, bounds.below)),
        ops.min(ops.where(fewer, bounds.upto, below)),
    )


def _candidates(bounds: Bounds, turn: Tensor, k: Tensor) -> Tensor:
    """The candidates of the next pass.

    Part of the state, for where they are a part of the pass they are computed anew for
    every tile.
    """
    inside = ops.cast(bounds.inside(), "float32")
    share = ops.cast(k - bounds.below, "float32") / inside
    # Of where the cut is, were the keys drawn evenly; not 0 at either end.
    deviation = ops.sqrt(share * (1 - share) / inside) + 0.2 / inside
    at = ops.clip(share + deviation * _ASIDE, 0.0, 1.0)
    at = ops.where(turn < _GUESSES, at, _EVENLY)
    width = ops.cast(bounds.high - bounds.low, "float32")
    found = bounds.low + ops.cast(at * width, "int32")
    return ops.clip(found, bounds.low + 1, bounds.high - 1)


def _guesses(scores: Tensor, k: Tensor) -> Tensor:
    """Where a sample expects the k-th key, and between which others; int32 `(3,)`."""
    n = scores.shape[0]
    stride = next((s for s in _STRIDES if n // s <= _SAMPLE), _STRIDES[-1])
    sample = ordered_keys(scores[::stride])
    size = sample.shape[0]
    share = ops.cast(k, "float32") / n
    deviation = ops.sqrt(size * share * (1 - share)) + 1
    aside = np.array([-_DEVIATIONS, 0, _DEVIATIONS], "float32")
    ranks = ops.clip(ops.cast(size * share + deviation * aside, "int32"), 1, size)
    start, width = (ops.convert_to_tensor(number, "int32") for number in (0, TOP))
    low, middle, high = ops.unstack(_within(tiles(sample), ranks, start, width), 3)
    # middle + 1: one pass tells whether the cut is among many zeros.
    guesses = ops.stack([low, middle + 1, high + 1])
    return ops.clip(guesses, 1, _INFINITE - 1)


def _within(tiled: Tensor, ranks: Tensor, low: Tensor, width: Tensor) -> Tensor:
    """The keys of those ranks, all of them in `[low, low + width)`, bit by bit."""

    def set_next_bit(bit: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        candidates = values + ops.minimum(bit, TOP - values)  # no overflow
        fewer = counts(tiled, candidates) < ranks
        return ops.right_shift(bit, 1), ops.where(fewer, candidates, values)

    _, values = ops.while_loop(
        lambda bit, values: bit > 0,
        set_next_bit,
        (_highest_bit(width - 1), ops.broadcast_to(low, ranks.shape)),
        maximum_iterations=31,
    )
    return values


def _highest_bit(number: Tensor) -> Tensor:
    """A power of two that no number up to the given one reaches twice; 0 of 0.

    A float's exponent tells; it may be rounded up.
    """
    exponent = ops.right_shift(ops.view(ops.cast(number, "float32"), "int32"), 23) - 127
    bit = ops.left_shift(ops.ones((), "int32"), ops.clip(exponent, 0, 30))
    return ops.where(number > 0, bit, 0)

"""The two scores at a cut, by throwing away what a sample says is far from it.

For backends that run one operation at a time and know its values, where what is left
can be as short as it is. After Floyd and Rivest (Communications of the ACM 18, 1975).
"""

import math

from keras import ops

from keras_pdp.sparsity.granularity import Tensor

_FEW = 2**12  # scores that are sorted
_SAMPLE = 2**14
_DEVIATIONS = 3.0  # of a sample's rank, kept on either side


def neighbours(scores: Tensor, pruned: Tensor) -> tuple[Tensor, Tensor]:
    """The `pruned`-th and the `pruned + 1`-th smallest score.

    Args:
        scores: float32 tensor of shape `(n,)`, finite; signs count for nothing.
        pruned: int32 scalar tensor, 1 <= pruned < n.

    Returns:
        Two float32 scalars.
    """
    scores = ops.abs(ops.stop_gradient(scores))
    around, rank = _around(scores, int(pruned))
    lo = around[rank - 1]
    if around.shape[0] > rank:
        return lo, around[rank]
    return lo, ops.min(scores[scores > lo])


def _around(scores: Tensor, rank: int) -> tuple[Tensor, int]:
    """Sorted scores about the one of that rank, and its rank among them.

    All scores that equal it are there.
    """
    deviations = _DEVIATIONS
    finite = math.isfinite(ops.max(scores))  # a diverged training's compare with none
    while finite and scores.shape[0] > _FEW:
        low, high = _guesses(scores, rank, deviations)
        at_least = scores[scores >= low]
        below = scores.shape[0] - at_least.shape[0]
        if rank <= below:
            scores = scores[scores < low]
            continue
        rank -= below
        inside = at_least[at_least <= high]
        if rank > inside.shape[0]:
            rank -= inside.shape[0]
            scores = at_least[at_least > high]
            continue
        if low == high:
            return inside, rank
        if 2 * inside.shape[0] > scores.shape[0]:  # a few values, shared by many
            deviations = 0.0
        scores = inside
    return ops.sort(scores), rank


def _guesses(scores: Tensor, rank: int, deviations: float) -> tuple[Tensor, Tensor]:
    """Between which scores a sample expects the one of that rank."""
    n = scores.shape[0]
    sample = ops.sort(scores[:: max(1, n // _SAMPLE) | 1])  # odd, see bracket.py
    size = sample.shape[0]
    share = rank / n
    aside = deviations * (math.sqrt(size * share * (1 - share)) + 1)
    low, high = (
        sample[min(max(int(size * share + side), 0), size - 1)]
        for side in (-aside, aside)
    )
    return low, high

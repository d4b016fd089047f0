"""Layer-adaptive magnitudes: what a unit is worth beside what is left of its kernel."""

from dataclasses import dataclass

import numpy as np

from keras_pdp.sparsity.allocation import (
    Candidate,
    Candidates,
    check_candidates,
    global_magnitude,
)

# Units whose squares are added up at a time: a model's kernels are as much memory as
# there is to spare.
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Relative(Candidate):
    """A candidate whose scores are relative to its kernel already."""


def lamp(candidates: Candidates, sparsity: float) -> dict[str, float]:
    r"""One cut through layer-adaptive magnitudes (LAMP, Lee et al. 2021).

    A weight is worth `w^2 / sum(v^2 for v in its kernel if |v| >= |w|)`: its part of
    what is left of the kernel when its turn comes. So a kernel gains worth as it grows
    thin, and how large its weights were when the training began plays no part. Of a
    unit of several weights it is the worth of one weight of it.

    Args:
        candidates: The kernels that share the budget, by name.
        sparsity: Fraction of all their weights to remove, in [0, 1]; of 1 one unit of
            every kernel stays.

    Returns:
        The fraction of units to remove from each kernel, by name; at least one stays.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If there is no kernel, or `sparsity` is not in [0, 1].

    Reference: Lee, Park, Mo, Ahn, Shin, "Layer-adaptive Sparsity for the
    Magnitude-based Pruning", ICLR 2021, arXiv 2010.07611.
    """
    check_candidates(candidates, sparsity)
    return global_magnitude(
        {name: _made_relative(c) for name, c in candidates.items()}, sparsity
    )


def _made_relative(candidate: Candidate) -> Candidate:
    """The same units, in the order of their scores."""
    if isinstance(candidate, Relative):
        return candidate
    scores, sizes = candidate.scores, candidate.sizes
    if sizes.min() == sizes.max():
        scores = np.sort(scores)
    else:
        order = np.argsort(scores, kind="stable")
        scores, sizes = scores[order], sizes[order]
    return Relative(relative(scores, sizes), sizes, candidate.shape)


def relative(ranked: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """`s / sqrt(sum(size s'^2))`, the sum over this unit and all that come after it.

    The root of what a unit is worth: squares of small scores would be 0 in float32.

    Args:
        ranked: Scores `(units,)`, in rising order.
        sizes: Weights in each unit, `(units,)`.

    Returns:
        Of the scores' dtype, `(units,)`, in rising order; 0 for a score of 0.
    """
    largest = ranked[-1]
    worth = ranked / largest if largest > 0 else np.zeros_like(ranked)
    rest = 0.0
    for end in range(len(worth), 0, -_CHUNK):
        chunk = slice(max(end - _CHUNK, 0), end)
        squares = np.square(worth[chunk]) * sizes[chunk]
        left = rest + np.cumsum(squares[::-1])[::-1]
        worth[chunk] /= np.sqrt(np.maximum(left, np.finfo(float).tiny))
        rest = left[0]
    return worth

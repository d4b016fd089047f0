"""Who gives how much: a budget for the whole model -> a sparsity for each kernel.

All functions share one signature, `(candidates, sparsity) -> {name: sparsity}`, and
meet the budget to one unit (to one weight where units are single weights). One unit of
every kernel always stays. A mapping `{name: sparsity}` does the same job by hand.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping

import numpy as np

from keras_pdp.sparsity import validation


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A kernel's units that compete for the budget.

    Args:
        scores: float array `(units,)`, the same statistic that the mask uses.
        sizes: int array `(units,)`, the weights in each unit.
        shape: The kernel's shape in the layout `(*window, in, out)`.
    """

    scores: np.ndarray
    sizes: np.ndarray
    shape: tuple[int, ...]

    @property
    def weights(self) -> int:
        """Weights in all units."""
        return int(self.sizes.sum())


Candidates = Mapping[str, Candidate]
Allocation = Callable[[Candidates, float], dict[str, float]]


def uniform(candidates: Candidates, sparsity: float) -> dict[str, float]:
    """The same sparsity everywhere.

    Args:
        candidates: The kernels that share the budget, by name.
        sparsity: Fraction of all their weights to remove, in [0, 1]; of 1 one unit of
            every kernel stays.

    Returns:
        The fraction of units to remove from each kernel, by name.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If there is no kernel, or `sparsity` is not in [0, 1].
    """
    check_candidates(candidates, sparsity)
    return _apportion(candidates, dict.fromkeys(candidates, sparsity), sparsity)


def erdos_renyi(candidates: Candidates, sparsity: float) -> dict[str, float]:
    r"""Density in proportion to `sum(shape) / prod(shape)` (ERK, Evci et al. 2020).

    Kernels whose share would exceed 1 stay dense and the others take their part.

    Args:
        candidates: The kernels that share the budget, by name.
        sparsity: Fraction of all their weights to remove, in [0, 1]; of 1 one unit of
            every kernel stays.

    Returns:
        The fraction of units to remove from each kernel, by name.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If there is no kernel, or `sparsity` is not in [0, 1].
    """
    check_candidates(candidates, sparsity)
    raw = {n: sum(c.shape) / math.prod(c.shape) for n, c in candidates.items()}
    dense: set[str] = set()
    keep = (1.0 - sparsity) * sum(c.weights for c in candidates.values())
    while True:
        spread = {n: c for n, c in candidates.items() if n not in dense}
        left = keep - sum(candidates[n].weights for n in dense)
        total = sum(raw[n] * c.weights for n, c in spread.items())
        scale = left / total if total else 0.0
        full = {n for n in spread if raw[n] * scale > 1.0}
        if not full:
            break
        dense |= full
    wanted = {n: 0.0 if n in dense else 1.0 - raw[n] * scale for n in candidates}
    return _apportion(candidates, wanted, sparsity)


def global_magnitude(candidates: Candidates, sparsity: float) -> dict[str, float]:
    """The paper's: one cut through the scores of all kernels together.

    Args:
        candidates: The kernels that share the budget, by name.
        sparsity: Fraction of all their weights to remove, in [0, 1]; of 1 one unit of
            every kernel stays.

    Returns:
        The fraction of units to remove from each kernel, by name: its share below the
        cut, with the largest unit of every kernel left out of the competition.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If there is no kernel, or `sparsity` is not in [0, 1].
    """
    check_candidates(candidates, sparsity)
    budget = _budget(candidates, sparsity)
    size = _only_size(candidates)
    pruned = (
        _cut_by_weights(candidates, budget)
        if size is None
        else _cut_by_units(candidates, _units(candidates, budget, size))
    )
    return {n: pruned[n] / len(c.scores) for n, c in candidates.items()}


def _only_size(candidates: Candidates) -> int | None:
    """The weights in every unit; None where units differ in size, or cost a part."""
    if any(c.sizes.dtype.kind not in "iu" for c in candidates.values()):
        return None
    sizes = {int(c.sizes.min()) for c in candidates.values()}
    sizes |= {int(c.sizes.max()) for c in candidates.values()}
    return sizes.pop() if len(sizes) == 1 else None


def _units(candidates: Candidates, budget: int, size: int) -> int:
    """The number of units that comes nearest to the budget; of two the smaller."""
    count = budget // size
    if size * (count + 1) - budget < budget - size * count:
        count += 1
    return min(count, sum(len(c.scores) - 1 for c in candidates.values()))


def _cut_by_units(candidates: Candidates, count: int) -> dict[str, int]:
    """How many units of each kernel are among the `count` smallest of all.

    The cut is the smallest score that enough of them reach, found bit by bit: patterns
    of non-negative floats order like the numbers. No copy of all scores is made: a
    model's kernels are as much memory as there is to spare.
    """
    if count == 0:
        return dict.fromkeys(candidates, 0)
    keys = _keys({n: c.scores for n, c in candidates.items()})
    largest = {n: int(k.max()) for n, k in keys.items()}

    def free(name: str, reached: np.ndarray, cut: int) -> int:
        """How many of a kernel's units reach it; one always stays."""
        return int(np.count_nonzero(reached)) - int(largest[name] <= cut)

    low, high = -1, max(largest.values())
    while high - low > 1:
        cut = (low + high) // 2
        enough = sum(free(n, k <= cut, cut) for n, k in keys.items()) >= count
        low, high = (low, cut) if enough else (cut, high)
    pruned = {n: free(n, k < high, high - 1) for n, k in keys.items()}
    # Of equal scores the first ones are taken.
    left = count - sum(pruned.values())
    for name, key in keys.items():
        more = min(left, free(name, key <= high, high) - pruned[name])
        pruned[name] += more
        left -= more
    return pruned


def _keys(scores: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Integers that order like all the scores, which are looked at and not copied."""
    short = all(np.can_cast(s.dtype, np.float32) for s in scores.values())
    wide, whole = (np.float32, np.int32) if short else (np.float64, np.int64)
    keys = {}
    for name, values in scores.items():
        values = values.astype(wide, copy=False)
        if np.signbit(values).any():
            values = values + wide(0.0)  # -0.0 is a zero like the other one
        keys[name] = values.view(whole)
    return keys


def _cut_by_weights(candidates: Candidates, budget: int) -> dict[str, int]:
    """The same where units differ in size: the smallest, until the budget is met."""
    names = list(candidates)
    scores = np.concatenate([candidates[n].scores for n in names])
    sizes = np.concatenate([candidates[n].sizes for n in names])
    lengths = [len(candidates[n].scores) for n in names]
    starts = np.cumsum([0, *lengths[:-1]])
    owner = np.repeat(np.arange(len(names)), lengths)

    free = np.ones(len(scores), bool)
    for name, start in zip(names, starts, strict=True):
        free[start + int(np.argmax(candidates[name].scores))] = False
    # Stable: of equal scores the first ones are taken, whatever the sort's algorithm.
    order = np.flatnonzero(free)[np.argsort(scores[free], kind="stable")]
    taken = np.cumsum(sizes[order])
    count = int(np.searchsorted(taken, budget, side="right"))
    # Units may be larger than one weight: the nearer of the two neighbours.
    if count < len(taken):
        before = taken[count - 1] if count else 0
        count += int(taken[count] - budget < budget - before)
    pruned = np.bincount(owner[order[:count]], minlength=len(names))
    return {n: int(p) for n, p in zip(names, pruned, strict=True)}


def _apportion(
    candidates: Candidates, wanted: dict[str, float], sparsity: float
) -> dict[str, float]:
    """Whole units for the wanted fractions, by largest remainder, so that the sum fits.

    What a kernel can't give, because one unit stays, the others give.
    """
    limit = {n: len(c.scores) - 1 for n, c in candidates.items()}
    exact = {n: wanted[n] * len(c.scores) for n, c in candidates.items()}
    # 0.29 * 100 is 28.999999999999996: a whole number of units is not rounded down.
    pruned = {n: min(math.floor(exact[n] + 1e-9), limit[n]) for n in candidates}
    size = {n: c.weights / len(c.scores) for n, c in candidates.items()}
    missing = _budget(candidates, sparsity) - sum(pruned[n] * size[n] for n in pruned)
    by_remainder = sorted(pruned, key=lambda n: exact[n] - pruned[n], reverse=True)
    given = True
    while given:
        given = False
        for n in by_remainder:
            # Another unit of this kernel brings the sum nearer to the budget.
            if pruned[n] < limit[n] and size[n] < 2 * missing:
                pruned[n] += 1
                missing -= size[n]
                given = True
    return {n: pruned[n] / len(c.scores) for n, c in candidates.items()}


def check_candidates(candidates: Candidates, sparsity: float) -> None:
    """Raises unless there is something to share, and a share of it to remove."""
    if not isinstance(candidates, Mapping):
        raise TypeError(
            "`candidates` should be a mapping from names to the units of a kernel, as "
            f"PDPCallback passes it. Received: {candidates!r}."
        )
    if not candidates:
        raise ValueError("`candidates` should name at least one kernel. Received: {}.")
    if not 0.0 <= validation.real("sparsity", sparsity) <= 1.0:
        raise ValueError(
            "`sparsity` is the fraction of weights to remove and should be in [0, 1]. "
            f"Received: {sparsity!r}."
        )


def _budget(candidates: Candidates, sparsity: float) -> int:
    """Weights to remove."""
    return round(sparsity * sum(c.weights for c in candidates.values()))

r"""The formulas of PDP (Cho, Adya, Naik, NeurIPS 2023, arXiv 2305.11203).

For the scores `s` of one kernel, of which the `p` smallest are to be pruned:

    lo = p-th smallest s,  hi = (p+1)-th smallest s
    t  = (lo + hi) / 2                      as likely kept as pruned: m(t) = 1/2
    m  = softmax([t^2, s^2] / tau)[1] = sigmoid((s^2 - t^2) / tau)
    w' = m * w                              what the layer computes with in training

(there with a tau that falls as the sparsity rises, while the gradient's stays, see
`hardening.py`).

`t` is a constant to the gradient, so that `dw'/dw = m + (2 w^2 / tau) m (1 - m)` for
single weights. The hard mask, for evaluation and export, keeps by rank.

Scores are |w| for single weights and the root mean square for a block or a channel, so
that tau means the same for all. All of it is float32, whatever the weight's dtype.
"""

import functools

import numpy as np
from keras import ops

from keras_pdp.sparsity import threshold
from keras_pdp.sparsity.granularity import Granularity, Shape, Tensor

# Roots of tau: a square that is finite, of a score that is kept or pruned for certain.
_FAR = 1e19
# Kernels of different shapes of which is remembered how they are cut.
_SHAPES = 1024


def scores(w: Tensor, granularity: Granularity) -> Tensor:
    """How much each unit matters: the root mean square of its weights.

    Args:
        w: Kernel of any float dtype.
        granularity: How it is cut.

    Returns:
        float32 tensor of shape `(pools, units)`, >= 0; 0 for padding. Single weights
        may be as large or small as they like; where squares are summed, weights above
        1e19 overflow and those below 1e-19 count as 0.
    """
    units = granularity.split(ops.cast(w, "float32"))
    if units.shape[-1] == 1:
        return ops.abs(units[..., 0])
    # Padding is not counted: a smaller block at the edge is scored by what it has.
    sizes = ops.convert_to_tensor(_sizes(granularity, tuple(w.shape)), "float32")
    square = ops.sum(ops.square(units), axis=-1) / sizes
    # The root's slope at 0 is infinite; a dead unit has gradient 0, not NaN.
    alive = square > 0.0
    return ops.where(alive, ops.sqrt(ops.where(alive, square, 1.0)), 0.0)


def cut(s: Tensor, pruned: Tensor, granularity: Granularity) -> Tensor:
    """The threshold `t`, midway between the largest pruned and the smallest kept score.

    Args:
        s: Scores of shape `(pools, units)`, from `scores`. Where no pattern fixes what
            is kept, signs count for nothing: single weights may come as they are.
        pruned: int32 scalar tensor, units to prune, at least 1. Not used where the
            granularity fixes how many units a pool keeps.
        granularity: How the kernel is cut.

    Returns:
        float32 tensor of shape `(pools, 1)`.
    """
    keep = granularity.kept_per_pool
    if keep is None:
        lo, hi = threshold.neighbours(s[0], pruned)
        # Halved before they are added: two of the largest floats do not overflow.
        return ops.reshape(0.5 * lo + 0.5 * hi, (1, 1))
    ranked = ops.sort(s, axis=1)
    drop = s.shape[1] - keep
    return 0.5 * ranked[:, drop - 1 : drop] + 0.5 * ranked[:, drop : drop + 1]


def sigmoid_mask(s: Tensor, t: Tensor, tau: Tensor) -> Tensor:
    """`sigmoid((s^2 - t^2) / tau)`."""
    return ops.sigmoid(margin(s, t, tau))


def margin(s: Tensor, t: Tensor, tau: Tensor) -> Tensor:
    """`(s^2 - t^2) / tau` in its factored form: how far a score is above the cut.

    The difference of squares cancels near the threshold (error 1e-4 in the band where
    it matters); `(s - t) (s + t) / tau` is right to 1e-6, with both factors taken in
    units of the root of tau: one division for all scores.
    """
    unit = _per_root(tau)
    apart = ops.clip((s - t) * unit, -_FAR, _FAR)
    between = ops.minimum(0.5 * (s + t) * unit, _FAR)
    return apart * between


def slope(w: Tensor, t: Tensor, tau: Tensor) -> Tensor:
    """How `m * w` changes with `w`: `m + (2 w^2 / tau) m (1 - m)`.

    Of single weights. Written out, as what a backend derives from the mask takes
    longer.

    Args:
        w: Single weights, of any shape and float dtype.
        t: float32 scalar tensor, the threshold.
        tau: float32 scalar tensor > 0, the temperature.

    Returns:
        float32 tensor of the shape of `w`.
    """
    s = ops.abs(ops.cast(w, "float32"))
    m = sigmoid_mask(s, t, tau)
    steepness = ops.square(ops.minimum(s * _per_root(tau), _FAR))
    return m + m * ((1.0 - m) * steepness)


def _per_root(tau: Tensor) -> Tensor:
    """`sqrt(2 / tau)`, which is finite where `2 / tau` is not."""
    return ops.rsqrt(0.5 * tau)


def coupled_mask(square: Tensor, margin: Tensor, share: Tensor) -> Tensor:
    """`sigmoid(margin)`, differentiable in a kernel's part of the margin.

    Channels of several kernels that live and die together have one score, so that
    `margin = (s^2 - t^2) / tau` is the same number in all of them. It is computed
    elsewhere; each kernel contributes `share * square` to it, which is where the
    gradient goes.

    Args:
        square: float32 tensor `(channels,)`, mean squares of the kernel's channels.
        margin: float32 tensor `(channels,)`.
        share: float32 tensor `(channels,)`, the slope of `margin` in `square`.

    Returns:
        float32 tensor of shape `(channels,)`, entries in [0, 1].
    """
    return ops.sigmoid(margin + share * (square - ops.stop_gradient(square)))


def soft_mask(
    w: Tensor, pruned: Tensor, tau: Tensor, granularity: Granularity
) -> Tensor:
    """The mask of a training step, differentiable in `w`.

    For N:M the pattern is fixed and is blended in as the schedule advances:
    `1 + rho (m - 1)`, where rho is `pruned` over the units the pattern prunes.

    Args:
        w: Kernel in the layout `(*window, in, out)`, any float dtype.
        pruned: int32 scalar tensor, units pruned at this step, at least 1.
        tau: float32 scalar tensor > 0, the temperature, in units of squared weights.
        granularity: How the kernel is cut.

    Returns:
        float32 tensor of the kernel's shape, entries in (0, 1), 1 keeps.
    """
    return softened(w, soft_cut(w, pruned, granularity), pruned, tau, granularity)


def soft_cut(w: Tensor, pruned: Tensor, granularity: Granularity) -> Tensor:
    """The threshold of a training step: `cut` of the kernel, a constant to gradients.

    Args:
        w: Kernel in the layout `(*window, in, out)`, any float dtype.
        pruned: int32 scalar tensor, units pruned at this step, at least 1.
        granularity: How the kernel is cut.

    Returns:
        float32 tensor of shape `(pools, 1)`.
    """
    if granularity.ignores_axes:
        # Single weights as they are: their magnitudes would first be written to memory.
        s = ops.reshape(ops.cast(w, "float32"), (1, -1))
    else:
        s = scores(w, granularity)
    # Before the search: nothing in its loops is to be differentiated.
    return cut(ops.stop_gradient(s), pruned, granularity)


def softened(
    w: Tensor, t: Tensor, pruned: Tensor, tau: Tensor, granularity: Granularity
) -> Tensor:
    """`soft_mask` where its threshold is known: what is cheap to compute twice.

    Args:
        w: Kernel in the layout `(*window, in, out)`, any float dtype.
        t: float32 tensor of shape `(pools, 1)`, from `soft_cut`.
        pruned: int32 scalar tensor, as in `soft_mask`.
        tau: float32 scalar tensor, as in `soft_mask`.
        granularity: How the kernel is cut.

    Returns:
        float32 tensor of the kernel's shape.
    """
    shape = tuple(w.shape)
    m = sigmoid_mask(scores(w, granularity), t, tau)
    if granularity.kept_per_pool is not None:
        rho = ops.cast(pruned, "float32") / _prunable(granularity, shape)
        m = 1.0 + rho * (m - 1.0)
        whole = _whole(granularity, shape)
        m = m if whole is None else ops.where(whole, 1.0, m)
    return _spread(m, granularity, shape)


def hard_mask(w: Tensor, pruned: Tensor, granularity: Granularity) -> Tensor:
    """The mask of evaluation and export: the largest units by rank.

    Exactly `pruned` units are pruned; of equal scores the first ones stay. For N:M
    every pool keeps exactly `n` units as soon as `pruned` > 0.

    Args:
        w: Kernel in the layout `(*window, in, out)`, any float dtype.
        pruned: int32 scalar tensor, units to prune; 0 keeps all.
        granularity: How the kernel is cut.

    Returns:
        bool tensor of the kernel's shape, True keeps.
    """
    s = scores(w, granularity)
    keep = granularity.kept_per_pool
    if keep is None:
        m = ops.expand_dims(threshold.kept(s[0], pruned), 0)
    else:
        m = ops.logical_or(_rank(s) < keep, pruned < 1)
    return _spread(m, granularity, tuple(w.shape))


def _rank(s: Tensor) -> Tensor:
    """How many units of the pool come before each; of equal ones the first leads."""
    one, other = ops.expand_dims(s, 2), ops.expand_dims(s, 1)
    earlier = np.tri(s.shape[1], k=-1, dtype=bool)
    ahead = ops.logical_or(other > one, ops.logical_and(other == one, earlier))
    return ops.sum(ops.cast(ahead, "int32"), axis=2)


# What a granularity tells of a shape is asked for once: PyTorch, which traces nothing,
# would ask in every step.


@functools.lru_cache(_SHAPES)
def pools(granularity: Granularity, shape: Shape) -> int:
    """Into how many groups a kernel of that shape is cut, whose units compete."""
    return int(granularity.sizes(shape).shape[0])


@functools.lru_cache(_SHAPES)
def _sizes(granularity: Granularity, shape: Shape) -> np.ndarray:
    """Weights in each unit, float32 `(pools, units)`, or `(1, 1)` if all are equal."""
    sizes = granularity.sizes(shape).astype("float32")
    return sizes[:1, :1].copy() if sizes.size and np.ptp(sizes) == 0.0 else sizes


@functools.lru_cache(_SHAPES)
def _prunable(granularity: Granularity, shape: Shape) -> int:
    return granularity.prunable_count(shape)


@functools.lru_cache(_SHAPES)
def _whole(granularity: Granularity, shape: Shape) -> np.ndarray | None:
    """Pools so small that they keep everything, as bool `(pools, 1)`, if any is."""
    group = granularity.sizes(shape).sum(axis=1, keepdims=True)
    whole = np.asarray(group <= granularity.kept_per_pool)
    return whole if whole.any() else None


def _spread(m: Tensor, granularity: Granularity, shape: Shape) -> Tensor:
    """A mask over units as a mask over the kernel's weights."""
    pools, units = m.shape
    m = ops.expand_dims(m, 2)
    m = ops.broadcast_to(m, (pools, units, granularity.elements(shape)))
    return granularity.join(m, shape)

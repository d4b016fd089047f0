"""What a layer computes with instead of its kernel, and the gradient of that.

Functions of tensors alone, so that kernels of one shape share what is traced of them.
In each of three phases (`PrunedKernel.phase`): before pruning begins the kernel itself,
then the kernel times its mask, then the kernel times the stored mask. At sparsity 0 and
when frozen no threshold is computed.

Between the first and the last the mask hardens, while the gradient stays that of the
soft one: `w' = m_h(w) w` with `m_h = sigmoid(h (w^2 - t^2) / tau)` and a hardness `h`
that rises, and `dw'/dw` as if `h` were 1. What is computed with is soon what will ship,
and weights near the cut go on being told on which side they should be.
"""

import functools
from collections.abc import Hashable

import keras
from keras import ops

from keras_pdp.sparsity import mask
from keras_pdp.sparsity.granularity import Granularity, Tensor
from keras_pdp.sparsity.layout import Layout, as_stored
from keras_pdp.training.compiled import (
    choose,
    compiled,
    computed_again,
    learning_as,
    pulled_back,
)


def soft(
    w: Tensor,
    phase: Tensor,
    pruned: Tensor,
    tau: Tensor,
    hardness: Tensor,
    stored: Tensor,
    *,
    granularity: Granularity,
    layout: Layout,
) -> tuple[Tensor, Tensor]:
    """The kernel of a training step, and the threshold, which its gradient needs.

    Args:
        w: The kernel, as the layer stores it.
        phase: int32 scalar tensor.
        pruned: int32 scalar tensor, units pruned now.
        tau: float32 scalar tensor, the temperature of the gradient.
        hardness: float32 scalar tensor, what tau is divided by to compute with.
        stored: bool tensor of the kernel's shape, the mask in use once frozen.
        granularity: How the kernel is cut.
        layout: How it is stored.
    """
    pools = granularity.sizes(layout.shape(tuple(w.shape))).shape[0]

    def no_threshold() -> Tensor:
        return ops.zeros((pools, 1), "float32")

    def masked() -> tuple[Tensor, Tensor]:
        program = compiled(_product_at_cut, **_static(granularity, layout))
        product, t = program(_shared(w, granularity, layout), pruned, tau, hardness)
        return ops.reshape(product, w.shape), t

    return choose(
        phase,
        [
            lambda: (w, no_threshold()),
            masked,
            lambda: (ops.where(stored, w, 0.0), no_threshold()),
        ],
    )


def soft_gradient(
    upstream: Tensor,
    w: Tensor,
    t: Tensor,
    phase: Tensor,
    pruned: Tensor,
    tau: Tensor,
    stored: Tensor,
    *,
    granularity: Granularity,
    layout: Layout,
) -> Tensor:
    """The kernel's gradient from that of `soft`, whose arguments these are.

    The soft mask's: `upstream * (m + (2 w^2 / tau) m (1 - m))` for single weights.
    """

    def masked() -> Tensor:
        program = compiled(_product_gradient, **_static(granularity, layout))
        shared = (_shared(each, granularity, layout) for each in (upstream, w))
        return ops.reshape(program(*shared, t, pruned, tau), w.shape)

    return choose(
        phase, [lambda: upstream, masked, lambda: ops.where(stored, upstream, 0.0)]
    )


def hard(
    w: Tensor,
    phase: Tensor,
    pruned: Tensor,
    stored: Tensor,
    *,
    granularity: Granularity,
    layout: Layout,
) -> Tensor:
    """The kernel of evaluation, from the arguments of `soft`."""

    def ranked() -> Tensor:
        keep = kept(w, pruned, granularity=granularity, layout=layout)
        return ops.where(keep, w, 0.0)

    return choose(phase, [lambda: w, ranked, lambda: ops.where(stored, w, 0.0)])


def kept(
    w: Tensor, pruned: Tensor, *, granularity: Granularity, layout: Layout
) -> Tensor:
    """The hard mask, bool, of the kernel's shape."""
    program = compiled(_hard_mask, **_static(granularity, layout))
    return ops.reshape(program(_shared(w, granularity, layout), pruned), w.shape)


def scaled(w: Tensor, m: Tensor) -> Tensor:
    """`m * w` in the dtype of `w`, in which a mask of 1 changes nothing."""
    own = keras.backend.standardize_dtype(w.dtype)
    # Not `result_type`: to Keras float64 and float32 together are float32.
    wide = own if own == "float64" else "float32"
    return ops.cast(ops.cast(m, wide) * ops.cast(w, wide), w.dtype)


def _is_vector(granularity: Granularity, layout: Layout) -> bool:
    """Whether the axes play no part.

    Compiled functions then take a vector: kernels of as many weights share what is
    compiled, such as the four of an attention.
    """
    return granularity.ignores_axes and layout.in_order


def _shared(w: Tensor, granularity: Granularity, layout: Layout) -> Tensor:
    """As the compiled functions take it."""
    return ops.reshape(w, (-1,)) if _is_vector(granularity, layout) else w


def _static(granularity: Granularity, layout: Layout) -> dict[str, Hashable]:
    own = as_stored(1) if _is_vector(granularity, layout) else layout
    return {"granularity": granularity, "layout": own}


def _product_at_cut(
    w: Tensor,
    pruned: Tensor,
    tau: Tensor,
    hardness: Tensor,
    *,
    granularity: Granularity,
    layout: Layout,
) -> tuple[Tensor, Tensor]:
    """The kernel times its mask, and the threshold."""
    t = mask.soft_cut(layout.bring(w), pruned, granularity)
    product = functools.partial(
        _product, t=t, pruned=pruned, granularity=granularity, layout=layout
    )
    # Computed again for its gradient, as it is cheap but for the threshold: kept until
    # then it would take ten times the kernel's memory, for every kernel of the model.
    learns = computed_again(functools.partial(product, tau=tau))
    (masked,) = learning_as([product(w, tau=tau / hardness)], lambda: [learns(w)])
    return masked, t


def _product_gradient(
    upstream: Tensor,
    w: Tensor,
    t: Tensor,
    pruned: Tensor,
    tau: Tensor,
    *,
    granularity: Granularity,
    layout: Layout,
) -> Tensor:
    product = functools.partial(
        _product, t=t, pruned=pruned, tau=tau, granularity=granularity, layout=layout
    )
    return pulled_back(product, [w], upstream)[0]


def _product(
    w: Tensor,
    *,
    t: Tensor,
    pruned: Tensor,
    tau: Tensor,
    granularity: Granularity,
    layout: Layout,
) -> Tensor:
    viewed = layout.bring(w)
    m = mask.softened(viewed, t, pruned, tau, granularity)
    return layout.restore(scaled(viewed, m), tuple(w.shape))


def _hard_mask(
    w: Tensor, pruned: Tensor, *, granularity: Granularity, layout: Layout
) -> Tensor:
    keep = mask.hard_mask(layout.bring(w), pruned, granularity)
    return layout.restore(keep, tuple(w.shape))

"""What a layer computes with instead of its kernel, and the gradient of that.

Functions of tensors alone, so that kernels of one shape share what is traced of them.
In each of three phases (`PrunedKernel.phase`): before pruning begins the kernel itself,
then the kernel times its mask, then the kernel times the stored mask. At sparsity 0 and
when frozen no threshold is computed.

Between the first and the last the mask hardens, while the gradient stays that of the
soft one: `w' = m_h(w) w` with `m_h = sigmoid(h (w^2 - t^2) / tau)` and a hardness `h`
that rises, and `dw'/dw` as if `h` were 1. What is computed with is soon what will ship,
and weights near the cut go on being told on which side they should be.

On TensorFlow the gradient of a kernel of few single weights is a product with the slope
`dw'/dw`, computed and kept since the forward pass: to start a program of its own for it
would take longer than its work. Of many weights, and of units whose weights share a
mask, it is computed again from the threshold, which keeps no memory.
"""

import functools
import math
from collections.abc import Callable, Hashable

import keras
from keras import ops

from keras_pdp.sparsity import mask
from keras_pdp.sparsity.granularity import Granularity, Tensor
from keras_pdp.sparsity.layout import Layout, as_stored
from keras_pdp.training.compiled import (
    choose,
    compiled,
    computed_again,
    has_own_gradients,
    learning_as,
    pulled_back,
    traced_once,
    with_gradient,
)

# Weights up to which the slope is kept: beyond, to write and read it costs more than a
# program's start (benchmarks/step_parts.py).
_FEW = 2**17


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
) -> tuple[Tensor, ...]:
    """The kernel of a training step, and what its gradient needs.

    Args:
        w: The kernel, as the layer stores it.
        phase: int32 scalar tensor.
        pruned: int32 scalar tensor, units pruned now.
        tau: float32 scalar tensor, the temperature of the gradient.
        hardness: float32 scalar tensor, what tau is divided by to compute with.
        stored: bool tensor of the kernel's shape, the mask in use once frozen.
        granularity: How the kernel is cut.
        layout: How it is stored.

    Returns:
        The kernel, the threshold, and the slope where it `keeps_slope`.
    """
    pools = mask.pools(granularity, layout.shape(tuple(w.shape)))
    few = keeps_slope(w, granularity)

    def known(masked: Tensor, slope: Callable[[], Tensor]) -> tuple[Tensor, ...]:
        no_threshold = ops.zeros((pools, 1), "float32")
        return masked, no_threshold, *([slope()] if few else [])

    def soft_now() -> tuple[Tensor, ...]:
        static = _static(granularity, layout)
        program = compiled(_product_at_cut, with_slope=few, **static)
        given = _shared(w, granularity, layout), pruned, tau, hardness
        product, t, *slope = program(*given)
        product, *slope = (ops.reshape(each, w.shape) for each in (product, *slope))
        return product, t, *slope

    return choose(
        phase,
        [
            lambda: known(w, lambda: ops.ones_like(w)),
            soft_now,
            lambda: known(ops.where(stored, w, 0.0), lambda: ops.cast(stored, w.dtype)),
        ],
    )


def soft_gradient(
    upstream: Tensor,
    w: Tensor,
    t: Tensor,
    slope: Tensor | None,
    *state: Tensor,
    granularity: Granularity,
    layout: Layout,
) -> Tensor:
    """The kernel's gradient from that of `soft`; on TensorFlow only.

    The soft mask's: `upstream * (m + (2 w^2 / tau) m (1 - m))` for single weights.

    Args:
        upstream: The gradient of what `soft` gives.
        w: The kernel.
        t: The threshold, from `soft`.
        slope: From `soft`; None where it keeps none.
        *state: `phase`, `pruned`, `tau` and `stored`, as `soft` takes them.
        granularity: How the kernel is cut.
        layout: How it is stored.
    """
    static = {"granularity": granularity, "layout": layout}
    again = traced_once(_soft_gradient, **static)
    if slope is None:
        return again(upstream, w, t, *state)

    def product(upstream: Tensor, w: Tensor) -> tuple[list[Tensor], None]:
        return [upstream * slope], None

    def second(
        upstreams: list[Tensor], given: tuple[Tensor, ...], _: None
    ) -> list[Tensor]:
        return pulled_back(lambda u, w: again(u, w, t, *state), given, upstreams[0])

    # The slope depends on the kernel, which only its own derivative has to know.
    return with_gradient(product, second)(upstream, w)[0]


def keeps_slope(w: Tensor, granularity: Granularity) -> bool:
    """Whether `soft` gives the slope `dw'/dw` of each weight too.

    Where weights share a mask the gradient is no product with a slope; and in half
    precision the slope would be rounded once more than the gradient.
    """
    own = keras.backend.standardize_dtype(w.dtype)
    few = math.prod(w.shape) <= _FEW and own == "float32"
    return has_own_gradients() and granularity.ignores_axes and few


def _soft_gradient(
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
    with_slope: bool,
) -> tuple[Tensor, ...]:
    """The kernel times its mask, the threshold, and the slope if it is asked for."""
    t = mask.soft_cut(layout.bring(w), pruned, granularity)
    product = functools.partial(
        _product, t=t, pruned=pruned, granularity=granularity, layout=layout
    )
    # Computed again for its gradient, as it is cheap but for the threshold: kept until
    # then it would take ten times the kernel's memory, for every kernel of the model.
    learns = computed_again(functools.partial(product, tau=tau))
    (masked,) = learning_as([product(w, tau=tau / hardness)], lambda: [learns(w)])
    if not with_slope:
        return masked, t
    return masked, t, mask.slope(w, ops.reshape(t, ()), tau)


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
    if granularity.ignores_axes:
        return scaled(upstream, mask.slope(w, ops.reshape(t, ()), tau))
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

"""Strided convolutions with the explicit, symmetric padding that sparse kernels take.

Keras pads a stride-2 convolution at the end only: `padding="same"` on an even size, or
`ZeroPadding2D(((0, 1), (0, 1)))` in keras.applications. A k×k window that starts
`before` the map is the same window inside a larger one with p = K // 2 zeros all round:

    K×K kernel = zeros, with the k×k kernel at [p - before :, p - before :]

which is exact when it fits, p - before + k <= K, and the output sizes agree. The sparse
kernels take K of 3 or 5 for depthwise convolutions, so a 3×3 one always has its 5×5 one
on even sizes. The stem must be 3×3: its grid is shifted by one pixel instead. On odd
sizes nothing helps, because there the converter writes symmetric padding as "same".
"""

from dataclasses import dataclass

import keras
import numpy as np

from keras_pdp.deployment.draft import Draft
from keras_pdp.deployment.preparation import Change
from keras_pdp.deployment.sparse_encoding import Array
from keras_pdp.training import copies

_STEM = (3,)
_DEPTHWISE = (3, 5)


@dataclass(frozen=True)
class _Axis:
    """A strided window along height or width."""

    size: int
    window: int
    stride: int
    before: int
    after: int

    @property
    def is_same(self) -> bool:
        """Whether the converter writes this padding as `padding="same"`."""
        same = _same(self.size, self.window, self.stride)
        return (self.before, self.after) == same

    @property
    def steps(self) -> int:
        """Length of the output."""
        padded = self.size + self.before + self.after
        return (padded - self.window) // self.stride + 1

    def around(self, window: int) -> "_Axis":
        """With a window of another size and symmetric padding."""
        return _Axis(self.size, window, self.stride, window // 2, window // 2)

    def offset(self, window: int) -> int | None:
        """Where the window lies in a larger one; `None` where that is not the same."""
        place = window // 2 - self.before
        fits = 0 <= place <= window - self.window
        return place if fits and self.around(window).steps == self.steps else None


def pad_symmetrically(draft: Draft, stems: list[str]) -> list[Change]:
    """Rewrites the stems and strided depthwise convolutions of a model.

    Stops behind a layer whose output got another size: what follows is to be read from
    the model that the draft then gives.

    Args:
        draft: the model; it is changed.
        stems: the names of its first convolutions.

    Returns:
        What was changed; nothing when all are padded as they should be.
    """
    changes = []
    for name in draft.names:
        layer = draft.layer(name)
        is_stem = name in stems
        if not is_stem and not isinstance(layer, keras.layers.DepthwiseConv2D):
            continue
        axes = _axes(draft, name)
        if axes is None or axes[0].stride != 2:
            continue
        change, resized = _padded(draft, name, axes, _STEM if is_stem else _DEPTHWISE)
        changes += [change] if change else []
        if resized:
            break
    return changes


def _axes(draft: Draft, name: str) -> tuple[_Axis, _Axis] | None:
    """Height and width of a convolution; `None` for one that is not to be rewritten."""
    layer = draft.layer(name)
    source = draft.source(name)
    if layer is None or source is None or layer.data_format != "channels_last":
        return None
    window, strides = layer.kernel_size, layer.strides
    plain = tuple(layer.dilation_rate) == (1, 1) and window[0] == window[1]
    if not plain or window[0] not in _DEPTHWISE or strides[0] != strides[1]:
        return None
    pad = draft.layer(source)
    padded = isinstance(pad, keras.layers.ZeroPadding2D)
    first = pad if padded and pad is not None else layer
    sizes = first.input.shape[1:3]
    if None in sizes or (padded and layer.padding != "valid"):
        return None
    same = layer.padding == "same"
    margins = first.padding if padded else ((0, 0), (0, 0))
    height, width = (
        _Axis(
            size,
            window[0],
            strides[0],
            *(_same(size, window[0], strides[0]) if same else margin),
        )
        for size, margin in zip(sizes, margins, strict=True)
    )
    return height, width


def _same(size: int, window: int, stride: int) -> tuple[int, int]:
    """What `padding="same"` adds before and after."""
    total = max((-(-size // stride) - 1) * stride + window - size, 0)
    return total // 2, total - total // 2


def _padded(
    draft: Draft, name: str, axes: tuple[_Axis, _Axis], windows: tuple[int, ...]
) -> tuple[Change | None, bool]:
    """The change, if one is needed, and whether the output has another size now."""
    old, size = draft.layer(name), axes[0].window
    assert old is not None
    offsets = {
        window: (axes[0].offset(window), axes[1].offset(window))
        for window in windows
        if window >= size and not all(axis.around(window).is_same for axis in axes)
    }
    exact = [window for window, at in offsets.items() if None not in at]
    window = exact[0] if exact else size
    if all(axis.around(window).is_same for axis in axes):
        return None, False
    symmetric = all((axis.before, axis.after) == (size // 2,) * 2 for axis in axes)
    if symmetric and old.padding == "valid" and size in exact:
        return None, False
    top, left = offsets[window] if exact else (0, 0)
    weights = old.get_weights()
    weights[0] = _embedded(weights[0], window, top or 0, left or 0)
    changed = copies.copy_of(old, padding="valid", kernel_size=(window, window))
    draft.replace(name, changed, weights)
    _set_padding(draft, name, window // 2)
    what = f'padding={window // 2} all round and "valid"'
    if window != size:
        what = f"{window}×{window} instead of {size}×{size}, {what}"
    if not exact:
        what += ", its grid shifted by a pixel"
    resized = any(axis.around(window).steps != axis.steps for axis in axes)
    return Change(name, what, bool(exact)), resized


def _embedded(kernel: Array, window: int, top: int, left: int) -> Array:
    height, width = kernel.shape[:2]
    larger = np.zeros((window, window, *kernel.shape[2:]), kernel.dtype)
    larger[top : top + height, left : left + width] = kernel
    return larger


def _set_padding(draft: Draft, name: str, amount: int) -> None:
    source, layer = draft.source(name), draft.layer(name)
    assert source is not None and layer is not None
    pad = draft.layer(source)
    is_pad = isinstance(pad, keras.layers.ZeroPadding2D)
    if is_pad and draft.user(source) == name:
        draft.replace(source, copies.copy_of(pad, padding=(amount, amount)))
        return
    own = draft.free_name(f"{name}_pad")
    draft.insert(keras.layers.ZeroPadding2D(amount, name=own), before=name)
    if is_pad:  # others read the padded map as well
        draft.bypass(own, source)

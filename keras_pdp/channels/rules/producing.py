"""What all layers share that make new channels."""

from collections.abc import Sequence
from typing import Any

from keras_pdp.channels.rules import family
from keras_pdp.channels.tensor import Tensor
from keras_pdp.channels.trace import Called, Trace


def fresh_channels(
    called: Called,
    trace: Trace,
    shape: Sequence[int | None],
    axis: int,
    tensor: Tensor | None,
) -> Tensor:
    """The output: new ids on one axis, the input's on the axes before the last."""
    layer = called.layer
    made = trace.new(tuple(shape), [axis])
    ids = list(made.ids)
    if tensor is not None:
        for other in tensor.followed:
            if other != tensor.rank - 1 and other != axis and other < len(ids):
                ids[other] = tensor.ids[other]
    output = Tensor(made.shape, tuple(ids))
    new = output.ids[axis]
    reason = family.mixes(getattr(layer, "activation", None))
    if reason and new is not None:
        trace.ties.pin(new, f"'{called.name}': {reason}")
    trace.count(layer, "units" if hasattr(layer, "units") else "filters", new)
    return output


def computed(layer: Any) -> bool:
    """Whether the kernel is no variable of the layer's: LoRA, quantized."""
    if getattr(layer, "lora_enabled", False):
        return True
    return getattr(layer, "quantization_mode", None) is not None


def hold_space(called: Called, trace: Trace, tensor: Tensor, axis: int) -> None:
    """Pins the axes that a window moves along."""
    for other in tensor.followed:
        if other != axis:
            trace.hold(tensor, other, f"'{called.name}' works along this axis")


def image_shape(called: Called, tensor: Tensor, axis: int) -> tuple[int | None, ...]:
    """The output's shape, as far as it is known."""
    if called.shapes:
        return called.shapes[0]
    shape: list[int | None] = [None] * tensor.rank
    shape[axis] = called.layer.filters
    return tuple(shape)


def space(tensor: Tensor, axis: int) -> tuple[int | None, ...]:
    """A shape with the batch and without the channels."""
    return tuple(n for i, n in enumerate(tensor.shape) if i != axis)


def hold_sum(called: Called, trace: Trace, tensor: Tensor) -> None:
    """Pins what is summed where more than one axis is followed."""
    trace.ties.pin(
        tensor.every_id, f"'{called.name}' meets channels on more than one axis"
    )


def cut_at_border(called: Called, window: Sequence[int]) -> str | None:
    """Why some output positions see only part of the window; None where none does."""
    if called.layer.padding == "valid" or all(size == 1 for size in window):
        return None
    return f"its constant meets the padding of '{called.name}'"

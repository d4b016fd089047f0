"""What the runtime's channels-first layout can hold: a rule for each kind of op.

The sparse kernels read and write tensors with the channels first. So the runtime
switches the tensors between a *start* (the one convolution that turns channels-last
into channels-first) and an *end* (the ops that turn it back) to that layout, when it
takes all ops *inside* to be able to compute in it. What it does not check is that the
last op inside is followed by an end: a neighbour that cannot read the layout reads
garbage, or is refused when the file is loaded.

The rules are those of XNNPACK as it stands in LiteRT 2.3 and LiteRT.js 2.5, stricter
where older versions differ. `tests/deployment/test_sparse_kernels.py` holds them
against what the sparse kernels compute.
"""

from collections.abc import Callable
from dataclasses import replace

from keras_pdp.deployment.nchw_convolutions import (
    convolution,
    depthwise,
    doubt_of_start,
    may_start,
)
from keras_pdp.deployment.nchw_fit import END, INSIDE, Fit, Role, outside
from keras_pdp.deployment.nchw_nodes import Node

# Activations that the runtime takes apart from the op that they are fused into.
_FUSED = ("NONE", "RELU", "RELU6")

_POOLED = "shrink the map with a stride-2 depthwise convolution"
_TAKE_OUT = "take it out of the convolutional part"
_FIRST = "put it before the 3×3 stride-2 convolution that starts the sparse part, or "


def fit(node: Node) -> Fit:
    """The role of an op, by its kind, options and shapes."""
    if not node.operator.outputs:
        return outside("keeps what it reads and gives nothing", _TAKE_OUT)
    # Before all that makes an op odd: what only may start must not pass for what can't.
    if may_start(node):
        return _start(node)
    misfit = _misfit(node)
    if misfit is not None:
        return misfit
    rule = _RULES.get(node.kind)
    if rule is not None:
        return rule(node)
    advice = _INSTEAD.get(node.kind, _TAKE_OUT)
    return outside("has no channels-first kernel", advice)


def _misfit(node: Node) -> Fit | None:
    """What keeps an op of any kind out."""
    if not node.inputs:
        return outside("reads nothing that is computed", "take it out")
    if _other_dtypes(node):
        return outside(
            f"computes with {_other_dtypes(node)}",
            "keep the whole file in float32 or float16",
        )
    if node.options.activation not in _FUSED:
        return outside(
            f"has {node.options.activation} fused into it",
            "use ReLU, ReLU6, swish or hard swish",
        )
    return None


def _start(node: Node) -> Fit:
    doubt = _misfit(node) or doubt_of_start(node)
    return Fit(Role.START) if doubt is None else replace(doubt, role=Role.START)


def _combination(node: Node) -> Fit:
    if len(node.inputs) != 2:
        return outside(
            "combines a map with a constant",
            f"{_FIRST}fold it into a convolution: BatchNormalization directly behind "
            "one, before the activation; sigmoid instead of hard_sigmoid",
        )
    if node.inputs[0] == node.inputs[1]:
        return outside("combines a map with itself", "take one of the two out")
    left, right = (node.graph.tensors[x].shape for x in node.inputs)
    gate = node.kind == "MUL" and (_is_gate(left, right) or _is_gate(right, left))
    if len(left) == 4 and (left == right or gate):
        return INSIDE
    return outside(
        f"combines shapes {left} and {right}",
        "combine maps of one shape; multiply by one number for each channel",
    )


def _is_gate(gate: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    return len(shape) == 4 and gate == (1, 1, 1, shape[3])


def _activation(node: Node) -> Fit:
    if len(node.source.shape) == 4:
        return INSIDE
    return outside("is not on a map", "use it behind the last Dense layer only")


def _recent(node: Node) -> Fit:
    return outside(
        "has a channels-first kernel in the newest versions of the runtime only",
        "use ReLU, swish or hard swish",
    )


def _resize(node: Node) -> Fit:
    sizes = (*node.source.shape[1:3], *node.result.shape[1:3])
    if len(node.source.shape) == 4 and min(sizes) > 1:
        return INSIDE
    return outside("resizes a map of one row or column", "resize larger maps")


def _mean(node: Node) -> Fit:
    axes = node.tensor(1)
    known = axes is not None and axes.constant is not None
    rank = len(node.source.shape)
    if not known or axes is None or axes.constant is None or rank != 4:
        return outside("is not the mean of a map", "use GlobalAveragePooling2D()")
    reduced = {int(axis) % rank for axis in axes.constant.values.reshape(-1)}
    if reduced != {1, 2}:
        return outside("is not over height and width", "use GlobalAveragePooling2D()")
    return INSIDE if node.options.keep_dims else END


def _depth_to_space(node: Node) -> Fit:
    return END if len(node.source.shape) == 4 else outside("is not on a map", "")


def _other_dtypes(node: Node) -> str:
    """The dtypes that keep an op out: the runtime's sparse kernels know floats only."""
    graph = node.graph
    computed = [graph.tensors[x].dtype for x in (*node.inputs, *node.operator.outputs)]
    weight = node.tensor(1) if "CONV" in node.kind else None
    stored = [weight.constant.dtype] if weight and weight.constant else []
    other = {x for x in computed if x != "float32"}
    other |= {x for x in stored if x not in ("float32", "float16")}
    return ", ".join(sorted(other))


_RULES: dict[str, Callable[[Node], Fit]] = {
    "ADD": _combination,
    "CONV_2D": convolution,
    "DEPTHWISE_CONV_2D": depthwise,
    "DEPTH_TO_SPACE": _depth_to_space,
    "ELU": _activation,
    "GELU": _recent,
    "HARD_SWISH": _activation,
    "LEAKY_RELU": _activation,
    "LOGISTIC": _activation,
    "MEAN": _mean,
    "MUL": _combination,
    "RELU": _activation,
    "RELU6": _activation,
    "RESIZE_BILINEAR": _resize,
    "TANH": _recent,
}

_HEAD = "end with GlobalAveragePooling2D(), without keepdims, and Dense layers"
_INSTEAD = {
    "AVERAGE_POOL_2D": _POOLED,
    "CONCATENATION": "add maps of one shape instead of concatenating them",
    "FULLY_CONNECTED": _HEAD,
    "MAX_POOL_2D": _POOLED,
    "NEG": "PReLU is computed with it: use LeakyReLU, ReLU or ELU",
    "PAD": 'use ZeroPadding2D only in front of one layer with padding="valid"',
    "PRELU": "use LeakyReLU, ReLU or ELU",
    "REDUCE_MAX": "use GlobalAveragePooling2D()",
    "RESHAPE": _HEAD,
    "RESIZE_NEAREST_NEIGHBOR": 'use UpSampling2D(interpolation="bilinear")',
    "SOFTMAX": _HEAD,
    "SQUEEZE": _HEAD,
    "SUB": "use Add, with the sign in the weights of a convolution",
    "SUM": "use GlobalAveragePooling2D()",
    "TRANSPOSE_CONV": "use bilinear up-sampling and a 1×1 convolution",
}

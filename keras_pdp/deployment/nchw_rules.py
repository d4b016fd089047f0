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
from dataclasses import dataclass, replace
from enum import Enum

from keras_pdp.deployment.nchw_nodes import NO_MARGINS, Node
from keras_pdp.deployment.operators import Tensor


class Role(Enum):
    """Where an op may stand in the channels-first part of a graph."""

    START = "start"
    INSIDE = "inside"
    END = "end"
    OUTSIDE = "outside"


@dataclass(frozen=True)
class Fit:
    """The role of an op.

    Args:
        role: where it may stand.
        reason: why it may not stand inside, or, for a start, why it may not be one.
        advice: what to write instead.
    """

    role: Role
    reason: str = ""
    advice: str = ""


_INSIDE = Fit(Role.INSIDE)
_END = Fit(Role.END)

# Activations that the runtime takes apart from the op that they are fused into.
_FUSED = ("NONE", "RELU", "RELU6")

_COMPUTED = Fit(Role.OUTSIDE, "has weights that are computed", "use constant weights")
_PADDED = Fit(
    Role.OUTSIDE,
    "is padded in a way that the runtime may take for that of a start",
    'use one ZeroPadding2D(1) and padding="valid", for this layer alone',
)
_ODD = Fit(
    Role.OUTSIDE,
    "strides over a map of odd size, where the converter writes every padding as SAME",
    "use inputs whose maps have even sizes, such as multiples of 32",
)
_POOLED = "shrink the map with a stride-2 depthwise convolution"
_TAKE_OUT = "take it out of the convolutional part"
_FIRST = "put it before the 3×3 stride-2 convolution that starts the sparse part, or "


def fit(node: Node) -> Fit:
    """The role of an op, by its kind, options and shapes."""
    if not node.operator.outputs:
        return _outside("keeps what it reads and gives nothing", _TAKE_OUT)
    # Before all that makes an op odd: what only may start must not pass for what can't.
    if _may_start(node):
        return _start(node)
    misfit = _misfit(node)
    if misfit is not None:
        return misfit
    rule = _RULES.get(node.kind)
    if rule is not None:
        return rule(node)
    advice = _INSTEAD.get(node.kind, _TAKE_OUT)
    return _outside("has no channels-first kernel", advice)


def _misfit(node: Node) -> Fit | None:
    """What keeps an op of any kind out."""
    if not node.inputs:
        return _outside("reads nothing that is computed", "take it out")
    if _other_dtypes(node):
        return _outside(
            f"computes with {_other_dtypes(node)}",
            "keep the whole file in float32 or float16",
        )
    if node.options.activation not in _FUSED:
        return _outside(
            f"has {node.options.activation} fused into it",
            "use ReLU, ReLU6, swish or hard swish",
        )
    return None


def _may_start(node: Node) -> bool:
    """Whether some version of the runtime may start here: `False` only if none does."""
    weight, options = node.tensor(1), node.options
    if node.kind != "CONV_2D" or weight is None or weight.shape[1:] != (3, 3, 3):
        return False
    if options.stride != (2, 2) or options.dilation != (1, 1):
        return False
    if node.inputs and (_is_grouped(node) or _has_integers_only(node)):
        return False
    by_one = not options.same and node.margins == ((1, 1), (1, 1))
    return by_one or node.padded


def _is_grouped(node: Node) -> bool:
    shape = node.source.shape
    return len(shape) == 4 and shape[3] not in (-1, 3)


def _has_integers_only(node: Node) -> bool:
    return not any("float" in each.dtype for each in (node.source, node.result))


def _start(node: Node) -> Fit:
    doubt = _misfit(node)
    if doubt is None and _weight(node) is None:
        doubt = _COMPUTED
    if doubt is None and node.padded:
        doubt = _PADDED
    return Fit(Role.START) if doubt is None else replace(doubt, role=Role.START)


def _convolution(node: Node) -> Fit:
    weight, options = _weight(node), node.options
    if weight is None or len(node.source.shape) != 4:
        return _COMPUTED
    _, height, width, channels = weight.shape
    if channels != node.source.shape[3]:
        return _outside("is a grouped convolution", "use groups=1")
    if options.dilation != (1, 1):
        return _outside("is dilated", "use dilation_rate=1")
    if (height, width) == (1, 1):
        return _pointwise(node)
    if (height, width, channels) == (3, 3, 3) and options.stride == (2, 2):
        return _unlike_a_start(node)
    return _outside(
        f"is a {height}×{width} convolution",
        "use a 3×3 or 5×5 depthwise convolution and a 1×1 convolution; the only dense "
        "one is the first: 3×3, stride 2, on 3 channels",
    )


def _pointwise(node: Node) -> Fit:
    if node.options.stride != (1, 1):
        return _outside(
            "is a 1×1 convolution with strides",
            "use stride 1, and the stride in the depthwise convolution before it",
        )
    if node.margins != NO_MARGINS:
        return _outside("is a padded 1×1 convolution", "take the padding out")
    return _INSIDE


def _unlike_a_start(node: Node) -> Fit:
    if _has_odd_map(node):
        return _ODD
    return _outside(
        "is not padded by exactly 1 on all sides",
        'use ZeroPadding2D(1) and padding="valid"',
    )


def _depthwise(node: Node) -> Fit:
    weight, options = _weight(node), node.options
    if weight is None or len(node.source.shape) != 4:
        return _COMPUTED
    _, height, width, channels = weight.shape
    if channels != node.source.shape[3]:
        return _outside("has a depth multiplier", "use depth_multiplier=1")
    if options.dilation != (1, 1):
        return _outside("is dilated", "use dilation_rate=1")
    if (height, width) not in ((3, 3), (5, 5)):
        size = f"{height}×{width}"
        return _outside(f"is a {size} depthwise convolution", "use 3×3 or 5×5")
    if options.stride not in ((1, 1), (2, 2)):
        return _outside(f"has strides {options.stride}", "use stride 1 or 2")
    around = height // 2
    if options.same and options.stride == (1, 1):
        return _INSIDE
    if not options.same and node.margins == ((around, around), (around, around)):
        return _INSIDE
    if _has_odd_map(node):
        return _ODD
    return _outside(
        f"is not padded by exactly {around} on all sides",
        f'use ZeroPadding2D({around}) and padding="valid"',
    )


def _has_odd_map(node: Node) -> bool:
    height, width = node.source.shape[1:3]
    odd = height % 2 == 1 and width % 2 == 1
    return odd and node.options.same and node.options.stride == (2, 2)


def _combination(node: Node) -> Fit:
    if len(node.inputs) != 2:
        return _outside(
            "combines a map with a constant",
            f"{_FIRST}fold it into a convolution: BatchNormalization directly behind "
            "one, before the activation; sigmoid instead of hard_sigmoid",
        )
    if node.inputs[0] == node.inputs[1]:
        return _outside("combines a map with itself", "take one of the two out")
    left, right = (node.graph.tensors[x].shape for x in node.inputs)
    gate = node.kind == "MUL" and (_is_gate(left, right) or _is_gate(right, left))
    if len(left) == 4 and (left == right or gate):
        return _INSIDE
    return _outside(
        f"combines shapes {left} and {right}",
        "combine maps of one shape; multiply by one number for each channel",
    )


def _is_gate(gate: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    return len(shape) == 4 and gate == (1, 1, 1, shape[3])


def _activation(node: Node) -> Fit:
    if len(node.source.shape) == 4:
        return _INSIDE
    return _outside("is not on a map", "use it behind the last Dense layer only")


def _recent(node: Node) -> Fit:
    return _outside(
        "has a channels-first kernel in the newest versions of the runtime only",
        "use ReLU, swish or hard swish",
    )


def _resize(node: Node) -> Fit:
    sizes = (*node.source.shape[1:3], *node.result.shape[1:3])
    if len(node.source.shape) == 4 and min(sizes) > 1:
        return _INSIDE
    return _outside("resizes a map of one row or column", "resize larger maps")


def _mean(node: Node) -> Fit:
    axes = node.tensor(1)
    known = axes is not None and axes.constant is not None
    rank = len(node.source.shape)
    if not known or axes is None or axes.constant is None or rank != 4:
        return _outside("is not the mean of a map", "use GlobalAveragePooling2D()")
    reduced = {int(axis) % rank for axis in axes.constant.values.reshape(-1)}
    if reduced != {1, 2}:
        return _outside("is not over height and width", "use GlobalAveragePooling2D()")
    return _INSIDE if node.options.keep_dims else _END


def _depth_to_space(node: Node) -> Fit:
    return _END if len(node.source.shape) == 4 else _outside("is not on a map", "")


def _weight(node: Node) -> Tensor | None:
    weight = node.tensor(1)
    bias = node.tensor(2)
    if weight is None or weight.constant is None or len(weight.shape) != 4:
        return None
    return None if bias is not None and bias.constant is None else weight


def _other_dtypes(node: Node) -> str:
    """The dtypes that keep an op out: the runtime's sparse kernels know floats only."""
    graph = node.graph
    computed = [graph.tensors[x].dtype for x in (*node.inputs, *node.operator.outputs)]
    weight = node.tensor(1) if "CONV" in node.kind else None
    stored = [weight.constant.dtype] if weight and weight.constant else []
    other = {x for x in computed if x != "float32"}
    other |= {x for x in stored if x not in ("float32", "float16")}
    return ", ".join(sorted(other))


def _outside(reason: str, advice: str) -> Fit:
    return Fit(Role.OUTSIDE, reason, advice)


_RULES: dict[str, Callable[[Node], Fit]] = {
    "ADD": _combination,
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _depthwise,
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

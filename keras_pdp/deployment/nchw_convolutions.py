"""The convolutions that the channels-first layout can hold, and the one that starts."""

from keras_pdp.deployment.nchw_fit import INSIDE, Fit, outside
from keras_pdp.deployment.nchw_nodes import NO_MARGINS, Node
from keras_pdp.deployment.operators import Tensor

_COMPUTED = outside("has weights that are computed", "use constant weights")
_PADDED = outside(
    "is padded in a way that the runtime may take for that of a start",
    'use one ZeroPadding2D(1) and padding="valid", for this layer alone',
)
_ODD = outside(
    "strides over a map of odd size, where the converter writes every padding as SAME",
    "use inputs whose maps have even sizes, such as multiples of 32",
)


def may_start(node: Node) -> bool:
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


def doubt_of_start(node: Node) -> Fit | None:
    """Why a start may not be one; None where it surely is."""
    if _weight(node) is None:
        return _COMPUTED
    return _PADDED if node.padded else None


def convolution(node: Node) -> Fit:
    weight, options = _weight(node), node.options
    if weight is None or len(node.source.shape) != 4:
        return _COMPUTED
    _, height, width, channels = weight.shape
    if channels != node.source.shape[3]:
        return outside("is a grouped convolution", "use groups=1")
    if options.dilation != (1, 1):
        return outside("is dilated", "use dilation_rate=1")
    if (height, width) == (1, 1):
        return _pointwise(node)
    if (height, width, channels) == (3, 3, 3) and options.stride == (2, 2):
        return _unlike_a_start(node)
    return outside(
        f"is a {height}×{width} convolution",
        "use a 3×3 or 5×5 depthwise convolution and a 1×1 convolution; the only dense "
        "one is the first: 3×3, stride 2, on 3 channels",
    )


def _pointwise(node: Node) -> Fit:
    if node.options.stride != (1, 1):
        return outside(
            "is a 1×1 convolution with strides",
            "use stride 1, and the stride in the depthwise convolution before it",
        )
    if node.margins != NO_MARGINS:
        return outside("is a padded 1×1 convolution", "take the padding out")
    return INSIDE


def _unlike_a_start(node: Node) -> Fit:
    if _has_odd_map(node):
        return _ODD
    return outside(
        "is not padded by exactly 1 on all sides",
        'use ZeroPadding2D(1) and padding="valid"',
    )


def depthwise(node: Node) -> Fit:
    weight, options = _weight(node), node.options
    if weight is None or len(node.source.shape) != 4:
        return _COMPUTED
    _, height, width, channels = weight.shape
    if channels != node.source.shape[3]:
        return outside("has a depth multiplier", "use depth_multiplier=1")
    if options.dilation != (1, 1):
        return outside("is dilated", "use dilation_rate=1")
    if (height, width) not in ((3, 3), (5, 5)):
        size = f"{height}×{width}"
        return outside(f"is a {size} depthwise convolution", "use 3×3 or 5×5")
    if options.stride not in ((1, 1), (2, 2)):
        return outside(f"has strides {options.stride}", "use stride 1 or 2")
    around = height // 2
    if options.same and options.stride == (1, 1):
        return INSIDE
    if not options.same and node.margins == ((around, around), (around, around)):
        return INSIDE
    if _has_odd_map(node):
        return _ODD
    return outside(
        f"is not padded by exactly {around} on all sides",
        f'use ZeroPadding2D({around}) and padding="valid"',
    )


def _has_odd_map(node: Node) -> bool:
    height, width = node.source.shape[1:3]
    odd = height % 2 == 1 and width % 2 == 1
    return odd and node.options.same and node.options.stride == (2, 2)


def _weight(node: Node) -> Tensor | None:
    weight = node.tensor(1)
    bias = node.tensor(2)
    if weight is None or weight.constant is None or len(weight.shape) != 4:
        return None
    return None if bias is not None and bias.constant is None else weight

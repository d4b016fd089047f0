"""Which weights of which layer are pruned, in which layout, and why not the others."""

import dataclasses
import operator
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
from keras import layers

from keras_pdp.sparsity import layout
from keras_pdp.sparsity.granularity import Granularity
from keras_pdp.sparsity.layout import Layout
from keras_pdp.training import tree


@dataclasses.dataclass(frozen=True)
class PrunableWeight:
    """A kernel that can be masked.

    Args:
        name: Where it is inside the layer, for example `kernel` or `query/kernel`.
        variable: The layer's variable.
        layout: How it is brought to `(*window, in, out)`.
        beside: Weights with one number for each of its output channels, which a
            channel takes with it: the bias; a scale's offset.
        settled: Statistics of its output channels, which are 0 for a channel that is
            gone, and are not touched while it is on its way.
        table: Whether it is an embedding's table, whose rows are looked up.
        depthwise: Whether each input channel has a window of its own.
    """

    name: str
    variable: keras.Variable
    layout: Layout
    beside: tuple[keras.Variable, ...] = ()
    settled: tuple[keras.Variable, ...] = ()
    table: bool = False
    depthwise: bool = False


@dataclasses.dataclass(frozen=True)
class Skipped:
    """Something that is not pruned, and why."""

    name: str
    reason: str


DEPTHWISE = (
    "a pattern n:m is for matrix products, and a depthwise kernel takes part in none; "
    "that of a DepthwiseConv1D or 2D is pruned all the same where `select` accepts the "
    "layer or it is in a PDPWrapper of its own"
)

# A rule names the weights of a layer class, as attribute paths, each with its layout.
LayoutOf = Callable[[keras.Layer, keras.Variable], Layout]
Rule = dict[str, LayoutOf]


def _stored(layer: keras.Layer, weight: keras.Variable) -> Layout:
    return layout.as_stored(len(weight.shape))


def _transposed(layer: keras.Layer, weight: keras.Variable) -> Layout:
    return layout.transposed(len(weight.shape))


def _depthwise(layer: keras.Layer, weight: keras.Variable) -> Layout:
    return layout.depthwise(len(weight.shape))


def _einsum(layer: keras.Layer, weight: keras.Variable) -> Layout:
    return layout.einsum(layer.equation)


_KERNEL: Rule = {"kernel": _stored}
_CELL: Rule = {"kernel": _stored, "recurrent_kernel": _stored}
_CONV_CELL: Rule = {"cell.kernel": _stored, "cell.recurrent_kernel": _stored}
_SEPARABLE: Rule = {"depthwise_kernel": _depthwise, "pointwise_kernel": _stored}

# Attention, Bidirectional, TimeDistributed, RNN, blocks and models need no rule: their
# kernels belong to the layers inside them.
_RULES: dict[type[keras.Layer], Rule] = {
    layers.Dense: _KERNEL,
    layers.EinsumDense: {"kernel": _einsum},
    layers.Conv1D: _KERNEL,
    layers.Conv2D: _KERNEL,
    layers.Conv3D: _KERNEL,
    layers.Conv1DTranspose: {"kernel": _transposed},
    layers.Conv2DTranspose: {"kernel": _transposed},
    layers.Conv3DTranspose: {"kernel": _transposed},
    layers.DepthwiseConv1D: {"kernel": _depthwise},
    layers.DepthwiseConv2D: {"kernel": _depthwise},
    layers.SeparableConv1D: _SEPARABLE,
    layers.SeparableConv2D: _SEPARABLE,
    layers.Embedding: {"embeddings": _stored},
    layers.SimpleRNNCell: _CELL,
    layers.LSTMCell: _CELL,
    layers.GRUCell: _CELL,
    layers.ConvLSTM1D: _CONV_CELL,
    layers.ConvLSTM2D: _CONV_CELL,
    layers.ConvLSTM3D: _CONV_CELL,
}
if hasattr(layers, "ReversibleEmbedding"):  # newer than the oldest Keras we run on
    _RULES[layers.ReversibleEmbedding] = {
        "embeddings": _stored,
        "reverse_embeddings": _stored,
    }

_DEPTHWISE_LAYERS = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
_SEPARABLE_LAYERS = (layers.SeparableConv1D, layers.SeparableConv2D)
_WITH_BIAS = (
    layers.Dense,
    layers.EinsumDense,
    layers.Conv1D,
    layers.Conv2D,
    layers.Conv3D,
    layers.Conv1DTranspose,
    layers.Conv2DTranspose,
    layers.Conv3DTranspose,
    *_DEPTHWISE_LAYERS,
    *_SEPARABLE_LAYERS,
)

# Their weights scale or shift; there is nothing to prune in them.
_NO_KERNELS = (
    layers.BatchNormalization,
    layers.GroupNormalization,
    layers.LayerNormalization,
    layers.Normalization,
    layers.PReLU,
    layers.RMSNormalization,
)

_REFUSED: dict[type[keras.Layer], str] = {
    layers.SpectralNormalization: (
        "SpectralNormalization assigns to its layer's kernel in every training step, "
        "which a mask on the kernel would feed back into the weights"
    ),
}


def register_prunable(
    layer_class: type[keras.Layer], weight_names: Iterable[str]
) -> None:
    """Tells keras_pdp which weights of your layer class are kernels to prune.

    Subclasses inherit it. A layer that you can edit may instead define
    `pdp_weights()`, which returns the variables themselves.

    Args:
        layer_class: A subclass of `keras.Layer`.
        weight_names: Attribute names of the weights, dotted where they are deeper
            (`"cell.kernel"`). Their layout should be `(*window, in, out)`.

    Raises:
        TypeError: If `layer_class` is no layer class or a name is no string.

    Example:

    >>> class Bilinear(keras.layers.Layer):
    ...     def build(self, input_shape):
    ...         self.form = self.add_weight(shape=(input_shape[-1],) * 2)
    >>> register_prunable(Bilinear, ["form"])
    """
    if not (isinstance(layer_class, type) and issubclass(layer_class, keras.Layer)):
        raise TypeError(
            "`layer_class` should be a subclass of keras.Layer, not an instance. "
            f"Received: {layer_class!r}."
        )
    names = [weight_names] if isinstance(weight_names, str) else list(weight_names)
    if not names or not all(isinstance(name, str) for name in names):
        raise TypeError(
            "`weight_names` should be attribute names such as ['kernel']. "
            f"Received: {weight_names!r}."
        )
    _RULES[layer_class] = dict.fromkeys(names, _stored)


def find(layer: keras.Layer) -> tuple[list[PrunableWeight], list[Skipped]]:
    """The weights of a built layer, and of all layers in it, that can be masked.

    Biases, normalisation scales and other weights of one axis are not kernels and are
    not mentioned; a weight of two or more axes is either returned or has its reason.

    Args:
        layer: A built layer or model.

    Returns:
        The prunable weights, each variable once, and what was skipped with reasons.
    """
    found: dict[int, PrunableWeight] = {}
    skipped: list[Skipped] = []
    refused: set[int] = set()
    taken: set[str] = set()
    for where, owner in tree.walk(layer):
        if id(owner) in refused:
            continue
        reason = _refusal(owner)
        if reason:
            refused |= {id(inner) for _, inner in tree.walk(owner)}
            if owner.weights:
                skipped.append(Skipped(where or owner.name, reason))
            continue
        for name, variable, layout_of in _own_kernels(owner):
            full = f"{where}/{name}" if where else name
            if id(variable) in found:
                continue
            if not keras.backend.is_float_dtype(variable.dtype):
                reason = f"it is stored as {variable.dtype}; prune before quantizing"
                skipped.append(Skipped(full, reason))
            else:
                full = tree.unique(full, taken)
                brought = layout_of(owner, variable)
                beside = _bias(owner, variable, brought)
                weight = PrunableWeight(
                    full,
                    variable,
                    brought,
                    beside,
                    table=_is_table(owner),
                    depthwise=layout_of is _depthwise,
                )
                found[id(variable)] = weight
        skipped += _unclaimed(where, owner, found)
    return list(found.values()), skipped


def has_kernels(layer: keras.Layer) -> bool:
    """Whether a layer, which need not be built, is one of those with kernels."""
    return _rule(layer) is not None or hasattr(layer, "pdp_weights")


def inside(
    layer: keras.Layer, granularity: Granularity, asked: bool = True
) -> tuple[list[PrunableWeight], list[Skipped]]:
    """As `find`, but without what is pruned only where its layer itself is asked for.

    A table's rows are looked up, not multiplied: zeros in it save nothing in a step,
    and rare rows are small because they were seldom trained, not because they matter
    little. A pattern n:m is for kernels that are multiplied as matrices; in a depthwise
    kernel it speeds up nothing, and takes three quarters of a window at 1:4.

    Args:
        layer: A built layer or model.
        granularity: What is pruned together.
        asked: Whether the user has chosen this very layer, and so what is its own.
    """
    found, skipped = find(layer)
    own_table = asked and _is_table(layer)
    own_window = asked and isinstance(layer, _DEPTHWISE_LAYERS)
    found = [w for w in found if own_table or not w.table]
    if granularity.kept_per_pool is None or own_window:
        return found, skipped
    left = [Skipped(w.name, DEPTHWISE) for w in found if w.depthwise]
    return [w for w in found if not w.depthwise], [*skipped, *left]


def scales(layer: keras.Layer) -> list[PrunableWeight]:
    """The scales of all batch normalisations in a built layer, with their offsets.

    They are no kernels, but where a channel is pruned they have to fall silent with it:
    a normalisation undoes the mask's scaling, and gives a channel of zeros its offset.
    """
    found: dict[int, PrunableWeight] = {}
    taken: set[str] = set()
    for where, owner in tree.walk(layer):
        if not isinstance(owner, layers.BatchNormalization):
            continue
        gamma, beta = owner.gamma, owner.beta
        first = beta if gamma is None else gamma
        if first is None or id(first) in found:
            continue
        name = f"{where}/{first.name}" if where else first.name
        found[id(first)] = PrunableWeight(
            tree.unique(name, taken),
            first,
            layout.as_stored(1),
            beside=() if gamma is None or beta is None else (beta,),
            # Without a scale a channel of zeros gives -mean / deviation.
            settled=(owner.moving_mean,) if gamma is None else (),
        )
    return list(found.values())


def _bias(
    layer: keras.Layer, kernel: keras.Variable, brought: Layout
) -> tuple[keras.Variable, ...]:
    """The bias of the layer's outputs, where it has one number for each of them."""
    bias = getattr(layer, "bias", None)
    makes_outputs = isinstance(layer, _WITH_BIAS) and not (
        isinstance(layer, _SEPARABLE_LAYERS) and kernel is layer.depthwise_kernel
    )
    if not makes_outputs or not isinstance(bias, keras.Variable):
        return ()
    if isinstance(layer, layers.EinsumDense):
        kernel_letters, outputs = (
            layer.equation.replace(" ", "").split(",")[1].split("->")
        )
        made = [kernel_letters[axis] for axis in brought.output_axes]
        if [x for x in outputs if x in (layer.bias_axes or "")] != made:
            return ()
    return (bias,)


def _is_table(layer: keras.Layer) -> bool:
    return isinstance(layer, layers.Embedding) and not hasattr(layer, "pdp_weights")


def _refusal(layer: keras.Layer) -> str | None:
    for layer_class, reason in _REFUSED.items():
        if isinstance(layer, layer_class):
            return reason
    return None


def _rule(layer: keras.Layer) -> Rule | None:
    """The rule of the nearest class, so that a subclass can have its own."""
    return next((_RULES[c] for c in type(layer).__mro__ if c in _RULES), None)


def _own_kernels(
    layer: keras.Layer,
) -> Iterator[tuple[str, keras.Variable, LayoutOf]]:
    if hasattr(layer, "pdp_weights"):
        for variable in layer.pdp_weights():
            yield variable.name, variable, _stored
        return
    for path, layout_of in (_rule(layer) or {}).items():
        variable = _attribute(layer, path)
        # A quantized or LoRA layer computes its kernel: there is nothing to mask.
        if isinstance(variable, keras.Variable) and not _is_scale(layer, variable):
            yield path.replace(".", "/"), variable, layout_of


def _is_scale(layer: keras.Layer, variable: keras.Variable) -> bool:
    """Whether it is one factor for each feature rather than a kernel."""
    return isinstance(layer, layers.EinsumDense) and len(variable.shape) < 2


def _attribute(layer: keras.Layer, path: str) -> Any:
    """None where it has none: optional weights, such as those of a tied embedding."""
    try:
        return operator.attrgetter(path)(layer)
    except AttributeError:
        return None


def _unclaimed(
    where: str, layer: keras.Layer, found: dict[int, PrunableWeight]
) -> Iterator[Skipped]:
    """Weights of two or more axes that belong to this very layer and have no rule."""
    if isinstance(layer, _NO_KERNELS) or hasattr(layer, "pdp_weights"):
        return
    claimed = set(found)
    if _rule(layer) is not None:
        claimed.add(id(getattr(layer, "bias", None)))  # of two axes in attention, GRU
    for child in tree.children(layer):
        claimed |= {id(v) for v in child.weights}
    for variable in layer.weights:
        if id(variable) not in claimed and len(variable.shape) >= 2:
            name = f"{where}/{variable.name}" if where else variable.name
            yield Skipped(name, _why_unclaimed(layer))


def _why_unclaimed(layer: keras.Layer) -> str:
    name = type(layer).__name__
    rule = _rule(layer)
    if rule is not None:
        missing = [path for path in rule if _attribute(layer, path) is None]
        if missing:
            return f"not a kernel of {name}, which has no {missing} (as registered)"
        return f"not a kernel of {name}, or its kernel is computed (LoRA, quantized)"
    return (
        f"keras_pdp does not know the kernels of {name}: define pdp_weights() in it "
        "or call register_prunable"
    )

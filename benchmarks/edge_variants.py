"""What benchmarks/edge.py makes of a net: pruned, thinner, prepared for sparse kernels.

Everything is the package's public API on random weights, so that what is measured here
is what a user gets from a trained model.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import keras
from keras import layers

from benchmarks.edge_nets import calibrate
from keras_pdp import (
    Block,
    Channel,
    NofM,
    PDPCallback,
    Unstructured,
    prepare_for_sparse_inference,
    shrink,
    strip,
    uniform,
    wrap,
)

Precision: TypeAlias = Literal["float16", "int8"] | None
Sparse: TypeAlias = Literal["auto"] | bool


@dataclass(frozen=True)
class Variant:
    """One model made of a net, and the files to write of it.

    Args:
        name: as in the tables.
        make: the net, untouched, to the model.
        precisions: `None` for float32, `"float16"`, `"int8"`.
        prepared: whether its baseline is the net after `prepare_for_sparse_inference`.
        sparse: what `to_tflite(sparse=…)` is told.
    """

    name: str
    make: Callable[[keras.Model], keras.Model] = field(repr=False)
    precisions: tuple[Precision, ...] = (None,)
    prepared: bool = False
    sparse: Sparse = "auto"


BOTH: tuple[Precision, ...] = (None, "int8")


def dense(precisions: tuple[Precision, ...] = BOTH) -> Variant:
    """The net itself."""
    return Variant("dense", calibrate, precisions, sparse=False)


def prepared_dense(precisions: tuple[Precision, ...] = (None,)) -> Variant:
    """The net with the padding and the head that the sparse kernels ask for."""

    def make(net: keras.Model) -> keras.Model:
        return calibrate(prepare_for_sparse_inference(net))

    return Variant("dense, prepared", make, precisions, prepared=True, sparse=False)


def channels(percent: int, precisions: tuple[Precision, ...] = BOTH) -> Variant:
    """Channels removed from the graph: the same share in every layer but the last."""

    def make(net: keras.Model) -> keras.Model:
        hidden = [layer.name for layer in net.layers if _hidden(layer, net)]
        wrapped = wrap(
            net, Channel(round_to=8), select=lambda layer: layer.name in hidden
        )
        shares = dict.fromkeys(hidden, percent / 100)
        return shrink(calibrate(_stripped(wrapped, PDPCallback(allocation=shares))))

    return Variant(f"channels {percent} %", make, precisions)


def unstructured(
    percent: int,
    precisions: tuple[Precision, ...] = (None,),
    *,
    prepared: bool = False,
    sparse: Sparse = "auto",
) -> Variant:
    """Single weights of 1×1 convolutions and dense layers."""

    def make(net: keras.Model) -> keras.Model:
        if prepared:
            net = prepare_for_sparse_inference(net)
        wrapped = wrap(net, Unstructured(), select=_product)
        return calibrate(_stripped(wrapped, _evenly(percent)))

    name = f"unstructured {percent} %" + (", prepared" if prepared else "")
    if sparse is False:
        name += ", stored dense"
    return Variant(name, make, precisions, prepared, sparse)


def two_of_four(precisions: tuple[Precision, ...] = BOTH) -> Variant:
    """Two of every four neighbours along the inputs stay."""

    def make(net: keras.Model) -> keras.Model:
        wrapped = wrap(net, NofM(2, 4), select=_divisible_product)
        return calibrate(_stripped(wrapped, PDPCallback()))

    return Variant("2:4", make, precisions)


def block(width: int, percent: int, precisions: tuple[Precision, ...]) -> Variant:
    """Blocks of 1 × width in the file's (out, in) layout of a dense layer."""

    def make(net: keras.Model) -> keras.Model:
        wrapped = wrap(net, Block((width, 1)), select=_product)
        return calibrate(_stripped(wrapped, _evenly(percent)))

    return Variant(f"block 1x{width} {percent} %", make, precisions)


def _stripped(wrapped: keras.Model, pdp: PDPCallback) -> keras.Model:
    """The plain model with hard masks, by magnitude: no training."""
    pdp.set_model(wrapped)
    pdp.update(1.0)
    return strip(wrapped)


def _evenly(percent: int) -> PDPCallback:
    return PDPCallback(percent / 100, allocation=uniform)


def _product(layer: keras.Layer) -> bool:
    """A 1×1 convolution or a dense layer: where nearly all of the weights are."""
    return type(layer) is layers.Dense or (
        type(layer) is layers.Conv2D and tuple(layer.kernel_size) == (1, 1)
    )


def _divisible_product(layer: keras.Layer) -> bool:
    return _product(layer) and layer.kernel.shape[-2] % 4 == 0


def _hidden(layer: keras.Layer, net: keras.Model) -> bool:
    """Whether the layer's channels are not the outputs of the net."""
    kernels = [each for each in net.layers if _producer(each)]
    return _producer(layer) and layer.name != kernels[-1].name


def _producer(layer: keras.Layer) -> bool:
    return type(layer) in (layers.Dense, layers.Conv2D)

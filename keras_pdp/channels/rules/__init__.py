"""What each kind of layer does to channels: one rule a kind, one file a family."""

from typing import Any

import keras

import keras_pdp.channels.rules.attention as attention
import keras_pdp.channels.rules.convolution as convolution
import keras_pdp.channels.rules.dense as dense
import keras_pdp.channels.rules.depthwise as depthwise
import keras_pdp.channels.rules.einsum as einsum
import keras_pdp.channels.rules.elementwise as elementwise
import keras_pdp.channels.rules.merging as merging
import keras_pdp.channels.rules.normalization as normalization
import keras_pdp.channels.rules.separable as separable
import keras_pdp.channels.rules.shaping as shaping
import keras_pdp.channels.rules.spatial as spatial
from keras_pdp.channels.rules.family import Rule

_LAYERS: dict[type, Rule] = {
    **elementwise.LAYERS,
    **normalization.LAYERS,
    **spatial.LAYERS,
    **dense.LAYERS,
    **einsum.LAYERS,
    **convolution.LAYERS,
    **separable.LAYERS,
    **depthwise.LAYERS,
    **merging.LAYERS,
    **shaping.LAYERS,
    **attention.LAYERS,
}
_FUNCTIONS: dict[str, Rule] = {**elementwise.FUNCTIONS, **merging.FUNCTIONS}


_SEVERAL = {*attention.LAYERS.values(), *merging.LAYERS.values()}


def rule_for(operation: Any, tensors: int = 1) -> Rule | None:
    """The rule of a layer, by its very class, or of a function of `keras.ops`.

    A subclass may compute something else, so it has no rule unless it is in the table.

    Args:
        operation: The layer or function.
        tensors: How many it is called with; most rules are for one (a second may be a
            mask, say, which changes what the layer does).
    """
    if isinstance(operation, keras.Layer):
        rule = _LAYERS.get(type(operation))
    else:
        rule = _FUNCTIONS.get(type(operation).__name__)
    return rule if tensors == 1 or rule in _SEVERAL else None

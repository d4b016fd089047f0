"""Heads, gates and normalizations in the forms that sparse inference takes.

Each rewrite is exact: the same weights in layers that the runtime's channels-first
layout can hold, or that stand behind its end.
"""

from typing import Any

import keras
import numpy as np

from keras_pdp.deployment.draft import Draft
from keras_pdp.deployment.preparation import Change
from keras_pdp.deployment.sparse_encoding import Array

_CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
# Layers that treat each value alone, on vectors as on maps.
_POINTWISE = (
    keras.layers.Activation,
    keras.layers.Dropout,
    keras.layers.ELU,
    keras.layers.LeakyReLU,
    keras.layers.ReLU,
    keras.layers.Softmax,
)
# Layers behind which a head is one of vectors.
_RESHAPING = (keras.layers.Conv2D, keras.layers.Flatten, keras.layers.Reshape)
# The options that Dense and Conv2D share.
_COMMON = (
    "activation",
    "activity_regularizer",
    "bias_constraint",
    "bias_initializer",
    "bias_regularizer",
    "dtype",
    "kernel_constraint",
    "kernel_initializer",
    "kernel_regularizer",
    "name",
    "trainable",
    "use_bias",
)


def average_globally(draft: Draft) -> list[Change]:
    """AveragePooling2D over the whole map becomes GlobalAveragePooling2D."""
    changes = []
    for name in draft.names:
        layer = draft.layer(name)
        if not isinstance(layer, keras.layers.AveragePooling2D):
            continue
        whole = tuple(layer.pool_size) == tuple(layer.input.shape[1:3])
        # With strides and padding="same" a pool of the map's size gives a map.
        if whole and tuple(layer.output.shape[1:3]) == (1, 1):
            mean = _mean(name, layer, keepdims=True)
            draft.replace(name, mean)
            changes.append(Change(name, "GlobalAveragePooling2D", True))
    return changes


def write_gates_as_maps(draft: Draft) -> list[Change]:
    """A gate of mean, Dense and Reshape becomes one of mean(keepdims) and 1×1."""
    changes = []
    for name in draft.names:
        mean = draft.layer(name)
        if not isinstance(mean, keras.layers.GlobalAveragePooling2D) or mean.keepdims:
            continue
        chain, end = _chain(draft, name)
        if end is None or not _scales_a_map(draft.layer(end)):
            continue
        if not _as_maps(draft, chain):
            continue
        draft.replace(name, _mean(name, mean, keepdims=True))
        changes.append(Change(name, "keepdims=True, a gate of 1×1 convolutions", True))
    return changes


def write_heads_as_vectors(draft: Draft) -> list[Change]:
    """mean(keepdims) -> 1×1 … becomes mean -> Dense …"""
    changes = []
    for name in draft.names:
        mean = draft.layer(name)
        is_mean = isinstance(mean, keras.layers.GlobalAveragePooling2D)
        if not is_mean or mean is None or not mean.keepdims:
            continue
        chain, end = _chain(draft, name)
        if end is not None and _scales_a_map(draft.layer(end)):
            continue
        if not any(isinstance(draft.layer(x), _RESHAPING) for x in chain):
            continue  # it gives what it keeps: no form of it ends a sparse part
        draft.replace(name, _mean(name, mean, keepdims=False))
        _as_vectors(draft, name, chain)
        changes.append(Change(name, "keepdims=False, Dense instead of 1×1", True))
    return changes


def _scales_a_map(layer: keras.Layer | None) -> bool:
    """Whether it is the product with a map that ends a gate, and not one of vectors."""
    if not isinstance(layer, keras.layers.Multiply):
        return False
    shape = tuple(layer.output.shape)
    return len(shape) == 4 and shape[1:3] != (1, 1)


def carry_normalizations(draft: Draft, inside: set[str]) -> list[Change]:
    """Puts an identity in front of a BatchNormalization that folds into nothing.

    Args:
        draft: the model; it is changed.
        inside: the names of the layers behind the stem.
    """
    changes = []
    for name in draft.names:
        layer = draft.layer(name)
        is_ours = name in inside and isinstance(layer, keras.layers.BatchNormalization)
        if not is_ours or layer is None or len(layer.input.shape) != 4:
            continue
        if _folds(draft, name):
            continue
        identity = keras.layers.DepthwiseConv2D(
            3,
            padding="same",
            use_bias=False,
            name=draft.free_name(f"{name}_identity"),
            dtype=layer.dtype_policy,
        )
        draft.insert(identity, name, [_centre(layer.input.shape[-1])])
        what = "behind an identity depthwise convolution, into which it folds"
        changes.append(Change(name, what, True))
    return changes


def _folds(draft: Draft, name: str) -> bool:
    """Whether the converter folds it into the convolution in front of it."""
    source = draft.source(name)
    before = draft.layer(source) if source is not None else None
    if not isinstance(before, _CONVOLUTIONS) or source is None:
        return False
    linear = before.activation is keras.activations.linear
    return linear and draft.user(source) == name


def _centre(channels: int) -> Array:
    kernel = np.zeros((3, 3, channels, 1), np.float32)
    kernel[1, 1] = 1.0
    return kernel


def _chain(draft: Draft, name: str) -> tuple[list[str], str | None]:
    """The layers that only this one leads to, and what follows them.

    What follows is `None` when the model gives what the last of them computes.
    """
    chain: list[str] = []
    while True:
        user = draft.user(chain[-1] if chain else name)
        layer = draft.layer(user) if user is not None else None
        if user is None or layer is None or not _is_followed(layer):
            return chain, user
        chain.append(user)


def _is_followed(layer: keras.Layer) -> bool:
    followed = (*_POINTWISE, keras.layers.Dense, keras.layers.Conv2D)
    return isinstance(layer, (*followed, keras.layers.Reshape, keras.layers.Flatten))


def _mean(name: str, like: keras.Layer, *, keepdims: bool) -> keras.Layer:
    return keras.layers.GlobalAveragePooling2D(
        keepdims=keepdims, name=name, dtype=like.dtype_policy
    )


def _as_maps(draft: Draft, chain: list[str]) -> bool:
    """Rewrites a gate; False, and nothing changed, when it has another form."""
    layers = [draft.layer(each) for each in chain]
    for layer in layers:
        if isinstance(layer, keras.layers.Reshape):
            if tuple(layer.output.shape[1:3]) != (1, 1):
                return False
        elif isinstance(layer, keras.layers.Conv2D):
            if not _is_pointwise(layer):
                return False
        elif isinstance(layer, keras.layers.Flatten):
            return False
    for name, layer in zip(chain, layers, strict=True):
        if isinstance(layer, keras.layers.Reshape):
            draft.remove(name)
        elif isinstance(layer, keras.layers.Dense):
            kernel, *rest = layer.get_weights()
            own = {"filters": layer.units, "kernel_size": 1}
            pointwise = _with_the_same(layer, keras.layers.Conv2D, **own)
            draft.replace(name, pointwise, [kernel[None, None], *rest])
    return True


def _as_vectors(draft: Draft, mean: str, chain: list[str]) -> None:
    """Rewrites the layers behind a mean up to where they change their shape."""
    last = mean
    for name in chain:
        layer = draft.layer(name)
        if isinstance(layer, keras.layers.Reshape | keras.layers.Flatten):
            return
        if isinstance(layer, keras.layers.Conv2D):
            if not _is_pointwise(layer):
                break
            kernel, *rest = layer.get_weights()
            dense = _with_the_same(layer, keras.layers.Dense, units=layer.filters)
            draft.replace(name, dense, [kernel[0, 0], *rest])
        last = name
    shape = (1, 1, draft.channels(last))
    name = draft.free_name(f"{last}_map")
    draft.append(keras.layers.Reshape(shape, name=name), after=last)


def _is_pointwise(layer: keras.Layer) -> bool:
    return tuple(layer.kernel_size) == (1, 1) and layer.groups == 1


def _with_the_same(old: keras.Layer, kind: Any, **own: Any) -> keras.Layer:
    """A layer of another kind with the options that both have."""
    its = old.get_config()
    config = {key: its[key] for key in _COMMON if key in its}
    return kind.from_config({**config, **own})

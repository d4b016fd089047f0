"""The same model in float32, which is what a .tflite file computes in."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras

from keras_pdp.training import copies, rebuild, tree

_OTHERS = ("float16", "bfloat16", "float64")


def in_float32(model: keras.Model) -> keras.Model:
    """A model of which every layer computes in float32, with the same weights.

    Weights of mixed precision are float32 already, and those of 16 bits are float32
    numbers; none is rounded. Those of float64 are.

    Args:
        model: A plain model, of any dtype policy. It stays as it is.

    Returns:
        The rebuilt model, or the model itself where all is float32, and where it is a
        subclassed one, whose layers can't be exchanged.
    """
    dtypes = {layer.compute_dtype for _, layer in tree.computing(model)}
    dtypes |= {str(tensor.dtype) for tensor in getattr(model, "inputs", None) or ()}
    if not dtypes & set(_OTHERS) or not rebuild.possible(model):
        return model

    if rebuild.of_own_class(model) and not rebuild.computes_more(model):
        # Nothing that a class holds beside the graph goes into a file.
        model = keras.Model(model.input, model.output, name=model.name)

    def replaced(layer: keras.Layer) -> keras.Layer:
        return copies.copy_of(layer, **_with_float32(layer.get_config()))

    with _float32_by_default():
        return rebuild.rebuilt(
            model, replaced, describe=lambda model, config: _with_float32(config)
        )


def _with_float32(config: Any) -> Any:
    """A configuration in which every dtype policy is float32's, nested ones too."""
    if isinstance(config, list | tuple):
        return type(config)(_with_float32(each) for each in config)
    if not isinstance(config, dict):
        return config
    if config.get("class_name") == "InputLayer":
        own = config["config"]
        dtype = "float32" if own.get("dtype") in _OTHERS else own.get("dtype")
        return {**config, "config": {**own, "dtype": dtype}}
    if config.get("class_name") == "DTypePolicy" and _is_other(config["config"]):
        return keras.dtype_policies.serialize(keras.DTypePolicy("float32"))
    return {key: _with_float32(value) for key, value in config.items()}


def _is_other(policy: dict[str, Any]) -> bool:
    return keras.DTypePolicy(**policy).compute_dtype in _OTHERS


@contextmanager
def _float32_by_default() -> Iterator[None]:
    """For layers that say nothing of their precision, such as composite ones."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)

"""prepare_for_sparse_inference: a model that the sparse kernels take."""

import warnings
from typing import Any

import keras
import numpy as np

from keras_pdp.channels import graph
from keras_pdp.deployment import map_layers
from keras_pdp.deployment.conversion import check_backend, converted
from keras_pdp.deployment.draft import Draft
from keras_pdp.deployment.flatbuffer import decoded
from keras_pdp.deployment.preparation import Change, Preparation
from keras_pdp.deployment.signature import signature_of
from keras_pdp.deployment.single_precision import in_float32
from keras_pdp.deployment.sparse_encoding import Array
from keras_pdp.deployment.sparse_inference import (
    SparseInferenceReport,
    grouped,
    judged,
)
from keras_pdp.deployment.symmetric_padding import pad_symmetrically
from keras_pdp.training.surgery import check_kind, pruned_layers

# How sparse the kernels are on which the result is judged.
_SPARSITY = 0.9

_KERNELS = (
    keras.layers.Conv2D,
    keras.layers.Dense,
    keras.layers.EinsumDense,
    keras.layers.SeparableConv2D,
)


def prepare_for_sparse_inference(model: keras.Model) -> keras.Model:
    """Rewrites a model so that sparse kernels can compute it, **before** it is pruned.

    Zeros make a `.tflite` file faster only in graphs of one shape, in ARM, WebAssembly
    and RISC-V builds of LiteRT, and no model of keras.applications has it. This gives
    MobileNet, MobileNetV2 and their like that shape:

    * strided depthwise convolutions get explicit zeros all round: a 3×3 one becomes the
      same 5×5 one;
    * heads of 1×1 convolutions become Dense layers, gates of Dense layers 1×1
      convolutions;
    * a BatchNormalization that folds into nothing gets an identity depthwise
      convolution to fold into;
    * the first convolution is padded by 1 all round.

    The function stays the same but for the padding of the first convolution, whose grid
    moves by one pixel where its input has an even size, and of a depthwise one that is
    larger than 3×3 or not padded: a warning says so, and a model that was trained
    before must be trained on. So: prepare, then `wrap`, then train.
    `prepare_with_report` lists the changes.

    Prune the 1×1 convolutions and Dense layers; zeros elsewhere make nothing faster,
    and small depthwise kernels need their weights:

        wrap(model, select=lambda layer: not isinstance(layer, DepthwiseConv2D))

    Args:
        model: a functional model, or a Sequential one, of which a functional one is
            made. It stays as it is. A model without a head (`include_top=False`) is
            taken: give it a `GlobalAveragePooling2D()` and Dense layers.

    Returns:
        A new model, with the names, dtypes, weights and compile settings of the old
        one, that is *eligible* (`sparse_inference_report`) once it is pruned.

    Raises:
        TypeError: it is no Keras model.
        ValueError: the model's graph can't be read, it is wrapped already, or has an op
            that the sparse kernels do not take and that can't be rewritten; the message
            names it and what to change.
        ExportError: the model cannot be converted to built-in ops.
        RuntimeError: Keras runs on another backend than TensorFlow.

    Example:

        >>> model = keras.applications.MobileNet(input_shape=(96, 96, 3), weights=None)
        >>> model = wrap(prepare_for_sparse_inference(model))
    """
    prepared, preparation = _prepared(model)
    _warn(preparation)
    return prepared


def prepare_with_report(model: keras.Model) -> tuple[keras.Model, Preparation]:
    """`prepare_for_sparse_inference(model)` and the list of what it changed."""
    prepared, preparation = _prepared(model)
    _warn(preparation)
    return prepared, preparation


def _prepared(model: keras.Model) -> tuple[keras.Model, Preparation]:
    _check(model)
    check_backend()
    prepared = _functional(model)
    changes: list[Change] = []
    while padded := pad_symmetrically(draft := Draft(prepared), _stems(draft)):
        changes += padded
        prepared = _repadded(model, draft, padded)
    changes += map_layers.average_globally(draft)
    changes += map_layers.write_gates_as_maps(draft)
    changes += map_layers.write_heads_as_vectors(draft)
    changes += map_layers.carry_normalizations(draft, _behind(draft, _stems(draft)))
    prepared = draft.model()
    report = _judged_pruned(prepared)
    if report.verdict != "eligible":
        raise ValueError(
            f"'{model.name}' can't be rewritten for sparse inference:\n"
            + "\n".join(f"  {line}" for line in grouped(report.findings))
        )
    return prepared, Preparation(model.name, tuple(changes), bool(_maps(prepared)))


def _repadded(model: keras.Model, draft: Draft, changes: list[Change]) -> keras.Model:
    try:
        return draft.model()
    except ValueError as error:
        raise ValueError(
            f"'{model.name}' can't be rewritten for sparse inference: with "
            f"{'; '.join(map(str, changes))}, a map has another size, for which what "
            "follows was not built (Flatten and Dense, a sum with another map). Pad "
            "that layer so in the definition, or end the maps in a "
            f"GlobalAveragePooling2D. Keras said: {error}"
        ) from error


def _check(model: Any) -> None:
    check_kind("prepare_for_sparse_inference", model)
    if pruned_layers(model):
        raise ValueError(
            f"'{model.name}' is wrapped already. Prepare it first, then wrap it, and "
            "train it after that."
        )
    inner = [layer.name for layer in model.layers if isinstance(layer, keras.Model)]
    if inner:
        raise ValueError(
            f"'{model.name}' has a model inside, {inner[0]!r}. Build it flat: "
            "keras.Model(inner.input, head(inner.output))."
        )
    graph.check_readable(model)


def _functional(model: keras.Model) -> keras.Model:
    if not isinstance(model, keras.Sequential):
        return model
    functional = keras.Model(model.inputs, model.outputs, name=model.name)
    if model.compiled:
        settings = model.get_compile_config()
        functional.compile(**keras.saving.deserialize_keras_object(settings))
    return functional


def _stems(draft: Draft) -> list[str]:
    """The 3×3 stride-2 convolutions on 3 channels behind no other convolution."""
    fed: set[str] = set()  # by a convolution
    stems = []
    for name in draft.names:
        layer = draft.layer(name)
        if fed & set(draft.sources(name)):
            fed.add(name)
        elif isinstance(layer, keras.layers.Conv2D):
            fed.add(name)
            kernel = tuple(layer.kernel.shape)
            if kernel[:3] == (3, 3, 3) and tuple(layer.strides) == (2, 2):
                stems.append(name)
    return stems


def _behind(draft: Draft, stems: list[str]) -> set[str]:
    """All layers and ops that a stem leads to."""
    found = set(stems)
    for name in draft.names:
        if found & set(draft.sources(name)):
            found.add(name)
    return found


def _maps(model: keras.Model) -> list[Any]:
    return [x for x in model.outputs if len(x.shape) == 4 and x.shape[1:3] != (1, 1)]


def _judged_pruned(model: keras.Model) -> SparseInferenceReport:
    """The verdict with random sparse kernels, and with a mean behind every map."""
    outputs = [
        keras.layers.GlobalAveragePooling2D()(x)
        if any(x is y for y in _maps(model))
        else x
        for x in model.outputs
    ]
    ended = in_float32(keras.Model(model.inputs, outputs, name=model.name))
    generator = np.random.default_rng(0)
    sparse = [
        (weight, _sparse(weight.shape, generator))
        for layer in ended.layers
        if isinstance(layer, _KERNELS)
        for weight in layer.weights
        if len(weight.shape) > 1
    ]
    data = converted(signature_of(ended), None, {}, sparse)
    weights = decoded(data, model.name).weights
    with_zeros = [x.index for x in weights if x.subgraph == 0 and x.zeros]
    return judged(data, with_zeros, name=model.name)


def _sparse(shape: tuple[int, ...], generator: np.random.Generator) -> Array:
    values = generator.normal(size=shape).astype(np.float32)
    values[generator.random(shape) < _SPARSITY] = 0.0
    return values


def _warn(preparation: Preparation) -> None:
    if preparation.exact:
        return
    changed = [str(change) for change in preparation.changes if not change.exact]
    warnings.warn(
        f"'{preparation.name}' is prepared for sparse inference and computes another "
        f"function than before: {'; '.join(changed)}. Train it on before it is used, "
        "best while it is pruned.",
        stacklevel=3,
    )

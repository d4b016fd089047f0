"""The converter: from a Keras model to the bytes of a dense .tflite file."""

import tempfile
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_pdp.deployment.interpreter import one_by_one
from keras_pdp.deployment.quiet import quiet_stderr
from keras_pdp.deployment.signature import Signature
from keras_pdp.deployment.sparse_encoding import Array
from keras_pdp.deployment.verification import ExportError
from keras_pdp.training import tree

_LOOPS = frozenset({"While", "StatelessWhile"})


def check_backend() -> None:
    """Raises `RuntimeError` unless Keras runs on TensorFlow."""
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            f"the converter needs Keras on TensorFlow, and Keras runs on "
            f"{keras.backend.backend()}. Save the stripped model, "
            "strip(model).save('stripped.keras'), and convert it in a process with "
            "KERAS_BACKEND=tensorflow"
        )


def converted(
    signature: Signature,
    quantize: str | None,
    calibration: Mapping[str, Array],
    replaced: Sequence[tuple[Any, Array]] = (),
) -> bytes:
    """The bytes of a dense .tflite file.

    Args:
        signature: what to convert.
        quantize: as in `to_tflite`.
        calibration: inputs by name, for `"int8"`.
        replaced: variables and the values to take for them instead of their own.

    Raises:
        ExportError: the model cannot be converted to built-in ops.
    """
    with tempfile.TemporaryDirectory() as folder, quiet_stderr():
        _save(signature, folder, replaced)
        if quantize == "int8":
            _refuse_loops(folder)
        try:
            return _run_converter(folder, quantize, calibration)
        except ExportError as error:
            if quantized := _quantized_by_keras(signature.model):
                raise ExportError(
                    "the converter does not take layers that Keras has quantized: "
                    f"{quantized}. Convert the model as it was before `quantize`, with "
                    "quantize='int8' here"
                ) from error
            raise


def _quantized_by_keras(model: keras.Model) -> list[str]:
    policy = keras.dtype_policies.QuantizedDTypePolicy
    return [
        name or layer.name
        for name, layer in tree.computing(model)
        if isinstance(layer.dtype_policy, policy)
    ]


def _save(
    signature: Signature, folder: str, replaced: Sequence[tuple[Any, Array]]
) -> None:
    import tensorflow as tf

    def serve(*values: Any) -> dict[str, Any]:
        # The model itself keeps its values; a traced graph takes these as constants.
        with keras.StatelessScope(state_mapping=replaced):
            return signature.call(values)

    specs = [
        tf.TensorSpec((1, *each.shape), each.dtype, each.name)
        for each in signature.inputs
    ]
    archive = keras.export.ExportArchive()
    archive.track(signature.model)
    archive.add_endpoint("serve", serve, specs)
    archive.write_out(folder, verbose=False)


def _refuse_loops(folder: str) -> None:
    """Calibrating a loop ends the whole process with a segmentation fault."""
    import tensorflow as tf

    loaded = tf.saved_model.load(folder).signatures["serving_default"]
    graph = loaded.graph.as_graph_def()
    functions = (node for each in graph.library.function for node in each.node_def)
    if _LOOPS & {node.op for node in (*graph.node, *functions)}:
        raise ExportError(
            "quantize='int8' cannot calibrate the loop of a recurrent layer. Build the "
            "layer with unroll=True and copy its weights, or use quantize='dynamic'"
        )


def _run_converter(
    folder: str, quantize: str | None, calibration: Mapping[str, Array]
) -> bytes:
    import tensorflow as tf
    from tensorflow.lite.python.convert import ConverterError

    converter = tf.lite.TFLiteConverter.from_saved_model(folder)
    if quantize is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantize == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if quantize == "int8":
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.representative_dataset = lambda: one_by_one(calibration)
    try:
        with warnings.catch_warnings():
            # the calibrator warns its callers of an interpreter that it uses itself
            warnings.filterwarnings("ignore", ".*tf.lite.Interpreter is deprecated")
            converted: bytes = converter.convert()
    except ConverterError as error:
        raise ExportError(_reason(error)) from error
    return converted


def _reason(error: Any) -> str:
    """What the converter's error means, in one sentence where it names ops."""
    ops = sorted({each.operator.name for each in error.errors if each.operator.name})
    if not ops:
        return f"the converter failed: {error}"
    return (
        f"the model uses {', '.join(ops)}, for which TFLite has no built-in op. "
        "Replace these operations; the converter's message above says where they are"
    )

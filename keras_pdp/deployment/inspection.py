"""sparse_inference_report: the verdict on a Keras model or a file of it."""

import os
from pathlib import Path

import keras

from keras_pdp.deployment.conversion import check_backend, converted
from keras_pdp.deployment.flatbuffer import decoded
from keras_pdp.deployment.keras_file import load_keras
from keras_pdp.deployment.signature import signature_of
from keras_pdp.deployment.single_precision import in_float32
from keras_pdp.deployment.sparse_inference import SparseInferenceReport, judged
from keras_pdp.training.surgery import pruned_layers, strip

# The ops whose weights the runtime takes when they are stored sparsely.
_TAKES_SPARSE = (
    "CONV_2D",
    "DEPTHWISE_CONV_2D",
    "FULLY_CONNECTED",
    "TRANSPOSE_CONV",
)


def sparse_inference_report(
    model: keras.Model | str | os.PathLike[str],
) -> SparseInferenceReport:
    """Says whether sparse kernels would compute a model, and whether rightly.

    Zeros make a `.tflite` file faster only where the runtime has sparse kernels (ARM,
    WebAssembly, RISC-V; never x86 with AVX), only in float32 and float16, and only for
    some graphs; for others a sparsely stored file is computed *wrongly* there.

    Args:
        model: a wrapped model, of which the stripped copy is judged; a plain one; or
            the path of a `.keras` or `.tflite` file. A model is converted to float32.
            A model, and a `.tflite` file without sparse weights, is judged as if all
            weights that hold zeros were stored sparsely.

    Returns:
        The verdict, `"eligible"`, `"inert"` or `"unsafe"`, with the ops that decide it
        and what to change. `print` it, or take `to_dict()`.

    Raises:
        TypeError: it is neither a Keras model nor a path.
        ValueError: a file is of another kind, or damaged; the inputs of the model are
            not known or not static; a layer computes in half precision.
        FileNotFoundError: there is no such file.
        ExportError: the model cannot be converted to built-in ops.
        RuntimeError: Keras runs on another backend than TensorFlow and a model is to
            be converted.

    Example:

        >>> print(sparse_inference_report(model))
        >>> sparse_inference_report("model.tflite").verdict
    """
    if isinstance(model, str | os.PathLike):
        return _of_file(Path(model))
    if not isinstance(model, keras.Model):
        raise TypeError(
            "expected a Keras model or the path of a .keras or .tflite file, received "
            f"{type(model).__module__}.{type(model).__qualname__}"
        )
    return _of_model(model, model.name)


def _of_file(path: Path) -> SparseInferenceReport:
    is_tflite = path.suffix.lower() == ".tflite"
    # Keras itself opens no file named .KERAS
    if not is_tflite and path.suffix != ".keras":
        raise ValueError(f"expected a .keras or .tflite file, received '{path}'")
    if not path.exists():
        raise FileNotFoundError(f"there is no file '{path}'")
    if is_tflite:
        return _of_bytes(path.read_bytes(), str(path))
    return _of_model(load_keras(path), str(path))


def _of_model(model: keras.Model, name: str) -> SparseInferenceReport:
    check_backend()
    plain = in_float32(strip(model) if pruned_layers(model) else model)
    return _of_bytes(converted(signature_of(plain), None, {}), name)


def _of_bytes(data: bytes, name: str) -> SparseInferenceReport:
    weights = [
        weight
        for weight in decoded(data, name).constants
        if weight.subgraph == 0 and weight.is_weight and weight.op in _TAKES_SPARSE
    ]
    if any(weight.storage == "csr" for weight in weights):
        return judged(data, name=name)
    # Blocks have kernels of their own, whatever becomes of the others.
    dense = [weight for weight in weights if weight.storage == "dense"]
    with_zeros = [weight.index for weight in dense if weight.zeros]
    return judged(data, with_zeros or None, name=name)

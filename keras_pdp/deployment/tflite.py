"""From a trained Keras model to a verified .tflite file.

Why this path and no other:

* `keras.export.ExportArchive` with an endpoint of our own: batch 1, static shapes and
  `training=False`. `TFLiteConverter.from_keras_model` always leaves the batch free,
  which adds SHAPE and STRIDED_SLICE ops at each reshape; `model.export` leaves
  `training` open, on which layers such as `RandomFlip` fail to convert; and
  `from_concrete_functions` with a Keras 3 model writes a file without its weights.
* Built-in ops only. A file with TensorFlow ops ("Flex") needs a runtime that small
  devices do not have, so such a model is refused with the names of the ops. Recurrent
  layers are fine: with a static batch their loops become the built-in WHILE.
* Never `Optimize.EXPERIMENTAL_SPARSITY`. Its block encoding gives NaN in float16 and
  wrong values where the inputs of a Dense layer do not fill whole blocks; with int8 it
  yields files that do not load; between 30 % and 50 % zeros it makes files bigger; and
  it asks no one whether ARM's sparse kernels would compute the graph wrongly. The
  finished dense file is rewritten instead (`sparse_writer.py`): only what gets smaller,
  only what the runtime was seen to compute right, and only when the graph is judged
  safe (`sparse_inference.py`). The outputs stay the same to the bit, except for large
  Dense layers that are stored by blocks, whose kernels add in another order.
* A sparse file is smaller as it lies on a device. For a download, which is compressed
  anyway, the dense int8 file is the smallest: gzip takes its zeros out better.
* Full int8 keeps float32 inputs and outputs, so that a file of any precision takes the
  same data and can be compared with the Keras model directly.
* Nothing is believed: the file is loaded by the LiteRT runtime, run, and compared with
  the Keras model before it gets its name; a sparse one is compared with its dense
  twin as well. Zeros are counted from its bytes.
"""

import os
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeAlias

import keras

from keras_pdp.deployment.atomic import replacing
from keras_pdp.deployment.conversion import check_backend, converted
from keras_pdp.deployment.dense_reference import dense_values
from keras_pdp.deployment.export_report import TFLiteReport, WeightRecord
from keras_pdp.deployment.flatbuffer import read_tflite
from keras_pdp.deployment.gzipped import gzipped_size
from keras_pdp.deployment.interpreter import Latency, measure, one_by_one
from keras_pdp.deployment.samples import as_samples, random_samples
from keras_pdp.deployment.signature import Signature, signature_of
from keras_pdp.deployment.single_precision import in_float32
from keras_pdp.deployment.sparse_encoding import Array
from keras_pdp.deployment.storage import Sparse, StoredFile, check_sparse, stored
from keras_pdp.deployment.tflite_file import TFLiteFile
from keras_pdp.deployment.verification import (
    TOLERANCE,
    ExportError,
    loaded,
    run,
    verified,
)
from keras_pdp.training.surgery import pruned_layers, strip

Precision: TypeAlias = Literal["float16", "dynamic", "int8"] | None

CALIBRATION_SAMPLES = 512
COMPARED_SAMPLES = 128
RANDOM_SAMPLES = 32

__all__ = ["ExportError", "Precision", "TFLiteReport", "to_tflite"]


def to_tflite(
    model: keras.Model,
    path: str | os.PathLike[str],
    *,
    quantize: Precision = None,
    representative_data: Any = None,
    samples: Any = None,
    sparse: Sparse = "auto",
    latency: bool = False,
) -> TFLiteReport:
    """Writes a model as a .tflite file that was run and compared before.

    The file appears at `path` only when it loads, yields no NaN that the Keras model
    does not, and agrees with the (stripped) Keras model within the tolerance of its
    precision. Else nothing is written and what was at `path` stays.

    Weights with enough zeros are stored sparsely where that makes the file smaller and
    leaves it right everywhere; `report.storage` and `report.weights` say what was left
    dense and why. This makes the file smaller, and faster only where sparse kernels
    take it: `report.storage.verdict`. For a download, which is compressed on its way, a
    dense int8 file is smallest.

    A model of mixed, half or double precision is converted, and compared, as the same
    model in float32: the weights stay, the file computes more exactly than a half one.

    Data is an array `(samples, ...)`; a list or tuple with one array for each input; a
    dictionary of arrays by input name; or an iterable of batches of these, such as a
    `tf.data.Dataset` of `x` or `(x, y)`.

    Args:
        model: a wrapped model, of which the stripped copy is exported, or a plain one.
            It stays as it is.
        path: where to write; the folder must exist.
        quantize: `None` for float32; `"float16"` halves the file; `"dynamic"` stores
            int8 weights (only those of 1,024 values or more) and computes with them on
            activations quantized on the fly; `"int8"` quantizes activations too, from
            ranges seen on `representative_data`, between float32 inputs and outputs.
        representative_data: typical inputs; needed by `"int8"`, which uses up to 512.
        samples: inputs to compare on, up to 128 of them. By default
            `representative_data`, else 32 random samples: normal numbers, and for
            integer inputs ids below the smallest `input_dim` of an Embedding, else 0
            and 1.
        sparse: `"auto"` stores weights sparsely where it can, and a model densely that
            sparse kernels would compute wrongly; `True` is the same, but raises if the
            file would be dense; `False` stores all weights densely. Files with dynamic
            int8 are always dense.
        latency: also time the file and its dense counterpart on this machine.

    Returns:
        What was written and what was verified.

    Raises:
        TypeError: `path` is no path, or `model` no model.
        ValueError: an argument is wrong; data does not fit the model's inputs; the
            inputs of the model are not known, or not static, or strings; a layer of
            a subclassed model computes in half precision.
        OSError: the file cannot be written.
        RuntimeError: Keras runs on another backend than TensorFlow.
        ExportError: the model cannot be converted to built-in ops, the file does not
            load or is not right, or with `sparse=True` it would be dense.
        ImportError: TensorFlow or ai-edge-litert is not installed.

    Example:

        >>> report = to_tflite(model, "model.tflite")
        >>> print(report)
        >>> to_tflite(model, "q.tflite", quantize="int8", representative_data=x_train)
    """
    check_backend()
    _check_precision(quantize, representative_data)
    check_sparse(sparse, quantize)
    with replacing(path) as unfinished:
        wrappers = pruned_layers(model)
        plain = in_float32(strip(model) if wrappers else model)
        signature = signature_of(plain)
        calibration, compared, source = _data(signature, representative_data, samples)
        file = _stored(signature, quantize, calibration, compared, sparse)
        unfinished.write_bytes(file.data)
        outputs = verified(signature, file.outputs, compared, TOLERANCE[quantize])
        fill, reference = dense_values(plain, wrappers)
        dense = file.data
        if fill:
            dense = converted(signature, quantize, calibration, fill)
        return TFLiteReport(
            path=os.fspath(path),
            quantize=quantize,
            raw_bytes=len(file.data),
            gzip_bytes=gzipped_size(file.data),
            dense_raw_bytes=len(dense),
            dense_gzip_bytes=gzipped_size(dense),
            dense_reference=reference,
            storage=file.storage,
            weights=tuple(_records(read_tflite(unfinished), file.left_dense)),
            outputs=outputs,
            samples=source,
            tolerance=TOLERANCE[quantize],
            latency=_latency(file.data, dense, compared) if latency else None,
        )


def _stored(
    signature: Signature,
    quantize: str | None,
    calibration: Mapping[str, Array],
    compared: Mapping[str, Array],
    sparse: Sparse,
) -> StoredFile:
    """The file to be written, of which the outputs are still to be judged."""
    dense = converted(signature, quantize, calibration)
    return stored(dense, run(loaded(dense), compared), compared, sparse)


def _records(file: TFLiteFile, left_dense: Mapping[int, str]) -> Iterator[WeightRecord]:
    for weight in file.weights:
        yield WeightRecord.of(weight, left_dense.get(weight.buffer, ""))


def _check_precision(quantize: str | None, representative_data: Any) -> None:
    if quantize not in TOLERANCE:
        expected = ", ".join(map(repr, TOLERANCE))
        raise ValueError(f"quantize: expected one of {expected}, received {quantize!r}")
    if quantize == "int8" and representative_data is None:
        raise ValueError(
            "quantize='int8' needs representative_data: some hundred typical inputs, "
            "from which the ranges of the activations are taken"
        )


def _data(
    signature: Signature, representative_data: Any, samples: Any
) -> tuple[dict[str, Array], dict[str, Array], str]:
    """Arrays to calibrate on, arrays to compare on, and where the latter come from."""
    inputs = signature.inputs
    calibration: dict[str, Array] = {}
    if representative_data is not None:
        calibration = as_samples(
            representative_data, inputs, CALIBRATION_SAMPLES, "representative_data"
        )
    if samples is not None:
        compared = as_samples(samples, inputs, COMPARED_SAMPLES, "samples")
        return calibration, compared, "samples"
    if calibration:
        compared = as_samples(calibration, inputs, COMPARED_SAMPLES, "samples")
        return calibration, compared, "representative_data"
    return {}, random_samples(inputs, RANDOM_SAMPLES), "random"


def _latency(exported: bytes, dense: bytes, compared: Mapping[str, Array]) -> Latency:
    return measure(loaded(exported), loaded(dense), one_by_one(compared)[0])

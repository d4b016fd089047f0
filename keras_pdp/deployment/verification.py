"""Loads a .tflite file, runs it and judges it against the Keras model."""

import warnings
from collections.abc import Mapping

import keras
import numpy as np

from keras_pdp.deployment.agreement import OutputAgreement, compare
from keras_pdp.deployment.interpreter import Runner
from keras_pdp.deployment.quiet import quiet_stderr
from keras_pdp.deployment.signature import Signature
from keras_pdp.deployment.sparse_encoding import Array

# The relative difference (see OutputAgreement) up to which a file is right. Measured on
# nets from an MLP to a ResNet-8 and a 28-layer MobileNet, dense and pruned, the worst
# were 6e-6 in float32, 5e-3 in float16, 8e-2 (an untrained MobileNet: 1.3e-1) in
# dynamic and 9.5e-2 in int8. Wrong files are far off: 1 and more, or NaN.
TOLERANCE: dict[str | None, float] = {
    None: 1e-4,
    "float16": 2e-2,
    "dynamic": 2e-1,
    "int8": 3e-1,
}


class ExportError(RuntimeError):
    """No file was written, because it would not have been right."""


def loaded(data: bytes) -> Runner:
    """The file, ready to run.

    Raises:
        ExportError: the runtime refuses it.
    """
    try:
        with quiet_stderr():
            return Runner(data)
    except (RuntimeError, ValueError) as error:
        raise ExportError(f"the runtime does not load the file: {error}") from error


def run(file: Runner, samples: Mapping[str, Array]) -> dict[str, Array]:
    """What a file computes from samples, by output name.

    Raises:
        ExportError: the runtime fails on them.
    """
    try:
        return file.all(samples)
    except (RuntimeError, ValueError) as error:
        raise ExportError(
            f"the runtime fails on the samples: {error}. Are they what the model takes "
            "(ids within the tables of embeddings)?"
        ) from error


def verified(
    signature: Signature,
    received: Mapping[str, Array],
    compared: Mapping[str, Array],
    tolerance: float,
) -> tuple[OutputAgreement, ...]:
    """How far the outputs of a file agree with those of the Keras model.

    Args:
        signature: the Keras model.
        received: what the file computes, by output name.
        compared: the samples that it computes that from, by input name.
        tolerance: the relative difference that is allowed.

    Returns:
        The agreement of each output.

    Raises:
        ExportError: one of them is not right.
    """
    expected = _keras_outputs(signature, compared)
    outputs = tuple(compare(name, expected[name], received[name]) for name in expected)
    for each in outputs:
        _judge(each, tolerance)
        _warn_lost(each)
    return outputs


def _warn_lost(output: OutputAgreement) -> None:
    if output.lost:
        warnings.warn(
            f"{output.lost} of the entries on the last axis of output "
            f"{output.output!r} vary in the Keras model and are one constant in the "
            "file: 8 bits have one range for a whole output, and these are too small "
            "beside the others. Give what has another range an output of its own, or "
            "choose a higher precision.",
            stacklevel=4,
        )


def _judge(output: OutputAgreement, tolerance: float) -> None:
    if output.broken:
        raise ExportError(
            f"output {output.output!r} of the file has {output.broken} values that are "
            "NaN or infinite where the Keras model's are finite; no file was written. "
            "Either a number does not fit the file's precision (try a higher one), or "
            "a layer computes over the batch, and the file is given one sample at a "
            "time"
        )
    if output.relative_difference > tolerance:
        raise ExportError(
            f"output {output.output!r} of the file differs from the Keras model: "
            f"relative difference {output.relative_difference:.3g}, allowed "
            f"{tolerance:g} (rms of the difference / spread over {output.samples} "
            "samples); no file was written. If the samples are not typical inputs, "
            "pass some; else try a higher precision (float16 holds numbers up to "
            "65504, int8 one range for a whole activation)"
        )


def _keras_outputs(
    signature: Signature, samples: Mapping[str, Array]
) -> dict[str, Array]:
    arrays, step = list(samples.values()), signature.max_batch
    # Nothing that a layer does to its state may outlast the comparison.
    with keras.StatelessScope():
        batches = [
            signature.call([array[start : start + step] for array in arrays])
            for start in range(0, len(arrays[0]), step)
        ]
    found = {
        name: [keras.ops.convert_to_numpy(batch[name]) for batch in batches]
        for name in batches[0]
    }
    first = min(step, len(arrays[0]))
    for name, parts in found.items():
        if not parts[0].ndim or len(parts[0]) != first:
            raise ExportError(
                f"output {name!r} of the Keras model has shape {parts[0].shape} for "
                f"{first} samples: expected one entry for each sample along the first "
                "axis. Leave out what is the same for all samples (a constant, a mean "
                "over the batch)"
            )
    return {name: np.concatenate(parts) for name, parts in found.items()}

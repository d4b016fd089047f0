"""Loads a .tflite file, runs it and judges it against the Keras model."""

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
    return outputs


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
    return {
        name: np.concatenate([keras.ops.convert_to_numpy(b[name]) for b in batches])
        for name in batches[0]
    }

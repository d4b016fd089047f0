"""The profile of a step runs, for a second, and its lines say what was timed."""

import math
from dataclasses import replace

import keras
import pytest

from benchmarks.step_time_nets import NETS


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="times TensorFlow")
def test_every_part_of_a_step_has_a_time_and_a_row():
    from benchmarks.step_parts import measured, told

    net = replace(NETS["small"], batch=8, steps=2)
    weights, medians = measured(net)
    variables = net.build(keras).trainable_variables
    kernels = [math.prod(v.shape) for v in variables if v.path.endswith("kernel")]
    assert weights == sum(kernels)
    assert all(ms > 0 for ms in medians.values())
    rows = [line for line in told(net, weights, medians) if line.startswith("| ")]
    assert [row.split(" | ")[0] for row in rows] == [
        "| part",
        *(f"| {m}" for m in medians),
    ]
    assert " | 1.000 | " in rows[1]  # the dense step, of itself

"""What writes a whole kernel in a compiled step: counted in a text and in programs."""

import keras
import pytest

from benchmarks.step_copies import UNITS, program, writes
from keras_pdp import PDPWrapper

TEXT = """
%branch.1 (arg: (f32[1024,512])) -> (f32[1024,512]) {
  %kernel = f32[1024,512]{1,0} get-tuple-element(%arg), index=0
  %copied = f32[1024,512]{1,0} copy(%kernel)
  ROOT %given = (f32[1024,512]{1,0}) tuple(%copied)
}
%fused_update (k: f32[1024,512], g: f32[1024,512]) -> f32[1024,512] {
  %k = f32[1024,512]{1,0} parameter(0)
  ROOT %less = f32[1024,512]{1,0} subtract(%k, %g)
}
ENTRY %step.2 (batch: f32[16,1024]) -> f32[1024,512] {
  %out = f32[16,512]{1,0} dot(%batch, %kernel)
  %g = f32[524288]{0} dot(%batch, %out)
  ROOT %new = f32[1024,512]{1,0} fusion(%k, %g), calls=%fused_update
}
"""


def test_only_what_writes_as_much_as_the_kernel_is_counted_once():
    assert writes(TEXT) == {
        ("branch.1", "copy"): 1,
        ("step.2", "dot"): 1,
        ("step.2", "fusion"): 1,
    }


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="XLA's text")
def test_a_dense_step_writes_two_kernels_and_a_wrapped_one_more_in_its_branches():
    dense = writes(program(keras.layers.Dense(UNITS, use_bias=False)))
    assert sum(dense.values()) == 2
    wrapped = PDPWrapper(keras.layers.Dense(UNITS, use_bias=False))
    found = writes(program(wrapped))
    branches = {part for part, _ in found if "branch" in part}
    assert any("branch0" in part for part in branches)  # before pruning begins, too
    assert len(branches) >= 4

"""What `to_tflite` writes, run by the aarch64 wheel of the runtime.

On another processor that takes QEMU; `python -m benchmarks.arm64` gets it and all else
into a folder, and says why it can't.
"""

import pytest

from benchmarks.agreement import largest_difference, native_outputs
from benchmarks.arm64.machine import run
from benchmarks.arm64.parts import missing
from tests.deployment.elsewhere import PRECISIONS, WRITTEN, unsafely_stored, written

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))

TOLERANCE = 1e-5
# emulation is slow
FILES = [(name, None) for name in WRITTEN] + [("eligible", PRECISIONS[1])]


@pytest.mark.parametrize("name, quantize", FILES)
def test_what_is_written_is_right_on_arm64(name, quantize, tmp_path):
    path, report, inputs = written(name, quantize, tmp_path)
    ran = run(path, inputs)
    assert bool(report.storage.encoded) == WRITTEN[name][1]
    assert ran.error is None
    assert largest_difference(native_outputs(path, inputs), ran.outputs) <= TOLERANCE


def test_a_wrong_file_is_seen(tmp_path):
    """Right on a PC, garbage on a phone: what `to_tflite` does not write."""
    _, sparse, inputs = unsafely_stored("wrong", tmp_path)
    ran = run(sparse, inputs)
    assert ran.error is None
    assert largest_difference(native_outputs(sparse, inputs), ran.outputs) > 0.1


def test_a_file_that_does_not_load_is_an_error(tmp_path):
    _, sparse, inputs = unsafely_stored("unloadable", tmp_path)
    assert "failed to prepare" in (run(sparse, inputs).error or "")

"""The browser as a measuring device, and what `to_tflite` writes run there.

Needs Chromium, Node.js and the npm packages; `python -m benchmarks.web` installs these
and says what is missing.
"""

import numpy as np
import pytest

from benchmarks.agreement import largest_difference, native_outputs
from benchmarks.web.browser import Browser, Job
from benchmarks.web.parts import missing
from tests.deployment.elsewhere import PRECISIONS, WRITTEN, unsafely_stored, written

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def browser():
    with Browser() as started:
        yield started


def test_what_is_written_is_right_in_the_browser(browser, tmp_path):
    """Sparse where that is safe, dense where it is not; float32 and float16."""
    cases = [
        (name, *written(name, quantize, tmp_path))
        for name in WRITTEN
        for quantize in PRECISIONS
    ]
    results = browser.run([Job(path, inputs) for _, path, _, inputs in cases])
    for (name, path, report, inputs), result in zip(cases, results, strict=True):
        assert result.error is None, path.name
        assert bool(report.storage.encoded) == WRITTEN[name][1], path.name
        expected = native_outputs(path, inputs)
        assert largest_difference(expected, result.outputs) <= TOLERANCE, path.name


def test_a_wrong_file_is_seen(browser, tmp_path):
    """Else the test above could not fail."""
    dense, sparse, inputs = unsafely_stored("wrong", tmp_path)
    first, second = browser.run([Job(dense, inputs), Job(sparse, inputs)])
    assert largest_difference(native_outputs(sparse, inputs), first.outputs) < TOLERANCE
    assert second.error is None
    assert largest_difference(first.outputs, second.outputs) > 0.1


def test_a_file_that_does_not_load_is_an_error(browser, tmp_path):
    """LiteRT.js prints it, throws nothing and gives back what lies in memory."""
    dense, sparse, inputs = unsafely_stored("unloadable", tmp_path)
    first, second = browser.run([Job(dense, inputs), Job(sparse, inputs, repeats=2)])
    assert first.error is None
    assert second.error is not None and second.error.startswith("ERROR")
    assert not second.outputs and not len(second.latencies_ms)


def test_files_are_timed_in_turns(browser, tmp_path):
    path, _, inputs = written("eligible", None, tmp_path)
    bad = tmp_path / "bad.tflite"
    bad.write_bytes(b"no TFLite file")
    jobs = [Job(path, inputs, 5), Job(bad, inputs, 5), Job(path, inputs, 3)]
    first, second, third = browser.run(jobs)
    assert [len(each.latencies_ms) for each in (first, second, third)] == [5, 0, 3]
    assert (first.latencies_ms > 0).all() and first.load_ms > 0
    assert second.error is not None and np.isnan(second.median_ms)


def test_inputs_that_a_browser_does_not_take_are_refused(browser, tmp_path):
    path, _, inputs = written("eligible", None, tmp_path)
    name, values = next(iter(inputs.items()))
    with pytest.raises(TypeError, match="float64"):
        browser.run([Job(path, values.astype("float64"))])
    with pytest.raises(ValueError, match="at least one"):
        browser.run([Job(path, values[:0])])
    (result,) = browser.run([Job(path, values[:, :16])])
    assert result.error is not None and "16" in result.error
    (result,) = browser.run([Job(path, {"other": values})])
    assert result.error is not None and name in result.error

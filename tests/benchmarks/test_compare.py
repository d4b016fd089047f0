"""`python -m benchmarks.web a b` without the browser: what goes in, what is printed."""

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from benchmarks.agreement import identical, renamed
from benchmarks.web.browser import Measured
from benchmarks.web.compare import jobs, line
from keras_pdp import to_tflite

RAN = Measured(
    error=None,
    outputs={"out": np.arange(12.0).reshape(4, 3)},
    load_ms=1.0,
    latencies_ms=np.array([2.0, 4.0]),
    console=(),
)
FAILED = Measured("no memory", {}, np.nan, np.array([]), ())
FILE = Path("a.tflite")


@pytest.mark.parametrize(
    "first, second, said",
    [
        (RAN, RAN, "1.00  0.0e+00"),
        (RAN, replace(RAN, latencies_ms=np.array([1.0, 2.0])), "2.00  0.0e+00"),
        (RAN, replace(RAN, outputs={"b": RAN.outputs["out"]}), "1.00  0.0e+00"),
        (RAN, replace(RAN, outputs={"out": np.ones((4, 2))}), "other outputs"),
        (RAN, replace(RAN, outputs={}), "other outputs"),
        (RAN, FAILED, "no memory"),
        (FAILED, RAN, "the first file did not run"),
        (FAILED, FAILED, "no memory"),
    ],
)
def test_a_line_says_what_happened(first, second, said):
    assert said in line(FILE, first, second)


@pytest.mark.parametrize(
    "names, paired",
    [(("a", "b"), (0, 1)), (("b", "a"), (1, 0)), (("x", "a"), (0, 1))],
)
def test_renamed_by_name_or_else_in_order(names, paired):
    arrays = {"a": np.zeros(1), "b": np.ones(1)}
    found = renamed(arrays, names)
    assert tuple(found) == names
    assert tuple(float(each[0]) for each in found.values()) == paired
    with pytest.raises(ValueError, match="as many"):
        renamed(arrays, ["a"])


def test_identical_is_of_bits():
    zero, minus = {"a": np.array([0.0])}, {"a": np.array([-0.0])}
    nan = {"a": np.array([np.nan])}
    assert identical(zero, dict(zero)) and identical(nan, nan)
    assert not identical(zero, minus)
    assert not identical(zero, {"b": zero["a"]})
    assert not identical(zero, {"a": np.zeros(1, np.float32)})


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")

    def one(name, width):
        inputs = keras.Input((width,), name=name)
        model = keras.Model(inputs, keras.layers.Dense(2)(inputs))
        path = folder / f"{name}.tflite"
        to_tflite(model, path)
        return path

    return one("left", 3), one("right", 3), one("wide", 4)


def test_files_get_the_same_inputs_by_their_own_names(written):
    left, right, wide = written
    first, second = jobs([left, right], 5)
    assert (list(first.inputs), list(second.inputs)) == (["left"], ["right"])
    assert first.inputs["left"] is second.inputs["right"]
    with pytest.raises(ValueError, match=r"left\.tflite.*received.*wide\.tflite"):
        jobs([left, wide], 5)


def test_files_that_are_none(written, tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        jobs([written[0], tmp_path / "missing.tflite"], 5)
    junk = tmp_path / "junk.tflite"
    junk.write_bytes(b"not a model")
    with pytest.raises(ValueError, match=r"junk\.tflite"):
        jobs([junk], 5)

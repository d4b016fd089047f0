"""Keras 2 beside us: `tf.keras` may be it, and is never touched."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]

TFMOT = "import tensorflow_model_optimization"
# What matters of it where it is not installed.
FAKE_TFMOT = "import os; os.environ['TF_USE_LEGACY_KERAS'] = '1'"

# TensorFlow may import Keras 2 for itself, where `tf.keras` is it: note who asks.
PROGRAM = """
import sys

class Watch:
    asked = []

    def find_spec(self, name, path=None, target=None):
        if name == "tf_keras":
            frame = sys._getframe(1)
            while any(x in frame.f_code.co_filename for x in ("importlib", "lazy")):
                frame = frame.f_back
            self.asked.append(frame.f_code.co_filename)

sys.meta_path.insert(0, Watch())
FIRST
import keras
import numpy as np
import keras_pdp as pdp

x, y = np.ones((8, 4), "float32"), np.ones((8, 1), "float32")
model = keras.Sequential(
    [keras.Input((4,)), keras.layers.Dense(8), keras.layers.Dense(1)]
)
wrapped = pdp.wrap(model)
wrapped.compile("sgd", "mse")
wrapped.fit(x, y, epochs=2, verbose=0, callbacks=[pdp.PDPCallback(0.5)])
stripped = pdp.strip(wrapped)
report = pdp.to_tflite(stripped, sys.argv[1])
assert keras.version().startswith("3.")
assert pdp.sparsity_report(stripped).sparsity == 0.5
assert pdp.sparsity_report(sys.argv[1]).zeros >= 20
print("KERAS 2:", Watch.asked)
"""


@pytest.mark.parametrize(
    "first, variable",
    [(TFMOT, None), (FAKE_TFMOT, None), ("", "1")],
    ids=["tfmot imported first", "as if it were", "TF_USE_LEGACY_KERAS=1"],
)
def test_keras_2_is_never_touched(first, variable, tmp_path):
    for name in ["tensorflow"] + ["tensorflow_model_optimization"] * (first == TFMOT):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    environment = {
        **os.environ,
        "KERAS_BACKEND": "tensorflow",
        "PYTHONPATH": str(ROOT),
    }
    if variable:
        environment["TF_USE_LEGACY_KERAS"] = variable
    program = PROGRAM.replace("FIRST", first)
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "m.tflite")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    asked = done.stdout.strip().splitlines()[-1]
    assert asked.startswith("KERAS 2: [")
    assert "keras_pdp" not in asked

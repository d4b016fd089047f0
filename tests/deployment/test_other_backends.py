"""A model of another backend becomes a file, by way of `.keras`, as the README says."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_pdp.deployment.flatbuffer import read_tflite

ROOT = Path(__file__).parents[2]
TRAINED = """
import keras, numpy as np
from keras_pdp import PDPCallback, strip
from tests.backends.loops import X, Y, net

model = net()
model.compile("adam", "mse")
model.fit(X, Y, epochs=2, verbose=0, callbacks=[PDPCallback(0.75)])
model = strip(model)
model.save("stripped.keras")
np.save("outputs.npy", model.predict(X, verbose=0))
print(keras.backend.backend())
"""


def run(program, backend, folder):
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_what_was_trained_there_is_exported_here(backend, tmp_path):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    assert run(TRAINED, backend, tmp_path).split()[-1] == backend
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"python -c '(.*?)'\n```", readme, re.DOTALL)
    run(program, "tensorflow", tmp_path)

    from tests.backends.loops import X

    model = keras.models.load_model(tmp_path / "stripped.keras", compile=False)
    expected = np.load(tmp_path / "outputs.npy")
    np.testing.assert_allclose(model.predict(X, verbose=0), expected, rtol=1e-4)
    file = read_tflite(tmp_path / "model.tflite")
    kernels = [model.get_layer(name).kernel for name in ("body", "head")]
    zeros = sum(int(np.sum(keras.ops.convert_to_numpy(k) == 0)) for k in kernels)
    assert zeros == sum(weight.zeros for weight in file.weights) == 108

"""The same theorems on the other backends: a part of the suite, run again on each."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import keras
import pytest

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
ON_EVERY_BACKEND = {
    "test_threshold.py": (
        "(by_hand and (ties or subnormals or zeros)) or (tile and 65) or new_count"
    ),
    "test_mask.py": (
        "(is_the_formula and 0.2) or automatic_gradient or same_however"
        " or dead_unit or pattern_is_blended"
    ),
}


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="already on another backend"
)
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_threshold_and_masks_on(backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    chosen = " or ".join(
        f"({name} and ({which}))" for name, which in ON_EVERY_BACKEND.items()
    )
    files = [str(HERE / name) for name in ON_EVERY_BACKEND]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        + [*files, "-k", chosen],
        env={**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    summary = done.stdout.strip().splitlines()[-1]
    assert int(summary.split(" passed")[0].split()[-1]) >= 20, summary

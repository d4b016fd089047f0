"""What the README promises first: the tutorial's table and the quick start."""

import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import pytest

import keras_pdp

ROOT = Path(__file__).parents[1]

# name, weights, accuracy %, sparsity %, bytes, gzipped bytes, milliseconds
ROW = re.compile(
    r"(dense|pruned) +(float32|int8) +([\d.]+)% +([\d.]+)%"
    r" +([\d,]+) +([\d,]+) +([\d.]+)"
)


def run(program, folder):
    """What a program prints that runs in `folder`, without asking the network."""
    pytest.importorskip("tensorflow")
    pytest.importorskip("ai_edge_litert")
    own = {
        "KERAS_BACKEND": "tensorflow",
        "KERAS_PDP_OFFLINE": "1",
        "KERAS_PDP_DATA": "",
        "TFDS_DATA_DIR": str(folder),
        # The same package as in the other tests, installed or not.
        "PYTHONPATH": str(Path(keras_pdp.__file__).parents[1]),
    }
    done = subprocess.run(
        [sys.executable, *program],
        cwd=folder,
        env=os.environ | own,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_tutorial_prints_its_table(tmp_path):
    pytest.importorskip("tensorflow_datasets")
    program = [str(ROOT / "tutorials" / "01_quickstart.py"), "--short", "--out", "made"]
    printed = run(program, tmp_path)
    assert "the part of it that the repository carries" in printed

    rows = {(name, kind): rest for name, kind, *rest in ROW.findall(printed)}
    assert set(rows) == {
        (name, kind) for name in ("dense", "pruned") for kind in ("float32", "int8")
    }
    for (name, kind), (accuracy, sparsity, size, gzipped, latency) in rows.items():
        file = tmp_path / "made" / f"{name}_{kind}.tflite"
        assert int(size.replace(",", "")) == file.stat().st_size
        assert int(gzipped.replace(",", "")) < file.stat().st_size
        assert float(accuracy) > 30, "ten classes: 10 % is a guess"
        assert float(latency) > 0
        if name == "pruned":
            assert 89 <= float(sparsity) <= 91
        else:
            assert float(sparsity) < 10
    plain = keras.models.load_model(tmp_path / "made" / "pruned.keras")
    assert not keras_pdp.pruned_layers(plain)


def test_the_quick_start_of_the_readme_runs(tmp_path):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)
    # Its promise is measured where its variables are.
    check = """
kernels = [layer.kernel for layer in model.layers[:2]]
zeros = sum(int((keras.ops.convert_to_numpy(k) == 0).sum()) for k in kernels)
print("zeros", zeros / sum(int(keras.ops.size(k)) for k in kernels))
print("accuracy", float(((model.predict(x[3000:]) > 0.5) == y[3000:]).mean()))
"""
    printed = run(["-c", block + check], tmp_path)
    (zeros,) = re.findall(r"^zeros (.*)$", printed, re.MULTILINE)
    (accuracy,) = re.findall(r"^accuracy (.*)$", printed, re.MULTILINE)
    assert float(zeros) == pytest.approx(0.9, abs=1e-3)
    assert float(accuracy) > 0.9
    assert (tmp_path / "model.tflite").stat().st_size > 0

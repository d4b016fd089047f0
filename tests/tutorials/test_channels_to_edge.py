"""The tutorial on channels, on a ninth of its data: every step, and its table."""

import re
from pathlib import Path

import keras
import pytest

import keras_pdp
from tests.test_quickstart import ROOT, run

# name, storage, accuracy %, MACs, weights, bytes, gzipped bytes, milliseconds
ROW = re.compile(
    r"(original|half) +(float32|int8) +([\d.]+)% +([\d,]+) +([\d,]+)"
    r" +([\d,]+) +([\d,]+) +([\d.]+)"
)


def test_the_tutorial_takes_half_of_the_multiplications_out(tmp_path: Path):
    pytest.importorskip("tensorflow_datasets")
    program = ROOT / "tutorials" / "03_channels_to_edge.py"
    printed = run([str(program), "--short", "--out", "made"], tmp_path)
    assert "in the place of CIFAR-10 Fashion-MNIST" in printed
    assert "training our own" in printed

    rows = {(name, kind): rest for name, kind, *rest in ROW.findall(printed)}
    assert len(rows) == 4
    numbers = {
        key: [float(cell.replace(",", "")) for cell in rest]
        for key, rest in rows.items()
    }
    for (name, kind), (_, macs, weights, size, gzipped, latency) in numbers.items():
        file = tmp_path / "made" / f"{name}_{kind}.tflite"
        assert size == file.stat().st_size > gzipped
        assert latency > 0
        original = numbers["original", kind]
        if name == "half":
            # The budget is reached, and passed by less than a channel's part.
            assert 0.45 * original[1] <= macs <= 0.5 * original[1]
            assert weights < original[2] and size < original[3]
    (difference,) = re.findall(r"largest difference of an output: ([\d.e+-]+)", printed)
    assert float(difference) < 1e-5
    small = keras.models.load_model(tmp_path / "made" / "small.keras")
    assert not keras_pdp.pruned_layers(small)
    assert small.count_params() == numbers["half", "float32"][2]

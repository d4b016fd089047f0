"""A full disk or a folder that takes no files: what was there stays whole."""

import os
import resource
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_pdp import Backup, PDPCallback, PDPWrapper, to_tflite

X = np.random.default_rng(0).normal(size=(32, 64)).astype("float32")


def net() -> keras.Model:
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((64,)), PDPWrapper(keras.layers.Dense(128, name="only"))]
    )
    model.compile("adam", "mse", jit_compile=False)
    return model


def train(model, *callbacks, epochs):
    model.fit(
        X,
        np.zeros((32, 128), "float32"),
        epochs=epochs,
        batch_size=16,
        shuffle=False,
        verbose=0,
        callbacks=[PDPCallback(0.5, epochs=3), *callbacks],
    )


@contextmanager
def full_disk(size: int):
    """No file may grow past `size` bytes: writing fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.tensorflow("to_tflite converts Keras models on TensorFlow")
def test_an_export_to_a_full_disk_leaves_the_file_that_was_there(tmp_path, monkeypatch):
    path = tmp_path / "model.tflite"
    plain = keras.Sequential([keras.Input((64,)), keras.layers.Dense(128)])
    size = to_tflite(plain, path).raw_bytes
    before = path.read_bytes()
    write = Path.write_bytes

    # The limit holds for our file alone: the converter's own are written elsewhere.
    def limited(self, data):
        with full_disk(size // 2):
            return write(self, data)

    monkeypatch.setattr(Path, "write_bytes", limited)
    with pytest.raises(OSError, match="too large"):
        to_tflite(plain, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_backup_to_a_full_disk_leaves_the_last_one(tmp_path):
    straight = net()
    train(straight, epochs=3)
    train(net(), Backup(tmp_path), epochs=1)
    # In a process of its own: HDF5 crashes the process when a write fails.
    code = (
        "from pathlib import Path; from tests.faults.test_writing import *\n"
        f"model = net(); backup = Backup(Path({str(tmp_path)!r}))\n"
        "with full_disk(8192): train(model, backup, epochs=3)"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True)
    assert done.returncode != 0
    # It came to the writing, and not only to an error before it.
    left = {each.name for each in tmp_path.iterdir()}
    assert left == {"epochs-000001", "unfinished"}
    # Once there is room again the run goes on, and ends as if nothing had been.
    model = net()
    train(model, Backup(tmp_path), epochs=3)
    for one, other in zip(model.variables, straight.variables, strict=True):
        np.testing.assert_array_equal(
            keras.ops.convert_to_numpy(one), keras.ops.convert_to_numpy(other)
        )
    assert [each.name for each in tmp_path.iterdir()] == ["epochs-000003"]


def unwritable(tmp_path: Path) -> Path:
    """A folder that takes no files; root is let into every one that is on a disk."""
    folder = tmp_path / "closed"
    folder.mkdir()
    folder.chmod(0o500)
    if not os.access(folder, os.W_OK):
        return folder
    kernel = Path("/sys/kernel")
    if not kernel.is_dir():
        pytest.skip("this user may write everywhere, and there is no /sys")
    return kernel


@pytest.mark.tensorflow("to_tflite converts Keras models on TensorFlow")
def test_an_export_to_a_closed_folder_fails_before_any_work(tmp_path):
    folder = unwritable(tmp_path)
    before = sorted(folder.iterdir())
    with pytest.raises(OSError):
        to_tflite(net(), folder / "model.tflite")
    assert sorted(folder.iterdir()) == before


def test_a_backup_in_a_closed_folder_fails_before_the_training(tmp_path):
    model = net()
    before = [np.array(w) for w in model.get_weights()]
    with pytest.raises(OSError):
        train(model, Backup(unwritable(tmp_path) / "run"), epochs=1)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)

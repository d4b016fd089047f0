"""Files for LiteRT that are cut short, damaged or of another kind, in both reports."""

import time
import tracemalloc

import keras
import numpy as np
import pytest

from keras_pdp import sparse_inference_report, sparsity_report
from tests.deployment.convert import convert

OFFSETS = 60
SECONDS, BYTES = 20.0, 150e6  # for a file of a few kilobytes
REPORTS = [sparsity_report, sparse_inference_report]


@pytest.fixture(scope="module")
def data():
    """A file with a sparsely stored weight."""
    net = keras.Sequential([keras.Input((16,)), keras.layers.Dense(64)])
    kernel = np.random.default_rng(0).normal(size=(16, 64)).astype("float32")
    kernel[np.abs(kernel) < 1.5] = 0.0
    net.layers[0].kernel.assign(kernel)
    return convert(net, sparse=True)


@pytest.fixture(params=REPORTS, ids=lambda report: report.__name__)
def read(request, tmp_path):
    """Reads bytes as a file; gives the error's message, or None without one."""

    def check(content):
        path = tmp_path / "hostile.tflite"
        path.write_bytes(content)
        tracemalloc.start()
        start = time.perf_counter()
        try:
            request.param(path)
        except ValueError as error:
            assert str(path) in str(error)
            return str(error)
        finally:
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert time.perf_counter() - start < SECONDS
            assert peak < BYTES
        return None

    return check


def test_the_whole_file_is_read(data, read):
    assert read(data) is None


def test_every_part_of_it_is_refused(data, read):
    cuts = {len(data) * part // OFFSETS for part in range(OFFSETS)}
    for end in sorted({*cuts, *range(12), len(data) - 1}):
        assert read(data[:end]) is not None, end


def test_single_bytes_that_are_wrong_end_in_a_report_or_an_error(data, read):
    rng = np.random.default_rng(0)
    refused = 0
    for place in rng.integers(4, min(len(data), 3000), 150):
        flipped = bytearray(data)
        flipped[place] ^= 1 << int(rng.integers(8))
        refused += read(bytes(flipped)) is not None
    assert refused > 5


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"TFL3",
        bytes(4096),
        b"\xff" * 4096,
        b"\xff\xff\xff\x7fTFL3" + b"\xff" * 4096,
        b"\x1c\0\0\0TFL3" + bytes(4096),
        b"PK\x03\x04" + bytes(4096),
        b"\x89HDF\r\n\x1a\n" + bytes(4096),
    ],
    ids=["empty", "short", "zeros", "ones", "far", "nothing in it", "zip", "hdf5"],
)
def test_other_kinds_are_refused(content, read):
    assert read(content) is not None

"""The reader: what converters write, what hands write, and what is broken."""

import sys
import tracemalloc

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from keras import layers

from keras_pdp.deployment.flatbuffer import read_tflite
from tests.deployment.convert import convert, model_file, subgraph, tensor

PRECISIONS = [None, "float16", "dynamic", "int8"]


def sparse_net():
    """Kernels with 80 % zeros; those of the last layer in blocks of four inputs."""
    model = keras.Sequential(
        [
            keras.Input((8, 8, 32)),
            layers.Conv2D(32, 1),
            layers.DepthwiseConv2D(3),
            layers.Conv2D(32, 3, strides=2),
            layers.Flatten(),
            layers.Dense(70),
            layers.Dense(64),
            layers.Dense(40),
        ]
    )
    generator = np.random.default_rng(0)
    for kernel in kernels(model):
        kept = generator.random(kernel.shape) > 0.8
        if kernel.shape == (64, 40):
            kept = np.repeat(kept[:16], 4, axis=0)
        kernel.assign(np.where(kept, generator.normal(size=kernel.shape), 0))
    return model


def kernels(model):
    return [weight for weight in model.weights if weight.ndim > 1]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """For each precision the same model, stored densely and sparsely."""
    folder, model = tmp_path_factory.mktemp("files"), sparse_net()
    zeros = sum(int((kernel.numpy() == 0).sum()) for kernel in kernels(model))
    files = {}
    for quantize in PRECISIONS:
        for sparse in (False, True):
            path = folder / f"{quantize}_{sparse}.tflite"
            path.write_bytes(convert(model, quantize, sparse=sparse))
            files[quantize, sparse] = path
    last = kernels(model)[-1].numpy()
    return files, zeros, last


@pytest.fixture
def write(tmp_path):
    def written(data):
        path = tmp_path / "model.tflite"
        path.write_bytes(data)
        return path

    return written


def by_shape(file):
    return {weight.shape: weight for weight in file.weights}


@pytest.mark.parametrize("quantize", PRECISIONS)
def test_sparse_storage_decodes_to_what_is_stored_densely(pairs, quantize):
    files, _, _ = pairs
    dense = by_shape(read_tflite(files[quantize, False]))
    sparse = by_shape(read_tflite(files[quantize, True]))
    assert dense.keys() == sparse.keys()
    assert len(dense) == 6
    for shape, weight in dense.items():
        np.testing.assert_array_equal(weight.values, sparse[shape].values)
        np.testing.assert_array_equal(weight.real, sparse[shape].real)
        assert weight.zeros == sparse[shape].zeros
        assert weight.storage == "dense"
        assert sparse[shape].storage != "dense"
        assert sparse[shape].index_bytes > 0
        assert weight.bytes == weight.values.nbytes


@pytest.mark.parametrize("quantize", [None, "float16"])
def test_both_encodings_of_the_converter_are_met(pairs, quantize):
    file = read_tflite(pairs[0][quantize, True])
    assert {weight.storage for weight in file.weights} == {"csr", "block"}
    assert by_shape(file)[40, 64].storage == "block"


@pytest.mark.parametrize("quantize", PRECISIONS)
def test_zeros_are_those_of_the_kernels(pairs, quantize):
    files, zeros, _ = pairs
    file = read_tflite(files[quantize, False])
    if quantize in (None, "float16"):
        assert file.weight_zeros == zeros
    else:  # rounding to 8 bits makes some more, and loses none
        assert zeros <= file.weight_zeros <= 1.005 * zeros


@pytest.mark.parametrize(
    "quantize, tolerance", [(None, 0), ("float16", 5e-3), ("int8", 2e-2)]
)
def test_real_values_are_those_of_the_kernel(pairs, quantize, tolerance):
    files, _, kernel = pairs
    weight = by_shape(read_tflite(files[quantize, True]))[40, 64]
    np.testing.assert_allclose(weight.real, kernel.T, atol=tolerance)


def test_users_are_found_through_dequantize_and_densify(pairs):
    file = read_tflite(pairs[0]["float16", True])
    assert {"DEQUANTIZE", "DENSIFY"} <= set(file.operators[0])
    expected = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}
    assert {weight.op for weight in file.weights} == expected
    biases = [each for each in file.constants if len(each.shape) == 1]
    assert biases
    assert not any(bias.is_weight for bias in biases)


def test_kernels_inside_the_loop_of_a_recurrent_layer(write):
    model = keras.Sequential([keras.Input((5, 4)), layers.LSTM(6)])
    file = read_tflite(write(convert(model)))
    assert sorted(weight.shape for weight in file.weights) == [(24, 4), (24, 6)]
    assert all(weight.subgraph > 0 for weight in file.weights)
    assert all(weight.op == "FULLY_CONNECTED" for weight in file.weights)


def test_a_weight_handed_into_a_loop(write):
    body = subgraph(
        [tensor((2, 2), "FLOAT32"), tensor((1, 2), "FLOAT32")],
        [("FULLY_CONNECTED", [1, 0, -1], [1])],
        inputs=[1, 0],
    )
    main = subgraph(
        [tensor((1, 2), "FLOAT32"), tensor((2, 2), "FLOAT32", 1)],
        [("WHILE", [0, 1], [0, 1], schema.WhileOptionsT(1, 2))],
    )
    condition = subgraph([tensor((), "BOOL")] * 2, [], inputs=[0, 1])
    values = np.array([1, 0, 0, 4], "<f4").view(np.uint8)
    (weight,) = read_tflite(
        write(model_file([main, condition, body], [values]))
    ).weights
    assert (weight.op, weight.zeros, weight.subgraph) == ("FULLY_CONNECTED", 2, 0)


@pytest.mark.parametrize("outside", [False, True])
def test_int4_two_values_in_a_byte_low_half_first(write, outside):
    stored = np.array([0x21, 0xF8, 0x07], np.uint8)  # 1, 2, -8, -1, 7
    graph = subgraph(
        [tensor((1, 5), "FLOAT32"), tensor((1, 5), "INT4", 1, scale=[0.5])],
        [("FULLY_CONNECTED", [0, 1], [0])],
    )
    data = model_file([graph], [stored], outside=outside)
    (weight,) = read_tflite(write(data)).weights
    assert weight.dtype == "int4"
    assert weight.bytes == 3
    np.testing.assert_array_equal(weight.values, [[1, 2, -8, -1, 7]])
    np.testing.assert_array_equal(weight.real, [[0.5, 1, -4, -0.5, 3.5]])


def test_zeros_are_values_at_the_zero_point_of_their_channel(write):
    stored = np.array([[3, 0, 3], [0, 5, 5]], np.int8)
    quantized = tensor((2, 3), "INT8", 1, scale=[2.0, 0.1], zero_point=[3, 5])
    graph = subgraph(
        [tensor((1, 3), "FLOAT32"), quantized], [("FULLY_CONNECTED", [0, 1], [0])]
    )
    data = model_file([graph], [stored.reshape(-1).view(np.uint8)])
    (weight,) = read_tflite(write(data)).weights
    assert weight.zeros == 4
    np.testing.assert_allclose(weight.real, [[0, -6, 0], [-0.5, 0, 0]])


def test_tensors_that_share_a_buffer_count_once(write):
    shared = [tensor((1, 2), "FLOAT32"), *[tensor((2, 2), "FLOAT32", 1)] * 2]
    graph = subgraph(
        shared, [("FULLY_CONNECTED", [0, 1], [0]), ("FULLY_CONNECTED", [0, 2], [0])]
    )
    file = read_tflite(write(model_file([graph], [np.zeros(16, np.uint8)])))
    assert len(file.constants) == 2
    assert file.weight_count == file.weight_zeros == 4


@pytest.mark.parametrize("used_as, op", [(0, "GATHER"), (1, "EMBEDDING_LOOKUP")])
def test_tables_are_weights(write, used_as, op):
    inputs = [1, 0] if used_as == 0 else [0, 1]
    graph = subgraph(
        [tensor((1,), "INT32"), tensor((2, 2), "FLOAT32", 1)], [(op, inputs, [0])]
    )
    (table,) = read_tflite(write(model_file([graph], [np.zeros(16, np.uint8)]))).weights
    assert table.op == op


@pytest.mark.parametrize(
    "data",
    [b"", b"TFL3", b"PK\x03\x04" + bytes(100), b"\x1c\0\0\0TFL2" + bytes(60)],
    ids=["empty", "short", "zip", "other identifier"],
)
def test_foreign_files_are_named(write, data):
    with pytest.raises(ValueError, match=r"model\.tflite: expected a TFLite model"):
        read_tflite(write(data))


def test_a_folder_and_a_missing_file(tmp_path):
    with pytest.raises(IsADirectoryError):
        read_tflite(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_tflite(tmp_path / "none.tflite")


@pytest.mark.parametrize("sparse", [False, True])
def test_files_that_end_too_early(pairs, write, sparse):
    data = pairs[0][None, sparse].read_bytes()
    for part in range(20):
        with pytest.raises(ValueError, match=r"model\.tflite"):
            read_tflite(write(data[: len(data) * part // 20]))


@pytest.mark.parametrize("quantize", [None, "int8"])
def test_flipped_bytes_end_in_a_result_or_a_value_error(pairs, write, quantize):
    data = pairs[0][quantize, True].read_bytes()
    generator = np.random.default_rng(0)
    damaged = 0
    tracemalloc.start()
    for round_ in range(200):
        flipped = np.frombuffer(data, np.uint8).copy()
        # half of the rounds aim at the front, where the tables are
        end = len(data) if round_ % 2 else 6000
        places = generator.integers(0, end, size=1 + round_ % 20)
        flipped[places] = generator.integers(0, 256, size=len(places))
        try:
            read_tflite(write(flipped.tobytes()))
        except ValueError as error:
            assert "model.tflite" in str(error)
            damaged += 1
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 20 < damaged < 200
    assert peak < 200e6


def test_the_schema_of_tensorflow_stands_in(pairs, monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert.schema_py_generated", None)
    file = read_tflite(pairs[0][None, True])
    assert file.weight_zeros == read_tflite(pairs[0][None, False]).weight_zeros


def test_without_any_schema_it_says_what_to_install(pairs, monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert.schema_py_generated", None)
    fallback = "tensorflow.lite.python.schema_py_generated"
    monkeypatch.setitem(sys.modules, fallback, None)
    with pytest.raises(ImportError, match="pip install ai-edge-litert"):
        read_tflite(pairs[0][None, False])

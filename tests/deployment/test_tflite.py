"""Exports of real nets: the file is right, or there is no file."""

import ast
import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from keras import layers, ops

import keras_pdp.deployment
from keras_pdp.deployment.flatbuffer import read_tflite
from keras_pdp.deployment.samples import as_samples
from keras_pdp.deployment.signature import signature_of
from keras_pdp.deployment.tflite import ExportError, to_tflite
from keras_pdp.training.surgery import pruned_layers, strip, wrap

PRECISIONS = [None, "float16", "dynamic", "int8"]


def mlp(features=16, units=64):
    return keras.Sequential(
        [
            keras.Input((features,)),
            layers.Dense(units, activation="relu"),
            layers.Dense(4),
        ]
    )


def conv_net():
    """Also layers that act on training only, one of them at random by default."""
    return keras.Sequential(
        [
            keras.Input((12, 12, 3)),
            layers.RandomFlip(),
            layers.Conv2D(16, 3, use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.DepthwiseConv2D(3, strides=2, padding="same"),
            layers.SeparableConv2D(24, 3),
            layers.Conv2DTranspose(8, 3),
            layers.Dropout(0.5),
            layers.Flatten(),
            layers.Dense(5),
        ]
    )


def recurrent(unroll=False):
    return keras.Sequential(
        [
            keras.Input((6, 8)),
            layers.LSTM(32, return_sequences=True, unroll=unroll),
            layers.GRU(16, unroll=unroll),
            layers.Dense(3),
        ]
    )


def transformer():
    tokens = keras.Input((7,), dtype="int32", name="tokens")
    x = layers.Embedding(50, 32)(tokens)
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 16)(x, x))
    return keras.Model(tokens, layers.Dense(4)(layers.GlobalAveragePooling1D()(x)))


def two_inputs():
    """The order of inputs by name is not that of their creation."""
    wide, slim = keras.Input((6,), name="wide one"), keras.Input((4,), name="a.slim")
    x = layers.Concatenate()([layers.Dense(8)(wide), layers.Dense(8)(slim)])
    return keras.Model([wide, slim], layers.Dense(3)(x))


def conv3d():
    return keras.Sequential([keras.Input((5, 5, 5, 2)), layers.Conv3D(4, 3)])


NETS = [mlp, conv_net, recurrent, transformer, two_inputs, conv3d]


def prune(model, sparsity=0.75):
    """Sets the smallest weights of every kernel to zero."""
    for kernel in kernels(model):
        values = np.abs(kernel.numpy())
        kernel.assign(kernel * (values >= np.quantile(values, sparsity)))
    return model


def kernels(model):
    return [
        weight
        for weight in model.weights
        if weight.name.endswith(("kernel", "embeddings"))
    ]


def zeros_of(model):
    return sum(int((kernel.numpy() == 0).sum()) for kernel in kernels(model))


def values_of(model):
    return [weight.numpy() for weight in model.weights]


def data_for(model, count=40):
    generator = np.random.default_rng(1)
    return [
        generator.normal(size=(count, *each.shape[1:]))
        if each.dtype == "float32"
        else generator.integers(0, 50, size=(count, *each.shape[1:]))
        for each in model.inputs
    ]


def wrapped_at(model, sparsity):
    wrapped = wrap(model)
    for wrapper in pruned_layers(wrapped):
        for kernel in wrapper.kernels:
            kernel.pruned.assign(round(sparsity * kernel.units))
    return wrapped


@pytest.mark.parametrize("net", NETS)
def test_pruned_nets(net, tmp_path):
    model = prune(net())
    before = values_of(model)
    report = to_tflite(model, tmp_path / "model.tflite")
    file = read_tflite(tmp_path / "model.tflite")
    assert report.relative_difference < 1e-5
    assert report.samples == "random"
    assert report.zeros == file.weight_zeros == zeros_of(model) > 0
    assert report.size == sum(kernel.numpy().size for kernel in kernels(model))
    assert report.raw_bytes == (tmp_path / "model.tflite").stat().st_size
    assert report.gzip_bytes < report.dense_gzip_bytes
    assert abs(report.dense_raw_bytes - report.storage.dense_raw_bytes) < 100
    operators = {name for ops in file.operators for name in ops}
    assert not any(name.startswith(("Flex", "CUSTOM")) for name in operators)
    for old, new in zip(before, values_of(model), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("quantize", PRECISIONS)
@pytest.mark.parametrize("net", [mlp, conv_net])
def test_precisions(net, quantize, tmp_path, capfd):
    model = prune(net())
    (data,) = data_for(model)
    path = tmp_path / "model.tflite"
    report = to_tflite(model, path, quantize=quantize, representative_data=data)
    assert report.samples == "representative_data"
    assert report.outputs[0].samples == 40
    assert zeros_of(model) <= report.zeros <= 1.02 * zeros_of(model)
    stored = {weight.dtype for weight in report.weights}
    expected = {None: "float32", "float16": "float16"}.get(quantize, "int8")
    assert expected in stored
    if quantize != "dynamic":  # which leaves small kernels as they are
        assert stored == {expected}
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


@pytest.mark.parametrize("quantize", ["dynamic", "int8"])
def test_quantized_transformer_and_unrolled_recurrence(quantize, tmp_path):
    for model in (transformer(), recurrent(unroll=True)):
        report = to_tflite(
            model,
            tmp_path / "model.tflite",
            quantize=quantize,
            representative_data=data_for(model),
        )
        assert report.relative_difference < 0.1


def test_dynamic_loop(tmp_path):
    report = to_tflite(recurrent(), tmp_path / "model.tflite", quantize="dynamic")
    assert report.relative_difference < 0.05


def test_int8_loop_is_refused_before_it_ends_the_process(tmp_path):
    model = recurrent()
    with pytest.raises(ExportError, match="unroll=True"):
        to_tflite(
            model, tmp_path / "m", quantize="int8", representative_data=data_for(model)
        )


def test_float_inputs_and_outputs_around_int8(tmp_path):
    model, path = mlp(), tmp_path / "model.tflite"
    to_tflite(model, path, quantize="int8", representative_data=data_for(model))
    operators = read_tflite(path).operators[0]
    assert (operators[0], operators[-1]) == ("QUANTIZE", "DEQUANTIZE")


def test_wrapped_model_is_stripped_and_compared_with_its_unmasked_self(tmp_path):
    wrapped = wrapped_at(mlp(), 0.9)
    before = values_of(wrapped)
    report = to_tflite(wrapped, tmp_path / "model.tflite")
    assert report.dense_reference == "unmasked weights"
    assert report.zeros == zeros_of(strip(wrapped))
    assert report.sparsity == pytest.approx(0.9, abs=0.01)
    assert report.gzip_bytes < 0.4 * report.dense_gzip_bytes
    for old, new in zip(before, values_of(wrapped), strict=True):
        np.testing.assert_array_equal(old, new)
    # the dense size is that of the model as it was before it was wrapped
    plain = strip(wrapped_at(wrapped, 0.0))
    assert to_tflite(plain, tmp_path / "dense").gzip_bytes == pytest.approx(
        report.dense_gzip_bytes, rel=0.01
    )


def test_dense_reference_of_plain_models(tmp_path):
    dense = to_tflite(mlp(), tmp_path / "model.tflite")
    assert dense.dense_reference == "the file itself"
    assert dense.dense_gzip_bytes == dense.gzip_bytes
    pruned = to_tflite(prune(mlp()), tmp_path / "model.tflite")
    assert pruned.dense_reference == "random weights"
    assert pruned.dense_gzip_bytes == pytest.approx(dense.gzip_bytes, rel=0.05)


def heads(kind):
    x = keras.Input((4,), name="x")
    zeta, alpha = layers.Dense(3, name="zeta")(x), layers.Dense(3, name="alpha")(x)
    outputs = {
        "list": [zeta, alpha],
        "dictionary": {"zeta": zeta, "alpha": alpha},
        "nested": {"both": [zeta, alpha], "first": zeta},
        "same twice": [zeta, alpha, zeta],
    }
    return keras.Model(x, outputs[kind])


@pytest.mark.parametrize("kind", ["list", "dictionary", "nested", "same twice"])
def test_outputs_are_matched_by_name(kind, tmp_path):
    # heads of equal shapes: a mix-up shows in the values alone
    report = to_tflite(heads(kind), tmp_path / "model.tflite")
    assert report.relative_difference < 1e-5
    expected = {"zeta", "alpha"} if kind == "dictionary" else {"output_0", "output_1"}
    assert expected <= {each.output for each in report.outputs}


def test_inputs_are_fed_by_name(tmp_path):
    x, y = keras.Input((3,), name="b"), keras.Input((3,), name="a")
    for model in (
        keras.Model([x, y], x - 2 * y),
        keras.Model({"b": x, "a": y}, x - 2 * y),
    ):
        report = to_tflite(model, tmp_path / "model.tflite")
        assert report.relative_difference < 1e-6


class Doubled(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3)

    def call(self, x):
        return 2 * self.dense(x)


def half_and_subclassed():
    model = Doubled()
    model.dense = layers.Dense(3, dtype="mixed_float16")
    model(np.zeros((2, 5)))
    return model


def test_subclassed_model_that_was_called(tmp_path):
    model = Doubled()
    model(np.zeros((2, 5)))
    assert to_tflite(model, tmp_path / "model.tflite").size == 15


@pytest.mark.parametrize(
    "data",
    [
        np.ones((8, 16)),
        [np.ones((8, 16))],
        [np.ones((8, 16)), np.ones((3, 16))],
        (np.ones((4, 16)) for _ in range(2)),
        ((np.ones((4, 16)), np.ones(4)) for _ in range(2)),
        iter([[np.ones((1, 16))]] * 8),
        tf.data.Dataset.from_tensors((tf.ones((8, 16)), tf.ones(8))).repeat(),
        tf.data.Dataset.from_tensors(tf.ones((8, 16))),
    ],
    ids=["array", "list", "batches", "generator", "pairs", "lists", "endless", "tf"],
)
def test_forms_of_data_for_one_input(data):
    samples = as_samples(data, signature_of(mlp()).inputs, 128, "samples")
    assert [array.shape for array in samples.values()] in (
        [(8, 16)],
        [(11, 16)],
        [(128, 16)],
    )


def two_arrays():
    return [np.ones((8, 6)), np.ones((8, 4))]


@pytest.mark.parametrize(
    "data",
    [
        two_arrays(),
        tuple(two_arrays()),
        {"wide_one": two_arrays()[0], "a_slim": two_arrays()[1]},
        {"wide one": two_arrays()[0], "a.slim": two_arrays()[1]},
        [tuple(two_arrays())] * 3,
        [(tuple(two_arrays()), np.ones(8))],
    ],
    ids=["list", "tuple", "dictionary", "by Keras's names", "batches", "pairs"],
)
def test_forms_of_data_for_two_inputs(data):
    samples = as_samples(data, signature_of(two_inputs()).inputs, 128, "samples")
    shapes = {name: array.shape[1:] for name, array in samples.items()}
    assert shapes == {"wide_one": (6,), "a_slim": (4,)}
    assert {len(array) for array in samples.values()} <= {8, 24}


@pytest.mark.parametrize(
    "names, expected",
    [
        (("größe", "_x"), ["gr__e", "x"]),
        (("X", "x"), ["X", "x_1"]),
        (("(x)", "x_"), ["x_", "x__1"]),
        (("é", "_"), ["tensor", "tensor_1"]),
    ],
)
def test_input_names_that_tensorflow_does_not_take(names, expected, tmp_path):
    inputs = [keras.Input((3,), name=name) for name in names]
    model = keras.Model(inputs, keras.layers.Add()(inputs))
    found = signature_of(model).inputs
    assert [each.name for each in found] == expected
    assert [each.keras_name for each in found] == list(names)
    to_tflite(model, tmp_path / "m.tflite")  # which compares their results


def test_data_by_names_that_are_alike():
    inputs = [keras.Input((3,), name=name) for name in ("a.b", "a_b")]
    model = keras.Model(inputs, keras.layers.Add()(inputs))
    data = {"a.b": np.zeros((2, 3)), "a_b": np.ones((2, 3))}
    found = as_samples(data, signature_of(model).inputs, 128, "samples")
    assert [float(array.mean()) for array in found.values()] == [0.0, 1.0]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a system without pipes")
def test_a_pipe_is_no_place_for_a_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="device or pipe"):
        to_tflite(mlp(), tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()


def test_a_process_without_stderr():
    code = (
        "import os, sys; os.close(2); sys.stderr = None\n"
        "from keras_pdp.deployment.quiet import quiet_stderr\n"
        "with quiet_stderr(): print('quiet')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "quiet\n")


def test_arrays_are_sampled_evenly_and_streams_from_their_start():
    inputs = signature_of(mlp()).inputs
    rows = np.repeat(np.arange(100.0)[:, None], 16, axis=1)
    (spread,) = as_samples(rows, inputs, 10, "samples").values()
    np.testing.assert_array_equal(spread[:, 0], np.arange(0, 100, 11))
    (first,) = as_samples(iter([rows]), inputs, 10, "samples").values()
    np.testing.assert_array_equal(first[:, 0], np.arange(10))


def test_a_stream_is_used_for_calibration_and_comparison(tmp_path):
    pairs = tf.data.Dataset.from_tensors((tf.ones((8, 16)), tf.ones(8))).repeat()
    report = to_tflite(
        mlp(), tmp_path / "model.tflite", quantize="int8", representative_data=pairs
    )
    assert (report.samples, report.outputs[0].samples) == ("representative_data", 128)


GOOD = np.ones((8, 16))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"quantize": "int4"}, r"one of None, 'float16', .*received 'int4'"),
        ({"quantize": "int8"}, "needs representative_data"),
        ({"samples": np.ones((8, 15))}, r"\(None, 16\).*received \(8, 15\)"),
        ({"samples": np.ones(16)}, r"received \(16,\); add the batch axis"),
        ({"samples": np.ones((8, 4, 4))}, r"expected shape \(None, 16\)"),
        ({"samples": np.ones((0, 16))}, "samples is empty"),
        ({"samples": []}, "samples is empty"),
        ({"samples": iter([])}, "samples is empty"),
        ({"samples": np.full((8, 16), np.nan)}, "NaN or infinity"),
        ({"samples": np.full((8, 16), "x")}, "expected float32 .* received <U1"),
        ({"samples": np.ones((8, 16)) * 1j}, "received complex128"),
        ({"samples": {"other": GOOD}}, "one array for each of the inputs"),
        ({"samples": 3}, "expected an array.*received int"),
        ({"samples": "text"}, "expected an array.*received str"),
        ({"samples": [GOOD, np.ones(8)]}, "samples, batch 1: expected shape"),
        ({"samples": [[1.0, 2.0]]}, "batch 0: expected arrays.*received list of 2"),
        ({"representative_data": np.ones((8, 15))}, "representative_data: expected"),
    ],
)
def test_bad_arguments_are_found_before_any_work(
    arguments, message, tmp_path, monkeypatch
):
    monkeypatch.setattr(keras.export, "ExportArchive", None)  # no conversion begins
    with pytest.raises(ValueError, match=message):
        to_tflite(mlp(), tmp_path / "model.tflite", **arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "samples, message",
    [
        (np.full((4, 7), 0.5), "expected int32 .* received float64"),
        (two_arrays(), "batch 0: expected shape"),
    ],
)
def test_bad_token_ids(samples, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        to_tflite(transformer(), tmp_path / "model.tflite", samples=samples)


def test_inputs_of_different_lengths(tmp_path):
    with pytest.raises(ValueError, match=r"different lengths \[7, 8\]"):
        to_tflite(
            two_inputs(), tmp_path / "m", samples=[np.ones((8, 6)), np.ones((7, 4))]
        )


class Sum(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3)

    def call(self, x, y):
        return self.dense(x) + y


def called_with_two_arguments():
    model = Sum()
    model(np.zeros((2, 5)), np.zeros((2, 3)))
    return model


def test_a_layer_is_no_model(tmp_path):
    with pytest.raises(TypeError, match="expected a Keras model, received Dense"):
        to_tflite(layers.Dense(2), tmp_path / "model.tflite")


@pytest.mark.parametrize("path", [3, None, b"model.tflite", ["model.tflite"]])
def test_a_number_is_no_path(path):
    with pytest.raises(TypeError, match=f"path: .*received {type(path).__name__}"):
        to_tflite(mlp(), path)


@pytest.mark.parametrize(
    "model, message",
    [
        (lambda: keras.Sequential([layers.Dense(2)]), "Call the model on a batch"),
        (Doubled, "Call the model on a batch"),
        (
            lambda: keras.Sequential([keras.Input((None, 4)), layers.LSTM(2)]),
            r"shape \(None, None, 4\); expected all axes",
        ),
        (
            lambda: keras.Sequential([keras.Input((4,), 8), layers.Dense(2)]),
            "batch axis fixed to 8",
        ),
        (
            lambda: keras.Sequential(
                [
                    keras.Input((1,), dtype="string"),
                    layers.StringLookup(vocabulary=["a"]),
                ]
            ),
            "take strings",
        ),
        (half_and_subclassed, r"half precision: .*\(float16\)"),
        (called_with_two_arguments, "cannot be called with one argument"),
    ],
)
def test_models_whose_inputs_are_not_known(model, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        to_tflite(model(), tmp_path / "model.tflite")


def test_fixed_batch_of_one(tmp_path):
    model = keras.Sequential([keras.Input((4,), batch_size=1), layers.Dense(2)])
    assert to_tflite(model, tmp_path / "model.tflite").outputs[0].samples == 32


@pytest.mark.parametrize(
    "path, error",
    [
        ("none/model.tflite", FileNotFoundError),
        ("", IsADirectoryError),
        ("x" * 400, OSError),
    ],
)
def test_bad_paths_are_found_before_any_work(path, error, tmp_path, monkeypatch):
    monkeypatch.setattr(keras.export, "ExportArchive", None)
    with pytest.raises(error):
        to_tflite(mlp(), tmp_path / path)
    assert list(tmp_path.iterdir()) == []


class Beta(layers.Layer):
    def call(self, x):
        x = tf.sigmoid(x)
        return tf.math.betainc(x, x, x)


def without_builtin():
    return keras.Sequential([keras.Input((4,)), Beta()])


def quantized_by_keras():
    model = mlp()
    model.quantize("int8")
    return model


def too_big_for_float16():
    model = mlp()
    first = model.layers[0].kernel
    first.assign(keras.ops.full(first.shape, 1e6))
    return model


def with_outlier(factor):
    """One hidden unit far larger than the others, which the output does not use."""
    model = mlp()
    first, last = (layer.kernel for layer in model.layers)
    first.assign(first * np.where(np.arange(64) == 0, factor, 1))
    last.assign(last * (np.arange(64) != 0)[:, None])
    return model


class StandardizedOverTheBatch(layers.Layer):
    """0/0 where the batch is one sample."""

    def call(self, inputs):
        centred = inputs - ops.mean(inputs, axis=0, keepdims=True)
        return centred / ops.sqrt(ops.mean(centred**2, axis=0, keepdims=True))


@pytest.mark.parametrize(
    "model, quantize, message",
    [
        (without_builtin, None, "tf.Betainc"),
        (quantized_by_keras, None, r"Keras has quantized: \['.*before `quantize`"),
        (too_big_for_float16, "float16", "relative difference .* allowed 0.02"),
        (lambda: with_outlier(1e3), "int8", "relative difference .* allowed 0.3"),
        (lambda: with_outlier(1e6), "int8", "the runtime does not load the file"),
    ],
)
@pytest.mark.filterwarnings("ignore:Layer InputLayer does not have")
def test_a_file_that_is_not_right_is_not_written(model, quantize, message, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(b"what was there")
    model = model()
    with pytest.raises(ExportError, match=message):
        to_tflite(
            model, path, quantize=quantize, representative_data=data_for(model)[0]
        )
    assert path.read_bytes() == b"what was there"
    assert list(tmp_path.iterdir()) == [path]


def test_nan_that_keras_does_not_have(tmp_path):
    inputs = keras.Input((16,))
    outputs = StandardizedOverTheBatch()(layers.Dense(8)(inputs))
    model = keras.Model(inputs, outputs)
    with pytest.raises(ExportError, match="NaN or infinite .* computes over the batch"):
        to_tflite(model, tmp_path / "model.tflite", samples=data_for(model)[0])
    assert list(tmp_path.iterdir()) == []


def test_an_old_file_is_replaced_through_a_link(tmp_path):
    target, link = tmp_path / "target.tflite", tmp_path / "link.tflite"
    target.write_bytes(b"old")
    link.symlink_to(target)
    to_tflite(mlp(), link)
    assert link.is_symlink()
    assert read_tflite(target).weight_count == 16 * 64 + 64 * 4


def test_latency_and_rendering(tmp_path):
    path = tmp_path / "model.tflite"
    report = to_tflite(prune(mlp()), path, latency=True, sparse=False)
    assert report.latency.runs > 10
    assert 0 < report.latency.exported_ms < 100
    text = str(report)
    for expected in (
        str(path),
        "gzip -6",
        "dense (random weights)",
        "FULLY_CONNECTED",
        "75.00% zero",
        "32 samples (random)",
        "no dense kernel faster",
    ):
        assert expected in text
    known = json.loads(json.dumps(report.to_dict()))
    assert known["zeros"] == report.zeros
    assert known["weights"][0]["shape"] == list(report.weights[0].shape)


def test_another_backend_is_told_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(RuntimeError, match=r"strip\(model\)\.save.*=tensorflow"):
        to_tflite(mlp(), tmp_path / "model.tflite")


def test_heavy_packages_are_imported_in_functions_only():
    folder = pathlib.Path(keras_pdp.deployment.__file__).parent
    for source in folder.glob("*.py"):
        for node in ast.parse(source.read_text()).body:
            names = [alias.name for alias in getattr(node, "names", [])]
            names.append(getattr(node, "module", None) or "")
            assert not any(
                name.startswith(("tensorflow", "ai_edge_litert")) for name in names
            ), source.name


class ByKey(keras.Model):
    """Takes a dictionary, whose keys do not come in the order of the alphabet."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3)

    def call(self, inputs):
        return self.dense(inputs["tokens"]) + 10.0 * inputs["mask"]


def keyed():
    model = ByKey()
    model({"tokens": np.zeros((1, 3)), "mask": np.zeros((1, 3))})
    return model


def keyed_functional():
    inputs = {"tokens": keras.Input((3,)), "mask": keras.Input((3,))}
    outputs = layers.Dense(3)(inputs["tokens"]) + 10.0 * inputs["mask"]
    return keras.Model(inputs, outputs)


@pytest.mark.filterwarnings("ignore:When providing `inputs` as a dict")
@pytest.mark.parametrize("make", [keyed, keyed_functional])
def test_inputs_are_called_by_their_keys(make, tmp_path):
    model, rng = make(), np.random.default_rng(0)
    data = {key: rng.normal(size=(8, 3)).astype("f4") for key in ("tokens", "mask")}
    to_tflite(model, tmp_path / "m.tflite", samples=data)
    interpreter = Interpreter(str(tmp_path / "m.tflite"))
    run = interpreter.get_signature_runner()
    assert set(interpreter.get_signature_list()["serving_default"]["inputs"]) == set(
        data
    )
    one = {key: value[:1] for key, value in data.items()}
    np.testing.assert_allclose(
        run(**one)["output_0"], ops.convert_to_numpy(model(one)), rtol=1e-5, atol=1e-5
    )


def test_int8_warns_of_what_is_lost_in_one_output(tmp_path):
    inputs = keras.Input((8,))
    boxes = 416.0 * layers.Dense(4, "sigmoid")(inputs)
    scores = layers.Dense(
        8, "sigmoid", bias_initializer=keras.initializers.Constant(-2)
    )(inputs)
    both = layers.Concatenate()([boxes, scores])
    data = np.random.default_rng(0).normal(size=(64, 8)).astype("f4")
    path = tmp_path / "m.tflite"
    with pytest.warns(UserWarning, match="8 of the entries .* one constant"):
        to_tflite(
            keras.Model(inputs, both), path, quantize="int8", representative_data=data
        )


@pytest.mark.parametrize("kind", ["scalar", "table"])
def test_an_output_without_a_batch_axis_is_named(kind, tmp_path):
    inputs = keras.Input((8,))
    dense = layers.Dense(5)
    outputs = {"right": dense(inputs)}
    if kind == "scalar":
        outputs["wrong"] = ops.mean(inputs)
    else:
        outputs["wrong"] = ops.matmul(ops.transpose(inputs), inputs)
    with pytest.raises(ExportError, match="'wrong' .* one entry for each sample"):
        to_tflite(keras.Model(inputs, outputs), tmp_path / "m.tflite")
    assert not list(tmp_path.iterdir())


def test_ids_outside_of_a_table(tmp_path):
    samples = np.full((4, 7), 50, "int32")
    with pytest.raises(ExportError, match="the runtime fails on the samples"):
        to_tflite(transformer(), tmp_path / "m.tflite", samples=samples)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_inputs_of_another_precision_are_float32(dtype, tmp_path):
    inputs = keras.Input((8,), dtype=dtype)
    model = keras.Model(inputs, layers.Dense(3)(inputs))
    data = np.random.default_rng(0).normal(size=(16, 8)).astype("f4")
    to_tflite(model, tmp_path / "m.tflite", samples=data)
    details = Interpreter(str(tmp_path / "m.tflite")).get_input_details()
    assert details[0]["dtype"] == np.float32


class Towers(keras.Model):
    """Dictionaries in a dictionary, whose keys are alike; called as one of them is."""

    def __init__(self):
        super().__init__(name="q")
        self.dense = layers.Dense(3)

    def call(self, inputs):
        q, d = inputs["q"], inputs["d"]
        return self.dense(q["ids"]) - self.dense(d["ids"]) + d["mask"] * q["mask"]


def test_inputs_of_dictionaries_in_dictionaries():
    model = Towers()
    one = {"ids": np.zeros((1, 3)), "mask": np.zeros((1, 3))}
    model({"q": one, "d": one})
    names = [each.name for each in signature_of(model).inputs]
    assert sorted(names) == ["d_ids", "d_mask", "q_ids", "q_mask"]


def test_inputs_of_dictionaries_with_the_same_keys_keep_their_numbers():
    pair = [{"ids": keras.Input((3,))}, {"ids": keras.Input((3,))}]
    model = keras.Model(pair, pair[0]["ids"] - pair[1]["ids"])
    names = [each.keras_name for each in signature_of(model).inputs]
    assert len(set(names)) == 2

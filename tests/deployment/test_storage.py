"""to_tflite(sparse=…): real nets, stored sparsely where that is smaller and right."""

import dataclasses
import json

import keras
import numpy as np
import pytest
from keras import layers

import keras_pdp.deployment.storage as storage_module
from keras_pdp import Block, ExportError, pruned_layers, to_tflite, wrap
from keras_pdp.deployment.block_kernels import BLOCK_KERNELS
from keras_pdp.deployment.conversion import converted
from keras_pdp.deployment.flatbuffer import decoded, read_tflite
from keras_pdp.deployment.interpreter import Runner
from keras_pdp.deployment.samples import random_samples
from keras_pdp.deployment.signature import signature_of
from keras_pdp.deployment.sparse_inference import judged
from keras_pdp.deployment.sparse_writer import SparseFile, sparsely_stored
from tests.deployment.nets import net
from tests.deployment.test_tflite import data_for, prune

PRECISIONS = [None, "float16", "int8"]


def every_op():
    """Each op whose weights can be stored sparsely, in 26,448 of them."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(40, 3, activation="relu"),
            layers.DepthwiseConv2D(3, padding="same"),
            layers.Conv2D(50, 1, activation="relu"),
            layers.Conv2DTranspose(20, 3),
            layers.GlobalAveragePooling2D(),
            layers.Dense(300, activation="relu"),
            layers.Dense(7),
        ]
    )


def unsafe():
    """The stem of sparse inference, and an op that it goes wrong at."""
    return prune(net(layers.MaxPooling2D()), 0.9)


def eligible():
    return prune(net(), 0.9)


def outputs(data, samples):
    return Runner(data).all(samples)


def same(a, b):
    assert a.keys() == b.keys()
    return all(a[name].tobytes() == b[name].tobytes() for name in a)


@pytest.mark.parametrize("quantize", PRECISIONS)
def test_nets_at_several_sparsities(quantize):
    model = every_op()
    samples = random_samples(signature_of(model).inputs, 8)
    sizes = []
    for sparsity in (0.5, 0.9):
        dense = converted(signature_of(prune(model, sparsity)), quantize, samples)
        sparse = sparsely_stored(dense)
        before, after = decoded(dense, "dense"), decoded(sparse.data, "sparse")
        assert before.weight_zeros == after.weight_zeros
        for old, new in zip(before.weights, after.weights, strict=True):
            np.testing.assert_array_equal(old.real, new.real)
            # what holds zeros is stored sparsely, or there is a reason
            assert (new.storage == "dense") == (old.buffer in sparse.left_dense)
        assert same(outputs(dense, samples), outputs(sparse.data, samples))
        sizes.append(len(sparse.data) / len(dense))
    at_half, at_ninety = sizes
    assert at_half < {None: 0.75, "float16": 0.95, "int8": 1.001}[quantize]
    assert at_ninety < {None: 0.25, "float16": 0.35, "int8": 0.8}[quantize]


@pytest.fixture
def dense_file(tmp_path):
    """Makes the file that `sparse=False` writes; gives its bytes."""

    def written(model, **options):
        to_tflite(model, tmp_path / "dense.tflite", sparse=False, **options)
        return (tmp_path / "dense.tflite").read_bytes()

    return written


def test_auto_writes_the_sparse_file_and_accounts_for_it(tmp_path, dense_file):
    model, path = prune(every_op(), 0.9), tmp_path / "model.tflite"
    dense = dense_file(model)
    report = to_tflite(model, path)
    data, storage = path.read_bytes(), report.storage
    assert data == sparsely_stored(dense).data
    assert (storage.requested, storage.encoded, storage.refusal) == ("auto", 6, "")
    assert report.raw_bytes == len(data) < 0.25 * storage.dense_raw_bytes
    assert storage.dense_raw_bytes == len(dense)
    assert report.zeros == read_tflite(tmp_path / "dense.tflite").weight_zeros
    assert storage.verdict.verdict == "inert"
    assert [weight.storage for weight in report.weights] == ["csr"] * 6
    text = str(report)
    for expected in (
        "6 of 6 weights are stored sparsely",
        "the same, stored densely",
        "inert: sparse kernels do not take the file",
    ):
        assert expected in text
    assert "can run faster" not in text
    known = json.loads(json.dumps(report.to_dict()))
    assert known["storage"]["verdict"]["verdict"] == "inert"


def test_false_writes_the_dense_file_and_says_what_could_be(tmp_path):
    model, path = prune(every_op(), 0.9), tmp_path / "model.tflite"
    report = to_tflite(model, path, sparse=False)
    assert report.storage.encoded == 0
    assert report.raw_bytes == report.storage.dense_raw_bytes
    assert {weight.left_dense for weight in report.weights} == {"sparse=False"}
    assert "DENSIFY" not in read_tflite(path).operators[0]
    assert "0 of 6 weights are stored sparsely: sparse=False" in str(report)


def test_eligible_files_are_called_faster_where_they_are(tmp_path):
    report = to_tflite(eligible(), tmp_path / "model.tflite", sparse=True)
    assert report.storage.verdict.verdict == "eligible"
    expected = "eligible: the file can run faster on ARM, WebAssembly; not on x86"
    assert expected in str(report)


def test_unsafe_files_are_written_dense(tmp_path, dense_file):
    model, path = unsafe(), tmp_path / "model.tflite"
    report = to_tflite(model, path)
    assert path.read_bytes() == dense_file(model)
    assert report.storage.verdict.verdict == "unsafe"
    assert report.storage.encoded == 0
    assert "would compute the sparse file wrongly" in report.storage.refusal
    text = str(report)
    assert "MAX_POOL_2D" in text
    assert "can run faster" not in text


def test_true_refuses_an_unsafe_file(tmp_path):
    with pytest.raises(ExportError, match="wrongly; no file was written.*\n.*MAX_POOL"):
        to_tflite(unsafe(), tmp_path / "model.tflite", sparse=True)
    assert list(tmp_path.iterdir()) == []


def dense_layers():
    return keras.Sequential([keras.Input((64,)), layers.Dense(64), layers.Dense(3)])


@pytest.mark.parametrize(
    "sparsity, quantize, message",
    [
        (0.9, "int8", "int8 FULLY_CONNECTED does not load"),
        (0.1, None, "with 1.% zeros it would take"),
        (0.0, None, "nothing in it can be stored sparsely"),
    ],
)
def test_true_refuses_when_nothing_gets_smaller(sparsity, quantize, message, tmp_path):
    model = prune(dense_layers(), sparsity)
    with pytest.raises(ExportError, match=message):
        to_tflite(
            model,
            tmp_path / "model.tflite",
            quantize=quantize,
            representative_data=data_for(model)[0],
            sparse=True,
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "options, message",
    [
        ({"sparse": "yes"}, "sparse: expected 'auto', True or False, received 'yes'"),
        ({"sparse": None}, "received None"),
        ({"sparse": 1}, "received 1"),
        ({"sparse": True, "quantize": "dynamic"}, "'dynamic'.*do not load"),
    ],
)
def test_bad_arguments(options, message, tmp_path, monkeypatch):
    monkeypatch.setattr(keras.export, "ExportArchive", None)  # no conversion begins
    with pytest.raises(ValueError, match=message):
        to_tflite(dense_layers(), tmp_path / "model.tflite", **options)


def test_dynamic_files_stay_dense(tmp_path):
    model = prune(dense_layers(), 0.9)
    report = to_tflite(model, tmp_path / "model.tflite", quantize="dynamic")
    assert report.storage.encoded == 0
    assert {"int8", "float32"} == {weight.dtype for weight in report.weights}
    assert all("dynamic int8" in weight.left_dense for weight in report.weights)


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda data: data.replace(b"TFL3", b"TFL2"), "does not load"),
        (lambda data: data, "output 'output_0' of the sparse file differs"),
    ],
)
def test_a_sparse_file_that_is_not_right_is_not_taken(
    damage, message, tmp_path, monkeypatch, dense_file
):
    model, path = prune(dense_layers(), 0.9), tmp_path / "model.tflite"
    dense, other = dense_file(model), dense_file(prune(dense_layers(), 0.9))
    wrong = SparseFile(damage(sparsely_stored(other).data), frozenset({1}), 0.0, {})
    monkeypatch.setattr(storage_module, "sparsely_stored", lambda data: wrong)
    monkeypatch.setattr(storage_module, "judged", lambda data: judged(other))
    report = to_tflite(model, path)
    assert message in report.storage.refusal
    assert path.read_bytes() == dense
    with pytest.raises(ExportError, match=message):
        to_tflite(model, path, sparse=True)


def test_blocks_of_a_wrapped_dense_layer(tmp_path):
    """Keras's (4, 1) blocks of `(in, out)` are the runtime's 1×4 of `(out, in)`."""
    inputs = keras.Input((256,))
    model = keras.Model(inputs, layers.Dense(5)(layers.Dense(300)(inputs)))
    wrapped = wrap(model, Block((4, 1)))
    for wrapper in pruned_layers(wrapped):
        for kernel in wrapper.kernels:
            kernel.pruned.assign(round(0.92 * kernel.units))
    report = to_tflite(wrapped, tmp_path / "model.tflite")
    stored = {weight.shape: weight.storage for weight in report.weights}
    assert stored == {(300, 256): "block", (5, 300): "csr"}
    assert report.relative_difference < 1e-5
    assert report.raw_bytes < 0.15 * report.storage.dense_raw_bytes


def test_where_blocks_are_not_right_coordinates_are_taken(tmp_path, monkeypatch):
    """Blocks add in another order, so a tolerance of next to nothing refuses them."""
    strict = dataclasses.replace(BLOCK_KERNELS["float32"], tolerance=1e-15)
    default = sparsely_stored.__kwdefaults__
    monkeypatch.setitem(default, "kernels", {"float32": strict})
    model = keras.Sequential([keras.Input((256,)), layers.Dense(300)])
    kernel = model.layers[0].kernel
    kept = np.random.default_rng(0).random((64, 300)) > 0.93
    kernel.assign(kernel * np.repeat(kept, 4, axis=0))
    report = to_tflite(model, tmp_path / "model.tflite")
    assert [weight.storage for weight in report.weights] == ["csr"]


@pytest.fixture(scope="module")
def mobilenet():
    """MobileNetV1, alpha 0.25 at 96 pixels, 90 % of its convolutions' weights zero."""
    keras.utils.set_random_seed(0)
    model = keras.applications.MobileNet(
        (96, 96, 3), alpha=0.25, weights=None, classes=10, classifier_activation=None
    )
    images = np.random.default_rng(0).normal(size=(16, 96, 96, 3)).astype("float32")
    # statistics of these images, or the ranges of int8 would mean nothing
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.0
    model(images, training=True)
    return prune(model, 0.9), images


@pytest.mark.parametrize("quantize, smaller", [(None, 5.0), ("int8", 1.8)])
def test_mobilenet(mobilenet, quantize, smaller, tmp_path):
    model, images = mobilenet
    report = to_tflite(
        model,
        tmp_path / "model.tflite",
        quantize=quantize,
        representative_data=images,
        samples=images[:8],
    )
    storage = report.storage
    assert (storage.refusal, storage.verdict.verdict) == ("", "inert")
    assert storage.dense_raw_bytes > smaller * report.raw_bytes
    assert report.sparsity > 0.89

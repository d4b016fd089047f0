"""sparsity_report: three denominators, counted by hand, over models and files."""

import json

import keras
import numpy as np
import pytest
from keras import layers

from keras_pdp import (
    Channel,
    PDPCallback,
    PDPWrapper,
    sparsity_report,
    strip,
    to_tflite,
    wrap,
)


def by_hand() -> keras.Model:
    """Kernels of 4 x 3 and 3 x 2 with 5 and 1 zeros, and 3 + 2 biases."""
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(3, name="a"), layers.Dense(2, name="b")]
    )
    first, second = np.ones((4, 3)), np.ones((3, 2))
    first.flat[:5] = 0.0
    second.flat[0] = 0.0
    model.set_weights([first, np.zeros(3), second, np.zeros(2)])
    return model


def trained(sparsity: float = 0.5, **kwargs) -> keras.Model:
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, name="conv", activation="relu")(inputs)
    x = layers.BatchNormalization()(x)
    x = layers.GlobalAveragePooling2D()(x)
    model = wrap(keras.Model(inputs, layers.Dense(4, name="head")(x)), **kwargs)
    model.compile("sgd", "mse")
    x, y = np.random.rand(8, 8, 8, 3), np.random.rand(8, 4)
    model.fit(x, y, epochs=2, verbose=0, callbacks=[PDPCallback(sparsity)])
    return model


def test_a_plain_model_counted_by_hand():
    report = sparsity_report(by_hand())
    assert [(t.name, t.zeros, t.size) for t in report.tensors] == [
        ("a/kernel", 5, 12),
        ("b/kernel", 1, 6),
    ]
    assert (report.zeros, report.prunable, report.parameters) == (6, 18, 23)
    assert report.sparsity == pytest.approx(6 / 18)
    assert report.sparsity_of_all == pytest.approx(6 / 23)
    assert report.skipped == ()


def test_a_wrapped_model_says_what_strip_will_give():
    model = trained()
    wrapped, stripped = sparsity_report(model), sparsity_report(strip(model))
    assert [t.zeros for t in wrapped.tensors] == [t.zeros for t in stripped.tensors]
    assert [t.name for t in wrapped.tensors] == [t.name for t in stripped.tensors]
    assert (
        wrapped.parameters
        == stripped.parameters
        == model.layers[1].layer.count_params() + 32 + 36
    )
    assert wrapped.sparsity == pytest.approx(0.5, abs=0.002)
    assert {t.how for t in wrapped.tensors} == {"Unstructured()"}


def test_what_is_not_wrapped_is_named():
    model = trained(select=lambda layer: layer.name == "conv")
    report = sparsity_report(model)
    assert [(s.name, s.reason) for s in report.skipped] == [
        ("head/kernel", "its layer is not wrapped")
    ]
    assert report.tensors[1].how == "not wrapped"
    assert "head/kernel: its layer is not wrapped" in str(report)


def test_unknown_layers_are_named_with_the_reason():
    class Mystery(layers.Layer):
        def build(self, input_shape):
            self.form = self.add_weight(shape=(input_shape[-1], 4), name="form")

        def call(self, inputs):
            return inputs @ self.form

    model = keras.Sequential([keras.Input((3,)), Mystery(name="odd"), layers.Dense(2)])
    (skipped,) = sparsity_report(model).skipped
    assert skipped.name == "odd/form"
    assert "register_prunable" in skipped.reason


@pytest.mark.tensorflow("to_tflite converts Keras models on TensorFlow")
def test_files_give_what_models_give(tmp_path):
    model = trained(0.75)
    stripped = strip(model)
    expected = sparsity_report(stripped)
    stripped.save(tmp_path / "stripped.keras")
    model.save(tmp_path / "wrapped.keras")
    to_tflite(model, tmp_path / "model.tflite")
    for name in ("stripped.keras", "wrapped.keras", "model.tflite"):
        report = sparsity_report(tmp_path / name)
        assert report.name == str(tmp_path / name)
        assert (report.zeros, report.prunable) == (expected.zeros, expected.prunable)


def test_the_table_and_the_dictionary_say_the_same():
    report = sparsity_report(trained(granularity=Channel()))
    again = json.loads(json.dumps(report.to_dict()))
    text = str(report)
    for tensor in again["tensors"]:
        assert tensor["name"] in text
        assert f"{tensor['sparsity']:.2%}" in text
    assert f"{again['sparsity']:.2%}" in text
    assert f"{again['parameters']:,}" in text
    assert "Channel(axis=-1)" in text


def test_weights_without_order_are_refused():
    wrapper = PDPWrapper(layers.Dense(2))
    model = keras.Sequential([keras.Input((3,)), wrapper])
    wrapper.layer.set_weights([np.full((3, 2), np.nan), np.zeros(2)])
    with pytest.raises(ValueError, match="6 of 6 weights"):
        sparsity_report(model)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"something else"])
@pytest.mark.parametrize("suffix", [".keras", ".tflite"])
def test_broken_files_are_refused_with_their_name(tmp_path, content, suffix):
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="broken"):
        sparsity_report(path)

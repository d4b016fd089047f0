"""Weights that come from elsewhere: before wrapping, after it, and frozen ones."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_pdp import (
    PDPCallback,
    PDPWrapper,
    load_plain_weights,
    pruned_layers,
    sparsity_report,
    strip,
    wrap,
)
from tests import compare

RNG = np.random.default_rng(0)
X = RNG.normal(size=(32, 6)).astype("float32")
Y = RNG.normal(size=(32, 2)).astype("float32")


def backbone():
    return keras.Sequential(
        [keras.Input((6,)), layers.Dense(8, activation="relu"), layers.Dense(6)],
        name="backbone",
    )


def classifier():
    inputs = keras.Input((6,))
    x = layers.BatchNormalization()(backbone()(inputs))
    return keras.Model(inputs, layers.Dense(2, name="head")(layers.Dropout(0.1)(x)))


class Net(keras.Model):
    def __init__(self):
        super().__init__()
        self.trunk = [layers.Dense(8, activation="relu"), layers.BatchNormalization()]
        self.head = layers.Dense(2)

    def call(self, inputs, training=None):
        dense, norm = self.trunk
        return self.head(norm(dense(inputs), training=training))


def subclassed():
    model = Net()
    model(X)
    return model


def pruned_already():
    model = wrap(classifier())
    model.compile("sgd", "mse")
    model.fit(X, Y, verbose=0, callbacks=[PDPCallback(0.5)])
    return model


def not_built():
    return keras.Sequential([PDPWrapper(layers.Dense(8)), layers.Dense(6)])


@pytest.mark.parametrize("make", [backbone, classifier, subclassed])
@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
def test_plain_weights_are_loaded_into_a_wrapped_model(make, suffix, tmp_path):
    model = make()
    for variable in model.weights:
        if "seed" not in variable.path:
            variable.assign(RNG.uniform(0.5, 1.5, size=variable.shape))
    path = tmp_path / f"plain{suffix}"
    (model.save if suffix == ".keras" else model.save_weights)(path)
    wrapped = wrap(make())
    before = [v.numpy() for w in pruned_layers(wrapped) for v in (w.frozen,)]
    load_plain_weights(wrapped, path)
    compare.assert_array_equal(wrapped(X), model(X))
    assert [bool(w.frozen.numpy()) for w in pruned_layers(wrapped)] == before
    assert not any(k.has_target for w in pruned_layers(wrapped) for k in w.kernels)
    with pytest.raises(ValueError):  # what it is for
        wrapped.load_weights(path)


def test_wrappers_of_the_definition_take_plain_weights(tmp_path):
    plain = backbone()
    plain.save_weights(tmp_path / "plain.weights.h5")
    model = keras.Sequential(
        [keras.Input((6,)), PDPWrapper(layers.Dense(8, "relu")), layers.Dense(6)]
    )
    load_plain_weights(model, tmp_path / "plain.weights.h5")
    compare.assert_array_equal(model(X), plain(X))


def test_a_normalisation_computes_with_the_statistics_of_the_file(tmp_path):
    def make(normalisation):
        return keras.Sequential([keras.Input((6,)), normalisation, layers.Dense(2)])

    adapted = layers.Normalization()
    adapted.adapt(5.0 * X + 3.0)
    plain = make(adapted)
    plain.save_weights(tmp_path / "plain.weights.h5")
    wrapped = wrap(make(layers.Normalization()))
    load_plain_weights(wrapped, tmp_path / "plain.weights.h5")
    compare.assert_array_equal(wrapped(X), plain(X))


def test_what_does_not_fit_is_refused_with_the_file(tmp_path):
    path = tmp_path / "plain.weights.h5"
    backbone().save_weights(path)
    broken = tmp_path / "broken.weights.h5"
    broken.write_bytes(path.read_bytes()[:100])
    for model, file, error, message in [
        (wrap(classifier()), path, ValueError, r"plain\.weights\.h5' does not hold"),
        (wrap(backbone()), broken, ValueError, r"broken\.weights\.h5' does not hold"),
        (backbone(), path, ValueError, "no PDPWrapper layers: use model.load_weights"),
        (pruned_already(), path, ValueError, "has begun.*new model"),
        (wrap(backbone()), tmp_path / "none.weights.h5", FileNotFoundError, "none"),
        (wrap(backbone()), 3, TypeError, "file's path. Received: 3"),
        ("model", path, TypeError, "Keras 3 model"),
        (PDPWrapper(layers.Dense(2)), path, TypeError, "Keras 3 model"),
        (not_built(), path, ValueError, "which is not built"),
    ]:
        with pytest.raises(error, match=message):
            load_plain_weights(model, file)


def test_a_backbone_is_frozen_and_then_trained():
    """The usual two phases of transfer learning, in one schedule."""
    model = classifier()
    model.get_layer("backbone").trainable = False
    wrapped = wrap(model)
    inner = wrapped.get_layer("backbone")
    assert not inner.trainable_variables
    dense = [v.numpy() for v in inner.weights if v.name == "kernel"]
    wrapped.compile("adam", "mse")
    pdp = PDPCallback(0.6, epochs=4)
    wrapped.fit(X, Y, epochs=2, verbose=0, callbacks=[pdp])
    for then, now in zip(
        dense, [v for v in inner.weights if v.name == "kernel"], strict=True
    ):
        compare.assert_array_equal(then, now.numpy())
    inner.trainable = True
    wrapped.compile("adam", "mse")
    wrapped.fit(X, Y, initial_epoch=2, epochs=4, verbose=0, callbacks=[pdp])
    assert any(
        (then != now.numpy()).any()
        for then, now in zip(
            dense, [v for v in inner.weights if v.name == "kernel"], strict=True
        )
    )
    stripped = strip(wrapped)
    assert sparsity_report(stripped).sparsity == pytest.approx(0.6, abs=0.01)
    compare.assert_array_equal(stripped(X), wrapped(X))

"""What the training loops of every backend are tried on."""

import keras
import numpy as np
from keras import layers, ops

from keras_pdp import PDPWrapper, pruned_layers, strip

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 8)).astype("float32")
Y = 2.0 * X[:, :1] - X[:, 1:2]
STEPS = 12
SPARSITY = 0.75


def net(kind=keras.Model) -> keras.Model:
    """A functional model with statistics and seeds beside its pruned kernels."""
    keras.utils.set_random_seed(3)
    inputs = keras.Input((8,))
    x = PDPWrapper(layers.Dense(16, name="body"))(inputs)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Dropout(0.1)(x)
    return kind(inputs, PDPWrapper(layers.Dense(1, name="head"))(x))


def assert_trained(model, losses, tmp_path) -> None:
    """It learned, it is as sparse as was asked, and it is a plain model then."""
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
    stripped = strip(model)
    assert not pruned_layers(stripped)
    kernels = [
        ops.convert_to_numpy(layer.kernel)
        for layer in stripped.layers
        if isinstance(layer, layers.Dense)
    ]
    zeros = sum(np.count_nonzero(w == 0.0) for w in kernels)
    assert zeros == round(SPARSITY * sum(w.size for w in kernels))
    before = ops.convert_to_numpy(model(X, training=False))
    np.testing.assert_array_equal(
        ops.convert_to_numpy(stripped(X, training=False)), before
    )
    stripped.save(tmp_path / "stripped.keras")
    again = keras.models.load_model(
        tmp_path / "stripped.keras", {type(model).__name__: type(model)}
    )
    np.testing.assert_array_equal(
        ops.convert_to_numpy(again(X, training=False)), before
    )

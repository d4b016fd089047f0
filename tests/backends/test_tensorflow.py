"""Loops of one's own on TensorFlow."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_pdp import Channel, PDPCallback, PDPWrapper, Unstructured
from tests.backends.loops import SPARSITY, STEPS, X, Y, assert_trained, net


@pytest.mark.parametrize("compiled", [False, True])
def test_a_loop_with_gradient_tape(compiled, tmp_path):
    model, optimizer = net(), keras.optimizers.Adam(0.01)
    traces = []

    def train_step(x, y):
        traces.append(1)
        with tf.GradientTape() as tape:
            loss = keras.ops.mean((model(x, training=True) - y) ** 2)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        return loss

    if compiled:
        optimizer.build(model.trainable_variables)
        train_step = tf.function(train_step)
    pdp = PDPCallback(SPARSITY)
    pdp.set_model(model)
    losses = []
    for step in range(STEPS):
        pdp.update(step / STEPS)
        losses.append(float(train_step(tf.constant(X), tf.constant(Y))))
    pdp.update(1.0)
    if compiled:
        assert len(traces) == 1
    assert_trained(model, losses, tmp_path)


def test_a_train_step_of_ones_own(tmp_path):
    class Own(keras.Model):
        def train_step(self, data):
            x, y = data
            with tf.GradientTape() as tape:
                loss = self.compute_loss(x, y, self(x, training=True))
            weights = self.trainable_variables
            self.optimizer.apply_gradients(
                zip(tape.gradient(loss, weights), weights, strict=True)
            )
            return {"own": loss}

    model = net(Own)
    model.compile(keras.optimizers.Adam(0.01), "mse", jit_compile=False)
    losses = model.fit(
        X, Y, epochs=STEPS, verbose=0, callbacks=[PDPCallback(SPARSITY)]
    ).history["own"]
    assert_trained(model, losses, tmp_path)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(
    ("granularity", "pruned"),
    [(Unstructured(), 0), (Unstructured(), 24), (Channel(), 0), (Channel(), 3)],
)
def test_a_penalty_on_gradients(granularity, pruned, compiled):
    """The derivative of a gradient's norm, against finite differences."""
    layer = PDPWrapper(keras.layers.Dense(8, activation="tanh"), granularity)
    keras.utils.set_random_seed(0)
    x = keras.random.normal((5, 6), seed=0)
    layer(x)
    (kernel,) = layer.kernels
    kernel.pruned.assign(pruned)
    kernel.tau.assign(np.full(kernel.tau.shape, 0.05))
    layer.layer.bias.assign(np.linspace(-0.5, 0.5, 8))
    weights = layer.layer.kernel

    def penalty():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(layer(x, training=True)))
        return tf.reduce_sum(tf.square(tape.gradient(loss, weights.value)))

    def slope():
        with tf.GradientTape() as tape:
            value = penalty()
        return tape.gradient(value, weights.value)

    found = (tf.function(slope) if compiled else slope)().numpy()
    at, step = weights.numpy(), 1e-3
    # The first and the last channels in rank: moving the others moves the threshold,
    # which is a constant to the gradient.
    ranked = np.argsort(np.square(at).sum(axis=0))
    for place in ((0, ranked[0]), (2, ranked[-1]), (5, ranked[-2])):
        sides = []
        for sign in (1, -1):
            moved = at.copy()
            moved[place] += sign * step
            weights.assign(moved)
            sides.append(float(penalty()))
        expected = (sides[0] - sides[1]) / (2 * step)
        assert found[place] == pytest.approx(expected, rel=0.02, abs=0.05)

"""Loops of one's own on JAX: `stateless_call`, `stateless_apply`, one compiled step."""

import os
import subprocess
import sys

import jax
import keras
import numpy as np

from keras_pdp import Linear, PDPCallback
from tests.backends.loops import SPARSITY, STEPS, X, Y, assert_trained, net


def values(variables):
    return [variable.value for variable in variables]


def put_back(variables, values):
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def test_a_loop_of_stateless_calls(tmp_path):
    model, optimizer = net(), keras.optimizers.Adam(0.01)
    optimizer.build(model.trainable_variables)
    traces = []

    def loss_of(trained, state, x, y):
        outputs, state = model.stateless_call(trained, state, x, training=True)
        return keras.ops.mean((outputs - y) ** 2), state

    @jax.jit
    def train_step(trained, state, moments, x, y):
        traces.append(1)
        grads = jax.value_and_grad(loss_of, has_aux=True)
        (loss, state), gradients = grads(trained, state, x, y)
        trained, moments = optimizer.stateless_apply(moments, gradients, trained)
        return loss, trained, state, moments

    pdp = PDPCallback(SPARSITY)
    pdp.set_model(model)
    losses = []
    moments = values(optimizer.variables)
    for step in range(STEPS):
        # `update` reads weights from the variables, and writes its state to them.
        pdp.update(step / STEPS)
        loss, trained, state, moments = train_step(
            values(model.trainable_variables),
            values(model.non_trainable_variables),
            moments,
            X,
            Y,
        )
        put_back(model.trainable_variables, trained)
        put_back(model.non_trainable_variables, state)
        losses.append(float(loss))
    pdp.update(1.0)
    assert len(traces) == 1
    assert_trained(model, losses, tmp_path)


def test_a_train_step_of_ones_own(tmp_path):
    class Own(keras.Model):
        def train_step(self, state, data):
            trained, fixed, moments, metrics = state
            x, y = data

            def loss_of(trained):
                outputs, after = self.stateless_call(trained, fixed, x, training=True)
                return keras.ops.mean((outputs - y) ** 2), after

            (loss, fixed_after), gradients = jax.value_and_grad(loss_of, has_aux=True)(
                trained
            )
            trained, moments = self.optimizer.stateless_apply(
                moments, gradients, trained
            )
            return {"own": loss}, (trained, fixed_after, moments, metrics)

    model = net(Own)
    model.compile(keras.optimizers.Adam(0.01), "mse")
    losses = model.fit(
        X, Y, epochs=STEPS, verbose=0, callbacks=[PDPCallback(SPARSITY)]
    ).history["own"]
    assert_trained(model, np.asarray(losses), tmp_path)


def test_no_batch_brings_the_state_back_before_pruning_begins(monkeypatch):
    """Which Keras warns of: every weight and moment would be assigned each time."""
    synced = []
    original = keras.Model.jax_state_sync
    monkeypatch.setattr(
        keras.Model,
        "jax_state_sync",
        lambda self: (synced.append(1), original(self))[1],
    )
    counts = []
    for batch in (32, 4):
        model = net()
        model.compile("adam", "mse")
        synced.clear()
        late = PDPCallback(SPARSITY, schedule=Linear(0.99, 1.0), freeze_at=None)
        model.fit(X, Y, batch, epochs=1, verbose=0, shuffle=False, callbacks=[late])
        counts.append(len(synced))
    assert counts[0] == counts[1]


def test_integers_of_64_bits():
    """Where JAX has them, it sums in them: the search takes 32."""
    code = """
import keras, numpy as np
from keras_pdp import PDPWrapper, PDPCallback, sparsity_report
layer = PDPWrapper(keras.layers.Dense(1024))
model = keras.Sequential([keras.Input((512,)), layer])
model.compile("sgd", "mse")
x, y = np.ones((4, 512)), np.ones((4, 1024))
model.fit(x, y, epochs=4, verbose=0, callbacks=[PDPCallback(0.5)])
assert sparsity_report(model).sparsity == 0.5
"""
    environment = {**os.environ, "JAX_ENABLE_X64": "1"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)

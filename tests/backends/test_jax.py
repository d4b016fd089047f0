"""Loops of one's own on JAX: `stateless_call`, `stateless_apply`, one compiled step."""

import jax
import keras
import numpy as np

from keras_pdp import PDPCallback
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

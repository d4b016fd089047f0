"""Loops of one's own on PyTorch."""

import keras
import numpy as np
import pytest
import torch
from keras import layers, ops

from keras_pdp import (
    Block,
    Channel,
    NofM,
    PDPCallback,
    PDPWrapper,
    pruned_layers,
    sparsity_report,
    strip,
    wrap,
)
from tests.backends.loops import SPARSITY, STEPS, X, Y, assert_trained, net


def test_a_loop_with_an_optimizer_of_pytorch(tmp_path):
    model = net()
    pdp = PDPCallback(SPARSITY)
    pdp.set_model(model)
    weights = [variable.value for variable in model.trainable_variables]
    optimizer = torch.optim.Adam(weights, lr=0.01)
    losses = []
    for step in range(STEPS):
        pdp.update(step / STEPS)
        loss = torch.nn.functional.mse_loss(model(X, training=True), torch.tensor(Y))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    pdp.update(1.0)
    assert_trained(model, losses, tmp_path)


def test_a_train_step_of_ones_own(tmp_path):
    class Own(keras.Model):
        def train_step(self, data):
            x, y = data
            self.zero_grad()
            loss = self.compute_loss(x, y, self(x, training=True))
            loss.backward()
            weights = self.trainable_weights
            with torch.no_grad():
                self.optimizer.apply([w.value.grad for w in weights], weights)
            return {"own": loss}

    model = net(Own)
    model.compile(keras.optimizers.Adam(0.01), "mse")
    losses = model.fit(
        X, Y, epochs=STEPS, verbose=0, callbacks=[PDPCallback(SPARSITY)]
    ).history["own"]
    assert_trained(model, losses, tmp_path)


class Chain(keras.Model):
    """PyTorch keeps these layers beside the attributes, but for the one in a list."""

    def __init__(self):
        super().__init__()
        self.first = layers.Dense(8, activation="relu")
        self.rest = [layers.Dense(8)]
        self.out = layers.Dense(1)

    def call(self, inputs):
        return self.out(self.rest[0](self.first(inputs)))


def test_a_subclassed_model_is_wrapped_and_stripped():
    model = Chain()
    expected = ops.convert_to_numpy(model(X))
    wrapped = wrap(model)
    assert len(pruned_layers(wrapped)) == 3
    np.testing.assert_array_equal(ops.convert_to_numpy(wrapped(X)), expected)
    wrapped.compile("adam", "mse")
    wrapped.fit(X, Y, epochs=2, verbose=0, callbacks=[PDPCallback(SPARSITY)])
    stripped = strip(wrapped)
    assert type(stripped) is Chain and not pruned_layers(stripped)
    np.testing.assert_array_equal(
        ops.convert_to_numpy(stripped(X)), ops.convert_to_numpy(wrapped(X))
    )
    assert sparsity_report(stripped).sparsity == pytest.approx(SPARSITY, abs=0.01)


@pytest.mark.parametrize("granularity", [NofM(2, 4), Block((4, 1)), Channel()])
def test_a_step_does_not_ask_again_how_a_kernel_is_cut(granularity, monkeypatch):
    """PyTorch traces nothing: in numpy that would be several passes over a kernel."""
    asked = []
    kind = type(granularity)
    original = kind.sizes
    monkeypatch.setattr(
        kind, "sizes", lambda *args: (asked.append(1), original(*args))[1]
    )
    wrapper = PDPWrapper(layers.Dense(6), granularity)
    model = keras.Sequential([keras.Input((12,)), wrapper, layers.Dense(1)])
    pdp = PDPCallback(None if isinstance(granularity, NofM) else 0.5)
    pdp.set_model(model)
    x = ops.ones((2, 12))
    for position in (0.0, 0.2, 1.0):
        pdp.update(position)
        model(x, training=True).sum().backward()
        asked.clear()
        model(x, training=True).sum().backward()
        assert not asked

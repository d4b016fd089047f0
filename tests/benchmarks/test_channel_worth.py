"""The benchmark of what a channel is worth, on a net of seconds."""

import keras
import numpy as np
import pytest
from keras import layers

from benchmarks import channel_worth
from keras_pdp.training import channel_budget


def net():
    return keras.Sequential(
        [
            layers.Input((8, 8, 3)),
            layers.Conv2D(16, 3),
            layers.BatchNormalization(),
            layers.Conv2D(16, 3),
            layers.BatchNormalization(),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10),
        ]
    )


@pytest.mark.parametrize("way", channel_worth.WAYS)
def test_every_way_removes_channels_of_a_copy(way):
    keras.utils.set_random_seed(0)
    whole = net()
    before = whole.count_params()
    smaller = channel_worth.cut(whole, 0.3, way)
    assert smaller.count_params() < 0.8 * before
    assert whole.count_params() == before


def test_scores_alone_decide_only_inside():
    ours = channel_budget._candidate
    with channel_worth.by_scores():
        assert channel_budget._candidate is channel_worth.scores_alone
    assert channel_budget._candidate is ours


def test_scores_alone_empty_the_group_of_the_smallest():
    keras.utils.set_random_seed(0)
    whole = net()
    first = whole.layers[0]
    first.kernel.assign(1e-3 * np.asarray(first.kernel))
    way = next(name for name in channel_worth.WAYS if "alone" in name)
    smaller = channel_worth.cut(whole, 0.3, way)
    widths = [x.filters for x in smaller.layers if isinstance(x, layers.Conv2D)]
    assert widths[0] < 16
    assert widths[1] == 16


def test_statistics_are_the_mean_over_the_batches(monkeypatch):
    monkeypatch.setattr(channel_worth, "BATCH", 20)
    monkeypatch.setattr(channel_worth, "BATCHES", 3)
    x = np.random.default_rng(0).normal(1.0, 2.0, (60, 5)).astype("float32")
    one = keras.Sequential([layers.Input((5,)), layers.BatchNormalization()])
    channel_worth.take_statistics(one, x)
    mean, variance = (np.asarray(v) for v in one.layers[0].non_trainable_variables)
    batches = x.reshape(3, 20, 5)
    np.testing.assert_allclose(mean, x.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(variance, batches.var(axis=1).mean(axis=0), rtol=1e-4)

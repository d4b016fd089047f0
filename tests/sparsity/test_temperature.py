"""How a kernel's threshold becomes its temperature."""

import json

import keras
import numpy as np
import pytest

from keras_pdp import (
    Absolute,
    Block,
    Calibrated,
    Channel,
    NofM,
    PDPWrapper,
    Unstructured,
    pruned_layers,
    wrap,
)
from keras_pdp.sparsity.temperature import check

VALUES = [Calibrated(), Calibrated(10), Calibrated(np.float32(4)), Absolute(3e-3)]


def test_calibrated_puts_the_threshold_at_kappa_temperatures():
    assert Calibrated(4.0).at(0.2) == pytest.approx(0.01, rel=1e-15)
    assert Calibrated().at(0.1) == pytest.approx(0.005, rel=1e-15)
    for kappa in (0.5, 5.0, 100.0):
        for t in (1e-4, 0.02, 0.2, 3.0):
            assert t**2 / Calibrated(kappa).at(t) == pytest.approx(kappa)


def test_calibrated_scales_with_the_weights():
    assert Calibrated().at(8 * 0.02) == pytest.approx(64 * Calibrated().at(0.02))


def test_a_threshold_of_zero_gives_a_temperature_that_divides():
    for t in (0.0, 1e-45, 1e-20):
        tau = np.float32(Calibrated().at(t))
        assert tau >= np.finfo("float32").tiny
        assert np.isfinite(np.float32(1.0) / tau)


def test_absolute_is_the_same_for_every_kernel():
    assert Absolute().at(0.02) == Absolute().at(0.2) == Absolute().at(0.0) == 1e-4
    assert Absolute(1e-3).at(0.1) == 1e-3


@pytest.mark.parametrize("temperature", VALUES)
def test_serialisation_returns_an_equal_value(temperature):
    serialised = keras.saving.serialize_keras_object(temperature)
    for config in (serialised, json.loads(json.dumps(serialised))):
        back = keras.saving.deserialize_keras_object(config)
        assert back == temperature
        assert type(back) is type(temperature)
        assert hash(back) == hash(temperature)
    config = json.loads(json.dumps(temperature.get_config()))
    assert type(temperature).from_config(config) == temperature


@pytest.mark.parametrize("number", [np.float32(2.0), np.int64(2), 2])
@pytest.mark.parametrize("kind", [Calibrated, Absolute])
def test_numbers_of_any_kind_are_kept_as_plain_floats(kind, number):
    temperature = kind(number)
    assert json.loads(json.dumps(temperature.get_config())) == kind(2.0).get_config()
    (value,) = temperature.get_config().values()
    assert type(value) is float


def test_values_compare_by_what_they_are():
    assert Calibrated(2) == Calibrated() != Calibrated(4.0)
    assert Absolute(5.0) != Calibrated(5.0)
    with pytest.raises(AttributeError):
        Calibrated().kappa = 3.0


@pytest.mark.parametrize(
    "granularity, temperature",
    [
        (Unstructured(), Calibrated(2.0)),
        (NofM(1, 4), Calibrated(2.0)),
        (Block((4, 4)), Calibrated(2.0)),
        (Channel(), Calibrated(20.0)),
        (Channel(axis=-2, round_to=8), Calibrated(20.0)),
    ],
)
def test_channels_have_harder_masks_by_default(granularity, temperature):
    wrapper = PDPWrapper(keras.layers.Dense(8), granularity)
    assert wrapper.temperature == temperature
    asked = PDPWrapper(keras.layers.Dense(8), granularity, temperature=Absolute(1e-3))
    assert asked.temperature == Absolute(1e-3)


def test_each_wrapped_layer_has_the_default_of_its_granularity():
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(6, name="by_channels"),
            keras.layers.BatchNormalization(name="follower"),
            keras.layers.Dense(4, name="by_weights"),
        ]
    )

    def select(layer):
        return Channel() if layer.name == "by_channels" else Unstructured()

    wrapped = {each.name: each for each in pruned_layers(wrap(model, select=select))}
    assert {name: each.temperature for name, each in wrapped.items()} == {
        "by_channels": Calibrated(20.0),
        "follower": Calibrated(20.0),
        "by_weights": Calibrated(2.0),
    }
    asked = wrap(model, temperature=Calibrated(7.0), select=select)
    assert {each.temperature for each in pruned_layers(asked)} == {Calibrated(7.0)}


@pytest.mark.parametrize(
    "build, error, message",
    [
        (lambda: Calibrated(0), ValueError, "`kappa` should be greater than 0"),
        (lambda: Calibrated(-5.0), ValueError, "Received: -5.0"),
        (lambda: Calibrated(float("nan")), ValueError, "finite number. Received: nan"),
        (lambda: Calibrated(float("inf")), ValueError, "finite number. Received: inf"),
        (lambda: Calibrated("5"), TypeError, "`kappa` .* a number. Received: '5'"),
        (lambda: Calibrated(None), TypeError, "Received: None"),
        (lambda: Calibrated(True), TypeError, "Received: True"),
        (lambda: Absolute(0.0), ValueError, "greater than 0. Received: 0.0"),
        (lambda: Absolute(-1e-4), ValueError, "Received: -0.0001"),
        (lambda: Absolute(1e-45), ValueError, r"1e-30 .* Calibrated\(\).* 1e-45"),
        (lambda: Absolute(1e31), ValueError, "and 1e[+]30; .* Received: 1e[+]31"),
        (lambda: Absolute([1e-4]), TypeError, "should be a number. Received"),
        (lambda: check(1e-4), TypeError, r"Absolute\(tau\). Received: 0.0001"),
        (lambda: check(Calibrated), TypeError, "`temperature` should be Calibrated"),
    ],
)
def test_what_is_not_valid_raises(build, error, message):
    with pytest.raises(error, match=message):
        build()


def test_check_returns_what_it_was_given():
    temperature = Absolute(0.01)
    assert check(temperature) is temperature

"""What holds for every layer that is wrapped, over the table in cases.py."""

import json

import keras
import numpy as np
import pytest

from keras_pdp import (
    Absolute,
    Block,
    Channel,
    NofM,
    PDPCallback,
    PDPWrapper,
    Unstructured,
    pruned_layers,
    strip,
)
from tests.compare import outputs
from tests.training.cases import LAYERS, Case

ONE_OF_EACH_KIND = [
    "Dense",
    "Conv2D",
    "DepthwiseConv2D",
    "Embedding",
    "LSTM",
    "GroupQueryAttention",
    "functional block",
    "composite layer",
]
every_layer = pytest.mark.parametrize("case", LAYERS.values(), ids=LAYERS.keys())


def targets(case: Case) -> np.ndarray:
    return np.random.default_rng(9).normal(size=(len(case.inputs()[0]), 1))


def twin(case: Case, **kwargs) -> tuple[keras.Model, keras.Model]:
    """A model and its wrapped copy, from the same weights."""
    model = case.model()
    wrapped = case.model(lambda layer: PDPWrapper(layer, **kwargs))
    (wrapper,) = pruned_layers(wrapped)
    inner = next(x for x in model.layers if type(x) is type(wrapper.layer))
    # Seeds too, which `set_weights` leaves out.
    for to, value in zip(wrapper.layer.variables, inner.variables, strict=True):
        to.assign(keras.ops.convert_to_numpy(value))
    wrapped.get_layer("readout").set_weights(model.get_layer("readout").get_weights())
    return model, wrapped


def pruned(
    case: Case, sparsity: float = 0.75, epochs: int = 4, eager: bool = False, **kwargs
):
    """A wrapped model trained to its target.

    Eagerly where few steps are all there is: tracing them would take thrice as long.
    """
    wrapped = twin(case, **kwargs)[1]
    wrapped.run_eagerly = eager
    fixed = isinstance(kwargs.get("granularity"), NofM)
    callback = PDPCallback(None if fixed else sparsity)
    wrapped.fit(
        case.inputs(), targets(case), epochs=epochs, verbose=0, callbacks=[callback]
    )
    return wrapped


def zeros(layer: keras.Layer) -> int:
    return sum(int(np.sum(w == 0.0)) for w in layer.get_weights())


@every_layer
def test_wrapping_finds_every_kernel(case):
    wrapped = twin(case)[1]
    (wrapper,) = pruned_layers(wrapped)
    assert len(wrapper.kernels) == case.kernels
    assert all(len(kernel.variable.shape) >= 2 for kernel in wrapper.kernels)


@every_layer
def test_at_sparsity_0_it_trains_like_the_layer_itself(case):
    model, wrapped = twin(case)
    x, y = case.inputs(), targets(case)
    case.assert_equal(outputs(model, x), outputs(wrapped, x))
    # A schedule that has not begun yet: every step is one at sparsity 0.
    waiting = PDPCallback(0.75, epochs=1000)
    # In one order, or PyTorch, which shuffles within a batch too, adds up in another.
    same = {"epochs": 3, "shuffle": False, "verbose": 0}
    # Dropout draws from the generator of the process there.
    keras.utils.set_random_seed(5)
    one = wrapped.fit(x, y, **same, callbacks=[waiting]).history
    keras.utils.set_random_seed(5)
    other = model.fit(x, y, **same).history
    case.assert_equal(one["loss"], other["loss"])
    (wrapper,) = pruned_layers(wrapped)
    inner = next(x for x in model.layers if type(x) is type(wrapper.layer))
    for before, after in zip(
        inner.get_weights(), wrapper.layer.get_weights(), strict=True
    ):
        case.assert_equal(before, after)


@every_layer
def test_it_reaches_the_target_and_strips_to_the_same_function(case):
    wrapped = pruned(case)
    (wrapper,) = pruned_layers(wrapped)
    size = sum(kernel.size for kernel in wrapper.kernels)
    removed = sum(int(kernel.pruned.value) for kernel in wrapper.kernels)
    assert removed == round(0.75 * size)

    stripped = strip(wrapped)
    x, y = case.inputs(), targets(case)
    case.assert_equal(stripped.predict(x, verbose=0), wrapped.predict(x, verbose=0))
    case.assert_equal(
        stripped.evaluate(x, y, verbose=0), wrapped.evaluate(x, y, verbose=0)
    )
    assert not pruned_layers(stripped)
    plain = next(x for x in stripped.layers if x.name == wrapper.layer.name)
    assert type(plain) is type(wrapper.layer)
    # Biases and offsets may hold zeros of their own: the kernels' are what is added.
    assert zeros(plain) - zeros(wrapper.layer) == removed


@every_layer
def test_it_survives_saving_with_every_argument_off_its_default(case, tmp_path):
    def wrapper(layer):
        return PDPWrapper(
            layer,
            Channel(),
            sparsity=0.5,
            temperature=Absolute(0.01),
            name="renamed",
        )

    model = case.model(wrapper)
    model.run_eagerly = True  # as in `pruned`
    x, y = case.inputs(), targets(case)
    callback = PDPCallback(freeze_at=None)
    model.fit(x, y, epochs=2, verbose=0, callbacks=[callback])
    path = tmp_path / "model.keras"
    model.save(path)
    again = keras.models.load_model(path)
    expected = outputs(model, x)
    np.testing.assert_array_equal(outputs(again, x), expected)
    before, after = model.get_layer("renamed"), again.get_layer("renamed")
    assert json.dumps(after.get_config()) == json.dumps(before.get_config())
    assert (after.granularity, after.sparsity) == (Channel(), 0.5)
    assert after.temperature == Absolute(0.01)
    # Weights: Keras itself saves no seeds.
    for one, other in zip(before.weights, after.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())

    weights = tmp_path / "model.weights.h5"
    model.save_weights(weights)
    fresh = case.model(wrapper)
    fresh.load_weights(weights)
    np.testing.assert_array_equal(outputs(fresh, x), expected)


GRANULARITIES = [
    *((name, Channel()) for name in LAYERS),
    *((name, NofM(2, 4)) for name in ONE_OF_EACH_KIND),
    *((name, Block((2, 2))) for name in ONE_OF_EACH_KIND),
]


@pytest.mark.parametrize("name, granularity", GRANULARITIES, ids=str)
def test_every_granularity_ends_in_whole_units(name, granularity):
    case = LAYERS[name]
    wrapped = pruned(case, epochs=2, eager=True, granularity=granularity)
    stripped = strip(wrapped)
    x = case.inputs()
    case.assert_equal(outputs(stripped, x), outputs(wrapped, x))
    (wrapper,) = pruned_layers(wrapped)
    for kernel in wrapper.kernels:
        keep = keras.ops.convert_to_numpy(kernel.keeps(frozen=True))
        units = granularity.split(kernel.layout.bring(keep, np), np)
        real = granularity.split(np.ones(kernel.shape, bool), np)
        kept = (units & real).sum(axis=(1, 2)) if granularity.kept_per_pool else None
        if kept is not None:
            expected = np.minimum(granularity.n, real.sum(axis=(1, 2)))
            np.testing.assert_array_equal(kept, expected)
        else:
            whole = units == units[:, :, :1]
            assert (whole | ~real).all()
            assert (~(units & real).any(axis=2)).sum() == int(kernel.target.value)


@pytest.mark.parametrize("name", ONE_OF_EACH_KIND)
def test_every_execution_of_the_step_prunes_alike(name):
    """Eagerly, as a graph and compiled as a whole: the same sparsity and outputs.

    (None of these layers drops anything out: XLA draws other random numbers.)
    """
    case, results = LAYERS[name], {}
    for mode in ({"run_eagerly": True}, {}, {"jit_compile": True}):
        keras.utils.set_random_seed(7)
        wrapped = twin(case)[1]
        wrapped.compile("sgd", "mse", **{"jit_compile": False, **mode})
        callback = PDPCallback(0.75)
        x, y = case.inputs(), targets(case)
        history = wrapped.fit(x, y, epochs=3, verbose=0, callbacks=[callback]).history
        assert history["sparsity"][-1] == pytest.approx(0.75, abs=0.02)
        results[str(mode)] = history["loss"]
    eager, *others = results.values()
    for other in others:
        np.testing.assert_allclose(other, eager, rtol=1e-4)


def test_unstructured_is_the_default():
    assert PDPWrapper(keras.layers.Dense(2)).granularity == Unstructured()

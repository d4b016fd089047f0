"""Half, mixed and double precision: masks, training, saving and stripping in each."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_pdp import (
    Block,
    Calibrated,
    Channel,
    NofM,
    PDPCallback,
    PDPWrapper,
    Unstructured,
    pruned_layers,
    strip,
    to_tflite,
)

POLICIES = ["mixed_float16", "mixed_bfloat16", "bfloat16", "float64"]
if keras.backend.backend() == "jax":
    POLICIES.remove("float64")  # JAX has none, unless it is told to at its start

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 16)).astype("float32")
Y = RNG.normal(size=(64, 1)).astype("float32")

every_policy = pytest.mark.parametrize("policy", POLICIES)


@pytest.fixture
def precision(policy):
    """The policy, for every layer that is made in the test."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    yield policy
    keras.config.set_dtype_policy(before)


def net(optimizer="adam", granularity=None) -> keras.Model:
    """A net of the policy that is set, with a head that computes in float32."""
    model = keras.Sequential(
        [
            keras.Input((16,)),
            PDPWrapper(layers.Dense(16, activation="relu", name="body"), granularity),
            PDPWrapper(layers.Dense(1, dtype="float32", name="head")),
        ]
    )
    model.compile(optimizer, "mse")
    return model


def trained(model, epochs=6, **kwargs):
    callback = PDPCallback(0.75)
    return model.fit(
        X, Y, epochs=epochs, batch_size=16, verbose=0, callbacks=[callback], **kwargs
    ).history


def stored(variable) -> np.ndarray:
    """A variable's numbers, exactly."""
    return ops.convert_to_numpy(variable).astype("float64")


def by_rank(scores: np.ndarray, pruned: int) -> np.ndarray:
    """Which entries are kept; of equal ones the first."""
    keep = np.ones(scores.size, bool)
    last_first = np.arange(scores.size)[::-1]
    keep[np.lexsort((last_first, scores.ravel()))[:pruned]] = False
    return keep.reshape(scores.shape)


def in_units(granularity, w: np.ndarray) -> np.ndarray:
    """Scores in float64, `(pools, units)`."""
    return np.sqrt(np.mean(granularity.split(w, np) ** 2, axis=-1))


@every_policy
@pytest.mark.parametrize(
    "granularity", [Unstructured(), Block((4, 1)), Channel(axis=0), NofM(2, 4)], ids=str
)
def test_masks_are_those_of_a_reference_in_float64(precision, granularity):
    # Block sizes of 4 and 32 are exact in 16 bits, and ties are frequent.
    wrapper = PDPWrapper(
        layers.Dense(24), granularity, temperature=Calibrated(5.0), sparsity=None
    )
    wrapper.build((None, 32))
    (kernel,) = wrapper.kernels
    kernel.set_target(0.7)
    kernel.pruned.assign(int(kernel.target.value))
    kernel.calibrate()

    w = stored(kernel.variable)
    scores = in_units(granularity, w)
    pruned = int(kernel.target.value)
    if granularity.kept_per_pool:
        keep = np.stack([by_rank(pool, 2) for pool in scores])
        edges = np.sort(scores, axis=1)[:, 1:3].mean(axis=1)
    else:
        assert pruned == round(0.7 * scores.size)
        keep = by_rank(scores, pruned)
        edges = np.sort(scores.ravel())[pruned - 1 : pruned + 1].mean(keepdims=True)
    keep = np.broadcast_to(keep[..., None], granularity.split(w, np).shape)
    np.testing.assert_array_equal(
        ops.convert_to_numpy(kernel.hard()), granularity.join(keep, w.shape, np)
    )
    tau = np.mean(edges**2) / 5.0
    assert float(kernel.tau.value) == pytest.approx(tau, rel=1e-5)


@every_policy
def test_a_model_with_a_head_in_float32_reaches_its_target(precision, tmp_path):
    model = net()
    scales = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scales == (precision == "mixed_float16")
    history = trained(model)
    assert np.isfinite(history["loss"]).all()
    assert history["loss"][-1] < history["loss"][0]
    assert history["sparsity"][-1] == pytest.approx(204 / 272)

    stripped = strip(model)
    kernels = [stored(layer.kernel) for layer in stripped.layers]
    assert sum(np.count_nonzero(w == 0) for w in kernels) == 204
    for wrapper, plain in zip(pruned_layers(model), stripped.layers, strict=True):
        assert plain.dtype_policy.name == wrapper.layer.dtype_policy.name
        assert plain.kernel.dtype == wrapper.layer.kernel.dtype
        keep = ops.convert_to_numpy(wrapper.kernels[0].mask)
        expected = np.where(keep, stored(wrapper.layer.kernel), 0.0)
        np.testing.assert_array_equal(stored(plain.kernel), expected)

    path = tmp_path / "wrapped.keras"
    model.save(path)
    again = keras.models.load_model(path)
    for one, other in zip(model.variables, again.variables, strict=True):
        assert one.dtype == other.dtype, one.path
        np.testing.assert_array_equal(stored(one), stored(other), err_msg=one.path)
    shipped = model(X, training=False)
    for same in (again, stripped):
        np.testing.assert_array_equal(
            ops.convert_to_numpy(same(X, training=False)),
            ops.convert_to_numpy(shipped),
        )


@pytest.mark.parametrize("policy", ["mixed_float16"])
def test_steps_that_overflow_are_left_out_and_the_masks_go_on(precision):
    """A loss scaled so far that the first gradients are infinite."""
    scaled = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(), 2.0**40)
    model = net(scaled)
    before = stored(pruned_layers(model)[0].layer.kernel)
    history = trained(model, epochs=1)
    after = stored(pruned_layers(model)[0].layer.kernel)
    np.testing.assert_array_equal(after, before)  # all four steps were left out
    assert float(scaled.dynamic_scale) == 2.0**36
    assert history["sparsity"] == [pytest.approx(0.75)]

    later = trained(model, epochs=12)
    assert np.isfinite(later["loss"]).all()
    assert np.isfinite(stored(pruned_layers(model)[0].layer.kernel)).all()
    assert np.any(stored(pruned_layers(model)[0].layer.kernel) != before)
    assert later["sparsity"][-1] == pytest.approx(0.75)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_weights_that_are_one_in_half_precision_have_an_order(precision):
    """Masks look at the variables as they are stored, also inside a layer of ours."""

    class Outer(layers.Layer):  # of the policy, so that it casts what it reads
        def __init__(self):
            super().__init__()
            self.inner = PDPWrapper(layers.Dense(1, use_bias=False))

        def build(self, shape):
            self.inner.build(shape)

        def call(self, inputs):
            return self.inner(inputs)

    outer = Outer()
    outer.build((None, 8))
    (kernel,) = outer.inner.kernels
    order = np.array([5, 0, 7, 2, 6, 1, 4, 3])
    kernel.variable.assign((1.0 + order[:, None] * 2.0**-20).astype("float32"))
    kernel.pruned.assign(4)
    rows = outer(np.eye(8, dtype="float32"))
    np.testing.assert_array_equal(stored(rows)[:, 0] > 0, order >= 4)


@pytest.mark.parametrize("policy", {"float64"} & set(POLICIES))
def test_weights_of_float64_are_not_rounded_by_the_soft_mask(precision):
    """Far above the threshold the mask is 1, and the weight what it was."""
    large = np.array([1.0 + 1e-12, 1.0 + 1e-13])
    table = np.stack([[1e-3, 1e-3], [2e-3, 2e-3], large], axis=1)
    for granularity in (Unstructured(), Channel()):
        # A look-up: Keras multiplies matrices of float64 in float32.
        wrapper = PDPWrapper(layers.Embedding(2, 3), granularity)
        wrapper.build((None,))
        wrapper.driven = True
        (kernel,) = wrapper.kernels
        kernel.variable.assign(table)
        kernel.set_target(1 / 3)
        kernel.calibrate()
        kernel.pruned.assign(int(kernel.target.value))
        rows = stored(wrapper(np.arange(2), training=True))
        assert np.all(rows[:, 0] < table[:, 0])
        np.testing.assert_array_equal(rows[:, 2], large)


@pytest.mark.tensorflow("to_tflite converts Keras models on TensorFlow")
@pytest.mark.parametrize("policy", ["mixed_float16", "bfloat16", "float64"])
def test_a_file_computes_in_float32_with_the_same_weights(precision, tmp_path):
    inputs = keras.Input((6, 8))
    inner = layers.LSTM(
        8,
        return_sequences=True,
        unroll=True,
        recurrent_initializer="glorot_uniform",  # the default one knows no bfloat16
    )
    x = layers.Bidirectional(inner)(inputs)
    x = PDPWrapper(layers.Conv1D(8, 3))(x)
    x = layers.BatchNormalization()(x)
    outputs = PDPWrapper(layers.Dense(3, dtype="float32"))(layers.Flatten()(x))
    model = keras.Model(inputs, outputs)
    for v in model.trainable_variables:  # no zeros of chance, which 16 bits often draw
        v.assign(ops.where(v.value == 0, ops.cast(0.01, v.dtype), v.value))
    callback = PDPCallback(0.75)
    callback.set_model(model)
    callback.update(1.0)

    report = to_tflite(model, tmp_path / "model.tflite")
    plain = [stored(v) for v in strip(model).weights if "kernel" in v.name]
    zeros = sum(np.count_nonzero(w == 0.0) for w in plain)
    assert zeros >= sum(int(w.kernels[0].pruned.value) for w in pruned_layers(model))
    assert sum(each.zeros for each in report.weights) == zeros
    assert {each.dtype for each in report.weights} == {"float32"}
    assert report.dense_reference == "unmasked weights"
    assert keras.config.dtype_policy().name == precision

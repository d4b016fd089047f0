"""However a step is run: the same masks, the exact target, a plain model at the end.

Loops in the manner of one backend (GradientTape, autograd, `stateless_call`) are in
`tests/backends`.
"""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_pdp import Constant, PDPCallback, PDPWrapper, pruned_layers, strip, uniform
from keras_pdp.training import compiled as programs

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 16)).astype("float32")
Y = RNG.normal(size=(64, 1)).astype("float32")
SIZE, REMOVED = 272, 204

ON_TORCH = keras.backend.backend() == "torch"
several_steps = pytest.mark.skipif(
    ON_TORCH, reason="on torch: Keras takes one step at a time"
)


def net(optimizer="sgd", seed=3, **compiled) -> keras.Model:
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((16,)),
            PDPWrapper(layers.Dense(16, activation="relu", name="body")),
            PDPWrapper(layers.Dense(1, name="head")),
        ]
    )
    # A graph of TensorFlow, unless a test says otherwise.
    model.compile(optimizer, "mse", **{"jit_compile": False, **compiled})
    return model


def trained(model, epochs=5, callback=None, extra=()):
    callback = PDPCallback(REMOVED / SIZE) if callback is None else callback
    return model.fit(
        X,
        Y,
        epochs=epochs,
        batch_size=8,
        shuffle=False,
        verbose=0,
        callbacks=[callback, *extra],
    ).history


def numpy_of(values) -> list[np.ndarray]:
    return [ops.convert_to_numpy(value) for value in values]


def assert_at_the_target(model) -> None:
    """As many zeros as were asked for, in what ships, and the same function."""
    stripped = strip(model)
    assert not pruned_layers(stripped)
    kernels = numpy_of(layer.kernel for layer in stripped.layers)
    assert sum(np.count_nonzero(w == 0.0) for w in kernels) == REMOVED
    shipped, wrapped = numpy_of([stripped(X), model(X, training=False)])
    np.testing.assert_array_equal(shipped, wrapped)


MODES = {
    "eager": ({"run_eagerly": True}, 1e-5),
    "compiled as a whole": ({"jit_compile": True}, 1e-4),
}
if ON_TORCH:
    del MODES["compiled as a whole"]  # Keras compiles there by dynamo


@pytest.mark.parametrize("mode", MODES)
def test_a_step_is_the_same_however_it_is_run(mode):
    """As the plain graph, in every epoch, but for the order in which floats add."""
    compiled, tolerance = MODES[mode]
    plain, other = net(), net(**compiled)
    expected, found = trained(plain), trained(other)
    assert found["sparsity"] == expected["sparsity"]
    np.testing.assert_allclose(found["loss"], expected["loss"], rtol=tolerance)
    for one, two in zip(plain.weights, other.weights, strict=True):
        one, two = numpy_of([one, two])
        np.testing.assert_allclose(
            one.astype("float32"), two.astype("float32"), rtol=tolerance, atol=1e-5
        )
    assert_at_the_target(other)


@several_steps
def test_an_execution_of_several_steps_takes_the_same_steps():
    """Where the sparsity is set at its beginning, nothing changes in between."""
    plain, other = net(), net(steps_per_execution=4)
    for model in (plain, other):
        at_once = PDPCallback(0.75, schedule=Constant(0.0), freeze_at=None, harden=1.0)
        trained(model, epochs=3, callback=at_once)
    for one, two in zip(plain.weights, other.weights, strict=True):
        np.testing.assert_allclose(*numpy_of([one, two]), rtol=1e-6, atol=1e-7)
    assert_at_the_target(other)


@several_steps
def test_within_an_execution_the_sparsity_is_that_of_its_beginning():
    def counted(steps):
        seen, model = [], net(steps_per_execution=steps)

        class Watch(keras.callbacks.Callback):
            def on_train_batch_end(self, batch, logs=None):
                # Not `model`: on JAX it is this one that reads the state.
                kernels = [k for w in pruned_layers(self.model) for k in w.kernels]
                seen.append(sum(int(k.pruned.value) for k in kernels))

        # Uniform: the targets are the same, whatever the weights were by then.
        pdp = PDPCallback(REMOVED / SIZE, allocation=uniform)
        trained(model, callback=pdp, extra=[Watch()])
        assert_at_the_target(model)
        return seen

    assert counted(4) == counted(1)[3::4]


OPTIMIZERS = {
    "accumulated gradients": {"gradient_accumulation_steps": 4},
    "averaged weights": {"use_ema": True, "ema_momentum": 0.9},
    "averaged and put back": {"use_ema": True, "ema_overwrite_frequency": 3},
    "clipped by variable": {"clipnorm": 0.01},
    "clipped as a whole": {"global_clipnorm": 0.01},
    "decayed": {"weight_decay": 0.01},
}


@pytest.mark.parametrize(
    "how, freeze_at",
    [*((how, 0.9) for how in OPTIMIZERS), ("averaged weights", None)],
)
def test_what_an_optimizer_does_leaves_the_target_exact(how, freeze_at):
    """Averages too: masks go by rank, whatever the weights become."""
    model = net(keras.optimizers.Adam(0.01, **OPTIMIZERS[how]))
    callback = PDPCallback(REMOVED / SIZE, freeze_at=freeze_at)
    history = trained(model, callback=callback, epochs=4)
    assert np.isfinite(history["loss"]).all()
    assert history["sparsity"][-1] == pytest.approx(REMOVED / SIZE)
    assert_at_the_target(model)


def test_gradients_are_accumulated_through_the_masks():
    """Two steps of half a batch are one of the whole, where the masks stay."""

    def step(batch, **kwargs):
        model = net(keras.optimizers.SGD(0.05, **kwargs))
        pdp = PDPCallback(0.75)
        pdp.set_model(model)
        pdp.update(0.5)
        model.fit(X, Y, batch_size=batch, shuffle=False, verbose=0)
        return numpy_of(model.trainable_variables)

    whole = step(64)
    halves = step(32, gradient_accumulation_steps=2)
    for one, other in zip(whole, halves, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("when", ["before", "during"])
def test_a_frozen_layer_keeps_its_weights_and_is_pruned(when):
    model = net("adam")
    body = pruned_layers(model)[0]
    callback = PDPCallback(REMOVED / SIZE, epochs=6)
    if when == "during":
        model.fit(X, Y, epochs=3, verbose=0, batch_size=8, callbacks=[callback])
    body.trainable = False
    model.compile("adam", "mse", jit_compile=False)
    before = numpy_of(body.layer.variables)
    begin = 3 if when == "during" else 0
    model.fit(
        X,
        Y,
        initial_epoch=begin,
        epochs=6,
        batch_size=8,
        verbose=0,
        callbacks=[callback],
    )
    for one, other in zip(before, numpy_of(body.layer.variables), strict=True):
        np.testing.assert_array_equal(one, other)
    assert_at_the_target(model)


@pytest.mark.skipif(ON_TORCH, reason="on torch: every step is run anew")
@pytest.mark.parametrize("whole", [False, True])
def test_a_new_sparsity_traces_nothing(whole):
    if keras.backend.backend() == "jax" and not whole:
        pytest.skip("on jax: what is not compiled as a whole is not traced")
    traces = []

    class Spy(layers.Dense):
        def call(self, inputs, training=None):
            traces.append(training)
            return super().call(inputs)

    model = keras.Sequential([keras.Input((16,)), PDPWrapper(Spy(16)), layers.Dense(1)])
    model.compile("sgd", "mse", jit_compile=whole)
    counted = []
    watch = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: counted.append(traces.count(True))
    )
    callback = PDPCallback(0.9)
    model.fit(X, Y, batch_size=4, epochs=4, verbose=0, callbacks=[callback, watch])
    assert len(counted) == 64
    assert counted[-1] == counted[0]  # before the ramp, on it, and frozen


@pytest.mark.tensorflow("elsewhere Keras makes the optimizer's variables before")
def test_the_first_step_is_traced_once():
    """Twice, where it makes variables: those of the optimizer are there already."""
    traces = []

    class Spy(layers.Dense):
        def call(self, inputs, training=None):
            traces.append(training)
            return super().call(inputs)

    model = keras.Sequential([keras.Input((16,)), PDPWrapper(Spy(1))])
    model.compile("adam", "mse", metrics=[keras.metrics.MeanSquaredError()])
    model.fit(X, Y, batch_size=32, verbose=0, callbacks=[PDPCallback(0.9)])
    assert traces.count(True) == 1


def test_the_optimizer_is_as_keras_makes_it():
    def variables(**options):
        model = net(optimizer=keras.optimizers.Adam(name="own"))
        model.fit(X, Y, batch_size=32, verbose=0, **options)
        paths = [v.path for v in model.optimizer.variables]
        return [path.replace(model.name, "model") for path in paths]

    with pytest.warns(UserWarning, match="PDPCallback"):  # nothing would be pruned
        keras_made = variables()
    assert len(keras_made) == 2 + 2 * 4
    ours = variables(callbacks=[PDPCallback(0.9)])
    assert ours == keras_made


@pytest.mark.tensorflow("its step applies gradients of a GradientTape")
def test_a_step_of_ones_own_may_train_more_than_the_model():
    import tensorflow as tf

    factor = keras.Variable(1.0, name="factor")

    class Own(keras.Model):
        def train_step(self, data):
            x, y = data
            with tf.GradientTape() as tape:
                error = factor.value * (self(x, training=True) - y)
                loss = tf.reduce_mean(error**2)
            trained = [*self.trainable_variables, factor]
            gradients = tape.gradient(loss, [each.value for each in trained])
            self.optimizer.apply_gradients(zip(gradients, trained, strict=True))
            return {"loss": loss}

    inputs = keras.Input((16,))
    model = Own(inputs, PDPWrapper(layers.Dense(1))(inputs))
    model.compile("sgd")
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[PDPCallback(0.5)])
    assert float(factor.value) != 1.0


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="but on TensorFlow Keras builds the optimizer before any callback",
)
def test_layers_may_be_unfrozen_when_the_training_begins():
    """By a callback after ours: the optimizer is made for what is trained then."""
    model = net()
    model.layers[0].trainable = False
    before = [np.array(w) for w in model.get_weights()]
    model.compile("adam", "mse")

    class Unfreeze(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.model.layers[0].trainable = True

    callbacks = [PDPCallback(0.5), Unfreeze()]
    model.fit(X, Y, epochs=2, verbose=0, callbacks=callbacks)
    assert (model.get_weights()[0] != before[0]).any()


def test_a_model_that_its_first_batch_builds_has_its_whole_optimizer():
    model = keras.Sequential([PDPWrapper(layers.Dense(8)), layers.Dense(1)])
    model.compile("adam", "mse")
    model.fit(X, Y, batch_size=8, verbose=0, callbacks=[PDPCallback(0.5)])
    assert model.optimizer.built
    assert len(model.optimizer.variables) == 2 + 2 * 4


def test_kernels_of_as_many_weights_share_what_is_compiled():
    """Of whatever shapes: their axes play no part where single weights are pruned."""

    def count():
        return programs._compiled.cache_info().currsize

    def trained_on(*units):
        model = keras.Sequential([keras.Input((6,))])
        for each in units:
            model.add(PDPWrapper(layers.Dense(each, use_bias=False)))
        model.compile("sgd", "mse")
        x, y = np.ones((4, 6)), np.ones((4, units[-1]))
        model.fit(x, y, epochs=4, verbose=0, callbacks=[PDPCallback(0.5)])

    programs._compiled.cache_clear()
    programs._traced.cache_clear()
    trained_on(11)
    alone = count()
    assert alone > 0
    trained_on(11, 6)  # (6, 11) and (11, 6)
    assert count() == alone
    trained_on(11, 5)  # (6, 11) and (11, 5)
    assert count() > alone

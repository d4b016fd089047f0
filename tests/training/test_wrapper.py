"""What a wrapper passes on, keeps, and refuses."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_pdp import (
    Calibrated,
    Channel,
    NofM,
    PDPCallback,
    PDPWrapper,
    pruned_layers,
    strip,
    wrap,
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(32, 8)).astype("float32")
Y = RNG.normal(size=(32, 1)).astype("float32")


def assert_close(one, other, rtol=0.0) -> None:
    """Of tensors, which on PyTorch numpy does not take while they have a gradient."""
    one, other = ops.convert_to_numpy(one), ops.convert_to_numpy(other)
    np.testing.assert_allclose(one, other, rtol=rtol)


def prune_to(wrapper: PDPWrapper, sparsity: float) -> None:
    """Sets a wrapper as the callback would."""
    for kernel in wrapper.kernels:
        kernel.set_target(sparsity)
        kernel.calibrate()
        kernel.pruned.assign(int(kernel.target.value))


def dense_by_hand() -> PDPWrapper:
    """A 2 x 2 kernel of which half goes: 0.1 and -0.2, not 0.3 and 0.4."""
    wrapper = PDPWrapper(layers.Dense(2, use_bias=False), temperature=Calibrated(5.0))
    wrapper.build((None, 2))
    wrapper.layer.set_weights([np.array([[0.1, -0.2], [0.3, 0.4]], "float32")])
    prune_to(wrapper, 0.5)
    return wrapper


def test_evaluation_uses_the_hard_mask():
    y = dense_by_hand()(np.eye(2, dtype="float32"))
    assert_close(y, [[0.0, 0.0], [0.3, 0.4]], rtol=1e-7)


@pytest.mark.filterwarnings("ignore:A model with PDPWrapper")
def test_training_uses_the_soft_mask():
    t = 0.25  # midway between 0.2 and 0.3
    tau = t**2 / 5.0
    w = np.array([[0.1, -0.2], [0.3, 0.4]])
    expected = w / (1.0 + np.exp(-(w**2 - t**2) / tau))
    y = dense_by_hand()(np.eye(2, dtype="float32"), training=True)
    assert_close(y, expected, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:A model with PDPWrapper")
def test_frozen_it_uses_the_stored_mask_in_both():
    wrapper = dense_by_hand()
    wrapper.freeze()
    wrapper.layer.set_weights([np.array([[9.0, 9.0], [0.3, 0.4]], "float32")])
    for training in (True, False):
        y = wrapper(np.eye(2, dtype="float32"), training=training)
        assert_close(y, [[0.0, 0.0], [0.3, 0.4]], rtol=1e-7)


def test_the_kernel_itself_is_never_written():
    wrapper = dense_by_hand()
    before = wrapper.layer.get_weights()[0]
    wrapper(np.eye(2, dtype="float32"))
    wrapper.freeze()
    np.testing.assert_array_equal(wrapper.layer.get_weights()[0], before)


@pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="on torch: every step is run anew"
)
def test_one_compiled_program_serves_every_sparsity():
    """The count is a tensor: a new one neither traces nor compiles anything."""
    traces = []

    class Spy(layers.Dense):
        def call(self, inputs, training=None):
            traces.append(1)
            return super().call(inputs)

    model = keras.Sequential([keras.Input((8,)), PDPWrapper(Spy(16)), layers.Dense(1)])
    model.compile("sgd", "mse")
    callback = PDPCallback(0.9, freeze_at=None)
    model.fit(X, Y, batch_size=8, epochs=1, verbose=0, callbacks=[callback])
    first = len(traces)
    history = model.fit(X, Y, batch_size=8, epochs=6, verbose=0, callbacks=[callback])
    assert len(traces) == first
    assert history.history["sparsity"][-1] == pytest.approx(0.9, abs=0.01)


def test_losses_of_the_layer_count_once():
    def net(wrapper):
        keras.utils.set_random_seed(3)
        layer = layers.Dense(
            4,
            kernel_regularizer="l2",
            bias_regularizer="l1",
            activity_regularizer=keras.regularizers.L2(0.1),
        )
        model = keras.Sequential([keras.Input((8,)), wrapper(layer), layers.Dense(1)])
        model.compile("sgd", "mse")
        return model

    plain, wrapped = net(lambda x: x), net(PDPWrapper)
    plain(X), wrapped(X)
    assert len(wrapped.losses) == len(plain.losses) == 3
    assert wrapped.evaluate(X, Y, verbose=0) == plain.evaluate(X, Y, verbose=0)


@pytest.mark.filterwarnings("ignore:A model with PDPWrapper")
def test_statistics_and_seeds_of_the_layer_move():
    block = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(4),
            layers.BatchNormalization(),
            layers.Dropout(0.5),
        ]
    )
    wrapper = PDPWrapper(block)
    wrapper.build((None, 8))
    mean = block.layers[1].moving_mean.numpy().copy()
    one, other = wrapper(X, training=True), wrapper(X, training=True)
    assert np.abs(block.layers[1].moving_mean.numpy() - mean).max() > 0.0
    assert np.abs(ops.convert_to_numpy(one) - ops.convert_to_numpy(other)).max() > 0.0
    assert_close(wrapper(X), wrapper(X))


def test_constraints_hold():
    layer = layers.Dense(4, kernel_constraint=keras.constraints.MaxNorm(0.3))
    model = keras.Sequential([keras.Input((8,)), PDPWrapper(layer), layers.Dense(1)])
    model.compile(keras.optimizers.SGD(1.0), "mse")
    model.fit(X, Y, epochs=3, verbose=0, callbacks=[PDPCallback(0.5)])
    assert np.linalg.norm(layer.get_weights()[0], axis=0).max() <= 0.3 + 1e-5


def test_trainable_false_freezes_the_layer():
    wrapper = PDPWrapper(layers.Dense(4), trainable=False)
    wrapper.build((None, 8))
    assert not wrapper.trainable_variables
    assert not keras.Sequential([keras.Input((8,)), wrapper]).trainable_variables
    wrapper.trainable = True
    assert {v.name for v in wrapper.trainable_variables} == {"kernel", "bias"}
    # The state of the pruning is never trained.
    names = [v.name for v in wrapper.non_trainable_variables]
    of_the_kernel = ("target", "pruned", "tau", "hardness", "mask")
    assert names == ["frozen", *(f"kernel_{name}" for name in of_the_kernel)]


def test_a_frozen_layer_is_in_a_frozen_wrapper():
    layer = layers.Dense(4, trainable=False)
    wrapper = PDPWrapper(layer)
    wrapper.build((None, 8))
    assert not wrapper.trainable
    assert not wrapper.trainable_variables
    again = PDPWrapper.from_config(wrapper.get_config())
    assert not again.trainable
    assert not again.layer.trainable
    wrapper.trainable = True
    assert {v.name for v in wrapper.trainable_variables} == {"kernel", "bias"}


def test_inside_timedistributed_it_strips_to_plain_keras():
    model = keras.Sequential(
        [
            keras.Input((3, 8)),
            layers.TimeDistributed(PDPWrapper(layers.Dense(4)), name="each"),
        ]
    )
    callback = PDPCallback(0.5)
    callback.set_model(model)
    callback.update(0.2)
    callback.update(1.0)
    stripped = strip(model)
    assert type(stripped.get_layer("each")) is layers.TimeDistributed
    assert "keras_pdp" not in str(stripped.get_config())
    x = RNG.normal(size=(2, 3, 8)).astype("float32")
    assert_close(stripped(x), model(x))


def test_keras_masks_propagate():
    tokens = np.array([[1, 2, 0, 0], [3, 0, 0, 0]])

    def net(wrapper):
        keras.utils.set_random_seed(3)
        inputs = keras.Input((4,), dtype="int32")
        x = wrapper(layers.Embedding(5, 6, mask_zero=True))(inputs)
        x = wrapper(layers.Dense(6))(x)
        x = wrapper(layers.LSTM(3, return_sequences=True))(x)
        return keras.Model(inputs, layers.GlobalAveragePooling1D()(x))

    plain, wrapped = net(lambda x: x), net(PDPWrapper)
    assert_close(wrapped(tokens), plain(tokens))
    # And the mask does something: padding's embedding does not matter.
    changed = np.array(tokens)
    table = wrapped.layers[1].layer.get_weights()[0].copy()
    table[0] = 100.0
    wrapped.layers[1].layer.set_weights([table])
    assert_close(wrapped(changed), plain(tokens))


def test_call_arguments_pass_through():
    sequence = RNG.normal(size=(2, 5, 8)).astype("float32")
    state = RNG.normal(size=(2, 3)).astype("float32")
    gru = layers.GRU(3, return_sequences=True, return_state=True)
    wrapper = PDPWrapper(gru)
    mask = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], bool)
    for one, other in zip(
        wrapper(sequence, initial_state=state, mask=mask),
        gru(sequence, initial_state=state, mask=mask),
        strict=True,
    ):
        assert_close(one, other)

    attention = layers.MultiHeadAttention(2, 4)
    wrapper = PDPWrapper(attention)
    causal = np.tril(np.ones((5, 5), bool))[None]
    arguments = {"attention_mask": causal, "return_attention_scores": True}
    for one, other in zip(
        wrapper(sequence, sequence, **arguments),
        attention(sequence, sequence, **arguments),
        strict=True,
    ):
        assert_close(one, other)
    assert_close(
        wrapper(sequence, sequence, use_causal_mask=True),
        attention(sequence, sequence, attention_mask=causal),
    )


def test_a_stateful_layer_keeps_its_state():
    sequence = RNG.normal(size=(2, 5, 8)).astype("float32")
    wrapper = PDPWrapper(layers.LSTM(3, stateful=True))
    first, second = wrapper(sequence), wrapper(sequence)
    assert np.abs(ops.convert_to_numpy(first) - ops.convert_to_numpy(second)).max() > 0
    wrapper.layer.reset_state()
    assert_close(wrapper(sequence), first)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "bfloat16"])
def test_the_dtype_policy_is_the_layers(policy):
    keras.utils.set_random_seed(3)
    wrapper = PDPWrapper(layers.Dense(64, dtype=policy))
    outputs = wrapper(X)
    assert keras.backend.standardize_dtype(outputs.dtype) == policy.removeprefix(
        "mixed_"
    )
    (kernel,) = wrapper.kernels
    prune_to(wrapper, 0.9)
    # Weights of 16 bits tie often; the count is exact all the same.
    kept = np.count_nonzero(ops.convert_to_numpy(kernel.hard()))
    assert kept == 512 - round(0.9 * 512)
    assert kernel.tau.dtype == "float32"


def test_a_mixed_precision_model_trains_to_its_target():
    policy = "mixed_bfloat16"
    model = keras.Sequential(
        [
            keras.Input((8,)),
            PDPWrapper(layers.Dense(32, activation="relu", dtype=policy)),
            PDPWrapper(layers.Dense(1, dtype="float32")),
        ]
    )
    model.compile("adam", "mse")
    history = model.fit(X, Y, epochs=8, verbose=0, callbacks=[PDPCallback(0.8)])
    assert history.history["sparsity"][-1] == pytest.approx(0.8, abs=0.005)
    assert np.isfinite(history.history["loss"]).all()


def test_called_twice_it_shares_its_weights():
    wrapper = PDPWrapper(layers.Dense(3))
    a, b = keras.Input((8,)), keras.Input((8,))
    model = keras.Model([a, b], wrapper(a) - wrapper(b))
    prune_to(wrapper, 0.5)
    assert_close(model([X, X]), np.zeros((32, 3), "float32"))
    assert len(model.trainable_variables) == 2


def test_inside_another_wrapper_of_keras():
    model = keras.Sequential(
        [
            keras.Input((3, 8)),
            layers.TimeDistributed(PDPWrapper(layers.Dense(4))),
            layers.Flatten(),
            layers.Dense(1),
        ]
    )
    x = RNG.normal(size=(16, 3, 8)).astype("float32")
    model.compile("sgd", "mse")
    model.fit(x, Y[:16], epochs=2, verbose=0, callbacks=[PDPCallback(0.5)])
    (wrapper,) = pruned_layers(model)
    assert np.count_nonzero(ops.convert_to_numpy(wrapper.kernels[0].mask)) == 16


def test_the_configuration_is_left_to_the_caller():
    wrapper = PDPWrapper(
        layers.Dense(3, name="inner"), Channel(), sparsity=0.25, name="outer"
    )
    config = wrapper.get_config()
    copy = dict(config)
    for _ in range(2):
        again = PDPWrapper.from_config(config)
        assert config == copy
        assert again.get_config() == copy


def test_the_name_is_the_layers():
    assert PDPWrapper(layers.Dense(3, name="head")).name == "head"


def test_training_without_a_callback_warns():
    model = keras.Sequential([keras.Input((8,)), PDPWrapper(layers.Dense(1))])
    model.compile("sgd", "mse")
    with pytest.warns(UserWarning, match="Add PDPCallback"):
        model.fit(X, Y, verbose=0)


def test_nothing_to_prune_is_an_error():
    with pytest.raises(ValueError, match="nothing to prune in 'norm'"):
        PDPWrapper(layers.BatchNormalization(name="norm")).build((None, 4))
    with pytest.raises(ValueError, match="can remove nothing from 'tiny'"):
        PDPWrapper(layers.Dense(4, name="tiny"), NofM(2, 4)).build((None, 2))


def test_a_layer_nobody_knows_says_what_to_do():
    class Mystery(layers.Layer):
        def build(self, input_shape):
            self.form = self.add_weight(shape=(input_shape[-1], 4), name="form")

        def call(self, inputs):
            return inputs @ self.form

    with pytest.raises(ValueError, match=r"pdp_weights\(\).*register_prunable"):
        PDPWrapper(Mystery())(X)


def test_factors_of_features_are_no_kernel():
    """An EinsumDense of one axis scales, and zeros in it would remove features."""
    scale = layers.EinsumDense("abc,c->abc", output_shape=(None, 8))
    with pytest.raises(ValueError, match="nothing to prune"):
        PDPWrapper(scale).build((None, 3, 8))
    inputs = keras.Input((3, 8))
    wrapped = wrap(keras.Model(inputs, layers.Dense(4, name="out")(scale(inputs))))
    assert [wrapper.name for wrapper in pruned_layers(wrapped)] == ["out"]

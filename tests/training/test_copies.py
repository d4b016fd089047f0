"""What layers have got since they were made, and no configuration tells."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_pdp import strip, wrap
from tests import compare

RNG = np.random.default_rng(0)
X = RNG.normal(size=(8, 6)).astype("float32")


class Block(layers.Layer):
    """Two layers, and a factor that is set later; no word of `name` or `dtype`."""

    def __init__(self):
        super().__init__()
        self.first, self.second = layers.Dense(6), layers.Dense(6)
        self.factor = 1.0
        self.offsets = [0.0, 0.0]
        self.widths = []

    def build(self, shape):
        for layer in (self.first, self.second):
            layer.build(shape)
            self.widths.append(6)

    def call(self, x):
        return self.factor * self.second(self.first(x)) + sum(self.offsets)


class Net(keras.Model):
    def __init__(self):
        super().__init__()
        self.block, self.out = Block(), layers.Dense(3)
        self.scale = np.ones(3, "float32")
        self.shifts = {"all": [0.0]}

    def call(self, x):
        y = ops.multiply(self.out(self.block(x)), self.scale)
        return y + self.shifts["all"][0]


def subclassed():
    model = Net()
    model(X)
    return model


def functional(inner=Block):
    inputs = keras.Input((6,))
    return keras.Model(inputs, layers.Dense(3)(inner()(inputs)))


def block_of(model):
    bare = (getattr(layer, "layer", layer) for layer in model.layers)
    return next(layer for layer in bare if isinstance(layer, Block))


MAKERS = {"subclassed": subclassed, "functional": functional}
each_kind = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


@each_kind
def test_settings_of_layers_are_copied(make):
    model = make()
    block = block_of(model)
    block.factor, block.offsets = 3.0, [1.0, 2.0]
    if make is subclassed:
        model.scale = np.array([1.0, 2.0, 3.0], "float32")
        model.shifts["all"][0] = 5.0
    wrapped = wrap(model)
    with pytest.warns(UserWarning, match="has not been pruned yet"):
        stripped = strip(wrapped)
    for copy in (wrapped, stripped):
        compare.assert_array_equal(copy(X), model(X))
        assert block_of(copy).widths == [6, 6]  # and not once more by building
        block_of(copy).offsets[0] = 7.0
    assert block.offsets[0] == 1.0


@each_kind
@pytest.mark.filterwarnings("ignore:.* is stripped at")
def test_layers_frozen_inside_a_block_stay_frozen(make):
    model = make()
    block = block_of(model)
    block.first.trainable = False
    block.second.bias.trainable = False
    wrapped = wrap(model)
    for copy in (wrapped, strip(wrapped)):
        assert len(copy.trainable_variables) == len(model.trainable_variables) == 3
        inner = block_of(copy)
        assert not inner.first.trainable and inner.second.trainable


@pytest.mark.filterwarnings("ignore:.* is stripped at")
def test_a_subclassed_model_inside_a_functional_one():
    """Its constructor takes no name, which Keras puts into its configuration."""
    model = functional(Net)
    inner = next(x for x in model.layers if isinstance(x, Net))
    inner.scale = np.array([1.0, 2.0, 3.0], "float32")
    wrapped = wrap(model)
    stripped = strip(wrapped)
    compare.assert_array_equal(wrapped(X), model(X))
    compare.assert_array_equal(stripped(X), model(X))
    assert [x.name for x in stripped.layers] == [x.name for x in model.layers]


class Untold(layers.Layer):
    def __init__(self, factors):
        super().__init__()
        self.factors = factors

    def call(self, x):
        return x * ops.convert_to_tensor(self.factors)


class HasUntold(keras.Model):
    def __init__(self):
        super().__init__()
        self.untold = Untold(np.ones(6, "float32"))
        self.out = layers.Dense(3)

    def call(self, x):
        return self.out(self.untold(x))


def has_untold():
    model = HasUntold()
    model(X)
    return model


@pytest.mark.parametrize(
    "make", [has_untold, lambda: functional(lambda: Untold(np.ones(6, "float32")))]
)
def test_a_layer_without_a_configuration_is_refused_by_name(make):
    with pytest.raises(ValueError, match=r"(?s)define get_config\(\).*Object Untold"):
        wrap(make())


class Restless(keras.Model):
    """Draws in evaluation too."""

    def __init__(self):
        super().__init__()
        self.out = layers.Dense(3)

    def call(self, x):
        return ops.add(self.out(x), np.random.normal(size=3).astype("float32"))


class Particular(keras.Model):
    """Takes sequences of 7 steps and no other, which its shapes do not tell."""

    def __init__(self):
        super().__init__()
        self.out = layers.Dense(3)

    def build(self, shape):
        self.out.build(shape)

    def call(self, x):
        if x.shape[1] not in (None, 7):
            raise ValueError("seven steps")
        return self.out(x)


def particular():
    model = Particular()
    model.build((None, None, 6))
    return model


def restless():
    model = Restless()
    model(X)
    return model


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (restless, "another output each time"),
        pytest.param(
            particular,
            "seven",
            marks=pytest.mark.tensorflow("elsewhere its shapes are numbers made up"),
        ),
    ],
)
def test_a_copy_that_could_not_be_compared_is_said(make, why):
    with pytest.warns(UserWarning, match=f"without being compared.*{why}"):
        wrap(make())


def gelu(x):
    """Not the one that Keras has by this name."""
    return ops.sigmoid(3.0 * x) * x


def fifth(x):
    return ops.leaky_relu(x, 0.2)


class Gated(layers.Layer):
    """Has an activation that its constructor does not take, in it and in a layer."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.activation = lambda x: 2.0 * x
        self.inner = layers.Dense(6, gelu)

    def call(self, x):
        return self.activation(self.inner(x))


ACTIVE = {
    "of keras.ops": lambda: layers.Dense(6, ops.gelu),
    "own, by a name of Keras": lambda: layers.Dense(6, gelu),
    "own": lambda: layers.Dense(6, fifth),
    "layer": lambda: layers.Activation(gelu),
    "own layer": Gated,
    "recurrent": lambda: keras.Sequential(
        [
            layers.Reshape((2, 3)),
            layers.LSTM(6, activation=fifth, recurrent_activation=gelu),
        ]
    ),
}


@pytest.mark.parametrize("make", ACTIVE.values(), ids=ACTIVE)
def test_activations_are_the_same_functions(make):
    inputs = keras.Input((6,))
    model = keras.Model(inputs, layers.Dense(2)(make()(inputs)))
    wrapped = wrap(model)
    compare.assert_array_equal(wrapped(X), model(X))
    compare.assert_array_equal(strip(wrapped)(X), model(X))


class Sixth(keras.regularizers.Regularizer):
    def __call__(self, x):
        return ops.sum(x) / 6.0

    def get_config(self):
        return {}


class Halved(keras.constraints.Constraint):
    def __call__(self, w):
        return w / 2.0


def test_regularizers_and_constraints_of_the_users_own():
    layer = layers.Dense(4, kernel_regularizer=Sixth(), bias_constraint=Halved())
    model = keras.Sequential([keras.Input((6,)), layer])
    wrapped = wrap(model)
    compare.assert_array_equal(wrapped.losses[0], model.losses[0])
    assert isinstance(strip(wrapped).layers[0].bias.constraint, Halved)


@each_kind
def test_a_regularizer_that_was_set_on_a_variable_is_copied(make):
    model = make()
    block_of(model).first.kernel.regularizer = keras.regularizers.L2(0.5)
    wrapped = wrap(model)
    for copy in (wrapped, strip(wrapped)):
        compare.assert_array_equal(copy.losses[0], model.losses[0])


def test_a_dropout_that_has_been_turned_off():
    drop = layers.Dropout(0.5)
    model = keras.Sequential([keras.Input((6,)), layers.Dense(4), drop])
    drop.rate = 0.0
    wrapped = wrap(model)
    assert wrapped.layers[1].rate == 0.0
    compare.assert_array_equal(strip(wrapped)(X), model(X))


class Factors(layers.Layer):
    """Tells an array in its configuration."""

    def __init__(self, factors, **kwargs):
        super().__init__(**kwargs)
        self.factors = np.asarray(factors, "float32")

    def call(self, x):
        return x * self.factors

    def get_config(self):
        return {**super().get_config(), "factors": self.factors}


def test_an_array_in_a_configuration():
    class Scaled(keras.Model):
        def __init__(self):
            super().__init__()
            self.factors, self.out = Factors(np.arange(6.0)), layers.Dense(2)

        def call(self, x):
            return self.out(self.factors(x))

    model = Scaled()
    model(X)
    compare.assert_array_equal(wrap(model)(X), model(X))


def test_a_layer_of_a_sequential_model_that_the_graph_around_it_calls_too():
    parts = [layers.Dense(6, name="one"), layers.Dense(6, name="two")]
    encoder = keras.Sequential([keras.Input((6,)), *parts])
    inputs = keras.Input((6,))
    for layer in parts:
        model = keras.Model(inputs, layer(encoder(inputs)))
        wrapped = wrap(model)
        compare.assert_array_equal(wrapped(X), model(X))
        compare.assert_array_equal(strip(wrapped)(X), model(X))


class Branch(layers.Layer):
    """Makes its layer where Keras recommends it, when it is built."""

    def __init__(self, units, activation=None, **kwargs):
        super().__init__(**kwargs)
        self.units, self.activation = units, keras.activations.get(activation)

    def build(self, shape):
        self.dense = layers.Dense(self.units)
        self.dense.build(shape)

    def call(self, x):
        return self.activation(self.dense(x))

    def get_config(self):
        activation = keras.activations.serialize(self.activation)
        return {**super().get_config(), "units": self.units, "activation": activation}


class Three(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.parts = [Branch(6, "relu"), Branch(6, "tanh"), Branch(6)]

    def call(self, x):
        return sum(part(x) for part in self.parts)


class Swish(layers.Layer):
    """Its activation is a method, with a weight of its own."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(6)
        self.activation = self.swish

    def build(self, shape):
        self.dense.build(shape)
        self.beta = self.add_weight(shape=(), initializer="ones")

    def swish(self, x):
        return x * ops.sigmoid(self.beta * x)

    def call(self, x):
        return self.activation(self.dense(x))


@pytest.mark.parametrize("make", [Three, Swish])
def test_activations_of_layers_of_ones_own_are_their_own(make):
    inputs = keras.Input((6,))
    model = keras.Model(inputs, layers.Dense(2)(make(name="own")(inputs)))
    wrapped = wrap(model)
    compare.assert_array_equal(wrapped(X), model(X))
    if make is Swish:
        copy = wrapped.get_layer("own").layer
        assert copy.activation.__self__ is copy


LAMBDAS = {
    "recurrent": lambda f: layers.LSTM(6, activation=f),
    "in cells": lambda f: layers.RNN(
        [layers.GRUCell(3, activation=f), layers.SimpleRNNCell(2)]
    ),
    "in time": lambda f: keras.Sequential(
        [layers.TimeDistributed(layers.Dense(3, f)), layers.Flatten()]
    ),
}


@pytest.mark.parametrize("make", LAMBDAS.values(), ids=LAMBDAS)
def test_functions_without_a_name_deep_inside(make):
    inputs = keras.Input((2, 3))
    layer = make(lambda x: ops.tanh(2.0 * x))
    model = keras.Model(inputs, layers.Dense(2)(layer(inputs)))
    x = X.reshape(-1, 2, 3)
    wrapped = wrap(model)
    compare.assert_array_equal(wrapped(x), model(x))
    compare.assert_array_equal(strip(wrapped)(x), model(x))


def test_what_keras_can_not_write_in_a_configuration():
    class Choosing(layers.Layer):
        def get_config(self):
            return {**super().get_config(), "among": {1, 2}}

        def __init__(self, among=(), **kwargs):
            super().__init__(**kwargs)

        def call(self, x):
            return 2.0 * x

    class Chooses(keras.Model):
        def __init__(self):
            super().__init__()
            self.first, self.out = Choosing(), layers.Dense(2)
            self.drop = layers.Dropout(0.5)

        def call(self, x, training=None):
            return self.out(self.drop(self.first(x), training=training))

    model = Chooses()
    model(X)
    model.drop.rate = 0.0
    wrapped = wrap(model)
    assert wrapped.drop.rate == 0.0
    compare.assert_array_equal(wrapped(X), model(X))

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

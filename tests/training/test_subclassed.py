"""Wrap and strip where a class makes its own layers: subclassed and functional ones."""

import functools
from typing import NamedTuple

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_pdp import (
    PDPCallback,
    PDPWrapper,
    pruned_layers,
    shrink,
    sparsity_report,
    strip,
    to_tflite,
    wrap,
)
from keras_pdp.training.surgery import named_wrappers
from tests import compare

RNG = np.random.default_rng(0)
X = RNG.normal(size=(32, 6)).astype("float32")
Y = RNG.normal(size=(32, 1)).astype("float32")


class Chain(keras.Model):
    """Layers in attributes, in the plainest form."""

    def __init__(self):
        super().__init__()
        self.hidden = layers.Dense(8, activation="relu")
        self.drop = layers.Dropout(0.2, seed=1)
        self.out = layers.Dense(1)

    def call(self, inputs, training=None):
        return self.out(self.drop(self.hidden(inputs), training=training))


class Held(keras.Model):
    """Layers in a list, a dictionary and a tuple; a variable of the model's own."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.blocks = []
        for _ in range(2):
            self.blocks.append(layers.Dense(units, activation="relu"))
        self.heads = {"a": layers.Dense(1), "deep": [layers.Dense(2)]}
        self.pair = (layers.BatchNormalization(), layers.Dense(4))
        self.gain = self.add_weight(shape=(), initializer="ones", name="gain")

    def get_config(self):
        return {**super().get_config(), "units": self.units}

    def call(self, inputs, training=None):
        for block in self.blocks:
            inputs = block(inputs)
        norm, dense = self.pair
        x = dense(norm(inputs, training=training))
        deep = ops.sum(self.heads["deep"][0](x), -1, keepdims=True)
        return self.gain * self.heads["a"](x) + deep


class Nested(keras.Model):
    """A subclassed model, a Sequential one and a user's block inside."""

    def __init__(self):
        super().__init__()
        self.inner = Chain()
        self.encoder = keras.Sequential(
            [layers.Dense(5, name="enc"), layers.Dense(6, name="dec")], name="encoder"
        )
        self.block = Block(4)

    def call(self, inputs, training=None):
        x = self.block(self.encoder(inputs))
        return self.inner(inputs, training=training) + ops.mean(x, -1, keepdims=True)


class Block(layers.Layer):
    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.dense = layers.Dense(units)

    def build(self, input_shape):
        self.dense.build(input_shape)

    def call(self, inputs):
        return 2.0 * self.dense(inputs)


class Shared(keras.Model):
    """One layer under two names."""

    def __init__(self):
        super().__init__()
        self.tower = self.alias = layers.Dense(6, activation="relu")
        self.out = layers.Dense(1)

    def call(self, inputs):
        return self.out(self.alias(self.tower(inputs)))


class OwnBuild(keras.Model):
    """Builds its layers by hand, and computes with a width of its own."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(1)

    def build(self, input_shape):
        self.dense.build(input_shape)
        self.shift = self.add_weight(shape=(input_shape[-1],), name="shift")

    def call(self, inputs):
        return self.dense(inputs + self.shift)


class Wide(keras.Model):
    """A functional model with a constructor of its own."""

    def __init__(self, units, **kwargs):
        inputs = keras.Input((6,))
        hidden = layers.Dense(units, activation="relu", name="hidden")
        outputs = layers.Dense(1, name="out")(hidden(inputs))
        super().__init__(inputs, outputs, **kwargs)
        self.units = units
        self.hidden = hidden
        self.tracker = keras.metrics.Mean(name="tracked")

    def get_config(self):
        return {"name": self.name, "units": self.units}

    def compute_loss(self, *args, **kwargs):
        self.tracker.update_state(2.0)
        return super().compute_loss(*args, **kwargs)


class Beside(keras.Model):
    """A functional one that trains a second head, which is not in its graph."""

    def __init__(self, units):
        inputs = keras.Input((6,))
        outputs = layers.Dense(1, name="out")(layers.Dense(units, "relu")(inputs))
        super().__init__(inputs, outputs)
        self.units = units
        self.heads = {"second": layers.Dense(1, name="second")}
        self.heads["second"].build((None, 6))

    def get_config(self):
        return {"units": self.units}

    def compute_loss(self, x=None, y=None, y_pred=None, *args, **kwargs):
        second = ops.mean(ops.square(self.heads["second"](x) - y))
        return super().compute_loss(x, y, y_pred, *args, **kwargs) + second


class AsItComes(keras.Model):
    """A functional one whose constructor takes the graph, as that of Keras does."""

    def __init__(self, *args, temperature=1.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.temperature = temperature
        self.projector = layers.Dense(3, name="projector")
        self.projector.build((None, 6))

    def compute_loss(self, x=None, y=None, y_pred=None, *args, **kwargs):
        aside = ops.mean(ops.square(self.projector(x))) / self.temperature
        return super().compute_loss(x, y, y_pred, *args, **kwargs) + aside


def as_it_comes():
    inputs = keras.Input((6,))
    hidden = layers.Dense(8, "relu", name="hidden")(inputs)
    outputs = layers.Dense(1, name="out")(hidden)
    return AsItComes(inputs, outputs, temperature=4.0)


class Doubled(keras.Model):
    """A functional one that computes more than its graph, by a plain signature."""

    def __init__(self, units=8):
        inputs = keras.Input((6,))
        super().__init__(inputs, layers.Dense(1)(layers.Dense(units)(inputs)))
        self.units = units

    def get_config(self):
        return {"units": self.units}

    def call(self, inputs):
        return 2.0 * super().call(inputs)


class NoConfig(keras.Model):
    """Keras notes the arguments of a class that tells no configuration."""

    def __init__(self, units=4, **kwargs):
        super().__init__(**kwargs)
        self.hidden, self.out = layers.Dense(units, "relu"), layers.Dense(1)

    def call(self, inputs):
        return self.out(self.hidden(inputs))


class ChainInGraph(keras.Model):
    """A subclassed model in a graph in a subclassed model."""

    def __init__(self):
        super().__init__()
        self.body = keras.Sequential([Chain(), layers.Dense(1, name="top")])

    def call(self, inputs):
        return self.body(inputs)


class Unnamed(keras.Model):
    """In graphs, layers whose names Keras counts up from one instance to the next."""

    def __init__(self):
        super().__init__()
        self.encoder = keras.Sequential([layers.Dense(8, "relu"), layers.Dense(6)])
        self.branches = UnnamedGraph()

    def call(self, inputs):
        return self.branches(self.encoder(inputs))


class UnnamedGraph(keras.Model):
    def __init__(self):
        inputs = keras.Input((6,))
        left, right = layers.Dense(4)(inputs), layers.Dense(4, "tanh")(inputs)
        both = layers.Multiply()([layers.Dense(4)(right), left])
        super().__init__(inputs, layers.Dense(1)(both))

    def get_config(self):
        return {}


def functional_in_functional():
    inputs = keras.Input((6,))
    return keras.Model(
        inputs,
        layers.Dense(1, name="top")(layers.Concatenate()([Wide(8)(inputs), inputs])),
    )


def built(model):
    model(X)
    return model


MODELS = {
    "attributes": lambda: built(Chain()),
    "containers": lambda: built(Held(8, name="held")),
    "nested": lambda: built(Nested()),
    "shared": lambda: built(Shared()),
    "own build": lambda: built(OwnBuild()),
    "functional": lambda: Wide(8),
    "beside the graph": lambda: Beside(8),
    "graph as an argument": as_it_comes,
    "own call": Doubled,
    "no configuration": lambda: built(NoConfig()),
    "chain in a graph": lambda: built(ChainInGraph()),
    "unnamed": lambda: built(Unnamed()),
    "unnamed graph": UnnamedGraph,
    "functional in functional": functional_in_functional,
}
CLASSES = {c.__name__: c for c in (Chain, Held, Nested, Shared, OwnBuild, Wide)}
CLASSES |= {c.__name__: c for c in (Block, Beside, Unnamed, UnnamedGraph, AsItComes)}
CLASSES |= {c.__name__: c for c in (Doubled, NoConfig, ChainInGraph)}
every_model = pytest.mark.parametrize("name", MODELS)


def weights_by_path(model):
    return [(v.path.split("/")[-1], v.numpy()) for v in model.variables]


def assert_same_weights(one, other):
    for (name, a), (other_name, b) in zip(
        weights_by_path(one), weights_by_path(other), strict=True
    ):
        assert name == other_name
        compare.assert_array_equal(a, b)


@every_model
def test_strip_of_wrap_is_the_model(name):
    model = MODELS[name]()
    for variable in model.trainable_variables:
        variable.assign(RNG.normal(size=variable.shape))
    before = weights_by_path(model)
    wrapped = wrap(model)
    compare.assert_array_equal(wrapped(X), model(X))
    assert isinstance(wrapped, type(model))
    # Nothing missing, nothing twice, and only the masks' state more.
    kernels = [k for w in pruned_layers(wrapped) for k in w.kernels]
    state = 5 * len(kernels) + len(pruned_layers(wrapped))
    assert len({id(v) for v in wrapped.variables}) == len(wrapped.variables)
    assert len(wrapped.variables) == len(model.variables) + state
    assert len(wrapped.trainable_variables) == len(model.trainable_variables)

    with pytest.warns(UserWarning, match="has not been pruned yet"):
        stripped = strip(wrapped)
    assert type(stripped) is type(model)
    assert stripped.name == model.name
    assert_same_weights(stripped, model)
    compare.assert_array_equal(stripped(X), model(X))
    for (_, then), (_, now) in zip(before, weights_by_path(model), strict=True):
        compare.assert_array_equal(now, then)  # the argument is not touched
    ours = {id(v) for v in model.variables}
    assert not ours & {id(v) for v in (*wrapped.variables, *stripped.variables)}


@every_model
def test_it_trains_is_saved_and_strips(name, tmp_path):
    wrapped = wrap(MODELS[name]())
    wrapped.compile("adam", "mse")
    wrapped.fit(X, Y, epochs=3, verbose=0, callbacks=[PDPCallback(0.5)])
    assert sparsity_report(wrapped).sparsity == pytest.approx(0.5, abs=0.02)
    # Called as it is: grappler fuses sums otherwise in graphs that differ.
    expected = wrapped(X)
    path = tmp_path / "wrapped.keras"
    wrapped.save(path)
    with keras.saving.custom_object_scope(CLASSES):
        again = keras.models.load_model(path)
    assert type(again).__mro__[-4:] == type(wrapped).__mro__[-4:]
    compare.assert_array_equal(again(X), expected)
    assert sparsity_report(again).zeros == sparsity_report(wrapped).zeros
    again.fit(X, Y, epochs=1, verbose=0, callbacks=[PDPCallback(0.5)])

    weights = tmp_path / "wrapped.weights.h5"
    wrapped.save_weights(weights)
    fresh = wrap(MODELS[name]())
    fresh.load_weights(weights)
    compare.assert_array_equal(fresh(X), expected)

    stripped = strip(wrapped)
    compare.assert_array_equal(stripped(X), expected)
    assert sparsity_report(stripped).zeros == sparsity_report(wrapped).zeros


@pytest.mark.parametrize("name", ["attributes", "containers", "nested"])
@pytest.mark.tensorflow("it writes a .tflite file")
def test_it_is_exported_wrapped_and_stripped(name, tmp_path):
    wrapped = wrap(MODELS[name]())
    wrapped.compile("adam", "mse")
    wrapped.fit(X, Y, epochs=2, verbose=0, callbacks=[PDPCallback(0.5)])
    stripped = strip(wrapped)
    expected = stripped.predict(X, verbose=0)
    for number, model in enumerate((wrapped, stripped)):
        to_tflite(model, tmp_path / "model.tflite", samples=X)  # compares outputs
        folder = tmp_path / f"saved{number}"
        model.export(folder, verbose=False)
        served = keras.layers.TFSMLayer(folder, call_endpoint="serve")(X)
        compare.assert_allclose(served, expected, rtol=1e-5, atol=1e-6)


def test_layers_are_named_by_where_they_are():
    names = list(named_wrappers(wrap(built(Nested()))))
    assert [name.split("/")[0] for name in names].count("encoder") == 2
    assert "encoder/enc" in names


def test_what_was_set_after_construction_is_copied():
    class Scaled(Chain):
        scale = 1.0

        def call(self, inputs, training=None):
            return self.scale * super().call(inputs, training=training)

    model = built(Scaled())
    model.scale = 3.0
    model.hidden.trainable = False
    wrapped = wrap(model)
    compare.assert_array_equal(wrapped(X), model(X))
    assert len(wrapped.trainable_variables) == 2
    model.trainable = False
    assert wrap(model).trainable_variables == []


def test_methods_and_metrics_of_the_class_stay():
    model = Wide(8)
    wrapped = wrap(model)
    wrapped.compile("sgd", "mse")
    history = wrapped.fit(X, Y, verbose=0, callbacks=[PDPCallback(0.5)]).history
    assert history["tracked"] == [2.0]
    assert isinstance(wrapped.hidden, PDPWrapper) and wrapped.hidden in wrapped.layers
    assert wrapped.tracker is not model.tracker
    assert strip(wrapped).hidden.get_config() == model.hidden.get_config()


class WithParts(keras.Model):
    """A functional one that also holds a part of its graph, and state of its own."""

    def __init__(self, units=8):
        inputs = keras.Input((6,))
        hidden = layers.Dense(units, name="hidden")(inputs)
        super().__init__(inputs, layers.Dense(1, name="out")(hidden))
        self.features = keras.Model(inputs, hidden)
        self.gain = self.add_weight(shape=(), initializer="ones", name="gain")
        self.random = keras.random.SeedGenerator(3)
        self.units = units

    def get_config(self):
        return {"units": self.units}

    def call(self, inputs, **kwargs):
        return self.gain * super().call(inputs, **kwargs)


def test_what_a_functional_class_holds_is_copied_and_stays_tied(tmp_path):
    model = WithParts()
    model.compile("adam", "mse")
    model.fit(X, Y, verbose=0)
    model.gain.assign(2.0)
    inputs = keras.Input((6,))
    for original in (model, keras.Model(inputs, model(inputs))):
        wrapped = wrap(original)
        compare.assert_array_equal(wrapped(X), model(X))
        ours = {id(v) for v in (*model.variables, *model.optimizer.variables)}
        assert not ours & {id(v) for v in wrapped.variables}
        copy = next(x for x in (wrapped, *wrapped.layers) if isinstance(x, WithParts))
        assert getattr(copy, "optimizer", None) is not model.optimizer
        assert float(copy.gain.numpy()) == 2.0
        # Two kernels, and not those of `features` once more.
        assert len(pruned_layers(wrapped)) == 2
        copy.get_layer("hidden").layer.kernel.assign(np.zeros((6, 8)))
        bias = copy.get_layer("hidden").layer.bias
        compare.assert_array_equal(copy.features(X)[0], bias)
    with pytest.warns(UserWarning, match="is stripped at"):
        stripped = strip(wrap(model))
    assert type(stripped) is WithParts
    compare.assert_array_equal(stripped.features(X), model.features(X))


class Wrapped(keras.Model):
    """Brings its wrappers along."""

    def __init__(self):
        super().__init__()
        self.blocks = [PDPWrapper(layers.Dense(8, activation="relu"))]
        self.holder = Holder()

    def call(self, inputs, training=None):
        for block in self.blocks:
            inputs = block(inputs, training=training)
        return self.holder(inputs, training=training)


class Holder(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = PDPWrapper(layers.Dense(1))

    def build(self, input_shape):
        self.inner.build(input_shape)

    def call(self, inputs, training=None):
        return self.inner(inputs, training=training)


def in_a_functional_model():
    inputs = keras.Input((6,))
    return keras.Model(inputs, Holder(name="holder")(inputs))


@pytest.mark.parametrize("make", [lambda: built(Wrapped()), in_a_functional_model])
def test_wrappers_of_the_definition_are_found_and_stripped(make, tmp_path):
    model = make()
    model.compile("sgd", "mse")
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[PDPCallback(0.5)])
    assert sparsity_report(model).sparsity == pytest.approx(0.5, abs=0.05)
    stripped = strip(model)
    assert pruned_layers(stripped) == []
    compare.assert_array_equal(
        stripped.predict(X, verbose=0), model.predict(X, verbose=0)
    )
    # Its class would make wrappers again; the file says that there are none.
    stripped.save(tmp_path / "stripped.keras")
    with keras.saving.custom_object_scope({"Wrapped": Wrapped, "Holder": Holder}):
        again = keras.models.load_model(tmp_path / "stripped.keras")
    assert pruned_layers(again) == []
    compare.assert_array_equal(again.predict(X, verbose=0), model.predict(X, verbose=0))


class Closure(keras.Model):
    """Calls its layer by a function that holds it."""

    def __init__(self):
        super().__init__()
        dense = self.dense = layers.Dense(1)
        self.run = lambda x: dense(x)

    def call(self, inputs):
        return self.run(inputs)


class ReadsTheKernel(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(6)

    def call(self, inputs):
        return self.dense(inputs) @ ops.transpose(self.dense.kernel)


class InASet(keras.Model):
    def __init__(self):
        super().__init__()
        self.all = {layers.Dense(1)}

    def call(self, inputs):
        for layer in self.all:
            inputs = layer(inputs)
        return inputs


class TakesAModel(keras.Model):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, inputs):
        return self.inner(inputs)


class BuiltInInit(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(1)
        self(ops.zeros((1, 6)))

    def call(self, inputs):
        return self.dense(inputs)


class AsksForTheClass(keras.Model):
    def __init__(self):
        super().__init__()
        self.all = [layers.Dense(4), layers.Dense(1)]

    def call(self, inputs):
        for layer in self.all:
            inputs = layer(inputs)
            if isinstance(layer, layers.Dense):
                inputs = ops.relu(inputs) + 1.0
        return inputs


class TakesTwo(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(1)

    def call(self, inputs, others):
        return self.dense(inputs + others)


def takes_two():
    model = TakesTwo()
    model(X, X)
    return model


class MakesInBuild(keras.Model):
    def build(self, input_shape):
        self.dense = layers.Dense(1)
        self.dense.build(input_shape)

    def call(self, inputs):
        return self.dense(inputs)


def function_set_later():
    class Activated(Chain):
        function = staticmethod(ops.relu)

        def call(self, inputs, training=None):
            return self.function(super().call(inputs, training=training))

    model = Activated()
    model.function = ops.exp
    return model


@pytest.mark.parametrize(
    "make, reason",
    [
        (lambda: built(AsksForTheClass()), "other outputs.*isinstance.*`select`"),
        (lambda: built(function_set_later()), "other outputs.*set in an attribute"),
        (takes_two, r"\['others'\] too.*one list or dictionary"),
        (lambda: built(MakesInBuild()), r"\['dense'\].*Make all.*constructor"),
        (lambda: built(Closure()), "still called from somewhere else"),
        (lambda: built(ReadsTheKernel()), "has no attribute 'kernel'.*`select`"),
        (lambda: built(InASet()), "held where it can't be replaced"),
        (lambda: built(TakesAModel(Chain())), r"define get_config\(\)"),
        (BuiltInInit, "built in its constructor"),
    ],
)
def test_what_has_no_faithful_copy_is_refused_with_the_reason(make, reason):
    model = make()
    inputs = (X, X) if isinstance(model, TakesTwo) else (X,)
    before = model(*inputs)
    with pytest.raises(ValueError, match=rf"(?s)No faithful copy of .*{reason}"):
        wrap(model)
    compare.assert_array_equal(model(*inputs), before)


class Demanding(keras.Model):
    """Has to be told whether it trains; scales by constants; has noise of its own."""

    def __init__(self):
        super().__init__()
        self.scale = layers.Normalization(mean=np.arange(6.0), variance=np.ones(6))
        self.dense, self.norm = layers.Dense(3), layers.BatchNormalization()
        self.random = keras.random.SeedGenerator(1)

    def call(self, inputs, training):
        x = self.norm(self.dense(self.scale(inputs)), training=training)
        return x + keras.random.normal(ops.shape(x), seed=self.random)


@pytest.mark.filterwarnings("ignore:.* is stripped at")
def test_what_is_asked_of_the_copy_leaves_no_trace():
    model = Demanding()
    model.scale.build((None, 6))
    model(X, training=False)
    state = [v.numpy() for v in model.variables]
    wrapped = wrap(model)
    stripped = strip(wrapped)
    expected = model(X, training=False)
    for copy in (wrapped, stripped):
        compare.assert_array_equal(copy(X, training=False), expected)
    for then, now in zip(state, model.variables, strict=True):
        if now.path != model.random.state.path:
            compare.assert_array_equal(then, now)


def test_a_layer_whose_kernel_is_read_can_be_left_out():
    class Tied(ReadsTheKernel):
        def __init__(self):
            super().__init__()
            self.out = layers.Dense(1)

        def call(self, inputs):
            return self.out(super().call(inputs))

    model = built(Tied())
    wrapped = wrap(model, select=lambda layer: layer is model.out)
    assert len(pruned_layers(wrapped)) == 1
    compare.assert_array_equal(wrapped(X), model(X))


@pytest.mark.tensorflow("its training step is one of TensorFlow's")
def test_two_models_with_an_optimizer_each():
    """A GAN: `call` is not defined, and each part has its optimizer."""

    class Adversaries(keras.Model):
        def __init__(self, generator, critic):
            super().__init__()
            self.generator, self.critic = generator, critic

        def compile(self, first, second):
            super().compile(optimizer=first, loss="mse")
            self.first, self.second = first, second

        def train_step(self, data):
            x, y = keras.utils.unpack_x_y_sample_weight(data)[:2]
            self.first.apply(
                [
                    ops.ones_like(v)
                    * ops.mean(self.critic(self.generator(x, training=True)))
                    for v in self.generator.trainable_variables
                ],
                self.generator.trainable_variables,
            )
            self.second.apply(
                [
                    ops.ones_like(v) * ops.mean(self.critic(x, training=True))
                    for v in self.critic.trainable_variables
                ],
                self.critic.trainable_variables,
            )
            return {"loss": ops.mean(y)}

    def part():
        return keras.Sequential(
            [keras.Input((6,)), layers.Dense(6, activation="relu"), layers.Dense(6)]
        )

    model = Adversaries(wrap(part()), wrap(part()))
    model.compile(keras.optimizers.Adam(0.01), keras.optimizers.SGD(0.01))
    model.fit(X, Y, epochs=3, verbose=0, callbacks=[PDPCallback(0.7)])
    assert model.first.iterations == model.second.iterations == 3
    zeros = 0
    for each in (model.generator, model.critic):
        plain = strip(each)
        zeros += sparsity_report(plain).zeros
        compare.assert_array_equal(
            plain.predict(X, verbose=0), each.predict(X, verbose=0)
        )
    assert zeros == round(0.7 * 144)  # one budget over both


def test_what_is_beside_a_graph_is_pruned_with_the_budget():
    for model in (Beside(8), as_it_comes()):
        wrapped = wrap(model)
        assert len(pruned_layers(wrapped)) == 3
        wrapped.compile("adam", "mse")
        wrapped.fit(X, Y, epochs=3, verbose=0, callbacks=[PDPCallback(0.5)])
        kernels = [w.layer.kernel for w in pruned_layers(strip(wrapped))]
        assert kernels == []
        report = sparsity_report(wrapped)
        assert report.zeros == round(0.5 * sum(t.size for t in report.tensors))


def test_what_a_class_keeps_beside_a_graph_that_it_is_given_is_copied():
    model = as_it_comes()
    model.alpha = 0.5
    for copy in (wrap(model), strip(wrap(model))):
        assert (copy.temperature, copy.alpha) == (4.0, 0.5)
        layer = getattr(copy.projector, "layer", copy.projector)
        compare.assert_array_equal(layer.kernel, model.projector.kernel)
        assert layer is not model.projector
        assert len(copy.trainable_variables) == len(model.trainable_variables)


def test_data_that_a_user_put_into_a_plain_model_is_copied():
    inputs = keras.Input((6,))
    graph = keras.Model(inputs, layers.Dense(1)(inputs))
    for model in (graph, keras.Sequential([inputs, layers.Dense(1)])):
        model.classes = ["yes", "no"]
        wrapped = wrap(model)
        assert wrapped.classes == model.classes
        assert wrapped.classes is not model.classes


def test_arguments_that_keras_has_noted_stay(tmp_path):
    wrapped = wrap(built(NoConfig()))
    wrapped.compile("adam", "mse")
    wrapped.fit(X, Y, epochs=2, verbose=0, callbacks=[PDPCallback(0.5)])
    stripped = strip(wrap(strip(wrapped)))
    assert stripped.get_config()["units"] == 4
    stripped.save(tmp_path / "stripped.keras")
    with keras.saving.custom_object_scope(CLASSES):
        again = keras.models.load_model(tmp_path / "stripped.keras")
    compare.assert_array_equal(again(X), stripped(X))


def test_arguments_that_keras_has_noted_wrongly():
    """Of a model's class without `get_config` it notes the defaults, not what is given.

    So in Keras 3.15, which can't load a file of such a model. The layers are those of
    the model all the same.
    """
    model = built(NoConfig(16))
    assert model.get_config()["units"] == 4
    wrapped = wrap(model)
    compare.assert_array_equal(wrapped(X), model(X))
    compare.assert_array_equal(strip(wrapped)(X), model(X))


def test_regularizers_and_constraints_of_own_variables_stay():
    class Gained(Doubled):
        def __init__(self, units=8):
            super().__init__(units)
            self.gain = self.add_weight(
                shape=(), initializer="ones", regularizer="l2", constraint="non_neg"
            )

    model = Gained()
    for copy in (wrap(model), strip(wrap(model))):
        assert isinstance(copy.gain.regularizer, keras.regularizers.L2)
        assert isinstance(copy.gain.constraint, keras.constraints.NonNeg)
        compare.assert_array_equal(copy.losses[0], model.losses[0])


def test_a_metric_that_takes_no_dtype():
    class Halves(keras.metrics.Metric):
        def __init__(self, name="halves"):
            super().__init__(name=name)
            self.count = self.add_variable((), "zeros", name="count")

        def update_state(self, *args, **kwargs):
            self.count.assign_add(0.5)

        def result(self):
            return self.count.value

    model = Wide(8)
    model.tracker = Halves()
    assert isinstance(wrap(model).tracker, Halves)


class Pair(NamedTuple):
    one: layers.Layer
    two: layers.Layer


def dense():
    layer = layers.Dense(6)
    layer.build((None, 6))
    return layer


def test_layers_in_tuples_beside_a_graph_are_copied():
    model = as_it_comes()
    model.tuple, model.pair = (dense(), dense()), Pair(dense(), dense())
    wrapped = wrap(model)
    assert len(pruned_layers(wrapped)) == 7
    assert isinstance(wrapped.pair.two, PDPWrapper)
    ours = {id(v) for v in model.variables}
    assert not ours & {id(v) for v in wrapped.variables}


class Keeper:
    def __init__(self, layer):
        self.layer = layer


def compiled_call(layer):
    """As `tf.function` and its like are: an object that knows what it was made of."""
    made = Keeper(None)
    made.python_function = layer.call
    return made


OUT_OF_REACH = {
    "a set": lambda layer: {layer},
    "a function": lambda layer: lambda x: layer(x),
    "an object": Keeper,
    "a list in an object": lambda layer: Keeper([layer]),
    "a partial": functools.partial,
    "a compiled function": lambda layer: compiled_call(layer),
}


@pytest.mark.parametrize("make", OUT_OF_REACH.values(), ids=OUT_OF_REACH)
def test_what_would_go_on_with_the_first_layers_is_refused(make):
    model = as_it_comes()
    model.held = make(model.projector)
    with pytest.raises(ValueError, match="'held' holds layers"):
        wrap(model)


def test_what_computes_with_other_layers_is_shared():
    """A loss with a net of its own, which nobody prunes."""
    model = as_it_comes()
    model.perceptual = Keeper(dense())
    assert wrap(model).perceptual is model.perceptual


def test_a_method_in_an_attribute_is_that_of_the_copy():
    model = as_it_comes()
    model.own = model.compute_loss
    wrapped = wrap(model)
    assert wrapped.own.__self__ is wrapped


def test_a_configuration_that_asks_a_layer():
    class Asks(Wide):
        def get_config(self):
            return {"units": self.hidden.units}

    model = Asks(8)
    wrapped = wrap(model)
    compare.assert_array_equal(wrapped(X), model(X))
    assert type(strip(wrapped)) is Asks


class Head(layers.Layer):
    """Built by being called, as most are."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.one, self.two = layers.Dense(4), layers.Dense(1)

    def call(self, x):
        return self.two(self.one(x))


def test_a_block_beside_a_graph_that_was_built_by_a_call():
    model = as_it_comes()
    model.head = Head()
    model.head(X)
    for copy in (wrap(model), strip(wrap(model))):
        compare.assert_array_equal(copy.head(X), model.head(X))


def test_what_is_not_built_beside_a_graph_is_named():
    model = as_it_comes()
    model.late = layers.Dense(3, name="late")
    with pytest.warns(UserWarning, match="late: it is not built"):
        wrap(model)


def test_settings_that_keras_keeps_stay():
    model = as_it_comes()
    model.supports_jit = False
    assert not wrap(model).supports_jit


def test_a_copy_by_the_constructor_is_refused_where_it_would_lose_layers():
    with pytest.raises(ValueError, match="beside its graph"):
        shrink(strip(wrap(as_it_comes())))
    inputs = keras.Input((6,))
    model = Plain(inputs, layers.Dense(1)(layers.Dense(8)(inputs)), factor=3.0)
    small = shrink(model)
    assert type(small) is Plain and small.factor == 3.0


class Plain(keras.Model):
    def __init__(self, *args, factor=1.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.factor = factor


@pytest.mark.tensorflow("it writes a .tflite file")
def test_the_precision_of_what_is_beside_a_graph_is_no_matter(tmp_path):
    model = as_it_comes()
    model.teacher = layers.Dense(3, dtype="mixed_float16")
    model.teacher.build((None, 6))
    to_tflite(model, tmp_path / "model.tflite", samples=X)

"""Model in, model out: wrap and strip over graphs of every form."""

import json

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_pdp import (
    Block,
    Channel,
    NofM,
    PDPCallback,
    PDPWrapper,
    Unstructured,
    pruned_layers,
    register_prunable,
    sparsity_report,
    strip,
    wrap,
)
from keras_pdp.training.surgery import named_wrappers
from tests.compare import outputs

RNG = np.random.default_rng(0)


def sequential():
    return keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(6, activation="softmax"),
            layers.Dropout(0.3),
            layers.Dense(2),
        ]
    )


def residual():
    inputs = keras.Input((6, 6, 4))
    x = layers.Conv2D(4, 3, padding="same", activation="relu")(inputs)
    x = layers.BatchNormalization()(x)
    x = layers.Add()([x, inputs])
    x = layers.Concatenate()([x, layers.DepthwiseConv2D(3, padding="same")(x)])
    x = layers.AveragePooling2D(2)(x)
    return keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))


def raw_operations():
    inputs = keras.Input((8,))
    x = layers.Dense(6)(inputs)
    x = ops.relu(x) * 2.0 + x[:, :1]
    return keras.Model(inputs, layers.Dense(2, activation="gelu")(ops.tanh(x)))


def shared():
    a, b = keras.Input((8,), name="a"), keras.Input((8,), name="b")
    tower = layers.Dense(6, activation="relu", name="tower")
    both = layers.Concatenate()([tower(b), tower(a)])
    return keras.Model(
        {"a": a, "b": b}, {"one": layers.Dense(2)(both), "two": layers.Dense(1)(both)}
    )


def nested():
    trunk = keras.Sequential(
        [keras.Input((8,)), layers.Dense(6, name="dense")], name="trunk"
    )
    inner_input = keras.Input((6,))
    inner = keras.Model(
        inner_input, layers.Dense(4, name="dense")(inner_input), name="inner"
    )
    inputs = keras.Input((8,))
    return keras.Model(inputs, layers.Dense(2, name="dense")(inner(trunk(inputs))))


def shared_by_graphs():
    """One layer in two nested models, and around them."""
    layer = layers.Dense(6, name="dense")

    def part(name, activation):
        inputs = keras.Input((6,))
        outputs = layers.Activation(activation)(layer(layer(inputs)))
        return keras.Model(inputs, outputs, name=name)

    inputs = keras.Input((6,))
    hidden = part("one", "relu")(layer(inputs))
    return keras.Model(inputs, [part("two", "tanh")(hidden), layer(hidden)])


def part_as_a_layer():
    inputs = keras.Input((8,))
    hidden = layers.Dense(4, name="hidden")(inputs)
    encoder = keras.Model(inputs, hidden, name="encoder")
    return keras.Model(inputs, layers.Multiply()([hidden, encoder(2.0 * inputs)]))


def frozen_backbone():
    model = nested()
    model.get_layer("trunk").trainable = False
    return model


def attention():
    inputs = keras.Input((5,), dtype="int32")
    x = layers.Embedding(11, 8, mask_zero=True)(inputs)
    x = layers.LayerNormalization()(
        x + layers.MultiHeadAttention(2, 4)(x, x, use_causal_mask=True)
    )
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


def augmented():
    inputs = keras.Input((6, 6, 3))
    x = layers.Rescaling(1 / 255)(layers.RandomFlip(seed=1)(inputs))
    x = layers.GroupNormalization(1)(layers.Conv2D(4, 3)(x))
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))


@keras.saving.register_keras_serializable(package="tests")
class Unregistered(layers.Dense):
    """A user's class."""


def custom_classes():
    class Local(layers.Dense):
        """Not registered anywhere."""

    inputs = keras.Input((8,))
    x = layers.TimeDistributed(Local(3))(layers.Reshape((2, 4))(inputs))
    return keras.Model(inputs, Unregistered(2)(Local(4)(layers.Flatten()(x))))


class Nameless(layers.Layer):
    """No `get_config`: Keras saves its arguments without the name."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(units)

    def build(self, input_shape):
        self.dense.build(input_shape)

    def call(self, inputs):
        return 2.0 * self.dense(inputs)


def nameless():
    return keras.Sequential(
        [keras.Input((8,)), Nameless(4, name="mine"), layers.Dense(2)]
    )


def adapted():
    normalize = layers.Normalization()
    normalize.build((None, 8))  # or `adapt` notes the shape of its data
    normalize.adapt(5.0 * RNG.normal(size=(64, 8)) + 3.0)
    return keras.Sequential([keras.Input((8,)), normalize, layers.Dense(2)])


def with_lambda():
    factor = 3.0
    inputs = keras.Input((8,))
    x = layers.Lambda(lambda x: x * factor)(layers.Dense(4)(inputs))
    return keras.Model(inputs, layers.Dense(2)(x))


MODELS = [
    nameless,
    adapted,
    sequential,
    residual,
    raw_operations,
    shared,
    nested,
    shared_by_graphs,
    part_as_a_layer,
    frozen_backbone,
    attention,
    augmented,
    custom_classes,
]
# Saving is Keras's own affair: for classes it does not know, and for layers in several
# graphs, of which it makes several or none.
UNSAVABLE = [nameless, shared_by_graphs, part_as_a_layer]
every_model = pytest.mark.parametrize("make", MODELS, ids=lambda f: f.__name__)


def structure(model: keras.Model, side: str):
    """The nest of inputs or outputs; Sequential only has them in a list."""
    if isinstance(model, keras.Sequential):
        return getattr(model, f"{side}s")[0]
    return getattr(model, side)


def inputs_of(model: keras.Model, count: int = 16):
    def random(tensor):
        shape = (count, *tensor.shape[1:])
        if "int" in tensor.dtype:
            return RNG.integers(1, 11, shape)
        return RNG.normal(size=shape).astype("float32")

    return keras.tree.map_structure(random, structure(model, "input"))


def targets_of(model: keras.Model, count: int = 16):
    return keras.tree.map_structure(
        lambda t: RNG.normal(size=(count, t.shape[-1])).astype("float32"),
        structure(model, "output"),
    )


def assert_equal(one, other):
    keras.tree.map_structure(np.testing.assert_array_equal, one, other)


@every_model
def test_outputs_are_equal_to_the_bit_before_training(make):
    model = make()
    x = inputs_of(model)
    assert_equal(outputs(wrap(model), x), outputs(model, x))


@every_model
def test_strip_gives_the_original_back(make):
    model = make()
    stripped = strip(wrap(model))
    assert type(stripped) is type(model)
    # As JSON: Keras gives a slice's bounds back as a list where it was a tuple.
    assert json.dumps(stripped.get_config()) == json.dumps(model.get_config())
    assert [v.name for v in stripped.weights] == [v.name for v in model.weights]
    assert_equal(stripped.get_weights(), model.get_weights())
    flags = [[v.trainable for v in m.weights] for m in (stripped, model)]
    assert flags[0] == flags[1]


@every_model
def test_a_trained_model_strips_to_the_same_function(make, tmp_path):
    model = make()
    model.compile("sgd", "mse")
    before = model.get_weights()
    wrapped = wrap(model)
    x, y = inputs_of(model), targets_of(model)
    wrapped.fit(x, y, epochs=3, verbose=0, callbacks=[PDPCallback(0.7)])
    stripped = strip(wrapped)
    expected = wrapped.evaluate(x, y, verbose=0)
    # Attention's softmax is fused otherwise when kernels are tensors: the last bit.
    tolerance = 1e-6 if make is attention else 0.0
    assert stripped.evaluate(x, y, verbose=0) == pytest.approx(
        expected, rel=tolerance, abs=tolerance
    )
    keras.tree.map_structure(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance),
        stripped.predict(x, verbose=0),
        wrapped.predict(x, verbose=0),
    )
    assert_equal(model.get_weights(), before)  # the argument is not touched

    kernels = [k for w in pruned_layers(wrapped) for k in w.kernels]
    size = sum(kernel.size for kernel in kernels)
    masked = sum(int(np.sum(~kernel.mask.numpy())) for kernel in kernels)
    assert masked == round(0.7 * size)

    if make in UNSAVABLE:
        return
    path = tmp_path / "stripped.keras"
    stripped.save(path)
    custom = {"Local": type(model.layers[-2])} if make is custom_classes else None
    again = keras.models.load_model(path, custom_objects=custom)
    assert_equal(outputs(again, x), outputs(stripped, x))


@every_model
def test_wrapping_twice_wraps_once(make):
    once = wrap(make())
    twice = wrap(once)
    assert list(named_wrappers(twice)) == list(named_wrappers(once))
    assert json.dumps(twice.get_config()) == json.dumps(once.get_config())
    assert not any(isinstance(w.layer, PDPWrapper) for w in pruned_layers(twice))


def test_a_lambda_keeps_its_closure():
    model = with_lambda()
    wrapped = wrap(model)
    x = inputs_of(model)
    assert_equal(outputs(wrapped, x), outputs(model, x))
    assert_equal(outputs(strip(wrapped), x), outputs(model, x))


@pytest.mark.tensorflow("its inputs are strings")
def test_a_vocabulary_is_copied():
    text = layers.TextVectorization(output_sequence_length=3)
    text.adapt(["one two three", "two three four"])
    model = keras.Sequential(
        [
            keras.Input((1,), dtype="string"),
            text,
            layers.Embedding(8, 4),
            layers.Flatten(),
            layers.Dense(2),
        ]
    )
    x = keras.ops.convert_to_tensor([["two four"], ["three one"]], dtype="string")
    assert_equal(strip(wrap(model))(x), model(x))


def test_a_tie_that_is_lost_is_named():
    class Tied(layers.Layer):
        def __init__(self, embedding, **kwargs):
            super().__init__(**kwargs)
            self.embedding = embedding

        def build(self, input_shape):
            self.built = True

        def call(self, inputs):
            return inputs @ ops.transpose(self.embedding.embeddings)

        def get_config(self):
            config = keras.saving.serialize_keras_object(self.embedding)
            return {**super().get_config(), "embedding": config}

        @classmethod
        def from_config(cls, config):
            inner = keras.saving.deserialize_keras_object(config.pop("embedding"))
            inner.build((None,))
            return cls(inner, **config)

    inputs = keras.Input((3,), dtype="int32")
    embedding = layers.Embedding(5, 4, name="table")
    model = keras.Model(inputs, Tied(embedding, name="logits")(embedding(inputs)))
    with pytest.warns(UserWarning, match="'table' and 'logits' share"):
        wrap(model, select=lambda layer: layer is embedding)


def test_wrappers_do_not_nest():
    inner = keras.Sequential([keras.Input((8,)), PDPWrapper(layers.Dense(4))])
    with pytest.raises(ValueError, match="holds PDPWrapper layers already"):
        PDPWrapper(inner)
    assert len(pruned_layers(wrap(keras.Sequential([keras.Input((8,)), inner])))) == 1


def test_strip_works_at_any_moment():
    model = sequential()
    model.compile("sgd", "mse")
    wrapped = wrap(model)
    x, y = inputs_of(model), targets_of(model)

    class Check(keras.callbacks.Callback):
        seen: list[float] = []

        def on_train_batch_end(self, batch, logs=None):
            stripped = strip(self.model)
            assert_equal(
                stripped.predict(x, verbose=0), self.model.predict(x, verbose=0)
            )
            zeros = sum(
                int(np.sum(w == 0)) for w in stripped.get_weights() if w.ndim > 1
            )
            self.seen.append(zeros / 60)

    check = Check()
    wrapped.fit(
        x,
        y,
        batch_size=4,
        epochs=3,
        verbose=0,
        callbacks=[PDPCallback(0.8), check],
    )
    assert check.seen == sorted(check.seen)
    assert check.seen[0] == 0.0
    assert check.seen[-1] == pytest.approx(0.8)
    assert len(set(check.seen)) > 4


def test_nothing_is_shared_with_the_copy():
    model = sequential()
    wrapped = wrap(model)
    stripped = strip(wrapped)
    ids = [{id(v) for v in m.variables} for m in (model, wrapped, stripped)]
    assert not (ids[0] & ids[1]) and not (ids[1] & ids[2])
    stripped.set_weights([np.full_like(w, 5.0) for w in stripped.get_weights()])
    assert all((w != 5.0).any() for w in wrapped.layers[0].layer.get_weights()[:1])


@pytest.mark.parametrize("kind", ["two inputs", "one after the other"])
def test_a_wrapped_model_that_is_called_twice(kind):
    """Keras counts the outputs' calls of a model from 1, and those of a wrapper not."""
    given, inputs = keras.Input((4,)), [keras.Input((4,)) for _ in range(2)]
    block = keras.Model(given, layers.Dense(4, activation="tanh")(given), name="block")
    twice = PDPWrapper(block)
    if kind == "two inputs":
        model = keras.Model(inputs, [twice(each) for each in inputs])
    else:
        model = keras.Model(inputs, twice(layers.Add()([twice(inputs[0]), inputs[1]])))
    rng = np.random.default_rng(0)
    x = [rng.normal(size=(3, 4)).astype("float32") for _ in inputs]
    expected = keras.tree.flatten(model.predict(x, verbose=0))
    found = keras.tree.flatten(strip(model).predict(x, verbose=0))
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-6)


def test_shared_layers_stay_shared():
    wrapped = wrap(shared())
    assert list(named_wrappers(wrapped)) == [
        "tower",
        *list(named_wrappers(wrapped))[1:],
    ]
    tower = wrapped.get_layer("tower")
    assert sum(layer is tower for layer in wrapped.layers) == 1
    stripped = strip(wrapped)
    assert len(stripped.trainable_variables) == len(shared().trainable_variables)


def test_names_tell_nested_layers_apart():
    assert list(named_wrappers(wrap(nested()))) == [
        "trunk/dense",
        "inner/dense",
        "dense",
    ]


def test_select_chooses_layers_and_granularities():
    def select(layer):
        if isinstance(layer, layers.Conv2D):
            return Channel()
        return isinstance(layer, layers.Dense)

    found = {
        name: wrapper.granularity
        for name, wrapper in named_wrappers(wrap(residual(), select=select)).items()
    }
    # The normalisation behind pruned channels goes with them.
    assert [type(g) for g in found.values()] == [Channel, Channel, Unstructured]
    with pytest.raises(ValueError, match="no layer to prune"):
        wrap(residual(), select=lambda layer: None)
    with pytest.raises(TypeError, match="Received, for layer 'conv2d.*: 'yes'"):
        wrap(residual(), select=lambda layer: "yes")


class Mystery(layers.Layer):
    """Has a matrix that nobody declared."""

    def build(self, input_shape):
        self.form = self.add_weight(shape=(input_shape[-1], 4), name="form")

    def call(self, inputs):
        return inputs @ self.form


def mysterious():
    inputs = keras.Input((8,))
    x = Mystery(name="mystery")(inputs)
    x = layers.Dense(3)(x)
    x = layers.SpectralNormalization(layers.Dense(2), name="spectral")(x)
    return keras.Model(inputs, x)


def test_what_cannot_be_wrapped_is_named_with_its_reason():
    with pytest.warns(UserWarning, match="mystery/form: .*register_prunable") as seen:
        wrapped = wrap(mysterious())
    assert len([w for w in seen if "Not pruned" in str(w.message)]) == 1
    assert "SpectralNormalization" in str(seen[0].message)
    assert len(pruned_layers(wrapped)) == 1
    with pytest.raises(ValueError, match="Not pruned, 2 of"):
        wrap(mysterious(), strict=True)
    # Who leaves them out himself need not be told.
    only_dense = wrap(
        mysterious(), select=lambda x: isinstance(x, layers.Dense), strict=True
    )
    assert len(pruned_layers(only_dense)) == 1


def test_what_a_granularity_cannot_prune_is_named():
    inputs = keras.Input((2,))
    model = keras.Model(inputs, layers.Dense(8)(layers.Dense(8, name="thin")(inputs)))
    with pytest.warns(UserWarning, match=r"thin/kernel: NofM.*can remove nothing"):
        wrapped = wrap(model, NofM(2, 4))
    assert len(pruned_layers(wrapped)) == 1


def test_one_kernel_of_a_layer_that_cannot_be_pruned_is_named():
    inputs = keras.Input((6, 6, 8))
    thin = layers.SeparableConv2D(1, 3, name="sep")  # one output channel
    model = keras.Model(inputs, thin(inputs))
    with pytest.warns(UserWarning, match=r"1 of .*sep/pointwise_kernel: Channel"):
        wrapped = wrap(model, Channel())
    (skipped,) = sparsity_report(wrapped).skipped
    assert skipped.name == "sep/pointwise_kernel"


def test_a_pattern_leaves_depthwise_kernels_unless_they_are_asked_for():
    def separable() -> keras.Model:
        inputs = x = keras.Input((6, 6, 8))
        x = layers.DepthwiseConv2D(3, name="deep")(x)
        x = layers.Conv2D(8, 1, name="point")(x)
        return keras.Model(inputs, layers.SeparableConv2D(8, 3, name="both")(x))

    kernels = {"deep/kernel", "point/kernel", "both/depthwise_kernel"}
    kernels.add("both/pointwise_kernel")
    left = {"deep/kernel", "both/depthwise_kernel"}
    why = "Not pruned, 2 of .*deep/kernel: a pattern n:m is for matrix products"
    with pytest.warns(UserWarning, match=why) as told:
        wrapped = wrap(separable(), NofM(2, 4))
    assert "both/depthwise_kernel: a pattern" in str(told[0].message)
    assert _masked(wrapped) == kernels - left
    reasons = {s.name: s.reason for s in sparsity_report(wrapped).skipped}
    assert reasons.keys() == left
    assert all("a pattern n:m" in reason for reason in reasons.values())
    with pytest.raises(ValueError, match=why):
        wrap(separable(), NofM(2, 4), strict=True)

    # A layer's own kernel, where the layer is asked for; not what is deeper in it.
    with pytest.warns(UserWarning, match="Not pruned, 1 of .*both/depthwise_kernel"):
        asked = wrap(separable(), NofM(2, 4), select=lambda layer: True)
    assert _masked(asked) == kernels - {"both/depthwise_kernel"}
    block = PDPWrapper(separable(), NofM(2, 4))
    block.build()
    assert {kernel.name for kernel in block.kernels} == kernels - left

    # The other granularities have no such reason.
    for granularity in (None, Block((1, 4))):
        assert _masked(wrap(separable(), granularity, strict=True)) == kernels


def _masked(model: keras.Model) -> set[str]:
    named = ((w.name, k.name) for w in pruned_layers(model) for k in w.kernels)
    return {"/".join(names) for names in named}


def test_biases_of_two_axes_are_no_kernels():
    inputs = keras.Input((6, 8))
    attention = layers.MultiHeadAttention(2, 4)(inputs, inputs)
    outputs = layers.GRU(4)(attention)
    wrapped = wrap(keras.Model(inputs, outputs), strict=True)
    assert sparsity_report(wrapped).skipped == ()


def test_a_frozen_layer_can_be_unfrozen_after_wrap():
    model = keras.Sequential(
        [keras.Input((8,)), layers.Dense(4, name="a"), layers.Dense(4, name="b")]
    )
    model.get_layer("a").trainable = False
    wrapped = wrap(model)
    assert not wrapped.get_layer("a").trainable
    assert len(wrapped.trainable_variables) == 2
    wrapped.get_layer("a").trainable = True
    assert len(wrapped.trainable_variables) == 4


@pytest.mark.filterwarnings("ignore:Layer InputLayer does not have")
def test_a_kernel_that_was_quantized_under_its_wrapper_is_told():
    model = wrap(keras.Sequential([keras.Input((8,)), layers.Dense(8)]))
    model.quantize("int8")
    with pytest.raises(ValueError, match="was quantized.*strip\\(model\\) before"):
        strip(model)


def test_a_name_that_was_registered_and_is_not_there_is_told():
    class Misspelt(Mystery):
        pass

    register_prunable(Misspelt, ["from"])
    inputs = keras.Input((8,))
    x = layers.Dense(4)(Misspelt(name="misspelt")(inputs))
    with pytest.warns(UserWarning, match=r"misspelt/form: .* has no \['from'\]"):
        wrap(keras.Model(inputs, x))


def test_a_class_can_be_registered():
    class Known(Mystery):
        pass

    register_prunable(Known, ["form"])
    inputs = keras.Input((8,))
    wrapped = wrap(keras.Model(inputs, Known(name="known")(inputs)))
    (wrapper,) = pruned_layers(wrapped)
    assert [k.name for k in wrapper.kernels] == ["form"]


def test_a_wrapper_in_a_subclassed_model_is_found_and_pruned():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.blocks = [PDPWrapper(layers.Dense(8, activation="relu"))]
            self.head = {"out": PDPWrapper(layers.Dense(1))}

        def call(self, inputs, training=None):
            for block in self.blocks:
                inputs = block(inputs, training=training)
            return self.head["out"](inputs, training=training)

    model = Net()
    model.compile("sgd", "mse")
    x, y = RNG.normal(size=(16, 4)), RNG.normal(size=(16, 1))
    model(x)
    assert len(pruned_layers(model)) == 2
    history = model.fit(x, y, epochs=2, verbose=0, callbacks=[PDPCallback(0.5)])
    assert history.history["sparsity"][-1] == pytest.approx(0.5, abs=0.03)
    stripped = strip(model)
    assert pruned_layers(stripped) == []
    assert_equal(outputs(stripped, x), outputs(model, x))


def test_a_wrapper_inside_a_users_layer_is_not_lost_in_strip():
    @keras.saving.register_keras_serializable(package="tests")
    class Holder(layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.inner = PDPWrapper(layers.Dense(4, name="dense"))

        def build(self, input_shape):
            self.inner.build(input_shape)

        def call(self, inputs, training=None):
            return self.inner(inputs, training=training)

    inputs = keras.Input((4,))
    model = keras.Model(inputs, Holder(name="holder")(inputs))
    assert list(named_wrappers(model)) == ["holder/dense"]
    stripped = strip(model)
    assert pruned_layers(stripped) == []
    inner = model.get_layer("holder").inner.layer
    assert_equal(stripped.get_layer("holder").get_weights(), inner.get_weights())


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_strip_refuses_what_has_no_order_and_names_it(bad):
    wrapped = wrap(sequential())
    wrapper = pruned_layers(wrapped)[1]
    kernel, bias = wrapper.layer.get_weights()
    kernel[0, 0] = bad
    wrapper.layer.set_weights([kernel, bias])
    with pytest.raises(ValueError, match=f"1 of 12 weights of '.*{wrapper.name}"):
        strip(wrapped)


def test_compile_settings_are_kept_or_said_to_be_lost():
    model = sequential()
    model.compile("adam", "mae", metrics=["mse"])
    assert wrap(model).loss == "mae"

    def own_loss(y, p):
        return ops.mean(ops.abs(y - p))

    model.compile("adam", own_loss)
    with pytest.warns(UserWarning, match="compile settings"):
        assert not wrap(model).compiled

"""The graph as it is read from a configuration."""

import keras
import pytest
from keras import layers, ops

from keras_pdp.channels import cost, follow, graph


def names(found):
    return [(call.name, call.node) for call in found.calls]


def test_every_tensor_comes_before_its_readers():
    keras.backend.clear_session()
    inputs = keras.Input((4,), name="in")
    one = layers.Dense(4, name="one")
    x = one(layers.Dense(4, name="zero")(inputs))
    x = one(layers.Dense(4, name="two")(x))  # `one` is called before and after `two`
    found = graph.read(keras.Model(inputs, x))
    assert names(found) == [("zero", 0), ("one", 0), ("two", 0), ("one", 1)]
    assert [ref.name for ref in found.inputs] == ["in"]
    assert found.outputs == (graph.Ref("one", 1, 0),)


def test_calls_outside_of_the_model_do_not_count():
    keras.backend.clear_session()
    layer = layers.Dense(4, name="used")
    layer(keras.Input((4,)))
    inputs = keras.Input((4,))
    found = graph.read(keras.Model(inputs, layer(inputs)))
    assert names(found) == [("used", 0)]


def test_numbers_and_structures_stay_in_the_arguments():
    keras.backend.clear_session()
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    x = layers.Add(name="sum")([a, b])
    y = ops.multiply(2.0, x)
    model = keras.Model({"a": a, "b": b}, {"x": x, "y": y})
    found = graph.read(model)
    total, product = found.calls
    assert total.refs == [graph.Ref("a", 0, 0), graph.Ref("b", 0, 0)]
    assert product.args[0] == 2.0 and product.refs == [graph.Ref("sum", 0, 0)]
    assert {ref.name for ref in found.outputs} == {"sum", product.name}


def test_a_sequential_model_is_a_chain():
    keras.backend.clear_session()
    relu = layers.ReLU(name="relu")
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="d"), relu])
    found = graph.read(model)
    assert names(found) == [("d", 0), ("relu", 0)]
    assert found.calls[1].refs[0].shape == (None, 3)


@pytest.mark.parametrize(
    "model, answer",
    [
        (lambda: keras.Sequential([keras.Input((4,)), layers.Dense(3)]), True),
        (lambda: keras.Sequential([layers.Dense(3)]), False),
        (lambda: layers.Dense(3), False),
        (lambda: keras.Model(x := keras.Input((4,)), layers.ReLU()(x)), True),
    ],
)
def test_readable(model, answer):
    assert graph.readable(model()) is answer


# Multiply-adds that the papers state, in millions: arXiv 1704.04861, table 8;
# arXiv 1801.04381, table 4; arXiv 1512.03385, table 1 (3.8e9; the stride of Keras's
# blocks sits in another convolution, which costs as much).
@pytest.mark.parametrize(
    "name, stated", [("MobileNet", 569), ("MobileNetV2", 300), ("ResNet50", 3800)]
)
def test_macs_are_those_of_the_papers(name, stated):
    keras.backend.clear_session()
    model = getattr(keras.applications, name)(weights=None)
    trace = follow.traced(model)
    assert cost.macs(trace) / 1e6 == pytest.approx(stated, rel=0.02)
    assert cost.parameters(model, trace) == model.count_params()


@pytest.mark.parametrize("kind", ["functional", "Sequential"])
def test_a_model_for_any_size_counts_with_the_size_it_is_called_with(kind):
    def macs(size):
        stack = [layers.Conv2D(8, 3, padding="same"), layers.MaxPooling2D(2)]
        if kind == "Sequential":
            block = keras.Sequential([keras.Input((size, size, 3)), *stack])
        else:
            x = given = keras.Input((size, size, 3))
            for layer in stack:
                x = layer(x)
            block = keras.Model(given, x)
        inputs = keras.Input((32, 32, 3))
        x = layers.Conv2D(4, 3)(block(inputs))
        x = layers.Dense(10)(layers.GlobalAveragePooling2D()(x))
        return cost.macs(follow.traced(keras.Model(inputs, x)))

    own = 32 * 32 * 27 * 8 + 14 * 14 * 72 * 4 + 40
    assert macs(None) == macs(32) == own


def test_ids_in_a_model_for_any_length():
    """An operation on whole numbers, whose shape Keras finds by running it."""
    tokens = keras.Input((None,), dtype="int32")
    x = layers.Embedding(10, 6)(ops.bitwise_left_shift(tokens, tokens))
    inner = keras.Model(tokens, layers.Dense(4)(x))
    inputs = keras.Input((5,), dtype="int32")
    x = layers.Dense(3)(layers.GlobalAveragePooling1D()(inner(inputs)))
    assert cost.macs(follow.traced(keras.Model(inputs, x))) == 5 * 6 * 4 + 4 * 3


def test_a_layer_with_operations_of_its_own_comes_last():
    class Cell(layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.operations = ["add", "multiply"]

        def call(self, x):
            return 2 * x

    inputs = keras.Input((5,))
    model = keras.Model(inputs, Cell()(layers.Dense(4)(inputs)))
    assert cost.macs(follow.traced(model)) == 20

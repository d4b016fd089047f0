"""prepare_for_sparse_inference: the same function, in a shape for sparse kernels."""

import json
import warnings

import keras
import numpy as np
import pytest

from keras_pdp import (
    prepare_for_sparse_inference,
    prepare_with_report,
    sparse_inference_report,
    wrap,
)
from tests.compare import outputs
from tests.deployment.nets import SIZE, WIDTH, L, conv, images, net, pruned, residual
from tests.deployment.sparse_cases import dense_gate, dw, normalized, same_stem

# On float32 outputs: sums of the same numbers, some with zeros between them.
TOLERANCE = 1e-6


def prepared(model):
    """Prepared without a warning, which only an inexact change brings."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return prepare_with_report(model)


def difference(old, new):
    x = images(old.inputs[0].shape[1:], 8)
    expected, received = (np.array(outputs(model, x)) for model in (old, new))
    assert expected.shape == received.shape
    return np.abs(expected - received).max() / np.abs(expected).max()


def verdict_pruned(model, sparsity=0.9):
    """The verdict on the smallest weights of every dense kernel set to zero."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dense) or type(layer) is keras.layers.Conv2D:
            kernel = layer.kernel.numpy()
            cut = np.quantile(np.abs(kernel), sparsity)
            layer.kernel.assign(np.where(np.abs(kernel) <= cut, 0, kernel))
    return sparse_inference_report(model).verdict


def padded_at_the_end(**options):
    def apply(x):
        x = L.ZeroPadding2D(((0, 1), (0, 1)))(x)
        return L.DepthwiseConv2D(3, strides=2, **options)(x)

    return apply


def conv_gate(x):
    y = L.Reshape((1, 1, WIDTH))(L.GlobalAveragePooling2D()(x))
    return L.Multiply()([x, conv(activation="sigmoid")(conv(8, activation="relu")(y))])


def ended(*layers):
    body = net(dw(), head=False)
    x = body.output
    for layer in layers:
        x = layer(x)
    return keras.Model(body.inputs, x)


KEEPING = {"keepdims": True}

EXACT = {
    "padding at the end": lambda: net(padded_at_the_end()),
    "padding at the end, bias and activation": lambda: net(
        padded_at_the_end(activation="relu6", bias_initializer="ones")
    ),
    "SAME, even": lambda: net(dw(strides=2)),
    "SAME, odd and even": lambda: net(dw(strides=2), inputs=(SIZE - 2, SIZE, 3)),
    "two in a row": lambda: net(dw(strides=2), conv(), dw(strides=2)),
    "normalization behind an activation": lambda: net(normalized),
    "normalization behind a sum": lambda: net(
        residual(conv()), L.BatchNormalization(), L.ReLU()
    ),
    "gate of Dense layers": lambda: net(dense_gate),
    "gate of 1×1 on a vector": lambda: net(conv_gate),
    "head of 1×1, flat": lambda: ended(
        L.GlobalAveragePooling2D(**KEEPING), L.Dropout(0.1), conv(10), L.Flatten()
    ),
    "head of 1×1, reshaped": lambda: ended(
        L.GlobalAveragePooling2D(**KEEPING),
        conv(20, activation="relu"),
        conv(10),
        L.Reshape((10,)),
        L.Softmax(),
    ),
    "head of 1×1 that keeps its axes": lambda: ended(
        L.GlobalAveragePooling2D(**KEEPING), conv(10)
    ),
    "average pooling over all": lambda: ended(
        L.AveragePooling2D(SIZE // 2), L.Flatten(), L.Dense(10)
    ),
}


@pytest.mark.parametrize("name", EXACT)
def test_exact_rewrite(name):
    model = pruned(EXACT[name]())
    new, preparation = prepared(model)
    assert preparation.exact and preparation.changes
    assert difference(model, new) <= TOLERANCE
    assert sparse_inference_report(new).verdict == "eligible"
    assert all(change.layer in str(preparation) for change in preparation.changes)


def test_what_is_eligible_stays_as_it_is():
    model = pruned(net(dw(), L.LeakyReLU()))
    new, preparation = prepared(model)
    assert preparation.changes == () and "nothing to change" in str(preparation)
    assert new.get_config() == model.get_config()
    assert difference(model, new) == 0.0


def test_twice_is_once():
    once, _ = prepared(pruned(net(dw(strides=2), normalized, dense_gate)))
    twice, preparation = prepared(once)
    assert preparation.changes == ()
    assert twice.get_config() == once.get_config()


def test_the_stem_is_changed_loudly():
    model = pruned(net(dw(), start=same_stem()))
    with pytest.warns(UserWarning, match="another function .*conv2d.*Train it on"):
        new, preparation = prepare_with_report(model)
    assert not preparation.exact
    assert sparse_inference_report(new).verdict == "eligible"
    assert new.output_shape == model.output_shape
    assert difference(model, new) > 1e-3


def test_a_5x5_convolution_on_an_even_size_is_changed_loudly():
    model = pruned(net(dw(5, strides=2)))
    with pytest.warns(UserWarning, match="depthwise_conv2d"):
        new = prepare_for_sparse_inference(model)
    assert sparse_inference_report(new).verdict == "eligible"


def test_sizes_that_the_new_padding_changes():
    """Without padding 16 rows give 7, with symmetric zeros 8, for all that follows."""
    model = pruned(net(L.DepthwiseConv2D(3, strides=2), dw(strides=2)))
    with pytest.warns(UserWarning, match="grid shifted"):
        new, preparation = prepare_with_report(model)
    assert [change.exact for change in preparation.changes] == [False, True]
    assert sparse_inference_report(new).verdict == "eligible"
    assert np.isfinite(new.predict(images((SIZE, SIZE, 3), 2), verbose=0)).all()


MOBILE = {
    "MobileNet": (keras.applications.MobileNet, {"alpha": 0.25}, (96, 96, 3)),
    "MobileNet, headless": (
        keras.applications.MobileNet,
        {"alpha": 0.25, "include_top": False},
        (64, 64, 3),
    ),
    "MobileNetV2": (keras.applications.MobileNetV2, {"alpha": 0.35}, (64, 64, 3)),
}


@pytest.mark.parametrize("name", MOBILE)
def test_keras_applications(name):
    build, options, shape = MOBILE[name]
    model = build(weights=None, input_shape=shape, **options)
    randomized(model)
    with pytest.warns(UserWarning, match="computes another function") as caught:
        new, preparation = prepare_with_report(model)
    assert [warning.filename for warning in caught] == [__file__]
    stem = next(x.name for x in model.layers if isinstance(x, L.Conv2D))
    inexact = [change.layer for change in preparation.changes if not change.exact]
    assert inexact == [stem]
    assert new.output_shape == model.output_shape
    assert new.name == model.name
    old_names = {layer.name for layer in model.layers}
    assert old_names <= {layer.name for layer in new.layers}
    behind = (keras.Model(m.get_layer(stem).output, m.output) for m in (model, new))
    assert difference(*behind) <= TOLERANCE
    assert preparation.open_ended == (name == "MobileNet, headless")
    if preparation.open_ended:
        mean = L.GlobalAveragePooling2D()(new.output)
        new = keras.Model(new.inputs, L.Dense(4)(mean))
    assert verdict_pruned(new) == "eligible"


def randomized(model):
    """Statistics as after training; the ones and zeros of a new model hide faults."""
    generator = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, L.BatchNormalization):
            for weight in layer.weights:
                offset = 1.0 if weight.name in ("gamma", "moving_variance") else 0.0
                weight.assign(offset + generator.uniform(-0.3, 0.3, weight.shape))


def test_the_argument_stays_as_it_is_and_settings_are_kept():
    model = pruned(net(dw(strides=2, name="strided"), conv(name="wide")))
    model.get_layer("wide").trainable = False
    model.compile(keras.optimizers.SGD(0.25), "mse", metrics=["mae"])
    config, weights = model.get_config(), model.get_weights()
    new = prepare_for_sparse_inference(model)
    assert model.get_config() == config
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    assert new.compiled and float(new.optimizer.learning_rate) == 0.25
    assert not new.get_layer("wide").trainable
    assert new.get_layer("strided").kernel_size == (5, 5)
    new.fit(images((SIZE, SIZE, 3), 4), np.zeros((4, 10)), verbose=0)
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_it_trains_as_before():
    """An identity in front of a normalization changes no statistic either."""
    model = pruned(net(normalized), 0.0)
    new, _ = prepared(model)
    x = images((SIZE, SIZE, 3), 8)
    moved = []
    for each in (model, new):
        each(x, training=True)
        layer = next(x for x in each.layers if isinstance(x, L.BatchNormalization))
        moved.append(layer.moving_variance.numpy())
    np.testing.assert_allclose(*moved, rtol=1e-5)


def test_a_sequential_model():
    model = keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 3)),
            L.ZeroPadding2D(1),
            L.Conv2D(WIDTH, 3, strides=2),
            L.DepthwiseConv2D(3, strides=2, padding="same"),
            L.Conv2D(32, 1, activation="relu"),
            L.GlobalAveragePooling2D(),
            L.Dense(10),
        ]
    )
    model.compile("sgd", "mse")
    new, _ = prepared(pruned(model))
    assert new.compiled
    assert difference(model, new) <= TOLERANCE


def test_wrapping_and_saving_afterwards(tmp_path):
    new, _ = prepared(net(dw(strides=2), normalized))
    wrap(new)
    new.save(tmp_path / "model.keras")
    assert difference(new, keras.models.load_model(tmp_path / "model.keras")) == 0.0


REFUSED = {
    "max pooling": (
        lambda: net(L.MaxPooling2D(name="shrinks")),
        "MAX_POOL_2D.*shrinks",
    ),
    "3×3": (lambda: net(L.Conv2D(8, 3, padding="same")), "3×3 convolution"),
    "flatten": (
        lambda: ended(L.Flatten(), L.Dense(4)),
        "no op that turns its maps back into vectors",
    ),
    "mean that keeps its axes": (
        lambda: ended(L.GlobalAveragePooling2D(**KEEPING)),
        "gives an output of the model",
    ),
    "5×5 stem": (
        lambda: net(start=L.Conv2D(8, 5, strides=2, padding="same")),
        "5×5 convolution, so nothing starts it",
    ),
    "odd sizes": (
        lambda: net(dw(strides=2), inputs=(SIZE - 2, SIZE - 2, 3)),
        "DEPTHWISE_CONV_2D.* map of odd size.* multiples of 32",
    ),
    "1 channel": (lambda: net(inputs=(SIZE, SIZE, 1)), "nothing starts it"),
    "shared layer": (
        lambda: (lambda shared: net(shared, shared))(dw(strides=2)),
        "not padded by exactly 1",
    ),
    "wrapped": (lambda: wrap(net(dw())), "wrapped already"),
    "nested": (
        lambda: keras.Sequential([keras.Input((SIZE, SIZE, 3)), net(dw())]),
        "a model inside",
    ),
    "not built": (
        lambda: keras.Sequential([L.Dense(3)]),
        "can't be read: it is not built",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_name_the_reason(name):
    build, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        prepare_for_sparse_inference(build())


def test_a_refusal_names_all_kinds_of_ops_at_once():
    """The start of a ResNet, whose pooling and 3×3 convolutions do not fit."""
    model = net(
        L.MaxPooling2D(name="pool"),
        *(L.Conv2D(WIDTH, 3, padding="same") for _ in range(3)),
        start=L.Conv2D(WIDTH, 7, strides=2, padding="same"),
    )
    with pytest.raises(ValueError) as caught:
        prepare_for_sparse_inference(model)
    message = str(caught.value)
    assert "7×7 convolution" in message and "and 2 more" in message
    assert "MAX_POOL_2D" in message and "pool" in message


@pytest.mark.parametrize("wrong", [None, "model.keras", keras.layers.Dense(2)])
def test_what_is_no_model(wrong):
    with pytest.raises(TypeError, match="takes a Keras 3 model"):
        prepare_for_sparse_inference(wrong)


def test_the_account_as_data():
    _, preparation = prepared(net(dw(strides=2)))
    data = json.loads(json.dumps(preparation.to_dict()))
    assert data["exact"] and data["changes"][0]["exact"]
    assert "5×5 instead of 3×3" in data["changes"][0]["what"]


def stem(size=32):
    inputs = keras.Input((size, size, 3))
    x = L.ZeroPadding2D(1)(inputs)
    return inputs, L.Conv2D(8, 3, strides=2, activation="relu")(x)


def test_a_pool_of_the_size_of_a_map_that_gives_a_map_stays():
    inputs, x = stem(6)
    x = L.AveragePooling2D(3, strides=1, padding="same", name="pool")(x)
    x = L.Conv2D(8, 1, activation="relu")(x)
    model = keras.Model(inputs, L.Dense(4)(L.GlobalAveragePooling2D()(x)))
    try:
        prepared = prepare_for_sparse_inference(model)
    except ValueError as error:
        assert "AVERAGE_POOL_2D" in str(error)
    else:
        x = np.random.default_rng(0).normal(size=(2, 6, 6, 3)).astype("f4")
        np.testing.assert_allclose(prepared(x), model(x), rtol=1e-5, atol=1e-6)


def test_a_product_of_vectors_is_no_gate():
    inputs, x = stem()
    x = L.Conv2D(8, 1, activation="relu")(x)
    condition = keras.Input((5,))
    mean = L.GlobalAveragePooling2D(name="mean")(x)
    product = L.Multiply()([mean, L.Dense(8, "sigmoid")(condition)])
    model = keras.Model([inputs, condition], L.Dense(4)(product))
    prepared, preparation = prepare_with_report(model)
    assert not [change for change in preparation.changes if change.layer == "mean"]
    rng = np.random.default_rng(0)
    data = [rng.normal(size=(2, 32, 32, 3)), rng.normal(size=(2, 5))]
    np.testing.assert_allclose(prepared(data), model(data), rtol=1e-5, atol=1e-6)


def test_a_size_that_a_dense_layer_does_not_take_is_named():
    inputs = keras.Input((32, 32, 3))
    x = L.Conv2D(8, 3, strides=2, activation="relu", name="first")(inputs)
    model = keras.Model(inputs, L.Dense(4)(L.Flatten()(x)))
    with pytest.raises(ValueError, match="first.* another size.*Flatten"):
        prepare_for_sparse_inference(model)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        inputs, x = stem()
        x = L.Conv2D(8, 1, activation="relu")(x)
        outputs = L.Dense(4, dtype="float32")(L.GlobalAveragePooling2D()(x))
        prepared = prepare_for_sparse_inference(keras.Model(inputs, outputs))
        headless = prepare_for_sparse_inference(keras.Model(inputs, x))
    finally:
        keras.config.set_dtype_policy(before)
    for model in (prepared, headless):
        kinds = {x.dtype_policy.name for x in model.layers if hasattr(x, "kernel")}
        assert policy in kinds

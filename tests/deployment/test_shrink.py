"""shrink: the same function with fewer channels, rule by rule."""

import inspect
import json
import pathlib

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import layers, ops

import keras_pdp as pdp
from keras_pdp import shrink, shrink_report, shrink_with_report
from tests.deployment.shrinking import (
    difference,
    lively,
    samples,
    silence,
    silence_tied,
    widths,
)

TOLERANCE = 1e-5  # relative, float32


def conv(filters, name, size=3, padding="valid", **kwargs):
    return layers.Conv2D(filters, size, padding=padding, name=name, **kwargs)


def chain(*middle, shape=(8, 8, 3), head=None):
    """`a` makes four channels, `middle` passes them on, `head` reads them."""
    x = inputs = keras.Input(shape)
    x = conv(4, "a")(x)
    for layer in middle:
        x = layer(x)
    head = head or conv(2, "head", 2)
    return keras.Model(inputs, head(x))


def spread(x, gate):
    return layers.Multiply(name="gated")([x, gate])


def residual(second="a2", **kwargs):
    inputs = keras.Input((8, 8, 3))
    one = conv(4, "a")(inputs)
    two = conv(4, second, **kwargs)(inputs)
    x = layers.Add(name="sum")([one, two])
    return keras.Model(inputs, conv(2, "head")(x))


def concatenated():
    inputs = keras.Input((8, 8, 3))
    x = layers.Concatenate()([conv(4, "a")(inputs), conv(3, "b")(inputs)])
    x = layers.BatchNormalization()(x)
    return keras.Model(inputs, conv(2, "head")(x))


def gated(keepdims=True):
    """Squeeze and excite: the gate's last layer is tied to what it gates."""
    inputs = keras.Input((8, 8, 3))
    x = conv(4, "a")(inputs)
    gate = layers.GlobalAveragePooling2D(keepdims=keepdims)(x)
    if not keepdims:
        gate = layers.Reshape((1, 1, 4))(gate)
    gate = conv(5, "squeeze", 1, activation="relu")(gate)
    gate = conv(4, "excite", 1, activation="sigmoid")(gate)
    x = spread(x, gate)
    return keras.Model(inputs, conv(2, "head")(x))


def hard_gate():
    """As MobileNetV3 writes it: functions of keras.ops with numbers."""
    inputs = keras.Input((8, 8, 3))
    x = conv(4, "a")(inputs)
    gate = layers.ReLU(6.0)(x + 3.0) * (1.0 / 6.0)
    x = ops.relu(x * gate)
    return keras.Model(inputs, conv(2, "head")(x))


def shared():
    """One layer called twice, on tensors of two producers."""
    inputs = keras.Input((8, 8, 3))
    reader = conv(3, "reader", 1)
    one, two = reader(conv(4, "a")(inputs)), reader(conv(4, "a2")(inputs))
    x = layers.Concatenate()([one, two])
    return keras.Model(inputs, conv(2, "head")(x))


def nested(kind):
    inputs = keras.Input((8, 8, 3))
    x = conv(4, "a")(inputs)
    inner_in = keras.Input((6, 6, 4))
    inner = [
        conv(5, "inside", padding="same", activation="relu"),
        layers.BatchNormalization(),
    ]
    if kind == "sequential":
        block = keras.Sequential([keras.Input((6, 6, 4)), *inner], name="block")
    elif kind == "unstarted":
        block = keras.Sequential(inner, name="block")
    else:
        y = inner_in
        for layer in inner:
            y = layer(y)
        block = keras.Model(inner_in, layers.Concatenate()([inner_in, y]), name="block")
    return keras.Model(inputs, conv(2, "head")(block(x)))


def generator():
    """Reshape to an image: a channel of it is many units of the Dense layer."""
    inputs = keras.Input((5,))
    x = layers.Dense(2 * 2 * 4, name="a")(inputs)
    x = layers.Reshape((2, 2, 4))(x)
    x = layers.Conv2DTranspose(3, 3, strides=2, name="up")(x)
    return keras.Model(inputs, conv(2, "head")(x))


def dense_chain(*middle, width=4, head=True):
    x = inputs = keras.Input((6,))
    x = layers.Dense(width, name="a")(x)
    for layer in middle:
        x = layer(x)
    return keras.Model(inputs, layers.Dense(2, name="head")(x) if head else x)


def sequence(*middle):
    x = inputs = keras.Input((7, 3))
    x = layers.Conv1D(4, 3, name="a")(x)
    for layer in middle:
        x = layer(x)
    return keras.Model(inputs, layers.Dense(2, name="head")(x))


def volume(*middle):
    x = inputs = keras.Input((6, 6, 6, 2))
    x = layers.Conv3D(4, 3, name="a")(x)
    for layer in middle:
        x = layer(x)
    return keras.Model(inputs, layers.Conv3D(2, 1, name="head")(x))


# Two of the four channels of `a` are silent, everything else is random. What it takes:
# the model; the widths after shrinking. Where the silent channels' constants live on
# behind an offset, and zero padding would cut them, one of them stays to carry them.
CASES = {
    "Conv2D": (lambda: chain(), {"a": 2, "head": 2}),
    "Conv2D same": (lambda: chain(conv(5, "b", padding="same")), {"a": 2, "b": 5}),
    "Conv2D strided": (lambda: chain(conv(5, "b", strides=2)), {"a": 2}),
    "Conv2D dilated": (lambda: chain(conv(5, "b", dilation_rate=2)), {"a": 2}),
    "Conv2D no bias": (lambda: chain(conv(5, "b", use_bias=False)), {"a": 2}),
    "BatchNormalization": (lambda: chain(layers.BatchNormalization()), {"a": 2}),
    "BatchNormalization, no scale": (
        lambda: chain(layers.BatchNormalization(scale=False, center=False)),
        {"a": 2},
    ),
    "offset before padding": (
        lambda: chain(layers.BatchNormalization(), conv(5, "b", padding="same")),
        {"a": 3, "b": 5},
    ),
    "offset before 1x1": (
        lambda: chain(layers.BatchNormalization(), conv(5, "b", 1, padding="same")),
        {"a": 2},
    ),
    "instance normalisation": (
        lambda: chain(layers.GroupNormalization(groups=-1)),
        {"a": 2},
    ),
    "instance normalisation by number": (
        lambda: chain(layers.GroupNormalization(groups=4)),
        {"a": 2},
    ),
    "UnitNormalization": (lambda: chain(layers.UnitNormalization()), {"a": 2}),
    **{
        f"activation {name}": (
            lambda name=name: chain(layers.Activation(name)),
            {"a": 2},
        )
        for name in ("relu", "sigmoid", "gelu", "softplus", "hard_silu", "tanh")
    },
    "activation of its own": (lambda: chain(conv(5, "b", activation="elu")), {"a": 2}),
    "ReLU": (lambda: chain(layers.ReLU(6.0, negative_slope=0.1)), {"a": 2}),
    "LeakyReLU": (lambda: chain(layers.LeakyReLU()), {"a": 2}),
    "ELU": (lambda: chain(layers.ELU()), {"a": 2}),
    "PReLU": (lambda: chain(layers.PReLU()), {"a": 2}),
    "PReLU shared": (lambda: chain(layers.PReLU(shared_axes=[1, 2])), {"a": 2}),
    "Rescaling": (lambda: chain(layers.Rescaling(2.0, 0.5)), {"a": 2}),
    "MaxPooling2D": (lambda: chain(layers.MaxPooling2D(2)), {"a": 2}),
    "MaxPooling2D same": (
        lambda: chain(
            layers.BatchNormalization(), layers.MaxPooling2D(3, 2, padding="same")
        ),
        {"a": 2},
    ),
    "AveragePooling2D": (
        lambda: chain(
            layers.BatchNormalization(), layers.AveragePooling2D(3, 2, padding="same")
        ),
        {"a": 2},
    ),
    "ZeroPadding2D": (lambda: chain(layers.ZeroPadding2D(2)), {"a": 2}),
    "offset before ZeroPadding2D": (
        lambda: chain(layers.BatchNormalization(), layers.ZeroPadding2D(2)),
        {"a": 4},
    ),
    "Cropping2D": (lambda: chain(layers.Cropping2D(1)), {"a": 2}),
    "UpSampling2D": (
        lambda: chain(layers.UpSampling2D(2, interpolation="bilinear")),
        {"a": 2},
    ),
    "Dropout": (lambda: chain(layers.Dropout(0.5)), {"a": 2}),
    "SpatialDropout2D": (lambda: chain(layers.SpatialDropout2D(0.5)), {"a": 2}),
    "GaussianNoise": (lambda: chain(layers.GaussianNoise(0.5)), {"a": 2}),
    "DepthwiseConv2D": (
        lambda: chain(layers.DepthwiseConv2D(3, name="deep", use_bias=False)),
        {"a": 2, "deep": 2},
    ),
    "DepthwiseConv2D, multiplier": (
        lambda: chain(layers.DepthwiseConv2D(3, depth_multiplier=2, name="deep")),
        {"a": 2, "deep": 2},
    ),
    "offset before a padded depthwise": (
        lambda: chain(
            layers.BatchNormalization(), layers.DepthwiseConv2D(3, padding="same")
        ),
        {"a": 4},
    ),
    "SeparableConv2D": (
        lambda: chain(layers.SeparableConv2D(5, 3, padding="same", name="sep")),
        {"a": 2, "sep": 5},
    ),
    "SeparableConv2D, multiplier": (
        lambda: chain(layers.SeparableConv2D(5, 3, depth_multiplier=2, use_bias=False)),
        {"a": 2},
    ),
    "Conv2DTranspose": (
        lambda: chain(layers.Conv2DTranspose(5, 3, strides=2, name="up")),
        {"a": 2, "up": 5},
    ),
    "grouped": (lambda: chain(conv(6, "b", groups=2)), {"a": 2}),
    "GlobalAveragePooling2D": (
        lambda: chain(
            layers.GlobalAveragePooling2D(), head=layers.Dense(2, name="head")
        ),
        {"a": 2},
    ),
    "GlobalMaxPooling2D": (
        lambda: chain(
            layers.GlobalMaxPooling2D(keepdims=True), head=conv(2, "head", 1)
        ),
        {"a": 2},
    ),
    "Flatten": (
        lambda: chain(layers.Flatten(), head=layers.Dense(2, name="head")),
        {"a": 2},
    ),
    "Flatten of a constant": (
        lambda: chain(
            layers.BatchNormalization(),
            layers.Flatten(),
            head=layers.Dense(2, name="head"),
        ),
        {"a": 2},
    ),
    "Reshape": (lambda: chain(layers.Reshape((36, 4)), head=layers.Dense(2)), {"a": 2}),
    "Reshape with -1": (
        lambda: chain(layers.Reshape((-1, 4)), head=layers.Dense(2)),
        {"a": 2},
    ),
    "Permute": (
        lambda: chain(
            layers.Permute((3, 1, 2)), layers.Permute((2, 3, 1)), layers.ReLU()
        ),
        {"a": 2},
    ),
    "Dense on images": (lambda: chain(layers.Dense(5, name="b")), {"a": 2, "b": 5}),
    **{
        f"ops.{name}": (lambda each=each: dense_chain(each), {"a": 2})
        for name, each in {
            "log": lambda x: ops.log(ops.abs(x) + 1.0),
            "log1p, rsqrt": lambda x: ops.log1p(ops.rsqrt(ops.exp(x))),
            "clip": lambda x: ops.clip(x, -0.5, 0.5),
            "power": lambda x: x**2,
            "mod": lambda x: ops.mod(x, 0.7),
            "round": lambda x: ops.round(10.0 * x, 1),
            "floor, ceil, trunc": lambda x: (
                ops.floor(x * 9) + ops.ceil(x * 7) + ops.trunc(x * 5)
            ),
            "sin, cos, tan": lambda x: ops.sin(x) + ops.cos(x) + ops.tan(x / 9),
            "sinh, cosh": lambda x: ops.sinh(x) + ops.cosh(x),
            "arctan, arcsinh": lambda x: ops.arctan(x) + ops.arcsinh(x),
            "reciprocal": lambda x: ops.reciprocal(ops.abs(x) + 2.0),
            "shrinks": lambda x: (
                ops.hard_shrink(x) + ops.soft_shrink(x) + ops.tanh_shrink(x)
            ),
            "threshold": lambda x: ops.threshold(x, 0.1, 3.0),
            "sparse": lambda x: ops.sparse_plus(x) + ops.sparse_sigmoid(x),
            "squareplus": lambda x: ops.squareplus(ops.hard_tanh(x)),
            "cast": lambda x: ops.cast(ops.cast(9.0 * x, "int32"), "float32"),
            "stop_gradient": lambda x: ops.nan_to_num(ops.stop_gradient(x)),
        }.items()
    },
    "ops.concatenate": (
        lambda: dense_chain(lambda x: ops.concatenate([x, ops.sigmoid(x)], -1)),
        {"a": 2},
    ),
    "one side of a sum": (lambda: residual(), {"a": 4, "a2": 4}),
    "Concatenate": (concatenated, {"a": 2, "b": 3, "head": 2}),
    "gate": (gated, {"a": 2, "excite": 2, "squeeze": 5}),
    "gate with Reshape": (lambda: gated(keepdims=False), {"a": 2, "excite": 2}),
    "keras.ops": (hard_gate, {"a": 2}),
    "one caller of a shared layer": (shared, {"a": 4, "a2": 4}),
    "nested functional": (lambda: nested("functional"), {"a": 2, "block/inside": 5}),
    "nested Sequential": (lambda: nested("sequential"), {"a": 2, "block/inside": 5}),
    "nested Sequential without Input": (lambda: nested("unstarted"), {"a": 2}),
    "Dense": (lambda: dense_chain(), {"a": 2, "head": 2}),
    "Dense activation": (lambda: dense_chain(layers.Dense(3, "gelu")), {"a": 2}),
    "EinsumDense": (
        lambda: dense_chain(layers.EinsumDense("ab,bc->ac", 3, bias_axes="c")),
        {"a": 2},
    ),
    "EinsumDense to heads": (
        lambda: sequence(
            layers.EinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="de"),
            layers.EinsumDense("abde,def->abf", (None, 6), bias_axes="f"),
        ),
        {"a": 2},
    ),
    "Conv1D causal": (
        lambda: sequence(layers.Conv1D(3, 2, padding="causal", name="b")),
        {"a": 2, "b": 3},
    ),
    "1D": (
        lambda: sequence(
            layers.DepthwiseConv1D(2),
            layers.MaxPooling1D(2),
            layers.UpSampling1D(3),
            layers.SeparableConv1D(3, 2),
            layers.Conv1DTranspose(3, 2),
            layers.GlobalAveragePooling1D(),
        ),
        {},
    ),
    "3D": (
        lambda: volume(
            layers.BatchNormalization(),
            layers.AveragePooling3D(2),
            layers.UpSampling3D(2),
            layers.Conv3DTranspose(3, 2),
        ),
        {},
    ),
}
if "renorm" in inspect.signature(layers.BatchNormalization).parameters:
    CASES["BatchNormalization, renorm"] = (
        lambda: chain(layers.BatchNormalization(renorm=True)),
        {"a": 2},
    )
# Why channels of zeros stay where the widths above say so.
HELD = {
    "one side of a sum": "meets a channel in 'sum' that is not constant",
    "one caller of a shared layer": "tied to a channel that 'a2'",
    "3D": "carries the constants",
    "offset before ZeroPadding2D": "meets the padding of 'zero_padding2d",
    "offset before a padded depthwise": "meets the padding of 'depthwise_conv2d",
    "offset before padding": "carries the constants of others",
}
# Other widths of `a` where its bias speaks for the two channels: constants, not zeros.
SPEAKING = {
    "Conv2D same": 3,  # one carries the constants through the padding
    "UnitNormalization": 4,
    "ZeroPadding2D": 4,
    "SeparableConv2D": 4,
    "Conv2DTranspose": 3,
    "gate": 4,
    "gate with Reshape": 4,
    "nested functional": 3,
    "nested Sequential": 3,
    "nested Sequential without Input": 3,
    "Conv1D causal": 3,
}


def built(name, bias):
    keras.backend.clear_session()
    model = lively(CASES[name][0]())
    silence(model, "a", [1, 3], bias=bias)
    return model


def checked(model):
    """The smaller model's report, once it computes the same and is what it says."""
    small, report = shrink_with_report(model)
    print(report)
    assert difference(model, small, samples(model)) < TOLERANCE
    assert small.count_params() == report.parameters.after
    again, second = shrink_with_report(small)
    assert again.get_config() == small.get_config()
    assert second.channels.before == second.channels.after == report.channels.after
    return report


@pytest.mark.parametrize("name", CASES)
def test_every_rule(name):
    report = checked(built(name, bias=True))
    found = widths(report)
    expected = CASES[name][1]
    assert {key: found[key] for key in expected} == expected
    reasons = " ".join(report.held)
    assert HELD[name] in reasons if name in HELD else not reasons


@pytest.mark.parametrize("name", CASES)
def test_every_rule_where_a_bias_speaks(name):
    report = checked(built(name, bias=False))
    expected = SPEAKING.get(name, CASES[name][1].get("a"))
    if expected is not None:
        assert widths(report)["a"] == expected
        assert bool(report.held) == (expected > 2)


def test_groups_give_the_same_channels():
    """A channel goes from every group of a grouped convolution or from none."""
    keras.backend.clear_session()
    model = lively(chain(conv(6, "b", groups=2), conv(6, "c", 1)))
    silence(model, "a", [0, 3])  # the first of one group, the second of the other
    silence(model, "b", [0, 3])  # the first of both
    report = checked(model)
    assert (widths(report)["a"], widths(report)["b"]) == (4, 4)
    assert report.held == {"it is tied to a channel that 'a' still makes": 2}


def test_what_nobody_reads_goes_and_takes_along_what_made_it():
    keras.backend.clear_session()
    model = lively(chain(conv(6, "b", 1, activation="relu"), conv(5, "c", 1)))
    reader = model.get_layer("c")
    kernel = np.array(keras.ops.convert_to_numpy(reader.kernel))
    kernel[:, :, 2:] = 0.0  # c reads only the first two channels of b
    reader.kernel.assign(kernel)
    maker = model.get_layer("b")
    kernel = np.array(keras.ops.convert_to_numpy(maker.kernel))
    kernel[:, :, 1:, :2] = 0.0  # which read only the first channel of a
    maker.kernel.assign(kernel)
    assert widths(checked(model)) == {"a": 1, "b": 2, "c": 5, "head": 2}


def unread(model, name, channels, axis=-2):
    """Takes input channels out of a layer by hand."""
    silence(model, name, channels, axis=axis, bias=False)


def test_a_constant_that_nobody_reads_needs_no_carrier():
    """Where padding cuts constants; there is no other to take its taps."""
    keras.backend.clear_session()
    model = lively(chain(conv(5, "b", padding="same")))
    silence(model, "a", [1], bias=False)
    unread(model, "b", [1])
    assert widths(checked(model))["a"] == 3


def test_a_norm_over_channels_needs_also_those_that_nobody_reads():
    keras.backend.clear_session()
    model = lively(chain(layers.UnitNormalization()))
    silence(model, "a", [0])
    unread(model, "head", [0, 3])
    report = checked(model)
    assert widths(report)["a"] == 3
    keras.backend.clear_session()
    model = lively(chain(layers.UnitNormalization(axis=1)))
    unread(model, "head", [0, 3])
    assert widths(checked(model))["a"] == 2  # each has a norm of its own


@pytest.mark.parametrize("bias", [True, False])
def test_attention_with_a_gate_stays_whole(bias):
    if "use_gate" not in inspect.signature(layers.MultiHeadAttention).parameters:
        pytest.skip("this Keras has no gates")
    keras.backend.clear_session()
    inputs = keras.Input((5, 8))
    x = layers.Dense(6, name="a")(inputs)
    attention = layers.MultiHeadAttention(2, 3, use_gate=True, name="attention")
    x = attention(x, x)
    model = lively(keras.Model(inputs, layers.Dense(2, name="head")(x)))
    silence(model, "a", [1, 3])
    value = attention.value_dense
    kernel = np.array(keras.ops.convert_to_numpy(value.kernel))
    kernel[:, 0] = 0.0
    value.kernel.assign(kernel)
    if bias:
        value.bias.assign(np.zeros(value.bias.shape))
    report = checked(model)
    assert "gate" in " ".join(report.held)


@pytest.mark.parametrize(
    "bias_axes, width", [("d", 4), ("bd", 6), ("cd", 6), ("bcd", 6)]
)
def test_an_equation_whose_bias_has_other_axes_than_its_kernel(bias_axes, width):
    keras.backend.clear_session()
    inputs = keras.Input((5, 4, 3))
    dense = layers.EinsumDense("abce,ed->abcd", (5, 4, 6), bias_axes=bias_axes)
    x = dense(layers.Dense(3, name="a")(inputs))
    model = lively(keras.Model(inputs, layers.Dense(2, name="head")(x)))
    unread(model, "head", [1, 4])
    silence(model, "a", [1])
    small, report = shrink_with_report(model)
    assert difference(model, small, samples(model)) < TOLERANCE
    assert small.layers[2].kernel.shape[-1] in (4, width)


@pytest.mark.parametrize("kind", ["reshape", "block"])
def test_a_layer_without_weights_that_two_tensors_pass(kind):
    keras.backend.clear_session()
    inputs = keras.Input((8, 8, 3))
    one, two = conv(4, "a")(inputs), conv(4, "b")(inputs)
    if kind == "reshape":
        shared = layers.Reshape((36, 4))
        ends = [layers.Conv1D(2, 1, name=n) for n in ("head", "foot")]
    else:
        block = [keras.Input((6, 6, 4)), layers.ReLU(), layers.MaxPooling2D()]
        shared = keras.Sequential(block)
        ends = [conv(2, n, 1) for n in ("head", "foot")]
    outputs = [end(shared(x)) for end, x in zip(ends, (one, two), strict=True)]
    model = lively(keras.Model(inputs, outputs))
    silence(model, "a", [1, 3])
    silence(model, "b", [1])
    found = widths(checked(model))
    assert (found["a"], found["b"]) == (3, 3)  # what both can do without


def test_the_last_channel_stays():
    keras.backend.clear_session()
    model = lively(chain())
    silence(model, "a", [0, 1, 2, 3])
    report = checked(model)
    assert widths(report)["a"] == 1
    assert report.held == {"the last channel of its layer stays": 1}


def test_outputs_and_inputs_stay_whole():
    keras.backend.clear_session()
    model = lively(chain())
    silence(model, "head", [0])
    report = checked(model)
    assert widths(report) == {"a": 4, "head": 2}
    assert report.held == {"the model's output": 1}


REFUSED = {
    "LayerNormalization": (layers.LayerNormalization, "statistics over the channels"),
    "RMSNormalization": (layers.RMSNormalization, "statistics over the channels"),
    "GroupNormalization": (
        lambda: layers.GroupNormalization(2),
        "statistics over the channels",
    ),
    "softmax": (lambda: layers.Activation("softmax"), "every channel by itself"),
    "Softmax": (layers.Softmax, "softmax runs over the channels"),
    "Lambda": (lambda: layers.Lambda(lambda x: x), "channels of Lambda are not known"),
    "Resizing": (lambda: layers.Resizing(4, 4), "channels of Resizing are not known"),
    "a function": (
        lambda: layers.Activation(lambda x: keras.ops.flip(x, -1)),
        "every channel by itself",
    ),
    "a subclass": (type("Mine", (layers.ReLU,), {}), "channels of Mine are not known"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_followed_stays_and_is_named(name):
    keras.backend.clear_session()
    layer, reason = REFUSED[name]
    model = lively(chain(layer()))
    silence(model, "a", [1, 3])
    report = shrink_report(model)
    assert widths(report)["a"] == 4
    ((held, count),) = report.held.items()
    assert reason in held and count == 2
    assert report.not_followed == {held: 4}


def test_a_warning_counts_what_stays():
    keras.backend.clear_session()
    model = lively(chain(layers.LayerNormalization()))
    silence(model, "a", [1, 3])
    with pytest.warns(UserWarning, match="2 channels .* zeros .*LayerNormalization"):
        shrink(model)


# Whole nets.


def mobile(inputs):
    x = inputs
    for i, (width, stride) in enumerate([(6, 2), (8, 1)]):
        x = conv(width, f"p{i}", 1, use_bias=False)(x)
        x = layers.BatchNormalization()(x)
        x = layers.ReLU(6.0)(x)
        x = layers.DepthwiseConv2D(3, stride, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization()(x)
        x = layers.ReLU(6.0)(x)
    return x


def transformer(width=8, heads=2, length=6, norm=True):
    inputs = keras.Input((length,), dtype="int32")
    x = layers.Embedding(11, width, name="tokens")(inputs)
    for i in range(2):
        y = layers.LayerNormalization()(x) if norm else x
        y = layers.MultiHeadAttention(heads, 4, name=f"attention{i}")(y, y)
        x = layers.Add()([x, y])
        y = layers.LayerNormalization()(x) if norm else x
        y = layers.Dense(12, activation="gelu", name=f"up{i}")(y)
        y = layers.Dense(width, name=f"down{i}")(y)
        x = layers.Add()([x, y])
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, layers.Dense(2, name="head")(x))


@pytest.mark.parametrize("speaks", [False, True])
def test_transformer_loses_heads_and_feed_forward_units(speaks):
    """Heads with constant values, units with kernels of zeros; the stream stays."""
    keras.backend.clear_session()
    model = lively(transformer())
    value = model.get_layer("attention0").value_dense
    kernel = np.array(keras.ops.convert_to_numpy(value.kernel))
    kernel[:, 0] = 0.0
    value.kernel.assign(kernel)
    if not speaks:
        bias = np.array(keras.ops.convert_to_numpy(value.bias))
        bias[0] = 0.0
        value.bias.assign(bias)
    silence(model, "up1", [0, 5, 7], bias=not speaks)
    small, report = shrink_with_report(model)
    assert difference(model, small, samples(model)) < TOLERANCE
    assert small.get_layer("attention0").num_heads == 1
    assert small.get_layer("attention1").num_heads == 2
    assert small.get_layer("up1").units == 9
    assert report.held == {}


def test_a_stream_without_normalisation_shrinks_too():
    keras.backend.clear_session()
    model = lively(transformer(norm=False))
    silence_tied(model, 0.5)
    report = checked(model)
    assert report.channels.after < 0.7 * report.channels.before


def test_a_mask_or_scores_of_attention_keep_it_whole():
    keras.backend.clear_session()
    x = inputs = keras.Input((6, 8))
    mask = keras.Input((6, 6), dtype="bool")
    x = layers.Dense(8, name="a")(x)
    y = layers.MultiHeadAttention(2, 4)(x, x, attention_mask=mask)
    model = lively(keras.Model([inputs, mask], layers.Dense(2)(y)))
    silence(model, "a", [1])
    assert list(shrink_report(model).held.values()) == [1]


@st.composite
def nets(draw):
    """A random net of everything that keeps images images, with several branches."""
    keras.backend.clear_session()
    inputs = keras.Input((8, 8, 3))
    tensors = [conv(draw(st.integers(2, 6)), "c0", padding="same")(inputs)]
    for i in range(draw(st.integers(2, 8))):
        x = draw(st.sampled_from(tensors))
        kind = draw(st.integers(0, 8))
        width = draw(st.integers(2, 6))
        padding = draw(st.sampled_from(["same", "valid"]))
        if kind <= 1:
            size = draw(st.sampled_from([1, 3]))
            bias = draw(st.booleans())
            y = conv(width, f"c{i + 1}", size, "same", use_bias=bias)(x)
        elif kind == 2:
            y = layers.BatchNormalization()(x)
        elif kind == 3:
            name = draw(st.sampled_from(["relu", "sigmoid", "silu", "tanh"]))
            y = layers.Activation(name)(x)
        elif kind == 4:
            y = layers.DepthwiseConv2D(3, padding="same", use_bias=width > 3)(x)
        elif kind == 5:
            y = layers.SeparableConv2D(width, 3, padding="same")(x)
        elif kind == 6:
            y = layers.Concatenate()([x, draw(st.sampled_from(tensors))])
        elif kind == 7:
            others = [t for t in tensors if t.shape == x.shape]
            merge = draw(st.sampled_from([layers.Add, layers.Multiply, layers.Maximum]))
            y = merge()([x, draw(st.sampled_from(others))])
        else:
            gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
            y = layers.Multiply()([x, conv(x.shape[-1], f"g{i}", 1)(gate)])
        tensors.append(y)
        del padding
    heads = [conv(2, f"head{i}", 3)(x) for i, x in enumerate(tensors[-2:])]
    model = lively(keras.Model(inputs, heads), seed=draw(st.integers(0, 99)))
    share = draw(st.sampled_from([0.3, 0.6]))
    silence_tied(model, share, draw(st.integers(0, 99)), draw(st.booleans()))
    return model


# To draw a net is to build and run it, which JAX compiles.
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(nets())
def test_random_nets(model):
    checked(model)


APPLICATIONS = {
    "MobileNet": {},
    "MobileNetV2": {},
    "MobileNetV3Small": {},
    "EfficientNetB0": {},
    "ResNet50": {},
    "DenseNet121": {},
}


@pytest.mark.parametrize("name", APPLICATIONS)
def test_applications(name):
    """Half of the channels of a stock model; what goes is what the graph says may."""
    keras.backend.clear_session()
    application = getattr(keras.applications, name)
    model = application(
        weights=None, input_shape=(32, 32, 3), classes=7, classifier_activation=None
    )
    lively(model)
    silence_tied(model, 0.5)
    small, report = shrink_with_report(model)
    assert difference(model, small, samples(model, 2)) < TOLERANCE
    assert small.count_params() == report.parameters.after
    assert report.held == {}
    assert report.channels.after < 0.6 * report.channels.before
    assert report.macs.after < 0.4 * report.macs.before
    assert shrink_report(small).channels.after == report.channels.after


RESNET8 = (
    pathlib.Path(__file__).parents[3]
    / "shared/data/models/mlperf_tiny_resnet8_cifar10.keras"
)


@pytest.mark.skipif(not RESNET8.exists(), reason=f"no file {RESNET8.name}")
@pytest.mark.parametrize("offsets", [True, False])
def test_a_trained_net_of_others(offsets):
    """MLPerf Tiny's ResNet-8; with its offsets left alone, constants are carried."""
    model = keras.saving.load_model(RESNET8)
    silence_tied(model, 0.5, offsets=offsets)
    small, report = shrink_with_report(model)
    data = [np.random.default_rng(0).uniform(0, 255, (8, 32, 32, 3)).astype("float32")]
    assert difference(model, small, data) < TOLERANCE
    assert small.count_params() == report.parameters.after
    assert report.channels.after < (0.6 if offsets else 0.7) * report.channels.before


# What stays as it was.


def test_names_settings_and_the_argument_stay():
    keras.backend.clear_session()
    model = lively(chain(layers.BatchNormalization(momentum=0.5, name="norm")))
    silence(model, "a", [1, 3])
    model.compile("sgd", "mse", metrics=["mae"])
    before, config = model.get_weights(), model.get_config()
    small = shrink(model)
    assert model.get_config() == config
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert small.name == model.name
    assert [x.name for x in small.layers] == [x.name for x in model.layers]
    assert small.get_layer("norm").momentum == 0.5
    assert small.optimizer.name == model.optimizer.name
    assert type(small) is type(model)
    shared = {id(v) for v in model.variables} & {id(v) for v in small.variables}
    assert not shared


def test_sequential_stays_sequential_and_saves(tmp_path):
    keras.backend.clear_session()
    model = lively(
        keras.Sequential(
            [keras.Input((8, 8, 3)), conv(4, "a"), layers.Flatten(), layers.Dense(3)]
        )
    )
    silence(model, "a", [0])
    small = shrink(model)
    assert type(small) is keras.Sequential
    small.save(tmp_path / "small.keras")
    again = keras.saving.load_model(tmp_path / "small.keras")
    assert difference(small, again, samples(model)) == 0.0
    assert difference(model, again, samples(model)) < TOLERANCE


def test_dtype_policies_stay():
    keras.backend.clear_session()
    inputs = keras.Input((8, 8, 3))
    x = conv(4, "a", dtype="mixed_float16")(inputs)
    model = lively(keras.Model(inputs, conv(2, "head", dtype="float32")(x)))
    silence(model, "a", [1, 3])
    small = shrink(model)
    assert small.get_layer("a").dtype_policy.name == "mixed_float16"
    assert difference(model, small, samples(model)) < 1e-2  # half precision


def test_channels_first():
    """The graph is followed and rebuilt; TensorFlow on CPUs can't run it."""
    keras.backend.clear_session()
    inputs = keras.Input((3, 8, 8))
    kwargs = {"data_format": "channels_first"}
    x = layers.Conv2D(4, 3, name="a", **kwargs)(inputs)
    x = layers.BatchNormalization(axis=1, name="norm")(x)
    x = layers.MaxPooling2D(2, **kwargs)(x)
    model = keras.Model(inputs, layers.Conv2D(2, 3, name="head", **kwargs)(x))
    silence(model, "a", [1, 3])
    small, report = shrink_with_report(model)
    assert widths(report) == {"a": 2, "head": 2}
    assert small.get_layer("norm").gamma.shape == (2,)
    assert small.output_shape == model.output_shape


def test_report_reads_and_saves():
    keras.backend.clear_session()
    model = lively(chain())
    silence(model, "a", [1, 3])
    report = shrink_report(model)
    assert "a  4 -> 2 (50.0%)" in str(report)
    content = json.loads(report.to_json())
    assert content["channels"] == {"before": 6, "after": 4}
    # a: 3x3x3 weights and a bias a channel; head: 2x2 weights for each of two channels
    assert report.parameters == pdp.deployment.shrink_report.Change(
        4 * 28 + 4 * 8 + 2, 2 * 28 + 2 * 8 + 2
    )
    assert report.macs.before == 36 * 27 * 4 + 25 * 4 * 4 * 2
    assert report.macs.after == 36 * 27 * 2 + 25 * 4 * 2 * 2


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: layers.Dense(2), TypeError, "takes a Keras 3 model.*Dense"),
        (lambda: "model", TypeError, "takes a Keras 3 model.*str"),
        (lambda: keras.Sequential([layers.Dense(2)]), ValueError, "not built"),
        (lambda: pdp.wrap(chain()), ValueError, r"shrink\(strip\(model\)\)"),
        (lambda: Subclassed(), ValueError, "subclassed model.*keras.Model"),
    ],
)
def test_bad_arguments(make, error, message):
    for function in (shrink, shrink_report):
        with pytest.raises(error, match=message):
            function(make())


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.inner = layers.Dense(2)
        self.build((None, 3))

    def build(self, shape):
        self.inner.build(shape)
        self.built = True

    def call(self, x):
        return self.inner(x)


# What a first reader of this code broke it with.


class Half(layers.Layer):
    """Without `compute_output_shape`, as most layers of one's own."""

    def call(self, x):
        return x * 0.5


class Unsaid(layers.Layer):
    """Without a configuration that Keras could write."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, x):
        return self.function(x)


def in_training(layer):
    inputs = keras.Input((6,))
    x = layer(layers.Dense(4, name="a")(inputs), training=True)
    return keras.Model(inputs, layers.Dense(2)(x))


def dictionaries():
    """Keys that are not in alphabetical order, inside and out."""
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    one, two = layers.Dense(3, name="one")(a), layers.Dense(5, name="two")(b)
    inner = keras.Model({"b": b, "a": a}, {"z": one, "y": two}, name="inner")
    first, second = keras.Input((6,), name="q"), keras.Input((2,), name="p")
    made = inner(
        {
            "b": layers.Dense(4, name="b4")(second),
            "a": layers.Dense(4, name="a")(first),
        }
    )
    heads = {"w": layers.Dense(2)(made["z"]), "v": layers.Dense(3)(made["y"])}
    return keras.Model({"q": first, "p": second}, heads)


def masked():
    inputs = keras.Input((5,), dtype="int32")
    x = layers.Embedding(9, 6, mask_zero=True)(inputs)
    x = layers.BatchNormalization()(layers.Dense(4, name="a")(x))
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


def shared_with_an_axis_not_followed():
    inputs = keras.Input((4, 4))
    a, b = layers.Conv1D(4, 1, name="a")(inputs), layers.Conv1D(4, 1)(inputs)
    pool, reader = layers.GlobalAveragePooling1D(), layers.Dense(3)
    y = [reader(pool(layers.Permute((2, 1))(b))), reader(pool(a))]
    return keras.Model(inputs, [layers.Dense(2)(t) for t in y])


def shared_with_time_distributed():
    inputs = keras.Input((4, 6))
    reader = layers.Dense(3)
    x = layers.Dense(4, name="a")(inputs)
    other = layers.TimeDistributed(reader)(layers.Dense(4)(inputs))
    return keras.Model(inputs, layers.Dense(2)(layers.Add()([reader(x), other])))


ODD = {
    "BatchNormalization in training": (
        lambda: in_training(layers.BatchNormalization()),
        4,
    ),
    "Dropout in training": (lambda: in_training(layers.Dropout(0.5)), 4),
    "dictionaries": (dictionaries, 2),
    "a mask": (masked, 2),
    "a layer of one's own in Sequential": (
        lambda: keras.Sequential(
            [keras.Input((6,)), layers.Dense(4, name="a"), Half(), layers.Dense(2)]
        ),
        4,
    ),
    "an array": (
        lambda: dense_chain(lambda x: x * np.arange(4, dtype="float32")),
        4,
    ),
    "an array of one": (lambda: dense_chain(lambda x: x * np.float32([3])), 2),
    "normalised along space": (
        lambda: chain(layers.BatchNormalization(axis=1)),
        4,
    ),
    **{
        f"{kind.__name__} along rows": (
            lambda kind=kind: chain(
                kind(data_format="channels_first"),
                layers.Flatten(),
                head=layers.Dense(2, name="head"),
            ),
            4,
        )
        for kind in (
            layers.GlobalAveragePooling2D,
            layers.GlobalMaxPooling2D,
            layers.MaxPooling2D,
            layers.UpSampling2D,
            layers.ZeroPadding2D,
        )
    },
    "PReLU along rows": (lambda: chain(layers.PReLU(shared_axes=[1])), 2),
    "a reader shared with another axis": (shared_with_an_axis_not_followed, 4),
    "a reader shared with TimeDistributed": (shared_with_time_distributed, 4),
    "division by zero": (
        lambda: dense_chain(lambda x: ops.divide(1.0, ops.relu(x))),
        4,
    ),
    "a lambda": (lambda: dense_chain(layers.Dense(3, lambda x: ops.flip(x, 1))), 2),
    "a layer as activation": (
        lambda: dense_chain(layers.Dense(3, layers.PReLU())),
        2,
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_nets(name):
    keras.backend.clear_session()
    make, width = ODD[name]
    model = lively(make())
    silence(model, "a", [1, 3])
    small, report = shrink_with_report(model)
    assert widths(report)["a"] == width
    if "TimeDistributed" not in name:  # whose shared weight becomes two, with a warning
        assert small.count_params() == report.parameters.after
    if "training" not in name and "division" not in name:
        data = samples(model)
        if len(data) > 1:
            data = [dict(zip(sorted(model.input), data, strict=True))]
        assert difference(model, small, data) < TOLERANCE


def test_a_softmax_channel_of_zeros_is_no_constant():
    """Its column is silent, but what it holds depends on the others."""
    keras.backend.clear_session()
    inputs = keras.Input((6,))
    x = layers.Dense(3, activation="softmax", name="a")(inputs)
    x = layers.Dense(2, name="b")(x)
    model = lively(keras.Model(inputs, layers.Dense(2)(x)))
    silence(model, "a", [2])
    kernel = np.array(keras.ops.convert_to_numpy(model.get_layer("b").kernel))
    kernel[:2, 0] = 0.0  # unit 0 of b reads only the silent channel
    model.get_layer("b").kernel.assign(kernel)
    small = shrink_with_report(model)[0]
    assert difference(model, small, samples(model)) < TOLERANCE


def test_a_layer_without_configuration_makes_the_graph_unreadable():
    inputs = keras.Input((6,))
    x = Unsaid(lambda x: x * 0.5)(layers.Dense(4)(inputs))
    with pytest.raises(ValueError, match="can't be read.*get_config"):
        shrink(keras.Model(inputs, layers.Dense(2)(x)))


class Own(keras.Model):
    """A functional model with a constructor and configuration of its own."""

    def __init__(self, units, **kwargs):
        inputs = keras.Input((4,))
        super().__init__(inputs, layers.Dense(units)(inputs), **kwargs)
        self.units = units

    def get_config(self):
        return {"units": self.units, "name": self.name}


def test_a_nested_model_of_ones_own_stays_whole():
    keras.backend.clear_session()
    model = lively(dense_chain(Own(3, name="own")))
    silence(model, "a", [1, 3])
    small, report = shrink_with_report(model)
    assert difference(model, small, samples(model)) == 0.0
    assert report.held == {"the channels of Own are not known": 2}

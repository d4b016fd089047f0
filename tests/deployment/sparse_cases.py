"""The table of sparse inference: a net for every rule, and its verdict."""

import keras
import numpy as np

from tests.deployment.nets import (
    SIZE,
    WIDTH,
    L,
    conv,
    depth_to_space,
    gated,
    net,
    padded,
    residual,
    stem,
    swish,
)

SIGMOID = {"activation": "sigmoid"}


def dw(size=3, **options):
    return L.DepthwiseConv2D(size, **{"padding": "same", **options})


def strided(size=3, amount=None):
    """A stride-2 depthwise convolution with the padding that fits."""
    return padded(
        L.DepthwiseConv2D(size, strides=2), size // 2 if amount is None else amount
    )


def ending(head):
    """A net with another head than the mean and a Dense layer."""

    def build():
        body = net(dw(), head=False)
        return keras.Model(body.inputs, head(body.output))

    return build


def clipped_stem(x):
    """The converter fuses what is no ReLU into the convolution as well."""
    return keras.ops.clip(stem()(x), -1.0, 1.0)


def same_stem():
    return L.Conv2D(WIDTH, 3, strides=2, padding="same", activation="relu")


def rescaled():
    first = keras.Input((SIZE, SIZE, 3))
    return keras.Model(first, net(dw())(L.Rescaling(0.5, offset=0.1)(first)))


def two_outputs():
    body = net(dw(), head=False)
    x = conv()(body.output)
    return keras.Model(body.inputs, [L.GlobalAveragePooling2D()(x), x])


def two_inputs():
    first, second = (net(head=False) for _ in range(2))
    x = L.Add()([first.output, second.output])
    x = L.Dense(10)(L.GlobalAveragePooling2D()(conv()(x)))
    return keras.Model([*first.inputs, *second.inputs], x)


def outside_branch():
    """A map from a second input, made by other kernels, is added."""
    body = net(head=False)
    second = keras.Input((SIZE // 2, SIZE // 2, WIDTH))
    x = L.Add()([body.output, L.Conv2D(WIDTH, 3, padding="same")(second)])
    x = L.Dense(10)(L.GlobalAveragePooling2D()(conv()(x)))
    return keras.Model([*body.inputs, second], x)


def shared_padding():
    first = keras.Input((SIZE, SIZE, 3))
    x = L.ZeroPadding2D(1)(first)
    y = L.Conv2D(WIDTH, 3, strides=2)(x)
    z = L.Conv2D(WIDTH, 3, strides=2)(x)
    x = conv()(L.Add()([conv()(y), conv()(z)]))
    return keras.Model(first, L.Dense(10)(L.GlobalAveragePooling2D()(x)))


def dense_gate(x):
    y = L.Dense(8, activation="relu")(L.GlobalAveragePooling2D()(x))
    y = L.Reshape((1, 1, WIDTH))(L.Dense(WIDTH, **SIGMOID)(y))
    return L.Multiply()([x, y])


def normalized(x):
    """BatchNormalization that can't be folded, behind an activation."""
    return L.BatchNormalization()(L.Activation("relu")(x))


def with_padding(amount, **options):
    return lambda x: L.Conv2D(WIDTH, 3, strides=2, **options)(
        L.ZeroPadding2D(amount)(x)
    )


# name: (build, verdict, the kind of op that the findings name)
CASES = {
    # everything fits
    "plain": (lambda: net(), "eligible", None),
    "rescaled": (rescaled, "eligible", None),
    "depthwise 3": (lambda: net(dw()), "eligible", None),
    "depthwise 5": (lambda: net(dw(5)), "eligible", None),
    "depthwise 3 stride 2": (lambda: net(strided()), "eligible", None),
    "depthwise 5 stride 2": (lambda: net(strided(5)), "eligible", None),
    "folded normalization": (
        lambda: net(conv(), L.BatchNormalization()),
        "eligible",
        None,
    ),
    "residual": (lambda: net(residual(dw(), conv())), "eligible", None),
    "residual, relu": (lambda: net(residual(conv()), L.ReLU()), "eligible", None),
    "relu6": (lambda: net(conv(), L.ReLU(6.0)), "eligible", None),
    "elu": (lambda: net(L.ELU()), "eligible", None),
    "leaky relu": (lambda: net(L.LeakyReLU()), "eligible", None),
    "hard swish": (lambda: net(L.Activation("hard_swish")), "eligible", None),
    "swish": (lambda: net(swish), "eligible", None),
    "sigmoid": (lambda: net(L.Activation("sigmoid")), "eligible", None),
    "bilinear": (
        lambda: net(L.UpSampling2D(interpolation="bilinear")),
        "eligible",
        None,
    ),
    "gate": (
        lambda: net(gated(conv(8, activation="relu"), conv(**SIGMOID))),
        "eligible",
        None,
    ),
    "depth to space": (ending(depth_to_space), "eligible", None),
    "two inputs": (two_inputs, "eligible", None),
    # nothing starts
    "SAME stem": (lambda: net(start=same_stem()), "inert", "CONV_2D"),
    "stock stem of MobileNet": (
        lambda: net(start=with_padding(((0, 1), (0, 1)))),
        "inert",
        "CONV_2D",
    ),
    "stride 1 stem": (
        lambda: net(start=L.Conv2D(WIDTH, 3, padding="same")),
        "inert",
        "CONV_2D",
    ),
    "5×5 stem": (
        lambda: net(start=padded(L.Conv2D(WIDTH, 5, strides=2), 2)),
        "inert",
        "CONV_2D",
    ),
    "1 channel": (lambda: net(inputs=(SIZE, SIZE, 1)), "inert", "CONV_2D"),
    "SAME stem, odd size": (
        lambda: net(inputs=(33, 33, 3), start=same_stem()),
        "inert",
        "CONV_2D",
    ),
    "symmetric stem, odd size": (
        lambda: net(inputs=(33, 33, 3)),
        "inert",
        "CONV_2D",
    ),
    "depthwise stride 2, odd size": (
        lambda: net(strided(), inputs=(30, 30, 3)),
        "unsafe",
        "DEPTHWISE_CONV_2D",
    ),
    "SAME stem, pooling": (
        lambda: net(L.MaxPooling2D(), start=same_stem()),
        "inert",
        "CONV_2D",
    ),
    # nothing ends
    "flatten": (ending(L.Flatten()), "inert", None),
    "global maximum": (ending(L.GlobalMaxPooling2D()), "inert", None),
    "average pooling, flatten": (
        ending(lambda x: L.Flatten()(L.AveragePooling2D(SIZE // 2)(x))),
        "inert",
        None,
    ),
    # something does not fit
    "tanh": (lambda: net(L.Activation("tanh")), "unsafe", "TANH"),
    "gelu": (lambda: net(L.Activation("gelu")), "unsafe", "GELU"),
    "clipped stem": (lambda: net(start=clipped_stem), "unsafe", "CONV_2D"),
    "clipped stem, pooling": (
        lambda: net(L.MaxPooling2D(), start=clipped_stem),
        "unsafe",
        "MAX_POOL_2D",
    ),
    "max pooling": (lambda: net(L.MaxPooling2D()), "unsafe", "MAX_POOL_2D"),
    "average pooling": (
        lambda: net(L.AveragePooling2D(2)),
        "unsafe",
        "AVERAGE_POOL_2D",
    ),
    "prelu": (lambda: net(L.PReLU(shared_axes=[1, 2])), "unsafe", "NEG"),
    "SAME stride-2 depthwise": (
        lambda: net(dw(strides=2)),
        "unsafe",
        "DEPTHWISE_CONV_2D",
    ),
    "depthwise without padding": (
        lambda: net(L.DepthwiseConv2D(3)),
        "unsafe",
        "DEPTHWISE_CONV_2D",
    ),
    "depthwise padded at the end": (
        lambda: net(strided(3, ((0, 1), (0, 1)))),
        "unsafe",
        "DEPTHWISE_CONV_2D",
    ),
    "depthwise 7": (lambda: net(dw(7)), "unsafe", "DEPTHWISE_CONV_2D"),
    "depth multiplier": (
        lambda: net(dw(depth_multiplier=2)),
        "unsafe",
        "DEPTHWISE_CONV_2D",
    ),
    "dilated depthwise": (
        lambda: net(dw(dilation_rate=2)),
        "unsafe",
        "DEPTHWISE_CONV_2D",
    ),
    "3×3": (lambda: net(L.Conv2D(WIDTH, 3, padding="same")), "unsafe", "CONV_2D"),
    "1×1 stride 2": (lambda: net(conv(strides=2)), "unsafe", "CONV_2D"),
    "grouped": (lambda: net(conv(groups=2)), "unsafe", "CONV_2D"),
    "normalization behind an activation": (lambda: net(normalized), "unsafe", "MUL"),
    "concatenation": (
        lambda: net(lambda x: L.Concatenate()([conv()(x), conv()(x)])),
        "unsafe",
        "CONCATENATION",
    ),
    "nearest neighbour": (
        lambda: net(L.UpSampling2D()),
        "unsafe",
        "RESHAPE",
    ),
    "padding alone": (lambda: net(L.ZeroPadding2D(1)), "unsafe", "CONV_2D"),
    "subtraction": (
        lambda: net(lambda x: L.Subtract()([conv()(x), conv()(x)])),
        "unsafe",
        "SUB",
    ),
    "transposed": (
        lambda: net(L.Conv2DTranspose(WIDTH, 2, strides=2)),
        "unsafe",
        "TRANSPOSE_CONV",
    ),
    "hard sigmoid gate": (
        lambda: net(gated(conv(8, activation="relu"), conv(activation="hard_sigmoid"))),
        "unsafe",
        "MUL",
    ),
    "gate of Dense layers": (lambda: net(dense_gate), "unsafe", "MUL"),
    "head of 1×1 convolutions": (
        ending(
            lambda x: L.Reshape((10,))(
                conv(10)(L.GlobalAveragePooling2D(keepdims=True)(x))
            )
        ),
        "unsafe",
        "RESHAPE",
    ),
    "mean that keeps its axes": (
        ending(L.GlobalAveragePooling2D(keepdims=True)),
        "unsafe",
        "MEAN",
    ),
    "a map as an output": (two_outputs, "unsafe", "CONV_2D"),
    "a branch from outside": (outside_branch, "unsafe", "ADD"),
    "shared padding": (shared_padding, "unsafe", "CONV_2D"),
    "padded twice": (
        lambda: net(start=lambda x: with_padding(1)(L.ZeroPadding2D(1)(x))),
        "unsafe",
        "CONV_2D",
    ),
    "flatten behind pooling": (
        ending(lambda x: L.Dense(10)(L.Flatten()(L.AveragePooling2D(2)(x)))),
        "inert",
        None,
    ),
}


def random_net(seed):
    """A net of 2 to 6 random pieces, two thirds of them fitting."""
    generator = np.random.default_rng(seed)
    fits = [
        lambda: dw(),
        lambda: dw(5),
        lambda: strided(),
        lambda: strided(5),
        lambda: conv(activation="relu"),
        lambda: residual(dw(), L.BatchNormalization(), L.ReLU(6.0), conv()),
        lambda: residual(conv(activation="relu"), conv()),
        lambda: swish,
        lambda: L.Activation("hard_swish"),
        lambda: gated(conv(8, activation="relu"), conv(**SIGMOID)),
        lambda: L.LeakyReLU(),
    ]
    others = [
        lambda: L.MaxPooling2D(),
        lambda: L.AveragePooling2D(2),
        lambda: L.PReLU(shared_axes=[1, 2]),
        lambda: dw(strides=2),
        lambda: L.Conv2D(WIDTH, 3, padding="same"),
        lambda: normalized,
        lambda: dense_gate,
        lambda: gated(conv(activation="hard_sigmoid")),
        lambda: residual(L.MaxPooling2D(3, 1, padding="same")),
        lambda: L.Activation("hard_sigmoid"),
        lambda: residual(L.Conv2D(WIDTH, 3, padding="same")),
    ]
    count = generator.integers(2, 7)
    spoilt = generator.random() < 0.6
    layers = [fits[generator.integers(len(fits))]() for _ in range(count)]
    if spoilt:
        place = generator.integers(count + 1)
        layers.insert(place, others[generator.integers(len(others))]())
    start = None if generator.random() < 0.85 else same_stem()
    heads = [
        None,
        None,
        None,
        L.Flatten(),
        L.GlobalMaxPooling2D(),
        lambda x: L.Reshape((10,))(
            conv(10)(L.GlobalAveragePooling2D(keepdims=True)(x))
        ),
    ]
    head = heads[generator.integers(len(heads))]
    if head is None:
        return net(*layers, start=start)
    body = net(*layers, start=start, head=False)
    return keras.Model(
        body.inputs, head(conv(2 * WIDTH, activation="relu")(body.output))
    )

"""The nets of the step time benchmark, each written once for Keras 3 and for Keras 2.

`k` is the module that builds: `keras`, or `tf_keras`, which tfmot needs. All end in
logits, and activations are layers of their own, because PQuantML's layers have none.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

CLASSES = 10
WIDTH, HEADS, TOKENS = 768, 12, 128  # of BERT-base


@dataclass(frozen=True)
class Net:
    """A net, and how its steps are measured.

    Args:
        name: for the command line.
        title: for the table.
        build: a model from the Keras that is to build it.
        batch: examples a step.
        steps: how many are timed, where they are quick enough.
        goal: of a step on the ramp in graph mode, as a multiple of the dense one.
        no_xla: why the full run leaves its XLA steps out; empty where it does not.
    """

    name: str
    title: str
    build: Callable[[Any], Any]
    batch: int
    steps: int
    goal: float
    no_xla: str = ""


def small(k: Any) -> Any:
    """The net of tutorials/01_quickstart.py: 98,778 parameters."""
    inputs = k.Input((28, 28, 1))
    x = _normed(k, inputs, 16, strides=2)
    for filters in (32, 64):
        x = k.layers.MaxPooling2D()(_normed(k, x, filters))
    x = k.layers.Dense(128)(k.layers.Flatten()(x))
    return k.Model(inputs, k.layers.Dense(CLASSES)(k.layers.ReLU()(x)))


def resnet20(k: Any) -> Any:
    """Three stages of three residual blocks, for images of 32 pixels."""
    inputs = k.Input((32, 32, 3))
    x = _normed(k, inputs, 16)
    for filters, first in ((16, 1), (32, 2), (64, 2)):
        for strides in (first, 1, 1):
            y = _conv(k, _normed(k, x, filters, strides), filters)
            y = k.layers.BatchNormalization()(y)
            if strides > 1:
                x = _conv(k, x, filters, strides, size=1)
            x = k.layers.ReLU()(k.layers.Add()([x, y]))
    x = k.layers.GlobalAveragePooling2D()(x)
    return k.Model(inputs, k.layers.Dense(CLASSES)(x))


def mobilenet(k: Any) -> Any:
    """MobileNetV1 at 224 pixels, of 1,000 classes."""
    return k.applications.MobileNet(weights=None, classifier_activation=None)


def transformer(k: Any) -> Any:
    """Two blocks of BERT-base's size on 128 tokens that are embedded already."""
    inputs = x = k.Input((TOKENS, WIDTH))
    for _ in range(2):
        attention = k.layers.MultiHeadAttention(HEADS, WIDTH // HEADS)
        x = k.layers.LayerNormalization()(k.layers.Add()([x, attention(x, x)]))
        y = k.layers.Activation("gelu")(k.layers.Dense(4 * WIDTH)(x))
        y = k.layers.Dense(WIDTH)(y)
        x = k.layers.LayerNormalization()(k.layers.Add()([x, y]))
    x = k.layers.GlobalAveragePooling1D()(x)
    return k.Model(inputs, k.layers.Dense(CLASSES)(x))


def mlp(k: Any, width: int = 2048) -> Any:
    """Weights dominate: five square kernels, 21 million weights, few activations."""
    inputs = x = k.Input((width,))
    for _ in range(5):
        x = k.layers.ReLU()(k.layers.Dense(width)(x))
    return k.Model(inputs, k.layers.Dense(CLASSES)(x))


def _conv(k: Any, x: Any, filters: int, strides: int = 1, size: int = 3) -> Any:
    conv = k.layers.Conv2D(filters, size, strides, padding="same", use_bias=False)
    return conv(x)


def _normed(k: Any, x: Any, filters: int, strides: int = 1) -> Any:
    y = _conv(k, x, filters, strides)
    return k.layers.ReLU()(k.layers.BatchNormalization(momentum=0.9)(y))


_SLOW = (
    "left out: on a processor XLA runs a step of a convolution net of this size far "
    "slower than graph mode does, after a long compilation; `--net {name} --jit` "
    "measures it all the same"
)

NETS = {
    net.name: net
    for net in (
        Net("small", "small convolution net", small, 128, 150, 1.05),
        Net("resnet20", "ResNet-20", resnet20, 128, 40, 1.05),
        Net(
            "mobilenet",
            "MobileNetV1-224",
            mobilenet,
            32,
            8,
            1.05,
            _SLOW.format(name="mobilenet"),
        ),
        Net("transformer", "two BERT-base blocks", transformer, 8, 30, 1.09),
        Net("mlp", "MLP", mlp, 16, 60, 1.25),
        Net("mlp128", "MLP, larger batch", mlp, 128, 40, 1.25),
    )
}
# What `--short` runs.
SHORT = {
    "small": replace(NETS["small"], steps=20),
    "mlp": replace(
        NETS["mlp"], title="small MLP", build=partial(mlp, width=512), steps=20
    ),
}

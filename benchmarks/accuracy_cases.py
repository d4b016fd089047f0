"""The cases of the accuracy benchmark: a net, its data and how it is trained."""

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import accuracy_data as sets
from benchmarks import accuracy_nets as nets
from benchmarks.accuracy_data import Array, Data, Split

MODELS = Path(__file__).parents[2] / "shared" / "data" / "models"
REFERENCE = "mlperf_tiny_resnet8_cifar10.keras"


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent with momentum, at a constant rate."""

    rate: float
    momentum: float = 0.9

    def build(self, k: Any, steps: int) -> Any:
        return k.optimizers.SGD(self.rate, self.momentum)


@dataclass(frozen=True)
class AdamCosine:
    """Adam at a rate that falls to zero along a cosine."""

    rate: float

    def build(self, k: Any, steps: int) -> Any:
        falling = k.optimizers.schedules.CosineDecay(self.rate, steps)
        return k.optimizers.Adam(falling)


@dataclass(frozen=True)
class Case:
    """A net, its data and how it is trained: the same for every method.

    Args:
        name: on the command line and in the results.
        title: in the tables.
        net: builds it with the Keras it is given.
        data: reads the whole data; kept in a file under the function's name.
        inputs: the shape of one input.
        scale: what inputs are multiplied by, as float32; `None` for whole numbers.
        flip: whether half of the images are mirrored.
        training, validation, test: examples of each split.
        epochs: of the whole run.
        batch: examples of one step.
        optimizer: with its learning rate.
        start: the weights to begin with, instead of random ones, and where from.
    """

    name: str
    title: str
    net: Callable[[Any], Any]
    data: Callable[[], dict[str, Array]]
    inputs: tuple[int, ...]
    scale: float | None
    flip: bool
    training: int
    validation: int
    test: int
    epochs: int
    batch: int
    optimizer: SGD | AdamCosine
    start: Callable[[], list[Array]] | None = None

    @property
    def steps(self) -> int:
        """Of one epoch."""
        return self.training // self.batch

    def short(self) -> "Case":
        """Every step, no good numbers."""
        return dataclasses.replace(
            self,
            training=10 * self.batch,
            validation=200,
            test=500,
            epochs=4,
        )

    def cut(self, stored: dict[str, Array]) -> Data:
        """The splits, in the shape and the dtype that the net takes."""
        found = sets.cut(stored, self.training, self.validation, self.test)

        def ready(split: Split) -> Split:
            x = split.x.reshape(-1, *self.inputs)
            if self.scale is not None:
                x = x.astype("float32") * self.scale
            return Split(x, split.y)

        return Data(ready(found.train), ready(found.validation), ready(found.test))

    def configuration(self) -> dict[str, Any]:
        """What decides the result, as JSON."""
        return {
            "data": self.data.__name__,
            "training": self.training,
            "validation": self.validation,
            "test": self.test,
            "epochs": self.epochs,
            "batch": self.batch,
            "optimizer": f"{self.optimizer}",
            "flip": self.flip,
            "scale": self.scale,
        }


def reference() -> list[Array]:
    """The weights of MLPerf Tiny's trained ResNet-8, in the order of `nets.resnet8`.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it is not that net.
    """
    import keras
    import numpy as np

    path = Path(os.environ.get("KERAS_PDP_MODELS", MODELS)) / REFERENCE
    if not path.exists():
        raise FileNotFoundError(
            f"{REFERENCE} is not there: set KERAS_PDP_MODELS to the folder that has it"
        )
    trained, net = keras.models.load_model(path, compile=False), nets.resnet8(keras)
    net.set_weights(trained.get_weights())
    images = np.random.default_rng(0).uniform(0, 255, (16, 32, 32, 3))
    mine = keras.ops.softmax(net.predict(images, verbose=0))
    difference = np.abs(np.asarray(mine) - trained.predict(images, verbose=0)).max()
    if not difference < 1e-4:
        raise ValueError(
            f"expected {REFERENCE} to compute what nets.resnet8 does with its weights; "
            f"their outputs differ by {difference}"
        )
    return net.get_weights()


# Sized for one slow core: a piece takes one to five minutes, and a case has 165 without
# PQuantML's. At least six epochs, or the paper's ramp, which climbs once an epoch and
# ends after 82 % of them, would stop below its target.
_LENET = Case(
    name="lenet",
    title="LeNet-300-100, Fashion-MNIST",
    net=nets.lenet,
    data=sets.fashion_mnist,
    inputs=(784,),
    scale=1 / 255,
    flip=False,
    training=20_000,
    validation=5_000,
    test=10_000,
    epochs=15,
    batch=128,
    optimizer=SGD(0.02),
)
_RESNET = Case(
    name="resnet8",
    title="ResNet-8 from scratch, CIFAR-10",
    net=nets.resnet8,
    data=sets.cifar10,
    inputs=(32, 32, 3),
    scale=1.0,
    flip=True,
    training=15_000,
    validation=5_000,
    test=10_000,
    epochs=8,
    batch=64,
    optimizer=AdamCosine(2e-3),
)
CASES = {
    case.name: case
    for case in (
        _LENET,
        dataclasses.replace(
            _LENET,
            name="convolutions",
            title="small convolution net, Fashion-MNIST",
            net=nets.convolutions,
            inputs=(28, 28, 1),
            training=16_000,
            epochs=6,
            optimizer=AdamCosine(2e-3),
        ),
        _RESNET,
        dataclasses.replace(
            _RESNET,
            name="resnet8-trained",
            title="ResNet-8 from the trained reference, CIFAR-10",
            training=8_000,
            epochs=6,
            optimizer=AdamCosine(1e-3),
            start=reference,
        ),
        dataclasses.replace(
            _RESNET,
            name="mobilenet",
            title="MobileNetV1-0.25-like, CIFAR-10",
            net=nets.mobilenet,
            scale=1 / 255,
        ),
        Case(
            name="transformer",
            title="small transformer, SST-2",
            net=nets.transformer,
            data=sets.sst2,
            inputs=(nets.LENGTH,),
            scale=None,
            flip=False,
            training=12_800,
            validation=4_000,
            test=872,
            epochs=6,
            batch=128,
            optimizer=AdamCosine(1e-3),
        ),
    )
}

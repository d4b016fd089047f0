"""CIFAR-10 as arrays, or what stands in for it where it is not there.

`load()` takes the first of these that is there, and says which it was:

1. what tensorflow-datasets has prepared in its own folder (`TFDS_DATA_DIR`, by default
   ~/tensorflow_datasets); `tfds.load("cifar10")` prepares it, 170 MB;
2. a tensorflow-datasets folder that `KERAS_PDP_DATA` names;
3. the images of clothes of the quick start, in the format of CIFAR-10: 32 x 32, three
   equal colours. (CIFAR-10 states no licence, so the repository carries none of it.)
"""

import os
from typing import NamedTuple

import fashion_mnist
import numpy as np

VALIDATION = 10  # one of so many training images is for choosing, not for training


class Split(NamedTuple):
    """Images `(n, 32, 32, 3)` in 0 ... 255 and their classes `(n,)` in 0 ... 9."""

    images: np.ndarray  # float32
    labels: np.ndarray  # int64


class Data(NamedTuple):
    """The three splits.

    Args:
        train, validation, test: Images and labels.
        source: One line that says where they are from.
        real: Whether it is CIFAR-10.
    """

    train: Split
    validation: Split
    test: Split
    source: str
    real: bool


def load() -> Data:
    """Training, validation and test split."""
    import tensorflow_datasets as tfds

    for folder in (None, os.environ.get("KERAS_PDP_DATA")):
        builder = tfds.builder("cifar10", data_dir=folder or None)
        if builder.is_prepared():
            splits = builder.as_dataset(split=["train", "test"], batch_size=-1)
            train, test = (
                Split(each["image"].astype("float32"), each["label"])
                for each in tfds.as_numpy(splits)
            )
            return _parted(train, test, f"CIFAR-10, {builder.data_dir}", real=True)
    print("CIFAR-10 is not there; tfds.load('cifar10') would prepare it", flush=True)
    train, test, source = fashion_mnist.load()
    source = f"in the place of CIFAR-10 Fashion-MNIST, {source}"
    return _parted(_as_cifar(train), _as_cifar(test), source, real=False)


def _parted(train: Split, test: Split, source: str, real: bool) -> Data:
    held = np.arange(len(train.labels)) % VALIDATION == 0
    return Data(
        Split(train.images[~held], train.labels[~held]),
        Split(train.images[held], train.labels[held]),
        test,
        source,
        real,
    )


def _as_cifar(split: fashion_mnist.Split) -> Split:
    padded = np.pad(split.images, [(0, 0), (2, 2), (2, 2), (0, 0)])
    return Split(np.repeat(padded, 3, axis=-1).astype("float32"), split.labels)

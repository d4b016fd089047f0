"""Data of the accuracy benchmark: arrays, cut into splits, in an order that is ours.

What a step sees depends on the seed, the epoch and the step alone, so that all methods,
whichever Keras they need, train on the same batches in the same order.
"""

import importlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.accuracy_nets import LENGTH, WORDS

Array = npt.NDArray[Any]
TUTORIALS = Path(__file__).parents[1] / "tutorials"


class Split(NamedTuple):
    """Inputs `(n, ...)` and classes `(n,)`."""

    x: Array
    y: Array

    def take(self, chosen: Any) -> "Split":
        """Some of them."""
        return Split(self.x[chosen], self.y[chosen])


@dataclass(frozen=True)
class Data:
    """What a net is trained on, what choices are made on, what the table shows."""

    train: Split
    validation: Split
    test: Split


def cut(stored: dict[str, Array], training: int, validation: int, test: int) -> Data:
    """Cuts both splits out of the training data, in one random order for all seeds.

    Raises:
        ValueError: there are too few images.
    """
    train = Split(stored["train_x"], stored["train_y"])
    if len(train.y) < training + validation or len(stored["test_y"]) < test:
        raise ValueError(
            f"expected at least {training} + {validation} examples to train and "
            f"validate on, and {test} to test on, received {len(train.y)} and "
            f"{len(stored['test_y'])}; is TFDS_DATA_DIR set?"
        )
    order = np.random.default_rng(0).permutation(len(train.y))
    return Data(
        train.take(order[:training]),
        train.take(order[training : training + validation]),
        Split(stored["test_x"][:test], stored["test_y"][:test]),
    )


def batches(
    train: Split, seed: int, size: int, flip: bool
) -> Iterator[tuple[Array, Array]]:
    """Batches without end: one permutation an epoch, without its incomplete batch.

    Args:
        train: the training split.
        seed: of the run.
        size: of a batch.
        flip: whether half of the images are mirrored.
    """
    epoch = 0
    while True:
        random = np.random.default_rng([seed, epoch])
        order = random.permutation(len(train.y))
        for start in range(0, len(order) - size + 1, size):
            x, y = train.take(order[start : start + size])
            if flip:
                mirrored = random.random(size) < 0.5
                x = np.where(mirrored[:, None, None, None], x[:, :, ::-1], x)
            yield x, y
        epoch += 1


def fashion_mnist() -> dict[str, Array]:
    """Images of clothes, uint8; where there is no network, the part we carry."""
    if str(TUTORIALS) not in sys.path:
        sys.path.append(str(TUTORIALS))
    train, test, source = importlib.import_module("fashion_mnist").load()
    print(f"Fashion-MNIST: {source}", flush=True)
    return _stored(Split(*train), Split(*test))


def cifar10() -> dict[str, Array]:
    """Photographs, uint8, from tensorflow-datasets."""
    return _stored(*_prepared("cifar10", "image"))


def sst2() -> dict[str, Array]:
    """Sentences as the numbers of their words, int32; the test is GLUE's validation.

    The words are the most frequent of the training sentences; 0 stands for no word
    and 1 for one that is not among them.
    """
    train, test = _prepared("glue/sst2", "sentence")
    words = [text.decode().split() for text in train.x]
    flat, counts = np.unique([w for each in words for w in each], return_counts=True)
    common = flat[np.argsort(-counts, kind="stable")[: WORDS - 2]]
    numbers = {word: number for number, word in enumerate(common.tolist(), start=2)}

    def encoded(split: Split) -> Split:
        x = np.zeros((len(split.y), LENGTH), "int32")
        for row, text in zip(x, split.x, strict=True):
            found = [numbers.get(w, 1) for w in text.decode().split()[:LENGTH]]
            row[: len(found)] = found
        return Split(x, split.y)

    return _stored(encoded(train), encoded(test))


def _prepared(name: str, feature: str) -> list[Split]:
    import tensorflow_datasets as tfds

    for folder in (None, os.environ.get("KERAS_PDP_DATA")):
        builder = tfds.builder(name, data_dir=folder or None)
        if builder.is_prepared():
            test = "validation" if "sst2" in name else "test"
            splits = builder.as_dataset(split=["train", test], batch_size=-1)
            return [
                Split(each[feature], each["label"]) for each in tfds.as_numpy(splits)
            ]
    raise FileNotFoundError(
        f"{name} is not prepared: run tfds.load({name!r}) once with a network, or set "
        "TFDS_DATA_DIR or KERAS_PDP_DATA to a tensorflow-datasets folder that has it"
    )


def _stored(train: Split, test: Split) -> dict[str, Array]:
    return {
        "train_x": train.x,
        "train_y": train.y.astype("int32"),
        "test_x": test.x,
        "test_y": test.y.astype("int32"),
    }

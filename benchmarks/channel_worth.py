"""What a channel is worth: whose removal hurts a trained net least.

    python -m benchmarks.channel_worth        a minute; writes results/channel_worth.md

MLPerf Tiny's trained ResNet-8 loses a part of its multiplications at once, by channels,
without any training; only the statistics of its normalisations are taken again, on
training images. The budget is shared out in three ways: by a channel's part of what is
left of its group, for what it saves (`keras_pdp/training/channel_budget.py`), which is
ours; by scores as they are; and in equal parts. Data and weights are those of
`benchmarks.accuracy`: CIFAR-10 by tensorflow-datasets, and the trained net from the
folder that `KERAS_PDP_MODELS` names.
"""

import contextlib
import datetime
import importlib.metadata
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

from benchmarks.accuracy_cases import CASES
from benchmarks.accuracy_data import Array, Split
from benchmarks.accuracy_task import accuracy
from keras_pdp import (
    Channel,
    PDPCallback,
    global_magnitude,
    lamp,
    macs,
    shrink,
    strip,
    uniform,
    wrap,
)
from keras_pdp.sparsity.allocation import Candidate
from keras_pdp.training import channel_budget

RESULTS = Path(__file__).parent / "results" / "channel_worth.md"
CASE = CASES["resnet8-trained"]
SAVED = 0.15, 0.3, 0.5  # of the multiplications
BATCH, BATCHES = 250, 16  # of which statistics are taken
IMAGES = 2500  # of the validation split


def scores_alone(group: Any, saving: float, weight: float, squares: Any) -> Candidate:
    """A group's channels by their scores, whatever is left beside them."""
    sizes = np.full(group.channels, max(round(saving), 1), np.int64)
    shape = group.members[0].kernel.shape
    return Candidate(np.sqrt(group.scores(squares)), sizes, shape)


@contextlib.contextmanager
def by_scores() -> Iterator[None]:
    """Budgets are shared out by scores alone."""
    with mock.patch.object(channel_budget, "_candidate", scores_alone):
        yield


WAYS: dict[str, tuple[Any, Callable[[], contextlib.AbstractContextManager[None]]]] = {
    "part of what is left, for what it saves (ours)": (lamp, contextlib.nullcontext),
    "scores alone": (global_magnitude, by_scores),
    "equal parts": (uniform, contextlib.nullcontext),
}


def cut(net: keras.Model, saved: float, way: str) -> keras.Model:
    """The net without the channels whose removal saves that part of its MACs."""
    allocation, as_candidates = WAYS[way]
    wrapped = wrap(net, Channel())
    pdp = PDPCallback(saved, allocation=allocation, cost=macs)
    pdp.set_model(wrapped)
    with as_candidates():
        pdp.update(1.0)
    return shrink(strip(wrapped))


def take_statistics(net: keras.Model, images: Array) -> None:
    """Gives every normalisation the mean of its statistics over batches of images."""
    layers = [x for x in net.layers if isinstance(x, keras.layers.BatchNormalization)]
    for number in range(BATCHES):
        for layer in layers:  # the n-th batch is an n-th of the mean
            layer.momentum = number / (number + 1)
        net(images[number * BATCH : (number + 1) * BATCH], training=True)


def measured(net: keras.Model, images: Array, held: Split) -> dict[str, list[float]]:
    """The accuracy on what is held out by way, for each of `SAVED`."""
    found: dict[str, list[float]] = {}
    for way in WAYS:
        for saved in SAVED:
            smaller = cut(net, saved, way)
            take_statistics(smaller, images)
            found.setdefault(way, []).append(accuracy(smaller, held))
    return found


def main() -> None:
    data = CASE.cut(CASE.data())
    net = CASE.net(keras)
    assert CASE.start is not None
    net.set_weights(CASE.start())
    held = Split(data.validation.x[:IMAGES], data.validation.y[:IMAGES])
    whole = accuracy(net, held)
    versions = (f"{p} {importlib.metadata.version(p)}" for p in ("keras", "tensorflow"))
    lines = [
        "# What a channel is worth",
        "",
        f"Made by `python -m benchmarks.channel_worth`, {datetime.date.today()}: "
        f"{', '.join(versions)}. MLPerf Tiny's trained ResNet-8, which saw these "
        f"images in its training; percent right of {IMAGES:,} images of CIFAR-10, "
        f"{whole:.1%} before. Channels removed at once, no training after it, but "
        f"statistics of normalisations from {BATCH * BATCHES:,} images.",
        "",
        "| MACs saved | " + " | ".join(f"{saved:.0%}" for saved in SAVED) + " |",
        "|---" * (len(SAVED) + 1) + "|",
    ]
    for way, found in measured(net, data.train.x, held).items():
        lines.append(f"| {way} | " + " | ".join(f"{a:.1%}" for a in found) + " |")
    text = "\n".join(lines) + "\n"
    print(text)
    RESULTS.write_text(text)


if __name__ == "__main__":
    main()

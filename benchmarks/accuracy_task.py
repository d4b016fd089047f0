"""What every method of the accuracy benchmark is given, and how every one trains."""

import itertools
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.accuracy_cases import Case
from benchmarks.accuracy_data import Array, Data, Split, batches
from benchmarks.accuracy_nets import is_pruned
from benchmarks.accuracy_targets import Target

# Between two frameworks the outputs of one net differ by rounding.
SAME = 1e-4


class Refused(Exception):
    """A method can't do what the piece asks for; says why."""


@dataclass(frozen=True)
class Task:
    """One training.

    Args:
        case: the net and how it is trained.
        target: what it is pruned to.
        seed: of the initial weights and the order of the data.
        data: the splits.
        initial: the weights to begin with, in the order of `read_weights`.
    """

    case: Case
    target: Target
    seed: int
    data: Data
    initial: list[Array]

    @property
    def steps(self) -> int:
        """Of the whole run."""
        return self.case.steps * self.case.epochs

    def net(self, k: Any) -> Any:
        """The case's net with the initial weights, of Keras 3 or Keras 2."""
        net = self.case.net(k)
        write_weights(net, self.initial)
        return net


@dataclass(frozen=True)
class Prepared:
    """A model that is ready to train.

    Args:
        k: the Keras that it is of.
        model: with the initial weights.
        finish: takes the trained model, gives the weights of the plain net with
            exact zeros, in the order of `read_weights`.
        callbacks: for `fit`.
    """

    k: Any
    model: Any
    finish: Callable[[Any], list[Array]]
    callbacks: Sequence[Any] = ()


@dataclass(frozen=True)
class Trained:
    """What came of it.

    Args:
        weights: of the plain net, in the order of `read_weights`.
        losses: the mean training loss of each epoch.
        seconds: from the start of `fit` to the plain weights.
        cpu_seconds: of processor time.
    """

    weights: list[Array]
    losses: list[float]
    seconds: float
    cpu_seconds: float


def train(task: Task, prepared: Prepared) -> Trained:
    """Trains as the case says.

    Raises:
        Refused: the model does not start from what the plain net computes.
    """
    _check_start(task, prepared)
    k, case = prepared.k, task.case
    prepared.model.compile(
        case.optimizer.build(k, task.steps),
        k.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,  # slower on processors with convolutions
    )
    feed = _untuned(batches(task.data.train, task.seed, case.batch, case.flip))
    start, cpu_start = time.perf_counter(), time.process_time()
    history = prepared.model.fit(
        feed,
        steps_per_epoch=case.steps,
        epochs=case.epochs,
        callbacks=list(prepared.callbacks),
        shuffle=False,
        verbose=0,  # PQuantML's callback writes a word into the logs
    )
    weights = prepared.finish(prepared.model)
    return Trained(
        weights,
        [float(loss) for loss in history.history["loss"]],
        time.perf_counter() - start,
        time.process_time() - cpu_start,
    )


def _untuned(feed: Iterator[tuple[Array, Array]]) -> Any:
    """The batches as a tf.data.Dataset that does not tune itself.

    What Keras makes of a generator does, in a thread that sleeps for up to a minute at
    a time, and a training that was over waited for it. In all else this one is alike:
    a batch size that the graph knows let TensorFlow compute the convolution net by
    other sums, and the losses were no longer those of the generator to the bit.
    """
    import tensorflow as tf

    first = next(feed)
    # Not anew for each iterator: that would bring the first batch again.
    whole = itertools.chain([first], feed)
    signature = tuple(tf.TensorSpec((None, *a.shape[1:]), a.dtype) for a in first)
    options = tf.data.Options()
    options.autotune.enabled = False
    dataset = tf.data.Dataset.from_generator(lambda: whole, output_signature=signature)
    return dataset.prefetch(1).with_options(options)


def outputs(model: Any, x: Array) -> Array:
    """What a model says in evaluation; without a graph, which takes longer to make."""
    parts = [
        model(x[start : start + 500], training=False) for start in range(0, len(x), 500)
    ]
    return np.concatenate([np.asarray(part) for part in parts])


def accuracy(model: Any, split: Split) -> float:
    """The share of a split that a model gets right."""
    return float(np.mean(outputs(model, split.x).argmax(axis=-1) == split.y))


def sparsity(net: Any) -> float:
    """The zeros in the kernels of the layers that take part, of a plain net."""
    kernels = [
        weight
        for layer in net.layers
        if is_pruned(layer)
        for weight in layer.get_weights()
        if weight.ndim > 1 and not _is_attention_bias(layer, weight)
    ]
    zeros = sum(int(np.count_nonzero(each == 0)) for each in kernels)
    return zeros / sum(each.size for each in kernels)


def read_weights(model: Any) -> list[Array]:
    """All weights, by layers' classes and the order in which they were made."""
    return [w for layer in _layers(model) for w in layer.get_weights()]


def write_weights(model: Any, weights: Sequence[Array]) -> None:
    """Undoes `read_weights`, in a net of the same definition."""
    given = iter(weights)
    for layer in _layers(model):
        count = len(layer.get_weights())
        layer.set_weights(list(itertools.islice(given, count)))
    if left := len(list(given)):
        raise ValueError(
            f"expected the weights of '{model.name}', received {left} more"
        )


def _layers(model: Any) -> list[Any]:
    """Keras 3 and Keras 2 put the branches of a net in different orders."""

    def made(layer: Any) -> tuple[str, int]:
        number = re.search(r"_(\d+)$", layer.name)
        return type(layer).__name__, int(number[1]) if number else 0

    return sorted((each for each in model.layers if each.get_weights()), key=made)


def _is_attention_bias(layer: Any, weight: Array) -> bool:
    return type(layer).__name__ == "MultiHeadAttention" and weight.ndim == 2


def _check_start(task: Task, prepared: Prepared) -> None:
    """Also finds a peer that loses an activation or a layer when it takes a net."""
    some = task.data.train.x[: task.case.batch]
    expected = outputs(task.net(prepared.k), some)
    found = outputs(prepared.model, some)
    difference = float(np.abs(found - expected).max())
    if not difference <= SAME * max(1.0, float(np.abs(expected).max())):
        raise Refused(
            "changes the net before it is trained: its outputs are off by "
            f"{difference:.3g}"
        )

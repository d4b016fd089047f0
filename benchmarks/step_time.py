"""What a training step costs: dense, and wrapped in each phase of the pruning.

    python benchmarks/step_time.py            two minutes on two cores
    python benchmarks/step_time.py --jit      the whole step compiled by XLA as well

The models take their steps in turn, so that whatever else the machine does falls on
all of them; what counts is the ratio of the medians. The ramp's steps contain the
callback's work: the sparsity changes in each of them.
"""

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from keras_pdp import PDPCallback, PDPWrapper

BATCH = 128
STEPS = 150
SKIPPED = 10  # the first steps trace and compile

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--jit", action="store_true", help="jit_compile=True for the step")
parser.add_argument("--steps", type=int, default=STEPS)
arguments = parser.parse_args()


def network(prunable: Callable[[keras.Layer], keras.Layer]) -> keras.Model:
    """The net of tutorials/01_quickstart.py: 98,778 parameters."""
    net = keras.Sequential([keras.Input((28, 28, 1))])
    for filters, strides in ((16, 2), (32, 1), (64, 1)):
        conv = layers.Conv2D(
            filters, 3, strides=strides, padding="same", use_bias=False
        )
        net.add(prunable(conv))
        net.add(layers.BatchNormalization(momentum=0.9))
        net.add(layers.ReLU())
        if strides == 1:
            net.add(layers.MaxPooling2D())
    net.add(layers.Flatten())
    net.add(prunable(layers.Dense(128, activation="relu")))
    net.add(prunable(layers.Dense(10, activation="softmax")))
    net.compile("adam", "sparse_categorical_crossentropy", jit_compile=arguments.jit)
    return net


def wrapped(begin: float) -> tuple[keras.Model, PDPCallback]:
    """A wrapped net whose pruning stands at a fraction of the run."""
    net = network(PDPWrapper)
    pdp = PDPCallback(0.9)
    pdp.set_model(net)
    pdp.update(begin)
    return net, pdp


rng = np.random.default_rng(0)
x = tf.constant(rng.normal(size=(BATCH, 28, 28, 1)).astype("float32"))
y = tf.constant(rng.integers(0, 10, BATCH))

warm_up, ramp, tail = wrapped(0.0), wrapped(0.2), wrapped(1.0)
dense = network(lambda layer: layer)


def ramp_step(step: int) -> None:
    ramp[1].update(0.2 + 0.5 * step / arguments.steps)
    ramp[0].train_on_batch(x, y)


phases: dict[str, Callable[[int], object]] = {
    "dense": lambda step: dense.train_on_batch(x, y),
    "wrapped, warm-up": lambda step: warm_up[0].train_on_batch(x, y),
    "wrapped, ramp": ramp_step,
    "wrapped, frozen tail": lambda step: tail[0].train_on_batch(x, y),
}
times: dict[str, list[float]] = {name: [] for name in phases}
first: dict[str, float] = {}
for step in range(arguments.steps):
    for name, run in phases.items():
        start = time.perf_counter()
        run(step)
        times[name].append(time.perf_counter() - start)
        first.setdefault(name, times[name][0])

mode = "XLA step" if arguments.jit else "graph"
print(
    f"quick start net, batch {BATCH}, {mode}, {arguments.steps} steps in turn; "
    f"Keras {keras.__version__}, TensorFlow {tf.__version__}, "
    f"Python {platform.python_version()}, {os.cpu_count()} cores"
)
print(f"{'':<22}{'median ms':>10}{'ratio':>8}{'first step s':>14}")
baseline = statistics.median(times["dense"][SKIPPED:])
for name, measured in times.items():
    median = statistics.median(measured[SKIPPED:])
    ratio = f"{median / baseline:.3f}"
    print(f"{name:<22}{median * 1e3:>10.2f}{ratio:>8}{first[name]:>14.2f}")

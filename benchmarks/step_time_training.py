"""What every training of the step time benchmark is, and the dense one.

A process imports what its own framework needs and no more: libraries count in the
memory that it holds, and tfmot changes `tf.keras` for the whole process.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.step_time_nets import Net

SPARSITY = 0.9


@dataclass(frozen=True)
class Task:
    """What is trained.

    Args:
        net: the net.
        jit: whether XLA compiles the whole step.
        steps: how many there will be, which is how long a ramp is.
    """

    net: Net
    jit: bool
    steps: int


@dataclass(frozen=True)
class Training:
    """A training that is ready for its first step.

    Args:
        step: takes one more step and waits for it.
        pruned: weights that have a mask.
        sparsity: the share of them that is pruned by now, or on the way there.
    """

    step: Callable[[], object]
    pruned: int = 0
    sparsity: Callable[[], float] = lambda: 0.0


Prepare = Callable[[Task], Training]


def compiled_step(model: Any, task: Task, k: Any) -> Callable[[], object]:
    """One training step of the model on one batch of noise, which stays in memory."""
    import numpy as np
    import tensorflow as tf

    loss = k.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, jit_compile=task.jit)
    rng = np.random.default_rng(0)
    shape = (task.net.batch, *model.input_shape[1:])
    x = tf.constant(rng.normal(size=shape).astype("float32"))
    y = tf.constant(rng.integers(0, model.output_shape[-1], task.net.batch))
    return lambda: model.train_on_batch(x, y)


def dense(task: Task) -> Training:
    """Keras 3, nothing pruned."""
    import keras

    return Training(compiled_step(task.net.build(keras), task, keras))

"""Our trainings of the step time benchmark, in each phase and with a sort."""

import contextlib
import gc
import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from benchmarks.accuracy_nets import is_pruned
from benchmarks.step_time_training import SPARSITY, Task, Training, compiled_step

BEGIN, END = 0.15, 0.45  # of the run: within the ramp of our defaults


def _ours(task: Task) -> tuple[Training, Any]:
    """A wrapped net, and the callback that is to set it."""
    import keras

    from keras_pdp import PDPCallback, pruned_layers, wrap
    from keras_pdp.training import optimizer_state

    model = wrap(task.net.build(keras), select=is_pruned)
    gc.collect()  # the net that was copied, so that its memory is not counted
    pdp = PDPCallback(SPARSITY)
    pdp.set_model(model)
    pruned = sum(k.size for layer in pruned_layers(model) for k in layer.kernels)
    step = compiled_step(model, task, keras)

    def first() -> None:
        # As the callback does in `fit`, but for Keras's `train_on_batch` nobody does.
        optimizer_state.build(model)
        step()

    steps = itertools.chain([first], itertools.repeat(step))
    return Training(lambda: next(steps)(), pruned, pdp.hard_sparsity), pdp


def warm_up(task: Task) -> Training:
    """Wrapped, before pruning begins."""
    training, pdp = _ours(task)
    pdp.update(0.0)
    return training


def ramp(task: Task) -> Training:
    """Wrapped, with another sparsity in every step, set by the callback."""
    training, pdp = _ours(task)
    pdp.update(BEGIN)
    numbers = itertools.count()

    def ramp_step() -> None:
        done = min(next(numbers) / task.steps, 1.0)
        pdp.update(BEGIN + (END - BEGIN) * done)
        training.step()

    return replace(training, step=ramp_step)


def tail(task: Task) -> Training:
    """Wrapped, with frozen masks."""
    training, pdp = _ours(task)
    pdp.update(1.0)
    return training


def ramp_sorted(task: Task) -> Training:
    """The ramp with a sort in place of the search for the threshold."""
    training = ramp(task)

    def first() -> None:  # which traces and compiles; the others run what it made
        with sort_for_search():
            training.step()

    steps = itertools.chain([first], itertools.repeat(training.step))
    return replace(training, step=lambda: next(steps)())


def sorted_neighbours(scores: Any, pruned: Any) -> tuple[Any, Any]:
    """What `keras_pdp.sparsity.threshold.neighbours` gives, from a full sort."""
    from keras import ops

    ranked = ops.sort(ops.abs(scores))
    return ops.take(ranked, pruned - 1), ops.take(ranked, pruned)


@contextlib.contextmanager
def sort_for_search() -> Iterator[None]:
    """What is traced inside finds its thresholds by a sort.

    Raises:
        RuntimeError: nothing was traced with it.
    """
    from keras_pdp.sparsity import threshold

    used = False

    def counted(scores: Any, pruned: Any) -> tuple[Any, Any]:
        nonlocal used
        used = True
        return sorted_neighbours(scores, pruned)

    search = threshold.neighbours
    # Programs that were compiled with the search would be used again, and after that
    # those with the sort.
    _forget()
    threshold.neighbours = counted
    try:
        yield
    finally:
        threshold.neighbours = search
        _forget()
    if not used:
        raise RuntimeError("expected the step to be traced anew, with the sort")


def _forget() -> None:
    """All that was traced and compiled for kernels of other models."""
    from keras_pdp.training import compiled

    compiled._compiled.cache_clear()
    compiled._traced.cache_clear()

"""A process of the step time benchmark: `benchmarks.step_time` starts it.

    python -m benchmarks.step_time_process keras small

First each training of the framework takes its first steps in a process of its own,
which has compiled nothing for it, and tells how much memory it held at most. Then all
of them take their steps in turn in one process, so that whatever else the machine does
falls on all of them.
"""

import argparse
import contextlib
import importlib
import importlib.metadata
import json
import multiprocessing
import os
import platform
import resource
import time
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.step_time_frameworks import FRAMEWORKS, Framework
from benchmarks.step_time_nets import NETS, SHORT
from benchmarks.step_time_training import Task, Training
from benchmarks.step_time_turns import DENSE, Row, compared, in_turn

FRESH_STEPS = 3
PACKAGES = (
    "keras",
    "tensorflow",
    "tf_keras",
    "tensorflow-model-optimization",
    "pquant-ml",
)


def measured(framework: Framework, task: Task) -> list[Row]:
    """A row for every training of the framework."""
    with contextlib.suppress(ImportError):  # which each row will tell
        _keras(framework)  # once, as that takes longer than many a first step
    rows = {name: in_own_process(framework, task, name) for name in framework.variants}
    trainings: dict[str, Training] = {}
    for name, row in rows.items():
        if "reason" in row:
            continue
        with _reasons(framework, row):
            training = framework.variants[name](task)
            training.step()  # traces and compiles
            trainings[name] = training
    if trainings.keys() - {DENSE}:  # else there is nothing to compare
        times = in_turn({n: t.step for n, t in trainings.items()}, task.steps)
        for name, found in compared(times).items():
            training = trainings[name]
            shares = {"pruned": training.pruned, "sparsity": training.sparsity()}
            rows[name].update(found, **shares)
    return list(rows.values())


def in_own_process(framework: Framework, task: Task, variant: str) -> Row:
    """The first step's seconds, and the most memory that the process held.

    The process is a fork of this one, which has imported Keras and done nothing else.

    Raises:
        RuntimeError: a training of ours failed.
    """
    row: Row = {"variant": variant}
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sender, framework, task, variant))
    process.start()
    sender.close()  # or the end of the process would not be the end of the pipe
    with _reasons(framework, row):
        try:
            row.update(receiver.recv())
        except EOFError as error:
            process.join()
            raise RuntimeError(
                f"the process of '{variant}' ended with status {process.exitcode}"
            ) from error
    process.join()
    return row


def _send(sender: Connection, framework: Framework, task: Task, variant: str) -> None:
    row: Row = {}
    with _reasons(framework, row):
        row.update(_first_steps(framework, task, variant))
    sender.send(row)


def _first_steps(framework: Framework, task: Task, variant: str) -> Row:
    _set_tensorflow_up(framework, task.jit)
    before = peak_bytes()
    training = framework.variants[variant](task)
    start = time.perf_counter()
    training.step()
    first = time.perf_counter() - start
    for _ in range(FRESH_STEPS - 1):
        training.step()
    return {
        "first_s": first,
        "before_mb": before / 1e6,
        "peak_mb": peak_bytes() / 1e6,
    }


def _set_tensorflow_up(framework: Framework, jit: bool) -> None:
    """Trains a net of one layer: what any first step would have to wait for."""
    import numpy as np

    k = _keras(framework)
    inputs = k.Input((2,))
    net = k.Model(inputs, k.layers.Dense(1)(inputs))
    net.compile("adam", "mse", jit_compile=jit)
    net.train_on_batch(np.zeros((2, 2)), np.zeros((2, 1)))


def _keras(framework: Framework) -> Any:
    """The Keras that builds the framework's nets."""
    return importlib.import_module(framework.keras)


def peak_bytes() -> int:
    """The most that this process has held; Linux tells it in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextlib.contextmanager
def _reasons(framework: Framework, row: Row) -> Iterator[None]:
    """A peer that can't do something has its reason in the row; ours is a fault."""
    try:
        yield
    except Exception as error:
        if not framework.peer:
            raise
        row["reason"] = _reason(error)


def _reason(error: Exception) -> str:
    if isinstance(error, ImportError):
        return f"is not installed: {error}"
    from benchmarks.accuracy_piece import gist  # only here: it imports a lot

    return f"fails: {gist(error)}"


def circumstances() -> dict[str, Any]:
    """Versions, and the kind of machine."""
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "versions": dict(_versions(PACKAGES)),
    }


def _versions(packages: Iterable[str]) -> Iterable[tuple[str, str]]:
    for package in packages:
        try:
            yield package, importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("framework", choices=FRAMEWORKS)
    parser.add_argument("net", choices=NETS)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--jit", action="store_true")
    parser.add_argument("--short", action="store_true")
    given = parser.parse_args()
    net = (SHORT if given.short else NETS)[given.net]
    task = Task(net, given.jit, given.steps or net.steps)
    rows = measured(FRAMEWORKS[given.framework], task)
    print(json.dumps({**circumstances(), "rows": rows}))


if __name__ == "__main__":
    main()

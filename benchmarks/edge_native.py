"""Times .tflite files on this machine's processor, in turns, one thread."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

WARM_UP_RUNS = 5


def times_in_turns(
    files: Mapping[Path, Mapping[str, npt.NDArray[Any]]], rounds: int
) -> npt.NDArray[np.float64]:
    """Milliseconds `(rounds, files)`: in each round every file runs once.

    In another order each time: a file that always follows the same large one would find
    the caches as that one leaves them.

    The thread's own time is taken, so that what else runs on the machine counts little.

    Args:
        files: .tflite files of batch 1, with their inputs `(samples, ...)` by name, of
            which the first sample is run.
        rounds: how many.
    """
    from ai_edge_litert.interpreter import Interpreter

    runs: list[Callable[[], Any]] = []
    for file, inputs in files.items():
        interpreter = Interpreter(str(file), num_threads=1)
        interpreter.allocate_tensors()
        sample = {name: array[:1] for name, array in inputs.items()}
        runs.append(partial(interpreter.get_signature_runner(), **sample))
    for run in runs:
        for _ in range(WARM_UP_RUNS):
            run()
    times = np.empty((rounds, len(runs)))
    orders = np.random.default_rng(0)
    for row in times:
        for file in orders.permutation(len(runs)):
            row[file] = _milliseconds(runs[file])
    return times


def speed_up(
    baseline: npt.NDArray[np.float64], measured: npt.NDArray[np.float64]
) -> float:
    """How many times faster: the median of the ratios of single rounds.

    Both files of a round saw the same machine, which the two medians need not have.
    """
    return float(np.median(baseline / measured))


def _milliseconds(run: Callable[[], Any]) -> float:
    start = time.thread_time()
    run()
    return 1000 * (time.thread_time() - start)

"""Times .tflite files on this machine's processor, in turns, one thread."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

WARM_UP_RUNS = 5


def times_in_turns(
    files: Sequence[Path], inputs: Mapping[str, npt.NDArray[Any]], rounds: int
) -> npt.NDArray[np.float64]:
    """Milliseconds `(rounds, files)`: in each round every file runs once.

    The thread's own time is taken, so that what else runs on the machine counts little.

    Args:
        files: .tflite files of batch 1 with the same inputs.
        inputs: `(samples, ...)` by the input's name, of which the first is run.
        rounds: how many.
    """
    from ai_edge_litert.interpreter import Interpreter

    sample = {name: array[:1] for name, array in inputs.items()}
    runs = []
    for file in files:
        interpreter = Interpreter(str(file), num_threads=1)
        interpreter.allocate_tensors()
        runs.append(interpreter.get_signature_runner())
    for run in runs:
        for _ in range(WARM_UP_RUNS):
            run(**sample)
    return np.array(
        [[_milliseconds(run, sample) for run in runs] for _ in range(rounds)]
    )


def speed_up(
    baseline: npt.NDArray[np.float64], measured: npt.NDArray[np.float64]
) -> float:
    """How many times faster: the median of the ratios of single rounds.

    Both files of a round saw the same machine, which the two medians need not have.
    """
    return float(np.median(baseline / measured))


def _milliseconds(run: Any, sample: Mapping[str, npt.NDArray[Any]]) -> float:
    start = time.thread_time()
    run(**sample)
    return 1000 * (time.thread_time() - start)

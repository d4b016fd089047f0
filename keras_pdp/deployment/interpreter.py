"""Runs .tflite files on this machine: one thread, one sample at a time."""

import importlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_pdp.deployment.sparse_encoding import Array

_WARM_UP_RUNS = 3
_MAX_RUNS = 100
_SECONDS = 2.0


@dataclass(frozen=True)
class Latency:
    """Medians of interleaved single runs, thread CPU time, one thread.

    Args:
        exported_ms: milliseconds of the exported file.
        dense_ms: milliseconds of the same model without zeros.
        runs: number of runs of each.
    """

    exported_ms: float
    dense_ms: float
    runs: int


class Runner:
    """A loaded .tflite file.

    Args:
        data: the bytes of the file.

    Raises:
        ValueError, RuntimeError: the runtime refuses the file.
        ImportError: ai-edge-litert is not installed.
    """

    def __init__(self, data: bytes) -> None:
        self._interpreter = _interpreter_class()(model_content=data, num_threads=1)
        self._interpreter.allocate_tensors()
        self._run = self._interpreter.get_signature_runner()

    def one(self, sample: Mapping[str, Array]) -> dict[str, Array]:
        """Runs one sample; arrays with a batch axis of 1.

        Raises:
            RuntimeError, ValueError: the runtime can't, an id outside of a table for
                example.
        """
        outputs: dict[str, Array] = self._run(**sample)
        return outputs

    def all(self, samples: Mapping[str, Array]) -> dict[str, Array]:
        """Runs sample after sample and joins the outputs, by name."""
        outputs = [self.one(sample) for sample in one_by_one(samples)]
        # One without a batch axis is refused where it is compared.
        return {
            name: np.concatenate([np.atleast_1d(each[name]) for each in outputs])
            for name in outputs[0]
        }


def one_by_one(samples: Mapping[str, Array]) -> Sequence[dict[str, Array]]:
    """Arrays of many samples as a list of batches of one."""
    count = len(next(iter(samples.values())))
    return [
        {name: array[index : index + 1] for name, array in samples.items()}
        for index in range(count)
    ]


def measure(exported: Runner, dense: Runner, sample: Mapping[str, Array]) -> Latency:
    """Times two files on one sample, in turns, so that both see the same machine.

    Args:
        exported: the file in question.
        dense: what it is compared with.
        sample: one sample, by input name.

    Returns:
        The medians of at most 100 runs of each, or of what fits in two seconds.
    """
    for runner in (exported, dense):
        for _ in range(_WARM_UP_RUNS):
            runner.one(sample)
    times: list[tuple[float, float]] = []
    end = time.perf_counter() + _SECONDS
    while len(times) < _MAX_RUNS and (not times or time.perf_counter() < end):
        times.append((_milliseconds(exported, sample), _milliseconds(dense, sample)))
    exported_ms, dense_ms = np.median(times, axis=0)
    return Latency(float(exported_ms), float(dense_ms), len(times))


def _milliseconds(runner: Runner, sample: Mapping[str, Array]) -> float:
    # the thread's own time: what else runs on the machine does not count
    start = time.thread_time()
    runner.one(sample)
    return 1000 * (time.thread_time() - start)


def _interpreter_class() -> Any:
    try:
        return importlib.import_module("ai_edge_litert.interpreter").Interpreter
    except ModuleNotFoundError as error:
        raise ImportError(
            "running .tflite files needs ai-edge-litert; pip install ai-edge-litert"
        ) from error

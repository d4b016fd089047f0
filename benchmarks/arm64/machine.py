"""Runs .tflite files on ARM64, each in a process of its own.

Under QEMU this is a test of *correctness*: emulated times are no latencies.
"""

import os
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.arm64.parts import HERE, launcher


@dataclass(frozen=True)
class Ran:
    """What ARM64 did with a file.

    Args:
        error: the last line of what the process said before it failed, or the signal
            that ended it; `None` if all went well.
        outputs: `(samples, ...)` by the output's name; empty after an error.
    """

    error: str | None
    outputs: Mapping[str, npt.NDArray[Any]]


def run(path: str | os.PathLike[str], inputs: Mapping[str, npt.NDArray[Any]]) -> Ran:
    """Runs one file on ARM64, one thread, sample after sample.

    Args:
        path: the .tflite file, of batch 1.
        inputs: `(samples, ...)` by the input's name.

    Returns:
        The outputs, or what went wrong.

    Raises:
        Arm64Missing: ARM64 programs don't run here.
    """
    command = launcher()
    with tempfile.TemporaryDirectory() as folder:
        given, received = Path(folder) / "inputs.npz", Path(folder) / "outputs.npz"
        np.savez(given, **inputs)  # type: ignore[arg-type]
        words = [*command, str(HERE / "inside.py"), os.fspath(path)]
        done = subprocess.run(
            [*words, str(given), str(received)], capture_output=True, text=True
        )
        if done.returncode:
            said = done.stderr.strip().splitlines() or [f"ended by {done.returncode}"]
            return Ran(said[-1], {})
        with np.load(received) as loaded:
            return Ran(None, dict(loaded))

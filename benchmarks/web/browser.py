"""Runs .tflite files in headless Chromium with LiteRT.js, one thread.

The WebAssembly build of XNNPACK has the sparse kernels that x86 processors with AVX
never run, so this is where speed *and* correctness of a sparse file can be seen without
a phone. A wrong file throws nothing: compare outputs, centred over many inputs.

    with Browser() as browser:
        dense, sparse = browser.run([
            Job("dense.tflite", x, repeats=40),
            Job("sparse.tflite", x, repeats=40),
        ])
    sparse.error, sparse.outputs, dense.median_ms / sparse.median_ms
"""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from benchmarks.web.parts import HERE, chromium, require

Array: TypeAlias = npt.NDArray[Any]

DTYPES = ("float32", "int32", "uint8")


@dataclass(frozen=True)
class Job:
    """One file to run.

    Args:
        path: the .tflite file, of batch 1.
        inputs: `(samples, ...)`; for a file of several inputs one such array for each,
            by name. float32, int32 or uint8, as the file has it.
        repeats: how often the first sample is timed, after the outputs of all samples
            were taken; 0 times nothing.
    """

    path: str | os.PathLike[str]
    inputs: Array | Mapping[str, Array]
    repeats: int = 0


@dataclass(frozen=True)
class Measured:
    """What the browser did with one file.

    Args:
        error: what was thrown, or the first line of the console that means a failure
            (the runtime throws nothing when it can't allocate); `None` if all went
            well. A file with an error has neither outputs nor times.
        outputs: `(samples, ...)` by the output's name.
        load_ms: the median of three loads, with warm code; NaN where nothing was timed.
        latencies_ms: one entry for each round, in which all timed files ran once.
        console: what the runtime printed while it took the outputs, each line once.
    """

    error: str | None
    outputs: Mapping[str, Array]
    load_ms: float
    latencies_ms: Array
    console: tuple[str, ...]

    @property
    def output(self) -> Array:
        """The only output. Raises `ValueError` if there is none, or more than one."""
        if len(self.outputs) != 1:
            raise ValueError(f"expected one output, received {list(self.outputs)}")
        return next(iter(self.outputs.values()))

    @property
    def median_ms(self) -> float:
        """The median of the latencies; NaN where nothing was timed."""
        return float(np.median(self.latencies_ms)) if len(self.latencies_ms) else np.nan


class Browser:
    """A headless browser, between `with` and its end.

    Raises:
        BrowserMissing: on entry, with what is missing; see `parts.missing`.
        RuntimeError: the browser does not start, or ends before its time.
    """

    def __enter__(self) -> "Browser":
        require()
        self._folder = Path(tempfile.mkdtemp(prefix="keras_pdp_web_"))
        self._exchange = self._folder / "exchange"
        self._exchange.mkdir()
        self._log = (self._folder / "log").open("w+", encoding="utf-8")
        self._process = subprocess.Popen(
            [
                str(shutil.which("node")),
                str(HERE / "drive.mjs"),
                str(chromium()),
                str(self._exchange),
                str(self._folder / "profile"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        try:
            self.version: str = self._answer()["ready"]["browser"]
        except RuntimeError:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._log.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def run(self, jobs: Sequence[Job]) -> list[Measured]:
        """Takes the outputs of every file, then the times of all in turns.

        Outputs are taken in a runtime of their own for each file.

        Args:
            jobs: the files. Those with `repeats` are timed in one runtime, each once a
                round, so that whatever else the machine does falls on all of them.

        Returns:
            One result for each job, in their order.

        Raises:
            TypeError, ValueError: inputs that a browser can't be given.
            RuntimeError: the page itself failed.
        """
        given: dict[int, str] = {}
        listed = [self._listed(job, f"{i}", given) for i, job in enumerate(jobs)]
        assert self._process.stdin
        self._process.stdin.write(json.dumps({"jobs": listed}) + "\n")
        self._process.stdin.flush()
        results = [self._measured(each) for each in self._answer()["results"]]
        for file in self._exchange.iterdir():
            file.unlink()
        return results

    def _listed(self, job: Job, name: str, given: dict[int, str]) -> dict[str, Any]:
        shutil.copyfile(job.path, self._exchange / f"{name}.tflite")
        inputs = _by_name(job)
        counts = {len(array) for array in inputs.values()}
        if len(counts) != 1 or 0 in counts:
            raise ValueError(
                f"{os.fspath(job.path)}: expected the same number of samples, at least "
                f"one, for every input, received {sorted(counts)}"
            )
        return {
            "file": f"{name}.tflite",
            "inputs": [self._input(key, array, given) for key, array in inputs.items()],
            "samples": counts.pop(),
            "repeats": job.repeats,
            "out": f"{name}.out",
        }

    def _input(
        self, name: str | None, array: Array, given: dict[int, str]
    ) -> dict[str, Any]:
        """Writes the array, once for all jobs that share it."""
        if id(array) not in given:
            given[id(array)] = f"input.{len(given)}"
            array.tofile(self._exchange / given[id(array)])
        return {
            "name": name,
            "file": given[id(array)],
            "dtype": array.dtype.name,
            "shape": array.shape[1:],
        }

    def _measured(self, result: dict[str, Any]) -> Measured:
        outputs = {
            each["name"]: np.fromfile(
                self._exchange / each["file"], each["dtype"]
            ).reshape(-1, *each["shape"][1:])
            for each in result["outputs"]
        }
        return Measured(
            error=result["error"],
            outputs=outputs,
            load_ms=float(np.median(result["loads"])) if result["loads"] else np.nan,
            latencies_ms=np.array(result["times"], np.float64),
            console=tuple(result["console"]),
        )

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            self._log.seek(0)
            raise RuntimeError(f"the browser ended:\n{self._log.read()[-2000:]}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"the page failed: {answer['error']}")
        return answer


def _by_name(job: Job) -> dict[str | None, Array]:
    if isinstance(job.inputs, Mapping):
        named: dict[str | None, Array] = {name: job.inputs[name] for name in job.inputs}
    else:
        named = {None: job.inputs}
    for name, array in named.items():
        if not isinstance(array, np.ndarray) or array.dtype.name not in DTYPES:
            raise TypeError(
                f"{os.fspath(job.path)}, input {name or ''!r}: expected an array of "
                f"{', '.join(DTYPES)}, received {getattr(array, 'dtype', type(array))}"
            )
    return named
